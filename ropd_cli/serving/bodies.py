"""What a reward server is asked and answers: its own shape, OpenRLHF's and slime's."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ropd_cli.answers.thinking import Tags, canonical, opening_tag
from ropd_cli.errors import InputError

_TURN_ENDS = re.compile(r"(?:\s*(?:<\|[^<>|\s]{1,40}\|>|<｜[^<>｜\s]{1,40}｜>|</s>|<eos>|<end_of_turn>))+\s*\Z")
"""Special tokens at the end of a text that was decoded with them, of the families that we know."""

Messages = str | list[dict[str, Any]]


class Body(BaseModel):
    """A request's JSON; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")


B = TypeVar("B", bound=Body)


class AboutPrompt(Body):
    """A prompt, as requests name it."""

    prompt: Messages | None = Field(None, description="text or chat messages; not needed with a uid of data.prompts")
    uid: str | None = Field(None, description="where data.prompts has it, the prompt there counts")
    answer: str | None = Field(None, description="the checkable answer")
    teacher_answers: list[str] | None = Field(None, description="null: those of data.index, by the prompt's text")
    step: int | None = Field(None, ge=1, description="the trainer's step")
    data_source: str | None = None
    rubric: Any = Field(None, description="the data set's own rubric")
    extra_info: dict[str, Any] | None = None

    def about(self) -> dict[str, Any]:
        """Return what is said of the prompt."""
        said = {name: getattr(self, name) for name in AboutPrompt.model_fields}
        return {"prompt": said.pop("prompt"), **{name: value for name, value in said.items() if value is not None}}


class GroupBody(AboutPrompt):
    """All rollouts of one prompt."""

    completions: list[str]
    finish_reasons: list[str | None] | None = Field(None, description="one per completion: stop, length …")
    n: int | None = Field(None, ge=2, description="how many there should be; null: rollout.n of the configuration")


class BatchBody(Body):
    """Groups of several prompts."""

    groups: list[GroupBody]
    step: int | None = Field(None, ge=1, description="of the groups that have none of their own")


class RolloutBody(AboutPrompt):
    """One rollout; those of the same prompt and step are gathered."""

    completion: str
    finish_reason: str | None = None
    n: int | None = Field(None, ge=2, description="rollouts of the group; null: rollout.n of the configuration")


class OpenRlhfBody(Body):
    """What OpenRLHF posts to ``remote_rm_url``; one entry per rollout."""

    query: list[str] = Field(description="prompt and response, with special tokens")
    prompts: list[str]
    labels: list[Any] | None = Field(None, description="a uid of data.prompts, or the checkable answer")


class SlimeBody(Body):
    """What slime posts to ``--rm-url`` with ``--rm-type remote_rm``."""

    prompt: Messages
    response: str
    label: Any = Field(None, description="a uid of data.prompts, or the checkable answer")


class GroupReply(BaseModel):
    """Rewards of a group."""

    rewards: list[float | None] = Field(description="one per completion, in order; null is missing, and never 0")
    error: str | None = Field(description="why the group could not be judged")


class BatchReply(BaseModel):
    """Rewards of the groups, in order."""

    groups: list[GroupReply]


class RolloutReply(BaseModel):
    """The reward of one rollout."""

    reward: float | None
    error: str | None


class OpenRlhfReply(BaseModel):
    """What OpenRLHF reads."""

    rewards: list[float]
    scores: list[float]
    extra_logs: dict[str, Any]


class ErrorReply(BaseModel):
    """Any status from 400 on."""

    error: str
    hint: str | None = None


def read(kind: type[B], content: bytes) -> B:
    """Return a request's body. Raises InputError with the first fault."""
    try:
        return kind.model_validate_json(content)
    except ValidationError as fault:
        first = fault.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{place}: {first['msg']}" if place else first["msg"], "see /openapi.json") from fault


def response_of(query: str, prompt: str) -> str:
    """Return the response in a text that begins with the prompt. Raises InputError where it does not."""
    _, found, response = query.partition(prompt)
    if not found or not prompt:
        raise InputError(f"query does not hold its prompt {prompt[:60]!r}", "send prompts as they begin the queries")
    return response


def rollout_text(response: str, prompt: Messages, tags: Tags | None) -> str:
    """Return a response without special tokens at its end, its thinking in the form that records have."""
    opened = opening_tag(prompt, tags) if isinstance(prompt, str) else ""
    return canonical(opened + _TURN_ENDS.sub("", response), tags)
