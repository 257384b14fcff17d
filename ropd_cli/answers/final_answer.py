r"""The final result that a text states.

Thinking is not looked at. The result is the first of these that exists:

1. what an explicit statement after the last box says: ``Final answer: X`` (also "correct", "actual" or "revised"
   answer, or ``#### X`` on the last line). It takes back the box;
2. the content of the last complete ``\boxed{…}``. Boxes side by side, joined by "and", "or" or a comma, are one list;
3. what follows ``####`` on the last line; else what follows ``Answer:``, ``answer is`` or ``####`` (where no words come
   after it) on the last line that has one of them, or on the next line where that one ends there, as a heading ``Final
   answer`` does. It ends with its clause ("5, since …"). Of a formula among words ("$5$ metres") it is the formula; of
   a sentence the number or formula that begins it, else its last number. "The answer is not …" states nothing;
4. the last number, or fraction of two numbers, of the text.

Everything here takes time linear in the text's length, whatever it is.
"""

from __future__ import annotations

import re

from ropd_cli.answers.thinking import answer_of

_MARKED = re.compile(
    r"(?:\banswers?|答案)[\s*_]{0,20}(?::|：|=|是|为|\b(?:is|are)\b(?!\s{1,9}(?:(?:not|in)?correct|not|right|wrong)\b))",
    re.I,
)
_FINAL = re.compile(r"\b(?:final|correct|corrected|actual|right|revised)\s{1,5}(?=answer)", re.IGNORECASE)
_SYMBOLS = re.compile(r"\\[A-Za-z]+|\b\d*[A-Za-z]\b")
_LEAD = re.compile(
    r"(?:(?:therefore|thus|hence|then|simply|just|exactly|clearly|equal\s{1,5}to|given\s{1,5}by)\b[\s,:]*)+",
    re.IGNORECASE,
)
_BRACE = re.compile(r"\\(?:boxed|fbox)\s?\{|[{}]")
_BETWEEN_BOXES = re.compile(
    r"(?:\s|\\?\$|\\[()\[\],;]|\*|\\q?quad|[.]?[A-Za-z] ?=)*(?:,|;|and\b|or\b|\\text\{ ?(?:and|or) ?\})"
    r"(?:\s|and\b|or\b|\$|\\[()\[\],;]|\*|\\q?quad|[A-Za-z] ?=)*"
)
_HASHES = "####"
"""On the last line whatever follows is the result: a heading is never the last line."""
_LINE_CHARS = 4000
"""So much is read of a line: replies that repeat themselves are long."""
_NEXT_LINES = 40
_BETWEEN_CHARS = 80
_AMOUNTS = re.compile(r"percent|hundred|thousand|[mb]illion|dozen|times|[\d=<>+]", re.IGNORECASE)
_GOES_ON = re.compile(
    r"\s?(?:[-+*/^=<>×÷]|\\|(?:percent|%|hundred|thousand|[mbtr]+illion|dozen|times|or|to|and\s+a)\b"
    r"|(?:[A-Za-z]+\s){1,2}(?:and\s)?[\d$])",
    re.IGNORECASE,
)
_ASIDE = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
_HEADING = re.compile(r"[\s#*_]*(?:(?:the|my|final|correct)\s{1,5})*answer[\s:*_]*", re.IGNORECASE)
_CLAUSE = re.compile(
    r"\.[*_]{0,3}\s{1,9}(?=[A-Z])|。|,\s{0,9}(?=(?:or|not|since|because|as|so|where|with|i\.e\.|that is)\b)"
    r"|\s(?=(?:because|since)\b)|(?<!\\);\s"
)
_DELIMITER = re.compile(r"(?<!\\)\$\$?|\\[()\[\]]")
_CLOSES = {"$$": "$$", "$": "$", "\\(": "\\)", "\\[": "\\]"}
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_SENTENCE_WORDS = 4
"""So many words outside formulas are a sentence about the result, and not the result."""
_NUMBER = re.compile(r"-?(?:\d[\d,]*\.?\d*|\.\d+)(?:\s{0,3}/\s{0,3}-?\d+)?")


def stated_result(text: str) -> str | None:
    """The final result that a text states by this module's rule; None without one."""
    visible = answer_of(text)
    if visible is None:
        return None
    boxes = _boxes(visible)
    if boxes:
        boxed = _last_boxes(visible, boxes)
        later = _explicit(visible[boxes[-1][2] + 1 :])
        takes_back = later is not None and (re.search(r"\d", later) or not re.search(r"\d", boxed))
        return later if takes_back else boxed
    lines = [line for line in visible.splitlines() if line.strip()]
    if (stated := _after_hashes(lines)) or (stated := _last_statement(lines)):
        return stated
    numbers = _NUMBER.findall(visible)
    return numbers[-1].rstrip(",.") if numbers else None


def final_result(text: str) -> str | None:
    """The content of the last complete ``\\boxed{…}`` of a text, braces balanced; None without one."""
    boxes = _boxes(text)
    return text[slice(*boxes[-1][1:])] if boxes else None


def _boxes(text: str) -> list[tuple[int, int, int]]:
    """(start, start of the content, its end) of the complete boxes, in the order of their contents' starts."""
    opened: list[tuple[int, int] | None] = []  # of every open brace; None for one that is no box
    found = []
    for brace in _BRACE.finditer(text):
        if brace[0] == "{":
            opened.append(None)
        elif brace[0] != "}":
            opened.append(brace.span())
        elif opened and (box := opened.pop()) is not None:
            found.append((*box, brace.start()))
    return sorted(found)


def _last_boxes(text: str, boxes: list[tuple[int, int, int]]) -> str:
    """The content of the last box, after those of the boxes that stand before it in one list."""
    start, *content = boxes[-1]
    contents = [text[slice(*content)].strip()]
    for before, inside, end in reversed(boxes[:-1]):
        between = text[end + 1 : start]
        if end > start or len(between) > _BETWEEN_CHARS or not _BETWEEN_BOXES.fullmatch(between):
            break
        if (earlier := text[inside:end].strip()) not in contents:
            contents.insert(0, earlier)
        start = before
    return ", ".join(contents)


def _explicit(after: str) -> str | None:
    """The result that a text states as its final answer, in so many words; None without one."""
    lines = [line for line in after.splitlines() if line.strip()]
    if stated := _after_hashes(lines):
        return stated
    for at in range(len(lines) - 1, -1, -1):
        if not _FINAL.search(lines[at]):
            continue
        marked = _after_mark(lines[at])
        if marked and (rest := _bare(marked)):
            clause = _bare(_clause(rest))
            return None if _is_sentence(clause) and not _NUMBER.match(clause) else _of_line(rest)
        if marked is not None or _HEADING.fullmatch(lines[at]):
            return _of_next(lines[at + 1 : at + _NEXT_LINES])
    return None


def _after_hashes(lines: list[str]) -> str | None:
    if not lines or not lines[-1].lstrip().startswith(_HASHES):
        return None
    return _bare(lines[-1].rpartition(_HASHES)[2]) or None


def _last_statement(lines: list[str]) -> str | None:
    for at in range(len(lines) - 1, -1, -1):
        marked = _after_mark(lines[at])
        rest = _bare(marked) if marked else ""
        if rest:
            stated = _of_line(rest)
        elif marked is not None or _HEADING.fullmatch(lines[at]):
            stated = _of_next(lines[at + 1 : at + _NEXT_LINES])
        else:
            continue
        if stated:
            return stated
    return None


def _after_mark(line: str) -> str | None:
    """What follows the last "answer is" or #### of a line; None without one."""
    start = max((mark.end() for mark in _MARKED.finditer(line)), default=-1)
    hashes = line.rfind(_HASHES)
    if hashes >= max(start, 0):
        after = line[hashes + len(_HASHES) :][:_LINE_CHARS]
        if after.strip() and not re.search(r"[A-Za-z]", _SYMBOLS.sub("", after)):
            return after
    return line[start:][:_LINE_CHARS] if start >= 0 else None


def _of_line(rest: str) -> str | None:
    """The result in what follows "the answer is" on a line; None without one."""
    rest = _LEAD.sub("", rest, count=1) if _LEAD.match(rest) else rest
    clause = _bare(_clause(rest))
    if (formula := _formula_among_words(clause)) is not None:
        return formula
    if not _is_sentence(clause):
        return clause
    formulas = _formulas(clause)
    if formulas and formulas[0][0] == 0:
        return clause[slice(*formulas[0])]
    if begun := _NUMBER.match(clause.removeprefix("\\").removeprefix("$")):
        after = clause[clause.find(begun[0]) + len(begun[0]) :]
        return clause if _GOES_ON.match(after) else begun[0].rstrip(",.")  # "2 hours 50 minutes" is more than 2
    if formulas:
        return clause[slice(*formulas[-1])]
    numbers = _NUMBER.findall(rest)
    return numbers[-1].rstrip(",.") if numbers else None


def _formula_among_words(clause: str) -> str | None:
    """The only formula of a clause whose other parts are words that change no value, as a unit or "(see above)"."""
    formulas = _formulas(clause)
    if len(formulas) != 1:
        return None
    start, end = formulas[0]
    around = _ASIDE.sub(" ", f"{clause[:start]} {clause[end:]}").strip()
    if _AMOUNTS.search(around) or not (around == "" or _WORD.search(around)):
        return None
    return clause[start:end]


def _of_next(lines: list[str]) -> str | None:
    """The result on the first line that is not empty, a displayed formula being one line; None for a sentence."""
    text = "\n".join(lines).strip()[:_LINE_CHARS]
    formulas = _formulas(text) if text.startswith(("$$", "\\[")) else []
    if formulas and formulas[0][0] == 0:
        return _bare(text[slice(*formulas[0])].strip("$").removeprefix("\\[").removesuffix("\\]"))
    stated = _bare(_clause(text.partition("\n")[0]))
    return None if _is_sentence(stated) else stated


def _clause(text: str) -> str:
    """A text up to the end of its first clause outside formulas."""
    hidden = text
    for start, end in _formulas(text):
        hidden = hidden[:start] + "0" * (end - start) + hidden[end:]
    end_of = _CLAUSE.search(hidden)
    return text[: end_of.start()] if end_of else text


def _is_sentence(text: str) -> bool:
    pieces, start = [], 0
    for first, end in _formulas(text):
        pieces.append(text[start:first])
        start = end
    return len(_WORD.findall(" ".join([*pieces, text[start:]]))) >= _SENTENCE_WORDS


def _formulas(text: str) -> list[tuple[int, int]]:
    """Where the formulas of a text stand, by dollars or backslashes. One pass: what is never closed opens nothing."""
    spans = []
    last = {closer: text.rfind(closer) for closer in _CLOSES.values()}
    opened: tuple[int, str] | None = None
    for mark in _DELIMITER.finditer(text):
        if opened is None:
            closer = _CLOSES.get(mark[0])
            if closer is not None and last[closer] > mark.start():
                opened = mark.start(), closer
        elif mark[0] == opened[1] and not (mark[0] == "$" and text[mark.end() : mark.end() + 1].isdigit()):
            spans.append((opened[0], mark.end()))
            opened = None
    return spans


def _bare(stated: str) -> str:
    """What a line states, without Markdown's marks and the full stop after it."""
    return stated.strip().lstrip("*_`: ").rstrip("*_`: .").strip()
