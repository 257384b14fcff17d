"""``ropd teacher-gen``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ropd_cli.cli._batches import at_batch_prices, check_batches, fill_cache
from ropd_cli.cli._options import EndpointOptions, StageOptions, command
from ropd_cli.cli._screen import Screen
from ropd_cli.cli._stages import StageDone, closing_lines, in_words, open_cache, report, run_clients
from ropd_cli.cli._teachers import endpoints_of, teacher_words, text_or_file
from ropd_cli.errors import InputError
from ropd_cli.llm.cost_estimate import Forecast
from ropd_cli.records.outputs import sole_writer
from ropd_cli.stages.teacher import TeacherCount

if TYPE_CHECKING:
    from ropd_cli.config import EndpointConfig, RopdConfig
    from ropd_cli.llm.cache import ReplyCache
    from ropd_cli.llm.chat import ChatRequest
    from ropd_cli.stages.runner import Tally
    from ropd_cli.stages.teacher import TeacherFiles, Wanted

_answers_option = partial(typer.Option, rich_help_panel="Answers")
_batch_option = partial(typer.Option, rich_help_panel="Batches")


@dataclass(kw_only=True)
class TeacherDone(TeacherCount):
    requests_sent: int
    cache_hits: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None


@dataclass(kw_only=True)
class TeachersDone(StageDone):
    teachers: list[TeacherDone]


@dataclass(frozen=True, kw_only=True)
class TeachersForecast(Forecast):
    """With ``--dry-run`` and several teachers: the sums, and each teacher's own. ``cost_usd`` is null where one model
    has no price."""

    teachers: list[Forecast]


@command
def teacher_gen(
    prompts: Annotated[Path, typer.Argument(help="Prompts file.")],
    out: Annotated[Path, typer.Option(help="Answers file; existing records are kept.")],
    m: Annotated[
        int | None, typer.Option("--m", "-m", min=1, help="Distinct answers per prompt.", show_default="4")
    ] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL[@URL]|NAME",
            help="A teacher (repeatable): answers are spread over them. NAME is one of the configuration's `teachers`.",
        ),
    ] = None,
    system_prompt: Annotated[
        str | None, typer.Option(metavar="TEXT|@FILE", help="System prompt for prompts without one.")
    ] = None,
    keep: Annotated[
        Literal["any", "correct", "majority"],
        _answers_option(
            metavar="any|correct|majority",
            help="Keep any answer, answers with the prompt's final result, or with the result of most samples.",
        ),
    ] = "any",
    unverifiable: Annotated[
        Literal["refuse", "keep"],
        _answers_option(
            metavar="refuse|keep",
            help="With --keep correct: refuse prompts without an `answer`, or keep any of their answers.",
        ),
    ] = "refuse",
    tries: Annotated[
        int | None,
        _answers_option(min=1, help="Maximum samples per answer.", show_default="3"),
    ] = None,
    force: Annotated[bool, _answers_option("--force", help="Accept identical answers.")] = False,
    retry_max_tokens: Annotated[
        int | None,
        _answers_option(min=1, help="Ask again with this limit if an answer was cut off."),
    ] = None,
    keep_truncated: Annotated[
        bool, _answers_option("--keep-truncated", help="Write answers that were cut off, in addition to the m.")
    ] = False,
    no_reasoning: Annotated[
        bool, _answers_option("--no-reasoning", help="Do not write the teacher's thinking.")
    ] = False,
    n_per_request: Annotated[
        Literal["auto", "1"],
        _answers_option(metavar="auto|1", help="Samples per request: several if the endpoint supports it, or one."),
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
    batch_poll: Annotated[float, _batch_option(min=0.1, help="Seconds between two checks of the batches.")] = 30.0,
    *,
    endpoint: EndpointOptions,
    run: StageOptions,
    screen: Screen,
) -> None:
    """Ask a teacher for m answers per prompt.

    Answers that are empty, cut off, equal to another one or rejected by --keep are requested again. With --seed,
    sample s is sent seed + s. The same command again continues where it stopped, and tries failed prompts again.
    """
    from ropd_cli.llm.chat import ClientStats
    from ropd_cli.llm.client import ChatClient
    from ropd_cli.stages.teacher import TRIES_PER_ANSWER, Teacher, TeacherFiles, Wanted
    from ropd_cli.stages.teacher import teacher_gen as stage

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
            settings = at_batch_prices(settings, endpoints)
        if run.dry_run:
            # in a batch each answer is a request of its own
            together = wanted.together and not batch_api
            _forecast(screen, settings, files, endpoints, wanted, cache, together=together)
            return
        _check_keys(screen, files, endpoints, wanted, cache)
        stack.enter_context(sole_writer(out))  # of the batches' state, too
        teachers = [Teacher(endpoint) for endpoint in endpoints]
        counts = [TeacherCount(teacher.model, teacher.shown) for teacher in teachers]
        stats = [ClientStats() for _ in endpoints]
        ask = partial(stage, files, wanted=wanted, counts=counts, max_failed_fraction=run.max_failed_fraction)

        async def by_batches(cache: ReplyCache) -> Tally | None:
            source = await fill_cache(
                screen, settings, endpoints, cache, files, wanted, stats, wait=batch_wait, poll_s=batch_poll
            )
            clients = [ChatClient.open(one, cache=cache) for one in endpoints]
            return await ask(clients, source=source, progress=screen.progress()) if source is not None else None

        if batch_api and cache is not None:
            tally = screen.run(by_batches(cache))
        else:
            tally = run_clients(
                screen,
                settings,
                endpoints,
                stats,
                cache,
                lambda clients, progress: ask(clients, progress=progress),
            )
    if tally is None:  # batches are under way
        return
    shown = ("requests_sent", "cache_hits", "prompt_tokens", "completion_tokens", "cost_usd")
    documents = [
        asdict(count) | {name: one.as_dict()[name] for name in shown} for count, one in zip(counts, stats, strict=True)
    ]
    lines = [teacher_words(each) for each in documents if each["requests_sent"] or each["cache_hits"]]
    lines += closing_lines(
        {}, ("ropd", "index", "build", out, "--out", out.parent / f"{out.name.partition('.')[0]}.index")
    )
    report(screen, tally, out, "prompt", ClientStats.total(stats).as_dict() | {"teachers": documents}, lines)


def _check_keys(
    screen: Screen, files: TeacherFiles, endpoints: Sequence[EndpointConfig], wanted: Wanted, cache: ReplyCache | None
) -> None:
    """Raise InputError for a key that is missing where anything is to be sent: what the cache answers needs none."""
    from ropd_cli.llm.api_key import Peer
    from ropd_cli.stages.teacher import Teacher, pending

    async def check() -> None:
        teachers = [Teacher(endpoint) for endpoint in endpoints]
        async for place, _ in pending(files, teachers, wanted, cache, with_cached=False):
            Peer.read(endpoints[place], os.environ)

    try:
        for endpoint in endpoints:
            Peer.read(endpoint, os.environ)
    except InputError:
        screen.run(check())


def _forecast(
    screen: Screen,
    settings: RopdConfig,
    files: TeacherFiles,
    endpoints: Sequence[EndpointConfig],
    wanted: Wanted,
    cache: ReplyCache | None,
    *,
    together: bool,
) -> None:
    """Print calls, tokens and cost of each teacher; ``--json`` has their sums too, the cost null where a price is not
    known. ``together``: an endpoint is asked for several answers by one request."""
    from ropd_cli.llm.cost_estimate import forecast
    from ropd_cli.llm.shared import Shared
    from ropd_cli.stages.teacher import Teacher, pending

    async def requests(made: bool) -> list[list[ChatRequest]]:
        by_teacher: list[list[ChatRequest]] = [[] for _ in endpoints]
        teachers = [Teacher(endpoint) for endpoint in endpoints]
        async for place, request in pending(files, teachers, wanted, cache, made=made):
            by_teacher[place].append(request)
        return by_teacher

    budget = Shared.of(settings).budget
    left, known = map(screen.run, map(requests, (False, True)))
    asked, prompts = sum(map(len, known)), {one.messages_json for some in known for one in some}
    samples = max(1.0, asked / (wanted.m * len(prompts))) if prompts else 1.0
    again = f"{samples:.2g} samples per answer, as before" if prompts else "those asked for again come on top"
    forecasts = [
        replace(one, rule=f"{one.rule}; {again}" if one.calls else one.rule)
        for one in (
            forecast(some, endpoint, cache, budget, known=before, together=together, samples=samples)
            for some, before, endpoint in zip(left, known, endpoints, strict=True)
        )
    ]
    document = forecasts[0]
    if len(forecasts) > 1:
        costs = [one.cost_usd for one in forecasts]
        ranges = [one.cost_usd_range for one in forecasts if one.cost_usd_range is not None]
        names = ("calls", "cached", "prompt_tokens", "completion_tokens")
        least, most = zip(*(one.completion_tokens_range for one in forecasts), strict=True)
        document = TeachersForecast(
            model=" + ".join(one.model for one in forecasts),
            **{name: sum(getattr(one, name) for one in forecasts) for name in names},
            cost_usd=None if None in costs else sum(cost for cost in costs if cost is not None),
            measured=all(one.measured for one in forecasts),
            completion_tokens_range=(sum(least), sum(most)),
            cost_usd_range=(sum(low for low, _ in ranges), sum(high for _, high in ranges))
            if len(ranges) == len(forecasts)
            else None,
            rule="; ".join(dict.fromkeys(one.rule for one in forecasts)),
            teachers=forecasts,
        )
    screen.result(document, "\n".join(map(in_words, forecasts)))
