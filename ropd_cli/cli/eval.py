"""``ropd eval``, ``ropd eval compare`` and ``ropd eval list``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typing_extensions import TypedDict

from ropd_cli.cli._completion import benchmarks as known_benchmarks
from ropd_cli.cli._options import (
    EndpointOptions,
    RequestOptions,
    Seed,
    at_endpoint,
    command,
    command_group,
)
from ropd_cli.cli._screen import Screen
from ropd_cli.errors import InputError

_benchmark_option = partial(typer.Option, rich_help_panel="Benchmarks")
_judge_option = partial(typer.Option, rich_help_panel="Judge")
_vllm_option = partial(typer.Option, rich_help_panel="A model on vLLM on this machine")

app = command_group("eval", no_args_is_help=False)


class Benchmark(TypedDict):
    name: str
    questions: int
    grader: str
    source: str
    """``package``, or its name on the hub."""


class Benchmarks(TypedDict):
    benchmarks: list[Benchmark]


@app.callback(invoke_without_command=True)
@command
def evaluate(
    context: typer.Context,
    benchmarks: Annotated[
        str | None,
        _benchmark_option(
            "--benchmarks",
            "-b",
            autocompletion=known_benchmarks,
            help="Names, separated by commas: aime24, aime25, hmmt25, hmmt25nov, gpqa, healthbench (-hard, "
            "-consensus), ifeval, math500, gsm8k, gsm8k-sample, or names of --data.",
            show_default="the names of --data",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory of the evaluation; existing samples are kept.")
    ] = None,
    data: Annotated[
        list[str] | None,
        _benchmark_option("--data", metavar="NAME=FILE", help="Read a benchmark from a file (repeatable)."),
    ] = None,
    grader: Annotated[
        list[str] | None,
        _benchmark_option(
            "--grader",
            metavar="NAME=KIND",
            help="Grade a file of your own by math, integer, choice, exact, ifeval, healthbench, rubric or teacher.",
        ),
    ] = None,
    n: Annotated[
        int | None, _benchmark_option("--n", "-n", min=1, help="Samples per problem.", show_default="16")
    ] = None,
    limit: Annotated[
        int | None, _benchmark_option("--limit", min=1, help="Use the first LIMIT problems per benchmark.")
    ] = None,
    thinking: Annotated[
        bool | None, _benchmark_option("--thinking/--no-thinking", help="Set the chat template's thinking switch.")
    ] = None,
    show_items: Annotated[
        bool,
        typer.Option("--show-items", help="Put questions and answers into the report. Do not publish that report."),
    ] = False,
    model_path: Annotated[str | None, _vllm_option("--model-path", help="Folder or hub name of the model.")] = None,
    device: Annotated[
        Literal["cpu", "gpu"] | None,
        _vllm_option("--device", help="Device of vLLM.", show_default="what vLLM was built for"),
    ] = None,
    max_model_len: Annotated[
        int | None, _vllm_option("--max-model-len", min=16, help="Tokens of prompt and reply, at most.")
    ] = None,
    judge_model: Annotated[str | None, _judge_option("--judge-model", help="Model that judges by rubrics.")] = None,
    judge_base_url: Annotated[
        str | None, _judge_option("--judge-base-url", help="URL of the judge's endpoint.")
    ] = None,
    judge_api_key_env: Annotated[
        str | None,
        _judge_option(
            "--judge-api-key-env",
            help="Environment variable that holds the judge's API key.",
            show_default="OPENAI_API_KEY",
        ),
    ] = None,
    *,
    endpoint: EndpointOptions,
    seed: Seed = None,
    run: RequestOptions,
    screen: Screen,
) -> None:
    """Measure a model on benchmarks, with the uncertainty of each figure.

    The model is a checkpoint that runs on vLLM on this machine (--model-path, or --model with a folder), or an
    endpoint (--base-url, --model). Samples, grades and reports are written to --out. The same command again
    continues where it stopped, also with more benchmarks or a larger --n.
    """
    if context.invoked_subcommand is not None:
        return
    from dataclasses import replace

    from ropd_cli.cli._evaluating import Evaluating, student_endpoint
    from ropd_cli.evaluation.store import EvalRun

    if out is None:
        raise InputError("--out is missing", "name the directory of the evaluation")
    if model_path is None and endpoint.base_url is None and endpoint.model is not None:
        folder = Path(endpoint.model)
        if (folder / "config.json").is_file():
            model_path, endpoint = endpoint.model, replace(endpoint, model=None)
    flags = {
        "student.model_path": model_path,
        "student.enable_thinking": thinking,
        "eval.benchmarks": benchmarks.replace(" ", "").split(",") if benchmarks else None,
        "eval.data": _pairs("--data", data),
        "eval.grader": _pairs("--grader", grader),
        "eval.n": n,
        "eval.temperature": endpoint.temperature,
        "eval.top_p": endpoint.top_p,
        "eval.max_tokens": endpoint.max_tokens,
        "eval.max_model_len": max_model_len,
        "verifier.model": judge_model,
        "verifier.base_url": judge_base_url,
        "verifier.api_key_env": judge_api_key_env,
        "seed": seed,
    }
    settings = run.load(endpoint.flags("student.endpoint") | flags)
    names = settings.eval.benchmarks or list(_pairs("--data", data) or ())
    if not names:
        raise InputError("no benchmark is named", "--benchmarks aime24,ifeval, or eval.benchmarks")
    settings = settings.model_copy(update={"eval": settings.eval.model_copy(update={"benchmarks": names})})
    here = not at_endpoint(settings, endpoint, model_path)
    tested = None if here else student_endpoint(settings, seed, default_timeout=endpoint.timeout is None)
    Evaluating(screen, settings, EvalRun(out), run, tested, device, limit, seed, show_items).evaluate()


@app.command("compare")
@command
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Directories of evaluations. The first is the baseline.")],
    html: Annotated[Path | None, typer.Option("--html", help="Write an HTML page, too.")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Write a Markdown page, too.")] = None,
    *,
    screen: Screen,
) -> None:
    """Compare evaluations problem by problem.

    For each benchmark: the change of its figures from the baseline to each other evaluation, with a paired interval
    over the problems that both have, and the problems that only one of the two solves.
    """
    from ropd_cli.evaluation.compare import Run
    from ropd_cli.evaluation.compare import compare as compared
    from ropd_cli.records.files import write_atomic
    from ropd_cli.report.eval_report import compared_markdown, compared_page, compared_terminal

    document = compared([Run.read(path) for path in runs])
    if html is not None:
        write_atomic(html, compared_page(document))
    if markdown is not None:
        write_atomic(markdown, compared_markdown(document))
    screen.result(document, compared_terminal(document))


@app.command("list")
@command
def list_benchmarks(*, screen: Screen) -> None:
    """List the benchmarks that eval knows.

    Any other set is read from a file: --data NAME=FILE, graded by --grader NAME=KIND.
    """
    from rich.table import Table

    from ropd_cli.datasets.eval_sets import KNOWN_SETS
    from ropd_cli.evaluation.benchmarks import KINDS

    known = [
        Benchmark(
            name=name,
            questions=each.questions,
            grader=KINDS[name],
            source="package" if each.shipped else str(each.hub),
        )
        for name, each in KNOWN_SETS.items()
    ]
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("name", "questions", "grader", "source"):
        table.add_column(head, justify="right" if head == "questions" else "left")
    for each in known:
        table.add_row(*map(str, each.values()))
    screen.result(Benchmarks(benchmarks=known), table)


def _pairs(option: str, values: list[str] | None) -> dict[str, Any] | None:
    """Return ``NAME=VALUE`` options as a mapping. Raises InputError for another form."""
    pairs = {}
    for text in values or ():
        name, _, value = text.partition("=")
        if not name or not value:
            raise InputError(f"{option} {text!r}: not NAME=VALUE", f"like {option} mine=questions.jsonl")
        pairs[name] = value
    return pairs or None
