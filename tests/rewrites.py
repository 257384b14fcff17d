"""Equivalent and wrong forms of the gold answers of MATH-500, by rule.

``equivalent(gold)`` gives replies that state the same result in other ways, ``wrong(gold)`` results that are not
equal to it. The rules know nothing of how results are compared: they work on the answers' text and on fractions.
"""

from __future__ import annotations

import itertools
import re
from fractions import Fraction

FORMS = 6
WRAPPERS = (
    lambda r: f"We check each case.\n\nTherefore, the answer is ${r}$.",
    lambda r: f"Adding the parts gives $\\boxed{{{r}}}$, which is what was asked for.",
    lambda r: f"**Final Answer**\n\n\\[\n\\boxed{{{r}}}\n\\]",
    lambda r: f"Step 1: we find 17.\nStep 2: \\( \\boxed{{ {r} }} \\).",
    lambda r: f"<think>Perhaps \\boxed{{17}}?</think>\nSo we have 3 steps.\n\n**Answer:** ${r}$",
    lambda r: f"The final answer is \\({r}\\). I hope it is correct.",
    lambda r: f"### Answer\n\n$$\n{r}\n$$",
    lambda r: f"<think>So 17.</think>\n<answer>{r}</answer>",
    lambda r: f"In step 2 we had 17. So the result is ${r}$.",
    lambda r: f"We find 17 first. Hence it equals\n\\[\n{r}.\n\\]",
)

_INTEGER = re.compile(r"-?\d+")
_FRACTION = re.compile(r"(-?)\\d?frac\s*(?:(\d)|\{(\d+)\})\s*(?:(\d+)|\{(\d+)\})")
_ROOT = re.compile(r"(-?\d*)\s*\\sqrt\{?(\d+)\}?")
_TERMS = re.compile(r"(?<![\^_{(,])\s*([+-])\s*(?![^(]*\)|[^{]*\})")
_NUMBER = re.compile(r"(?<![\d.])\d+(?![\d.])")


def equivalent(gold: str) -> list[str]:
    """FORMS replies whose result equals ``gold``, each written differently."""
    contents = list(dict.fromkeys(content for content in _contents(gold) if content != gold)) or [gold]
    ways = itertools.cycle(contents)
    start = sum(map(ord, gold)) % len(WRAPPERS)
    return [WRAPPERS[(start + i) % len(WRAPPERS)](next(ways)) for i in range(FORMS)]


def wrong(gold: str) -> list[str]:
    """Results that differ from ``gold``: a number one off, digits swapped, a sign changed, a part left out."""
    return list(dict.fromkeys(f"So it is $\\boxed{{{other}}}$." for other in _perturbed(gold) if other != gold))


def _contents(gold: str) -> list[str]:
    for kind in (_money, _of_integer, _of_fraction, _of_decimal, _degrees, _based, _of_root, _text, _united, _mixed):
        if (forms := kind(gold)) is not None:
            return forms
    spaced = _spaced(gold)
    for kind in (_matrix, _union, _interval, _list, _equation):
        if (forms := kind(gold)) is not None:
            return [*forms, spaced]
    return [*_expression(gold), f"S = {gold}", spaced]


def _plain_number(text: str) -> str:
    return re.sub(r",\\!\s*|,(?=\d{3})", "", text)


def _of_integer(gold: str) -> list[str] | None:
    plain = _plain_number(gold)
    if not _INTEGER.fullmatch(plain):
        return None
    n = int(plain)
    forms = [
        f"x = {n}",
        f"\\frac{{{3 * n}}}{{3}}",
        f"{n}.0",
        f"{n}\\text{{ units}}",
        f"\\mathbf{{{n}}}",
        f"{n - 7} + 7",
    ]
    if abs(n) >= 1000:
        forms = [f"{n:,}", f"{n:,}".replace(",", "{,}"), f"{n:,}".replace(",", "\\,"), *forms]
    return [*forms, f"\\text{{{n}}}"]


def _of_fraction(gold: str) -> list[str] | None:
    found = _FRACTION.fullmatch(gold.strip())
    if not found:
        return None
    over, under = int(found[1] + (found[2] or found[3])), int(found[4] or found[5])
    value, sign = Fraction(over, under), "-" if over < 0 else ""
    forms = [
        f"{over}/{under}",
        f"{sign}\\dfrac{{{abs(over)}}}{{{under}}}",
        f"k = {sign}\\tfrac{{{abs(over)}}}{{{under}}}",
    ]
    forms += [
        f"\\frac{{{5 * over}}}{{{5 * under}}}",
        f"{over} \\cdot {under}^{{-1}}",
        f"\\frac {{ {over} }} {{ {under} }}",
    ]
    if (digits := _exact_decimal(value)) is not None:
        forms.insert(0, digits)
    if value > 1:
        whole, rest = divmod(over, under)
        forms.insert(0, f"{whole}\\frac{{{rest}}}{{{under}}}")
    return forms


def _exact_decimal(value: Fraction) -> str | None:
    for places in range(1, 9):
        if (scaled := value * 10**places).denominator == 1:
            sign = "-" if value < 0 else ""
            return f"{sign}{abs(scaled.numerator) // 10**places}.{abs(scaled.numerator) % 10**places:0{places}d}"
    return None


def _of_decimal(gold: str) -> list[str] | None:
    if not re.fullmatch(r"\d*\.\d+", gold):
        return None
    value = Fraction(gold if gold[0] != "." else "0" + gold)
    other = gold[1:] if gold.startswith("0.") else "0" + gold if gold[0] == "." else f"{gold}000"
    fraction = f"\\frac{{{value.numerator}}}{{{value.denominator}}}"
    return [fraction, f"{gold}0", other, f"x = {gold}", f"{value.numerator}/{value.denominator}", f"{gold}\\text{{ m}}"]


def _degrees(gold: str) -> list[str] | None:
    found = re.fullmatch(r"(\d+)\^\\circ", gold)
    n = found and found[1]
    return found and [
        n,
        f"{n}^{{\\circ}}",
        f"{n} \\text{{ degrees}}",
        f"{n}°",
        f"\\theta = {n}^\\circ",
        f"{n}.0^\\circ",
    ]


def _based(gold: str) -> list[str] | None:
    found = re.fullmatch(r"(\d+)_\{?(\d)\}?", gold)
    n, b = (found[1], found[2]) if found else ("", "")
    return found and [f"{n}_{{{b}}}", f"{n}_{b}", n, f"{n}_{{ {b} }}", f"{n} _{b}", f"x = {n}_{{{b}}}"]


def _of_root(gold: str) -> list[str] | None:
    found = _ROOT.fullmatch(gold)
    if not found:
        return None
    sign = "-" if found[1].startswith("-") else ""
    factor, under = int(found[1].strip("-") or 1), int(found[2])
    return [
        f"{sign}\\sqrt{{{factor * factor * under}}}",
        f"{sign}{factor} \\cdot \\sqrt{{{under}}}",
        f"{sign}\\sqrt{{{under}}} \\cdot {factor}",
        f"d = {sign}{factor}\\sqrt{{{under}}}",
        f"{sign}{factor} \\cdot {under}^{{1/2}}",
        f"{sign}\\frac{{{2 * factor}\\sqrt{{{under}}}}}{{2}}",
    ]


def _text(gold: str) -> list[str] | None:
    found = re.fullmatch(r"\\text\{(.+)\}", gold)
    if not found:
        return None
    word = found[1]
    forms = [word, f"\\textbf{{{word}}}", f"\\mathrm{{{word}}}", f"\\text{{ {word} }}", f"\\mathbf{{{word}}}"]
    return [*forms, f"\\text{{{word.strip('()')}}}", f"\\text{{{word}}}."]


def _united(gold: str) -> list[str] | None:
    found = re.fullmatch(r"(.+?)\s*\\(?:text|mbox)\{\s*(\w+)\}(\^2)?", gold)
    if not found:
        return None
    value, unit, power = found[1], found[2], found[3] or ""
    forms = [value, f"{value} \\text{{ {unit}}}{power}", f"{value}\\,\\mathrm{{{unit}}}{power}", f"A = {value}"]
    return [*forms, f"{value} \\textrm{{ {unit}}}{power}", f"{value}\\ \\text{{{unit}}}{power}"]


def _money(gold: str) -> list[str] | None:
    found = re.fullmatch(r"\\\$([\d,.\\!]+)", gold)
    if not found:
        return None
    n = _plain_number(found[1])
    amount = Fraction(n)
    whole = [f"{amount.numerator:,}"] if amount.denominator == 1 else [f"{float(amount):.1f}"]
    return [n, f"\\${n}", f"{n}\\text{{ dollars}}", f"\\${float(amount):.2f}", *whole, f"x = {n}"]


def _mixed(gold: str) -> list[str] | None:
    found = re.fullmatch(r"(\d+)\s*\\frac\{(\d+)\}\{(\d+)\}", gold)
    if not found:
        return None
    value = Fraction(int(found[1])) + Fraction(int(found[2]), int(found[3]))
    over, under = value.numerator, value.denominator
    forms = [f"\\frac{{{over}}}{{{under}}}", str(_exact_decimal(value)), f"{over}/{under}"]
    return [*forms, f"{found[1]} + \\frac{{{found[2]}}}{{{found[3]}}}", f"{found[1]} {found[2]}/{found[3]}"]


def _matrix(gold: str) -> list[str] | None:
    if "pmatrix" not in gold:
        return None
    inside = re.sub(r"\\(?:begin|end)\{pmatrix\}", "", gold).strip()
    columns = "c" * (1 + inside.split("\\\\")[0].count("&"))
    fractions = re.sub(r"(-?)(\d+)/(\d+)", r"\1\\frac{\2}{\3}", gold)
    forms = [gold.replace("pmatrix", "bmatrix"), fractions, f"\\mathbf{{v}} = {gold}"]
    forms.append(f"\\left( \\begin{{array}}{{{columns}}} {inside} \\end{{array}} \\right)")
    return [*forms, re.sub(r"(?<![\d/])(\d+)(?![\d/])", r"\\frac{\1}{1}", gold)]


def _union(gold: str) -> list[str] | None:
    if "\\cup" not in gold:
        return None
    parts = [part.strip() for part in gold.split("\\cup")]
    forms = [" \\cup ".join(reversed(parts)), "\\cup".join(parts), f"x \\in {gold}"]
    return [*forms, " \\cup ".join("\\left" + part[:-1] + "\\right" + part[-1] for part in parts)]


def _interval(gold: str) -> list[str] | None:
    found = re.fullmatch(r"(?:x \\in )?(?:\\left)?\s*([(\[])\s*([^,]+),\s*(.+?)\s*(?:\\right)?([)\]])", gold)
    if not found or not (found[1] == "[" or found[4] == "]" or "infty" in gold or "sqrt" in found[2]):
        return _tuple(gold)
    low, high = found[2], found[3]
    less, more = ("\\le" if found[1] == "[" else "<"), ("\\leq" if found[4] == "]" else "<")
    if "infty" in low:
        inequality = f"x {more} {high}"
    else:
        above = "\\ge" if found[1] == "[" else ">"
        inequality = f"x {above} {low}" if "infty" in high else f"{low} {less} x {more} {high}"
    bare = f"{found[1]}{low},{high}{found[4]}"
    return [
        inequality,
        f"x \\in {bare}",
        f"\\left{found[1]} {low}, {high} \\right{found[4]}",
        bare,
        f"{bare}".replace(",", ", \\,"),
    ]


def _tuple(gold: str) -> list[str] | None:
    found = re.fullmatch(r"(?:\\left)?\(\s*([^()]+?,[^()]+?)\s*(?:\\right)?\)", gold)
    if not found:
        return None
    parts = [part.strip() for part in found[1].split(",")]
    ratios = [re.sub(r"\\frac\{([^{}]+)\}\{([^{}]+)\}", r"\1/\2", part) for part in parts]
    forms = [f"\\left({', '.join(parts)}\\right)", f"({','.join(parts)})", f"({', '.join(ratios)})"]
    names = "(x, y)" if len(parts) == 2 else "(" + ", ".join("abcdefg"[: len(parts)]) + ")"
    return [*forms, f"{names} = ({', '.join(parts)})", f"\\left( {' , '.join(parts)} \\right)"]


def _list(gold: str) -> list[str] | None:
    inside = gold.removeprefix("\\{").removesuffix("\\}")
    if "," not in gold and "\\pm" not in gold:
        return None
    parts = [part.strip() for part in inside.split(",")]
    parts = [
        side
        for part in parts
        for side in ((part.replace("\\pm", "+"), part.replace("\\pm", "-")) if "\\pm" in part else (part,))
    ]
    back = list(reversed(parts))
    forms = [
        ", ".join(back),
        f"\\{{{', '.join(back)}\\}}",
        " \\text{ and } ".join(parts),
        ",".join(parts[1:] + parts[:1]),
    ]
    return [*forms, ", ".join(f"x = {part}" for part in back), f"\\left\\{{ {', '.join(parts)} \\right\\}}"]


def _equation(gold: str) -> list[str] | None:
    if "=" not in gold:
        return None
    left, right = (side.strip() for side in gold.split("="))
    if _INTEGER.fullmatch(right) and right != "0":  # x = 5
        return [right, f"{right} = {left}", f"{left} = {right}.0", f"{left}={right}", f"{right}.0"]
    forms = [f"{right} = {left}", f"{left} - ({right}) = 0", f"{left} = {_reordered(right)}"]
    return [*forms, f"{_reordered(left)} = {right}"]


def _terms(expression: str) -> list[str]:
    """Signed terms of a sum on its top level."""
    terms, depth, start = [], 0, 0
    for at, char in enumerate(expression):
        depth += (char in "{(") - (char in "})")
        if char in "+-" and not depth and at and expression[at - 1] not in "^_":
            terms.append(expression[start:at].strip())
            start = at
    return [term for term in (*terms, expression[start:].strip()) if term]


def _reordered(expression: str) -> str:
    terms = _terms(expression)
    signed = [term if term[0] in "+-" else f"+{term}" for term in reversed(terms)]
    return " ".join(signed).removeprefix("+").strip()


def _expression(gold: str) -> list[str]:
    forms = []
    if len(_terms(gold)) > 1:
        forms += [_reordered(gold), f"2({gold}) - ({gold})"]
    if "\\frac" in gold:
        forms += [gold.replace("\\frac", "\\dfrac")]
        forms += [re.sub(r"\\frac\{([^{}]+)\}\{([^{}]+)\}", r"(\1)/(\2)", gold)] if "sqrt" not in gold else []
    if "\\sqrt" in gold:
        forms += [re.sub(r"\s*\\sqrt\{(\d+)\}", r" \\cdot \1^{1/2}", gold)] if re.search(r"\d\s*\\sqrt", gold) else []
        forms += [re.sub(r"\\sqrt\{?(\d+)\}?", r"\\sqrt{ \1 }", gold)]
    if factors := re.fullmatch(r"(\([^()]+\))(\([^()]+\))", gold):
        forms += [factors[2] + factors[1], f"{factors[1]} \\cdot {factors[2]}"]
    return [
        *forms,
        f"\\left({gold}\\right)",
        f"\\frac{{3({gold})}}{{3}}",
        gold.replace(" ", "") if "\\" not in gold else f"1 \\cdot ({gold})",
    ]


def _spaced(gold: str) -> str:
    return re.sub(r"\s*([+,=])\s*", r" \1\\; ", gold)


def _perturbed(gold: str) -> list[str]:
    if found := re.fullmatch(r"\\text\{(.+)\}", gold):
        letter = re.fullmatch(r"\((\w)\)", found[1])
        words = (
            [f"({chr(ord(letter[1]) + 1)})", "A" if letter[1] != "A" else "B"] if letter else ["Maria", "north", "odd"]
        )
        return [f"\\text{{{word}}}" for word in words]
    value = re.sub(r"\\mbox\{.*", "", gold)  # a unit's power is left: units are not compared
    numbers = [found for found in _NUMBER.finditer(value) if not gold[: found.start()].endswith("_{")]
    changed = []
    for found in numbers[:1] + numbers[-1:]:
        n = int(found[0])
        others = [n + 1, n + 10, *([n - 1] if n > 1 else [])]
        digits = found[0]
        if len(digits) > 1 and digits[-1] != digits[-2]:
            others.append(digits[:-2] + digits[-1] + digits[-2])
        changed += [gold[: found.start()] + str(other) + gold[found.end() :] for other in others]
    if re.fullmatch(r"-?[\d.]+|-?\\frac.*|-?\d*\s*\\sqrt.*|-?\d*\s*\\pi", gold) and gold not in ("0",):
        changed.append(gold[1:] if gold.startswith("-") else f"-{gold}")
    if (found := _FRACTION.fullmatch(gold)) and (found[2] or found[3]) != (found[4] or found[5]):
        changed.append(f"{found[1]}\\frac{{{found[4] or found[5]}}}{{{found[2] or found[3]}}}")
    if "," in gold and "\\!" not in gold and "." not in gold and not re.search(r"\d,\d{3}", gold):
        head, _, _ = gold.rpartition(",")
        if not gold.endswith((")", "]")):
            changed.append(head + ("\\}" if gold.startswith("\\{") else ""))
    terms = _terms(gold)
    if len(terms) > 1 and "=" not in gold and "," not in gold and "matrix" not in gold:
        changed.append(" ".join(terms[:-1]))
        changed.append(" ".join([*terms[:-1], ("-" if terms[-1][0] == "+" else "+") + terms[-1][1:]]))
    if gold[-1] == "]" and "in" in gold + "in":
        changed.append(gold[:-1] + ")")
    return changed
