"""``ropd teacher-gen``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ropd_cli.cli import _options as o
from ropd_cli.cli._batches import Batching, at_batch_prices, check_batches
from ropd_cli.cli._screen import Screen
from ropd_cli.cli._stages import in_words, open_cache, report, run_clients
from ropd_cli.cli._teachers import documents, endpoints_of, line, one_of, text_or_file

if TYPE_CHECKING:
    from ropd_cli.config import EndpointConfig, RopdConfig
    from ropd_cli.llm.batch import Standing
    from ropd_cli.llm.cache import ReplyCache
    from ropd_cli.llm.chat import ChatRequest, ClientStats
    from ropd_cli.llm.client import ChatClient
    from ropd_cli.llm.cost_estimate import Forecast
    from ropd_cli.stages.runner import Tally
    from ropd_cli.stages.teacher import Grader, TeacherCount, TeacherFiles, Wanted
    from ropd_cli.util.progress import Progress

_ANSWERS = "Answers"
_BATCH = "Batches"


def teacher_gen(
    prompts: Annotated[Path, typer.Argument(help="Prompts file.")],
    out: Annotated[Path, typer.Option("--out", help="Answers file; what it holds is kept.")],
    m: Annotated[int | None, typer.Option("--m", "-m", min=1, help="Distinct answers a prompt.")] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            "--teacher",
            metavar="MODEL[@URL]|NAME",
            help="A teacher (repeatable): answers are spread over them. NAME is one of the configuration's `teachers`.",
        ),
    ] = None,
    system_prompt: Annotated[
        str | None,
        typer.Option("--system-prompt", metavar="TEXT|@FILE", help="Said first where a prompt has no system prompt."),
    ] = None,
    keep: Annotated[
        str,
        typer.Option(
            "--keep",
            metavar="any|correct|majority",
            help="Keep any answer, those with the prompt's final result, or with the result of most samples.",
            rich_help_panel=_ANSWERS,
        ),
    ] = "any",
    unverifiable: Annotated[
        str,
        typer.Option(
            "--unverifiable",
            metavar="refuse|keep",
            help="With --keep correct: prompts without an `answer` are refused, or keep any.",
            rich_help_panel=_ANSWERS,
        ),
    ] = "refuse",
    tries: Annotated[
        int | None,
        typer.Option(
            "--tries", min=1, help="Samples for each answer that is wanted, at most (3).", rich_help_panel=_ANSWERS
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Take answers even where they are the same.", rich_help_panel=_ANSWERS)
    ] = False,
    retry_max_tokens: Annotated[
        int | None,
        typer.Option(
            "--retry-max-tokens",
            min=1,
            help="Ask again with this limit for what was cut off.",
            rich_help_panel=_ANSWERS,
        ),
    ] = None,
    keep_truncated: Annotated[
        bool,
        typer.Option(
            "--keep-truncated", help="Write answers that were cut off beside the m.", rich_help_panel=_ANSWERS
        ),
    ] = False,
    no_reasoning: Annotated[
        bool, typer.Option("--no-reasoning", help="Leave the teacher's thinking out.", rich_help_panel=_ANSWERS)
    ] = False,
    n_per_request: Annotated[
        str,
        typer.Option(
            "--n-per-request",
            metavar="auto|1",
            help="Several samples in one request where the endpoint can, or one in each.",
            rich_help_panel=_ANSWERS,
        ),
    ] = "auto",
    batch_api: Annotated[
        bool,
        typer.Option(
            "--batch-api",
            help="Hand the requests over as batches: half the price, within a day.",
            rich_help_panel=_BATCH,
        ),
    ] = False,
    batch_wait: Annotated[
        bool,
        typer.Option(
            "--batch-wait/--no-batch-wait",
            help="Wait for the batches, or come back with the same command.",
            rich_help_panel=_BATCH,
        ),
    ] = True,
    batch_poll: Annotated[
        float, typer.Option("--batch-poll", min=0.1, help="Seconds between two looks.", rich_help_panel=_BATCH)
    ] = 30.0,
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
    """Ask a teacher for m answers a prompt.

    Answers that are empty, cut off, the same as another, or not to be kept are asked for again. With --seed,
    sample s is sent seed + s. The same command again goes on where it stopped, and tries failed prompts again.
    """
    screen = Screen(json, quiet, debug)
    with screen.errors():
        from ropd_cli.stages.teacher import TRIES_PER_ANSWER, TeacherFiles, Wanted

        flags = o.endpoint_flags(
            "teacher",
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
        settings = o.load(config, overrides, flags | {"judge.m": m}, cache_dir=cache_dir)
        wanted = Wanted(
            m=settings.judge.m,
            same_allowed=force,
            tries=tries or TRIES_PER_ANSWER,
            together=one_of("--n-per-request", n_per_request, ("auto", "1")) == "auto",
            keep=one_of("--keep", keep, ("any", "correct", "majority")),  # type: ignore[arg-type]  # one of them
            unverifiable=one_of("--unverifiable", unverifiable, ("refuse", "keep")) == "keep",
            retry_max_tokens=retry_max_tokens,
            keep_truncated=keep_truncated,
            reasoning=not no_reasoning,
            system_prompt=text_or_file("--system-prompt", system_prompt),
        )
        files = TeacherFiles(prompts=prompts, out=out, limit=limit)
        endpoints = endpoints_of(settings, teacher or (), model)
        with ExitStack() as stack:
            cache = open_cache(stack, settings, not no_cache)
            if batch_api:
                check_batches(endpoints, cache)
                settings = at_batch_prices(settings)
            if dry_run:
                _forecast(screen, settings, files, endpoints, wanted, cache)
            elif batch_api and cache is not None:
                batching = Batching(settings, endpoints, cache, wait=batch_wait, poll_s=batch_poll)
                _run_batches(screen, batching, files, wanted, max_failed_fraction)
            else:
                _run(screen, settings, files, endpoints, wanted, cache, max_failed_fraction)


def _run(
    screen: Screen,
    settings: RopdConfig,
    files: TeacherFiles,
    endpoints: Sequence[EndpointConfig],
    wanted: Wanted,
    cache: ReplyCache | None,
    max_failed_fraction: float | None,
) -> None:
    from ropd_cli.llm.chat import ClientStats
    from ropd_cli.stages.teacher import Teacher, TeacherCount, teacher_gen

    named = [Teacher(endpoint) for endpoint in endpoints]
    counts = [TeacherCount(one.model, one.shown) for one in named]
    stats = [ClientStats() for _ in endpoints]

    async def stage(clients: Sequence[ChatClient], progress: Progress) -> Tally:
        async with AsyncExitStack() as stack:
            return await teacher_gen(
                files,
                clients,
                wanted,
                grader=await _grader(stack, wanted),
                counts=counts,
                max_failed_fraction=max_failed_fraction,
                progress=progress,
            )

    tally = run_clients(screen, settings, endpoints, stats, cache, stage)
    _report(screen, tally, files.out, counts, stats)


def _run_batches(
    screen: Screen, batching: Batching, files: TeacherFiles, wanted: Wanted, max_failed_fraction: float | None
) -> None:
    async def work() -> Tally | Standing:
        async with AsyncExitStack() as stack:
            return await batching.run(
                stack,
                files,
                wanted,
                grader=await _grader(stack, wanted),
                max_failed_fraction=max_failed_fraction,
                progress=screen.progress(),
            )

    outcome = screen.run(work())
    if batching.is_running(outcome):
        batching.say_running(screen, outcome, files)
    else:
        _report(screen, outcome, files.out, batching.counts, batching.stats)


def _report(
    screen: Screen, tally: Tally, out: Path, counts: Sequence[TeacherCount], stats: Sequence[ClientStats]
) -> None:
    from ropd_cli.llm.chat import ClientStats

    found = documents(counts, stats)
    lines = [line(one) for one in found if one["requests_sent"] or one["cache_hits"]]
    report(screen, tally, out, "prompts", ClientStats.total(stats).as_dict() | {"teachers": found}, lines)


async def _grader(stack: AsyncExitStack, wanted: Wanted) -> Grader | None:
    """What compares results, until ``stack`` is left; None where nothing is compared."""
    if wanted.keep == "any":
        return None
    from ropd_cli.answers.math_equal import MathGrader

    return await stack.enter_async_context(MathGrader())


def _forecast(
    screen: Screen,
    settings: RopdConfig,
    files: TeacherFiles,
    endpoints: Sequence[EndpointConfig],
    wanted: Wanted,
    cache: ReplyCache | None,
) -> None:
    from ropd_cli.llm.cost_estimate import forecast
    from ropd_cli.llm.shared import Shared
    from ropd_cli.stages.teacher import Teacher, pending

    async def requests() -> list[list[ChatRequest]]:
        asked: list[list[ChatRequest]] = [[] for _ in endpoints]
        teachers = [Teacher(endpoint) for endpoint in endpoints]
        async with AsyncExitStack() as stack:
            grader = await _grader(stack, wanted)
            async for place, request in pending(files, teachers, wanted, cache, grader=grader):
                asked[place].append(request)
        return asked

    budget = Shared.of(settings).budget
    found = [
        forecast(some, endpoint, cache, budget, together=wanted.together)
        for some, endpoint in zip(screen.run(requests()), endpoints, strict=True)
    ]
    each = [{"model": endpoint.model} | one.as_dict() for endpoint, one in zip(endpoints, found, strict=True)]
    text = "\n".join(in_words(one, endpoint.model or "") for endpoint, one in zip(endpoints, found, strict=True))
    screen.result(each[0] if len(each) == 1 else _total(endpoints, found) | {"teachers": each}, text)


def _total(endpoints: Sequence[EndpointConfig], found: Sequence[Forecast]) -> dict[str, object]:
    """The sums of several forecasts; the money is null where a price is not known."""
    costs = [one.cost_usd for one in found]
    names = ("calls", "cached", "prompt_tokens", "completion_tokens")
    return {
        "model": " + ".join(endpoint.model or "" for endpoint in endpoints),
        **{name: sum(getattr(one, name) for one in found) for name in names},
        "cost_usd": None if None in costs else sum(cost for cost in costs if cost is not None),
        "measured": all(one.measured for one in found),
    }
