"""Numbers as they stand in text: reading them, comparing them, working out a plain calculation.

A number's *canonical form* is a string (no separators, no needless zeros, ``-`` where negative), so that two
are compared without arithmetic and a megabyte of digits costs no more than reading it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

MAX_DIGITS = 400
MAX_TOKENS = 400
MAX_DEPTH = 40

_GROUPED = r"\d{1,3}(?:(?:,|\\,|\{,\})\d{3})+(?!\d)(?:\.\d+)?"
_PLAIN = r"\d+(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(f"{_GROUPED}|{_PLAIN}")
_SEPARATOR = re.compile(r"\\,|\{,\}|,")
_MINUS_WORD = re.compile(r"(?:minus|negative)\s+$", re.IGNORECASE)
# What makes the minus behind it an operator or a hyphen: a number, a bracket, a lone letter, a word without a space
_BEFORE_SIGN = re.compile(r"(?:[\d)\]}]\s*|[^\W\d_]|(?<![^\W\d_])[^\W\d_]\s*)$")

MINUS = "-−–"
_OPERATOR = re.compile(
    r"(?P<times>\*(?!\*)|×|·|\\times\b|\\cdot\b|x(?=\s*[\d(])|times\b|multiplied\s+by\b)"
    r"|(?P<over>/(?!/)|÷|\\div\b|divided\s+by\b)"
    r"|(?P<plus>\+|plus\b)"
    r"|(?P<minus>[-−–]|minus\b)"
    r"|(?P<open>\(|\\left\()"
    r"|(?P<close>\)|\\right\))",
    re.IGNORECASE,
)
_SYMBOL = {"times": "*", "over": "/", "plus": "+", "minus": "-", "open": "(", "close": ")"}
_SPACE = re.compile(r"\s*")


class NotExact(ValueError):
    """A calculation whose result is not one plain number: it divides unevenly or by zero."""


class Found(NamedTuple):
    """A number in a text: canonical form, and where it (with its sign) begins and ends."""

    value: str
    start: int
    end: int


def canonical(digits: str) -> str:
    """Canonical form of one unsigned or ``-`` signed number, thousands separators allowed."""
    negative = digits.startswith("-")
    whole, _, part = _SEPARATOR.sub("", digits.lstrip("-+")).partition(".")
    whole, part = whole.lstrip("0") or "0", part.rstrip("0")
    text = f"{whole}.{part}" if part else whole
    return f"-{text}" if negative and text != "0" else text


def numbers_in(text: str) -> Iterator[Found]:
    """Every number of a text, in order. A minus is a sign unless it stands behind an operand, as in ``5 - 3``."""
    for match in _NUMBER.finditer(text):
        start = match.start()
        value = canonical(match.group())
        sign = _sign_before(text, start)
        if sign is not None:
            start, value = sign, canonical("-" + value)
        yield Found(value, start, match.end())


def _sign_before(text: str, start: int) -> int | None:
    """Where the sign of the number at ``start`` stands, None for a number without one."""
    if start and text[start - 1] in MINUS:
        return None if _BEFORE_SIGN.search(text, max(0, start - 4), start - 1) else start - 1
    word = _MINUS_WORD.search(text, max(0, start - 12), start)
    if word and not re.search(r"[\d)]\s*$", text[max(0, word.start() - 3) : word.start()]):
        return word.start()
    return None


def from_fraction(value: Fraction) -> str:
    """Canonical form of an exact decimal. Raises NotExact for one that never ends, such as 1/3."""
    rest = value.denominator
    twos = fives = 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    if rest != 1:
        raise NotExact("the result has no end in decimals")
    places = max(twos, fives)
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    text = f"{digits[:-places]}.{digits[-places:]}" if places else digits
    return canonical(f"-{text}" if value < 0 else text)


class Token(NamedTuple):
    """``kind``: ``n`` for a number, else the operator itself; ``end``: position behind it."""

    kind: str
    text: str
    end: int


def read_tokens(text: str, start: int) -> list[Token]:
    """The longest run of numbers, operators and brackets from ``start`` (MAX_TOKENS at most)."""
    tokens: list[Token] = []
    at = start
    while len(tokens) < MAX_TOKENS:
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        match = _NUMBER.match(text, at)
        if match:
            tokens.append(Token("n", canonical(match.group()), match.end()))
        else:
            match = _OPERATOR.match(text, at)
            if not match:
                break
            tokens.append(Token(_SYMBOL[str(match.lastgroup)], match.group(), match.end()))
        at = match.end()
    return tokens


def tidy(tokens: list[Token]) -> str:
    """A calculation in one spelling: ``5 + 12``, ``(3 - -4) * 2``."""
    out = ""
    previous = ""
    for token in tokens:
        mark = token.text if token.kind == "n" else token.kind
        unary = mark in "+-" and previous in ("", "(", "+", "-", "*", "/", "u")
        if mark == ")" or previous in ("", "(", "u"):
            out += mark
        else:
            out += f" {mark}"
        previous = "u" if unary else ("n" if token.kind == "n" else mark)
    return out


def evaluate(tokens: list[Token]) -> Fraction:
    """The value of a calculation, usual precedence.

    Raises ValueError for what is no calculation, NotExact for a division that does not come out even.
    """
    reader = _Reader(tokens)
    value = reader.sum(0)
    if reader.at != len(tokens):
        raise ValueError("not one calculation")
    return value


class _Reader:
    """Recursive descent over tokens: sum := product (± product)*; product := atom (*/ atom)*."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens, self.at = tokens, 0

    def peek(self) -> str:
        return self.tokens[self.at].kind if self.at < len(self.tokens) else ""

    def take(self) -> Token:
        if self.at >= len(self.tokens):
            raise ValueError("a calculation that breaks off")
        self.at += 1
        return self.tokens[self.at - 1]

    def sum(self, depth: int) -> Fraction:
        value = self.product(depth)
        while self.peek() in ("+", "-"):
            sign = 1 if self.take().kind == "+" else -1
            value += sign * self.product(depth)
        return value

    def product(self, depth: int) -> Fraction:
        value = self.atom(depth)
        while self.peek() in ("*", "/"):
            if self.take().kind == "*":
                value *= self.atom(depth)
                continue
            divisor = self.atom(depth)
            if divisor == 0:
                raise NotExact("it divides by zero")
            value /= divisor
            if value.denominator != 1:
                raise NotExact("a division in it does not come out even, and the task does not say how to round")
        return value

    def atom(self, depth: int) -> Fraction:
        if depth > MAX_DEPTH:
            raise ValueError("nested too deep")
        token = self.take()
        if token.kind == "n":
            if len(token.text) > MAX_DIGITS:
                raise ValueError("a number too long")
            return Fraction(token.text)
        if token.kind in ("+", "-"):
            value = self.atom(depth + 1)
            return value if token.kind == "+" else -value
        if token.kind == "(":
            value = self.sum(depth + 1)
            if self.take().kind != ")":
                raise ValueError("brackets that do not close")
            return value
        raise ValueError("an operator without a number")
