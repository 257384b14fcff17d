"""Have the lint judge read the rubrics of a catalogue (``ropd inspect-rubrics --lint-judge``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from ropd_cli.analysis.catalogue import Catalogue
from ropd_cli.cli._options import RequestOptions
from ropd_cli.cli._screen import Screen
from ropd_cli.cli._stages import dollars, in_words, open_cache, run_clients, with_model
from ropd_cli.config import RopdConfig
from ropd_cli.errors import InputError
from ropd_cli.lint.model_judge import judge_lint, lint_request, lint_template
from ropd_cli.llm.chat import ClientStats
from ropd_cli.llm.client import ChatClient, ChatRequest
from ropd_cli.llm.cost_estimate import forecast
from ropd_cli.llm.shared import Shared
from ropd_cli.stages.runner import RECORD_ERRORS, Tally, run_jobs
from ropd_cli.util.counted import counted
from ropd_cli.util.progress import Progress


@dataclass(frozen=True)
class _Job:
    number: int
    """Of the group in the catalogue."""
    uid: str
    """Unique in a run, where a prompt may come in several steps."""


class LintJudge:
    """The model of ``lint.judge``, and what it is told."""

    def __init__(self, config: RopdConfig) -> None:
        """Raises InputError where the template lacks a place for what the judge has to see."""
        self._config, self._template = config, lint_template(config.judge)

    @property
    def name(self) -> str:
        """What the findings depend on: those of another model or template are others."""
        settings = self._config.lint.judge
        where = settings.model_dump(
            exclude={"limits", "headers", "api_key_env", "ca_file", "structured_output", "thinking_tags"}
        )
        return repr([where, self._template])

    def read(self, screen: Screen, catalogue: Catalogue, numbers: list[int], run: RequestOptions) -> dict[str, Any]:
        """Read the rubrics of those of these groups that were not read yet, and book the findings; return the counts.

        With ``--dry-run`` only what it would cost is printed. Raises InputError where the questions are not there.
        """
        endpoint = with_model(self._config.lint.judge, "lint.judge")
        unread = catalogue.unjudged(numbers)
        rows = catalogue.rows(unread)
        if rows and not any(row.question for row in rows):
            raise InputError(
                "the lint judge has to see the questions, which are not there", "name them by --prompts FILE"
            )

        def requests() -> Iterator[ChatRequest]:
            for view in catalogue.groups(unread):
                yield from (lint_request(endpoint, self._template, each) for each in view.linted)

        async def stage(client: ChatClient, progress: Progress) -> Tally:
            async def work(job: _Job) -> bool:
                try:
                    rubrics = catalogue.group(job.number).linted
                    found = [x for each in rubrics for x in await judge_lint(client, self._template, each)]
                except RECORD_ERRORS as fault:
                    catalogue.book_judge(job.number, None, fault.message)
                    raise
                catalogue.book_judge(job.number, found)
                return bool(rubrics)

            return await run_jobs(
                (_Job(row.n, f"{row.uid} {row.n}") for row in rows),
                work,
                total=len(unread),
                out=catalogue.path,
                stage="lint",
                concurrency=endpoint.limits.concurrency,
                needed_endpoint=bool,
                max_failed_fraction=run.max_failed_fraction,
                progress=progress,
            )

        with ExitStack() as stack:
            cache = open_cache(stack, self._config, not run.no_cache)
            if run.dry_run:
                estimate = forecast(requests(), endpoint, cache, Shared.of(self._config).budget)
                screen.result(estimate, in_words(estimate))
                return {}
            stats = ClientStats()
            tally = run_clients(
                screen, self._config, [endpoint], [stats], cache, lambda clients, bar: stage(clients[0], bar)
            )
        known = len(numbers) - len(unread)
        cost = f", {dollars(stats.cost_usd)}" if stats.cost_usd else ""
        again = "; the same command tries these again" if tally.failed else ""
        screen.note(
            f"lint judge: {counted(tally.done, 'group')} read, {known} known before, {tally.failed} missing "
            f"({counted(stats.requests_sent, 'request')} sent{cost}){again}"
        )
        return {"groups": len(numbers), "known": known, "asked": tally.done, "missing": tally.failed} | stats.as_dict()
