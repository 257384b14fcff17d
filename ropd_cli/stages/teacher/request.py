"""What is wanted of which teacher."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ropd_cli.config import EndpointConfig
from ropd_cli.config.masking import shown_url
from ropd_cli.errors import InputError
from ropd_cli.llm.urls import base_url, builtin_query, model_name
from ropd_cli.records.schemas import Message, Prompt, digest, with_system
from ropd_cli.util.counted import counted

Keep = Literal["any", "correct", "majority"]
TRIES_PER_ANSWER = 3
"""So many samples at most are asked for each distinct answer that is wanted."""
LEAST_VOTES = 3
"""Fewer results are no majority."""


@dataclass(frozen=True)
class TeacherFiles:
    """What the stage reads, and the file it appends to."""

    prompts: Path
    out: Path
    limit: int | None = None


@dataclass(frozen=True)
class Wanted:
    """Which answers a prompt needs.

    ``m`` distinct ones (``same_allowed``: or equal ones), at most ``tries`` samples for each. ``together``: several
    samples in one request where the endpoint can. ``keep``: any usable answer, those whose final result is the prompt's
    ``answer``, or those whose final result most samples have; ``unverifiable``: a prompt without an ``answer`` keeps
    any. A reply that was cut off is asked for again with ``retry_max_tokens``; ``keep_truncated`` writes it beside the
    m. ``reasoning``: thinking goes into the file. ``system_prompt`` goes before prompts without one.
    """

    m: int
    same_allowed: bool = False
    tries: int = TRIES_PER_ANSWER
    together: bool = True
    keep: Keep = "any"
    unverifiable: bool = False
    retry_max_tokens: int | None = None
    keep_truncated: bool = False
    reasoning: bool = True
    system_prompt: str | None = None

    @property
    def template(self) -> str | None:
        """The first 16 hex digits of the SHA-256 of the system prompt; None without one."""
        if self.system_prompt is None:
            return None
        return hashlib.sha256(self.system_prompt.encode("utf-8", "replace")).hexdigest()[:16]

    def messages(self, prompt: Prompt) -> tuple[Message, ...]:
        """What a teacher is told."""
        return with_system(prompt.messages, self.system_prompt)


@dataclass(frozen=True)
class Teacher:
    """One model at one endpoint."""

    endpoint: EndpointConfig

    @cached_property
    def model(self) -> str:
        return model_name(self.endpoint, "teacher")

    @cached_property
    def asked(self) -> str:
        """The model by which records are told apart."""
        return self.model + builtin_query(self.endpoint)

    @cached_property
    def shown(self) -> str:
        """Its URL, without what may be secret."""
        return shown_url(base_url(self.endpoint))

    @cached_property
    def sampling(self) -> dict[str, Any]:
        return self.endpoint.sampling.model_dump(mode="json", exclude_none=True)


@dataclass
class TeacherCount:
    """What came of one teacher's samples."""

    model: str
    endpoint: str
    answers: int = 0
    """Written."""
    duplicates: int = 0
    truncated: int = 0
    """Replies that were cut off, whether or not they were asked for again."""
    empty: int = 0
    """Without an answer: nothing, thinking alone, or ended by the endpoint's filter."""
    wrong: int = 0
    undecided: int = 0
    """Neither right nor wrong, as far as could be found out."""


def shares(prompt: Prompt, teachers: int, m: int) -> dict[int, int]:
    """Return how many of ``m`` answers come from which teacher (its place in the list). The remainder of an even spread
    goes to teachers in a row, of which the prompt's hash says the first, so over many prompts it is spread evenly too.
    """
    each, rest = divmod(m, teachers)
    first = int(prompt.raw_prompt_hash[:8], 16) % teachers
    more = {(first + k) % teachers for k in range(rest)}
    return {k: each + (k in more) for k in range(teachers) if each or k in more}


def request_hash(prompt: Prompt, teachers: Sequence[Teacher], wanted: Wanted) -> str:
    """The digest of what is asked. How it is asked (tries, limits, what is written besides) is not in it."""
    who: list[Any]
    if len(teachers) == 1:
        who = [teachers[0].asked, teachers[0].sampling]
    else:
        who = [[[teacher.asked, teacher.sampling] for teacher in teachers]]
    asked = [prompt.raw_prompt_hash, *who, wanted.m, wanted.same_allowed]
    if wanted.keep != "any":
        asked.append({"keep": wanted.keep})
    if wanted.system_prompt is not None:
        asked.append({"system_prompt": wanted.system_prompt})
    return digest(asked)[:16]


def check(teachers: Sequence[Teacher], wanted: Wanted) -> None:
    """Raises InputError for what can't work, whatever the prompts are."""
    seen: set[tuple[str, str, str]] = set()
    most = max(shares(Prompt(uid="", prompt=""), len(teachers), wanted.m).values())
    for teacher in teachers:
        who = teacher.model, base_url(teacher.endpoint), digest(teacher.sampling)
        if who in seen:
            raise InputError(
                f"the teacher {teacher.model} at {teacher.shown} is named twice",
                "name each once; two of a model differ in their sampling (`teachers` in the configuration)",
            )
        seen.add(who)
        if most > 1 and teacher.endpoint.sampling.temperature == 0 and not wanted.same_allowed:
            raise InputError(
                f"{most} different answers at temperature 0: a model gives the same one {most} times",
                "raise --temperature, ask for -m 1, or take what comes by --force",
            )
        limit = teacher.endpoint.sampling.max_tokens
        if wanted.retry_max_tokens is not None and limit is not None and wanted.retry_max_tokens <= limit:
            raise InputError(
                f"--retry-max-tokens {wanted.retry_max_tokens} is not more than --max-tokens {limit}",
                "give a higher one, or leave it out",
            )
    if wanted.keep == "majority" and wanted.tries * wanted.m < LEAST_VOTES:
        raise InputError(
            f"no majority in {counted(wanted.tries * wanted.m, 'sample')}, it takes {LEAST_VOTES}",
            "raise --tries, or -m",
        )


def check_prompts(prompts: Sequence[Prompt], wanted: Wanted) -> None:
    """Raises InputError where answers are to be correct and prompts have none to compare with."""
    if wanted.keep != "correct" or wanted.unverifiable:
        return
    without = [prompt.uid for prompt in prompts if prompt.answer is None]
    if without:
        raise InputError(
            f"--keep correct: no `answer` in {len(without)} of {counted(len(prompts), 'prompt')}, the first is "
            f"uid {without[0]}",
            "give them one, leave them out, or take any answer to them by --unverifiable keep",
        )
