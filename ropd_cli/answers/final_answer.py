r"""The final result that a text states.

Thinking is not looked at. The result is the first of these that exists:

1. what an explicit statement after the last box says: ``Final answer: X`` (also "correct", "actual" or "revised"
   answer), ``#### X`` on the last line, or ``<answer>X</answer>``. It takes back the box;
2. the content of the last complete ``\boxed{…}``, or of a sentence in it what 3 says. Boxes side by side, also joined
   by "and", "or" or a comma, are one list;
3. the content of ``<answer>…</answer>``; what follows ``####`` on the last line; else what follows ``Answer:``,
   ``answer is`` or ``####`` (where no words come after it) on the last line that has one of them, or on the next line
   where that one ends there, as a heading ``Final answer`` does. It ends with its clause ("5, since …"). Of a formula
   among words ("$5$ metres") it is the formula; of a sentence the number or formula that begins it, else its last
   quantity. "The answer is not …" states nothing;
4. the last quantity of the text (``quantities``).

Everything here takes time linear in the text's length, whatever it is.
"""

from __future__ import annotations

import re

from ropd_cli.answers.quantities import formulas, last_quantity
from ropd_cli.answers.thinking import answer_of

_MARKED = re.compile(
    r"(?:\banswers?|答案)[\s*_]{0,20}(?::|：|=|是|为|\b(?:is|are)\b(?!\s{1,9}(?:(?:not|in)?correct|not|right|wrong)\b))",
    re.I,
)
_FINAL = re.compile(r"\b(?:final|correct|corrected|actual|right|revised)\s{1,5}(?=answer)", re.IGNORECASE)
_ABOUT = re.compile(r"\b(?:confiden|certain|check|verif)", re.IGNORECASE)
_SYMBOLS = re.compile(r"\\[A-Za-z]+|\b\d*[A-Za-z]\b")
_LEAD = re.compile(
    r"(?:(?:therefore|thus|hence|then|indeed|simply|just|exactly|clearly|equal\s{1,5}to|given\s{1,5}by)\b[\s,:]*)+",
    re.IGNORECASE,
)
_BRACE = re.compile(r"\\(?:boxed|fbox)\s?\{|[{}]")
_BETWEEN_BOXES = re.compile(
    r"(?:\s|\\?\$|\\[()\[\],;]|\*|\\q?quad|[.]?[A-Za-z] ?=)*(?:,|;|and\b|or\b|\\text\{ ?(?:and|or) ?\})"
    r"(?:\s|and\b|or\b|\$|\\[()\[\],;]|\*|\\q?quad|[A-Za-z] ?=)*|[ $]*"
)
_HASHES = "####"
"""On the last line whatever follows is the result: a heading is never the last line."""
_LINE_CHARS = 4000
"""So much is read of a line: replies that repeat themselves are long."""
_OPENS = ("\\[", "$$")
_NEXT_LINES = 40
_BETWEEN_CHARS = 80
_AMOUNTS = re.compile(r"percent|hundred|thousand|[mb]illion|dozen|times|[\d=<>+]", re.IGNORECASE)
_GOES_ON = re.compile(
    r"\s?(?:[-+*/^=<>×÷]|\\|(?:percent|%|hundred|thousand|[mbtr]+illion|dozen|times|or|to|and\s+a|out\s+of"
    r"|(?:more|less|fewer)\s+than)\b"
    r"|(?:[A-Za-z]+\s){1,2}[\d$]|(?:[A-Za-z]+\s){1,5}and\s[\d$])",
    re.IGNORECASE,
)
_ASIDE = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
_HEADING = re.compile(r"[\s#*_]*(?:(?:the|my|final|correct)\s{1,5})*answer[\s:*_]*", re.IGNORECASE)
_CLAUSE = re.compile(
    r"\.[*_]{0,3}\s{1,9}(?=[A-Z])|。|,\s{0,9}(?=(?:or|not|since|because|as|so|where|with|that is)\b|i\.e\.)"
    r"|\s(?=(?:because|since)\b)|(?<!\\);\s"
)
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_SENTENCE_WORDS = 4
"""So many words outside formulas are a sentence about the result, and not the result; so are fewer with a verb."""
_VERB = re.compile(r"\w\W{1,3}(?:is|are|was|were|equals|has|have|makes|costs|takes|needs)\s", re.IGNORECASE)
_CONDITION = re.compile(r"\b(?:if|when|unless|for|otherwise|where)\b", re.IGNORECASE)
_TEXT = re.compile(r"\\text\s?\{([^{}]*)\}")
_NUMBER = re.compile(r"-?(?:\d[\d,]*\.?\d*|\.\d+)(?:\s{0,3}/\s{0,3}-?\d+)?")


def stated_result(text: str) -> str | None:
    """The final result that a text states by this module's rule; None without one."""
    visible = answer_of(text)
    if visible is None:
        return None
    found, tagged = boxes(visible), _tagged(visible)
    if tagged is not None and (not found or found[-1][0] < tagged[0]):
        return _of_tag(visible[slice(*tagged)])
    if not found:
        return _unboxed(visible)
    boxed = listed(visible, found)
    later = _explicit(visible[found[-1][2] + 1 :])
    return later if later is not None and later.rstrip("!") != boxed else _of_box(boxed)


def _unboxed(text: str) -> str | None:
    """The result that a text without a box states; None without one."""
    lines = [line for line in text.splitlines() if line.strip()]
    if (stated := _after_hashes(lines)) or (stated := _last_statement(lines)):
        return stated
    return last_quantity(text) or (_bare(lines[0]) if len(lines) == 1 and not _WORD.search(text) else None)


def _tagged(text: str) -> tuple[int, int] | None:
    """Where the content of the last ``<answer>…</answer>`` stands; None without one."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    return (start + len("<answer>"), end) if start >= 0 else None


def _of_tag(content: str) -> str | None:
    """The result that the content of ``<answer>…</answer>`` states; None without one."""
    line = _bare(" ".join(content.split()))
    return _unboxed(content) if not line or _MARKED.search(line) or len(line) > _LINE_CHARS else _of_line(line)


def _of_box(boxed: str) -> str:
    """The result that a box states: its content, or what a sentence in it says."""
    words = _TEXT.sub(r"\1", boxed)
    if _CONDITION.search(words) or not (_is_sentence(words) or _MARKED.search(words)):
        return boxed
    stated = _last_statement([words]) or _of_line(words)
    return stated if stated and re.search(r"\d", stated) else boxed


def final_result(text: str) -> str | None:
    """The content of the last complete ``\\boxed{…}`` of a text, braces balanced; None without one."""
    found = boxes(text)
    return text[slice(*found[-1][1:])] if found else None


def boxes(text: str) -> list[tuple[int, int, int]]:
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


def listed(text: str, found: list[tuple[int, int, int]]) -> str:
    """The content of the last box, after those of the boxes that stand before it in one list."""
    start, *content = found[-1]
    contents = {text[slice(*content)].strip(): None}
    if "" in contents:
        return ""
    for before, inside, end in reversed(found[:-1]):
        between = text[end + 1 : start]
        if end > start or len(between) > _BETWEEN_CHARS or not _BETWEEN_BOXES.fullmatch(between):
            break
        contents.setdefault(text[inside:end].strip())
        start = before
    return ", ".join(reversed(contents))


def _explicit(after: str) -> str | None:
    """The value that a text states as its final answer, in so many words; None without one, and for words alone."""
    lines = [line for line in after.splitlines() if line.strip()]
    if stated := _after_hashes(lines):
        return stated
    for at in range(len(lines) - 1, -1, -1):
        final = _FINAL.search(lines[at])
        if final is None or _ABOUT.search(lines[at][: final.start()]):
            continue
        marked = _after_mark(lines[at])
        if marked and (rest := _bare(marked)):
            clause = _bare(_clause(rest))
            return None if _is_sentence(clause) and not _NUMBER.match(clause) else _value(_of_line(rest))
        if marked is not None or _HEADING.fullmatch(lines[at]):
            return _value(_of_next(lines[at + 1 : at + _NEXT_LINES]))
    return None


def _value(stated: str | None) -> str | None:
    return None if stated is None or _WORD.match(stated) else stated


def _after_hashes(lines: list[str]) -> str | None:
    if not lines or not lines[-1].lstrip().startswith(_HASHES):
        return None
    return _bare(lines[-1].rpartition(_HASHES)[2]) or None


def _last_statement(lines: list[str]) -> str | None:
    for at in range(len(lines) - 1, -1, -1):
        marked = _after_mark(lines[at])
        rest = _bare(marked) if marked else ""
        if rest in _OPENS:
            stated = _of_next([rest, *lines[at + 1 : at + _NEXT_LINES]])
        elif rest:
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
    spans = formulas(clause)
    if spans and spans[0][0] == 0:
        return clause[slice(*spans[0])]
    if begun := _NUMBER.match(clause.removeprefix("\\").removeprefix("$")):
        after = clause[clause.find(begun[0]) + len(begun[0]) :]
        return clause if _GOES_ON.match(after) else begun[0].rstrip(",.")  # "2 hours 50 minutes" is more than 2
    last = last_quantity(clause) or (None if spans else last_quantity(rest))
    return last or (clause[slice(*spans[-1])] if spans else None)


def _formula_among_words(clause: str) -> str | None:
    """The only formula of a clause whose other parts are words that change no value, as a unit or "(see above)"."""
    spans = formulas(clause)
    if len(spans) != 1:
        return None
    start, end = spans[0]
    around = _ASIDE.sub(" ", f"{clause[:start]} {clause[end:]}").strip()
    if _AMOUNTS.search(around) or not (around == "" or _WORD.search(around)):
        return None
    return clause[start:end]


def _of_next(lines: list[str]) -> str | None:
    """The result on the first line that is not empty, a displayed formula being one line; None for a sentence."""
    text = "\n".join(lines).strip()[:_LINE_CHARS]
    spans = formulas(text) if text.startswith(("$$", "\\[")) else []
    if spans and spans[0][0] == 0:
        return _bare(text[slice(*spans[0])].strip("$").removeprefix("\\[").removesuffix("\\]"))
    stated = _bare(_clause(text.partition("\n")[0]))
    return None if _is_sentence(stated) else stated


def _clause(text: str) -> str:
    """A text up to the end of its first clause outside formulas."""
    hidden = text
    for start, end in formulas(text):
        hidden = hidden[:start] + "0" * (end - start) + hidden[end:]
    end_of = _CLAUSE.search(hidden)
    return text[: end_of.start()] if end_of else text


def _is_sentence(text: str) -> bool:
    pieces, start = [], 0
    for first, end in formulas(text):
        pieces.append(text[start:first])
        start = end
    words = " ".join([*pieces, text[start:]])
    return len(_WORD.findall(words)) >= _SENTENCE_WORDS or _VERB.search(words) is not None


def _bare(stated: str) -> str:
    """What a line states, without Markdown's marks and the full stop after it."""
    bare = stated.strip().lstrip("*_`: ").rstrip("*_`: .").strip()
    return bare.strip('"“”') if bare[:1] in ('"', "“") else bare
