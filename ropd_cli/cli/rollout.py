"""``ropd rollout``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ropd_cli.cli._options import Device, EndpointOptions, ModelPath, StageOptions, at_endpoint, command
from ropd_cli.cli._screen import Screen
from ropd_cli.errors import InputError


@command
def rollout(
    prompts: Annotated[Path, typer.Argument(help="Prompts file.")],
    out: Annotated[Path, typer.Option("--out", help="Answers file; existing records are kept.")],
    n: Annotated[int | None, typer.Option("--n", "-n", min=1, help="Rollouts per prompt.", show_default="8")] = None,
    model_path: ModelPath = None,
    device: Device = None,
    *,
    endpoint: EndpointOptions,
    run: StageOptions,
    screen: Screen,
) -> None:
    """Sample n student answers per prompt.

    From an endpoint (--base-url, --model) or from a local checkpoint on vLLM (--model-path). The same command
    again continues where it stopped.
    """
    from ropd_cli.cli._stages import closing_lines, engine_options, named_alike, report, run_api_stage
    from ropd_cli.engines.vllm_sampling import LocalModel, SamplingOptions
    from ropd_cli.llm.urls import has_model
    from ropd_cli.records.outputs import sole_writer
    from ropd_cli.stages.rollout import RolloutFiles, pending, rollout_api, rollout_local

    flags = {
        "student.model_path": model_path,
        "rollout.n": n,
        "rollout.temperature": endpoint.temperature,
        "rollout.top_p": endpoint.top_p,
        "data.max_response_tokens": endpoint.max_tokens,
    }
    settings = run.load(endpoint.flags("student.endpoint", seed=run.seed) | flags)
    files = RolloutFiles(prompts=prompts, out=out, limit=run.limit, system_prompt=settings.student.system_prompt)
    index = out.parent / "teacher.index" if (out.parent / "teacher.index").exists() else "INDEX"
    rubrics = named_alike(out, "rollouts", "rubrics")
    following = [
        *("ropd", "rubricate", prompts, "--rollouts", out, "--index", index, "--out", rubrics),
        *(part for file in run.config or () for part in ("-c", file)),
        *(() if has_model(settings.rubricator) else ("--model", "MODEL")),
    ]
    if at_endpoint(settings, endpoint, model_path):
        run_api_stage(
            screen,
            settings,
            "student.endpoint",
            lambda client, progress: rollout_api(
                files, client, settings.rollout.n, max_failed_fraction=run.max_failed_fraction, progress=progress
            ),
            out,
            run,
            requests=lambda endpoint, _, made: pending(files, endpoint, settings.rollout.n, made=made),
            noun="prompt",
            following=following,
        )
        return
    if run.dry_run:
        raise InputError("--dry-run counts requests, and a local model gets none", "leave it out")
    engine = engine_options(settings, device, 0.8, max_num_seqs=settings.rollout.max_num_seqs or 128)
    sampling = SamplingOptions(
        n=settings.rollout.n,
        temperature=settings.rollout.temperature,
        top_p=settings.rollout.top_p,
        max_tokens=settings.data.max_response_tokens,
        seed=run.seed,
    )
    with sole_writer(out):
        tally = screen.run(
            rollout_local(
                files,
                lambda: LocalModel.start(engine, environ=os.environ, log=out.with_name(out.name + ".vllm.log")),
                engine.model_path,
                sampling,
                max_failed_fraction=run.max_failed_fraction,
                progress=screen.progress(),
            )
        )
    report(screen, tally, out, "prompt", lines=closing_lines({}, following))
