"""The work of ``ropd eval``: opens the model, the judge and the benchmarks, runs them, and reports."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson
from typing_extensions import TypedDict

from ropd_cli.cli._options import Device, RequestOptions
from ropd_cli.cli._screen import Screen, exit_partial
from ropd_cli.cli._stages import check_key, engine_options, in_words, open_cache, stats_words, with_model
from ropd_cli.config import EndpointConfig, RopdConfig
from ropd_cli.config.masking import shown_url
from ropd_cli.engines.vllm_sampling import LocalModel, SamplingOptions
from ropd_cli.evaluation.benchmarks import Choice, open_benchmarks
from ropd_cli.evaluation.contamination import selection_warnings
from ropd_cli.evaluation.evaluate import evaluate
from ropd_cli.evaluation.graders import Tools
from ropd_cli.evaluation.sampling import Job, Meter, left_to_draw
from ropd_cli.evaluation.sources import EndpointSource, LocalSource, Source, fingerprint
from ropd_cli.evaluation.store import EvalRun
from ropd_cli.evaluation.summary import Settings, report_document
from ropd_cli.llm.cache import ReplyCache
from ropd_cli.llm.chat import ChatRequest, ClientStats
from ropd_cli.llm.client import ChatClient, endpoint_request
from ropd_cli.llm.cost_estimate import forecast
from ropd_cli.llm.shared import Shared
from ropd_cli.llm.urls import base_url, builtin_query, identity, model_name
from ropd_cli.records.files import write_atomic
from ropd_cli.records.outputs import sole_writer
from ropd_cli.records.schemas import digest
from ropd_cli.report.eval_report import markdown, page, terminal
from ropd_cli.stages.runner import Tally
from ropd_cli.util.progress import Progress

TIMEOUT_S = 3600.0
"""Timeout of a request to the model under test without --timeout: 16 answers of 32,768 tokens take their time."""

JUDGED = frozenset({"healthbench", "rubric", "teacher"})
"""Graders that ask a judge."""


class SamplesLeft(TypedDict):
    """With ``--dry-run`` and a model on this machine."""

    samples: int
    """That are not drawn yet."""


def student_endpoint(config: RopdConfig, seed: int | None, *, default_timeout: bool) -> EndpointConfig:
    """Return the endpoint of the model under test, with the evaluation's sampling."""
    endpoint = with_model(config.student.endpoint, "student.endpoint")
    sampling = {name: getattr(config.eval, name) for name in ("temperature", "top_p", "max_tokens")} | {"seed": seed}
    update: dict[str, Any] = {"sampling": endpoint.sampling.model_copy(update=sampling)}
    if default_timeout and endpoint.limits.timeout_s < TIMEOUT_S:
        update["limits"] = endpoint.limits.model_copy(update={"timeout_s": TIMEOUT_S})
    if config.student.enable_thinking is not None:
        template = endpoint.extra_body.get("chat_template_kwargs", {})
        template = {**template, "enable_thinking": config.student.enable_thinking}
        update["extra_body"] = endpoint.extra_body | {"chat_template_kwargs": template}
    return endpoint.model_copy(update=update)


@dataclass
class Evaluating:
    """One ``ropd eval``. Without an ``endpoint`` the model under test runs on vLLM on this machine."""

    screen: Screen
    config: RopdConfig
    run: EvalRun
    requests: RequestOptions
    endpoint: EndpointConfig | None
    device: Device
    limit: int | None
    seed: int | None
    show_items: bool
    meter: Meter = field(default_factory=Meter)
    stats: ClientStats = field(default_factory=ClientStats)

    def evaluate(self) -> None:
        """Do what is not done yet, and print the report. Exit code 3 where some samples or grades are missing."""
        config = self.config
        with ExitStack() as stack:
            cache = open_cache(stack, config, not self.requests.no_cache)
            progress = self.screen.progress(self._status)
            shared = Shared.of(config, progress.note)
            shared.announce = progress.note
            tools = Tools(config, cache, shared, os.environ)
            chosen = open_benchmarks(
                config.eval.benchmarks,
                config.eval.data,
                config.eval.grader,
                tools,
                n=config.eval.n,
                limit=self.limit,
            )
            for choice in chosen:
                if choice.why.startswith("its questions"):
                    self.screen.note(f"{choice.benchmark.name}: graded by {choice.kind}, as {choice.why}")
            asked = self._asked()
            self.run.check(asked)
            if self.requests.dry_run:
                self._forecast(chosen, cache, shared)
                return
            if self.endpoint is not None:
                check_key(self.endpoint, _requests(self.endpoint, self._left_to_draw(chosen)), cache)
            stack.enter_context(sole_writer(self.run.path, directory=True))
            self.run.write_settings((self.run.read_settings() or {}) | self._settings(chosen) | {"asked": asked})
            try:
                tally = self.screen.run(self._work(chosen, tools, cache, shared, progress))
            finally:
                self._book_judging(tools.judge_stats)
            document = self._report(chosen, shared)
        # --json has the report without the lists of questions.
        figures = [
            {name: value for name, value in each.items() if name not in ("questions", "question_hashes", "items")}
            for each in document["benchmarks"]
        ]
        self.screen.result({**document, "benchmarks": figures, "out": str(self.run.path)}, terminal(document))
        self.screen.note(f"{self.run.report}, report.md and report.html beside it")
        missing = sum(each["figures"]["missing"] for each in document["benchmarks"])
        exit_partial(tally.failed or missing)

    async def _work(
        self, chosen: Sequence[Choice], tools: Tools, cache: ReplyCache | None, shared: Shared, progress: Progress
    ) -> Tally:
        @asynccontextmanager
        async def open_source() -> AsyncIterator[Source]:
            if self.endpoint is not None:
                async with ChatClient.open(self.endpoint, cache=cache, shared=shared, stats=self.stats) as client:
                    yield EndpointSource(client)
                return
            wanted = self.config.eval
            engine = engine_options(
                self.config, self.device, 0.9, max_model_len=wanted.max_model_len, max_num_seqs=wanted.max_num_seqs
            )
            started = await LocalModel.start(engine, environ=os.environ, log=self.run.log)
            progress.note(f"loading {engine.model_path} into vLLM")
            async with started as model:
                yield LocalSource(model, self._sampling())

        async with tools:
            return await evaluate(
                self.run,
                [choice.benchmark for choice in chosen],
                self._how(),
                open_source,
                self.meter,
                system_prompt=self.config.student.system_prompt,
                max_failed_fraction=self.requests.max_failed_fraction,
                progress=progress,
            )

    def _report(self, chosen: Sequence[Choice], shared: Shared) -> dict[str, Any]:
        """Write the reports, and return their document."""
        price, warnings = None, []
        if self.endpoint is not None:
            price = shared.budget.price(str(self.endpoint.model), base_url(self.endpoint))
        else:
            names = [choice.benchmark.name for choice in chosen]
            warnings = selection_warnings(str(self.config.student.model_path), names)
        document = report_document(
            self.run,
            chosen,
            self._settings(chosen),
            price=price,
            judging_usd=(self.run.read_settings() or {}).get("judging_usd", {}),
            warnings=warnings,
            show_items=self.show_items,
        )
        options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        write_atomic(self.run.report, orjson.dumps(document, option=options))
        write_atomic(self.run.path / "report.md", markdown(document))
        write_atomic(self.run.path / "report.html", page(document))
        return document

    def _settings(self, chosen: Sequence[Choice]) -> Settings:
        """Return what the report says of the model and how it was asked."""
        how = self._how()
        needs_judge = any(choice.kind in JUDGED for choice in chosen)
        return {
            "model": self.endpoint.model if self.endpoint is not None else self.config.student.model_path,
            "endpoint": self._place(),
            "fingerprint": how["model"] if self.endpoint is None else None,
            "sampling": how["sampling"],
            "seed": self.seed,
            "shuffle_seed": self.config.seed,
            "thinking": self.config.student.enable_thinking,
            "system_prompt": self.config.student.system_prompt,
            "judge": self.config.verifier.model if needs_judge else None,
            "limit": self.limit,
            "tokens_per_s": self.meter.tokens / self.meter.seconds if self.meter.seconds else None,
        }

    def _book_judging(self, stats: dict[str, ClientStats]) -> None:
        """Add what judging has cost now to what it had cost before."""
        known = self.run.read_settings() or {}
        spent = dict(known.get("judging_usd", {}))
        for benchmark, each in stats.items():
            if each.cost_usd is not None:
                spent[benchmark] = spent.get(benchmark, 0.0) + each.cost_usd
        self.run.write_settings(known | {"judging_usd": spent})

    def _status(self, _done: int, _total: int) -> str:
        words = stats_words([self.stats], 0, 0, 0) if self.endpoint is not None else ""
        return ", ".join(filter(None, (str(self.meter), words)))

    def _sampling(self) -> SamplingOptions:
        wanted = self.config.eval
        return SamplingOptions(
            n=wanted.n,
            temperature=1.0 if wanted.temperature is None else wanted.temperature,
            top_p=1.0 if wanted.top_p is None else wanted.top_p,
            max_tokens=wanted.max_tokens,
            seed=self.seed,
        )

    def _how(self) -> dict[str, Any]:
        """Return all that shapes an answer besides its messages."""
        if self.endpoint is not None:
            return {
                "model": self.endpoint.model,
                "url": identity(base_url(self.endpoint)),
                "sampling": self.endpoint.sampling.model_dump(mode="json", exclude_none=True),
                "extra_body": self.endpoint.extra_body,
            }
        sampling = asdict(self._sampling())
        return {
            "model": fingerprint(str(self.config.student.model_path)),
            "sampling": {name: value for name, value in sampling.items() if name != "n" and value is not None},
            "thinking": self.config.student.enable_thinking,
            "max_model_len": self.config.eval.max_model_len,
        }

    def _place(self) -> str | None:
        return shown_url(base_url(self.endpoint)) + builtin_query(self.endpoint) if self.endpoint is not None else None

    def _asked(self) -> dict[str, Any]:
        """Return what shapes the samples, flat: what ``EvalRun.check`` compares."""
        student = self.config.student
        how = self._how() | {"system_prompt": student.system_prompt, "thinking": student.enable_thinking}
        if self.endpoint is not None:
            # both may hold a key
            how["url"] = self._place()
            how["extra_body"] = digest(how["extra_body"])[:8]
        return how.pop("sampling") | how

    def _left_to_draw(self, chosen: Sequence[Choice]) -> list[Job]:
        benchmarks = [choice.benchmark for choice in chosen]
        return left_to_draw(self.run, benchmarks, self._how(), self.config.student.system_prompt)

    def _forecast(self, chosen: Sequence[Choice], cache: ReplyCache | None, shared: Shared) -> None:
        jobs = self._left_to_draw(chosen)
        endpoint = self.endpoint
        if endpoint is None:
            samples = sum(len(job.indices) for job in jobs)
            words = f"{samples} samples to draw; a local model costs nothing"
            self.screen.result(SamplesLeft(samples=samples), "; ".join([words, *self._not_included(chosen)]))
            return
        cost = forecast(_requests(endpoint, jobs), endpoint, cache, shared.budget, together=True)
        self.screen.result(cost, "\n".join([in_words(cost), *self._not_included(chosen)]))

    def _not_included(self, chosen: Sequence[Choice]) -> list[str]:
        """Return what a forecast leaves out, in words: the judges of the benchmarks that have any."""
        kinds = {choice.kind for choice in chosen}
        roles = ["verifier"] if kinds & JUDGED else []
        roles += ["rubricator"] if "teacher" in kinds else []
        models = dict.fromkeys(model_name(getattr(self.config, role), role) for role in roles)
        return [f"grading by {' and '.join(models)} is not included"] if models else []


def _requests(endpoint: EndpointConfig, jobs: Iterable[Job]) -> Iterator[ChatRequest]:
    return (endpoint_request(endpoint, job.messages, sample=index) for job in jobs for index in job.indices)
