"""Charts of a run over its steps, and of several runs in one chart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ropd_cli.analysis.run_data import RunData
from ropd_cli.report.charts import Chart, Line, chart
from ropd_cli.report.run_words import is_unrewarded, setting


def course_charts(runs: Sequence[RunData]) -> list[Chart]:
    """Return the charts of a run over its steps; of several runs the same with a line for each run."""
    several = len(runs) > 1

    def metrics(
        title: str, *named: tuple[str, str], axis: str = "", unit: str = "", high: float | None = None
    ) -> Chart | None:
        """Return the chart of metrics: (name, metric); the second is dashed."""
        lines = [
            Line(
                f"{run.name} {name}".strip() if several else name,
                run.series(metric),
                colour=at if several else k,
                dashed=k > 0,
            )
            for at, run in enumerate(runs)
            for k, (name, metric) in enumerate(named)
        ]
        return chart(title, lines, axis=axis, unit=unit, low=0.0, high=high)

    # the loss of lopd is its distance
    is_lopd = all(setting(run.config, "method") == "lopd" for run in runs)
    distance = "actor/distillation/loss" if is_lopd else "actor/distillation/k1"
    charts = [
        metrics("Loss on the teacher's answers, per token", ("loss", "train/loss"), axis="loss"),
        metrics("Distance to the teacher, mean per token", ("", distance), axis="log(student / teacher)"),
        metrics("Loss of the discriminator", ("before its update", "discriminator/loss"), axis="loss"),
        metrics("Pairs in which the discriminator prefers the teacher", ("", "discriminator/accuracy"), unit="%"),
        metrics(
            "Mean score by the rubric" if all(run.has_rubrics for run in runs) else "Mean reward",
            ("rollouts", "reward/mean"),
            ("teacher", "reward/teacher_mean"),
            axis="score" if all(run.has_rubrics for run in runs) else "reward",
            high=1.0,
        ),
        *_validation(runs),
    ]
    if several:
        lines = [Line(run.name, run.share_by_step(lambda row: row.zero_variance), at) for at, run in enumerate(runs)]
        charts.append(chart("Groups without spread", lines, unit="%", low=0.0))
        charts.append(metrics("Seconds per step", ("", "timing_s/step"), unit="s"))
    else:
        charts += _of_one_run(runs[0])
    charts += [
        metrics("Judging one group", ("mean", "judge/seconds_mean"), ("slowest", "judge/seconds_max"), unit="s"),
        metrics("Length of a rollout", ("mean", "response_length/mean"), axis="tokens"),
        metrics("Length of a teacher's answer", ("mean", "answers/tokens_mean"), axis="tokens"),
        metrics("Rollouts that were cut off", ("cut off by the limit", "rollouts/cut_off"), unit="%"),
        metrics(
            "Judges' tokens per step",
            ("prompt", "judge/prompt_tokens"),
            ("reply", "judge/completion_tokens"),
            axis="tokens",
        ),
        chart("Cost of judging", list(_costs(runs)), unit="$", low=0.0),
        metrics(
            "Two judges on the same groups",
            ("first judge", "monitor/first_mean"),
            ("second judge", "monitor/second_mean"),
            axis="score",
            high=1.0,
        ),
        metrics(
            "Rollouts that address the judge",
            ("imitate its tags, or break out of their own", "rollouts/fence_attempts"),
            unit="%",
        ),
    ]
    return [drawn for drawn in charts if drawn]


def _validation(runs: Sequence[RunData]) -> Iterator[Chart | None]:
    """Yield a chart for each benchmark, of its first metric that has a figure."""
    for name in dict.fromkeys(name for run in runs for row in run.validations for name in row["benchmarks"]):
        lines = []
        for at, run in enumerate(runs):
            measured = [(row["step"], row["benchmarks"].get(name, {}).get("metrics", {})) for row in run.validations]
            metric = next((key for _, metrics in measured for key, figure in metrics.items() if figure), None)
            figures = [(step, metrics[metric]) for step, metrics in measured if metric and metrics.get(metric)]
            lines.append(
                Line(
                    run.name if len(runs) > 1 else str(metric),
                    [(step, figure["value"]) for step, figure in figures],
                    at,
                    bars=[(step, figure["low"], figure["high"]) for step, figure in figures],
                )
            )
        yield chart(f"Validation: {name}", lines, axis="score", low=0.0, high=1.0)


def _of_one_run(run: RunData) -> list[Chart | None]:
    """Return the charts that have too many lines for several runs."""
    shares = [Line("failed", run.share_by_step(lambda row: row.error is not None), 4)]
    if not is_unrewarded(run.config):
        shares.insert(0, Line("without spread", run.share_by_step(lambda row: row.zero_variance), 0))
    if run.has_rubrics:
        shares.append(Line("teacher below student", run.share_by_step(lambda row: row.below), 1))
    categories = []
    for k, (name, _) in enumerate(run.category_totals()[:6]):
        met = [(step, met.student_rate) for step, met in sorted(run.categories[name].items())]
        categories.append(Line(name, [(step, rate) for step, rate in met if rate is not None], k))
    often = sorted(run.lint, key=lambda rule: run.lint[rule].total(), reverse=True)[:6]
    waited = dict(run.series("judge/waited_seconds"))
    seconds = [
        Line("rollouts (judged meanwhile)", [(n, s - waited.get(n, 0.0)) for n, s in run.series("timing_s/gen")], 0),
        Line("waiting for the judges alone", sorted(waited.items()), 4),
        Line("update", run.series("timing_s/update_actor"), 1),
        Line("whole step", run.series("timing_s/step"), 5, dashed=True),
    ]
    return [
        chart("Groups that teach nothing", shares, unit="%", low=0.0),
        chart("Criteria met by the rollouts, by category", categories, unit="%", low=0.0, high=1.0),
        chart(
            "Linter findings per group",
            [Line(rule, run.findings_by_step(rule), k) for k, rule in enumerate(often)],
            axis="findings",
            low=0.0,
        ),
        chart("Where a step's seconds go", seconds, unit="s", low=0.0),
    ]


def _costs(runs: Sequence[RunData]) -> Iterator[Line]:
    """Yield what each run has spent on its judges and the monitor's up to each step, where that is anything."""
    for at, run in enumerate(runs):
        total, points = 0.0, []
        monitor = dict(run.series("monitor/cost_usd"))
        for step, cost in run.series("judge/cost_usd"):
            total += cost + monitor.get(step, 0.0)
            points.append((step, total))
        if total:
            yield Line(run.name if len(runs) > 1 else "spent so far", points, at)
