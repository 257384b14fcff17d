"""``ropd rollout``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ropd_cli.cli._options import Device, EndpointOptions, ModelPath, StageOptions, at_endpoint, command
from ropd_cli.cli._screen import Screen
from ropd_cli.cli._stages import report, run_api_stage

if TYPE_CHECKING:
    from ropd_cli.config import RopdConfig
    from ropd_cli.stages.rollout import RolloutFiles
    from ropd_cli.stages.runner import Tally


@command
def rollout(
    prompts: Annotated[Path, typer.Argument(help="Prompts file.")],
    out: Annotated[Path, typer.Option("--out", help="Answers file; what it holds is kept.")],
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
    from ropd_cli.errors import InputError
    from ropd_cli.stages.rollout import RolloutFiles, pending, rollout_api

    flags = {
        "student.model_path": model_path,
        "rollout.n": n,
        "rollout.temperature": endpoint.temperature,
        "rollout.top_p": endpoint.top_p,
        "data.max_response_tokens": endpoint.max_tokens,
    }
    settings = run.load(endpoint.flags("student.endpoint", seed=run.seed) | flags)
    files = RolloutFiles(prompts=prompts, out=out, limit=run.limit, system_prompt=settings.student.system_prompt)
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
            requests=lambda endpoint: pending(files, endpoint, settings.rollout.n),
            noun="prompts",
        )
        return
    if run.dry_run:
        raise InputError("--dry-run counts requests, and a local model gets none", "leave it out")
    report(screen, _sample_here(screen, settings, files, device, run), out, "prompts")


def _sample_here(screen: Screen, config: RopdConfig, files: RolloutFiles, device: Device, run: StageOptions) -> Tally:
    """Sample from a checkpoint; what vLLM prints goes to ``<out>.vllm.log``."""
    from ropd_cli.engines.vllm_sampling import EngineOptions, LocalModel, SamplingOptions, installed_device
    from ropd_cli.stages.rollout import rollout_local

    engine = EngineOptions(
        model_path=str(config.student.model_path),
        device=device or installed_device(),
        dtype=config.student.dtype or "auto",
        max_num_seqs=config.rollout.max_num_seqs or 128,
        # The configured share leaves room for a trainer, which is not running beside this command.
        gpu_memory_utilization=max(config.rollout.gpu_memory_utilization, 0.8),
        tensor_parallel_size=config.rollout.tensor_parallel_size,
        kv_cache_gb=config.rollout.kv_cache_gb,
        enable_thinking=config.student.enable_thinking,
    )
    sampling = SamplingOptions(
        n=config.rollout.n,
        temperature=config.rollout.temperature,
        top_p=config.rollout.top_p,
        max_tokens=config.data.max_response_tokens,
        seed=run.seed,
    )
    log = files.out.with_name(files.out.name + ".vllm.log")
    return screen.run(
        rollout_local(
            files,
            lambda: LocalModel.start(engine, environ=os.environ, log=log),
            engine.model_path,
            sampling,
            max_failed_fraction=run.max_failed_fraction,
            progress=screen.progress(),
        )
    )
