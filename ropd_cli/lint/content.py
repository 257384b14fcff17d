"""Rules about what criteria say, beside each other and beside the answers: twice the same, and the answer itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

from ropd_cli.exact import normalise
from ropd_cli.lint.records import Finding, Linted
from ropd_cli.lint.words import content, plain
from ropd_cli.stated import stated_result

ALIKE = 0.6
"""Share of common words from which on two criteria ask the same."""
ALIKE_JUDGED = 0.34
"""The same for criteria of two categories, where no answer was judged differently by the two."""
_FEWEST_JUDGED = 5
"""Rollouts whose verdicts by two criteria say something where they are all the same."""


def near_duplicate(linted: Linted) -> Iterator[Finding]:
    """Two criteria with nearly the same words; or of one category, where every answer meets both or neither."""
    criteria = linted.rubric.rubrics
    words = [content(criterion.criterion) for criterion in criteria]
    for j, k in combinations(range(len(criteria)), 2):
        either = words[j] | words[k]
        few = min(len(words[j]), len(words[k])) < 2
        alike = 0.0 if few else len(words[j] & words[k]) / len(either)
        if _numbers(words[j]) != _numbers(words[k]) or _negated(words[j]) != _negated(words[k]):
            alike /= 2
        ids = (criteria[j].criterion_id, criteria[k].criterion_id)
        one_kind = criteria[j].category == criteria[k].category
        if alike >= ALIKE:
            yield Finding("near-duplicate", f"{ids[0]} and {ids[1]} ask nearly the same", ids)
        elif (one_kind or alike >= ALIKE_JUDGED) and _judged_alike(linted, j, k):
            yield Finding("near-duplicate", f"every answer meets both {ids[0]} and {ids[1]}, or neither", ids)


def _judged_alike(linted: Linted, j: int, k: int) -> bool:
    """Whether both criteria tell answers apart, and in the same way."""

    def pairs(rows: Sequence[Sequence[bool | None]]) -> list[tuple[bool | None, bool | None]]:
        found = [(row[j], row[k]) for row in rows if max(j, k) < len(row)]
        return [pair for pair in found if None not in pair]

    student = pairs(linted.student_JK)
    if len(student) < _FEWEST_JUDGED or min(sum(a is mark for a, _ in student) for mark in (True, False)) < 2:
        return False
    return all(a == b for a, b in [*student, *pairs(linted.teacher_JK)])


def _numbers(words: frozenset[str]) -> frozenset[str]:
    return frozenset(word for word in words if word[0].isdigit())


def _negated(words: frozenset[str]) -> bool:
    return bool(words & {"not", "no", "without"})


_CONCLUDES = re.compile(
    r"\b(?:final|correct|numerical|overall|exact|right|simplified|requested|desired|main)?\s*"
    r"(?:answer|result|value|conclusion|option|choice|solution|total|probability|sum|area|volume|distance|speed|velocity|"
    r"length|number|diagnosis|root|maximum|minimum|price|cost|amount|output|verdict)s?\s*"
    r"(?:(?:stated|given|reported|obtained|that the answer states|selected|chosen|reached)\s*)?"
    r"(?:is|are|as|=|equals|equal to|to be|of|:|being|comes? (?:out )?to|turns out to be|must be)\s+"
    r"(?:exactly\s+|approximately\s+|about\s+|equal to\s+|clearly\s+)?"
    r"(?P<value>\S.*)|\b(?:concludes?|selects?|chooses?|picks?|answers?|identif(?:y|ies)|gets|obtains|"
    r"arrives at|gives|states|reports|finds|reaches|predicts|outputs|prints|writes|returns|yields)\s+"
    r"(?:that\s+)?(?:the\s+)?(?:option\s+|choice\s+|answer\s+|letter\s+)?(?P<chosen>\S.*)"
    r"|(?:答案|结果|结论|选项|最终|选择|选)\s*(?:应?该?(?:为|是)|等于|：|:|=)?\s*(?P<zh>\S.*)"
    r"|(?:として|答えは|係数は|値は|結果は|は)\s*(?P<ja>\d\S*)",
    re.IGNORECASE,
)
_NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SPELLED = re.compile(
    rf"\b(?:(?P<tens>{'|'.join(_TENS)})(?:[- ](?P<ones>{'|'.join(_NUMBER_WORDS[1:10])}))?"
    rf"|(?P<small>{'|'.join(_NUMBER_WORDS)}))\b"
)
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_NOISE = re.compile(r"\\(?:left|right|,|;|!|quad|text|mathrm|boxed|\(|\)|\[|\])|[\s${}\\]|\*\*")


def gives_answer_away(linted: Linted) -> Iterator[Finding]:
    """A criterion that contains the final result: the prompt's ``answer``, else what most teacher answers state."""
    results = _results(linted)
    if not results:
        return
    question = _comparable(linted.question or "")
    for criterion in linted.rubric.rubrics:
        for result in results:
            if _states(criterion.criterion, result, question):
                yield Finding("gives-answer-away", f"it states the final answer, {result}", (criterion.criterion_id,))
                break


def _results(linted: Linted) -> list[str]:
    if linted.answer and linted.answer.strip():
        return [linted.answer.strip()]
    stated = [found for text in linted.teacher_answers if (found := stated_result(text))]
    if not stated:
        return []
    (result, count), *_ = Counter(map(normalise, stated)).most_common(1)
    return [result] if count * 2 > len(linted.teacher_answers) and count > 1 else []


def _comparable(text: str) -> str:
    text = _SPELLED.sub(_digits, plain(text).replace("\\pi", "π"))
    text = _ZH_NUMBER.sub(lambda found: _zh_digits(found[0]), text)
    text = _FRACTION.sub(r"\1/\2", text)
    text = re.sub(r"\b(\d+)\s+(?:in|out of|over)\s+(\d+)\b", r"\1/\2", text)
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    return _NOISE.sub(" ", text)


_ZH_NUMBER = re.compile(r"[一二三四五六七八九十百]+(?=[只个枚张元米人种次天年岁])|(?<=[为是])[一二三四五六七八九十百]+")
_ZH_DIGITS = {letter: value for value, letter in enumerate("一二三四五六七八九", start=1)}


def _zh_digits(text: str) -> str:
    """A Chinese numeral below 1,000 in digits."""
    total = current = 0
    for letter in text:
        if letter in ("十", "百"):
            total, current = total + (current or 1) * (10 if letter == "十" else 100), 0
        else:
            current = _ZH_DIGITS[letter]
    return str(total + current)


def _digits(found: re.Match[str]) -> str:
    if found["tens"]:
        return str(10 * (_TENS.index(found["tens"]) + 2) + (_NUMBER_WORDS.index(found["ones"]) if found["ones"] else 0))
    return str(_NUMBER_WORDS.index(found["small"]))


def _states(criterion: str, result: str, question: str) -> bool:
    """Whether a criterion contains the result: anywhere where the question does not, else in a concluding phrase."""
    text, wanted = _comparable(criterion), " ".join(_comparable(normalise(result)).split())
    text = " ".join(text.split())
    if not wanted:
        return False
    place = re.compile(rf"(?<![A-Za-z0-9_.,^/*+-])(?<!- ){re.escape(wanted)}(?![A-Za-z0-9_^/*]|[.,]\d|\s*[-+*/^]\s*\w)")
    found = place.search(text)
    if found is None:
        return False
    trivial = len(wanted) < 2  # "2", "C": they stand everywhere
    known = place.search(" ".join(question.split())) is not None
    if not trivial and not known:
        return True
    for phrase in _CONCLUDES.finditer(text):
        said = phrase["value"] or phrase["chosen"] or phrase["zh"] or phrase["ja"] or ""
        said = said.lstrip("(\"'“*").strip()
        if re.match(rf"{re.escape(wanted)}(?![a-z0-9_^/*]|[.,]\d|\s+(?:and|or|of|[-+*/^]|\w+s\b))", said):
            return True
    return bool(re.search(rf"=\s*{re.escape(wanted)}(?![\w^/*]|[.,]\d)\W*$", text))
