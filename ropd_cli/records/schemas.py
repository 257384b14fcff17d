"""The records that lie on disk and travel between stages (all frozen; unknown fields pass through).

What is derived (a score from a judgement, the sum of a rubric's points) is a property or is recomputed
where it is needed, never trusted from a model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ropd_cli.errors import InputError
from ropd_cli.records.fields import answer_text, is_missing, prompt_fault, verl_objects
from ropd_cli.records.files import read_journal, read_records

_OMIT_EMPTY = frozenset({"mended", "cut", "parts", "rubrics", "repaired", "shaped", "weights"})


class RecordModel(BaseModel):
    """A record read from or written to a file: frozen, unknown fields are kept and passed on."""

    model_config = ConfigDict(frozen=True, extra="allow")

    def to_json(self) -> dict[str, Any]:
        """The record as it is written; optional parts that are absent are left out at the top level."""
        return {
            k: v
            for k, v in self.model_dump(mode="json").items()
            if (v is not None or k in self._keep_null) and (v or k not in _OMIT_EMPTY)
        }

    @property
    def _keep_null(self) -> frozenset[str]:
        return frozenset()


class Message(BaseModel):
    """One chat message; ``content`` is text (nested content parts are kept as they are)."""

    model_config = ConfigDict(frozen=True, extra="allow")
    role: str
    content: Any


class Written(NamedTuple):
    """Messages as they are sent, where the one who wrote them has that at hand: a hash that stands for their texts,
    and their JSON (keys sorted)."""

    hash: str
    json: bytes


class Prompt(RecordModel):
    """One task for student and teacher. ``prompt`` is a bare string or a list of messages."""

    uid: str
    prompt: str | tuple[Message, ...]
    answer: str | None = None
    data_source: str | None = None
    rubric: Any = None
    """The data set's own rubric, as it stands there (``method.dataset_rubrics`` reads it)."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """The prompt as chat messages; a bare string is one user message."""
        return as_messages(self.prompt)

    @property
    def raw_prompt_hash(self) -> str:
        """The reference's hash of the prompt as it stands in the file (see ``prompt_hash``)."""
        return prompt_hash(self.prompt)


class Usage(RecordModel):
    """Tokens of one reply, as the endpoint counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt's tokens, those that the endpoint had in its own prefix cache."""

    @classmethod
    def total(cls, usages: Iterable[Usage | None]) -> Usage | None:
        """The sum over several replies; None where none of them was counted."""
        known = [usage for usage in usages if usage is not None]
        if len(known) < 2:
            return known[0] if known else None
        names = ("prompt_tokens", "completion_tokens", "cached_tokens")
        return cls(**{name: sum(getattr(usage, name) for usage in known) for name in names})


class Answer(RecordModel):
    """One text of a teacher or a student, with why it ended ("stop", "length", …).

    ``reasoning`` is thinking that was kept apart from the text, ``created`` the Unix time at which the reply came.
    ``model``, ``endpoint`` and ``sampling`` stand at an answer where they are others than its record's; ``correct``
    says whether the final result is the prompt's ``answer``, where that was looked at.
    """

    text: str
    finish_reason: str | None = None
    usage: Usage | None = None
    reasoning: str | None = None
    created: float | None = None
    correct: bool | None = None
    model: str | None = None
    endpoint: str | None = None
    sampling: dict[str, Any] | None = None


class AnswerRecord(RecordModel):
    """All answers to one prompt. ``endpoint`` is where they come from (a URL without secrets), ``template`` the hash of
    what was said besides the prompt (a system prompt of the teacher's own)."""

    uid: str
    prompt: str | tuple[Message, ...]
    raw_prompt_hash: str
    answers: tuple[Answer, ...]
    model: str
    sampling: dict[str, Any] = Field(default_factory=dict)
    endpoint: str | None = None
    template: str | None = None

    @field_validator("sampling", mode="before")
    @classmethod
    def _none_set(cls, sampling: Any) -> Any:
        return {} if sampling is None else sampling  # Parquet has no empty object

    def to_json(self) -> dict[str, Any]:
        """As it is written; what an answer lacks is left out, but for its text and why it ended."""
        record = super().to_json()
        kept = ("text", "finish_reason")
        record["answers"] = [
            {name: value for name, value in answer.items() if value is not None or name in kept}
            for answer in record["answers"]
        ]
        return record


class Criterion(RecordModel):
    """One true/false criterion; ``points`` is its weight, 1 to 5."""

    criterion_id: str
    category: str
    criterion: str
    points: int = Field(ge=1, le=5)


class Rubric(RecordModel):
    """The criteria of one group, in the reference's ``ropd.rubric.v1`` format. A rubricator writes 4 to 12; a data
    set may bring others."""

    schema_version: Literal["ropd.rubric.v1"] = "ropd.rubric.v1"
    rubrics: tuple[Criterion, ...] = Field(min_length=1, max_length=120)
    maximum_score: int

    @field_validator("rubrics")
    @classmethod
    def _unique_ids(cls, rubrics: tuple[Criterion, ...]) -> tuple[Criterion, ...]:
        ids = [c.criterion_id for c in rubrics]
        if len(set(ids)) != len(ids):
            raise ValueError("criterion_id is not unique")
        return rubrics

    @property
    def weights_K(self) -> tuple[int, ...]:
        """Weights of the criteria, shape (K,), each 1..5."""
        return tuple(c.points for c in self.rubrics)

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the rubric's canonical JSON."""
        return digest(self.model_dump(mode="json"))[:16]


class RubricRecord(RecordModel):
    """The rubric of a group. ``rubric`` is null where no rollout had an answer to be judged, and where each rollout
    has a rubric of its own: these are ``rubrics``, shape (n,), null for a rollout without one."""

    uid: str
    raw_prompt_hash: str
    rubric: Rubric | None
    rubric_hash: str | None
    rubrics: tuple[Rubric | None, ...] = ()
    model: str
    template_hash: str
    usage: Usage | None = None
    mended: tuple[str, ...] = ()
    """What of the rubricator's reply was put right here ("maximum_score", "criterion_id", "latex", "json" …)."""
    cut: tuple[str, ...] = ()
    """Answers that were shown without their middle, as "student 0"."""
    repaired: tuple[str, ...] = ()
    """Rules of the linter that the rubric before this one broke, where it was written again."""
    origin: Literal["reused", "renewed"] | None = None
    """Taken from an earlier group of the prompt, or written for this one because that one told no rollouts apart any
    more; None where it was written for this group anyway."""

    @property
    def by_rollout(self) -> dict[int | None, Rubric]:
        """The rubrics by the rollout that each is for; None: for all of them."""
        if self.rubric is not None:
            return {None: self.rubric}
        return {index: rubric for index, rubric in enumerate(self.rubrics) if rubric is not None}

    @property
    def _keep_null(self) -> frozenset[str]:
        return frozenset({"rubric", "rubric_hash"})


class AnswerVerdict(RecordModel):
    """What the verifier said of one answer.

    ``judgement`` has one entry a criterion (empty where the answer was not shown to the judge);
    ``score`` is recomputed from it, in [0, 1], None where it is missing. Where each rollout has a rubric of its own
    there is one more field, ``rubric_of``: the rollout by whose rubric this is. Where the judge gives one score per
    answer, ``judgement`` is empty, and an answer that was shown has ``raw_score``, its score on the judge's scale.
    """

    source: Literal["student", "teacher"]
    index: int
    judgement: tuple[bool | None, ...]
    score: float | None

    @property
    def whose_rubric(self) -> int | None:
        """``rubric_of``, or None where all rollouts share a rubric."""
        return (self.model_extra or {}).get("rubric_of")

    @property
    def on_scale(self) -> float | None:
        """``raw_score``, or None where there is none."""
        return (self.model_extra or {}).get("raw_score")

    @property
    def was_shown(self) -> bool:
        """Whether a judge was asked about the answer."""
        return bool(self.judgement) or "raw_score" in (self.model_extra or {})


class VerdictRecord(RecordModel):
    """The verdicts of a group.

    ``rewards`` has one entry a rollout, shape (n,), None where it is missing; ``parts`` holds the parts it was
    mixed from, by name, each of shape (n,). ``shaped`` are the numbers that GRPO is given, shape (n,), where they are
    others than the rewards; ``weights`` those of the criteria in them, shape (K,). ``coverage`` is the share of the
    rubric's weight that was judged for all rollouts, which the scores are over; None where nothing was to be judged.
    ``agreement`` is the share of judgements on which all repeats of a question agree, in [0, 1]; None where each was
    asked once. ``scale`` is the highest score that the judge could give, where it gave each answer one score; None
    where it went by a rubric. ``rollouts_hash`` and ``teacher_hash`` tell the texts that were judged, where these
    lie in other files.
    """

    uid: str
    raw_prompt_hash: str
    rubric_hash: str | None
    answers: tuple[AnswerVerdict, ...]
    rewards: tuple[float | None, ...]
    parts: dict[str, tuple[float | None, ...]] = Field(default_factory=dict)
    shaped: tuple[float | None, ...] = ()
    weights: tuple[float, ...] = ()
    coverage: float | None = None
    agreement: float | None = None
    scale: int | None = None
    cut: tuple[str, ...] = ()
    model: str
    template_hash: str
    usage: Usage | None = None
    rollouts_hash: str | None = None
    teacher_hash: str | None = None

    @property
    def _keep_null(self) -> frozenset[str]:
        return frozenset({"rubric_hash"})

    @property
    def for_update(self) -> tuple[float | None, ...]:
        """The numbers that GRPO is given, shape (n,): the rewards, or the shaped ones."""
        return self.shaped or self.rewards

    @property
    def student_scores(self) -> tuple[float | None, ...]:
        """Scores of the rollouts by the rubric, shape (n,), None where missing; rewards may have more mixed in."""
        return tuple(a.score for a in self.answers if a.source == "student")

    @property
    def teacher_scores(self) -> tuple[float, ...]:
        """Scores of the teacher answers that were judged, shape (m,) at most."""
        return tuple(a.score for a in self.answers if a.source == "teacher" and a.score is not None)


class Failure(RecordModel):
    """Why a record of a stage failed; the next run tries it again."""

    stage: str
    type: str
    message: str


class FailedRecord(RecordModel):
    """One line of ``<out>.failed.jsonl``."""

    uid: str
    error: Failure


class Group(RecordModel):
    """What is judged together: one prompt, its m teacher answers and n rollouts."""

    uid: str
    prompt: tuple[Message, ...]
    raw_prompt_hash: str
    teacher_answers: tuple[str, ...] = ()
    rollouts: tuple[Answer, ...] = ()
    answer: str | None = None
    """The prompt's checkable final answer."""
    data_source: str | None = None
    extra_info: dict[str, Any] = Field(default_factory=dict)
    dataset_rubric: Rubric | None = None
    """The data set's own rubric for the prompt."""


M = TypeVar("M", bound=RecordModel)


def as_messages(prompt: str | tuple[Message, ...]) -> tuple[Message, ...]:
    """A prompt as chat messages; a bare string is one user message."""
    return (Message(role="user", content=prompt),) if isinstance(prompt, str) else prompt


def prompt_hash(prompt: str | Iterable[Any]) -> str:
    """``raw_prompt_hash`` as the reference computes it: hex SHA-256 of ``json.dumps`` of the messages
    (or the bare string) with sorted keys and without ASCII escapes."""
    if not isinstance(prompt, str):
        prompt = [m.model_dump(mode="json") if isinstance(m, BaseModel) else m for m in prompt]
    text = json.dumps(prompt, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def digest(value: Any) -> str:
    """Hex SHA-256 of the canonical JSON of ``value`` (sorted keys, no spaces; lone surrogates allowed)."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def texts_hash(texts: Iterable[str]) -> str:
    """First 16 hex digits of the SHA-256 of answers, in their order."""
    return digest(list(texts))[:16]


def with_system(messages: tuple[Message, ...], system_prompt: str | None) -> tuple[Message, ...]:
    """The messages with a system prompt first, where they have none."""
    if system_prompt is None or (messages and messages[0].role == "system"):
        return messages
    return (Message(role="system", content=system_prompt), *messages)


def parse_prompt(record: dict[str, Any], where: str, *, columnar: bool = False) -> Prompt:
    """A prompt from a record of our format or of verl's columns.

    ``uid``: the record's, else ``extra_info.index``, else the first 16 hex digits of the prompt's hash.
    Raises InputError that names ``where`` and the field.
    """
    if "prompt" not in record:
        raise InputError(
            f"{where}: no field 'prompt'",
            "it is a string or a list of {role, content} messages; ropd data prepare makes it from other fields",
        )
    fields = {k: v for k, v in record.items() if v is not None}
    fields |= verl_objects(fields, where)
    model, extra_info = fields.get("reward_model"), fields.get("extra_info")
    given = fields.pop("answer", None)
    if is_missing(given) and isinstance(model, dict):
        given = model.get("ground_truth")
    answer = answer_text(given, columnar=columnar)
    if answer is not None:
        fields["answer"] = answer
    wrong = prompt_fault(fields.get("prompt"))
    if wrong is not None:
        raise InputError(f"{where}: {wrong}", "a prompt is a string or a list of {role, content} messages")
    prompt = fields["prompt"]
    uids = (fields.get("uid"), extra_info.get("index") if isinstance(extra_info, dict) else None)
    uid = next((each for each in uids if not is_missing(each)), None)
    hash_ = checked_hash(prompt, where) if uid is None or columnar else ""
    fields["uid"] = str(uid) if uid is not None else hash_[:16]
    try:
        return Prompt.model_validate(fields)
    except ValidationError as fault:
        raise InputError(
            f"{where}: {first_fault(fault)}", "ropd data prepare writes prompts from other formats"
        ) from fault


def checked_hash(prompt: Any, where: str) -> str:
    """Return the hash of a prompt. Raises InputError that names ``where`` for messages that JSON can't hold."""
    try:
        return prompt_hash(prompt)
    except TypeError as fault:
        raise InputError(
            f"{where}: a message holds what JSON can't ({fault})", "keep role and content of the messages alone"
        ) from fault


def load_prompts(path: str | Path, limit: int | None = None) -> list[Prompt]:
    """All prompts of a file, in order. Raises InputError (file and line) for a malformed one, for two of
    the same uid, and for a file without any."""
    prompts: list[Prompt] = []
    seen: dict[str, int] = {}
    columnar = Path(path).suffix == ".parquet"
    for number, record in read_records(path):
        prompt = parse_prompt(record, f"{path}:{number}", columnar=columnar)
        if prompt.uid in seen:
            raise InputError(
                f"{path}:{number}: uid {prompt.uid!r} stands on line {seen[prompt.uid]} too",
                "give each prompt its own uid",
            )
        seen[prompt.uid] = number
        prompts.append(prompt)
        if limit is not None and len(prompts) >= limit:
            break
    if not prompts:
        raise InputError(f"{path}: no prompts in it", "one JSON object with a 'prompt' per line")
    return prompts


def load_models(path: str | Path, kind: type[M]) -> Iterator[M]:
    """Records of one kind from a file that a stage has written; InputError with file and line for one that does not
    fit."""
    for number, record in read_journal(path):
        try:
            yield kind.model_validate(record)
        except ValidationError as fault:
            raise InputError(
                f"{path}:{number}: not a {kind.__name__} ({first_fault(fault)})",
                "is it the right file for this option?",
            ) from fault


def first_fault(fault: ValidationError) -> str:
    """The first complaint of a validation, as ``field: what is wrong``."""
    first = fault.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
