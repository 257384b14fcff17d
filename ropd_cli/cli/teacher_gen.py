"""``ropd teacher-gen``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ropd_cli.cli._batches import at_batch_prices, check_batches, print_standing, run_batches
from ropd_cli.cli._options import EndpointOptions, StageOptions, command
from ropd_cli.cli._screen import Screen
from ropd_cli.cli._stages import in_words, open_cache, report, run_clients
from ropd_cli.cli._teachers import endpoints_of, teacher_words, text_or_file

if TYPE_CHECKING:
    from ropd_cli.config import EndpointConfig, RopdConfig
    from ropd_cli.llm.batch import Standing
    from ropd_cli.llm.cache import ReplyCache
    from ropd_cli.llm.chat import ChatRequest
    from ropd_cli.llm.client import ChatClient
    from ropd_cli.stages.runner import Tally
    from ropd_cli.stages.teacher import Grader, TeacherFiles, Wanted
    from ropd_cli.util.progress import Progress

_answers_option = partial(typer.Option, rich_help_panel="Answers")
_batch_option = partial(typer.Option, rich_help_panel="Batches")


@command
def teacher_gen(
    prompts: Annotated[Path, typer.Argument(help="Prompts file.")],
    out: Annotated[Path, typer.Option("--out", help="Answers file; what it holds is kept.")],
    m: Annotated[
        int | None, typer.Option("--m", "-m", min=1, help="Distinct answers per prompt.", show_default="4")
    ] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            "--teacher",
            metavar="MODEL[@URL]|NAME",
            help="A teacher (repeatable): answers are spread over them. NAME is one of the configuration's `teachers`.",
        ),
    ] = None,
    system_prompt: Annotated[
        str | None, typer.Option("--system-prompt", metavar="TEXT|@FILE", help="System prompt where a prompt has none.")
    ] = None,
    keep: Annotated[
        Literal["any", "correct", "majority"],
        _answers_option(
            "--keep",
            metavar="any|correct|majority",
            help="Keep any answer, answers with the prompt's final result, or with the result of most samples.",
        ),
    ] = "any",
    unverifiable: Annotated[
        Literal["refuse", "keep"],
        _answers_option(
            "--unverifiable",
            metavar="refuse|keep",
            help="With --keep correct: refuse prompts without an `answer`, or keep any answer to them.",
        ),
    ] = "refuse",
    tries: Annotated[
        int | None,
        _answers_option("--tries", min=1, help="Samples per answer that is wanted, at most.", show_default="3"),
    ] = None,
    force: Annotated[bool, _answers_option("--force", help="Accept answers that are the same.")] = False,
    retry_max_tokens: Annotated[
        int | None,
        _answers_option("--retry-max-tokens", min=1, help="Ask again with this limit where an answer was cut off."),
    ] = None,
    keep_truncated: Annotated[
        bool, _answers_option("--keep-truncated", help="Write answers that were cut off, in addition to the m.")
    ] = False,
    no_reasoning: Annotated[
        bool, _answers_option("--no-reasoning", help="Do not write the teacher's thinking.")
    ] = False,
    n_per_request: Annotated[
        Literal["auto", "1"],
        _answers_option(
            "--n-per-request", metavar="auto|1", help="Samples per request: several where the endpoint can, or one."
        ),
    ] = "auto",
    batch_api: Annotated[
        bool, _batch_option("--batch-api", help="Send the requests as batches: half the price, within a day.")
    ] = False,
    batch_wait: Annotated[
        bool,
        _batch_option(
            "--batch-wait/--no-batch-wait", help="Wait for the batches, or collect them later with the same command."
        ),
    ] = True,
    batch_poll: Annotated[
        float, _batch_option("--batch-poll", min=0.1, help="Seconds between two checks of the batches.")
    ] = 30.0,
    *,
    endpoint: EndpointOptions,
    run: StageOptions,
    screen: Screen,
) -> None:
    """Ask a teacher for m answers per prompt.

    Answers that are empty, cut off, the same as another, or not to be kept are asked for again. With --seed,
    sample s is sent seed + s. The same command again continues where it stopped, and tries failed prompts again.
    """
    from ropd_cli.stages.teacher import TRIES_PER_ANSWER, TeacherFiles, Wanted

    settings = run.load(endpoint.flags("teacher", seed=run.seed) | {"judge.m": m})
    wanted = Wanted(
        m=settings.judge.m,
        same_allowed=force,
        tries=tries or TRIES_PER_ANSWER,
        together=n_per_request == "auto",
        keep=keep,
        unverifiable=unverifiable == "keep",
        retry_max_tokens=retry_max_tokens,
        keep_truncated=keep_truncated,
        reasoning=not no_reasoning,
        system_prompt=text_or_file("--system-prompt", system_prompt),
    )
    files = TeacherFiles(prompts=prompts, out=out, limit=run.limit)
    endpoints = endpoints_of(settings, teacher or (), endpoint.model)
    with ExitStack() as stack:
        cache = open_cache(stack, settings, not run.no_cache)
        if batch_api:
            check_batches(endpoints, cache)
            settings = at_batch_prices(settings)
        if run.dry_run:
            _forecast(screen, settings, files, endpoints, wanted, cache)
        else:
            poll_s = batch_poll if batch_api else None
            _generate(screen, settings, files, endpoints, wanted, cache, run, poll_s=poll_s, wait=batch_wait)


def _generate(
    screen: Screen,
    settings: RopdConfig,
    files: TeacherFiles,
    endpoints: Sequence[EndpointConfig],
    wanted: Wanted,
    cache: ReplyCache | None,
    run: StageOptions,
    *,
    poll_s: float | None,
    wait: bool,
) -> None:
    """Ask the teachers, by batches where ``poll_s`` is given, and print what came of it."""
    from ropd_cli.llm.batch import Standing
    from ropd_cli.llm.chat import ClientStats
    from ropd_cli.stages.teacher import Teacher, TeacherCount
    from ropd_cli.stages.teacher import teacher_gen as stage

    teachers = [Teacher(endpoint) for endpoint in endpoints]
    counts = [TeacherCount(teacher.model, teacher.shown) for teacher in teachers]
    stats = [ClientStats() for _ in endpoints]
    max_failed_fraction = run.max_failed_fraction

    async def at_once(clients: Sequence[ChatClient], progress: Progress) -> Tally:
        async with _grader(wanted) as grader:
            return await stage(
                files,
                clients,
                wanted,
                grader=grader,
                counts=counts,
                max_failed_fraction=max_failed_fraction,
                progress=progress,
            )

    async def by_batches(cache: ReplyCache, poll_s: float) -> Tally | Standing:
        async with _grader(wanted) as grader:
            return await run_batches(
                settings,
                endpoints,
                cache,
                files,
                wanted,
                grader=grader,
                counts=counts,
                stats=stats,
                wait=wait,
                poll_s=poll_s,
                max_failed_fraction=max_failed_fraction,
                progress=screen.progress(),
            )

    outcome: Tally | Standing
    if poll_s is not None and cache is not None:
        outcome = screen.run(by_batches(cache, poll_s))
    else:
        outcome = run_clients(screen, settings, endpoints, stats, cache, at_once)
    if isinstance(outcome, Standing):
        print_standing(screen, outcome, files)
        return
    shown = ("requests_sent", "cache_hits", "prompt_tokens", "completion_tokens", "cost_usd")
    documents = [
        count.as_dict() | {name: getattr(one, name) for name in shown} for count, one in zip(counts, stats, strict=True)
    ]
    lines = [teacher_words(each) for each in documents if each["requests_sent"] or each["cache_hits"]]
    report(screen, outcome, files.out, "prompts", ClientStats.total(stats).as_dict() | {"teachers": documents}, lines)


@asynccontextmanager
async def _grader(wanted: Wanted) -> AsyncIterator[Grader | None]:
    """Open what compares final results; None where ``--keep any`` compares none."""
    if wanted.keep == "any":
        yield None
        return
    from ropd_cli.answers.math_equal import MathGrader

    async with MathGrader() as grader:
        yield grader


def _forecast(
    screen: Screen,
    settings: RopdConfig,
    files: TeacherFiles,
    endpoints: Sequence[EndpointConfig],
    wanted: Wanted,
    cache: ReplyCache | None,
) -> None:
    """Print calls, tokens and cost of each teacher; ``--json`` has their sums too, the cost null where a price is not
    known."""
    from ropd_cli.llm.cost_estimate import forecast
    from ropd_cli.llm.shared import Shared
    from ropd_cli.stages.teacher import Teacher, pending

    async def requests() -> list[list[ChatRequest]]:
        by_teacher: list[list[ChatRequest]] = [[] for _ in endpoints]
        teachers = [Teacher(endpoint) for endpoint in endpoints]
        async with _grader(wanted) as grader:
            async for place, request in pending(files, teachers, wanted, cache, grader=grader):
                by_teacher[place].append(request)
        return by_teacher

    budget = Shared.of(settings).budget
    forecasts = [
        forecast(some, endpoint, cache, budget, together=wanted.together)
        for some, endpoint in zip(screen.run(requests()), endpoints, strict=True)
    ]
    models = [str(endpoint.model) for endpoint in endpoints]
    documents = [{"model": model} | one.as_dict() for model, one in zip(models, forecasts, strict=True)]
    document = documents[0]
    if len(documents) > 1:
        costs = [one.cost_usd for one in forecasts]
        names = ("calls", "cached", "prompt_tokens", "completion_tokens")
        document = {
            "model": " + ".join(models),
            **{name: sum(getattr(one, name) for one in forecasts) for name in names},
            "cost_usd": None if None in costs else sum(cost for cost in costs if cost is not None),
            "measured": all(one.measured for one in forecasts),
            "teachers": documents,
        }
    screen.result(document, "\n".join(in_words(one, model) for model, one in zip(models, forecasts, strict=True)))
