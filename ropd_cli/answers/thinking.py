"""Where a reply's thinking ends and its answer begins.

Reasoning models wrap their thoughts in ``<think>…</think>``. Only the text after the last ``</think>``
is the answer; a reply that was cut off inside its thinking has none, and must not be judged on its
thoughts.
"""

from __future__ import annotations

OPEN, CLOSE = "<think>", "</think>"


def split_thinking(text: str, *, opened: bool = False) -> tuple[str, str | None]:
    """(thinking, answer) of a reply; the answer is None where there is none.

    There is no answer where what follows the last ``</think>`` is empty or white space, or opens a
    ``<think>`` that never closes. ``opened`` says that the chat template itself had already written
    ``<think>``, so the reply begins inside its thinking. The answer is the exact text, white space kept;
    the thinking is stripped of the tag before it and of white space around it.
    """
    if "think>" not in text and not opened:  # nearly always, and texts are long
        return "", text if text and not text.isspace() else None
    before, closed, after = text.rpartition(CLOSE)
    if OPEN in after or (opened and not closed):
        return _bare(text), None
    return _bare(before) if before else "", after if after and not after.isspace() else None


def has_answer(text: str, *, opened: bool = False) -> bool:
    """Whether a reply has text after its thinking."""
    return split_thinking(text, opened=opened)[1] is not None


def _bare(thinking: str) -> str:
    return thinking.strip().removeprefix(OPEN).strip()
