"""Questions of evaluation sets: those that come with the package, files of the user's, sets of the hub.

Evaluation reads its tasks here, and data preparation takes what overlaps with them out of the training prompts.
GPQA and HealthBench come only from the user's file or from the hub at run time; their text is never stored or shown.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ropd_cli.datasets.chats import chat_messages
from ropd_cli.datasets.columns import value_at, worked_result
from ropd_cli.datasets.hub import HubSet, hub_rows
from ropd_cli.datasets.local_files import Row, local_rows
from ropd_cli.datasets.text_words import text_of
from ropd_cli.errors import InputError
from ropd_cli.records.fields import answer_text, is_missing
from ropd_cli.records.schemas import Message, RecordModel

SETS = Path(__file__).parent / "sets"
_ID = ("id", "uid", "unique_id", "key", "prompt_id", "Record ID", "problem_idx", "ID")
_PROMPT = ("prompt", "problem", "question", "Question", "Problem", "messages", "instruction")
_ANSWER = ("answer", "Correct Answer", "Answer", "reward_model.ground_truth")


@dataclass(frozen=True)
class KnownSet:
    """Where an evaluation set lies. ``shipped``: a file of this package; ``hub``: read at run time. ``questions`` is
    their number."""

    hub: HubSet
    questions: int
    shipped: str | None = None


def _healthbench(file: str, questions: int) -> KnownSet:
    return KnownSet(HubSet("openai/healthbench", split="test", file=file), questions)


# Licences: MATH-500, GSM8K, HealthBench MIT; IFEval CC BY 4.0; AIME 2024 (c) MAA; the sets of MathArena
# CC BY-NC-SA 4.0; GPQA CC BY 4.0, gated.
KNOWN_SETS: Mapping[str, KnownSet] = {
    "math500": KnownSet(HubSet("HuggingFaceH4/MATH-500", split="test"), 500, "math500.jsonl.zst"),
    "ifeval": KnownSet(HubSet("google/IFEval"), 541, "ifeval.jsonl.zst"),
    "gsm8k-sample": KnownSet(HubSet("openai/gsm8k", "main", "test"), 100, "gsm8k-sample.jsonl.zst"),
    "gsm8k": KnownSet(HubSet("openai/gsm8k", "main", "test"), 1319),
    "aime24": KnownSet(HubSet("HuggingFaceH4/aime_2024"), 30),
    "aime25": KnownSet(HubSet("MathArena/aime_2025"), 30),
    "hmmt25": KnownSet(HubSet("MathArena/hmmt_feb_2025"), 30),
    "hmmt25nov": KnownSet(HubSet("MathArena/hmmt_nov_2025"), 30),
    "gpqa": KnownSet(HubSet("Idavidrein/gpqa", "gpqa_diamond"), 198),
    "healthbench": _healthbench("2025-05-07-06-14-12_oss_eval.jsonl", 5000),
    "healthbench-hard": _healthbench("hard_2025-05-08-21-00-10.jsonl", 1000),
    "healthbench-consensus": _healthbench("consensus_2025-05-09-20-00-46.jsonl", 3671),
}


class EvalQuestion(RecordModel):
    """One question. ``prompt`` is text or messages; the set's other fields (IFEval's instructions, GPQA's wrong
    answers, HealthBench's rubrics) pass through."""

    id: str
    prompt: str | tuple[Message, ...]
    answer: str | None = None

    @property
    def messages(self) -> tuple[Message, ...]:
        """The prompt as chat messages: a text is one user message."""
        return (Message(role="user", content=self.prompt),) if isinstance(self.prompt, str) else self.prompt

    @property
    def text(self) -> str:
        """What is asked, without system prompts."""
        if isinstance(self.prompt, str):
            return self.prompt
        return text_of([m.model_dump() for m in self.prompt], without=frozenset({"system"}))


@dataclass(frozen=True)
class EvalSet:
    """An evaluation set. ``shows_text``: its words may stand in listings and logs."""

    name: str
    questions: tuple[EvalQuestion, ...]
    shows_text: bool


def load_eval_set(spec: str) -> EvalSet:
    """The set that ``NAME``, ``FILE`` or ``NAME=FILE`` means.

    A name of KNOWN_SETS is read from this package where it comes with it, else from the hub. Raises InputError for
    an unknown name, and for a file or a row without a question.
    """
    name, separator, file = spec.partition("=")
    if separator:
        return _of_rows(name, local_rows(Path(file)), shows_text=False)
    known = KNOWN_SETS.get(spec)
    if known is None:
        if not Path(spec).is_file():
            raise _unknown(spec)
        return _of_rows(Path(spec).name.partition(".")[0], local_rows(Path(spec)), shows_text=False)
    if known.shipped is not None:
        return _of_rows(spec, local_rows(shipped_file(spec)), shows_text=True)
    try:
        return _of_rows(spec, hub_rows(known.hub), shows_text=False)
    except InputError as fault:
        sample = f", or take {spec}-sample, which comes with the package" if f"{spec}-sample" in KNOWN_SETS else ""
        raise type(fault)(fault.message, f"give a copy of it by --data {spec}=FILE{sample}") from fault


def shipped_file(name: str) -> Path:
    """Return the file of a set that comes with the package."""
    return SETS / str(KNOWN_SETS[name].shipped)


def _of_rows(name: str, rows: Iterator[Row], *, shows_text: bool) -> EvalSet:
    questions = tuple(_question(row) for row in rows)
    if not questions:
        raise InputError(f"evaluation set {name}: no questions in it", "one record per line, each with a question")
    return EvalSet(name, questions, shows_text)


def _question(row: Row) -> EvalQuestion:
    record = row.record
    prompt = _first(record, _PROMPT)
    if is_missing(prompt):
        raise InputError(f"{row.where}: no question", f"it stands in one of the fields {', '.join(_PROMPT)}")
    messages, _ = chat_messages(prompt, row.where, columnar=row.columnar, cut_replies=False)
    answer, item = answer_text(_first(record, _ANSWER), columnar=row.columnar), _first(record, _ID)
    more = {key: value for key, value in record.items() if key not in ("id", "prompt", "answer") and value is not None}
    is_text = messages == [{"role": "user", "content": prompt}]
    return EvalQuestion(
        id=str(row.number if item is None else item),
        prompt=prompt
        if is_text
        else tuple(Message(role=each["role"], content=each.get("content")) for each in messages),
        answer=None if answer is None else worked_result(answer),
        **more,
    )


def _first(record: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((value for name in names if not is_missing(value := value_at(record, name))), None)


def _unknown(spec: str) -> InputError:
    near = difflib.get_close_matches(spec, KNOWN_SETS, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else f"a file, NAME=FILE, or one of {', '.join(KNOWN_SETS)}"
    return InputError(f"no evaluation set and no file {spec!r}", hint)
