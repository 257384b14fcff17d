"""Options that several commands share, written once, and how they become a configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ropd_cli.config import RopdConfig

_ENDPOINT = "Model and endpoint"
_RUN = "Run"

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="YAML configuration: a path, or the name of a shipped one.", rich_help_panel=_RUN
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=VALUE", help="Set one configuration key (repeatable).", rich_help_panel=_RUN),
]
Seed = Annotated[
    int | None, typer.Option("--seed", help="Seed; sent to the endpoint where it is set.", rich_help_panel=_RUN)
]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, help="Take the first LIMIT prompts only.", rich_help_panel=_RUN)
]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        "--cache-dir", help="Disk cache of replies (default: the user cache directory).", rich_help_panel=_RUN
    ),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Neither read nor write the cache.", rich_help_panel=_RUN)]
MaxFailedFraction = Annotated[
    float | None,
    typer.Option(
        "--max-failed-fraction", min=0.0, max=1.0, help="Stop when more than this part fails.", rich_help_panel=_RUN
    ),
]

Model = Annotated[str | None, typer.Option("--model", help="Model name at the endpoint.", rich_help_panel=_ENDPOINT)]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        help="URL of an OpenAI-compatible endpoint; builtin://checkable: the embedded one.",
        rich_help_panel=_ENDPOINT,
    ),
]
Api = Annotated[
    str | None,
    typer.Option(
        "--api",
        metavar="chat|responses|azure",
        help="Chat Completions, Responses, or Chat Completions of Azure OpenAI.",
        rich_help_panel=_ENDPOINT,
    ),
]
ApiKeyEnv = Annotated[
    str | None,
    typer.Option(
        "--api-key-env",
        help="Environment variable that holds the API key.",
        rich_help_panel=_ENDPOINT,
    ),
]
Temperature = Annotated[float | None, typer.Option("--temperature", min=0.0, max=2.0, rich_help_panel=_ENDPOINT)]
TopP = Annotated[float | None, typer.Option("--top-p", min=0.0, max=1.0, rich_help_panel=_ENDPOINT)]
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", min=1, help="Limit of a reply.", rich_help_panel=_ENDPOINT)
]
ReasoningEffort = Annotated[
    str | None,
    typer.Option("--reasoning-effort", help="low, medium, high … where the model knows it.", rich_help_panel=_ENDPOINT),
]
Timeout = Annotated[
    float | None, typer.Option("--timeout", min=0.1, help="Seconds a request may take.", rich_help_panel=_ENDPOINT)
]
Concurrency = Annotated[
    int | None, typer.Option("--concurrency", min=1, help="Requests at once.", rich_help_panel=_ENDPOINT)
]
Rpm = Annotated[int | None, typer.Option("--rpm", min=1, help="Requests a minute.", rich_help_panel=_ENDPOINT)]
Tpm = Annotated[
    int | None,
    typer.Option("--tpm", min=1, help="Tokens a minute, of prompts and replies.", rich_help_panel=_ENDPOINT),
]
MaxCost = Annotated[
    float | None,
    typer.Option(
        "--max-cost",
        min=0.0,
        help="Dollars; nothing is sent that could go beyond (prices come from the configuration).",
        rich_help_panel=_RUN,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Send nothing: print calls, tokens and money to come.", rich_help_panel=_RUN),
]


def endpoint_flags(
    section: str,
    *,
    model: str | None = None,
    base_url: str | None = None,
    api: str | None = None,
    api_key_env: str | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    max_tokens: int | None = None,
    reasoning_effort: str | None = None,
    timeout: float | None = None,
    concurrency: int | None = None,
    rpm: int | None = None,
    tpm: int | None = None,
    max_cost: float | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """The endpoint options of a command as dotted keys: of its configuration section, and ``max_cost``."""
    return {
        f"{section}.model": model,
        f"{section}.base_url": base_url,
        f"{section}.api": api,
        f"{section}.api_key_env": api_key_env,
        f"{section}.sampling.temperature": temperature,
        f"{section}.sampling.top_p": top_p,
        f"{section}.sampling.max_tokens": max_tokens,
        f"{section}.sampling.reasoning_effort": reasoning_effort,
        f"{section}.sampling.seed": seed,
        f"{section}.limits.timeout_s": timeout,
        f"{section}.limits.concurrency": concurrency,
        f"{section}.limits.rpm": rpm,
        f"{section}.limits.tpm": tpm,
        "max_cost": max_cost,
    }


def load(
    config: Path | None,
    overrides: list[str] | None,
    flags: dict[str, Any] | None = None,
    *,
    cache_dir: Path | None = None,
) -> RopdConfig:
    """The configuration of a command: defaults < YAML < environment < ``--set`` < its own options."""
    from ropd_cli.config import load_config

    own = dict(flags or {})
    own["cache_dir"] = str(cache_dir) if cache_dir is not None else None
    return load_config(config, overrides=overrides or (), flags=own, environ=os.environ)
