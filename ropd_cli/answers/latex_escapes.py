r"""LaTeX inside JSON: a model that writes ``"\frac"`` with a single backslash means no form feed before "rac"."""

from __future__ import annotations

import re

_ESCAPED = re.compile(r"\\(?:([bfnrt][a-zA-Z]*)|.)", re.DOTALL)
_NAMES = (
    "nabla neq neg nexists nmid nparallel nleq ngeq nless ngtr nsubseteq nsupseteq nsim ncong not notin nolimits "
    "nonumber notag norm newline newcommand newpage noindent normalsize nearrow nwarrow natural nprec nsucc nvdash "
    "nrightarrow nleftarrow nRightarrow nLeftarrow nLeftrightarrow rho right rightarrow rightleftharpoons "
    "rightharpoonup rangle rceil rfloor rbrace rbrack rvert rVert rm ref rtimes root rule rgroup text textbf textit "
    "textrm texttt textsf textsc textup textnormal textstyle textcolor textsuperscript textsubscript textwidth "
    "textbackslash tfrac tbinom times theta tau tanh tilde triangle triangleq triangleleft triangleright therefore "
    "thickapprox tag"
)
_COMMANDS = frozenset(_NAMES.split())
"""Commands of LaTeX that begin like JSON's line break, tab or carriage return, and can't be one before a word."""
_SHORT_COMMANDS = frozenset(("ne", "ni", "nu", "tan", "to", "top"))
"""Those that can: they count inside a formula alone."""
_FORMULA_CHARS = 200


def with_latex(json_text: str) -> str:
    """Return a JSON text with the backslashes doubled that begin a command of LaTeX and would be read as an escape."""
    return _ESCAPED.sub(_latex, json_text) if "\\" in json_text else json_text


def _latex(escape: re.Match[str]) -> str:
    r"""Return a JSON escape with its backslash doubled where it begins a command of LaTeX: ``\frac`` is no form feed.

    A backspace is never meant, nor a form feed before a letter; a line break before a word mostly is.
    """
    name = escape[1]
    if name is None or (len(name) == 1 and name != "b"):
        return escape[0]
    if name[0] in "bf" or name in _COMMANDS:
        return "\\" + escape[0]
    if name in _SHORT_COMMANDS:
        before = escape.string[max(0, escape.start() - _FORMULA_CHARS) : escape.start()]
        before = before[before.rfind('"') + 1 :]
        is_formula = before.count("$") % 2 or any(
            before.count(f"\\{a}") > before.count(f"\\{b}") for a, b in ("()", "[]")
        )
        if is_formula or (name[0] == "t" and before.endswith(tuple(" =+-*/({^_"))):
            return "\\" + escape[0]
    return escape[0]
