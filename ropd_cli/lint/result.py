"""Criteria that state the final answer.

What the answer is: the prompt's ``answer``, else what most of the teacher's answers state. A criterion states it where
it

- has its number, or its words: anywhere if the question does not have them too, else right after a phrase that
  concludes ("the total is …", "picks …"); "2", "C" and "no" stand everywhere, and have to be concluded;
- has its formula, spaces and signs of multiplication left aside;
- has all of its numbers, where it has several;
- has all of its words, in any order, one of them at least being none of the question's; of a person's name, the last.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction

from ropd_cli.answers.exact_match import normalise
from ropd_cli.answers.final_answer import stated_result
from ropd_cli.lint.language import language_of
from ropd_cli.lint.numbers import NUMBER, canonical, numbers
from ropd_cli.lint.records import Finding, Linted
from ropd_cli.lint.vocabulary import section, words
from ropd_cli.lint.words import content

_KNOWN = section("result")
_NOUNS, _VERBS = "|".join(_KNOWN["nouns"].split()), "|".join(_KNOWN["verbs"].split())
_CONCLUDES = re.compile(
    r"\b(?:final|correct|numerical|overall|exact|right|simplified|requested|desired|main)?\s*"
    rf"(?:{_NOUNS})s?\s*"
    r"(?:(?:stated|given|reported|obtained|that the answer states|selected|chosen|reached)\s*)?"
    r"(?:is|are|as|=|equals|equal to|to be|of|:|being|comes? (?:out )?to|turns out to be|must be|at|lies in)\s+"
    r"(?:exactly\s+|approximately\s+|about\s+|equal to\s+|clearly\s+)?"
    rf"(?P<value>\S.*)|\b(?:{_VERBS})\s+(?:with\s+)?"
    r"(?:that\s+(?:there (?:is|are)\s+|it (?:is|takes|needs)\s+|\w\s*=\s*)?)?(?:\w\s*=\s*|\w+\s+as\s+)?(?:the\s+)?"
    r"(?:option\s+|choice\s+|answer\s+|letter\s+)?(?P<chosen>\S.*)"
    r"|(?:答案|结果|结论|选项|最终|选择|选)\s*(?:应?该?(?:为|是)|等于|：|:|=)?\s*(?P<zh>\S.*)"
    r"|(?:として|答えは|答えが|係数は|値は|結果は|は)\s*(?P<ja>\d\S*)",
    re.IGNORECASE,
)
_NO_MORE = (
    r"(?![a-z0-9_^/*%]|[.,]\d|\s+(?:and|or|of|[-+*/^]|\w+s\b(?!\s+(?:the|an?|are|needed|remain|left|in total)\b)))"
)
"""After a number in a concluding phrase: nothing that makes it a part of something else ("2 apples", "3 + 4")."""
_NO_MORE_WORDS = r"(?![\w^/*%'’]|\s+(?:and|or|of)\b)"
_JUDGEMENTS = words(_KNOWN["judgements"])
_LONGEST = 12
"""Words of an answer that is looked for as a whole; a longer one is a text and no final answer."""
_PHRASE = 80
"""Characters before a result in which the phrase that concludes with it begins."""
_SHORT_TEXT = 160
"""Characters of a teacher's answer that is all final answer."""
_PERSON = re.compile(r"[^\W\d_a-z]\w+(?:\s[^\W\d_a-z][\w.]*)?\s([^\W\d_a-z]\w{3,})", re.UNICODE)
_PLACES = words(_KNOWN["places"])
"""First words of names whose last word alone may be something else ("New York", "Lake Victoria")."""
_MEASURE = re.compile(r"[-+]?[$€£]?\s*\d[\d.,/]*\s*(?:%|[^\W\d_]{1,3}(?:/[^\W\d_]{1,2})?)?\.?")
_ANSWERS = r"(?:the \w+ |it )?(?:\w+ly )?"
_DECIDING = "concludes|decides|determines|finds|holds|judges|establishes|rules|answers|states|says|shows"
_DECIDES = re.compile(rf"{_ANSWERS}(?:{_DECIDING})\s+that\s+(.+)")
_SAYS_THAT = re.compile(
    rf"{_ANSWERS}(?:{_DECIDING}|identifies|names|selects|picks|recogni[sz]es|declares|asserts|claims|reports|gives)\s+"
    r"(?:that\s+)?(.+)"
)
_LEAVES_OPEN = re.compile(r"\b(?:whether|if|how|why|what|which|who|when|where|between|both|or|either|versus)\b")
_NOT = re.compile(r"\b(?:not|no|never|cannot)\b|n't\b")
_DECIMAL_COMMA = re.compile(r"(\d),(\d{1,2})\b")
_YES_NO = frozenset(("yes", "no", "true", "false"))
_ORDER = re.compile(r"\$?(?:O|Θ|\\Theta|\\mathcal\{?O\}?)\s*\((.+)\)\$?\.?")
_FORMULA = re.compile(r"(?=.*[-+*/^=()√π<>≤≥])(?=.*[a-zπ√]).{3,}")
_FUNCTIONS = words("sqrt sin cos tan log exp max min theta alpha beta gamma lambda sigma log2 log10 det")


def gives_answer_away(linted: Linted) -> Iterator[Finding]:
    """A criterion that states the final result: the prompt's ``answer``, else what most teacher answers state."""
    results = _results(linted)
    if not results:
        return
    asked = linted.question or ""
    language = language_of(asked)
    points = _DECIMAL_COMMA.sub(r"\1.\2", asked)  # commas of a text in another language that it quotes
    question = " ".join(canonical(text, language) for text in dict.fromkeys((asked, points)))
    for criterion in linted.rubric.rubrics:
        for result in results:
            if _states(canonical(criterion.criterion, language), result, question):
                yield Finding("gives-answer-away", f"it states the final answer, {result}", (criterion.criterion_id,))
                break


def _results(linted: Linted) -> list[str]:
    if linted.answer and linted.answer.strip():
        return list(dict.fromkeys(_forms(linted.answer.strip())))
    texts = [text.strip() for text in linted.teacher_answers]
    stated = [found for text in texts if (found := stated_result(text))]
    counted = Counter(map(normalise, stated)).most_common(1)
    agreed = [result for result, count in counted if count * 2 > len(texts) and count > 1]
    return agreed or [text for text in texts if len(text) <= _SHORT_TEXT and len(content(text)) >= 3]


def _forms(answer: str) -> Iterator[str]:
    """An answer, and what of it alone is an answer too: the letter of an option, what stands before a bracket or a
    reason, the same number written twice."""
    yield answer
    if option := re.fullmatch(r"\(?([A-Ha-h])[).:]\s+(.+)", answer, re.DOTALL):
        yield option[1].upper()
        yield option[2]
    if bracketed := re.fullmatch(r"(.{2,80}?)\s*\(([^()]{1,60})\)\s*\.?", answer):
        yield bracketed[1]
        if re.search(r"\d", bracketed[2]):
            yield bracketed[2]
    if reasoned := re.match(
        r"(.{2,80}?)(?:[;,]?\s+(?:because|since|weil|parce que|porque)\b|\s+[—–]\s|;|,?\s+i\.e\.)", answer
    ):
        yield reasoned[1]
    lead, _, rest = answer.partition(", ")
    if re.search(r"\d\d", lead) and len(re.findall(r"[^\W\d_]{4,}", rest)) >= 2:  # a date, and where
        yield lead
    if order := _ORDER.fullmatch(answer):
        yield from _KNOWN["orders"].get(canonical(order[1]).replace(" ", ""), ())
    parts = [part.strip() for part in re.split(r"=|≈", answer)]
    if len(parts) > 1 and all(_MEASURE.fullmatch(part) for part in parts):
        yield from parts


def _states(text: str, result: str, question: str) -> bool:
    """Whether a criterion states the result; criterion and question are canonical."""
    wanted = re.sub(r"^(?:the|an?)\s+(?=\w{2})", "", canonical(normalise(result))).rstrip("#!")
    if wanted.count("=") == 1:
        wanted = re.sub(r"^[a-z]\w?\s*=\s*(?=\S)", "", wanted)  # x = 5
    if not wanted:
        return False
    if _is_formula(wanted):
        if _has_formula(text, wanted, question) or _has(text, wanted, question):
            return True
        if not re.search(r"[=,]|\b(?:or|and)\b", wanted):  # "x = 2, y = 3" may be said in other words
            return False
    if wanted in _YES_NO and _is_decided(text, question):
        return True
    values = [value for _, value in numbers(wanted)]
    spoken = len(wanted.split())
    if len(values) == 1 and (spoken <= 6 or NUMBER.fullmatch(wanted)):
        return _has_number(text, values[0], question) or _has(text, wanted, question)
    if spoken <= _LONGEST and _has(text, wanted, question):
        return True
    if 2 <= len(values) <= 6 and spoken <= _LONGEST:
        found = {value for _, value in numbers(text)}
        known = {value for _, value in numbers(question)}
        return found.issuperset(values) and not known.issuperset(values)
    return _has_words(text, wanted, question) or _has_name(text, result, question) or _is_all_said(text, wanted)


def _has_words(text: str, wanted: str, question: str) -> bool:
    words, known = content(wanted), content(question)
    if not words or words <= known or len(words) > _LONGEST or not re.search(r"\w{3}|[\u3040-\u9fff]", wanted):
        return False
    common = words & content(text)
    return len(common) == len(words) or (len(words) >= 4 and len(common) >= 0.8 * len(words) and not common <= known)


def _is_all_said(text: str, wanted: str) -> bool:
    """Whether a text says that something is so, and half of what it says is the result."""
    claim, wanted = _SAYS_THAT.match(text), re.sub(r"^(?:yes|no)\b[\s,:;.—–-]+", "", wanted)
    if claim is None or _LEAVES_OPEN.search(text):
        return False
    words, said = content(wanted), content(claim[1])
    negated = [bool(_NOT.search(each)) for each in (wanted, claim[1])]
    return bool(words) and words <= said and 2 * len(words) >= len(said) and negated[0] == negated[1]


def _is_decided(text: str, question: str) -> bool:
    """Whether a text says that what a question asks is so, or is not."""
    claim = _DECIDES.match(text)
    if claim is None or _LEAVES_OPEN.search(claim[1]):
        return False
    said = content(claim[1]) - {"not", "no"}
    return len(said) >= 2 and len(said & content(question)) >= 0.7 * len(said)


def _has_name(text: str, result: str, question: str) -> bool:
    """Whether a text has the last name of a person, or another form of a long word ("mitochondrion")."""
    if person := _PERSON.match(result):
        name = person[1].lower()
        return (
            person[0].split()[0].lower() not in _PLACES
            and name not in question
            and _word(name).search(text) is not None
        )
    wanted = _one_spelling(result.lower().rstrip("."))
    if not wanted.isalpha() or len(wanted) < 7 or wanted in _one_spelling(question):
        return False
    shared = max(6, len(wanted) - 3)
    said = re.findall(r"[^\W\d_]{6,}", _one_spelling(text))
    return any(word[:shared] == wanted[:shared] and abs(len(word) - len(wanted)) <= 3 for word in said)


def _one_spelling(text: str) -> str:
    return text.replace("ae", "e").replace("oe", "e").replace("isation", "ization").replace("our", "or")


def _word(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")


def _is_formula(wanted: str) -> bool:
    letters = set(re.findall(r"[^\W\d_]+", wanted)) - _FUNCTIONS
    return (
        NUMBER.fullmatch(wanted) is None
        and max(map(len, letters), default=0) <= 2
        and bool(_FORMULA.fullmatch(_squeezed(wanted)))
    )


def _has_formula(text: str, wanted: str, question: str) -> bool:
    tight = _squeezed(wanted)
    if tight in _squeezed(question):
        return _has(text, wanted, question)
    return re.search(rf"(?<![\w.^*/+-]){re.escape(tight)}(?![\w^*/]|[-+]\w)", _squeezed(text)) is not None


def _squeezed(text: str) -> str:
    """A text whose formulas have no spaces and no signs of multiplication; the spaces between words stay."""
    text = re.sub(r"\s+(plus|minus|times)\s+", lambda found: {"plus": "+", "minus": "-", "times": "*"}[found[1]], text)
    text = re.sub(r"\s+squared\b", "^2", re.sub(r"\s+cubed\b", "^3", text))
    text = re.sub(
        r"\s*([-+*/^=,:<>≤≥])\s*(?=[\w(-])", r"\1", re.sub(r"(?<=\()\s+|\s+(?=\))|(?<=\))\s+(?=\()", "", text)
    )
    return re.sub(r"(?<=\w)\*(?=[a-z(])", "", text)


def _has_number(text: str, value: Fraction, question: str) -> bool:
    """Whether a text has the number: anywhere where the question does not have it, else in a concluding phrase."""
    places = [found for found, said in numbers(text) if said == value and not _is_computed(text, found)]
    if not places:
        return False
    is_asked = any(said == value for _, said in numbers(question))
    if not is_asked and any(len(found[0].lstrip("-+")) >= 2 for found in places):  # "2" stands everywhere
        return True
    return any(_is_concluded(text, found.start(), re.escape(found[0]) + _NO_MORE) for found in places)


def _is_computed(text: str, found: re.Match[str]) -> bool:
    """Whether a number is a part of a calculation."""
    return bool(
        re.match(r"\s*[-+*/^]\s*\w", text[found.end() :]) or re.search(r"[\w)]\s*[-+*/^]\s*$", text[: found.start()])
    )


def _is_concluded(text: str, start: int, wanted: str) -> bool:
    """Whether what stands at a place of a text is what a phrase concludes with, or the right side at a text's end."""
    place = re.compile(wanted)
    at = max(0, start - _PHRASE)
    while (phrase := _CONCLUDES.search(text, at)) and phrase.start() < start:  # one may begin within another
        at = phrase.start() + 1
        group = next(name for name in ("value", "chosen", "zh", "ja") if phrase[name] is not None)
        said = phrase.start(group) + len(phrase[group]) - len(phrase[group].lstrip("(\"'“‘«* "))
        if said == start and place.match(text, start):
            return True
    end = re.compile(rf"{wanted}(?=\W*$|\s+(?:from|by|after|via|for)\b)")
    return text[:start].rstrip().endswith("=") and end.match(text, start) is not None


def _has(text: str, wanted: str, question: str) -> bool:
    """The same of words, and of numbers among words."""
    place = re.compile(
        rf"(?<![A-Za-z0-9_.,^/*+-])(?<!- ){re.escape(wanted)}(?![A-Za-z0-9_^/*%]|[.,]\d|\s*[-+*/^]\s*\w)"
    )
    places = list(place.finditer(text))
    if not places:
        return False
    if len(wanted) >= 2 and wanted not in _JUDGEMENTS and place.search(question) is None:  # "C", "no" stand everywhere
        return True
    more = _NO_MORE if wanted[-1].isdigit() else _NO_MORE_WORDS
    if wanted in _JUDGEMENTS:
        more = r"(?=\W*$|[,.;:]|\s+(?:to|because|since|by|from|as|after|for)\b)"
    return any(_is_concluded(text, found.start(), re.escape(wanted) + more) for found in places)
