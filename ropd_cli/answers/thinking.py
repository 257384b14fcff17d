"""Where a reply's thinking ends and its answer begins.

Reasoning models wrap their thoughts in tags, each family in its own. Whoever receives a reply or samples tokens
records ``canonical`` of it, with ``<think>…</think>`` around the thoughts, so that no reader of a record has to know a
model's tags: only the text after the last ``</think>`` is the answer. A reply that was cut off inside its thinking has
none, and must not be judged on its thoughts.

Many chat templates (R1, Qwen3-Thinking) write the opening tag themselves at the prompt's end, so that the sampled
tokens hold the closing tag alone, and neither tag where they were cut off. ``sampled`` puts it back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from typing import Protocol

OPEN, CLOSE = "<think>", "</think>"
Tags = Sequence[Sequence[str]]
"""Pairs of an opening and a closing tag."""
THINKING_TAGS: tuple[tuple[str, str], ...] = (
    (OPEN, CLOSE),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),  # EXAONE Deep, Gemma 4 behind some servers
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("<mm:think>", "</mm:think>"),  # MiniMax M3
    ("◁think▷", "◁/think▷"),  # Kimi-VL
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # Sky-T1, OpenThinker
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A Reasoning
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("<unused94>thought", "<unused95>"),  # MedGemma
)
"""What is read as thinking where no ``thinking_tags`` are configured."""
_CLOSINGS = 16
"""So many closing tags are looked at for one that is not quoted by the thinking itself."""
_TAIL_TOKENS = 16
"""Enough for the tag and the white space after it where they are no tokens of their own."""

_CHANNEL = r"<\|channel\|>\s*{}\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"
_HARMONY = re.compile(r"\s*(?:<\|start\|>assistant)?" + _CHANNEL.format("(?:analysis|commentary|final)"))
_HARMONY_FINAL = re.compile(r"(?:<\|start\|>assistant)?" + _CHANNEL.format("final"))
_HARMONY_TURN = re.compile(r"<\|end\|>\s*<\|start\|>assistant" + _CHANNEL.format("final"))
_HARMONY_BARE = re.compile(r"<\|end\|>(?:<\|start\|>assistant)?(?!\s*<\|)")
_HARMONY_END = re.compile(r"<\|(?:return|end|call)\|>\s*\Z")
_HARMONY_OPEN = "<|channel|>analysis<|message|>"
_STRIPPED_FINAL = re.compile(r"assistantfinal(?: ?json(?=\s*\{))?")
_STRIPPED_CUT_OFF = re.compile(
    r"analysis(?:We (?:need|have|must|should|are|can)|The (?:user|question|problem|task)|User (?:asks|wants|says)|"
    r"Need to|Let's|Let me) "
)
"""How gpt-oss begins to think: without such words, ``analysis`` may be the first letters of an answer."""
_SOLUTION = re.compile(
    r"\s*<\|(?:begin_of_solution|START_RESPONSE)\|>(.*?)(?:<\|(?:end_of_solution|END_RESPONSE)\|>\s*)?", re.DOTALL
)


class Decoder(Protocol):
    """A tokenizer, for what is needed of it here."""

    @property
    def all_special_tokens(self) -> list[str]: ...

    def decode(self, token_ids: list[int], /, *, skip_special_tokens: bool = False) -> str: ...


def canonical(reply: str, tags: Tags | None = None) -> str:
    """Return a reply with ``<think>…</think>`` around its thinking, whichever tags it came with.

    A tag counts where it opens at the reply's start, or closes where none has opened before (a template may have opened
    it): an answer that shows such tags further on, in code or in its own text, stays whole. ``<think>`` counts anywhere
    (``split_thinking``). Doing it twice changes nothing.
    """
    tags = THINKING_TAGS if tags is None else tags
    start = reply.lstrip()
    if start.startswith(OPEN):
        return reply
    for begin, end in tags:
        if _begins(start, begin):
            return _paired(start, begin, end)
    parts = _harmony(reply)
    if parts is not None:
        return _joined(*parts)
    if CLOSE in reply or start.startswith("{"):  # JSON may quote a tag
        return reply
    for begin, end in tags:
        at = reply.find(end)
        if at >= 0 and begin.rstrip(">") not in reply[:at] and not _is_quoted(reply, 0, at, at + len(end)):
            return _joined(reply[:at], reply[at + len(end) :])
    return reply


def sampled(
    text: str, token_ids: Sequence[int], prompt_ids: Sequence[int], tokenizer: Decoder, tags: Tags | None = None
) -> str:
    """Return a sampled reply as it is recorded, ``canonical``, with the tag that its prompt ends with before it.

    ``text`` is the reply without its special tokens. Several models' tags are special tokens, so they are looked for in
    what is decoded with them.
    """
    opened = opening_tag(tokenizer.decode(list(prompt_ids[-_TAIL_TOKENS:])), tags)
    whole = tokenizer.decode(list(token_ids), skip_special_tokens=False)
    read = canonical(opened + whole, tags)
    if read == opened + whole and (CLOSE in whole) == (CLOSE in text) and (OPEN in whole) == (OPEN in text):
        return canonical(opened + text, tags)  # no tag of it is a special token
    for token in tokenizer.all_special_tokens:
        if token not in (OPEN, CLOSE):
            read = read.replace(token, "")
    return read


def opening_tag(prompt: str, tags: Tags | None = None) -> str:
    """Return the tag that a rendered prompt, or its end, leaves open for the reply; "" where there is none."""
    openings = [OPEN, *(begin for begin, _ in (THINKING_TAGS if tags is None else tags)), _HARMONY_OPEN]
    return next((begin for begin in openings if prompt.rstrip().endswith(begin)), "")


def split_thinking(text: str) -> tuple[str, str | None]:
    """(thinking, answer) of a canonical reply; the answer is None where there is none.

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
    """Return what of a canonical reply is its answer; None where it has none."""
    return split_thinking(text)[1]


def _bare(thinking: str) -> str:
    return thinking.strip().removeprefix(OPEN).strip()


def _joined(thinking: str, answer: str | None) -> str:
    """Return the canonical text; without an answer the thinking is left open."""
    thinking = thinking.replace(CLOSE, "</ think>")  # or what is thought after it would be the answer
    return f"{OPEN}{thinking}" if answer is None else f"{OPEN}{thinking}{CLOSE}{answer}"


def _begins(text: str, tag: str) -> bool:
    return text[: len(tag)].lower() == tag.lower()


def _paired(reply: str, begin: str, end: str) -> str:
    """Return the canonical text of a reply that begins with ``begin``, and maybe with several such thoughts."""
    opening = re.compile(rf"\s*{re.escape(begin)}", re.IGNORECASE)
    closing = re.compile(re.escape(end), re.IGNORECASE)
    thoughts: list[str] = []
    at = 0
    while (opened := opening.match(reply, at)) is not None:
        closings = list(islice(closing.finditer(reply, opened.end()), _CLOSINGS))
        if not closings:
            return _joined("\n".join([*thoughts, reply[opened.end() :]]), None)
        closed = next((each for each in closings if not _is_quoted(reply, opened.end(), *each.span())), closings[0])
        thoughts.append(reply[opened.end() : closed.start()])
        at = closed.end()
    solution = _SOLUTION.fullmatch(reply, at)
    return _joined("\n".join(thoughts), reply[at:] if solution is None else solution[1])


def _harmony(reply: str) -> tuple[str, str | None] | None:
    """(thinking, answer) of a reply in the channels of gpt-oss, also where a decoder has left their special tokens out;
    None for any other. Only what is written to ``final`` is the answer."""
    if (first := _HARMONY.match(reply)) is not None:
        final = _HARMONY_FINAL.search(reply)
        end = final or _HARMONY_BARE.search(reply)
        if end is None:
            return reply[first.end() :], None
        thinking = "" if final is not None and final.start() < first.end() else reply[first.end() : end.start()]
        return _HARMONY_END.sub("", thinking), _HARMONY_END.sub("", reply[end.end() :])
    if "<|channel|>" in reply:  # a template has opened the thinking
        final = _HARMONY_TURN.search(reply)
        if final is not None and "<|channel|>" not in reply[: final.start()]:
            return reply[: final.start()], _HARMONY_END.sub("", reply[final.end() :])
    if reply.startswith("analysis"):
        final = _STRIPPED_FINAL.search(reply)
        if final is not None:
            return reply[len("analysis") : final.start()], reply[final.end() :]
        if _STRIPPED_CUT_OFF.match(reply):
            return reply[len("analysis") :], None
    return None


def _is_quoted(text: str, begin: int, start: int, end: int) -> bool:
    """Return whether a tag is shown rather than used: in quotes, in a line of code or inside a code fence, of what
    stands in the text from ``begin`` on."""
    line = text[max(begin, text.rfind("\n", begin, start) + 1) : start]
    in_quotes = text[start - 1 : start] in ('"', "'") and text[end : end + 1] in ('"', "'")
    return in_quotes or line.count("`") % 2 == 1 or text.count("```", begin, start) % 2 == 1
