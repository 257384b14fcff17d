"""``ropd eval`` and ``ropd eval compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ropd_cli.cli import _options as o
from ropd_cli.cli._screen import Screen

_WHAT = "What is asked"
_JUDGE = "Judge"
_HERE = "A model on vLLM here"

app = typer.Typer(
    name="eval",
    help="Measure a model on benchmarks, and say how far the figures can be trusted.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def evaluate(
    context: typer.Context,
    benchmarks: Annotated[
        str | None,
        typer.Option(
            "--benchmarks",
            "-b",
            help="Names with commas between: aime24, aime25, hmmt25, hmmt25nov, gpqa, healthbench (-hard, -consensus), "
            "ifeval, math500, gsm8k, gsm8k-sample, or those of --data.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory of the evaluation; what it holds is kept.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="NAME=FILE", help="Read a benchmark from a file.", rich_help_panel=_WHAT),
    ] = None,
    grader: Annotated[
        list[str] | None,
        typer.Option(
            "--grader",
            metavar="NAME=KIND",
            help="Grade a file of your own by math, integer, choice, exact, ifeval, healthbench, rubric or teacher.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    n: Annotated[int | None, typer.Option("--n", "-n", min=1, help="Samples a problem.", rich_help_panel=_WHAT)] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="The first LIMIT problems of each benchmark.", rich_help_panel=_WHAT),
    ] = None,
    thinking: Annotated[
        bool | None,
        typer.Option("--thinking/--no-thinking", help="Turn the chat template's switch.", rich_help_panel=_WHAT),
    ] = None,
    show_items: Annotated[
        bool,
        typer.Option("--show-items", help="Put questions and answers into the report: for your eyes only."),
    ] = False,
    model_path: Annotated[
        str | None,
        typer.Option("--model-path", help="Folder or hub name of a model to run on vLLM here.", rich_help_panel=_HERE),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", help="cpu or gpu; default: what vLLM was built for.", rich_help_panel=_HERE),
    ] = None,
    max_model_len: Annotated[
        int | None, typer.Option("--max-model-len", min=16, help="Prompt and reply, tokens.", rich_help_panel=_HERE)
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option("--judge-model", help="Model that judges by rubrics.", rich_help_panel=_JUDGE)
    ] = None,
    judge_base_url: Annotated[str | None, typer.Option("--judge-base-url", rich_help_panel=_JUDGE)] = None,
    judge_api_key_env: Annotated[str | None, typer.Option("--judge-api-key-env", rich_help_panel=_JUDGE)] = None,
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
    cache_dir: o.CacheDir = None,
    no_cache: o.NoCache = False,
    config: o.Config = None,
    overrides: o.Set = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Measure a model on benchmarks, and say how far the figures can be trusted.

    The model is a checkpoint that runs on vLLM here (--model-path, or --model with a folder), or an endpoint
    (--base-url, --model). Samples, grades and reports stand in --out; the same command again does what is not done yet,
    also with more benchmarks or a larger --n.
    """
    if context.invoked_subcommand is not None:
        return
    screen = Screen(json, quiet, debug)
    with screen.errors():
        from ropd_cli.cli._evaluating import Evaluating
        from ropd_cli.errors import InputError

        if out is None:
            raise InputError("--out is missing", "name the directory of the evaluation")
        if device not in (None, "cpu", "gpu"):
            raise InputError(f"--device {device!r}: not a device", "cpu or gpu")
        if model_path is None and base_url is None and model is not None and (Path(model) / "config.json").is_file():
            model_path, model = model, None
        if model_path is not None and (base_url is not None or model is not None):
            raise InputError(
                "--model-path and --base-url or --model exclude each other", "a local model, or an endpoint"
            )
        flags = o.endpoint_flags(
            "student.endpoint",
            model=model,
            base_url=base_url,
            api=api,
            api_key_env=api_key_env,
            reasoning_effort=reasoning_effort,
            timeout=timeout,
            concurrency=concurrency,
            rpm=rpm,
            tpm=tpm,
            max_cost=max_cost,
        )
        flags |= {
            "student.model_path": model_path,
            "student.enable_thinking": thinking,
            "eval.benchmarks": benchmarks.replace(" ", "").split(",") if benchmarks else None,
            "eval.data": _pairs("--data", data),
            "eval.grader": _pairs("--grader", grader),
            "eval.n": n,
            "eval.temperature": temperature,
            "eval.top_p": top_p,
            "eval.max_tokens": max_tokens,
            "eval.max_model_len": max_model_len,
            "verifier.model": judge_model,
            "verifier.base_url": judge_base_url,
            "verifier.api_key_env": judge_api_key_env,
            "seed": seed,
        }
        settings = o.load(config, overrides, flags, cache_dir=cache_dir)
        at_endpoint = base_url is not None or model is not None or settings.student.model_path is None
        Evaluating(
            screen,
            settings,
            out,
            at_endpoint=at_endpoint,
            device=device,
            limit=limit,
            seed=seed,
            timeout_said=timeout is not None,
            cached=not no_cache,
            show_items=show_items,
            max_failed_fraction=max_failed_fraction,
        ).run(dry_run=dry_run)


@app.command("compare")
def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Directories of evaluations; the first is what others are held to.")
    ],
    html: Annotated[Path | None, typer.Option("--html", help="Write a page, too.")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Write a Markdown page, too.")] = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Set evaluations side by side, problem by problem.

    The change of each benchmark's figures from the first to each other, with a paired interval over the problems that
    both have, and which problems are solved by one alone.
    """
    screen = Screen(json, quiet, debug)
    with screen.errors():
        from ropd_cli.evaluation.compare import Run
        from ropd_cli.evaluation.compare import compare as compared
        from ropd_cli.records.files import write_atomic
        from ropd_cli.report.eval_report import compared_markdown, compared_page, compared_terminal

        document = compared([Run.read(path) for path in runs])
        if html is not None:
            write_atomic(html, compared_page(document).encode())
        if markdown is not None:
            write_atomic(markdown, compared_markdown(document).encode())
        screen.result(document, compared_terminal(document))


def _pairs(option: str, said: list[str] | None) -> dict[str, Any] | None:
    """``NAME=VALUE`` options as a mapping. Raises InputError for another form."""
    from ropd_cli.errors import InputError

    if not said:
        return None
    pairs = [each.partition("=") for each in said]
    for each, (name, _, value) in zip(said, pairs, strict=True):
        if not name or not value:
            raise InputError(f"{option} {each!r}: not NAME=VALUE", f"like {option} mine=questions.jsonl")
    return {name: value for name, _, value in pairs}
