"""Read judged groups back: from a rubrics file, a verdicts file, or a run directory."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, nullcontext, suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ropd_cli.analysis.judged_groups import GroupView, question_of
from ropd_cli.errors import IndexMissing, InputError, TooFewAnswers
from ropd_cli.index import TeacherIndex
from ropd_cli.records.files import failed_path, read_journal
from ropd_cli.records.group_sources import STEPS, Sources
from ropd_cli.records.lines import warn_once
from ropd_cli.records.packed import Key, Packed
from ropd_cli.records.schemas import (
    AnswerRecord,
    Group,
    RubricRecord,
    VerdictRecord,
    as_messages,
    first_fault,
    load_models,
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
    records: Mapping[Key, RubricRecord] = {}
    if sources.rubrics:
        records = Packed(sources.rubrics, RubricRecord, _rubric_key)
    answers: Mapping[Key, AnswerRecord] = Packed(sources.rollouts, AnswerRecord) if sources.rollouts else {}
    known = {(p.uid, p.raw_prompt_hash): p for p in load_prompts(sources.prompts)} if sources.prompts else {}
    groups_of = lru_cache(maxsize=2)(_groups_of)  # a stage writes nearly in order of the steps
    is_empty = True
    with closing(TeacherIndex.open(sources.index)) if sources.index and sources.m else nullcontext() as index:
        for view in (view for file in files for view in views_of(file)) if files else _from_file(path):
            is_empty = False
            if sources.groups:
                view = _with_group(view, groups_of(sources.groups, view.step or 0))
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
        failed = failed_path(path)
        hint = f"all failed: see {failed}" if failed.is_file() else "give a rubrics or verdicts file or a run directory"
        raise InputError(f"{path}: no groups in it", hint)


def is_of(name: str, file: Path, path: Path) -> bool:
    """Return whether a file of "prompts", "rubrics" or "rollouts" has something of any group of ``path``."""
    if name == "rubrics":
        by = {_rubric_key(record) for record in load_models(file, RubricRecord)}
        return any(view.verdicts is not None and _rubric_key(view.verdicts) in by for view in iter_groups(path))
    records = load_prompts(file) if name == "prompts" else load_models(file, AnswerRecord)
    keys = {(record.uid, record.raw_prompt_hash) for record in records}
    return any(view.key in keys for view in iter_groups(path))


def step_files(folder: Path) -> list[Path]:
    """Return the group files of a run, in the order of the steps. Raises InputError where there is none."""

    files = sorted(folder.glob(STEPS), key=step_of_file)
    config = folder / "config.yaml"
    if not files and config.is_file() and _SUPERVISED.search(config.read_text(encoding="utf-8", errors="replace")):
        raise InputError(
            f"{folder}: a run of method sft has no rubrics; it is trained on the teacher's answers themselves",
            f"ropd report {folder} shows its loss",
        )
    if not files and config.is_file():
        log = folder / "train.log"
        hint = f"see {log}" if log.is_file() else "wait for its first group"
        raise InputError(f"{folder}: no step of this run is finished", hint)
    if not files:
        inside = [file for file in (folder / "verdicts.jsonl", folder / "run") if file.exists()]
        hint = f"give {inside[0]}" if inside else "give the directory of a training run, or a file"
        raise InputError(f"{folder}: no run: no groups/step-N.jsonl.zst in it", hint)
    return files


def step_of_file(file: Path) -> int:
    """Return the step of a run's group file."""
    digits = file.name.removeprefix("step-").split(".")[0]
    return int(digits) if digits.isdigit() else 0


def views_of(file: Path) -> Iterator[GroupView]:
    """Yield the groups of one step's file, in order. Raises InputError (file and line) for what is none."""
    for line, record in read_journal(file):
        yield view_of(record, f"{file}:{line}")


def _from_file(path: Path) -> Iterator[GroupView]:
    """Yield the groups of a single file; of several records of one group the last counts. Of a run that was judged
    again there is one for each group and repeat."""
    last = {_judging(record): line for line, record in read_journal(path)}
    for line, record in read_journal(path):
        where = f"{path}:{line}"
        is_step = {"rubric", "verdicts", "rollouts"} <= record.keys()  # one step of a run, whose groups all count
        if not is_step and last[_judging(record)] != line:
            continue
        if is_step:
            yield view_of(record, where)
        elif "rewards" in record:
            verdicts = _parse(VerdictRecord, record, where)
            rewards, step = verdicts.rewards, record.get("step")
            yield GroupView(verdicts.uid, verdicts.raw_prompt_hash, step, verdicts=verdicts, rewards=rewards)
        elif "rubric" in record:
            rubric = _parse(RubricRecord, record, where)
            yield GroupView(rubric.uid, rubric.raw_prompt_hash, record.get("step"), rubric=rubric)
        else:
            raise InputError(
                f"{where}: neither a rubric nor verdicts", "give a rubrics file, a verdicts file or a run directory"
            )


def _judging(record: dict[str, Any]) -> tuple[str, ...]:
    """Which group a record is of, and which of its judgings."""
    return tuple(str(record.get(name)) for name in ("uid", "raw_prompt_hash", "step", "nth", "repeat"))


def _groups_of(run: Path, step: int) -> dict[tuple[str, int], GroupView]:
    """Return the groups of a step by uid and number among those of the uid. ``run``: the directory, or the file."""
    before = Counter[str]()
    groups = {}
    for file in run.glob(STEPS.replace("*", str(step), 1)) if run.is_dir() else [run]:
        for view in views_of(file):
            if (view.step or 0) == step:
                groups[view.uid, before[view.uid]] = view
                before[view.uid] += 1
    return groups


def _with_group(view: GroupView, groups: Mapping[tuple[str, int], GroupView]) -> GroupView:
    """Return what was judged again with the texts that its run has of it."""
    record = view.verdicts or view.rubric
    nth = (record.model_extra or {}).get("nth", 0) if record else 0
    saved = groups.get((view.uid, nth))
    if saved is None or saved.key != view.key:
        return view
    texts = {name: getattr(saved, name) for name in ("question", "messages", "teacher_answers", "rollouts", "answer")}
    view = replace(view, **texts)
    return _with_rubric(view, {_rubric_key(saved.rubric): saved.rubric} if saved.rubric else {})


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
    """Return the view with the rubric by which its verdicts were given."""
    record = records.get(_rubric_key(view.verdicts)) if view.verdicts else None
    return view if view.rubric or record is None else replace(view, rubric=record)


def _rubric_key(record: RubricRecord | VerdictRecord) -> Key:
    return record.uid, f"{record.raw_prompt_hash} {record.rubric_hash}"


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
