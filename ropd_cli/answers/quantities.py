r"""The last quantity of a text: a formula, or a number with what belongs to it.

Of "9 eggs * $2 = $18 a day" it is ``$18``, of "the point is (3, 4)" ``(3, 4)``, of "it grows as x^2" ``x^2``, of
"5 million people" ``5 million``, of "at least 5" ``at least 5``: a number is not taken out of what makes it another
one. Everything here takes time linear in the text's length.
"""

from __future__ import annotations

import re

_DELIMITER = re.compile(r"(?<!\\)\$\$?|\\[()\[\]]")
_OUTER = re.compile(r"^(?:\$\$?|\\[(\[])|(?:\$\$?|\\[)\]])$")
_CLOSES = {"$$": "$$", "$": "$", "\\(": "\\)", "\\[": "\\]"}
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_CALCULATION = re.compile(r"<<[^<>]*>>")
"""GSM8K's notes for a calculator: $<<9*2=18>>18."""
_LIST_MARK = re.compile(r"\s{0,20}(?:[-*+•]|\d{1,3}[.)])\s+(?=\S)")
_IDEOGRAPHS = re.compile("([\u3000-\u303f\u3400-\u9fff\uff08-\uff1f]+)")
_OPERATOR = re.compile(r"[-+*/^<>≤≥×÷·−±]+|\\(?:times|cdot|div|pm|leq?|geq?)")
_LETTER = re.compile(r"[b-zB-HJ-Z](?![A-Za-z])")
_EQUALS = re.compile(r"(?<![<>!:=])=(?!=)|≈|\\approx(?![a-z])")
_ALIGNED, _END = re.compile(r"\\begin\{(?:align|split|gather|eqnarray)"), re.compile(r"(?:\\\\ ?)?\\end\{")
_NO_WORDS = re.compile(r"\\(?:begin|operatorname|mathbb|mathrm)")
_STATES = re.compile(r"(?:^(?:is|are|be|equals|get|gives|obtain)|[:=])$")
_AMOUNT = re.compile(
    r"(?:percent|hundred|thousand|lakh|crore|[mbtr]+illion|dozen|tenth|pair)s?(?![a-z])"
    r"|at (?:most|least)|or (?:more|less|fewer)|squared|cubed|%|[万亿千百].*",
    re.I,
)
_CHANGES = re.compile(
    r"(?:^|\s)(?:\S{0,30}?\d\S{0,30}(?:\s[A-Za-z]+)?\s(?:or|and|in)(?:\s[a-z]\s=)?|(?<!from )\d\S{0,30}\sto"
    r"|at\s(?:least|most)|up\sto|(?:less|more|fewer|greater|higher|lower|larger|smaller|other)\sthan|minus|negative"
    r"|(?:not|cannot|\S{0,9}n['’]t)(?:\sbe)?"
    r"|\S{0,40}\\[pb]?mod"
    r"|under|over|above|below|twice|double|half(?:\s\w+)*)$",
    re.IGNORECASE,
)
"""Words before a number that make it another one, or an open one."""
_BEFORE, _WIDEST = 5, 40
"""So many words before a number are looked at; so many pieces may belong to it."""


def last_quantity(text: str) -> str | None:
    """Return the last quantity of a text; None without a digit, or a formula that a line states."""
    for line in reversed(_on_one_line(_CALCULATION.sub("", text)).splitlines()):
        mark = _LIST_MARK.match(line)
        pieces = _pieces(_IDEOGRAPHS.sub(r" \1 ", line[mark.end() :] if mark else line))
        while pieces and not re.search(r"\w", pieces[-1]):
            pieces.pop()
        if pieces and formulas(pieces[-1]) and (len(pieces) == 1 or _STATES.search(pieces[-2])):
            return _quantity(pieces, len(pieces) - 1)
        for at in range(len(pieces) - 1, -1, -1):
            if re.search(r"\d", pieces[at]) and (found := _quantity(pieces, at)):
                return found
    return None


def formulas(text: str) -> list[tuple[int, int]]:
    """Where the formulas of a text stand, by dollars or backslashes. One pass: what is never closed opens nothing.

    A dollar closes none on another line, or before a digit: it is money there.
    """
    spans = []
    last = {closer: text.rfind(closer) for closer in _CLOSES.values()}
    opened: tuple[int, str] | None = None
    for mark in _DELIMITER.finditer(text):
        if opened is not None and mark[0] == "$" == opened[1] and "\n" in text[opened[0] : mark.start()]:
            opened = None
        if opened is None:
            closer = _CLOSES.get(mark[0])
            if closer is not None and last[closer] > mark.start():
                opened = mark.start(), closer
        elif mark[0] == opened[1] and not (mark[0] == "$" and text[mark.end() : mark.end() + 1].isdigit()):
            spans.append((opened[0], mark.end()))
            opened = None
    return spans


def _on_one_line(text: str) -> str:
    """A text with each of its formulas on one line."""
    pieces, start = [], 0
    for begin, end in formulas(text):
        pieces += [text[start:begin], " ".join(text[begin:end].split())]
        start = end
    return "".join([*pieces, text[start:]])


def _pieces(line: str) -> list[str]:
    """The words of a line, each formula being one."""
    pieces, start = [], 0
    for begin, end in formulas(line):
        pieces += [*line[start:begin].split(), line[begin:end]]
        start = end
    return pieces + line[start:].split()


def _quantity(pieces: list[str], at: int) -> str:
    first = last = at
    found = pieces[at]
    if not formulas(found):
        first, last = _widened(pieces, at)
        found = _EQUALS.split(_END.split(" ".join(pieces[first : last + 1]))[0])[-1]
    elif _ALIGNED.search(found):
        found = _EQUALS.split(_END.split(found)[0])[-1]
    elif _WORD.search(found) and not _NO_WORDS.search(found):
        found = _EQUALS.split(found)[-1]
    found = _OUTER.sub("", found.strip()).strip().lstrip("*_`\"'“‘#&~:").rstrip("*_`\"'”’.,;:!?\\ ")
    while found.endswith(")") and _open(found) < 0:
        found = found[:-1]
    while found.startswith("(") and _open(found) > 0:
        found = found[1:]
    if last + 1 < len(pieces) and (amount := _AMOUNT.match(" ".join(pieces[last + 1 : last + 3]))):
        found += f" {amount[0]}"
    changes = _CHANGES.search(" ".join(pieces[max(0, first - _BEFORE) : first]))
    return f"{changes[0].strip()} {found}" if changes else found


def _widened(pieces: list[str], at: int) -> tuple[int, int]:
    """The first and the last piece of the formula in plain text that a piece is part of."""
    first = last = at
    balance = _open(pieces[at])
    while balance > 0 and last + 1 < min(len(pieces), at + _WIDEST) and not _WORD.search(pieces[last + 1]):
        last += 1
        balance += _open(pieces[last])
    while last + 2 < len(pieces) and _OPERATOR.fullmatch(pieces[last + 1]) and _LETTER.match(pieces[last + 2]):
        last += 2
    while first > max(0, at - _WIDEST):
        before = pieces[first - 1]
        if balance < 0 and not _WORD.search(before):
            step = 1
        elif _OPERATOR.fullmatch(before) and first > 1:
            if before in "-–−" and _WORD.search(pieces[first - 2]):
                break  # "Monday - 18"
            step = 2
        elif re.search(r"[-+*/^<>×÷]$", before) and not _WORD.search(before):
            step = 1
        else:
            break
        balance += sum(map(_open, pieces[first - step : first]))
        first -= step
    return first, last


def _open(text: str) -> int:
    """How many brackets of a text are open at its end, or closed too often."""
    return sum(text.count(each) for each in "([{") - sum(text.count(each) for each in ")]}")
