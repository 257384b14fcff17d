"""Which option a reply chooses: that of its last statement.

A statement is a box, "answer is …" (also "Answer: …", "correct option: …"), "option C is correct", "I choose C", or a
last line that is only a letter or an option. Without one, a first line that begins with a letter ("C. It fizzes …").
Text before ``</think>`` does not count, nor do negations ("not B"), conditions ("if the answer is A") and questions. A
last statement that names two options, none of them, or one that does not exist means that there is no result.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ropd_cli.answers.thinking import answer_of

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_IS = r"(?:['’]s\b|\s+(?:(?:is|must\s+be|should\s+be|would\s+be|will\s+be)\b\s*:?|(?:→|->|=>))|\s*[:：=])"
_ANSWER = re.compile(
    rf"(?<![\w-])(?:answer|choice|option|selection)(?:\s+to\s+(?:this|the)\s+question)?[*_`\"]{{0,4}}{_IS}"
    r"(?:\s*(?:therefore|thus|hence|then|clearly|most\s+likely|probably)\b,?)?",
    re.IGNORECASE,
)
_BARE_ANSWER = re.compile(
    r"(?<![\w-])answer[*_`]{0,4}\s+(?=[*_`]{0,4}\([A-Za-z]\)|[*_`]{0,4}[A-Z][)*_`.]{0,6}\s*$)", re.I | re.M
)
_HEADING = re.compile(r"^[ \t]*(?:#+[ \t]*|\*\*|__)(?:final|correct|best)?[ \t]*answer[ \t]*[*_]*[ \t]*$", re.I | re.M)
_CHOOSE = re.compile(
    r"\b(?:I|we)(?:['’](?:d|ll|m|re)|\s+would|\s+will)?\s+(?:therefore\s+)?(?:choose|pick|select|go(?:ing)?\s+(?:with|for))\b"
    r"|\b(?:corresponds\s+to|matches|(?:which|that|this|it)\s+is)\s+(?=(?:the\s+)?(?:option|choice|answer)\s+[*_`]{0,4}\(?[A-Z])",
    re.IGNORECASE,
)
_TAG = re.compile(
    r"<(?:final_)?(?:answer|choice|option)>|(?:答案|正确选项)\s*(?:应该|应当)?\s*[是为：:]+", re.IGNORECASE
)
_LOOSE = re.compile(
    r"\b(?:answer|option|choice|one|correct|right|best|closest)\b(?:\s+(?!is\b)[A-Za-z,'’-]{1,20}){1,7}?\s+is\b:?\s*"
    r"(?=[*_`]{0,4}(?:(?:the\s+)?option\s+)?[*_`]{0,4}\(?[*_`]{0,4}[A-Z][*_`]{0,4}\)?[*_`]{0,4}(?:[.,;!]|\s*$))",
    re.IGNORECASE | re.MULTILINE,
)
_IS_RIGHT = re.compile(
    r"(?P<before>\b[A-Za-z]{1,20}\s{1,3})?(?<![\w\\-])(?P<open>[*_`]{0,4}\(?[*_`]{0,4})(?P<letter>[A-Z])(?P<close>[*_`]{0,4}\)?[*_`]{0,4})"
    r"\s+(?:is|must\s+be|has\s+to\s+be)\s+"
    r"(?:the\s+only\s+(?:one|option|choice)\b|(?:the\s+)?(?:only\s+)?(?:most\s+)?(?:correct|right|best|answer)\b)"
)
_BEFORE_OPTION = re.compile(
    r"(?:option|choice|answer|letter|that|only|so|thus|therefore|hence|then|think|believe|say|conclude|clearly|since)\s+$",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"^[^\w\n]{0,20}(?:correct|ans|solution|final|response|result|conclusion)\.?[*_]*:(?=[^\w\n]{0,20}[A-Z][^\w\n]{0,20}$)",
    re.I | re.M,
)
_HENCE = re.compile(
    r"(?:\b(?:therefore|thus|hence|so)\b,?\s+|\bit\s+(?:must|has\s+to)\s+be\s+|\banswer\s+[-–—]\s+)"
    r"(?=[(*_]{0,6}[A-Z][)*_]{0,6}[.!]?\s*$)",
    re.IGNORECASE | re.MULTILINE,
)
_FENCE = re.compile(r"^[ \t]*```\w*[ \t]*$", re.MULTILINE)
_DENIED = re.compile(
    r"\b(?:not|never|if|whether|unless|wrong|incorrect|cannot|could|might|were)\b|n['’]t\b", re.IGNORECASE
)
_CLAUSE = re.compile(r"[.,;:!?\n]|\bbut\b|\bso\b", re.IGNORECASE)
_NONE = re.compile(r"(?:none|neither|all)\b", re.IGNORECASE)
_LEAD = re.compile(r"(?:(?:the\s+)?(?:option|choice|letter|answer|both|either)\b\s*:?\s*)+", re.IGNORECASE)
_LETTER = re.compile(r"(\()?([A-Za-z])(?![\w'’])(?(1)\s*\))")
_SECOND = re.compile(
    r"\s*(?:,\s*(?:and|or)|and/or|or|and|/|&|,|;)\s*(?:(?:maybe|perhaps|possibly|option)\s+)*(?!I\s+[a-z])(\()?([A-Z])(?![\w'’])(?(1)\))(?!\s+(?:is|are|was)\b)"
)
_GOES_ON = re.compile(
    r"\s+(?:because|since|as|for|due|which|from|based|given|and|or|not|with|in|by|due|where|that|is)\b", re.IGNORECASE
)
_COMMAND = re.compile(
    r"\\(?:textbf|text|mathrm|mathbf|mathit|mathsf|textrm|mbox|bf|rm|boxed|quad|qquad)(?![A-Za-z])|\\[,;:! ()\[\]]"
)
_HTML = re.compile(r"</?(?i:\w+_)?(?i:answer|choice|option)>|</?(?:b|i|em|u|p|strong)>|<(?=[A-Za-z]>)|(?<=<[A-Za-z])>")
_ARTICLE = re.compile(r"(?:an?|the)\s+(?=\w{2})", re.IGNORECASE)
_STATED_CHARS, _STATEMENTS = 1000, 200
"""So much is read of what a statement says, and so many from the end of each kind: replies that repeat themselves are
long."""
_MARKS = re.compile(r"[*`$\"“”‘{}\[\]~]|__|^'|(?<=\W)'|'(?=\W|$)")


@dataclass(frozen=True)
class _Statement:
    """Where a statement stands, and the place of the option it names; None where it names no single one."""

    at: int
    place: int | None


def read_choice(text: str, options: Sequence[str]) -> str | None:
    """The letter that a reply chooses among ``options`` (texts in the order shown, A first); None without one."""
    visible = answer_of(text)
    if visible is None:
        return None
    visible = _FENCE.sub("", visible).replace("（", "(").replace("）", ")")
    reader = _Reader(options)
    statements = [*_boxes(visible, reader), *_answers(visible, reader), *_called_right(visible, reader)]
    statements += _last_line(visible, reader)
    if statements:
        place = max(statements, key=lambda statement: statement.at).place
    else:
        place = reader.begun(visible)
    return None if place is None else chr(ord("A") + place)


class _Reader:
    """Reads what is stated as one of the options."""

    def __init__(self, options: Sequence[str]) -> None:
        self.count = len(options)
        self._texts = [_comparable(option) for option in options]

    def stated(self, said: str) -> tuple[int | None] | None:
        """(place of the option,) that words after "the answer is" name; (None,) for two, for none of them or for one
        that does not exist; None where the words name nothing."""
        plain = _plain(said)
        if re.match(r"not\b", plain, re.IGNORECASE):
            return None
        bare = _LEAD.sub("", plain, count=1) if _LEAD.match(plain) else plain
        if alone := re.fullmatch(r"\(?([A-Za-z])\)?\s*[.):!]*\s*", bare):
            return (self.place(alone[1]),)
        if (by_text := self.by_text(plain)) is not None or (by_text := self.by_text(bare)) is not None:
            return (by_text,)
        if _NONE.match(plain):
            return (None,)
        found = _LETTER.match(bare)
        if found is None:
            return None
        if second := _SECOND.match(bare, found.end()):
            return None if self.place(second[2]) is None and self.place(found[2]) is None else (None,)
        return (self.place(found[2]),) if self._is_letter(found, bare[found.end() :], bare != plain) else None

    def by_text(self, said: str) -> int | None:
        """Place of the option that words are, or begin with: of several the longest. None where two read alike."""
        said = _comparable(said)
        fits = [
            place
            for place, text in enumerate(self._texts)
            if text and len(text) > 1 - (said == text)
            and said.startswith(text) and not re.match(r"\w|\.\d|\s*(?:or\b|[-+*/^=])", said[len(text) :])
        ]  # fmt: skip
        best = max(fits, key=lambda place: len(self._texts[place]), default=None)
        return None if best is None or self._texts.count(self._texts[best]) > 1 else best

    def place(self, letter: str) -> int | None:
        """Place of a letter's option; None where there is none."""
        place = ord(letter.upper()) - ord("A")
        return place if 0 <= place < self.count else None

    def line(self, line: str) -> int | None:
        """Place of the option that a line consists of: its letter, its text, or both."""
        plain = _plain(line)
        if alone := re.fullmatch(r"\(?([A-Z])\)?[.):]*|\(?([a-z])\)[.:]?", plain):
            return self.place(alone[1] or alone[2])
        said = _comparable(plain)
        if self._texts.count(said) == 1:
            return self._texts.index(said)
        marked = re.match(r"\(?([A-Za-z])(?:\)\.?|[.:])\s+(.+)", plain, re.DOTALL)
        if marked and (place := self.place(marked[1])) is not None and _comparable(marked[2]) == self._texts[place]:
            return place
        return None

    def begun(self, text: str) -> int | None:
        """Place of the letter that the first line begins with ("C. It fizzes"), where no other line begins so."""
        lines = [_plain(line) for line in text.splitlines() if line.strip()]
        if re.fullmatch("[a-z]", text.strip()):
            return self.place(text.strip())
        marked = [
            re.match(r"\(([A-Z])\)|([A-Z])(?:[.):](?=\s|$)|$|(?=\s+(?:because|since)\b))", line) for line in lines
        ]
        first = marked[0] if marked else None
        if first is None or any(marked[1:]) or _DENIED.search(lines[0]) or re.search(r"\s[A-Z][):]", lines[0]):
            return None
        return self.place(first[1] or first[2])

    def _is_letter(self, found: re.Match[str], after: str, led: bool) -> bool:
        """Whether a letter with more behind it stands for an option, and is no word, symbol or part of one."""
        if re.match(r"\s*[=+/^_<>≈]|[-–—][A-Za-z](?!\w*\s+and\s)|\s*\?", after):
            dashed = re.match(r"[—–-]", after) and self.by_text(after[1:]) == self.place(found[2])
            return bool(dashed)
        if found[1] or led or re.match(r"\s*(?:$|[.,;:!)\n(—–-])", after):
            return True
        return bool(_GOES_ON.match(after)) or (found[2].isupper() and found[2] not in "AI")


def _boxes(text: str, reader: _Reader) -> list[_Statement]:
    """The last box that names an option."""
    for box in reversed(list(_BOX.finditer(text))[-_STATEMENTS:]):
        depth, end = 1, box.end()
        while end < min(len(text), box.end() + _STATED_CHARS) and depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        if not depth and (stated := reader.stated(text[box.end() : end - 1])):
            return [_Statement(box.start(), stated[0])]
    return []


def _answers(text: str, reader: _Reader) -> list[_Statement]:
    """The last statement of each kind that names an option."""
    statements = []
    for pattern in (_ANSWER, _BARE_ANSWER, _HEADING, _CHOOSE, _TAG, _LOOSE, _LABEL, _HENCE):
        for found in reversed(list(pattern.finditer(text))[-_STATEMENTS:]):
            if _denied(text, found.start()) or (pattern is _LOOSE and _DENIED.search(found[0])):
                continue
            if stated := reader.stated(_said(text, found.end())):
                statements.append(_Statement(found.start(), stated[0]))
                break
    return statements


def _called_right(text: str, reader: _Reader) -> list[_Statement]:
    """ "Option C is correct", "(C) is the best answer"."""
    statements = []
    for found in _IS_RIGHT.finditer(text):
        before = found["before"] or ""
        if (
            (before and not _BEFORE_OPTION.search(before))
            or text[found.end() : found.end() + 1] == "?"
            or _denied(text, found.start())
        ):
            continue
        statements.append(_Statement(found.start("letter"), reader.place(found["letter"])))
    return statements


def _last_line(text: str, reader: _Reader) -> list[_Statement]:
    lines = [line for line in text.splitlines() if line.strip()]
    places = [reader.line(line) for line in lines[-reader.count :]]
    if places[-1] is None or len({place for place in places if place is not None}) > 1:  # options listed
        return []
    return [_Statement(text.rindex(lines[-1]), places[-1])]


def _said(text: str, start: int) -> str:
    """The rest of the line, or the next line with anything on it."""
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        line = text[start : min(end, start + _STATED_CHARS)]
        if _plain(line).strip(" :.").strip():
            return line
        start = end + 1
    return ""


def _denied(text: str, at: int) -> bool:
    """Whether the clause before a statement denies it, or puts it under a condition."""
    return bool(_DENIED.search(_CLAUSE.split(text[max(0, at - 120) : at])[-1]))


def _plain(said: str) -> str:
    """Words without Markdown's and LaTeX's marks."""
    said = _MARKS.sub("", _COMMAND.sub(" ", _HTML.sub("", said))).strip().lstrip("#>-•: ").strip()
    return re.sub(r"^_+|_+$|\s+", lambda found: " " if found[0].isspace() else "", said)


def _comparable(text: str) -> str:
    plain = _ARTICLE.sub("", _plain(text), count=1) if _ARTICLE.match(_plain(text)) else _plain(text)
    return re.sub(r"\s*([{}^_=+*/()-])\s*", r"\1", plain).rstrip(" .!").casefold()
