r"""What a result says, as text and as one formula: the writings of people and models, made into plain LaTeX.

``formula_of`` gives LaTeX without units, words, colours, marks of Markdown and Unicode's signs. It gives None where
a part would be left over: dots of a list, a prime, a time of day, words that change the value ("5 and a half", "5 or
more"), numbers side by side. Such a result is equal to another only where both are written alike (``alike``).

All patterns are linear in the length of a text: what repeats is one class of characters, and nothing after it can
match within it.
"""

from __future__ import annotations

import re

_UNICODE = str.maketrans(  # \x01 and \x02 are marks of our own, below
    {
        "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "﹣": "-", "－": "-", "＋": "+", "＝": "=",
        "，": ", ", "。": ". ",
        "、": ", ", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "÷": "/", "⁄": "/", "∕": "/",
        "π": r"\pi ", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "λ": r"\lambda ", "φ": r"\phi ",
        "ω": r"\omega ", "∞": r"\infty ", "±": r"\pm ", "∓": r"\mp ", "≤": r"\le ", "⩽": r"\le ", "≥": r"\ge ",
        "⩾": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ",
        "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "°": r"^\circ ", "≈": r"\approx ", "⟨": "(", "⟩": ")", "（": "(",
        "）": ")", "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u2062": "", "\u200b": "", "’": "'", "′": "'",
        "…": r"\ldots ", "€": "", "£": "", "¥": "", "₹": "", "½": r" \frac{1}{2}", "⅓": r" \frac{1}{3}",
        "⅔": r" \frac{2}{3}", "¼": r" \frac{1}{4}", "¾": r" \frac{3}{4}", "⅕": r" \frac{1}{5}", "⅖": r" \frac{2}{5}",
        "⅗": r" \frac{3}{5}", "⅘": r" \frac{4}{5}", "⅙": r" \frac{1}{6}", "⅚": r" \frac{5}{6}", "⅛": r" \frac{1}{8}",
        "⅜": r" \frac{3}{8}", "⅝": r" \frac{5}{8}", "⅞": r" \frac{7}{8}", "\x01": "", "\x02": "",
    }
)  # fmt: skip
_SUPER = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUPERS = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_SUBS = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_SUB = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_ROOT = re.compile(r"([√∛])\s?(?:(\d{1,400}|[a-zA-Z])|(?=[({]))")
_PLAIN_ROOT = re.compile(r"(?<![\\A-Za-z])sqrt ?(\d{1,400})")

_PICTURES = re.compile("[\u2600-\u27bf\ufe0f\U0001f000-\U0001faff]")
_SIZE = re.compile(
    r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|nolimits|[lL]arge|LARGE|[hH]uge)(?![A-Za-z])|(?<!\\)\\[()\[\]]|\\?\$"
)
_BOLD = re.compile(r"(?<![\w)}])\*\*([^*]+)\*\*(?!\w)")
_STARS = re.compile(r"(?<![\w)}])\*\*|\*\*(?![\w(\\{-])")
_SEPARATOR = re.compile(r"(?<=\d)(?:,\\!|\\[,!;: ]|\{,\}|~| ) ?(?=\d{3}(?!\d))")
_SPACE = re.compile(r"(?<!\\)\\[,;:! ]|\\q?quad(?![A-Za-z])|~|\\(?:hspace|vspace)\*?\{[^{}]*\}")
_FRACTION = re.compile(r"\\(?:[dtcs]|nice)frac(?![A-Za-z])")
_COLOUR = re.compile(r"\\(?:text)?color(?:box)?\s?(?:\[[^\[\]]*\])?\{[^{}]*\}")
_WRAPPER = re.compile(
    r"\\(text(?:bf|it|rm|normal|sf|tt)?|math(?:rm|bf|it|sf|tt|normal)|[mhf]box|boxed|emph|boldsymbol|bm|underline|ensuremath)"
    r"(?:\s?\{([^{}]*)\}|\s?(\d))"
)
_SWITCH = re.compile(r"\\(?:bf|rm|it|sf|tt|boldmath)(?![A-Za-z])")
_UNIT_LETTERS = frozenset("msghlLVAWJNKCFt")
"""Letters that ``\\mathrm`` makes a unit after a number; another letter in it is that letter."""

_NAMES = re.compile(
    r"(?<![\\A-Za-z])(?:(pi|theta|alpha|beta|infinity|infty|inf|oo)(?![A-Za-z])"
    r"|(arcsin|arccos|arctan|sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt)(?= ?[(\\{\d^_]| [A-Za-z](?![A-Za-z])))"
)
_NAME_OF = {"infinity": "infty", "inf": "infty", "oo": "infty"}
_LABEL = re.compile(
    r"(?:\x01[^\x01\x02]{0,80}[=:]\x02|(?:(?:[A-Za-z]{2,20}(?![A-Za-z])|\x01[^\x01\x02]*\x02) ?){1,8}[=:]"
    r"|(?:m ?)?\\(?:angle|max|min) ?[A-Z]{0,3} ?=|\|[A-Z]{2}\| ?=|[A-Z]\([^()]{0,40}[=|][^()]{0,40}\) ?=) ?(?!=)"
)
r"""What an equation or a colon gives a value to: "Total =", ``\angle ABC =``, ``P(X = 2) =``."""
_LEAD = re.compile(
    r"(?:\\approx|=|(?:approximately|approx\.?|about|around|roughly|exactly|equals|equal to|a total of|total of|only"
    r"|just|indeed|simply|therefore|thus|hence|then|clearly)(?![A-Za-z])) ?[:,]? ?",
    re.IGNORECASE,
)
_RELATION = re.compile(r"[<>!:]|\\(?:leq?|geq?|neq?|in|begin|equiv|approx|pm)(?![A-Za-z])")
_NEGATIVE = re.compile(r"\x01?(?<![A-Za-z\\])(?:negative|minus) ?\x02? ?(?=[\d\\.])", re.IGNORECASE)
_SCALED = re.compile(r"(?<=[\d}]) ?(\x01?) ?(thousand|million|billion|trillion)s?(?![A-Za-z])", re.IGNORECASE)
_POWERS = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_ASIDE = re.compile(
    r" ?\x01?,? ?\(?(?:rounded|rounding|to the nearest)\b[^()]{0,60}\)?$"
    r"| ?\x01?\((?:not|i\.e\.|e\.g\.|that is|since|because|as|see)[ ,][^()]*\)"
)
"""Remarks that leave the value as it is, whatever words they have."""
_BEYOND = re.compile(r"([A-Za-z]) ?(<=?|>=?|\\[lg]eq?(?![A-Za-z])) ?([^<>=,]+)")
_BETWEEN = re.compile(r"([^<>=, ]+) ?(<=?|\\leq?(?![A-Za-z])) ?([A-Za-z]) ?(<=?|\\leq?(?![A-Za-z])) ?([^<>=,]+)")
_JOINED = re.compile(r",? ?(?<![A-Za-z\\])(?:and|or)(?![A-Za-z]),? ?(?=[-+(\[\\.\d]|[A-Za-z](?![A-Za-z]))", re.I)
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}|\x01")
_LONG_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{4,}|(?<=[\d}] )[A-Za-z]{3,}|\x01")
_ENVIRONMENT = re.compile(
    r"\\(?:begin|end)\{[A-Za-z]{1,12}\}|\{[lcr|]{1,9}\}|\\(?:mathbb|mathcal|overline|vec|operatorname)\{[^{}]*\}"
)
_CHANGING = re.compile(
    r"percent\w*|(?:ten|hundred|thousand|million)ths?|hundreds?|thousands?|lakhs?|crores?|[bmt]n|grand|gross|[mbtr]+illions?"
    r"|dozens?|pairs?|half|halves|thirds?|quarters?|fourths?|fifths?|zero|one|two|three|four|five|six|seven|eight|nine|ten"
    r"|eleven|twelve|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|score|twice|double|triple|times|squared|cubed"
    r"|plus|minus|and|or|not|never|no|wrong|incorrect|than|least|most|below|above|under|over|mod|modulo|base|to"
    r"|remainder|negative|powers?|roots?|factorial|choose|if|unless|between|through|until|except|but|without"
)
"""Words after a number that make it another one, or an open one."""
_REST = re.compile(r"[A-Za-z\s/.,;()\x01\x02_*'-]*")
_UNIT_POWER = re.compile(
    r"(?<=[A-Za-z\x02]) ?\^ ?(?:\{-?\d\}|\d)|\\cdot |(?<=[A-Za-z\x02)])\s?\\times ?(?=[A-Za-z\x01])"
)

_WORDS = re.compile(r"[^\W\d_]|\([^\W\d_]\)|[^\W\d_]{2,}(?:[ ,.'-]{1,3}[^\W\d_]{2,})*")
_CASELESS = re.compile(r"(?<![\\A-Za-z])(?:[A-Za-z]{4,}|[A-Z][a-z]{1,2}(?![A-Za-z])|(?:YES|NO|ODD)(?![A-Za-z]))")
_UNREADABLE = re.compile(
    r"\\(?:[lc]?dots|vdots|prime|cdotp|pmod|bmod|mod|equiv|sim|cong|to|vert|triangle|parallel|perp)(?![A-Za-z])"
    r"|\.\.|['\"?:]|(?<=\d)[eE](?=[-+]?\d)|\d ?_|\^ ?\{? ?(?:T(?![A-Za-z])|\\top)"
)
_DEGREES = re.compile(
    r"(?:\^\s?(?:\\(?:circ|degree)|\{\s?\\(?:circ|degree)\s?\})|\\degree(?![A-Za-z]))(?: ?[CF](?![A-Za-z]))?"
)
_ANGLE = re.compile(rf"(\d{{1,9}}(?:\.\d{{1,9}})?) ?(?:{_DEGREES.pattern})")
_ORDINAL = re.compile(r"(?<=\d) ?\^ ?\{? ?\x01?(?:st|nd|rd|th)(?![A-Za-z])\x02? ?\}?")
_UNIT_LETTER = re.compile(r"(?<=[\d}]) ?[mshgLlVWNJ](?:\^\{?[23]\}?)?$")
_IDEOGRAPHS = re.compile("(?<=[\\d}]) ?(?:(?![万亿千百十半多余倍分成折至到或])[一-龥]){1,6}$")
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
_NATURAL_LOG = re.compile(r"\\log ?_ ?(?:\{ ?e ?\}|e(?![A-Za-z]))")
_MIXED = re.compile(
    r"(?<![\d.\w}/^])(\d{1,300}) {1,3}(?:(\d{1,300}) ?/ ?(\d{1,300})(?![\d.])|\\frac\{(\d{1,300})\}\{(\d{1,300})\})"
)
_REPEATING = re.compile(
    r"(\d{0,300})\.(\d{0,100})(?:\\(?:overline|bar|dot)\s?(?:\{ ?(\d{1,100}) ?\}|(\d))|(?<=\.)\((\d{1,100})\))"
)
_ON_AND_ON = re.compile(r"(\d{0,300})\.(\d{0,9}?)(\d{1,6})\3\3+ ?\\[lc]?dots(?![A-Za-z])")
_TIMES_TEN = re.compile(r"(?<=\d) ?[xX*] ?(?=10 ?\^)")
_EXPONENT = re.compile(r"\^ ?(-?\d{1,300})(?![\d.])")
_SUBSCRIPT = re.compile(r"_ ?(\d)")
_SCIENTIFIC = re.compile(r"(?<![\w.])(\d{1,300}(?:\.\d{1,300})?)[eE]([-+]?\d{1,5})(?![\w.])")
_SHORT = re.compile(r"\\frac ?(\{[^{}]*\}|\d|[A-Za-z]|\\pi ?)\s?(\{[^{}]*\}|\d|[A-Za-z]|\\pi ?)")
_PARENTHESIS = re.compile(r"(?:\\sqrt|\^) ?\(|[()]")
_SHORT_ROOT = re.compile(r"\\sqrt ?(\d|[A-Za-z])")
_SIDE_BY_SIDE = re.compile(r"[\d.] +[\d.]")


def tidy(result: str) -> str:
    """Return a result without what changes neither its words nor its value: marks, sizes, colours, spaces."""
    text = _SUPERS.sub(lambda found: "^{" + found[0].translate(_SUPER) + "}", result)
    text = _SUBS.sub(lambda found: "_{" + found[0].translate(_SUB) + "}", text)
    text = _PLAIN_ROOT.sub(r"\\sqrt{\1}", _ROOT.sub(_root, text)).translate(_UNICODE)
    text = " ".join(_PICTURES.sub("", text).replace("...", r"\ldots ").split())
    text = _COLOUR.sub("", _SIZE.sub("", _SWITCH.sub("", _STARS.sub("", _BOLD.sub(r"\1", text.strip("_"))))))
    text = _SPACE.sub(" ", _SEPARATOR.sub("", _without_braces(text)))
    text = _FRACTION.sub(r"\\frac", text)
    for _ in range(3):  # a wrapper within a wrapper
        text = _WRAPPER.sub(_unwrapped, text)
    text = " ".join(text.split()).removesuffix("\\").strip(" `*")
    return text.rstrip(" .,;") or text


def _without_braces(text: str) -> str:
    """A text without braces around the whole of it, as a colour leaves them."""
    text = text.strip()
    if not (text.startswith("{") and text.endswith("}")) or re.search(r"\\(?:over|choose|atop)(?![A-Za-z])", text):
        return text
    depth = 0
    for at, brace in enumerate(text):
        depth += (brace == "{") - (brace == "}")
        if not depth:
            return text[1:-1] if at == len(text) - 1 else text
    return text


def alike(result: str) -> str:
    """Return a form in which results that are written alike are the same string: words without case, single letters
    with it."""
    text = re.sub(r"\{(\w)\}", r" \1", tidy(result)).replace("\x01", "").replace("\x02", "")
    text = re.sub(r"(?<!\w) | (?!\w)", "", re.sub(r"(?<=[A-Za-z])(?:,| and) (?=\d)", " ", text))
    text = text.rstrip(" .")
    if re.fullmatch(r"\(\w\)|[A-Za-z]\)|\w", text):
        return text.strip("()")
    return _CASELESS.sub(lambda found: found[0].casefold(), text)


def is_words(result: str) -> bool:
    """Whether a result is only words or letters ("Evelyn", "(C)", "AB"): letters side by side are no product."""
    return _WORDS.fullmatch(alike(result)) is not None and not _NAMES.search(tidy(result))


def has_variables(result: str) -> bool:
    """Whether a result has letters that stand for something: those of an answer may be products, not units."""
    text = _ENVIRONMENT.sub(" ", _NAMES.sub(" ", _JOINED.sub(", ", tidy(result))))
    text = re.sub(r"\x01[^\x02]*\x02|\\[A-Za-z]+", " ", text)
    unit = re.search(r"(?<=[\d})] )[A-Za-z]{2}|(?<=[\d})])[A-Za-z]{4}", text)
    if unit and _REST.fullmatch(text[unit.start() :]):
        text = text[: unit.start()]
    text = re.sub(r"(?<![A-Za-z])[A-Za-z]{4,}", " ", text)
    return re.search(r"(?<![A-Za-z])(?![eiEI](?![A-Za-z]))[A-Za-z]", text) is not None


def formula_of(result: str, variables: bool) -> str | None:
    """Return the whole result as LaTeX; None where a part of it is no formula. ``variables``: letters may be variables
    of the answer, so short words are products and no units."""
    text = _NAMES.sub(lambda found: f"\\{_NAME_OF.get(found[1] or found[2], found[1] or found[2])} ", tidy(result))
    if label := _LABEL.match(text):
        text = text[label.end() :]
    while lead := _LEAD.match(text):
        text = text[lead.end() :]
    text = _ASIDE.sub("", _SCALED.sub(_scaled, _NEGATIVE.sub("-", text)))
    if _TRIGONOMETRIC.search(text):
        text = _ANGLE.sub(r"\\frac{\1\\pi}{180}", text)
    text = _ORDINAL.sub("", _DEGREES.sub("", text))
    text = _IDEOGRAPHS.sub("", _JOINED.sub(", ", _union(text) or text))
    if not variables:
        text = _UNIT_LETTER.sub("", text)
    text = _last_part(text)
    seen = _ENVIRONMENT.sub(lambda found: "0" * len(found[0]), text)
    word = (_LONG_WORD if variables else _WORD).search(seen)
    if word is not None:
        value, rest = text[: word.start()], text[word.start() :]
        if not _changes_nothing(rest):
            return None
        text = value.rstrip(" ,;(-/").removesuffix("\\").rstrip()
    formula = _mathematical(text)
    return None if not formula or _UNREADABLE.search(formula) or _SIDE_BY_SIDE.search(formula) else formula


def _last_part(text: str) -> str:
    """What a chain of equations comes to: of "9 + 6 = 15" and "a + b = 9 + 6 = 15" 15. Other texts are as they were."""
    parts = text.split("=")
    if len(parts) < 2 or not parts[-1].strip() or _RELATION.search(text):
        return text
    letters = [re.search(r"(?<![A-Za-z])[A-Za-z]", re.sub(r"\\[A-Za-z]+", " ", part)) is not None for part in parts]
    depth = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        if char in ",;" and not depth:
            return text
    if not letters[-2] and re.fullmatch(r" ?[A-Za-z] ?", parts[-1]):  # 9 + 6 = 15 = x
        return parts[-2]
    return parts[-1] if len(parts) > 2 or not (letters[0] or letters[-1]) else text


def _union(text: str) -> str | None:
    """Inequalities of one letter that "or" joins, as intervals; None for anything else."""
    intervals, letters = [], set()
    parts = text.split(" or ")
    for part in parts if len(parts) > 1 else ():
        if found := _BETWEEN.fullmatch(part.strip(" ,")):
            low, above, letter, below, high = found.groups()
        elif found := _BEYOND.fullmatch(part.strip(" ,")):
            letter, sign, bound = found.groups()
            is_below = sign[:2] in ("<", "<=", "\\l")
            low, above, below, high = ("-\\infty", "<", sign, bound) if is_below else (bound, sign, "<", "\\infty")
        else:
            return None
        letters.add(letter)
        intervals.append(f"{'(['[above not in '<>']}{low}, {high}{')]'[below not in '<>']}")
    return " \\cup ".join(intervals) if len(letters) == 1 else None


def _root(found: re.Match[str]) -> str:
    return ("\\sqrt" if found[1] == "√" else "\\sqrt[3]") + (f"{{{found[2]}}}" if found[2] else "")


def _unwrapped(found: re.Match[str]) -> str:
    """The content of ``\\text{}`` and its like: words between marks, others bare."""
    kind, inner = found[1], found[2] or found[3] or ""
    bare = inner.strip()
    if kind in ("boxed", "fbox", "bm", "boldsymbol") or not re.search(r"[A-Za-z]", bare) or re.search(r"\d", bare):
        return f" {inner} "
    if bare in ("and", "or"):
        return f" {bare} "
    if len(bare) == 1 and (kind not in ("text", "mbox", "mathrm") or bare not in _UNIT_LETTERS):
        return f" {bare} "
    before = found.string[max(0, found.start() - 9) : found.start()].rstrip()[-1:]
    if len(bare) == 1 and not (before.isdigit() or before in "})"):
        return f" {bare} "
    return f" \x01{bare}\x02 "


def _scaled(found: re.Match[str]) -> str:
    return f"\\cdot 10^{{{_POWERS[found[2].lower()]}}} {found[1]}"


def _changes_nothing(rest: str) -> bool:
    """Whether words after a value leave it as it is: a unit, "in total", "(rounded)"."""
    rest = _UNIT_POWER.sub("", rest)
    if not _REST.fullmatch(rest):
        return False
    words = re.findall(r"[A-Za-z]+", rest.lower())
    if "and" in words[1:]:  # of things: "10 apples and pears"
        words.remove("and")
    return not any(map(_CHANGING.fullmatch, words))


def _mathematical(text: str) -> str | None:
    """A formula as latex2sympy reads it: plain text's powers, roots and mixed numbers are LaTeX's."""
    text = _NATURAL_LOG.sub(r"\\ln ", text.replace("**", "^"))
    text = _REPEATING.sub(_repeated, _ON_AND_ON.sub(_repeated, text))
    text = _MIXED.sub(lambda f: f"({f[1]}+\\frac{{{f[2] or f[4]}}}{{{f[3] or f[5]}}})", text)
    text = _SCIENTIFIC.sub(r"\1\\cdot 10^{\2}", _TIMES_TEN.sub(r"\\times ", text))
    braced = _braced(text)
    if braced is None:
        return None
    text = _SUBSCRIPT.sub(r"_{\1}", _EXPONENT.sub(r"^{\1}", braced))
    text = _SHORT_ROOT.sub(r"\\sqrt{\1}", text)
    text = _SHORT.sub(lambda f: "\\frac" + _in_braces(f[1]) + _in_braces(f[2]), text)
    text = text.replace("*", "\\cdot ").replace("\\left", "").replace("\\varnothing", "\\emptyset")
    text = re.sub(r"(?<=[)\]}]) ?U ?(?=[(\[\\{])", r"\\cup ", text)
    return re.sub(r"\\langle|\\lparen", "(", re.sub(r"\\rangle|\\rparen", ")", text)).strip()


def _in_braces(part: str) -> str:
    return part if part.startswith("{") else f"{{{part}}}"


def _repeated(found: re.Match[str]) -> str:
    """A repeating decimal as a fraction."""
    whole, fixed, *groups = found.groups("")
    again = max(groups, key=len)
    under = (10 ** len(again) - 1) * 10 ** len(fixed)
    over = int(whole + fixed + again) - int((whole + fixed) or "0")
    return f"\\frac{{{over}}}{{{under}}}"


def _braced(text: str) -> str | None:
    """A text with the parentheses after a root or a power made braces; None where one is not closed."""
    pieces, opened, start = [], [], 0
    for mark in _PARENTHESIS.finditer(text):
        if mark[0] == "(":
            opened.append(False)
        elif mark[0] != ")":
            opened.append(True)
            pieces.append(text[start : mark.end() - 1].rstrip() + "{")
            start = mark.end()
        elif opened and opened.pop():
            pieces.append(text[start : mark.start()] + "}")
            start = mark.end()
    return None if any(opened) else "".join([*pieces, text[start:]])
