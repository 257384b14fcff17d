"""What a run came to, in sentences: the same in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ropd_cli.analysis.run_data import RunData
from ropd_cli.util.counted import counted

Sentence = tuple[str, str]
"""(words, "good" | "bad" | "")."""
_CUT_OFF = 0.2
"""Share of a step's rollouts that were cut off, from which on it is worth a look."""
_FLAT = 0.1
"""The same of the groups of the last third that are without spread."""


def outcome(run: RunData) -> list[Sentence]:
    """Return how far the run came, whether the student learned, and what validation says."""
    return [(status(run), ""), *course(run), *_validated(run), *((words, "") for words in _shaped(run.config))]


def status(run: RunData) -> str:
    """Return how far the run came."""
    planned, done = run.planned_steps, len(run.steps)
    steps = f"{done} of {planned} steps" if planned and planned != done else counted(done, "step")
    if run.result:
        end = "The run is finished"
    elif run.stopped:
        end = f"The run stopped: {run.stopped.get('message')}"
    else:
        end = "The run is not finished"
    if run.is_supervised:
        made = f"{run.total('answers/trained') or 0:,.0f} teacher answers"
    else:
        sizes = [row.rollouts for row in run.rows] or [0]
        least = f"{min(sizes)} to " if min(sizes) < max(sizes) else ""
        made = f"{counted(len(run.rows), 'group')} of {least}{counted(max(sizes), 'rollout')}"
    left_out = "".join(f" Step {step} is not finished, and its groups do not count here." for step in run.unfinished)
    return f"{end}: {steps}, {made}.{left_out}"


def course(run: RunData) -> list[Sentence]:
    """Return whether the reward rose, where the teacher is, and what keeps groups from teaching; of a run on the
    teacher's answers where its loss went."""
    if run.is_supervised:
        return _supervised(run)
    lines: list[Sentence] = []
    if is_unrewarded(run.config):
        pass
    elif run.trend is None:
        lines.append(("There are too few steps to say whether the reward rose.", ""))
    else:
        before, after, change = run.trend
        moved = "rose" if change.low > 0 else "fell" if change.high < 0 else "did not clearly change"
        words = (
            f"The mean reward {moved}: {before:.2f} in the first third of the steps, {after:.2f} in the last "
            f"({change.mean:+.2f}, 95% interval {change.low:+.2f} to {change.high:+.2f})."
        )
        lines.append((words, "good" if change.low > 0 else "bad"))
    lines += _teacher(run)
    judged = run.judged
    flat = sum(row.zero_variance for row in judged)
    if judged and flat > 0.3 * len(judged) and not is_unrewarded(run.config):
        lines.append((f"{flat / len(judged):.0%} of the groups were without spread and taught nothing.", "bad"))
    if run.hardest:
        hard = run.hardest[0]
        teacher = f", by {hard.met.teacher_rate:.0%} of the teacher's answers" if hard.met.teacher_of else ""
        kind = " and the like, with other numbers" if len(hard.texts) > 1 else ""
        words = (
            f"The hardest criterion: “{hard.text}”{kind}. Over the whole run it is met by "
            f"{hard.met.student_rate or 0:.0%} of the rollouts{teacher}."
        )
        lines.append((words, ""))
    failed, of = len(run.failed), len(run.rows)
    words = f"{failed:,} of {counted(of, 'group')} could not be judged; they stay out of the update."
    whole = "No group failed." if is_unrewarded(run.config) else "Every group was judged."
    lines.append((words if failed else whole, "bad" if failed > 0.1 * of else ""))
    return lines


def _supervised(run: RunData) -> list[Sentence]:
    thirds = run.thirds("train/loss")
    if thirds is None:
        lines: list[Sentence] = [("There are too few steps to say where the loss went.", "")]
    else:
        before, after = thirds
        moved, mood = ("fell", "good") if after < before else ("did not fall", "bad")
        words = f"The mean loss {moved}: {before:.3g} in the first third of the steps, {after:.3g} in the last."
        lines = [(words, mood)]
    if cut := run.total("answers/too_long"):
        limit = setting(run.config, "data.max_response_tokens")
        words = (
            f"{counted(int(cut), 'answer')} had more than {counted(limit, 'token')} "
            "(data.max_response_tokens) and were cut off."
        )
        lines.append((words, "bad"))
    return lines


def _teacher(run: RunData) -> list[Sentence]:
    known = [(row.mean, row.teacher) for row in run.ends[1] if row.mean is not None and row.teacher is not None]
    if not known:
        return []
    student, teacher = (sum(side) / len(known) for side in zip(*known, strict=True))
    words = (
        f"By the same rubrics the teacher's answers score {teacher:.2f} in the last third, the student's {student:.2f}."
    )
    lines: list[Sentence] = [(words, "")]
    below = sum(row.below for row in run.judged) / len(run.judged)
    if below > 0.2:
        lines.append((f"In {below:.0%} of the groups the teacher scores below the student: read those rubrics.", "bad"))
    return lines


def _validated(run: RunData) -> list[Sentence]:
    """Return what validation says: first, last, best."""

    def measured(figure: Mapping[str, float]) -> str:
        return f"{figure['value']:.1%} ({figure['low']:.1%} to {figure['high']:.1%})"

    lines: list[Sentence] = []
    if not run.validations:
        return lines
    first, last = run.validations[0], run.validations[-1]
    for name, benchmark in last["benchmarks"].items():
        metric = next((key for key, figure in benchmark["metrics"].items() if figure), None)
        before = first["benchmarks"].get(name, {}).get("metrics", {}).get(metric)
        if metric is None or not before or first["step"] == last["step"]:
            continue
        after = measured(benchmark["metrics"][metric])
        words = f"{measured(before)} at step {first['step']}, {after} at step {last['step']}"
        lines.append((f"Validation on {name}: {words}.", ""))
    if run.best:
        step, benchmark = run.best["step"], run.best["benchmark"]
        lines.append((f"The best checkpoint is that of step {step}, chosen by {benchmark}.", ""))
    return lines


def _shaped(config: Any) -> list[str]:
    """Return in what the numbers that GRPO is given differ from the rewards."""
    lines = []
    if setting(config, "reward.criterion_weights") == "discriminating":
        lines.append("a criterion weighs the more, the better it separates the rollouts of its group")
    if rate := setting(config, "reward.criterion_dropout"):
        lines.append(f"of each group's criteria {rate:.0%} are left out, by lot")
    if setting(config, "reward.combine") == "separate":
        lines.append("each part of the reward is normalised within the group before the sum")
    return [f"GRPO is given other numbers than these rewards: {'; '.join(lines)}."] if lines else []


def watched(run: RunData) -> list[Sentence]:
    """Return what the monitor said."""
    return [(f"Monitor: {row.get('message', row)}.", "bad") for row in run.monitor]


def lost(run: RunData) -> list[str]:
    """Return what has no reward, though its group was judged, or was left out."""
    lines = []
    if missing := sum(row.missing for row in run.judged):
        lines.append(f"No reward for {counted(missing, 'rollout')} of judged groups: no judgement, or no answer.")
    if silent := run.total("groups/no_answer_rollouts"):
        lines.append(f"{counted(int(silent), 'rollout')} empty or cut off while thinking.")
    if run.skipped:
        lines.append(f"{counted(run.skipped, 'prompt')} left out for want of teacher answers (skipped.jsonl).")
    return lines


def worth_a_look(run: RunData) -> list[str]:
    """Return what did not fail but should be read: rollouts cut off, groups that teach nothing."""
    lines = []
    cut = run.series("rollouts/cut_off")
    step, share = max(cut, key=lambda point: point[1], default=(0, 0.0))
    if share >= _CUT_OFF:
        mean = sum(value for _, value in cut) / len(cut)
        lines.append(
            f"Up to {share:.0%} of a step's rollouts (step {step}; {mean:.0%} on average) reached the limit of "
            f"{setting(run.config, 'data.max_response_tokens')} tokens (data.max_response_tokens) and were cut off."
        )
    if run.ends[1]:
        before, after = (sum(row.zero_variance for row in rows) / len(rows) for rows in run.ends)
        if after >= _FLAT and not is_unrewarded(run.config):
            lines.append(
                f"Groups without spread, from which nothing is learned: {before:.0%} in the first third of the steps, "
                f"{after:.0%} in the last. That is so where prompts have become too easy, or are too hard."
            )
    return lines


def is_unrewarded(config: Any) -> bool:
    """Return whether a run's method learns from log-probabilities, and its rewards say nothing."""
    return setting(config, "method") in ("lopd", "exopd")


def setting(config: Any, path: str) -> Any:
    """Return the value under a dotted path of a configuration; None where there is none."""
    for key in path.split("."):
        config = config.get(key) if isinstance(config, Mapping) else None
    return config
