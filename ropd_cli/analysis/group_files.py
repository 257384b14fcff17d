"""Read judged groups back: from a rubrics file, a verdicts file, or a run directory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ropd_cli.analysis.judged_groups import GroupView, question_of
from ropd_cli.errors import IndexMissing, InputError, TooFewAnswers
from ropd_cli.index import TeacherIndex
from ropd_cli.records.files import read_journal
from ropd_cli.records.group_sources import Sources
from ropd_cli.records.lines import warn_once
from ropd_cli.records.packed import Key, Packed
from ropd_cli.records.schemas import (
    AnswerRecord,
    Group,
    RubricRecord,
    VerdictRecord,
    as_messages,
    first_fault,
    load_prompts,
    texts_hash,
)

_SUPERVISED = re.compile("^method: sft$", re.MULTILINE)


def load_groups(path: Path, sources: Sources = Sources()) -> list[GroupView]:
    """Return what ``iter_groups`` yields."""
    return list(iter_groups(path, sources))


def iter_groups(path: Path, sources: Sources = Sources()) -> Iterator[GroupView]:
    """Yield the groups of a file or run directory, in order; ``sources`` add what ``path`` leaves out.

    Raises InputError for a path that holds none.
    """
    files = step_files(path) if path.is_dir() else []
    records: Mapping[Key, RubricRecord] = Packed(sources.rubrics, RubricRecord) if sources.rubrics else {}
    answers: Mapping[Key, AnswerRecord] = Packed(sources.rollouts, AnswerRecord) if sources.rollouts else {}
    known = {(p.uid, p.raw_prompt_hash): p for p in load_prompts(sources.prompts)} if sources.prompts else {}
    is_empty = True
    with closing(TeacherIndex.open(sources.index)) if sources.index and sources.m else nullcontext() as index:
        for view in (view for file in files for view in views_of(file)) if files else _from_file(path):
            is_empty = False
            view = _with_rubric(view, records)
            if sources.rollouts and view.key in answers and not view.rollouts:
                record = answers[view.key]
                view = replace(view, messages=as_messages(record.prompt))
                if _are_judged(view, "rollouts", [rollout.text for rollout in record.answers], sources.rollouts):
                    view = replace(view, rollouts=record.answers)
            if view.question is None and view.key in known:
                prompt = known[view.key]
                question = question_of(prompt.messages)
                view = replace(view, question=question, messages=prompt.messages, answer=prompt.answer)
            if index is not None and sources.index and not view.teacher_answers:
                with suppress(IndexMissing, TooFewAnswers):  # the index has become another since
                    texts = index.answers(*view.key, sources.m, seed=sources.seed)
                    if _are_judged(view, "teacher", texts, sources.index):
                        view = replace(view, teacher_answers=texts)
            yield view
    if is_empty:
        raise InputError(f"{path}: no groups in it", "give a rubrics file, a verdicts file or a run directory")


def step_files(folder: Path) -> list[Path]:
    """Return the group files of a run, in the order of the steps. Raises InputError where there is none."""

    def number(file: Path) -> int:
        digits = file.name.removeprefix("step-").split(".")[0]
        return int(digits) if digits.isdigit() else 0

    files = sorted((folder / "groups").glob("step-*.jsonl*"), key=number)
    config = folder / "config.yaml"
    if not files and config.is_file() and _SUPERVISED.search(config.read_text(encoding="utf-8", errors="replace")):
        raise InputError(
            f"{folder}: a run of method sft has no rubrics; it is trained on the teacher's answers themselves",
            f"ropd report {folder} shows its loss",
        )
    if not files and config.is_file():
        raise InputError(f"{folder}: no step of this run is finished", f"see {folder / 'train.log'}")
    if not files:
        verdicts = folder / "verdicts.jsonl"
        hint = f"give {verdicts}" if verdicts.is_file() else "give the directory of a training run, or a file"
        raise InputError(f"{folder}: no run: no groups/step-N.jsonl.zst in it", hint)
    return files


def views_of(file: Path) -> Iterator[GroupView]:
    """Yield the groups of one step's file, in order. Raises InputError (file and line) for what is none."""
    for line, record in read_journal(file):
        yield view_of(record, f"{file}:{line}")


def _from_file(path: Path) -> Iterator[GroupView]:
    """Yield the groups of a single file; of several records of one group the last counts."""
    last = {_key(record): line for line, record in read_journal(path)}
    for line, record in read_journal(path):
        where = f"{path}:{line}"
        is_step = {"rubric", "verdicts", "rollouts"} <= record.keys()  # one step of a run, whose groups all count
        if not is_step and last[_key(record)] != line:
            continue
        if is_step:
            yield view_of(record, where)
        elif "rewards" in record:
            verdicts = _parse(VerdictRecord, record, where)
            yield GroupView(verdicts.uid, verdicts.raw_prompt_hash, verdicts=verdicts, rewards=verdicts.rewards)
        elif "rubric" in record:
            rubric = _parse(RubricRecord, record, where)
            yield GroupView(rubric.uid, rubric.raw_prompt_hash, rubric=rubric)
        else:
            raise InputError(
                f"{where}: neither a rubric nor verdicts", "give a rubrics file, a verdicts file or a run directory"
            )


def _key(record: dict[str, Any]) -> Key:
    return str(record.get("uid")), str(record.get("raw_prompt_hash"))


def view_of(record: dict[str, Any], where: str) -> GroupView:
    """Return a group as a run's files hold it. Raises InputError that says where."""
    group = _parse(
        Group,
        {
            "uid": record.get("uid"),
            "prompt": record.get("prompt"),
            "raw_prompt_hash": record.get("raw_prompt_hash"),
            "teacher_answers": record.get("teacher_answers") or (),
            "rollouts": record.get("rollouts") or (),
        },
        where,
    )
    error = record.get("error")
    return GroupView(
        uid=group.uid,
        raw_prompt_hash=group.raw_prompt_hash,
        step=record.get("step"),
        question=question_of(group.prompt) if group.prompt else None,
        messages=group.prompt,
        teacher_answers=group.teacher_answers,
        rollouts=group.rollouts,
        rubric=_parse(RubricRecord, record["rubric"], where) if record.get("rubric") else None,
        verdicts=_parse(VerdictRecord, record["verdicts"], where) if record.get("verdicts") else None,
        rewards=tuple(record.get("rewards") or ()),
        error=f"{error.get('type', 'error')}: {error.get('message', '')}" if error else None,
        answer=record.get("answer"),
        left_out=record.get("left_out"),
        replaced=tuple(record.get("replaced") or ()),
    )


def _with_rubric(view: GroupView, records: Mapping[Key, RubricRecord]) -> GroupView:
    """Return the view with its rubric, unless the verdicts were given by another one."""
    record = records.get(view.key)
    other = view.verdicts is not None and record is not None and view.verdicts.rubric_hash != record.rubric_hash
    return view if view.rubric or record is None or other else replace(view, rubric=record)


def _are_judged(view: GroupView, which: str, texts: Iterable[str], file: Path) -> bool:
    """Whether the verdicts are of these texts, as far as is known; warns, once a file, where they are not."""
    judged = getattr(view.verdicts, f"{which}_hash", None)
    if judged is None or judged == texts_hash(texts):
        return True
    words = "other answers than those that were judged, left out here; ropd verify with a new --out judges them"
    warn_once(file, "others", f"{file}: {words} (first: uid {view.uid})")
    return False


def _parse(kind: type[Any], record: Any, where: str) -> Any:
    try:
        return kind.model_validate(record)
    except ValidationError as fault:
        raise InputError(
            f"{where}: not a {kind.__name__} ({first_fault(fault)})", "is it a file that ropd wrote?"
        ) from fault
