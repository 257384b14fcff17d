"""Run the training process: ``python -m ropd_cli.training.verl.program RUN_DIR PARENT``.

Started by ``launch`` with an explicit environment. Loads the composed configuration of the run and hands
it to stock verl.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from ropd_cli.config import RopdConfig
from ropd_cli.errors import InputError, RopdError
from ropd_cli.methods import method_of
from ropd_cli.records.schemas import load_prompts
from ropd_cli.training.dataset import check_lengths
from ropd_cli.training.run_dir import RunDir, Stop
from ropd_cli.training.vocabularies import check_vocabularies
from ropd_cli.util.processes import end_with
from ropd_cli.util.yaml_text import load_yaml


def train(run: RunDir) -> None:
    """Run verl's GRPO trainer on the run's configuration, to its last step."""
    from omegaconf import OmegaConf

    from ropd_cli.training.verl.cluster import HeadNode, check_cluster, settings

    config = OmegaConf.load(run.verl_config)
    ray_init = config.ray_kwargs.ray_init
    if ray_init.address != "local":
        trainer = config.trainer
        check_cluster(
            run, ray_init.address, trainer.nnodes, trainer.n_gpus_per_node, config.actor_rollout_ref.model.path
        )
    ray_init.runtime_env = OmegaConf.merge({"env_vars": settings(os.environ)}, ray_init.get("runtime_env") or {})
    ours = RopdConfig.model_validate(load_yaml(run.config.read_text(encoding="utf-8")))
    check_lengths(load_prompts(str(ours.data.prompts)), ours)
    if method_of(ours).needs(ours).checkpoint:
        check_vocabularies(ours)
    if ours.validate.benchmarks:
        check_lengths(load_prompts(run.val_prompts), ours, "validate.benchmarks")
    if config.trainer.device == "cpu":
        from ropd_cli.training.verl.cpu.platform import require_cpu_platform

        require_cpu_platform()
    from verl.trainer.main_ppo import run_ppo
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config
    from verl.utils.device import auto_set_device

    from ropd_cli.training.verl.task_runner import RopdTaskRunner

    auto_set_device(config)
    validate_config(config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    run_ppo(config, task_runner_class=HeadNode(RopdTaskRunner))


def main(run_training: Callable[[RunDir], None], run_dir: str, parent: str) -> int:
    """Exit code of the process: 0 after the last step, 1 otherwise (with ``stopped.json`` for our own errors).
    ``parent`` is the process that holds the lock of the run directory, or one that it started."""
    end_with(int(parent))
    run = RunDir(Path(run_dir))
    try:
        run_training(run)
    except RopdError as fault:
        kind = "InputError" if isinstance(fault, InputError) else "TrainingError"
        run.keep_stop(Stop(kind, fault.message, fault.hint))
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main(train, *sys.argv[1:]))
