"""Criteria that state the final answer.

What the answer is: the prompt's ``answer``, else what most of the teacher's answers state. A criterion states it where
it

- has it in the same words, or has its number, anywhere if the question does not have it too, else right after a phrase
  that concludes ("the total is …", "picks …");
- has all of its numbers, where it has several;
- has all of its words, in any order, one of them at least being none of the question's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

from ropd_cli.exact import normalise
from ropd_cli.lint.records import Finding, Linted
from ropd_cli.lint.vocabulary import section
from ropd_cli.lint.words import content, plain
from ropd_cli.stated import stated_result

_KNOWN = section("result")
_NOUNS, _VERBS = "|".join(_KNOWN["nouns"].split()), "|".join(_KNOWN["verbs"].split())
_CONCLUDES = re.compile(
    r"\b(?:final|correct|numerical|overall|exact|right|simplified|requested|desired|main)?\s*"
    rf"(?:{_NOUNS})s?\s*"
    r"(?:(?:stated|given|reported|obtained|that the answer states|selected|chosen|reached)\s*)?"
    r"(?:is|are|as|=|equals|equal to|to be|of|:|being|comes? (?:out )?to|turns out to be|must be)\s+"
    r"(?:exactly\s+|approximately\s+|about\s+|equal to\s+|clearly\s+)?"
    rf"(?P<value>\S.*)|\b(?:{_VERBS})\s+"
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
_NUMBER = re.compile(r"(?<![\w.,^/])[-+]?\d+(?:\.\d+)?(?:/\d+)?%?(?![\w^]|[.,/]\d)")
_NO_MORE = r"(?![a-z0-9_^/*%]|[.,]\d|\s+(?:and|or|of|[-+*/^]|\w+s\b(?!\s+(?:the|an?)\b)))"
"""After a result in a concluding phrase: nothing that makes it a part of something else ("2 apples", "3 + 4")."""
_LONGEST = 12
"""Words of an answer that is looked for as a whole; a longer one is a text and no final answer."""
_SHORT_TEXT = 160
"""Characters of a teacher's answer that is all final answer."""


def gives_answer_away(linted: Linted) -> Iterator[Finding]:
    """A criterion that states the final result: the prompt's ``answer``, else what most teacher answers state."""
    results = _results(linted)
    if not results:
        return
    question = " ".join(_comparable(linted.question or "").split())
    for criterion in linted.rubric.rubrics:
        for result in results:
            if _states(" ".join(_comparable(criterion.criterion).split()), result, question):
                yield Finding("gives-answer-away", f"it states the final answer, {result}", (criterion.criterion_id,))
                break


def _results(linted: Linted) -> list[str]:
    if linted.answer and linted.answer.strip():
        return [linted.answer.strip()]
    texts = [text.strip() for text in linted.teacher_answers]
    stated = [found for text in texts if (found := stated_result(text))]
    counted = Counter(map(normalise, stated)).most_common(1)
    agreed = [result for result, count in counted if count * 2 > len(texts) and count > 1]
    return agreed or [text for text in texts if len(text) <= _SHORT_TEXT and len(content(text)) >= 3]


@lru_cache(maxsize=1024)
def _comparable(text: str) -> str:
    text = _SPELLED.sub(_digits, plain(text).replace("\\pi", "π"))
    text = _ZH_NUMBER.sub(lambda found: _zh_digits(found[0]), text)
    text = _FRACTION.sub(r"\1/\2", text)
    text = re.sub(r"\b(\d+)\s+(?:in|out of|over)\s+(\d+)\b", r"\1/\2", text)
    text = re.sub(r"(?<=\d)[,\u202f\u00a0 ](?=\d{3}\b)", "", text)
    text = re.sub(r"(?<=\d)\s*(?:per\s?cent|percent|\\%|％|pour cent|prozent|por ciento)", "%", text)
    text = re.sub(r"(?<=\d)(\.\d*?)0+(?=\D|$)", r"\1", text)  # 2.50, 3.0
    text = re.sub(r"(?<=\d)\.(?=\D|$)(?!\s*$)(?!\s)", "", text)
    return _NOISE.sub(" ", text)


_ZH_NUMBER = re.compile(
    r"[一二三四五六七八九十百]{1,9}(?=[只个枚张元米人种次天年岁])|(?<=[为是])[一二三四五六七八九十百]{1,9}"
)
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


def _states(text: str, result: str, question: str) -> bool:
    """Whether a criterion states the result; criterion and question as ``_comparable`` makes them."""
    wanted = " ".join(_comparable(normalise(result)).split())
    if not wanted:
        return False
    numbers = _NUMBER.findall(wanted)
    if len(wanted.split()) <= _LONGEST and _has(text, wanted, question):
        return True
    if len(numbers) == 1 and len(wanted.split()) <= 6:
        return _has(text, numbers[0], question)  # "72 km/h" in other words
    if numbers:
        found = set(_NUMBER.findall(text))
        known = set(_NUMBER.findall(question))
        return 2 <= len(numbers) <= 6 and found.issuperset(numbers) and not known.issuperset(numbers)
    words, known = content(result), content(question)
    if not words or words <= known or len(words) > _LONGEST or not re.search(r"\w{3}|[\u3040-\u9fff]", wanted):
        return False
    common = words & content(text)
    return len(common) == len(words) or (len(words) >= 4 and len(common) >= 0.8 * len(words) and not common <= known)


def _has(text: str, wanted: str, question: str) -> bool:
    """Whether a text has the words: anywhere where the question does not have them, else in a concluding phrase."""
    place = re.compile(
        rf"(?<![A-Za-z0-9_.,^/*+-])(?<!- ){re.escape(wanted)}(?![A-Za-z0-9_^/*%]|[.,]\d|\s*[-+*/^]\s*\w)"
    )
    if place.search(text) is None:
        return False
    if len(wanted) >= 2 and place.search(question) is None:  # "2", "C" stand everywhere
        return True
    for phrase in _CONCLUDES.finditer(text):
        said = phrase["value"] or phrase["chosen"] or phrase["zh"] or phrase["ja"] or ""
        said = said.lstrip("(\"'“‘«*").strip()
        if re.match(rf"{re.escape(wanted)}{_NO_MORE}", said):
            return True
    return bool(re.search(rf"=\s*{re.escape(wanted)}(?![\w^/*]|[.,]\d)\W*$", text))
