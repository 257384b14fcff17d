"""What a run came to, in sentences: the same in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Mapping

from ropd_cli.analysis.run_data import RunData

Sentence = tuple[str, str]
"""(words, "good" | "bad" | "")."""


def status(data: RunData) -> str:
    """How far the run came."""
    rows, planned = data.rows, data.planned_steps
    done = len(data.steps)
    of = f" of {planned}" if planned and planned != done else ""
    rollouts = max((row.rollouts for row in rows), default=0)
    if data.result:
        end = "The run is finished"
    elif data.stopped:
        end = f"The run stopped: {data.stopped.get('message')}"
    else:
        end = "The run is not finished"
    return f"{end}: {done}{of} steps, {len(rows):,} groups of {rollouts} rollouts."


def course(data: RunData) -> list[Sentence]:
    """Whether the reward rose, where the teacher is, and what keeps groups from teaching."""
    lines: list[Sentence] = []
    trend = data.trend
    if trend is None:
        lines.append(("There are too few steps to say whether the reward rose.", ""))
    else:
        before, after, change = trend
        moved = "rose" if change.low > 0 else "fell" if change.high < 0 else "did not clearly change"
        css = "good" if change.low > 0 else "bad"
        lines.append(
            (
                f"The mean reward {moved}: {before:.2f} in the first third of the steps, {after:.2f} in the last "
                f"({change.mean:+.2f}, 95% interval {change.low:+.2f} to {change.high:+.2f}).",
                css,
            )
        )
    lines += _teacher(data)
    judged = data.judged
    dead = sum(row.dead for row in judged)
    if judged and dead > 0.3 * len(judged):
        lines.append((f"{dead / len(judged):.0%} of the groups had equal rewards and taught nothing.", "bad"))
    if data.hardest:
        hard = data.hardest[0]
        teacher = f", by {hard.met.teacher_rate:.0%} of the teacher's answers" if hard.met.teacher_of else ""
        kind = " and the like, with other numbers" if hard.alike > 1 else ""
        lines.append(
            (
                f"The hardest criterion: “{hard.text}”{kind}. Over the whole run it is met by "
                f"{hard.met.student_rate or 0:.0%} of the rollouts{teacher}.",
                "",
            )
        )
    failed = len(data.failed)
    words = (
        f"{failed:,} of {len(data.rows):,} groups could not be judged; they stay out of the update."
        if failed
        else ("Every group was judged.")
    )
    lines.append((words, "bad" if failed > 0.1 * len(data.rows) else ""))
    return lines


def _teacher(data: RunData) -> list[Sentence]:
    known = [(row.mean, row.teacher) for row in data.ends[1] if row.mean is not None and row.teacher is not None]
    if not known:
        return []
    student, teacher = (sum(side) / len(known) for side in zip(*known, strict=True))
    below = sum(row.teacher_below for row in data.judged) / len(data.judged)
    lines: list[Sentence] = [
        (
            f"By the same rubrics the teacher's answers score {teacher:.2f} in the last third, the student's "
            f"{student:.2f}.",
            "",
        )
    ]
    if below > 0.2:
        lines.append((f"In {below:.0%} of the groups the teacher scores below the student: read those rubrics.", "bad"))
    return lines


def _measured(figure: Mapping[str, float]) -> str:
    return f"{figure['value']:.1%} ({figure['low']:.1%} to {figure['high']:.1%})"


def watched(data: RunData) -> list[Sentence]:
    """What the monitor said."""
    return [(f"Monitor: {row.get('message', row)}.", "bad") for row in data.monitor]


def validated(data: RunData) -> list[Sentence]:
    """What validation says: first, last, best."""
    lines: list[Sentence] = []
    if not data.validations:
        return lines
    first, last = data.validations[0], data.validations[-1]
    for name, found in last["benchmarks"].items():
        metric = next((key for key, figure in found["metrics"].items() if figure), None)
        before = first["benchmarks"].get(name, {}).get("metrics", {}).get(metric)
        if metric is None or not before or first["step"] == last["step"]:
            continue
        after = found["metrics"][metric]
        lines.append(
            (
                f"Validation on {name}: {_measured(before)} at step {first['step']}, {_measured(after)} at step "
                f"{last['step']}.",
                "",
            )
        )
    if data.best:
        lines.append(
            (f"The best checkpoint is that of step {data.best['step']}, chosen by {data.best['benchmark']}.", "")
        )
    return lines
