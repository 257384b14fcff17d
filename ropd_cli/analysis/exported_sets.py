"""Judged groups as data sets that other trainers read: preference pairs, SFT rows, rubrics, verdicts.

A data set is a folder that ``datasets.load_dataset`` takes as it stands: Parquet below ``data/``, and a card. Columns
have the names of TRL: ``prompt``, ``chosen``, ``rejected`` (conversational), ``messages``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from ropd_cli.analysis.judged_groups import GroupView
from ropd_cli.analysis.run_data import read_document, teacher_models
from ropd_cli.answers.thinking import answer_of
from ropd_cli.config.masking import without_folders
from ropd_cli.errors import InputError
from ropd_cli.records.files import whole_file, write_atomic
from ropd_cli.records.parquet import write_parquet
from ropd_cli.records.schemas import digest
from ropd_cli.util.counted import counted

Kind = Literal["pairs", "sft", "rubrics", "verdicts"]
Row = dict[str, Any]
CARD = "README.md"
TAG = "ropd"
DATA = "data/train-00000-of-00001.parquet"
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_WHAT = {
    "pairs": "Preference pairs: of each group of rollouts the one with the highest and the one with the lowest reward.",
    "sft": "Conversations for supervised fine-tuning.",
    "rubrics": "Rubrics: weighted true/false criteria by which the answers to a prompt are judged.",
    "verdicts": "Verdicts: one row per judged answer, with what the judge said of each criterion.",
}
_COLUMNS = {
    "uid": "the prompt's name in the run",
    "raw_prompt_hash": "SHA-256 of the prompt",
    "step": "training step of the group",
    "prompt": "chat messages",
    "chosen": "the reply with the highest reward, as one message",
    "rejected": "the reply with the lowest reward, as one message",
    "score_chosen": "reward of `chosen`",
    "score_rejected": "reward of `rejected`",
    "messages": "the prompt's messages and the reply",
    "source": "who wrote the answer: student or teacher",
    "reward": "reward of the answer, where it was judged",
    "rollout": "the rollout that the rubric is for, where each has its own",
    "rubric": "criteria with category and points (1 to 5)",
    "rubric_hash": "first 16 hex digits of the rubric's SHA-256",
    "index": "number of the answer among those of its source, from 0",
    "answer": "text of the answer",
    "repeat": "how often the group was judged before, where a run was judged again",
    "judgement": "one true/false per criterion, null where it is missing",
    "score": "share of the points that are met, in [0, 1]; null where it is missing",
    "model": "model that wrote the rubric, or judged",
}


@dataclass
class ExportedSet:
    """Rows of a data set, and what is said of them: ``left_out`` counts groups by why they gave no row."""

    kind: Kind
    rows: list[Row] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    groups: int = 0
    judges: set[str] = field(default_factory=set)
    rubricators: set[str] = field(default_factory=set)

    @property
    def reasons(self) -> str:
        """Why groups gave no row, in words."""
        return ", ".join(f"{count} {reason}" for reason, count in self.left_out.most_common())


def collect(kind: Kind, views: Iterable[GroupView], rows_of: Callable[[GroupView], list[Row] | str]) -> ExportedSet:
    """Return the rows of all groups. ``rows_of`` gives those of one, or why it has none. A row that is there already
    (the rubric of an earlier group, a conversation of an earlier epoch, whatever its reward was) is left out."""
    made, seen = ExportedSet(kind), set[str]()
    for view in views:
        made.groups += 1
        rows = rows_of(view)
        if isinstance(rows, str):
            made.left_out[rows] += 1
            continue
        if view.verdicts is not None:
            made.judges.add(view.verdicts.model)
        if view.rubric is not None and view.rubric.model:
            made.rubricators.add(view.rubric.model)
        if kind in ("pairs", "verdicts"):
            made.rows += rows
            continue
        for row in rows:
            names = ("messages", "source") if kind == "sft" else row.keys() - {"step"}
            same = digest({name: row[name] for name in names})
            if same not in seen:
                made.rows.append(row)
            seen.add(same)
    return made


def pair_rows(view: GroupView, margin: float = 0.0) -> list[Row] | str:
    """Return the best and the worst rollout of a group by reward, where these are more than 0 and at least ``margin``
    apart. A rollout whose reward is missing is neither."""
    known = _rewarded(view)
    if isinstance(known, str):
        return known
    if len(known) < 2:
        return "with fewer than two rewards"
    (best, chosen), (worst, rejected) = max(known, key=_by_reward), min(known, key=_by_reward)
    if best == worst or chosen == rejected:
        return "without spread"
    if best - worst < margin:
        return "within the margin"
    if answer_of(chosen) is None:
        return "without an answer"
    row = _place(view) | {"prompt": _messages(view), "chosen": _reply(chosen), "rejected": _reply(rejected)}
    return [row | {"score_chosen": best, "score_rejected": worst}]


def sft_rows(view: GroupView, source: Literal["best", "teacher", "both"] = "best") -> list[Row] | str:
    """Return the best rollout of a group by reward, its teacher answers, or both. A best reward of 0 is none."""
    if not view.messages:
        return "without their prompt"
    replies: list[tuple[str, str, float | None]] = []
    reason = "without teacher answers"
    if source != "teacher":
        known = _rewarded(view)
        if isinstance(known, str):
            reason = known
        else:
            reason = "without a reward above 0"
            good = [(reward, text) for reward, text in known if reward > 0 and answer_of(text) is not None]
            if good:
                reward, text = max(good, key=_by_reward)
                replies.append(("student", text, reward))
    if source != "best":
        replies += [("teacher", text, None) for text in view.teacher_answers]
    place, prompt = _place(view), _messages(view)
    rows = [
        place | {"messages": prompt + _reply(text), "source": author, "reward": reward}
        for author, text, reward in replies
    ]
    return rows or reason


def rubric_rows(view: GroupView) -> list[Row] | str:
    """Return the rubrics of a group: one, or one per rollout."""
    rows = []
    for each in view.by_rubric:
        if each.criteria is not None and each.rubric is not None:
            row = _place(view) | {"prompt": _messages(view), "rollout": each.of_rollout}
            row |= {"rubric": each.criteria.model_dump(mode="json"), "rubric_hash": each.criteria.hash}
            rows.append(row | {"model": each.rubric.model})
    return rows or "without a rubric"


def verdict_rows(view: GroupView) -> list[Row] | str:
    """Return one row per judged answer of a group; an answer that no judge was shown has none."""
    if view.verdicts is None:
        return "not judged"
    texts = {("student", k): answer.text for k, answer in enumerate(view.rollouts)}
    texts |= {("teacher", k): text for k, text in enumerate(view.teacher_answers)}
    rows = []
    for part in view.by_rubric:
        for answer in part.judged:
            if not answer.was_shown:
                continue
            row = _place(view) | {"prompt": _messages(view), "source": answer.source, "index": answer.index}
            row |= {"answer": texts.get((answer.source, answer.index)), "repeat": view.repeat}
            row |= {"judgement": list(answer.judgement)}
            is_rewarded = answer.source == "student" and answer.index < len(view.rewards)
            row |= {"score": answer.score, "reward": view.rewards[answer.index] if is_rewarded else None}
            rubric = part.criteria.model_dump(mode="json") if part.criteria else None
            rows.append(row | {"rubric": rubric, "model": view.verdicts.model})
    return rows or "not judged"


def _rewarded(view: GroupView) -> list[tuple[float, str]] | str:
    """Return (reward, text) of the rollouts that have a reward of their own, or why there is none."""
    if not view.rewards or view.is_unrewarded:
        return "not judged"
    if not view.messages:
        return "without their prompt"
    if len(view.rollouts) != len(view.rewards):
        return "without their rollouts"
    known = [
        (reward, answer.text)
        for k, (reward, answer) in enumerate(zip(view.rewards, view.rollouts, strict=True))
        if reward is not None and k not in view.replaced
    ]
    return known or ("with all rollouts replaced or missing" if view.replaced else "with all rewards missing")


def _by_reward(item: tuple[float, str]) -> float:
    return item[0]


def _place(view: GroupView) -> Row:
    return {"uid": view.uid, "raw_prompt_hash": view.raw_prompt_hash, "step": view.step}


def _messages(view: GroupView) -> list[dict[str, str]]:
    """Return the prompt's messages with a text each; of content parts their texts."""
    return [{"role": message.role, "content": _text(message.content)} for message in view.messages]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list | tuple) else [content]
    return "\n".join(str(part.get("text", "")) if isinstance(part, Mapping) else str(part) for part in parts)


def _reply(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def check_out(out: Path) -> None:
    """Raise InputError where a folder holds something else than an earlier export, which would be mixed with the new
    one."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: a file", "name a folder")
    if out.is_dir() and any(not entry.is_dir() and entry.name != ".lock" for entry in out.rglob("*")):
        card = out / CARD
        if not card.is_file() or f"\n- {TAG}\n" not in card.read_text(encoding="utf-8", errors="replace"):
            raise InputError(f"{out}: not empty, and no earlier export", "name another folder")


def write_set(made: ExportedSet, out: Path, facts: Mapping[str, str]) -> None:
    """Write the data set's Parquet file and its card; ``facts`` are lines of the card by their heading."""
    absent = {name for name in made.rows[0] if all(row[name] in (None, []) for row in made.rows)}
    rows = [{name: value for name, value in row.items() if name not in absent} for row in made.rows]
    with whole_file(out / DATA) as temporary:
        write_parquet(temporary, rows)
    write_atomic(out / CARD, set_card(made, list(rows[0]), facts))


def set_card(made: ExportedSet, columns: list[str], facts: Mapping[str, str]) -> str:
    """Return the data set's card."""
    head = {
        "pretty_name": f"ropd {made.kind}",
        "license": "unknown",
        "task_categories": ["text-generation"],
        "tags": [TAG, "rubrics", *(["dpo"] if made.kind == "pairs" else [])],
        "size_categories": [next((name for most, name in _SIZES if len(made.rows) < most), "1M<n<10M")],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}],
    }
    counts = f"{counted(len(made.rows), 'row')} from {counted(made.groups, 'group')}."
    lines = [front_matter(head), f"# {made.kind}", "", _WHAT[made.kind], "", counts]
    if made.left_out:
        lines += ["", f"Groups that gave no row: {made.reasons}."]
    lines += ["", "| column | |", "|---|---|", *(f"| `{name}` | {_COLUMNS[name]} |" for name in columns), ""]
    facts = dict(facts) | {"Rubrics by": ", ".join(sorted(made.rubricators)), "Judge": ", ".join(sorted(made.judges))}
    lines += ["## Source", "", *fact_lines(facts), ""]
    lines += ["The licence of the prompts and the terms of the models apply; none is stated here.", ""]
    return "\n".join(lines)


def export_facts(path: Path) -> dict[str, str]:
    """Return what a run's configuration tells of where its groups are from; of a file nothing."""
    config = read_document(path / "config.yaml")
    if not config:
        return {}
    prompts, student = ((config.get(a) or {}).get(b) for a, b in (("data", "prompts"), ("student", "model_path")))
    facts = {"Method": str(config.get("method") or "ropd"), "Prompts": prompts, "Student": student}
    shown = {name: without_folders(str(value)) for name, value in facts.items() if value}
    return shown | {"Teacher": ", ".join(teacher_models(config))}


def front_matter(head: Mapping[str, Any]) -> str:
    """Return the YAML part of a card."""
    return f"---\n{yaml.safe_dump(dict(head), sort_keys=False, allow_unicode=True)}---\n"


def fact_lines(facts: Mapping[str, str]) -> Iterator[str]:
    """Yield the facts that are known as lines of a list."""
    return (f"- {name}: {value}" for name, value in facts.items() if value)
