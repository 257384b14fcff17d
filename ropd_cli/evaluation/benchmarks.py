"""The benchmarks by name: where their questions come from, and how each is asked and graded."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ropd_cli.datasets.eval_sets import KNOWN_SETS, EvalQuestion, EvalSet, load_eval_set
from ropd_cli.errors import InputError
from ropd_cli.evaluation.graders import Tools
from ropd_cli.evaluation.samples import Benchmark, Task
from ropd_cli.evaluation.tasks.exact_string import ExactTask
from ropd_cli.evaluation.tasks.healthbench import HealthBenchTask
from ropd_cli.evaluation.tasks.ifeval import IfevalTask
from ropd_cli.evaluation.tasks.integer import IntegerTask
from ropd_cli.evaluation.tasks.maths import MathTask
from ropd_cli.evaluation.tasks.multiple_choice import ChoiceTask
from ropd_cli.evaluation.tasks.rubric_task import RubricTask
from ropd_cli.evaluation.tasks.teacher_rubric_task import TeacherTask

Kind = Literal["math", "integer", "choice", "exact", "ifeval", "healthbench", "rubric", "teacher"]

KINDS: Mapping[str, Kind] = {
    "aime24": "integer",
    "aime25": "integer",
    "hmmt25": "math",
    "hmmt25nov": "math",
    "gpqa": "choice",
    "healthbench": "healthbench",
    "healthbench-hard": "healthbench",
    "healthbench-consensus": "healthbench",
    "ifeval": "ifeval",
    "math500": "math",
    "gsm8k": "math",
    "gsm8k-sample": "math",
}
SECRET = ("gpqa", "healthbench")
"""Sets whose authors ask that no question be shown in plain text."""


@dataclass(frozen=True)
class Choice:
    """A benchmark that is to be run, and how it came to its grader, in words."""

    benchmark: Benchmark
    kind: Kind
    why: str


def open_benchmarks(
    names: Sequence[str],
    files: Mapping[str, str],
    graders: Mapping[str, str],
    tools: Tools,
    *,
    n: int,
    limit: int | None = None,
    load: Callable[[str], EvalSet] = load_eval_set,
) -> list[Choice]:
    """The benchmarks of these names, in their order; those of ``files`` are read from there.

    Raises InputError for an unknown name or grader, a set that can't be read, and a question that its grader can't
    take.
    """
    chosen = []
    for name in dict.fromkeys(names):
        if name not in files and name not in KNOWN_SETS:
            raise _unknown(name)
        found = load(f"{name}={files[name]}" if name in files else name)
        questions = found.questions[:limit]
        place = f"{files[name]}: benchmark {name}" if name in files else f"benchmark {name}"
        _check_ids(place, questions)
        kind, why = _kind(name, graders.get(name), questions, place)
        task = _TASKS[kind](name, tools)
        for question in questions:
            try:
                task.check(question)
            except InputError as fault:
                raise InputError(f"{place}: {fault.message}", fault.hint) from fault
        source = files.get(name) or ("shipped" if found.shows_text else f"hub {KNOWN_SETS[name].hub}")
        shareable = not name.startswith(SECRET)
        chosen.append(Choice(Benchmark(name, task, questions, shareable, n, source), kind, why))
    return chosen


def _kind(name: str, said: str | None, questions: Sequence[EvalQuestion], place: str) -> tuple[Kind, str]:
    """How a benchmark is graded: as was said, as it always is, or as its fields tell."""
    known = get_args(Kind)
    if said is not None:
        for kind in known:
            if kind == said:
                return kind, "as asked"
        near = difflib.get_close_matches(said, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}"
        raise InputError(f"--grader {name}={said}: no such grader", hint)
    if name in KINDS:
        return KINDS[name], "its own"
    counts = Counter(field for question in questions for field in question.model_extra or {})
    fields = {field for field, count in counts.items() if 2 * count >= len(questions)}
    signs: tuple[tuple[set[str], Kind], ...] = (
        ({"instruction_id_list"}, "ifeval"),
        ({"choices", "options", "Incorrect Answer 1"}, "choice"),
        ({"rubric", "rubrics"}, "rubric"),
    )
    for names, kind in signs:
        if found := sorted(names & fields):
            return kind, f"its questions have {found[0]}"
    if any(question.answer is not None for question in questions):
        return "math", "its questions have answer"
    raise InputError(
        f"{place}: its questions have no answer, choices or rubric",
        f"add one of them, or name the grader: --grader {name}=… ({', '.join(known)})",
    )


_TASKS: Mapping[Kind, Callable[[str, Tools], Task]] = {
    "math": lambda _, tools: MathTask(tools.maths),
    "integer": lambda *_: IntegerTask(),
    "choice": lambda _, tools: ChoiceTask(tools.seed),
    "exact": lambda *_: ExactTask(),
    "ifeval": lambda *_: IfevalTask(),
    "healthbench": lambda name, tools: HealthBenchTask(tools.judge(name)),
    "rubric": lambda name, tools: RubricTask(tools.judge(name), settings=tools.config.judge),
    "teacher": lambda name, tools: TeacherTask(
        tools.rubricator(name), tools.judge(name), tools.index, tools.config.judge, tools.seed
    ),
}
"""Makes the task of a benchmark. Raises InputError where it needs a judge and none is configured."""


def _check_ids(place: str, questions: Sequence[EvalQuestion]) -> None:
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise InputError(f"{place}: two questions have the id {question.id}", "give each its own")
        seen.add(question.id)


def _unknown(name: str) -> InputError:
    near = difflib.get_close_matches(name, KINDS, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(KINDS)}, or a file: --data {name}=FILE"
    return InputError(f"no benchmark {name!r}", hint)
