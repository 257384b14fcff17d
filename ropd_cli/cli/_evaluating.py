"""The work of ``ropd eval``: opens the model, the judge and the benchmarks, runs them, and reports."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ropd_cli.cli._screen import Screen, exit_partial
from ropd_cli.cli._stages import in_words, open_cache, stats_words, with_model
from ropd_cli.errors import InputError

if TYPE_CHECKING:
    from ropd_cli.config import EndpointConfig, RopdConfig
    from ropd_cli.engines.vllm_sampling import EngineOptions, SamplingOptions
    from ropd_cli.evaluation.benchmarks import Choice
    from ropd_cli.evaluation.sources import Source
    from ropd_cli.llm.cache import ReplyCache
    from ropd_cli.llm.chat import ClientStats
    from ropd_cli.llm.shared import Shared

TIMEOUT_S = 3600.0
"""Timeout of a request to the model under test without --timeout: 16 answers of 32,768 tokens take their time."""


class Evaluating:
    """One ``ropd eval``."""

    def __init__(
        self,
        screen: Screen,
        config: RopdConfig,
        out: Path,
        *,
        at_endpoint: bool,
        device: Literal["cpu", "gpu"] | None,
        limit: int | None,
        seed: int | None,
        default_timeout: bool,
        cached: bool,
        show_items: bool,
        max_failed_fraction: float | None,
    ) -> None:
        from ropd_cli.evaluation.sampling import Meter
        from ropd_cli.evaluation.store import EvalRun
        from ropd_cli.llm.chat import ClientStats

        if not config.eval.benchmarks:
            raise InputError("no benchmark is named", "--benchmarks aime24,ifeval, or eval.benchmarks")
        self._screen, self._config, self._run = screen, config, EvalRun(out)
        self._device, self._limit, self._seed = device, limit, seed
        self._cached, self._show_items, self._max_failed = cached, show_items, max_failed_fraction
        self._default_timeout = default_timeout
        self._meter, self._stats = Meter(), ClientStats()
        self._endpoint = self._student_endpoint() if at_endpoint else None  # None: the model runs on vLLM here

    def run(self, *, dry_run: bool) -> None:
        """Do what is not done yet, and print the report. Exit code 3 where some samples or grades are missing."""
        from ropd_cli.evaluation.benchmarks import open_benchmarks
        from ropd_cli.evaluation.graders import Tools
        from ropd_cli.llm.shared import Shared

        config = self._config
        with ExitStack() as stack:
            cache = open_cache(stack, config, self._cached)
            progress = self._screen.progress(self._status)
            shared = Shared.of(config, progress.note)
            tools = Tools(config, cache, shared, os.environ)
            chosen = open_benchmarks(
                config.eval.benchmarks,
                config.eval.data,
                config.eval.grader,
                tools,
                n=config.eval.n,
                limit=self._limit,
            )
            for choice in chosen:
                if choice.why.startswith("its questions"):
                    self._screen.note(f"{choice.benchmark.name}: graded by {choice.kind}, as {choice.why}")
            if dry_run:
                self._forecast(chosen, cache, shared)
                return
            self._work(chosen, tools, cache, shared, progress)

    def _work(self, chosen: list[Choice], tools: Any, cache: ReplyCache | None, shared: Shared, progress: Any) -> None:
        from ropd_cli.evaluation.evaluate import evaluate
        from ropd_cli.report.eval_report import terminal

        @asynccontextmanager
        async def open_source() -> AsyncIterator[Source]:
            from ropd_cli.engines.vllm_sampling import LocalModel
            from ropd_cli.evaluation.sources import EndpointSource, LocalSource
            from ropd_cli.llm.client import ChatClient

            if self._endpoint is not None:
                async with ChatClient.open(self._endpoint, cache=cache, shared=shared, stats=self._stats) as client:
                    yield EndpointSource(client)
                return
            engine = self._engine()
            progress.note(f"loading {engine.model_path} into vLLM")
            async with await LocalModel.start(engine, environ=os.environ, log=self._run.log) as model:
                yield LocalSource(model, self._sampling())

        async def work() -> Any:
            async with tools:
                return await evaluate(
                    self._run,
                    [choice.benchmark for choice in chosen],
                    self._how(),
                    open_source,
                    self._meter,
                    system_prompt=self._config.student.system_prompt,
                    max_failed_fraction=self._max_failed,
                    progress=progress,
                )

        self._run.path.mkdir(parents=True, exist_ok=True)
        self._run.write_settings((self._run.read_settings() or {}) | self._settings(chosen))
        try:
            tally = self._screen.run(work())
        finally:
            self._book_judging(tools.judge_stats)
        document = self._report(chosen, shared)
        # --json has the report without the lists of questions.
        figures = [
            {name: value for name, value in each.items() if name not in ("questions", "items")}
            for each in document["benchmarks"]
        ]
        self._screen.result({**document, "benchmarks": figures, "out": str(self._run.path)}, terminal(document))
        self._screen.note(f"{self._run.report}, report.md and report.html beside it")
        missing = sum(each["figures"]["missing"] for each in document["benchmarks"])
        exit_partial(tally.failed or missing)

    def _report(self, chosen: list[Choice], shared: Shared) -> dict[str, Any]:
        """Write the reports, and return their document."""
        import orjson

        from ropd_cli.evaluation.contamination import selection_warnings
        from ropd_cli.evaluation.summary import report_document
        from ropd_cli.llm.urls import base_url
        from ropd_cli.records.files import write_atomic
        from ropd_cli.report.eval_report import markdown, page

        price, warnings = None, []
        if self._endpoint is not None:
            price = shared.budget.price(str(self._endpoint.model), base_url(self._endpoint))
        else:
            names = [choice.benchmark.name for choice in chosen]
            warnings = selection_warnings(str(self._config.student.model_path), names)
        document = report_document(
            self._run,
            chosen,
            self._settings(chosen),
            price=price,
            judging_usd=(self._run.read_settings() or {}).get("judging_usd", {}),
            warnings=warnings,
            show_items=self._show_items,
        )
        options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        write_atomic(self._run.report, orjson.dumps(document, option=options))
        write_atomic(self._run.path / "report.md", markdown(document).encode())
        write_atomic(self._run.path / "report.html", page(document).encode())
        return document

    def _settings(self, chosen: list[Choice]) -> dict[str, Any]:
        """Return what the report says of the model and how it was asked."""
        from ropd_cli.llm.urls import base_url, shown_url

        how = self._how()
        needs_judge = any(choice.kind in ("healthbench", "rubric", "teacher") for choice in chosen)
        rate = self._meter.tokens / self._meter.seconds if self._meter.seconds else None
        return {
            "model": self._endpoint.model if self._endpoint is not None else self._config.student.model_path,
            "endpoint": shown_url(base_url(self._endpoint)) if self._endpoint is not None else None,
            "fingerprint": how["model"] if self._endpoint is None else None,
            "sampling": how["sampling"],
            "seed": self._seed,
            "shuffle_seed": self._config.seed,
            "thinking": self._config.student.enable_thinking,
            "system_prompt": self._config.student.system_prompt,
            "judge": self._config.verifier.model if needs_judge else None,
            "limit": self._limit,
            "tokens_per_s": rate,
        }

    def _book_judging(self, stats: dict[str, ClientStats]) -> None:
        """Add what judging has cost now to what it had cost before."""
        known = self._run.read_settings() or {}
        spent = dict(known.get("judging_usd", {}))
        for benchmark, each in stats.items():
            if each.cost_usd is not None:
                spent[benchmark] = spent.get(benchmark, 0.0) + each.cost_usd
        self._run.write_settings(known | {"judging_usd": spent})

    def _status(self, _share_done: float) -> str:
        words = stats_words([self._stats], 0.0) if self._endpoint is not None else ""
        return ", ".join(filter(None, (str(self._meter), words)))

    def _student_endpoint(self) -> EndpointConfig:
        """Return the endpoint of the model under test, with the evaluation's sampling."""
        config, endpoint = self._config, with_model(self._config.student.endpoint, "student.endpoint")
        sampling = {name: getattr(config.eval, name) for name in ("temperature", "top_p", "max_tokens")}
        update: dict[str, Any] = {"sampling": endpoint.sampling.model_copy(update=sampling | {"seed": self._seed})}
        if self._default_timeout and endpoint.limits.timeout_s < TIMEOUT_S:
            update["limits"] = endpoint.limits.model_copy(update={"timeout_s": TIMEOUT_S})
        if config.student.enable_thinking is not None:
            template = endpoint.extra_body.get("chat_template_kwargs", {})
            template = {**template, "enable_thinking": config.student.enable_thinking}
            update["extra_body"] = endpoint.extra_body | {"chat_template_kwargs": template}
        return endpoint.model_copy(update=update)

    def _sampling(self) -> SamplingOptions:
        from ropd_cli.engines.vllm_sampling import SamplingOptions

        wanted = self._config.eval
        return SamplingOptions(
            n=wanted.n,
            temperature=1.0 if wanted.temperature is None else wanted.temperature,
            top_p=1.0 if wanted.top_p is None else wanted.top_p,
            max_tokens=wanted.max_tokens,
            seed=self._seed,
        )

    def _engine(self) -> EngineOptions:
        from ropd_cli.engines.vllm_sampling import EngineOptions, installed_device

        config = self._config
        return EngineOptions(
            model_path=str(config.student.model_path),
            device=self._device or installed_device(),
            dtype=config.student.dtype or "auto",
            max_model_len=config.eval.max_model_len,
            max_num_seqs=config.eval.max_num_seqs,
            gpu_memory_utilization=max(config.rollout.gpu_memory_utilization, 0.9),  # no trainer beside it
            tensor_parallel_size=config.rollout.tensor_parallel_size,
            kv_cache_gb=config.rollout.kv_cache_gb,
            enable_thinking=config.student.enable_thinking,
        )

    def _how(self) -> dict[str, Any]:
        """Return all that shapes an answer besides its messages."""
        from dataclasses import asdict

        from ropd_cli.evaluation.sources import fingerprint
        from ropd_cli.llm.urls import base_url, identity

        if self._endpoint is not None:
            return {
                "model": self._endpoint.model,
                "url": identity(base_url(self._endpoint)),
                "sampling": self._endpoint.sampling.model_dump(mode="json", exclude_none=True),
                "extra_body": self._endpoint.extra_body,
            }
        sampling = asdict(self._sampling())
        return {
            "model": fingerprint(str(self._config.student.model_path)),
            "sampling": {name: value for name, value in sampling.items() if name != "n" and value is not None},
            "thinking": self._config.student.enable_thinking,
            "max_model_len": self._config.eval.max_model_len,
        }

    def _forecast(self, chosen: list[Choice], cache: ReplyCache | None, shared: Shared) -> None:
        from ropd_cli.evaluation.sampling import left_to_draw
        from ropd_cli.llm.client import endpoint_request
        from ropd_cli.llm.cost_estimate import forecast

        jobs = left_to_draw(
            self._run, [choice.benchmark for choice in chosen], self._how(), self._config.student.system_prompt
        )
        endpoint = self._endpoint
        if endpoint is None:
            samples = sum(len(job.indices) for job in jobs)
            self._screen.result({"samples": samples}, f"{samples} samples to draw; a local model costs nothing")
            return
        requests = (endpoint_request(endpoint, job.messages, sample=index) for job in jobs for index in job.indices)
        cost = forecast(requests, endpoint, cache, shared.budget)
        self._screen.result({"model": endpoint.model} | cost.as_dict(), in_words(cost, str(endpoint.model)))
