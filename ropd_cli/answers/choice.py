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

from ropd_cli.answers.final_answer import boxes, listed
from ropd_cli.answers.thinking import answer_of

_IS = r"(?:['’]s\b|\s{1,20}(?:(?:is|(?:must|should|would|will)\s{1,20}be)\b\s{0,20}:?|(?:→|->|=>))|\s{0,20}[:：=])"
_ANSWER = re.compile(
    r"(?<![\w-])(?:answer|choice|option|selection|antwort|respuesta|réponse|risposta|resposta)"
    + r"(?:\s{1,20}to\s{1,20}(?:this|the)\s{1,20}question)?[*_`\"']{0,4}"
    + _IS
    + r"(?:\s{0,20}(?:therefore|thus|hence|then|clearly|most\s{1,20}likely|probably)\b,?)?",
    re.IGNORECASE,
)
_BARE_ANSWER = re.compile(
    r"(?<![\w-])answer[*_`]{0,4}\s{1,20}(?=[*_`]{0,4}\([A-Za-z]\)|[*_`]{0,4}[A-Z][)*_`.]{0,6}\s{0,20}$)", re.I | re.M
)
_HEADING = re.compile(
    r"^[ \t]{0,20}(?:#+[ \t]{0,20}|\*\*|__)(?:final|correct|best)?[ \t]{0,20}answer[ \t]{0,20}[*_]{0,8}[ \t]{0,20}$",
    re.I | re.M,
)
_CHOOSE = re.compile(
    r"\b(?:I|we)(?:['’](?:d|ll|m|re)|\s{1,20}would|\s{1,20}will)?\s{1,20}(?:therefore\s{1,20})?(?:choose|pick|select|go(?:ing)?\s{1,20}(?:with|for))\b"
    r"|\b(?:corresponds\s{1,20}to|matches|(?:which|that|this|it)\s{1,20}is)\s{1,20}(?=(?:the\s{1,20})?(?:option|choice|answer)\s{1,20}[*_`]{0,4}\(?[A-Z])",
    re.IGNORECASE,
)
_TAG = re.compile(
    r"<(?:final_)?(?:answer|choice|option)>|(?:答案|正确选项)\s{0,20}(?:应该|应当)?\s{0,20}[是为：:]+"
    r"|(?<![不备可候挑])选(?!项)择?\s{0,3}[：:]?\s{0,3}(?=[*_`(]{0,4}[A-Z])",
    re.IGNORECASE,
)
_LOOSE = re.compile(
    r"\b(?:answer|option|choice|one|correct|right|best|closest)\b(?:\s{1,20}(?!is\b)[A-Za-z,'’-]{1,20}){1,7}?\s{1,20}is\b:?\s{0,20}"
    r"(?=[*_`]{0,4}(?:(?:the\s{1,20})?option\s{1,20})?[*_`]{0,4}\(?[*_`]{0,4}[A-Z][*_`]{0,4}\)?[*_`]{0,4}(?:[.,;!]|\s{0,20}$))",
    re.IGNORECASE | re.MULTILINE,
)
_IS_RIGHT = re.compile(
    r"(?P<before>\b[A-Za-z]{1,20}\s{1,3})?(?<![\w\\-])(?P<open>[*_`]{0,4}\(?[*_`]{0,4})(?P<letter>[A-Z])(?P<close>[*_`]{0,4}\)?[*_`]{0,4})"
    r"\s{1,20}(?:is|must\s{1,20}be|has\s{1,20}to\s{1,20}be)\s{1,20}"
    r"(?:the\s{1,20}only\s{1,20}(?:one|option|choice)\b|(?:the\s{1,20})?(?:only\s{1,20})?(?:most\s{1,20})?(?:correct|right|best|answer)\b)"
)
_BEFORE_OPTION = re.compile(
    r"(?:option|choice|answer|letter|that|only|so|thus|therefore|hence|then|think|believe|say|conclude|clearly|since)\s{1,20}$",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"^[^\w\n]{0,20}(?:correct|ans|solution|final|response|result|conclusion)\.?[*_]{0,8}:(?=[^\w\n]{0,20}[A-Z][^\w\n]{0,20}$)",
    re.I | re.M,
)
_HENCE = re.compile(
    r"(?:\b(?:therefore|thus|hence|so)\b,?\s{1,20}|\bit\s{1,20}(?:must|has\s{1,20}to)\s{1,20}be\s{1,20}|\banswer\s{1,20}[-–—]\s{1,20})"
    r"(?=[(*_]{0,6}[A-Z][)*_]{0,6}[.!]?\s{0,20}$)",
    re.IGNORECASE | re.MULTILINE,
)
_IT_IS = re.compile(
    r"(?:\b[Ii]t(?:['’]s|\s{1,3}is)|\bI['’]d\s{1,3}say|\bnot\s{1,3}[*(]{0,3}[A-Z][*)]{0,3},?\s{1,3}but)\s{1,3}"
    r"(?=[*_`(]{0,4}[A-Z][)*_`]{0,4}(?:[.,;!]|\s{0,20}$))",
    re.MULTILINE,
)
_FENCE = re.compile(r"^[ \t]{0,20}```\w*[ \t]{0,20}$", re.MULTILINE)
_DENIED = re.compile(
    r"\b(?:not|never|if|whether|unless|wrong|incorrect|cannot|could|might|were|doubt)\b|n['’]t\b", re.IGNORECASE
)
_CLAUSE = re.compile(r"[.,;:!?\n]|\bbut\b|\bso\b", re.IGNORECASE)
_SENTENCE = re.compile(r"[.!?\n]")
_CONDITION = re.compile(r"\b(?:if|unless|were|had|suppose|supposing|assuming)\b", re.IGNORECASE)
_ASIDE = re.compile(r"\((?:if|were|had)\b[^()]*$", re.IGNORECASE)
_WOULD = re.compile(r"[^.;!?\n]{0,60}\b(?:would|might|could)\b", re.IGNORECASE)
_BARE_LETTER = re.compile(
    r"(?:(?i:the\s)?(?i:option|choice|answer|letter)\s{1,5})?(?:\(?([A-Z])\)?[.):!]{0,3}|\(?([a-z])\)[.:]?)"
    r"|(?i:option|choice|letter)\s{1,5}([a-z])\.?"
)
_NONE = re.compile(r"(?:none|neither|all)\b", re.IGNORECASE)
_LEAD = re.compile(
    r"(?:(?:the\s{1,20})?(?:option|choice|letter|answer|both|either)\b\s{0,20}:?\s{0,20})+", re.IGNORECASE
)
_LETTER = re.compile(r"(\()?([A-Za-z])(?![A-Za-z0-9_'’])(?(1)\s{0,20}\))")
_SECOND = re.compile(
    r"\s{0,20}(?:,\s{0,20}(?:and|or)|and/or|or|and|/|&|,|;)\s{0,20}(?:(?:maybe|perhaps|possibly|option)\s{1,20})*(?!I\s{1,20}[a-z])(\()?([A-Z])(?![\w'’])(?(1)\))(?!\s{1,20}(?:is|are|was)\b)"
)
_GOES_ON = re.compile(
    r"\s{1,20}(?:because|since|as|for|due|which|from|based|given|and|or|not|with|in|by|due|where|that|is)\b",
    re.IGNORECASE,
)
_COMMAND = re.compile(
    r"\\(?:textbf|text|mathrm|mathbf|mathit|mathsf|textrm|mbox|bf|rm|boxed|quad|qquad)(?![A-Za-z])|\\[,;:! ()\[\]]"
)
_HTML = re.compile(r"</?(?i:\w+_)?(?i:answer|choice|option)>|</?(?:b|i|em|u|p|strong)>|<(?=[A-Za-z]>)|(?<=<[A-Za-z])>")
_ARTICLE = re.compile(r"(?:an?|the)\s{1,20}(?=\w{2})", re.IGNORECASE)
_STATED_CHARS, _NEXT_LINES, _STATEMENTS = 1000, 40, 200
"""So much is read of what a statement says, so many lines below it are looked at, and so many statements from the end
of each kind: replies that repeat themselves are long."""
_MARKS = re.compile(r"[*`$\"“”‘{}\[\]~]|__|^'|(?<=\W)'|'(?=\W|$)")


@dataclass(frozen=True)
class _Statement:
    """Where a statement stands, and the place of the option it names; None where it names no single one."""

    at: int
    place: int | None
    is_firm: bool = True
    """"The answer would be B" is not: it counts where nothing else is stated."""


def read_choice(text: str, options: Sequence[str]) -> str | None:
    """The letter that a reply chooses among ``options`` (texts in the order shown, A first); None without one."""
    visible = answer_of(text)
    if visible is None:
        return None
    visible = _FENCE.sub("", visible).replace("（", "(").replace("）", ")")
    reader = _Reader(options)
    statements = [*_boxes(visible, reader), *_answers(visible, reader), *_called_right(visible, reader)]
    statements += _last_line(visible, reader, explicit=bool(statements))
    if statements:
        place = max(statements, key=lambda statement: (statement.is_firm, statement.at)).place
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
        if alone := _BARE_LETTER.fullmatch(plain):
            return self.place(alone[1] or alone[2] or alone[3])
        said = _comparable(plain)
        if self._texts.count(said) == 1:
            return self._texts.index(said)
        marked = re.match(
            r"(?:(?i:option|choice)\s+)?\(?([A-Za-z])(?:\)\.?|[.:]|\s(?:is|[-–—]))\s+(.+)", plain, re.DOTALL
        )
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
    """The last box, or list of boxes, that names an option."""
    found = boxes(text)
    for last in range(len(found), max(0, len(found) - _STATEMENTS), -1):
        if stated := reader.stated(listed(text, found[:last])[:_STATED_CHARS]):
            return [_Statement(found[last - 1][0], stated[0])]
    return []


def _answers(text: str, reader: _Reader) -> list[_Statement]:
    """The last statement of each kind that names an option."""
    statements = []
    for pattern in (_ANSWER, _BARE_ANSWER, _HEADING, _CHOOSE, _TAG, _LOOSE, _LABEL, _HENCE, _IT_IS):
        for found in reversed(list(pattern.finditer(text))[-_STATEMENTS:]):
            if _denied(text, found.start()) or (pattern is _LOOSE and _DENIED.search(found[0])):
                continue
            if stated := reader.stated(_said(text, found.end())):
                is_firm = not re.search(r"\b(?:would|might|could)\b", found[0], re.IGNORECASE)
                statements.append(_Statement(found.start(), stated[0], is_firm))
                if is_firm:
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


def _last_line(text: str, reader: _Reader, explicit: bool) -> list[_Statement]:
    lines = [line for line in text.splitlines() if line.strip()]
    places = [reader.line(line[:_STATED_CHARS]) for line in lines[-reader.count :]]
    if not places or places[-1] is None or len({place for place in places if place is not None}) > 1:  # options listed
        return []
    if explicit and not _BARE_LETTER.fullmatch(_plain(lines[-1][:_STATED_CHARS])):
        return []  # an option that is only quoted
    return [_Statement(text.rindex(lines[-1]), places[-1])]


def _said(text: str, start: int) -> str:
    """The rest of the line, or the next line with anything on it, not far below."""
    for _ in range(_NEXT_LINES):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        line = text[start : min(end, start + _STATED_CHARS)]
        if _plain(line).strip(" :.").strip():
            return line
        start = end + 1
    return ""


def _denied(text: str, at: int) -> bool:
    """Whether the clause before a statement denies it, or puts it under a condition: so does the whole sentence before
    "the answer would be"."""
    before = text[max(0, at - 120) : at]
    if _ASIDE.search(before):
        return True
    if _WOULD.match(text, at) and _CONDITION.search(_SENTENCE.split(before)[-1]):
        return True
    return bool(_DENIED.search(_CLAUSE.split(before)[-1]))


def _plain(said: str) -> str:
    """Words without Markdown's and LaTeX's marks."""
    said = _MARKS.sub("", _COMMAND.sub(" ", _HTML.sub("", said))).strip().lstrip("#>-•=→⇒: ").strip()
    return " ".join(said.strip("_").split())


def _comparable(text: str) -> str:
    plain = _ARTICLE.sub("", _plain(text), count=1) if _ARTICLE.match(_plain(text)) else _plain(text)
    return re.sub(r"\s*([{}^_=+*/()-])\s*", r"\1", plain).rstrip(" .!").casefold()
