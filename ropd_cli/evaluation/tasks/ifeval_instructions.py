r"""The 25 kinds of verifiable instructions of IFEval: what each demands, and whether an answer follows it.

The rules are those of the authors' checkers (Zhou et al., arXiv:2311.07911), oddities included, since the published
figures stand for them: a bullet is a line that starts with ``-`` or with ``*`` and something other than ``*`` after it,
``**bold**`` counts as two highlights, words in capitals are NLTK's tokens. Every rule takes time linear in the answer's
length, where the authors' patterns can take minutes for a page of line breaks.

Two deviations, where the authors draw at random instead of looking at what is demanded: a "letter" that is none
(``#``, ``!``) is counted as it stands; an argument that is absent or makes no sense is an error of the row.
Keywords are words and not patterns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ropd_cli.evaluation.tasks.ifeval_text import English

Arguments = Mapping[str, Any]
Check = Callable[[str, Arguments, English], bool]

AT_LEAST, LESS_THAN = "at least", "less than"
STANDARD_REPLIES = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_TWICE = "******"
_STAR = re.compile(r"^[^\S\n]*+\*[^*].*$", re.MULTILINE)
_HIGHLIGHT = re.compile(r"\*([^\n*]*)\*")
_STRONG = re.compile(r"\*\*([^\n*]*)\*\*")
_DIVIDER = re.compile(r"\s?\*\*\*\s?")
_FENCES = ("```json", "```Json", "```JSON", "```")
_ENDS_WORD = re.compile(r"[.,?!'\"]")


@dataclass(frozen=True)
class Kind:
    """A kind of instruction: the rule, and what each of its arguments has to be."""

    check: Check
    needs: Mapping[str, str] = field(default_factory=dict)

    def faults(self, arguments: Arguments) -> list[str]:
        """What is wrong with the arguments, without their values."""
        wrong = [(name, form) for name, form in self.needs.items() if not _FORMS[form][1](arguments.get(name))]
        return [f"{name} is not {_FORMS[form][0]}" for name, form in wrong]


def follows(kind: str, answer: str, arguments: Arguments, english: English) -> bool:
    """Whether an answer follows an instruction; one without text follows none."""
    return bool(answer.strip()) and KINDS[kind].check(answer, arguments, english)


def _enough(found: int, arguments: Arguments, threshold: str, relation: str = "relation") -> bool:
    return found < arguments[threshold] if arguments[relation] == LESS_THAN else found >= arguments[threshold]


def _has_keywords(answer: str, arguments: Arguments, _: English) -> bool:
    return all(re.search(re.escape(word), answer, re.IGNORECASE) for word in arguments["keywords"])


def _keyword_often(answer: str, arguments: Arguments, _: English) -> bool:
    found = re.findall(re.escape(arguments["keyword"].strip()), answer, re.IGNORECASE)
    return _enough(len(found), arguments, "frequency")


def _lacks_words(answer: str, arguments: Arguments, _: English) -> bool:
    """None of the words stands there as a whole word; inside a longer one it may."""
    return not any(re.search(rf"\b{re.escape(word)}\b", answer, re.IGNORECASE) for word in arguments["forbidden_words"])


def _letter_often(answer: str, arguments: Arguments, _: English) -> bool:
    return _enough(answer.lower().count(arguments["letter"].lower()), arguments, "let_frequency", "let_relation")


def _in_language(answer: str, arguments: Arguments, english: English) -> bool:
    """An answer whose language can't be told (no letters in it) passes."""
    found = english.language(answer)
    return found is None or arguments["language"] in (found, found.partition("-")[0])


def _sentences(answer: str, arguments: Arguments, english: English) -> bool:
    return _enough(english.sentences(answer), arguments, "num_sentences")


def _words(answer: str, arguments: Arguments, english: English) -> bool:
    return _enough(english.words(answer), arguments, "num_words")


def _paragraphs(answer: str, arguments: Arguments, _: English) -> bool:
    """So many paragraphs between ``***`` dividers; an empty one is forgiven at either end only."""
    parts = [part.strip() for part in _DIVIDER.split(answer)]
    if not all(parts[1:-1]):
        return False
    return sum(map(bool, parts)) == arguments["num_paragraphs"]


def _first_word(answer: str, arguments: Arguments, _: English) -> bool:
    """So many paragraphs between empty lines, and the n-th begins with the word. n counts empty ones too."""
    parts = [part.strip() for part in answer.split("\n\n")]
    count = sum(map(bool, parts))
    number = int(arguments["nth_paragraph"])
    if number > count or not parts[number - 1]:
        return False
    word = parts[number - 1].split()[0].lstrip("'").lstrip('"')
    bare = _ENDS_WORD.split(word, maxsplit=1)[0]
    return count == arguments["num_paragraphs"] and bare.lower() == arguments["first_word"].lower()


def _placeholders(answer: str, arguments: Arguments, _: English) -> bool:
    """Pairs of square brackets, each within a line, counted from the left."""
    found = 0
    for line in answer.split("\n"):
        at = 0
        while (start := line.find("[", at)) >= 0 and (end := line.find("]", start)) >= 0:
            found, at = found + 1, end + 1
    return found >= arguments["num_placeholders"]


def _postscript(answer: str, arguments: Arguments, _: English) -> bool:
    """The marker stands anywhere; blanks between its letters are free. "P.P.S" needs no last full stop."""
    marker = arguments["postscript_marker"].strip()
    pattern = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}.get(marker, re.escape(marker.lower()))
    return re.search(pattern, answer.lower()) is not None


def _bullets(answer: str, arguments: Arguments, _: English) -> bool:
    """Exactly so many. A star at the end of its line takes the next line as its text, a bullet or not; dashes are
    counted apart from stars."""
    dashes = sum(line.lstrip().startswith("-") for line in answer.split("\n"))
    return len(_STAR.findall(answer)) + dashes == arguments["num_bullets"]


def _one_of(answer: str, _: Arguments, __: English) -> bool:
    return any(reply in answer for reply in STANDARD_REPLIES)


def _highlights(answer: str, arguments: Arguments, _: English) -> bool:
    found = [inside for pattern in (_HIGHLIGHT, _STRONG) for inside in pattern.findall(answer) if inside.strip()]
    return len(found) >= arguments["num_highlights"]


def _sections(answer: str, arguments: Arguments, _: English) -> bool:
    """The section's word with a number after it, so many times."""
    mark = re.escape(arguments["section_spliter"].strip())
    return len(re.findall(rf"{mark}\s?\d+", answer)) >= arguments["num_sections"]


def _is_json(answer: str, _: Arguments, __: English) -> bool:
    """JSON, alone or in a code fence."""
    text = answer.strip()
    for fence in _FENCES:
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _has_title(answer: str, _: Arguments, __: English) -> bool:
    """``<<…>>`` on one line, with something in it."""
    for line in answer.split("\n"):
        start, end = line.find("<<"), line.rfind(">>")
        if start >= 0 and end >= start + 3 and line[start : end + 2].lstrip("<").rstrip(">").strip():
            return True
    return False


def _two_replies(answer: str, _: Arguments, __: English) -> bool:
    """Two different texts with ``******`` between them; an empty part is forgiven at either end only."""
    parts = [part.strip() for part in answer.split(_TWICE)]
    replies = [part for part in parts if part]
    return all(parts[1:-1]) and len(replies) == 2 and replies[0] != replies[1]


def _repeats_prompt(answer: str, arguments: Arguments, _: English) -> bool:
    return answer.strip().lower().startswith(arguments["prompt_to_repeat"].strip().lower())


def _ends_with(answer: str, arguments: Arguments, _: English) -> bool:
    return answer.strip().strip('"').lower().endswith(arguments["end_phrase"].strip().lower())


def _quoted(answer: str, _: Arguments, __: English) -> bool:
    text = answer.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def _capital_words(answer: str, arguments: Arguments, english: English) -> bool:
    return _enough(english.capital_words(answer), arguments, "capital_frequency", "capital_relation")


def _capitals(answer: str, _: Arguments, english: English) -> bool:
    return answer.isupper() and english.language(answer) in ("en", None)


def _small_letters(answer: str, _: Arguments, english: English) -> bool:
    return answer.islower() and english.language(answer) in ("en", None)


def _no_comma(answer: str, _: Arguments, __: English) -> bool:
    return "," not in answer


_FORMS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "count": ("a whole number from 0", lambda v: _is_whole(v) and v >= 0),
    "number": ("a whole number from 1", lambda v: _is_whole(v) and v >= 1),
    "relation": (f"{AT_LEAST!r} or {LESS_THAN!r}", lambda v: v in (AT_LEAST, LESS_THAN)),
    "text": ("a text", lambda v: isinstance(v, str) and bool(v.strip())),
    "letter": ("one character", lambda v: isinstance(v, str) and len(v) == 1),
    "texts": (
        "a list of texts",
        lambda v: isinstance(v, list | tuple) and bool(v) and all(isinstance(t, str) and t for t in v),
    ),
}


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1


KINDS: Mapping[str, Kind] = {
    "keywords:existence": Kind(_has_keywords, {"keywords": "texts"}),
    "keywords:frequency": Kind(_keyword_often, {"keyword": "text", "frequency": "count", "relation": "relation"}),
    "keywords:forbidden_words": Kind(_lacks_words, {"forbidden_words": "texts"}),
    "keywords:letter_frequency": Kind(
        _letter_often, {"letter": "letter", "let_frequency": "count", "let_relation": "relation"}
    ),
    "language:response_language": Kind(_in_language, {"language": "text"}),
    "length_constraints:number_sentences": Kind(_sentences, {"num_sentences": "count", "relation": "relation"}),
    "length_constraints:number_paragraphs": Kind(_paragraphs, {"num_paragraphs": "count"}),
    "length_constraints:number_words": Kind(_words, {"num_words": "count", "relation": "relation"}),
    "length_constraints:nth_paragraph_first_word": Kind(
        _first_word, {"num_paragraphs": "number", "nth_paragraph": "number", "first_word": "text"}
    ),
    "detectable_content:number_placeholders": Kind(_placeholders, {"num_placeholders": "count"}),
    "detectable_content:postscript": Kind(_postscript, {"postscript_marker": "text"}),
    "detectable_format:number_bullet_lists": Kind(_bullets, {"num_bullets": "count"}),
    "detectable_format:constrained_response": Kind(_one_of),
    "detectable_format:number_highlighted_sections": Kind(_highlights, {"num_highlights": "count"}),
    "detectable_format:multiple_sections": Kind(_sections, {"section_spliter": "text", "num_sections": "count"}),
    "detectable_format:json_format": Kind(_is_json),
    "detectable_format:title": Kind(_has_title),
    "combination:two_responses": Kind(_two_replies),
    "combination:repeat_prompt": Kind(_repeats_prompt, {"prompt_to_repeat": "text"}),
    "startend:end_checker": Kind(_ends_with, {"end_phrase": "text"}),
    "startend:quotation": Kind(_quoted),
    "change_case:capital_word_frequency": Kind(
        _capital_words, {"capital_frequency": "count", "capital_relation": "relation"}
    ),
    "change_case:english_capital": Kind(_capitals),
    "change_case:english_lowercase": Kind(_small_letters),
    "punctuation:no_comma": Kind(_no_comma),
}
