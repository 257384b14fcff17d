"""Start a training from the checkpoint of another run (``student.from_run``)."""

from __future__ import annotations

import os
from pathlib import Path

from ropd_cli.config import RopdConfig
from ropd_cli.errors import InputError
from ropd_cli.training.run_dir import RunDir


def with_student_of_run(config: RopdConfig) -> RopdConfig:
    """Return the configuration with the checkpoint of ``student.from_run`` as its ``student.model_path``, or as it is
    where no run is named. Raises InputError where the run is not finished, or its checkpoint is not there."""
    student = config.student
    if student.from_run is None:
        return config
    run = RunDir(Path(os.path.expanduser(student.from_run)).absolute())
    where = f"student.from_run {run.path}"
    if not run.config.is_file():
        raise InputError(f"{where}: no training run there (config.yaml is missing)", "name the directory of a run")
    if config.out is not None and os.path.realpath(config.out) == os.path.realpath(run.path):
        raise InputError(f"{where}: that is this run itself", "choose another run directory by --out")
    done = run.finished()
    if done is None:
        raise InputError(
            f"{where}: that run is not finished, after {len(run.metric_rows())} steps",
            f"finish it first: {run.resume_command}",
        )
    if student.from_checkpoint == "best":
        model, hint = run.best_model, "only a run with validate.benchmarks has one: take student.from_checkpoint final"
    else:  # the run may have been moved since
        model = run.path / os.path.relpath(done["model"], done["run_dir"])
        hint = "was the checkpoint removed?"
    if not (model / "config.json").is_file():
        raise InputError(f"{where}: no {student.from_checkpoint} checkpoint in {model}", hint)
    return config.model_copy(update={"student": student.model_copy(update={"model_path": str(model)})})
