"""Rules about what criteria say, beside each other and beside the answers: twice the same, and the answer itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import combinations

from ropd_cli.exact import normalise
from ropd_cli.lint.records import Finding, Linted
from ropd_cli.lint.words import content, plain
from ropd_cli.stated import stated_result

ALIKE = 0.6
"""Share of common words from which on two criteria ask the same."""
ALIKE_JUDGED = 0.34
"""The same, where no answer was judged differently by the two."""
_FEWEST_JUDGED = 4


def near_duplicate(linted: Linted) -> Iterator[Finding]:
    """Two criteria with nearly the same words; fewer are enough where every answer meets both or neither."""
    criteria = linted.rubric.rubrics
    words = [content(criterion.criterion) for criterion in criteria]
    for j, k in combinations(range(len(criteria)), 2):
        either = words[j] | words[k]
        if min(len(words[j]), len(words[k])) < 2:
            continue
        alike = len(words[j] & words[k]) / len(either)
        if _numbers(words[j]) != _numbers(words[k]) or _negated(words[j]) != _negated(words[k]):
            alike /= 2
        if alike >= (ALIKE_JUDGED if _judged_alike(linted, j, k) else ALIKE):
            ids = (criteria[j].criterion_id, criteria[k].criterion_id)
            yield Finding("near-duplicate", f"{ids[0]} and {ids[1]} ask nearly the same", ids)


def _judged_alike(linted: Linted, j: int, k: int) -> bool:
    """Whether both criteria tell answers apart, and in the same way."""
    rows = [*linted.student_JK, *linted.teacher_JK]
    pairs = [(row[j], row[k]) for row in rows if max(j, k) < len(row) and row[j] is not None and row[k] is not None]
    return len(pairs) >= _FEWEST_JUDGED and len(set(pairs)) == 2 and all(a == b for a, b in pairs)


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
    r"arrives at|gives|states|reports|finds|reaches)\s+"
    r"(?:that\s+)?(?:the\s+)?(?:option\s+|choice\s+|answer\s+|letter\s+)?(?P<chosen>\S.*)"
    r"|(?:答案|结果|结论|选项|最终|选择|选)\s*(?:应?该?(?:为|是)|等于|：|:|=)?\s*(?P<zh>\S.*)",
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
    text = _SPELLED.sub(_digits, plain(text))
    text = _FRACTION.sub(r"\1/\2", text)
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    return _NOISE.sub(" ", text)


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
    place = re.compile(rf"(?<![\w.,^/*+-])(?<!- ){re.escape(wanted)}(?![\w^/*]|[.,]\d|\s*[-+*/^]\s*\w)")
    found = place.search(text)
    if found is None:
        return False
    trivial = len(wanted) < 3 and not re.search(r"[^a-z0-9]", wanted)  # "2", "C": they stand everywhere
    known = place.search(" ".join(question.split())) is not None
    if not trivial and not known:
        return True
    for phrase in _CONCLUDES.finditer(text):
        said = phrase["value"] or phrase["chosen"] or phrase["zh"] or ""
        said = said.lstrip("(\"'“*").strip()
        if re.match(rf"{re.escape(wanted)}(?![\w^/*]|[.,]\d|\s+(?:and|or|of|[-+*/^]|\w+s\b))", said):
            return True
    return bool(re.search(rf"=\s*{re.escape(wanted)}(?![\w^/*]|[.,]\d)\W*$", text))
