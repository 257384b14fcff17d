"""Numbers in sentences, by their value: "three quarters", "0.75" and "75 percent" are one.

``canonical`` writes a text in such a way that what means the same reads the same, as far as that goes; ``numbers``
finds the values in it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

from ropd_cli.lint.language import language_of
from ropd_cli.lint.vocabulary import section
from ropd_cli.lint.words import plain

_LISTED = {language: listed.split() for language, listed in section("numbers").items()}
_UNITS, _TENS = _LISTED["en"][:20], _LISTED["en"][20:]
_SPELLED = re.compile(
    rf"\b(?:(?P<tens>{'|'.join(_TENS)})(?:[- ](?P<ones>{'|'.join(_UNITS[1:10])}))?"
    rf"|(?P<small>{'|'.join(reversed(_UNITS))})(?P<hundred>\s+hundred)?)\b"
)
_PARTS = {"half": 2, "halve": 2, "third": 3, "quarter": 4, "fifth": 5, "sixth": 6, "eighth": 8, "tenth": 10}
_PART = re.compile(rf"\b(\d+)[- ]({'|'.join(_PARTS)})s?\b")
_ONE_PART = re.compile(r"\ba (third|fifth|sixth|eighth|tenth)(?= of\b)")
_LARGE = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_TIMES = re.compile(rf"(?<![\w.,])(\d+(?:\.\d+)?)\s*({'|'.join(_LARGE)})s?\b")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_POWER_OF_TEN = re.compile(r"(\d)\s*(?:×|\\times|\\cdot|·|x|\*)\s*10\s*(?:\^|\*\*)\s*\{?\s*(-?\d+)\s*\}?")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_NOON = re.compile(r"\b(\d{1,2})(?::(\d\d))?\s*([ap])\.?\s?m\b\.?")
_ZH_NOON = re.compile(r"(凌晨|早上|上午|中午|下午|傍晚|晚上)?(\d{1,2})点(?:钟|整|(半)|(\d{1,2})分)?")
_NOISE = re.compile(r"\\(?:left|right|,|;|!|quad|text|mathrm|boxed|\(|\)|\[|\])|[\s${}\\]|\*\*")
_ZH_NUMBER = re.compile(
    r"[一二三四五六七八九十百]{2,9}"
    r"|[一二三四五六七八九十](?=[只个枚张元米人种次天年岁])|(?<=[为是])[一二三四五六七八九十]"
)
_ZH_DIGITS = {letter: value for value, letter in enumerate("一二三四五六七八九", start=1)}
_WORDS = {
    language: {word: value for value, word in enumerate(listed) if word != "-"}
    for language, listed in _LISTED.items()
    if language != "en"
}
"""Other languages' words for 0 to 20; without those that mean something else as well."""
_SPELLED_IN = {
    language: re.compile(rf"\b(?:{'|'.join(sorted(known, key=len, reverse=True))})\b")
    for language, known in _WORDS.items()
}
NUMBER = re.compile(r"(?<![A-Za-z0-9_.,^/:])[-+]?\d+(?:\.\d+)?(?:e-?\d+)?(?:/\d+)?%?(?![A-Za-z0-9_^]|[.,/:]\d)")


@lru_cache(maxsize=1024)
def canonical(text: str, language: str | None = None) -> str:
    """Lower case, with digits for the words of numbers, one way to write fractions, percents and powers of ten, and
    nothing of LaTeX's spacing. ``language``: the text's, where that is not plain."""
    language = language_of(text) or language
    text = _SUPERSCRIPT.sub(lambda found: "^" + plain(found[0]), text).replace("\u2212", "-")
    text = plain(text).replace("\\pi", "π")
    text = _SPELLED.sub(_digits, text)
    if language in _WORDS:
        known = _WORDS[language]
        text = _SPELLED_IN[language].sub(lambda found: str(known[found[0]]), text)
    text = _ZH_NUMBER.sub(lambda found: _zh_digits(found[0]), text)
    text = re.sub(r"\ba dozen\b", "12", text)
    text = re.sub(r"\b(?:minus|negative|moins|menos|минус)\s+(?=\d)|\u2013(?=\d)", "-", text)
    text = _FRACTION.sub(r"\1/\2", text)
    text = re.sub(r"\b(\d+)\s+(?:in|out of|over)\s+(\d+)\b", r"\1/\2", text)
    text = _PART.sub(lambda found: f"{found[1]}/{_PARTS[found[2]]}", text)
    text = re.sub(r"\b(?:a |one |the )?half\b(?!-)", "1/2", text)
    text = re.sub(r"\ba quarter\b(?! of an? (?:hour|century))", "1/4", text)
    text = _ONE_PART.sub(lambda found: f"1/{_PARTS[found[1]]}", text)
    text = re.sub(r"(?<=\d)[,\u202f\u00a0 ](?=\d{3}\b)", "", text)
    if language not in ("en", None, "zh", "ja"):  # the comma is the decimal point there, and the point separates
        text = re.sub(r"(?<=\d)\.(?=\d{3}\b)", "", text)
        text = re.sub(r"(?<=\d),(?=\d)", ".", text)
    text = _TIMES.sub(lambda found: _shifted(found[1], _LARGE[found[2]]), text)
    text = _POWER_OF_TEN.sub(r"\1e\2", text)
    text = _ZH_NOON.sub(_zh_clock, _NOON.sub(_clock, text))
    text = re.sub(
        r"(?<=\d)\s*(?:per\s?cent|percent|\\%|％|pour cent|prozent|por ciento|por cento|процент\w*)", "%", text
    )
    text = re.sub(r"(?<=\d)(\.\d*?)0+(?=\D|$)", r"\1", text)  # 2.50, 3.0
    text = re.sub(r"(?<=\d)\.(?=\D|$)(?!\s*$)(?!\s)", "", text)
    return " ".join(_NOISE.sub(" ", _without_accents(text)).split())


def _without_accents(text: str) -> str:
    """Latin letters without their accents."""
    return re.sub("(?<=[a-z])[\u0300-\u036f]+", "", unicodedata.normalize("NFD", text)) if not text.isascii() else text


def numbers(text: str) -> Iterator[tuple[re.Match[str], Fraction]]:
    """The numbers of a canonical text: where each stands, and its value."""
    for found in NUMBER.finditer(text):
        if (value := value_of(found[0])) is not None:
            yield found, value


def value_of(number: str) -> Fraction | None:
    """The value of "3/4", "75%", "6e23"; None where it has none, or one too large to write out."""
    top, _, bottom = number.removesuffix("%").partition("/")
    _, _, exponent = top.partition("e")
    if len(exponent) > 4:
        return None
    try:
        value = Fraction(top) / Fraction(bottom or "1")
    except (ValueError, ZeroDivisionError):
        return None
    return value / 100 if number.endswith("%") else value


def _digits(found: re.Match[str]) -> str:
    if found["tens"]:
        return str(10 * (_TENS.index(found["tens"]) + 2) + (_UNITS.index(found["ones"]) if found["ones"] else 0))
    return str(_UNITS.index(found["small"]) * (100 if found["hundred"] else 1))


def _shifted(number: str, places: int) -> str:
    value = Fraction(number) * 10**places
    return str(value.numerator) if value.denominator == 1 else str(float(value))


def _clock(found: re.Match[str]) -> str:
    hour = int(found[1]) % 12 + (12 if found[3] == "p" else 0)
    return f"{hour}:{found[2] or '00'}"


def _zh_clock(found: re.Match[str]) -> str:
    if found[1] is None and not found[0].endswith(("钟", "整", "半", "分")):  # "第3点" is a third point
        return found[0]
    hour = int(found[2])
    if found[1] in ("中午", "下午", "傍晚", "晚上") and hour < 12:
        hour += 12
    return f"{hour}:{30 if found[3] else int(found[4] or 0):02}"


def _zh_digits(text: str) -> str:
    """A Chinese numeral below 1,000 in digits."""
    total = current = 0
    for letter in text:
        if letter in ("十", "百"):
            total, current = total + (current or 1) * (10 if letter == "十" else 100), 0
        else:
            current = _ZH_DIGITS[letter]
    return str(total + current)
