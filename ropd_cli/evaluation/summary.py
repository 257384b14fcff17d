"""The report of an evaluation as a document: what was measured, how, and how far it can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from typing_extensions import TypedDict

from ropd_cli import __version__
from ropd_cli.config.models import PriceConfig
from ropd_cli.evaluation.benchmarks import Choice
from ropd_cli.evaluation.samples import Grade, Metric, Sample
from ropd_cli.evaluation.statistics import FiguresShown, benchmark_figures, lengths_of
from ropd_cli.evaluation.store import EvalRun
from ropd_cli.llm.money import cost_usd
from ropd_cli.records.schemas import digest
from ropd_cli.util.counted import counted

WORTH_A_WARNING = 0.01
"""A share of missing grades above this is warned of."""
CUT_WARNING = 0.1


class Settings(TypedDict):
    """The model, and how it was asked."""

    model: str | None
    endpoint: str | None
    """URL, without secrets; null for a model on this machine."""
    fingerprint: str | None
    """Hash of the weights of a model on this machine."""
    sampling: dict[str, Any]
    seed: int | None
    shuffle_seed: int
    thinking: bool | None
    system_prompt: str | None
    judge: str | None
    """Model that grades by rubrics; null where none does."""
    limit: int | None
    tokens_per_s: float | None
    """Of replies that were drawn by this command."""


class Costs(TypedDict):
    """Dollars; null where no price is known."""

    sampling: float | None
    judging: float | None


class BenchmarkShown(TypedDict):
    name: str
    kind: str
    """How answers are graded."""
    source: str
    shareable: bool
    n: int
    """Samples per problem."""
    metrics_of: list[Metric]
    figures: FiguresShown
    cost_usd: Costs


class Report(Settings):
    """The report of an evaluation, as ``report.json`` has it but for the ids and texts of questions."""

    ropd: str
    """Version."""
    created: str
    """UTC."""
    warnings: list[str]
    cost_usd: float | None
    benchmarks: list[BenchmarkShown]
    out: str


def report_document(
    run: EvalRun,
    chosen: Sequence[Choice],
    settings: Settings,
    *,
    price: PriceConfig | None,
    judging_usd: Mapping[str, float | None],
    warnings: Sequence[str],
    show_items: bool,
) -> dict[str, Any]:
    """The report of what lies in ``run``. ``price`` is the tested model's; ``judging_usd`` by benchmark. Texts stand in
    it with ``show_items`` only."""
    benchmarks = [
        _benchmark(run, choice, price, judging_usd.get(choice.benchmark.name), show_items) for choice in chosen
    ]
    costs = [value for each in benchmarks for value in each["cost_usd"].values() if value is not None]
    return {
        "ropd": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **settings,
        "warnings": [*warnings, *(warning for each in benchmarks for warning in each.pop("warnings"))],
        "cost_usd": sum(costs) if costs else None,
        "benchmarks": benchmarks,
    }


def _benchmark(
    run: EvalRun, choice: Choice, price: PriceConfig | None, judging_usd: float | None, show_items: bool
) -> dict[str, Any]:
    benchmark = choice.benchmark
    ids = [question.id for question in benchmark.questions]
    samples = {(sample.id, sample.sample): sample for sample in run.samples(benchmark.name)}
    grades = run.grades(benchmark.name)
    figures = benchmark_figures(
        ids,
        benchmark.n,
        benchmark.task.metrics,
        grades,
        lengths_of(samples.values(), ids, benchmark.n),
        extracts=benchmark.task.extracts,
    ).document()
    document = {
        "name": benchmark.name,
        "kind": choice.kind,
        "source": benchmark.source,
        "shareable": benchmark.shareable,
        "n": benchmark.n,
        "metrics_of": [asdict(metric) for metric in benchmark.task.metrics],
        "figures": figures,
        "cost_usd": {"sampling": _sampling_usd(samples.values(), price), "judging": judging_usd},
        "questions": ids,
        "question_hashes": [digest(question.text)[:16] for question in benchmark.questions],
        "warnings": _warnings(benchmark.name, figures, benchmark.n),
    }
    if show_items:
        document["items"] = _items(choice, samples, grades)
    return document


def _sampling_usd(samples: Any, price: PriceConfig | None) -> float | None:
    if price is None:
        return None
    known = [sample.usage for sample in samples if sample.usage is not None]
    return sum(cost_usd(price, each.prompt_tokens, each.completion_tokens, each.cached_tokens) for each in known)


def _warnings(name: str, figures: Mapping[str, Any], n: int) -> list[str]:
    found = []
    wanted = figures["problems"] * n
    if figures["missing"] > WORTH_A_WARNING * wanted:
        found.append(
            f"{name}: no grade for {figures['missing']} of {counted(wanted, 'sample')}, left out of the figures"
        )
    if (figures["undecided_share"] or 0.0) > WORTH_A_WARNING:
        found.append(
            f"{name}: the results of {counted(figures['undecided'], 'sample')} were not compared by value and "
            "count as wrong (undecided in the grades says why)"
        )
    if (figures["truncated_share"] or 0.0) > CUT_WARNING:
        found.append(
            f"{name}: {figures['truncated_share']:.0%} of the samples were cut off by the token limit: the score is "
            "that of this limit"
        )
    return found


def _items(
    choice: Choice, samples: Mapping[tuple[str, int], Sample], grades: Mapping[tuple[str, int], Grade]
) -> list[dict[str, Any]]:
    """Questions and answers in full: for the eyes of whoever ran it."""
    items = []
    for question in choice.benchmark.questions:
        answers = [
            {
                "text": sample.text,
                "finish_reason": sample.finish_reason,
                "scores": grade.scores if (grade := grades.get((question.id, number))) else {},
                "extracted": grade.extracted if grade else None,
            }
            for number in range(choice.benchmark.n)
            if (sample := samples.get((question.id, number))) is not None
        ]
        items.append({"id": question.id, "question": question.text, "answer": question.answer, "samples": answers})
    return items
