r"""The final result that a text states.

Thinking is not looked at. The result is the first of these that exists:

1. the content of the last complete ``\boxed{…}`` (``final_result``);
2. what follows ``####`` on the last line; else what follows ``Answer:``, ``answer is`` or ``####`` (where no words come
   after it) on the last line that has one of them, or on the next line where that one ends there, as a heading ``Final
   answer`` does. It ends with its clause ("5, since …"). Of a formula among words ("$5$ metres") it is the formula; of
   a sentence the number or formula that begins it, else its last number. "The answer is not …" states nothing;
3. the last number, or fraction of two numbers, of the text.
"""

from __future__ import annotations

import re

from ropd_cli.answers.thinking import answer_of

_MARKED = re.compile(
    r"\banswer\s*(?:\*\*|__)?\s*(?::|：|=|\bis\b(?!\s+(?:not|in)?correct\b|\s+(?:not|right|wrong)\b))", re.IGNORECASE
)
_SYMBOLS = re.compile(r"\\[A-Za-z]+|\b\d*[A-Za-z]\b")
_LEAD = re.compile(
    r"(?:(?:therefore|thus|hence|then|simply|just|exactly|clearly|equal\s+to|given\s+by)\b\s*[,:]?\s*)+", re.IGNORECASE
)
_BRACE = re.compile(r"\\boxed\{|[{}]")
_HASHES = "####"
"""On the last line whatever follows is the result: a heading is never the last line."""
_LINE_CHARS = 4000
"""So much is read of a line: replies that repeat themselves are long."""
_AMOUNTS = re.compile(r"percent|hundred|thousand|[mb]illion|dozen|times|[\d=<>+]", re.IGNORECASE)
_ASIDE = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
_HEADING = re.compile(r"[\s#*_]*(?:(?:the|my|final|correct)\s+)*answer[\s:*_]*", re.IGNORECASE)
_CLAUSE = re.compile(
    r"\.\s+(?=[A-Z])|,\s*(?=(?:or|not|since|because|as|so|where|with|i\.e\.|that is)\b)|\s(?=(?:because|since)\b)"
    r"|(?<!\\);\s"
)
_FORMULA = re.compile(r"\$\$.+?\$\$|\$[^$]+\$|\\\(.+?\\\)|\\\[.+?\\\]", re.DOTALL)
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_SENTENCE_WORDS = 4
"""So many words outside formulas are a sentence about the result, and not the result."""
_NUMBER = re.compile(r"-?(?:\d[\d,]*\.?\d*|\.\d+)(?:\s*/\s*-?\d+)?")


def stated_result(text: str) -> str | None:
    """The final result that a text states by this module's rule; None without one."""
    visible = answer_of(text)
    if visible is None:
        return None
    boxed = final_result(visible)
    if boxed is not None:
        return boxed.strip()
    lines = visible.rstrip().splitlines()
    stated: str | None
    if lines[-1].lstrip().startswith(_HASHES) and (stated := _bare(lines[-1].rpartition(_HASHES)[2])):
        return stated
    for at in range(len(lines) - 1, -1, -1):
        marked = _after_mark(lines[at])
        rest = _bare(marked) if marked else ""
        if rest:
            stated = _of_line(rest)
        elif marked is not None or _HEADING.fullmatch(lines[at]):
            stated = _of_next(lines[at + 1 :])
        else:
            continue
        if stated:
            return stated
    numbers = _NUMBER.findall(visible)
    return numbers[-1].rstrip(",.") if numbers else None


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
    begun = _FORMULA.match(rest) or _NUMBER.match(rest.removeprefix("\\$"))
    if begun:
        return begun[0].rstrip(",.")
    formulas = _FORMULA.findall(clause)
    if formulas:
        return formulas[-1]
    numbers = _NUMBER.findall(rest)
    return numbers[-1].rstrip(",.") if numbers else None


def _formula_among_words(clause: str) -> str | None:
    """The only formula of a clause whose other parts are words that change no value, as a unit or "(see above)"."""
    formulas = _FORMULA.findall(clause)
    around = _ASIDE.sub(" ", _FORMULA.sub(" ", clause)).strip()
    if len(formulas) != 1 or _AMOUNTS.search(around) or not (around == "" or _WORD.search(around)):
        return None
    return formulas[0]


def _of_next(lines: list[str]) -> str | None:
    """The result on the first line that is not empty, a displayed formula being one line; None for a sentence."""
    text = "\n".join(lines).strip()
    displayed = _FORMULA.match(text) if text.startswith(("$$", "\\[")) else None
    stated = displayed[0].strip("$").removeprefix("\\[").removesuffix("\\]") if displayed else text.partition("\n")[0]
    stated = _bare(stated if displayed else _clause(stated))
    return None if not displayed and _is_sentence(stated) else stated


def _clause(text: str) -> str:
    """A text up to the end of its first clause outside formulas."""
    hidden = _FORMULA.sub(lambda found: "0" * len(found[0]), text)
    end = _CLAUSE.search(hidden)
    return text[: end.start()] if end else text


def _is_sentence(text: str) -> bool:
    return len(_WORD.findall(_FORMULA.sub("", text))) >= _SENTENCE_WORDS


def _bare(stated: str) -> str:
    """What a line states, without Markdown's marks and the full stop after it."""
    return stated.strip().lstrip("*_`: ").rstrip("*_`: .").strip()


def final_result(text: str) -> str | None:
    """The content of the last complete ``\\boxed{…}`` of a text, braces balanced; None without one."""
    opened: list[int] = []  # where the content of every open brace begins; -1 for one that is no box
    found: tuple[int, int] | None = None
    for brace in _BRACE.finditer(text):
        if brace[0] == "{":
            opened.append(-1)
        elif brace[0] != "}":
            opened.append(brace.end())
        elif opened and (first := opened.pop()) >= 0 and (found is None or first > found[0]):
            found = first, brace.start()
    return text[slice(*found)] if found is not None else None
