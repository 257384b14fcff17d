"""Options that several commands share: one dataclass per group, and the decorator that shows them to typer.

A command takes an object per group instead of a parameter per option:

    @command
    def verify(prompts: …, *, endpoint: EndpointOptions, run: StageOptions, screen: Screen) -> None:
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from ropd_cli.cli._completion import config_files, config_keys
from ropd_cli.cli._files import named_files
from ropd_cli.errors import InputError

if TYPE_CHECKING:
    from ropd_cli.config import RopdConfig

_endpoint_option = functools.partial(typer.Option, rich_help_panel="Model and endpoint")
_run_option = functools.partial(typer.Option, rich_help_panel="Run")


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Turn a function with option groups into one that typer can read.

    Each parameter whose annotation is a dataclass is replaced, in the signature that typer sees, by the fields of the
    dataclass. A call puts the values back together; every command has the group ``screen``, which prints its errors.
    """
    signature = inspect.signature(function, eval_str=True)
    groups: dict[str, Any] = {
        name: each.annotation for name, each in signature.parameters.items() if is_dataclass(each.annotation)
    }
    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        if name not in groups:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        hints = get_type_hints(groups[name], include_extras=True)
        parameters += [
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
            for f in fields(groups[name])
        ]

    @functools.wraps(function)
    def call(**given: Any) -> None:
        from ropd_cli.records.files import salvage

        screen = _group(groups["screen"], given)
        with screen.errors(), named_files(given) as values:
            made = {name: _group(group, values) for name, group in groups.items()}
            choices = [group.salvage for group in made.values() if isinstance(group, ReadOptions)]
            with salvage(any(choices) if choices else None):
                function(**{name: made.get(name, values.get(name)) for name in signature.parameters})

    call.__dict__["__signature__"] = signature.replace(parameters=parameters)
    call.__annotations__ = {each.name: each.annotation for each in parameters}
    return call


def _group(kind: Any, values: Mapping[str, Any]) -> Any:
    return kind(**{f.name: values[f.name] for f in fields(kind)})


def command_group(name: str, **more: Any) -> typer.Typer:
    """Return a group of subcommands, with the settings that every group has."""
    settings: dict[str, Any] = {
        "no_args_is_help": True,
        "add_completion": False,
        "pretty_exceptions_enable": False,
        "rich_markup_mode": "rich",
        "context_settings": {"help_option_names": ["-h", "--help"]},
    }
    return typer.Typer(name=name, **(settings | more))


Config = Annotated[
    list[Path] | None,
    _run_option(
        "--config",
        "-c",
        metavar="FILE",
        autocompletion=config_files,
        help="YAML configuration: a path, or a shipped name (repeatable: later files override earlier ones).",
    ),
]
Set = Annotated[
    list[str] | None,
    _run_option(
        "--set", metavar="A.B=VALUE", autocompletion=config_keys, help="Set one configuration key (repeatable)."
    ),
]
CacheDir = Annotated[
    Path | None,
    _run_option("--cache-dir", help="Folder of cached replies.", show_default="the user cache directory"),
]
MaxCost = Annotated[
    float | None,
    _run_option(
        "--max-cost",
        min=0.0,
        help="Limit in dollars: no request is sent that could exceed it. Needs a price: see ropd prices.",
    ),
]
Seed = Annotated[int | None, _run_option("--seed", help="Seed of sampling; sent to the endpoint if set.")]
TemplatesFolder = Annotated[
    Path | None, typer.Option("--templates", help="Folder of your own templates.", show_default="the shipped ones")
]
ModelPath = Annotated[
    str | None, typer.Option("--model-path", help="Folder or hub name of a model to run on vLLM on this machine.")
]
Device = Annotated[
    Literal["cpu", "gpu"] | None,
    typer.Option("--device", help="Device of vLLM.", show_default="what vLLM was built for"),
]


@dataclass(frozen=True)
class ConfigOptions:
    """Where the configuration and the cache are."""

    config: Config = None
    overrides: Set = None
    cache_dir: CacheDir = None

    def load(self, flags: Mapping[str, Any] | None = None, profile: str | None = None) -> RopdConfig:
        """Return the command's configuration: defaults < ``profile`` < YAML < environment < ``--set`` < ``flags``, its
        own options by dotted key (None: not given)."""
        from ropd_cli.config import load_config

        own = {**(flags or {}), "cache_dir": str(self.cache_dir) if self.cache_dir is not None else None}
        overrides = self.overrides or ()
        return load_config(self.config, profile=profile, overrides=overrides, flags=own, environ=os.environ)


@dataclass(frozen=True)
class ReadOptions:
    """How files of records are read."""

    salvage: Annotated[
        bool,
        _run_option("--salvage", help="Skip damaged records of input files instead of failing."),
    ] = False


@dataclass(frozen=True)
class RequestOptions(ConfigOptions, ReadOptions):
    """What limits a command that sends requests."""

    no_cache: Annotated[bool, _run_option("--no-cache", help="Do not read or write the cache.")] = False
    max_cost: MaxCost = None
    max_failed_fraction: Annotated[
        float | None, _run_option("--max-failed-fraction", min=0.0, max=1.0, help="Stop if a larger share fails.")
    ] = None
    dry_run: Annotated[bool, _run_option("--dry-run", help="Print calls, tokens and cost; send nothing.")] = False

    def load(self, flags: Mapping[str, Any] | None = None, profile: str | None = None) -> RopdConfig:
        return super().load({"max_cost": self.max_cost, **(flags or {})}, profile)


@dataclass(frozen=True)
class StageOptions(RequestOptions):
    """How a stage over a prompts file runs."""

    seed: Seed = None
    limit: Annotated[int | None, _run_option("--limit", min=1, help="Use the first LIMIT prompts only.")] = None


@dataclass(frozen=True)
class EndpointOptions:
    """The model that a command asks, where, and how."""

    model: Annotated[str | None, _endpoint_option("--model", help="Model name at the endpoint.")] = None
    base_url: Annotated[
        str | None,
        _endpoint_option(
            "--base-url", help="URL of an OpenAI-compatible endpoint; builtin://checkable is the built-in provider."
        ),
    ] = None
    api: Annotated[
        str | None,
        _endpoint_option(
            "--api",
            metavar="chat|responses|azure",
            help="Chat Completions, Responses, or Azure OpenAI.",
            show_default="chat",
        ),
    ] = None
    api_key_env: Annotated[
        str | None,
        _endpoint_option(
            "--api-key-env", help="Environment variable that holds the API key.", show_default="OPENAI_API_KEY"
        ),
    ] = None
    temperature: Annotated[
        float | None, _endpoint_option("--temperature", min=0.0, max=2.0, help="Sampling temperature.")
    ] = None
    top_p: Annotated[
        float | None, _endpoint_option("--top-p", min=0.0, max=1.0, help="Probability mass of nucleus sampling.")
    ] = None
    max_tokens: Annotated[int | None, _endpoint_option("--max-tokens", min=1, help="Maximum tokens per reply.")] = None
    reasoning_effort: Annotated[
        str | None, _endpoint_option("--reasoning-effort", help="low, medium, high …, if the model has it.")
    ] = None
    timeout: Annotated[float | None, _endpoint_option("--timeout", min=0.1, help="Seconds per request.")] = None
    concurrency: Annotated[
        int | None, _endpoint_option("--concurrency", min=1, help="Simultaneous requests.", show_default="32")
    ] = None
    rpm: Annotated[int | None, _endpoint_option("--rpm", min=1, help="Requests per minute.")] = None
    tpm: Annotated[int | None, _endpoint_option("--tpm", min=1, help="Tokens per minute, of prompts and replies.")] = (
        None
    )

    def flags(self, section: str, *, seed: int | None = None) -> dict[str, Any]:
        """Return the options as dotted keys of a configuration section ("teacher", "student.endpoint", …)."""
        given = vars(self) | {"seed": seed, "timeout_s": self.timeout}
        places = {
            "": ("model", "base_url", "api", "api_key_env"),
            "sampling.": ("temperature", "top_p", "max_tokens", "reasoning_effort", "seed"),
            "limits.": ("timeout_s", "concurrency", "rpm", "tpm"),
        }
        return {f"{section}.{place}{name}": given[name] for place, names in places.items() for name in names}


def at_endpoint(config: RopdConfig, endpoint: EndpointOptions, model_path: str | None) -> bool:
    """Return whether the student is asked at an endpoint, and not run on vLLM on this machine. Raises InputError
    where the options name both."""
    named = endpoint.base_url is not None or endpoint.model is not None
    if named and model_path is not None:
        raise InputError("--model-path and --base-url or --model exclude each other", "a local model, or an endpoint")
    return named or config.student.model_path is None
