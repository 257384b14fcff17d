r"""Which of several lettered options an answer chooses.

The text is first freed of Markdown and LaTeX dress. Then its *statements* are looked for: a ``\boxed{…}``, "the
answer is …" and the like, "option C is correct", "I choose C", "Therefore C", and, where none of these is there, a line
that is nothing but an option. The last statement counts. One that names several options ("A or B") chooses none; one
that asks or denies ("B is not correct") is none. A statement that gives exactly one option's text chooses that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ropd_cli.exact import final_result

LETTERS = "ABCDEFGHIJ"

_WRAP = re.compile(
    r"\\(?:text|textbf|textit|textrm|texttt|mathrm|mathbf|mathsf|boldsymbol|bm|emph|mbox)\s*\{([^{}]*)\}"
)
_LATEX = re.compile(r"\\[,;:! ]|\\left|\\right|\\displaystyle|\\quad|\\[()\[\]]|[${}]")
_MARKDOWN = re.compile(r"\*+|`+|(?<![A-Za-z0-9])_+|_+(?![A-Za-z0-9])|^#+\s*|^>\s*", re.MULTILINE)
_BOX, _END = "\u27e6", "\u27e7"

_OPEN, _CLOSE = r"[(\[\"'“‘<]*\s*", r"\s*[)\]\"'”’>]*"
_NOUN = r"(?:options?|choices?|answers?|letters?|alternatives?)"
_ADVERB = (
    r"(?:therefore|thus|hence|clearly|indeed|definitely|simply|likely|most|probably|actually|in\s+fact|obviously|then)"
)
_BETWEEN = rf"(?:\s*(?:{_ADVERB}|the|correct|best|right|final)\b)*[\s:,]*(?:{_NOUN}\s*)?[:\s]*"
_DENIAL = re.compile(
    r"(?:\bnot|n't|\bnor|\bneither|\bwhether|\bif|\bwhy|\bunless|\bcannot|\bdoubt|\beliminate[sd]?|\bexcept)"
    r"(?:(?!\bbut\b|\bso\b)[^.!?;\n]){0,30}$",
    re.IGNORECASE,
)
_GOES_ON = re.compile(
    r"\s*(?:$|[.,;:!)\]\"'”’}\u27e7–—-]|\n|\((?!s\))|(?:is|because|since|as|which|and|or|with|from|by|due|given|for|where|"
    r"that|but|so|in|to|of)\b|[=≈])",
    re.IGNORECASE,
)


def chosen_option(text: str, options: Sequence[str]) -> int | None:
    """The index of the option that ``text`` (the visible answer) chooses; None where it chooses none, or several.

    ``options`` are the texts in the order in which they were lettered.
    """
    return _Reader(options).read(text)


class _Reader:
    def __init__(self, options: Sequence[str]) -> None:
        self._texts = [_plain(option) for option in options]
        known = LETTERS[: len(options)]
        self._letter = rf"(?<![A-Za-z0-9\\]){_OPEN}(?P<L>[{known}{known.lower()}])(?![A-Za-z0-9²³^]|['’][a-z]){_CLOSE}"
        letter = self._letter
        self._known = known
        flags = re.IGNORECASE
        texts = "|".join(re.escape(_undressed(option).strip()) for option in options)
        self._stated = [
            re.compile(rf"{_BOX}\s*(?:{_NOUN}\s*)?(?:is\b)?[:\s]*{letter}", flags),
            re.compile(
                rf"\b{_NOUN}(?:\s+{_NOUN})?(?:\s*\(?(?:letter)\)?)?\s*(?:is|:|=|would\s+be|should\s+be|must\s+be|will\s+be|"
                rf"→|->|=>|\s[-–—]\s)+{_BETWEEN}{letter}",
                flags,
            ),
            re.compile(
                rf"(?:\b{_NOUN}\s+)?{letter}\s*(?:is|seems|appears|must\s+be|would\s+be|has\s+to\s+be)\s+"
                rf"(?:to\s+be\s+)?(?:(?:{_ADVERB}|the|my|our|only|single)\s+)*(?:correct|right|best|true|answer|final\s+answer)",
                flags,
            ),
            re.compile(
                rf"\b(?:i|we)(?:'d|'ll|\s+would|\s+will|\s+must|\s+can|\s+should)?\s+(?:\w+ly\s+)?(?:choose|pick|select|go\s+with|"
                rf"going\s+with|answer|settle\s+on)\s+(?:with\s+)?(?:the\s+)?(?:{_NOUN}\s*)?[:\s]*{letter}",
                flags,
            ),
            re.compile(
                rf"\b(?:therefore|thus|hence|so|accordingly|consequently|conclusion|result)[,:]?\s+"
                rf"(?:it\s+is\s+|it's\s+|it\s+must\s+be\s+|the\s+)?(?:{_NOUN}\s*)?[:\s]*{letter}"
                rf"(?=\s*(?:[.!]|$|\n|{_END}))",
                flags,
            ),
            re.compile(
                rf"\b(?:leaves|leaving|corresponds\s+to|matches|choose)\s+(?:only\s+|us\s+with\s+)?{_NOUN}\s*{letter}",
                flags,
            ),
            re.compile(rf"\bonly\s+(?:{_NOUN}\s+)?{letter}\s+(?:is|remains|works|fits|satisfies|can|holds)\b", flags),
            re.compile(rf"{letter}\s+is\s+the\s+only\b", flags),
            re.compile(
                rf"\bit(?:'s|’s|\s+is|\s+must\s+be|\s+has\s+to\s+be)\s+(?:{_NOUN}\s+)?{letter}(?=\s*(?:[.!]|$|\n))",
                flags,
            ),
            re.compile(rf"(?:答案|正确选项|选项|选择|选)\s*(?:应该|应当)?\s*[是为：:]*\s*{letter}", flags),
            re.compile(rf"<answer>\s*{letter}", flags),
            re.compile(rf"\bcorrect\s*[:=]\s*{letter}", flags),
            re.compile(rf"\b{_NOUN}\s+{letter}\s*[:,–—-]\s*(?:{texts})\s+is\s+(?:the\s+)?(?:correct|right)", flags),
        ]
        self._more = re.compile(
            rf"\s*(?:or|and|/|,|&|\+)+\s*(?:maybe\s+|possibly\s+|perhaps\s+)?(?:{_NOUN}\s*)?{letter}", flags
        )
        self._line = re.compile(rf"^\s*(?:[-•]\s*)?(?:{_NOUN}\s*)?{letter}\s*(?P<rest>[.:)–—-]*.*)$", flags)
        self._texts_stated = re.compile(
            rf"(?:{_BOX}|\b(?:answer|{_NOUN})(?:\s+{_NOUN})?\s*(?:is|:|=)+)\s*(?P<text>[^\n{_END}]+)", flags
        )

    def read(self, text: str) -> int | None:
        """As ``chosen_option``."""
        clean = _undressed(text)
        found: list[tuple[int, int | None]] = []
        for pattern in self._stated:
            for match in pattern.finditer(clean):
                if self._counts(clean, match):
                    found.append((match.start("L"), self._chosen(clean, match)))
        last_text = self._by_text(clean)
        if found:
            place, choice = max(found, key=lambda each: each[0])
            if last_text is not None and last_text[0] > place and choice is not None:
                return last_text[1]
            return choice
        if last_text is not None:
            return last_text[1]
        return self._by_line(clean)

    def _counts(self, clean: str, match: re.Match[str]) -> bool:
        """Whether a match is a statement: not a question, a denial, or an article."""
        after = clean[match.end() :]
        if after.lstrip(" )]\"'.").startswith("?"):
            return False
        before = clean[: match.start()]
        if _DENIAL.search(before[-60:]) or re.search(r"\b(?:not|n't)\b", match[0], re.IGNORECASE):
            return False
        return self._is_letter(clean, match)

    def _is_letter(self, clean: str, match: re.Match[str]) -> bool:
        """Whether the letter is one, and no word ("a matter of …", "I think")."""
        letter = match["L"]
        place = match.start("L")
        enclosed = (place > 0 and clean[place - 1] in "([\"'“‘<") or clean[place + 1 : place + 2] in (")", "]")
        if enclosed or _GOES_ON.match(clean, match.end("L")):
            return not (
                letter == "a" and not enclosed and re.match(r"\s+(?!because|since|is\b)[a-z]", clean[match.end("L") :])
            )
        rest = _plain(clean[match.end("L") :].split("\n")[0])
        own = self._texts[self._known.index(letter.upper())]
        return (bool(own) and rest.startswith(own)) or (letter.isupper() and letter not in "AI")

    def _chosen(self, clean: str, match: re.Match[str]) -> int | None:
        """The option of a statement; None where it names another one beside it."""
        choice = self._known.index(match["L"].upper())
        more = self._more.match(clean, match.end())
        if more is not None and (more["L"].isupper() or "(" in more[0]) and more["L"].upper() != match["L"].upper():
            rest = clean[more.end() : more.end() + 12].lstrip()
            if more["L"] not in "AI" or not rest[:1].islower():
                return None
        before = clean[: match.start("L")].rstrip("([\"'“‘< ")
        if re.search(rf"\b(?:both|either|neither)(?:\s+{_NOUN})?$", before[-24:], re.IGNORECASE):
            return None
        other = re.search(rf"{self._letter}\s*(?:or|and|/|&)(?:\s+{_NOUN})?$", before[-24:])
        if other is not None and other["L"].isupper() and other["L"] != match["L"]:
            return None
        return choice

    def _by_text(self, clean: str) -> tuple[int, int] | None:
        """(place, option) of the last statement that gives exactly one option's text."""
        last = None
        for match in self._texts_stated.finditer(clean):
            said = _plain(match["text"])
            same = [k for k, option in enumerate(self._texts) if option and said == option]
            if len(same) == 1 and not _DENIAL.search(clean[: match.start()][-60:]):
                last = match.start("text"), same[0]
        return last

    def _by_line(self, clean: str) -> int | None:
        """A line that is nothing but an option: its letter, its letter and text, or its text. Several that differ are a
        list, and the last line alone counts then."""
        lines = [line for line in clean.splitlines() if line.strip()]
        found = [(number, k) for number, line in enumerate(lines) if (k := self._of_line(line)) is not None]
        if not found:
            return self._within(lines[-1]) if lines else None
        number, choice = found[-1]
        if len({k for _, k in found}) > 1:
            alone = number == len(lines) - 1 and (len(found) < 2 or found[-2][0] < number - 1 or found[-2][1] >= choice)
            return choice if alone else None
        return choice

    def _of_line(self, line: str) -> int | None:
        said = _plain(line)
        same = [k for k, option in enumerate(self._texts) if option and said == option]
        if len(same) == 1:
            return same[0]
        match = self._line.match(line)
        if match is None:
            return None
        choice = self._known.index(match["L"].upper())
        rest = _plain(match["rest"])
        if rest and rest != self._texts[choice]:
            return None
        return choice if match["L"].isupper() or not rest else None

    def _within(self, line: str) -> int | None:
        """The one option whose whole text stands in a line that denies nothing."""
        said = f" {_plain(line)} "
        if self._line.match(line) or re.search(r"\b(?:not|n't|nor|neither|incorrect|wrong)\b", line, re.IGNORECASE):
            return None
        same = [k for k, option in enumerate(self._texts) if len(option) > 3 and f" {option} " in said]
        longest = [k for k in same if not any(k != other and self._texts[k] in self._texts[other] for other in same)]
        return longest[0] if len(longest) == 1 else None


def _undressed(text: str) -> str:
    """A text without Markdown and LaTeX dress; boxes become brackets of their own."""
    for _ in range(20):
        content = final_result(text)
        if content is None:
            break
        before, _, after = text.rpartition("\\boxed{" + content + "}")
        text = f"{before}{_BOX}{content}{_END}{after}"
    for _ in range(4):
        text = _WRAP.sub(r"\1", text)
    return _MARKDOWN.sub("", _LATEX.sub(" ", text))


def _plain(text: str) -> str:
    """Letters, digits and signs of a text that tell options apart, in lower case."""
    return " ".join(re.findall(r"[^\W_]+|[-+*/^=<>%°.](?=\S)", _undressed(text).lower()))
