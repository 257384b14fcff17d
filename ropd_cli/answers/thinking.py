"""Where a reply's thinking ends and its answer begins.

Reasoning models wrap their thoughts in ``<think>…</think>``. Only the text after the last ``</think>`` is the answer; a
reply that was cut off inside its thinking has none, and must not be judged on its thoughts.

Many chat templates (R1, Qwen3-Thinking) write ``<think>`` themselves at the prompt's end, so that the sampled tokens
hold the closing tag alone, and neither tag where they were cut off. Whoever samples tokens therefore records
``with_opening`` of them: every text of a record begins with its opening tag, whoever wrote it, and no reader has to
know the template.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

OPEN, CLOSE = "<think>", "</think>"
_TAIL_TOKENS = 8
"""Enough for the tag and the white space after it where they are no tokens of their own."""


class Decoder(Protocol):
    """A tokenizer, for what is needed of it here."""

    def decode(self, token_ids: list[int], /) -> str: ...


def with_opening(reply: str, prompt_ids: Sequence[int], tokenizer: Decoder) -> str:
    """Return a sampled reply as it is recorded: with ``<think>`` before it where the prompt ends with the tag."""
    return OPEN + reply if opens_thinking(tokenizer.decode(list(prompt_ids[-_TAIL_TOKENS:]))) else reply


def opens_thinking(prompt: str) -> bool:
    """Whether a rendered prompt, or its end, leaves the reply to begin inside its thinking."""
    return prompt.rstrip().endswith(OPEN)


def split_thinking(text: str) -> tuple[str, str | None]:
    """(thinking, answer) of a reply; the answer is None where there is none.

    There is no answer where what follows the last ``</think>`` is empty or white space, or opens a
    ``<think>`` that never closes. The answer is the exact text, white space kept; the thinking is stripped of the tag
    before it and of white space around it.
    """
    if "think>" not in text:  # nearly always, and texts are long
        return "", text if text and not text.isspace() else None
    before, _, after = text.rpartition(CLOSE)
    if OPEN in after:
        return _bare(text), None
    return _bare(before), after if after and not after.isspace() else None


def answer_of(text: str) -> str | None:
    """Return what of a reply is its answer; None where it has none."""
    return split_thinking(text)[1]


def _bare(thinking: str) -> str:
    return thinking.strip().removeprefix(OPEN).strip()
