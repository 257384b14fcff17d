"""What the commands of one stage share: the endpoints they ask, and what they print at the end."""

from __future__ import annotations

import os
import shlex
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, closing
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from statistics import fmean
from typing import Any

from ropd_cli.cli._options import Device, RequestOptions
from ropd_cli.cli._screen import Screen, exit_partial
from ropd_cli.config import EndpointConfig, RopdConfig
from ropd_cli.engines.vllm_sampling import EngineOptions, installed_device
from ropd_cli.errors import InputError
from ropd_cli.llm.api_key import Peer
from ropd_cli.llm.cache import ReplyCache, cache_key
from ropd_cli.llm.chat import ChatRequest, ClientStats
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.cost_estimate import Forecast, forecast
from ropd_cli.llm.shared import Shared
from ropd_cli.llm.urls import base_url, model_name
from ropd_cli.method.scoring import GroupStats, group_stats
from ropd_cli.records.files import existing_records, failed_path
from ropd_cli.records.outputs import sole_writer
from ropd_cli.stages.runner import Tally
from ropd_cli.util.counted import counted
from ropd_cli.util.progress import Progress

ENOUGH_DONE = 0.1
Stage = Callable[[Sequence[ChatClient], Progress], Awaitable[Tally]]


@dataclass
class Counted:
    """With a model on this machine: the records that were written."""

    out: str
    done: int
    skipped: int
    """There already."""
    failed: int
    failed_file: str | None
    """File that lists them."""


@dataclass
class StageDone(ClientStats, Counted):
    """The records that were written, and what was asked for. Tokens and money are those of requests that were sent;
    ``cost_usd`` is null where the model has no price."""


@dataclass
class RewardFigures:
    reward_mean: float | None
    """Mean of the groups' mean rewards; null where nothing was judged."""
    teacher_mean: float | None
    """The same of the teacher's answers."""
    without_spread: float | None
    """Share of the judged groups whose rewards are all equal."""


@dataclass
class JudgingDone(StageDone, RewardFigures): ...


def run_api_stage(
    screen: Screen,
    config: RopdConfig,
    section: str,
    stage: Callable[[ChatClient, Progress], Awaitable[Tally]],
    out: Path,
    run: RequestOptions,
    *,
    requests: Callable[[EndpointConfig, Callable[[str], None], bool], Iterable[ChatRequest]],
    noun: str,
    figures: Callable[[Path], dict[str, float | None]] = lambda _: {},
    following: Sequence[object] = (),
    is_asked: bool = True,
) -> None:
    """Run a stage at the endpoint of a configuration section ("teacher", "student.endpoint", …) and print how it went:
    records, each a ``noun``, ``figures`` of its output, and the command that is ``following``. Exit code 3 where some
    records failed. With ``--dry-run`` only what it would send is counted: ``requests`` (endpoint, where to note what
    would fail, whether those of the finished records, of which a forecast learns). An endpoint that is not asked
    (``is_asked``) needs no model."""
    endpoint = attrgetter(section)(config)
    endpoint = with_model(endpoint, section) if is_asked else endpoint.model_copy(update={"model": ""})
    with ExitStack() as stack:
        cache = open_cache(stack, config, not run.no_cache)
        if run.dry_run:
            known, left = requests(endpoint, _unsaid, True), requests(endpoint, screen.note, False)
            cost = forecast(left, endpoint, cache, Shared.of(config).budget, known=known)
            screen.result(cost, in_words(cost))
            return
        check_key(endpoint, requests(endpoint, _unsaid, False), cache)
        stack.enter_context(sole_writer(out))
        stats = ClientStats()
        tally = run_clients(screen, config, [endpoint], [stats], cache, lambda clients, bar: stage(clients[0], bar))
        found = figures(out)
        report(screen, tally, out, noun, stats.as_dict() | found, closing_lines(found, following))


def _unsaid(_: str) -> None:
    """Drop a note: the stage itself says it."""


def check_key(endpoint: EndpointConfig, requests: Iterable[ChatRequest], cache: ReplyCache | None) -> None:
    """Raise InputError for a key or header that is missing where any of the requests is to be sent: what the cache
    answers needs none."""
    try:
        Peer.read(endpoint, os.environ)
    except InputError:
        url = base_url(endpoint)
        for request in requests:
            if cache is None or cache.get(cache_key(url, request), request.sampling.max_tokens) is None:
                raise


def with_model(endpoint: EndpointConfig, section: str) -> EndpointConfig:
    """Return an endpoint with its model's name filled in. Raises InputError where the section names none."""
    return endpoint.model_copy(update={"model": model_name(endpoint, section)})


def engine_options(config: RopdConfig, device: Device, memory_share: float, **more: Any) -> EngineOptions:
    """Return how vLLM runs the student for a command. ``memory_share``: of a GPU, at least; the configured share
    leaves room for a trainer, which is not running beside this command."""
    return EngineOptions(
        model_path=str(config.student.model_path),
        device=device or installed_device(),
        dtype=config.student.dtype or "auto",
        gpu_memory_utilization=max(config.rollout.gpu_memory_utilization, memory_share),
        tensor_parallel_size=config.rollout.tensor_parallel_size,
        kv_cache_gb=config.rollout.kv_cache_gb,
        enable_thinking=config.student.enable_thinking,
        thinking_tags=config.student.endpoint.thinking_tags,
        **more,
    )


def open_cache(stack: ExitStack, config: RopdConfig, cached: bool) -> ReplyCache | None:
    """Open the cache of a configuration, until ``stack`` is left; None without one."""
    return stack.enter_context(closing(ReplyCache.open(config.cache_dir, config.cache_max_gb))) if cached else None


def run_clients(
    screen: Screen,
    config: RopdConfig,
    endpoints: Sequence[EndpointConfig],
    stats: Sequence[ClientStats],
    cache: ReplyCache | None,
    stage: Stage,
) -> Tally:
    """Run a stage with clients of these endpoints, which count in ``stats``, under one progress bar."""
    at_once = sum(endpoint.limits.concurrency for endpoint in endpoints)
    progress = screen.progress(lambda done, total: stats_words(stats, done, total, at_once))
    shared = Shared.of(config, progress.note)
    shared.announce = progress.note
    for endpoint in endpoints:  # a cost limit without a price is an error now, not after the first request
        if endpoint.model:  # else it is not asked
            shared.budget.price(str(endpoint.model), base_url(endpoint))

    async def work() -> Tally:
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(ChatClient.open(endpoint, cache=cache, shared=shared, stats=one))
                for endpoint, one in zip(endpoints, stats, strict=True)
            ]
            return await stage(clients, progress)

    return screen.run(work())


def stats_words(stats: Sequence[ClientStats], done: int, total: int, at_once: int) -> str:
    """Return, in words: replies from the cache, retries, and the cost so far and, by it, of ``total`` records; tokens
    of replies where there is no price.

    The records in flight, up to ``at_once``, are taken to have cost half of what they will.
    """
    sums = ClientStats.total(stats)
    paid_share = (done + min(at_once, total - done) / 2) / total if total else 0.0
    is_telling = ENOUGH_DONE * total <= done < total
    parts = [f"{sums.cache_hits} cached"]
    if sums.retries:
        parts.append(counted(sums.retries, "retry", "retries"))
    if sums.cost_usd:
        forecast = f" of about {dollars(sums.cost_usd / paid_share)}" if is_telling else ""
        parts.append(f"{dollars(sums.cost_usd)}{forecast}")
    elif sums.completion_tokens:
        forecast = f" of about {round(sums.completion_tokens / paid_share):,}" if is_telling else ""
        parts.append(f"{sums.completion_tokens:,}{forecast} tokens of replies")
    return ", ".join(parts)


def in_words(forecast: Forecast) -> str:
    """Return a forecast as a line, and the rule that it was made by as another."""
    least, most = forecast.completion_tokens_range
    between = f" ({least:,} to {most:,})" if least < most else ""
    cost = "no price known, see ropd prices"
    if forecast.cost_usd is not None:
        cost = dollars(forecast.cost_usd)
        if forecast.cost_usd_range is not None and least < most:
            cost += " ({} to {})".format(*map(dollars, forecast.cost_usd_range))
    to = f" to {forecast.model}" if forecast.model else ""
    return (
        f"{counted(forecast.calls, 'call')}{to}, {forecast.cached:,} answered by the cache; about "
        f"{forecast.prompt_tokens:,} tokens of prompts and {forecast.completion_tokens:,} of replies{between}; {cost}\n"
        f"rule: {forecast.rule}"
    )


def dollars(usd: float) -> str:
    """Return an amount, small ones with more digits."""
    return f"${usd:.2f}" if usd >= 0.995 else f"${usd:.4f}"


def calls_words(stats: dict[str, Any]) -> str:
    """Return what was sent, from the dict of a ClientStats, in words."""
    words = (
        f"{counted(stats['requests_sent'], 'request')} sent, {counted(stats['cache_hits'], 'answer')} from the cache"
    )
    return words + (f", {dollars(stats['cost_usd'])}" if stats["cost_usd"] else "")


def reward_figures(verdicts: Path) -> dict[str, float | None]:
    """Return what the groups of a verdicts file earned: the mean of their mean rewards and of their teacher answers'
    mean scores, as ``ropd inspect-rubrics`` has them, and the share of judged groups without spread, from which nothing
    is learned. None where nothing was judged."""
    return figures_of(
        group_stats(
            record["rewards"],
            [answer.get("score") for answer in record["answers"] if answer["source"] == "teacher"],
            shaped_G=record.get("shaped", ()),
        )
        for _, record in existing_records(verdicts)
    )


def figures_of(stats: Iterable[GroupStats]) -> dict[str, float | None]:
    """Return ``reward_figures`` of these groups."""
    groups = list(stats)
    rewards = [group.mean for group in groups if group.mean is not None]
    teachers = [group.teacher_mean for group in groups if group.teacher_mean is not None]
    flat = sum(group.zero_variance for group in groups)
    return {
        "reward_mean": fmean(rewards) if rewards else None,
        "teacher_mean": fmean(teachers) if teachers else None,
        "without_spread": flat / len(rewards) if rewards else None,
    }


def require_rubrics(config: RopdConfig, command: str) -> None:
    """Raise InputError where the configuration names a method without rubrics, which a stage of them would ignore."""
    if config.method != "ropd":
        raise InputError(
            f"method {config.method}: ropd {command} is a stage of method ropd, which judges by rubrics",
            "ropd train and ropd_cli.Judge apply the other methods; for rubrics: --set method=ropd",
        )


def closing_lines(figures: Mapping[str, float | None], following: Sequence[object]) -> list[str]:
    """Return ``reward_figures`` in words, what is None left out, and the command to go on with."""
    words = [
        f"{what} {value:{form}}"
        for name, what, form in (
            ("reward_mean", "mean reward", ".3f"),
            ("teacher_mean", "teacher's mean", ".3f"),
            ("without_spread", "groups without spread", ".0%"),
        )
        if (value := figures.get(name)) is not None
    ]
    lines = [", ".join(words)] if words else []
    return [*lines, f"next: {shlex.join(map(str, following))}"] if following else lines


def named_alike(file: Path, kind: str, other: str) -> Path:
    """Return the file beside a file of one ``kind`` that holds what is made of it: ``rubrics-b.jsonl`` of
    ``rollouts-b.jsonl``, and of ``b.jsonl``."""
    name = file.name
    return file.parent / (name.replace(kind, other) if kind in name else f"{other}-{name}")


def report(
    screen: Screen, tally: Tally, out: Path, noun: str, stats: dict[str, Any] | None = None, lines: Sequence[str] = ()
) -> None:
    """Print how a stage went, and ``lines`` below it; exit code 3 where some records failed."""
    document = {"out": str(out), "done": tally.done, "skipped": tally.skipped, "failed": tally.failed} | (stats or {})
    document["failed_file"] = str(failed_path(out)) if tally.failed else None
    sentence = f"{out}: {counted(tally.done, noun)} written"
    if tally.skipped:
        sentence += f", {tally.skipped} already there"
    if tally.failed:
        sentence += f", {tally.failed} failed, see {document['failed_file']}"
    if stats is not None:
        sentence += f" ({calls_words(stats)})"
    why = [f"most of what failed: {tally.why_failed}"] if tally.why_failed else []
    screen.result(document, "\n".join([sentence, *why, *lines]))
    exit_partial(tally.failed)
