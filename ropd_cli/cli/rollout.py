"""``ropd rollout``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ropd_cli.cli import _options as o
from ropd_cli.cli._screen import Screen
from ropd_cli.cli._stages import report, run_api_stage

if TYPE_CHECKING:
    from ropd_cli.config import RopdConfig
    from ropd_cli.stages.rollout import RolloutFiles
    from ropd_cli.stages.runner import Tally


def rollout(
    prompts: Annotated[Path, typer.Argument(help="Prompts file.")],
    out: Annotated[Path, typer.Option("--out", help="Answers file; what it holds is kept.")],
    n: Annotated[int | None, typer.Option("--n", "-n", min=1, help="Rollouts a prompt.")] = None,
    model_path: Annotated[
        str | None, typer.Option("--model-path", help="Folder or hub name of a model to run on vLLM here.")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu or gpu; default: what vLLM was built for.")
    ] = None,
    model: o.Model = None,
    base_url: o.BaseUrl = None,
    api: o.Api = None,
    api_key_env: o.ApiKeyEnv = None,
    temperature: o.Temperature = None,
    top_p: o.TopP = None,
    max_tokens: o.MaxTokens = None,
    reasoning_effort: o.ReasoningEffort = None,
    timeout: o.Timeout = None,
    concurrency: o.Concurrency = None,
    rpm: o.Rpm = None,
    tpm: o.Tpm = None,
    max_cost: o.MaxCost = None,
    max_failed_fraction: o.MaxFailedFraction = None,
    dry_run: o.DryRun = False,
    seed: o.Seed = None,
    limit: o.Limit = None,
    cache_dir: o.CacheDir = None,
    no_cache: o.NoCache = False,
    config: o.Config = None,
    overrides: o.Set = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Sample n student answers a prompt.

    From an endpoint (--base-url, --model) or from a local checkpoint on vLLM (--model-path). The same command
    again goes on where it stopped.
    """
    screen = Screen(json, quiet, debug)
    with screen.errors():
        from ropd_cli.errors import InputError
        from ropd_cli.stages.rollout import RolloutFiles, pending, rollout_api

        flags = o.endpoint_flags(
            "student.endpoint",
            model=model,
            base_url=base_url,
            api=api,
            api_key_env=api_key_env,
            temperature=temperature,
            top_p=top_p,
            max_tokens=max_tokens,
            reasoning_effort=reasoning_effort,
            timeout=timeout,
            concurrency=concurrency,
            rpm=rpm,
            tpm=tpm,
            max_cost=max_cost,
            seed=seed,
        )
        flags |= {
            "student.model_path": model_path,
            "rollout.n": n,
            "rollout.temperature": temperature,
            "rollout.top_p": top_p,
            "data.max_response_tokens": max_tokens,
        }
        if model_path is not None and (base_url is not None or model is not None):
            raise InputError(
                "--model-path and --base-url or --model exclude each other", "a local model, or an endpoint"
            )
        if device not in (None, "cpu", "gpu"):
            raise InputError(f"--device {device!r}: not a device", "cpu or gpu")
        settings = o.load(config, overrides, flags, cache_dir=cache_dir)
        at_endpoint = base_url is not None or model is not None or settings.student.model_path is None
        files = RolloutFiles(prompts=prompts, out=out, limit=limit, system_prompt=settings.student.system_prompt)
        if not at_endpoint and dry_run:
            raise InputError("--dry-run is about requests, and a local model gets none", "leave it out")
        if not at_endpoint:
            tally = _local(screen, settings, files, device, seed, max_failed_fraction)
            report(screen, tally, out, "prompts")
            return
        run_api_stage(
            screen,
            settings,
            "student.endpoint",
            lambda client, progress: rollout_api(
                files, client, settings.rollout.n, max_failed_fraction=max_failed_fraction, progress=progress
            ),
            out,
            requests=lambda endpoint: pending(files, endpoint, settings.rollout.n),
            dry_run=dry_run,
            cached=not no_cache,
            noun="prompts",
        )


def _local(
    screen: Screen,
    config: RopdConfig,
    files: RolloutFiles,
    device: str | None,
    seed: int | None,
    max_failed_fraction: float | None,
) -> Tally:
    """Sample from a checkpoint; what vLLM prints goes to ``<out>.vllm.log``."""
    import os

    from ropd_cli.engines.vllm_sampling import EngineOptions, LocalModel, SamplingOptions, installed_device
    from ropd_cli.stages.rollout import rollout_local

    engine = EngineOptions(
        model_path=str(config.student.model_path),
        device=device or installed_device(),  # type: ignore[arg-type]  # checked by the caller
        dtype=config.student.dtype or "auto",
        max_num_seqs=config.rollout.max_num_seqs or 128,
        gpu_memory_utilization=max(config.rollout.gpu_memory_utilization, 0.8),  # no trainer beside it
        tensor_parallel_size=config.rollout.tensor_parallel_size,
        kv_cache_gb=config.rollout.kv_cache_gb,
        enable_thinking=config.student.enable_thinking,
    )
    sampling = SamplingOptions(
        n=config.rollout.n,
        temperature=config.rollout.temperature,
        top_p=config.rollout.top_p,
        max_tokens=config.data.max_response_tokens,
        seed=seed,
    )
    log = files.out.with_name(files.out.name + ".vllm.log")
    return screen.run(
        rollout_local(
            files,
            lambda: LocalModel.start(engine, environ=os.environ, log=log),
            engine.model_path,
            sampling,
            max_failed_fraction=max_failed_fraction,
            progress=screen.progress(),
        )
    )
