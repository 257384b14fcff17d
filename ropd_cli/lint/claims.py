"""Criteria that join several claims, each of which could be met without the other."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ropd_cli.lint.language import language_of
from ropd_cli.lint.quotes import unquoted
from ropd_cli.lint.records import Finding, Linted
from ropd_cli.lint.vocabulary import either, section

_KNOWN = section("compound")
_VERB = "|".join(_KNOWN["verbs"].split())
_ADVERBS = rf"(?:(?:{'|'.join(_KNOWN['adverbs'])})\s+)*"
_AND = r"(?:,\s*|;\s*|\s)(?:and|as\s+well\s+as|but\s+also|but|while|plus)\s+(?:also\s+)?"
_OR = r"(?:,\s*|\s)(?:and/)?or\s+(?:else\s+|alternatively\s+)?"
_SAYING = "|".join(_KNOWN["alternatives"].split())
_DETERMINER = "the|an?|its?|their|his|her|them|it|this|these|each|every|all|both|no|any|one|two|three"
_QUESTION = "how|why|what|that|which|whether"
_NOUN_TOO = re.compile("|".join(_KNOWN["nouns_too"].split()))

_JOINT = either(_KNOWN["joints"])
_SEMICOLON = re.compile(rf";\s*(?:(?:it|and|the|also|all|no|each|its)\b|(?:{_VERB})\b)")
_SECOND_VERB = re.compile(rf"{_AND}{_ADVERBS}({_VERB})\b")
_ALTERNATIVE = re.compile(rf"{_OR}{_ADVERBS}({_SAYING})\b")
"""Two things to say, of which one would do. "X or Y" of one verb is one claim, so is "returns … or raises"."""
_SECOND_CLAUSE = re.compile(
    rf"{_AND}(?:that\s+)?(?:the|its|their|his|her|this|that|it|there|all|no|each|every|any|a|an|they)\s+"
    r"(?:[\w'’-]+\s+){0,6}?"
    r"(?:is|are|was|were|has|have|does|do|must|should|can|gets?|contains?|includes?|follows?|matches|equals?|carries|"
    r"shows|states|gives|uses|ends|begins|stays|remains|covers|explains|mentions|reaches|fits|works|makes|needs)\b"
)
_ANY_SECOND_VERB = re.compile(
    rf"{_AND}{_ADVERBS}(?!this|his|its|is|was|has|as|does|plus|less|across|besides|towards|always)([a-z]{{3,}}s)\s+"
    rf"(?:{_DETERMINER}|how|why|what|whether|out|up|off|something|anything|only|\d+)\b"
)
"""A word in -s before an object is a verb, also where nobody has listed it."""
_TWO_QUESTIONS = re.compile(r"\b(?:how|why|what|whether)\s[^,;.]{8,80}\sand\s+(?:also\s+)?(?:how|why|what|whether)\s")
_SECOND_SENTENCE = re.compile(
    rf"[a-z)]\.\s+(?:(?:has|is|and|also|{_VERB})\s"
    r"|(?:it|its|the|there|each|every|no|all|both)\s.*\b(?:is|are|has|have|must|should|also)\b)"
)
_NEXT_VERB = re.compile(
    rf"^(?:the \w+ |it )?\w+s\b[^,;.]*,\s+(?:then\s+)?({_VERB})\b(?<=s)"
    rf"(?=\s+(?:{_DETERMINER}|{_QUESTION}|for|of|to|at)\b)"
)
"""A second verb after a comma alone ("thanks the customer, apologises for the delay")."""
_PASSIVE_TOO = re.compile(
    rf"^(?:the \w+ |it )?(?:{_VERB})\b[^;.]*,\s*(?:and|but|while|plus)\s+(?!its\b)(?:[\w'’-]+\s+){{1,6}}?"
    r"(?:is|are)\s+(?:also\s+|each\s+|both\s+)?\w+(?:ed|en|wn|lt|nt|ut)\b"
)
"""What is done after what the answer does ("handles an empty list, and negative numbers are handled")."""
_BOTH = re.compile(
    r"\b(?:includes?|contains?|provides?|gives?|offers?|has|uses?)\s+both\s+an?\s[^,;.]{3,60}\sand\s+an?\s"
)
_SERIES = re.compile(
    r"(?<!from )\b(?:mentions?|covers?|address(?:es)?|includes?|discuss(?:es)?|describes?|explains?|provides?|gives?|"
    r"states?|identif(?:y|ies)|contains?|lists?|names?)\s+(?:both\s+)?"
    r"(?![^,]*\border\b)[^,.;:]{3,60},\s+(?!from\b|such\b)[^,.;:]{3,60},?\s+(?:and|as well as)\s+\S"
)
_SPACED = {
    language: (
        re.compile(
            rf"(?:,\s*|\b){known['and']}\s+(?:\w+\s+){{0,{known['gap']}}}(?:{'|'.join(known['verbs'].split())})\b"
            rf"|{'|'.join(known['joints'])}"
        ),
        re.compile(known["hangs"]),
    )
    for language, known in _KNOWN.items()
    if isinstance(known, dict) and "and" in known
}
"""By language: what joins two claims, and what opens a clause that reaches to the end of a text."""
_ZH_VERB = _KNOWN["zh"]["verbs"]
_UNSPACED = re.compile(
    rf"(?:^|[，；。])[^，；。]{{0,6}}(?:{_ZH_VERB})[^；。]{{1,40}}?(?:并且?|，|；|、|且|同时|又|还|也)"
    rf"(?:并且?|且|又|还|也|要|应|能|正确|明确|清楚地?|准确地?)*(?:{_ZH_VERB})|{_KNOWN['ja']['parts']}"
)
_HANGS = re.compile(r"\b(?:if|when|where|whether|because|since|who|which|that|why|how)\b")
"""What opens a clause; an "and" after it may join two parts of that clause, and no second claim."""
_ONE_VERB = re.compile(r"\b(?:that|which|who)\s+(?:\w+\s+)?\w+s$")
"""Before "or": a clause of one verb, which goes on with another ("a cause that explains or describes it")."""
_OF_WHICH = re.compile(r"\b(?:to|in|from|of|by|for|with|on) which\b|\bwhose\b")
_TWO_VERBS = re.compile(r"^(?:the \w+ )?\w+s$|\b(?:he|she|it|they|who|that|which) \w+s$")
"""Before "or": a verb with no object of its own ("supplies or describes the entry", "something he does or says")."""
_IN_A_CLAUSE = frozenset(_KNOWN["clause_verbs"].split())
_OBJECT = re.compile(rf"\s+(?:{_DETERMINER}|{_QUESTION}|at|out|up|off)\b")
"""What follows a verb rather than a noun of the same letters ("costs and returns")."""
_PLURALS_TOO = frozenset(_KNOWN["plurals_too"].split())


_PATTERNS = (
    *(_SEMICOLON, _JOINT, _SECOND_VERB, _ALTERNATIVE, _SERIES, _SECOND_CLAUSE, _ANY_SECOND_VERB, _TWO_QUESTIONS, _BOTH),
    *(_UNSPACED, _SECOND_SENTENCE, _NEXT_VERB, _PASSIVE_TOO),
)


def compound(linted: Linted) -> Iterator[Finding]:
    """A criterion that joins several claims, each of which could be met without the other."""
    asked = language_of(linted.question or "")
    for criterion in linted.rubric.rubrics:
        if joint := _joint(unquoted(criterion.criterion).lower(), asked):
            yield Finding("compound", f"several claims, joined by “{joint}”", (criterion.criterion_id,))


def _joint(text: str, asked: str | None) -> str | None:
    """The words that join two claims; None for a criterion of one claim. ``asked``: the question's language."""
    for pattern in _PATTERNS:
        for found in pattern.finditer(text):
            if not _is_inside_a_clause(text, found):
                return " ".join(found[0].split())[:60].strip(" ,;")
    language = language_of(text) or asked
    if language in _SPACED:
        joint, hangs = _SPACED[language]
        for found in joint.finditer(text):
            if found[0].startswith(",") or not hangs.search(text[: found.start()]):
                return " ".join(found[0].split())[:60].strip(" ,;")
    return None


def _is_inside_a_clause(text: str, found: re.Match[str]) -> bool:
    """Whether an "and" or "or" goes on with a clause that hangs on the claim ("explains what holds and is valid"), or
    with a noun that looks like a verb ("the sum and counts")."""
    before = text[: found.start()]
    hangs = _HANGS.search(before) is not None
    if found.re is _ALTERNATIVE and (_ONE_VERB.search(before) or _TWO_VERBS.search(before)):
        return True
    if found.re is _SERIES and _OF_WHICH.search(found[0]):
        return True
    if found.re in (_SECOND_VERB, _ALTERNATIVE):
        verb = found[1]
        if verb in _PLURALS_TOO and not _OBJECT.match(text, found.end()) and not found[0].startswith(","):
            return True
        return (not verb.endswith("s") and _NOUN_TOO.fullmatch(verb) is not None) or (hangs and verb in _IN_A_CLAUSE)
    return found.re in (_SECOND_CLAUSE, _ANY_SECOND_VERB, _NEXT_VERB, _PASSIVE_TOO) and hangs
