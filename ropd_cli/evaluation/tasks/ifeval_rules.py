"""IFEval's 25 kinds of instructions, each as a function of a response and its arguments.

The rules are those of Google's checkers (Zhou et al. 2023, "Instruction-Following Evaluation for Large Language
Models"), also where they are odd: text in double asterisks counts twice, a section is a splitter before a number,
a text whose language can't be told passes. Two things differ, where the original draws lots: a letter that is none
("#", "!") is counted itself, and the language is detected with a fixed seed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

Rule = Callable[..., bool]

PUNKT = Path(__file__).parents[1] / "punkt"
LANGUAGE_SEED = 0
_CONSTRAINED = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_POSTSCRIPTS = {"P.S.": r"\s*p\.\s?s\..*$", "P.P.S": r"\s*p\.\s?p\.\s?s.*$"}
_FENCES = ("```json", "```Json", "```JSON", "```")
_ENDS_WORD = frozenset(".,?!'\"")


def follows(instruction: str, arguments: Mapping[str, Any], response: str) -> bool:
    """Whether a response follows one instruction; an empty one follows none.

    Raises KeyError for an unknown instruction, TypeError for arguments that it does not have.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    return bool(response.strip()) and RULES[instruction](response, **given)


def loose_forms(response: str) -> list[str]:
    """What the loose criterion looks at: also without the first line, the last, both, and each without asterisks."""
    lines = response.split("\n")
    parts = [response, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return list(dict.fromkeys([*parts, *(part.replace("*", "") for part in parts)]))


def _compared(count: int, relation: str, bound: int) -> bool:
    if relation == "less than":
        return count < bound
    if relation == "at least":
        return count >= bound
    raise TypeError(f"no relation {relation!r}")


def _keywords(response: str, keywords: Sequence[str]) -> bool:
    return all(re.search(re.escape(word), response, re.IGNORECASE) for word in keywords)


def _keyword_frequency(response: str, keyword: str, frequency: int, relation: str) -> bool:
    return _compared(len(re.findall(re.escape(keyword.strip()), response, re.IGNORECASE)), relation, frequency)


def _forbidden_words(response: str, forbidden_words: Sequence[str]) -> bool:
    return not any(re.search(rf"\b{re.escape(word)}\b", response, re.IGNORECASE) for word in forbidden_words)


def _letter_frequency(response: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    return _compared(response.lower().count(letter.strip().lower()), let_relation, let_frequency)


def _language(response: str, language: str) -> bool:
    return detected_language(response) in (language, None)


def _sentences(response: str, num_sentences: int, relation: str) -> bool:
    return _compared(len(_punkt().tokenize(response)), relation, num_sentences)


def _paragraphs(response: str, num_paragraphs: int) -> bool:
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", response)]
    return all(parts[1:-1]) and sum(map(bool, parts)) == num_paragraphs


def _words(response: str, num_words: int, relation: str) -> bool:
    return _compared(len(re.findall(r"\w+", response)), relation, num_words)


def _first_word(response: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    parts = response.split("\n\n")
    count = sum(bool(part.strip()) for part in parts)
    if nth_paragraph > count or not (wanted := parts[nth_paragraph - 1].strip()):
        return False
    word = wanted.split()[0].lstrip("'").lstrip('"')
    end = next((place for place, letter in enumerate(word) if letter in _ENDS_WORD), len(word))
    return count == num_paragraphs and word[:end].lower() == first_word.lower()


def _placeholders(response: str, num_placeholders: int) -> bool:
    return len(re.findall(r"\[.*?\]", response)) >= num_placeholders


def _postscript(response: str, postscript_marker: str) -> bool:
    marker = postscript_marker.strip()
    pattern = _POSTSCRIPTS.get(marker, rf"\s*{re.escape(marker.lower())}.*$")
    return re.search(pattern, response.lower(), re.MULTILINE) is not None


def _bullets(response: str, num_bullets: int) -> bool:
    stars = re.findall(r"^\s*\*[^\*].*$", response, re.MULTILINE)
    return len(stars) + len(re.findall(r"^\s*-.*$", response, re.MULTILINE)) == num_bullets


def _constrained(response: str) -> bool:
    return any(option in response for option in _CONSTRAINED)


def _highlights(response: str, num_highlights: int) -> bool:
    single = [found.strip("*") for found in re.findall(r"\*[^\n\*]*\*", response)]
    double = [found[2:-2] for found in re.findall(r"\*\*[^\n\*]*\*\*", response)]
    return sum(bool(text.strip()) for text in [*single, *double]) >= num_highlights


def _sections(response: str, section_spliter: str, num_sections: int) -> bool:
    return len(re.findall(rf"\s?{re.escape(section_spliter.strip())}\s?\d+\s?", response)) >= num_sections


def _json(response: str) -> bool:
    text = response.strip()
    for fence in _FENCES:
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _title(response: str) -> bool:
    return any(found.lstrip("<").rstrip(">").strip() for found in re.findall(r"<<[^\n]+>>", response))


def _two_responses(response: str) -> bool:
    parts = [part.strip() for part in response.split("******")]
    said = [part for part in parts if part]
    return all(parts[1:-1]) and len(said) == 2 and said[0] != said[1]


def _repeat_prompt(response: str, prompt_to_repeat: str) -> bool:
    return response.strip().lower().startswith(prompt_to_repeat.strip().lower())


def _end(response: str, end_phrase: str) -> bool:
    return response.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def _quotation(response: str) -> bool:
    text = response.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def _capital_words(response: str, capital_frequency: int, capital_relation: str) -> bool:
    return _compared(sum(token.isupper() for token in _tokens(response)), capital_relation, capital_frequency)


def _in_case(response: str, is_case: Callable[[str], bool]) -> bool:
    return is_case(response) and detected_language(response) in ("en", None)


def _no_comma(response: str) -> bool:
    return "," not in response


RULES: Mapping[str, Rule] = {
    "keywords:existence": _keywords,
    "keywords:frequency": _keyword_frequency,
    "keywords:forbidden_words": _forbidden_words,
    "keywords:letter_frequency": _letter_frequency,
    "language:response_language": _language,
    "length_constraints:number_sentences": _sentences,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_words": _words,
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": _constrained,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _json,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeat_prompt,
    "startend:end_checker": _end,
    "startend:quotation": _quotation,
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": partial(_in_case, is_case=str.isupper),
    "change_case:english_lowercase": partial(_in_case, is_case=str.islower),
    "punctuation:no_comma": _no_comma,
}


def detected_language(text: str) -> str | None:
    """The language of a text as an ISO code; None where it can't be told (no letters)."""
    from langdetect import LangDetectException

    detector = _languages().create()
    detector.seed = LANGUAGE_SEED  # of this one: the package's own seed belongs to all who use it
    detector.append(text)
    try:
        return str(detector.detect())
    except LangDetectException:
        return None


@lru_cache(maxsize=1)
def _languages() -> Any:
    from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory

    factory = DetectorFactory()
    factory.load_profile(PROFILES_DIRECTORY)
    return factory


@lru_cache(maxsize=1)
def _punkt() -> Any:
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    params = PunktParameters()
    params.abbrev_types = set(_lines("abbrev_types.txt"))
    params.sent_starters = set(_lines("sent_starters.txt"))
    params.collocations = {tuple(line.split("\t")) for line in _lines("collocations.tab")}
    for line in _lines("ortho_context.tab"):
        word, flags = line.split("\t")
        params.ortho_context[word] = int(flags)
    return PunktSentenceTokenizer(params)


def _lines(name: str) -> list[str]:
    return (PUNKT / name).read_text(encoding="utf-8").splitlines()


def _tokens(text: str) -> list[str]:
    """Words and signs as in the Penn Treebank, sentence by sentence."""
    from nltk.tokenize import NLTKWordTokenizer

    words = NLTKWordTokenizer()
    return [token for sentence in _punkt().tokenize(text) for token in words.tokenize(sentence)]
