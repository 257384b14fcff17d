r"""Gold answers of MATH-500 in other words: equivalent ones by rule, and wrong ones by a small change.

``equivalent`` rewrites an answer so that its value stays: the value itself first (fractions, decimals, order, brackets,
roots, units), then the way in which a text states it. ``wrong`` changes a number, a sign, a letter or an order.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from fractions import Fraction

FRAC = re.compile(r"\\[dt]?frac\s*(?:\{(-?\d+)\}|(\d))\s*(?:\{(\d+)\}|(\d))")
SQRT = re.compile(r"(\d+)\s*\\sqrt\s*\{?(\d+)\}?")
STATED = (
    "After some algebra, the final answer is $\\boxed{{{}}}$.",
    "We get\n\\[ \\boxed{{ {} }}. \\]",
    "**Answer:** ${}$",
    "Therefore the answer is ${}$.",
    "First I had $12345$. But that is wrong. So:\n\n$\\boxed{{\\displaystyle {}}}$",
    "1. We compute.\n2. We check.\n\n### Final Answer\n\\boxed{{{}}}\n\nI am 100% sure.",
    "#### {}",
)


def equivalent(answer: str, wanted: int = 6) -> list[str]:
    """``wanted`` texts, each stating a form of the same value; as many different forms as there are, at least one
    different way of stating it for each."""
    values = list(dict.fromkeys([*_values(answer), answer]))
    texts = []
    for number in range(wanted):
        value = values[number % len(values)]
        texts.append(STATED[number % len(STATED)].format(value))
    return texts


def _values(answer: str) -> Iterator[str]:
    """Other forms of the same value."""
    plain = answer.replace("\\!", "").replace(" ", "")
    yield from _numbers(answer, plain)
    if FRAC.search(answer):
        for name in ("dfrac", "tfrac", "frac"):
            yield FRAC.sub(lambda f, name=name: rf"\{name}{{{f[1] or f[2]}}}{{{f[3] or f[4]}}}", answer)
    if plain.startswith(r"-\frac{"):
        yield r"\frac{-" + plain[len(r"-\frac{") :]
    if found := SQRT.fullmatch(answer.strip()):
        yield rf"\sqrt{{{int(found[1]) ** 2 * int(found[2])}}}"
        yield rf"\sqrt{{{found[2]}}} \cdot {found[1]}"
    if found := re.fullmatch(r"\\sqrt\{(\d+)\}", plain):
        yield f"{found[1]}^{{1/2}}"
        yield rf"{{{found[1]}}}^{{\frac{{1}}{{2}}}}"
    if "\\left" in answer:
        yield answer.replace("\\left", "").replace("\\right", "")
    elif re.fullmatch(r"[(\[][^()\[\]]*[)\]]", plain):
        yield r"\left" + answer[0] + answer[1:-1] + r"\right" + answer[-1]
        yield plain.replace(",", " , ")
    yield from _words(answer, plain)
    yield from _orders(answer, plain)
    if plain != answer and "\\" not in answer:
        yield plain
    elif " " not in answer and re.search(r"[-+=]", answer[1:]) and "\\" not in answer:
        yield re.sub(r"(?<=[\w)])([-+=])", r" \1 ", answer)


def _numbers(answer: str, plain: str) -> Iterator[str]:
    bare = plain.replace("\\$", "").replace("$", "")
    if re.fullmatch(r"-?\d+", plain):
        value = int(plain)
        yield f"{value}.0"
        yield rf"\frac{{{2 * value}}}{{2}}"
        yield rf"\text{{{value}}}"
        yield f"x = {value}"
        if abs(value) > 999:
            yield f"{value:,}"
            yield f"{value:,}".replace(",", "{,}")
        else:
            yield rf"{value} \text{{ cm}}"
        yield rf"{value - 3} + 3"
    elif re.fullmatch(r"\d{1,3}(,\d{3})+", bare):
        yield bare.replace(",", "")
        yield bare
        yield bare.replace(",", "\\,")
    elif re.fullmatch(r"\d*\.\d+", bare):
        value = Fraction("0" + bare if bare.startswith(".") else bare)
        yield rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
        yield f"{bare}0"
        yield "0" + bare if bare.startswith(".") else bare.removeprefix("0")
    elif found := re.fullmatch(r"(-?)" + FRAC.pattern, plain):
        top, bottom = int(found[2] or found[3]), int(found[4] or found[5])
        value = Fraction(top, bottom) * (-1 if found[1] else 1)
        yield f"{value.numerator}/{value.denominator}"
        yield rf"\frac{{{3 * value.numerator}}}{{{3 * value.denominator}}}"
        if 10**6 % value.denominator == 0:
            yield f"{value.numerator / value.denominator:.6f}".rstrip("0")
    elif found := re.fullmatch(r"(\d+)" + FRAC.pattern, plain):
        value = int(found[1]) + Fraction(int(found[2] or found[3]), int(found[4] or found[5]))
        yield rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
        if 10**6 % value.denominator == 0:
            yield f"{float(value)}"
    elif found := re.fullmatch(r"(\d+)_\{?(\d)\}?", plain):
        yield f"{found[1]}_{{{found[2]}}}"
        yield rf"{found[1]}_{{\text{{{found[2]}}}}}".replace(r"\text{", "").replace("}}", "}")
        yield found[1]
    if "$" in answer and re.fullmatch(r"[\d.,]+", bare):
        yield bare.replace(",", "")
        yield rf"{bare} \text{{ dollars}}"
    if found := re.fullmatch(r"(\d*)\\pi", plain):
        yield rf"\pi \cdot {found[1]}" if found[1] else r"1\pi"
        yield rf"{found[1] or 1} \times \pi"


def _words(answer: str, plain: str) -> Iterator[str]:
    if found := re.fullmatch(r"\\text\{([^{}]+)\}", answer):
        yield found[1]
        yield rf"\mathrm{{{found[1]}}}"
        yield rf"\textbf{{{found[1]}}}"
        if re.fullmatch(r"\([A-E]\)", found[1]):
            yield rf"\text{{{found[1][1]}}}"
    if found := re.fullmatch(r"(\d+)\^\\circ", plain):
        yield found[1]
        yield rf"{found[1]}^{{\circ}}"
        yield rf"{found[1]} \text{{ degrees}}"
        yield f"{found[1]}°"
    if found := re.fullmatch(r"([\d.]+)\s*\\(?:text|mbox)\{[^{}]+\}(?:\^2)?", answer):
        yield found[1]
        yield found[1] + r" \text{ units}"
    if "pmatrix" in answer:
        yield answer.replace("pmatrix", "bmatrix")
        yield re.sub(r"(-?)(\d+)/(\d+)", r"\1\\frac{\2}{\3}", answer)
    if found := re.fullmatch(r"x\s*=\s*(\S+)", answer):
        yield found[1]
        yield f"x = {found[1]}"


def _orders(answer: str, plain: str) -> Iterator[str]:
    if re.fullmatch(r"-?\d+(,-?\d+)+", plain) and not re.fullmatch(r"\d{1,3}(,\d{3})+", plain):
        parts = plain.split(",")
        yield ", ".join(reversed(parts))
        yield r"\{" + ", ".join(parts) + r"\}"
        yield r" \text{ and } ".join(parts) if len(parts) == 2 else ",".join(sorted(parts))
    if found := re.fullmatch(r"([\d\s\\sqrt{}]+)\\pm([\d\s\\sqrt{}]+)", answer):
        first, second = found[1].strip(), found[2].strip()
        yield f"{first} + {second}, {first} - {second}"
        yield f"{first} - {second}, {first} + {second}"
    if re.fullmatch(r"[-+\w\s^]+", answer) and len(terms := re.findall(r"[-+]?[^-+]+", plain)) > 1:
        moved = [*terms[1:], "+" + terms[0] if terms[0][0] not in "+-" else terms[0]]
        yield " ".join(moved).removeprefix("+").strip()
        yield "".join(moved).removeprefix("+")
    if found := re.fullmatch(r"\((\d+),(\d+)\]", plain):
        yield rf"{found[1]} < x \le {found[2]}"
    if found := re.fullmatch(r"\((\d+),\\infty\)", plain):
        yield rf"x > {found[1]}"
        yield rf"({found[1]}, +\infty)"
    if found := re.fullmatch(r"x\\in(\[-?\d+,-?\d+\])", plain):
        yield found[1]
        low, high = found[1][1:-1].split(",")
        yield rf"{low} \leq x \leq {high}"


def wrong(answer: str, draw: random.Random, wanted: int = 4) -> list[str]:
    """``wanted`` texts (fewer where there are not so many) that state something else."""
    changed: list[str] = []
    numbers = [n for n in re.finditer(r"\d+", answer) if answer[: n.start()].count("{") < 9]
    for number in numbers:
        for value in (int(number[0]) + 1, int(number[0]) * 10 + 3, max(0, int(number[0]) - 1)):
            if value != int(number[0]) and not _same_thing(answer, number, value):
                changed.append(answer[: number.start()] + str(value) + answer[number.end() :])
    if re.match(r"-?[\d\\]", answer) and re.search(r"[1-9]", answer) and "pm" not in answer and "," not in answer:
        changed.append(answer[1:] if answer.startswith("-") else f"-{answer}")
    if found := re.fullmatch(r"\\text\{\(?([A-E])\)?\}", answer):
        changed += [rf"\text{{({letter})}}" for letter in "ABCDE" if letter != found[1]]
    elif found := re.fullmatch(r"\\text\{(\w+)\}", answer):
        changed += [r"\text{none}", rf"\text{{not {found[1]}}}", rf"\text{{{found[1][::-1]}}}"]
    if (found := re.fullmatch(r"(\d+)(\d)(\d)", answer)) and found[2] != found[3]:
        changed.append(found[1] + found[3] + found[2])
    changed += [answer.replace(old, new, 1) for old, new in ((" + ", " - "), (" - ", " + ")) if old in answer]
    draw.shuffle(changed)
    styles = [STATED[k] for k in (0, 2, 3, 5)]
    picked = list(dict.fromkeys(changed))[:wanted]
    return [styles[k % len(styles)].format(value) for k, value in enumerate(picked)]


def _same_thing(answer: str, number: re.Match[str], value: int) -> bool:
    """Whether another number there may mean the same: an exponent of a unit, an index 0, a zero coefficient."""
    before = answer[: number.start()]
    unit = re.search(r"(?:mbox|text)\{[^{}]*\}\s*\^\s*\{?$", before) is not None
    base = re.search(r"_\{?$", before) is not None
    decimals = "." in before or answer[number.end() : number.end() + 1] == "."
    grouped = re.search(r",\s*(?:\\!)?\s*$", before) is not None or answer[number.end() : number.end() + 1] == ","
    return unit or base or decimals or (grouped and re.search(r"\d,(?:\\!)?\s*\d{3}", answer) is not None) or value == 0
