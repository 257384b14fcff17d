"""Words of criteria, made comparable: lower case, without the commonest ones, stems, and one word for its synonyms.

English has most of it; of Chinese and Japanese the pairs of neighbouring characters are compared.
"""

from __future__ import annotations

import re
import unicodedata

_TOKEN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?|\d+(?:[.,]\d+)*")
_HAN = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]+")
_STOP = frozenset(
    "a an the of and or to in on at by for from with as is are was were be been being it its this that these those "
    "which who whom whose what when where how there their they them he she his her we our you your i my me "
    "do does did done has have had having can could may might must shall should will would not no nor so than then "
    "also both each any some such same other into over under between about after before during without within "
    "if while because since until up out off only own very too just more most less least one "
    "der die das ein eine einen einem einer und oder ist sind mit für auf von zu im in den dem des als auch dass wird "
    "le la les un une des et ou est sont avec pour sur de du que qui dans au aux "
    "el los las una y o es son con para por del al se su en que".split()
) - {"not", "no", "without", "least", "most", "more", "less", "before", "after"}
_SUBJECT = frozenset(
    "answer response reply solution text output student author writer reader criterion "
    "antwort réponse respuesta lösung".split()
)
"""What every criterion is about."""
_SAYING = frozenset(
    "state give provide present mention report name say tell note write include contain offer supply show indicate "
    "specify list identify express describe explain discuss address cover point out make clear present arrive reach get obtain yield conclude find "
    "nennt gibt enthält indique mentionne menciona indica".split()
)
_GROUPS = (
    "correct right accurate true valid exact proper precise",
    "wrong incorrect false mistaken invalid erroneous error mistake inaccurate",
    "result value outcome conclusion figure",
    "final ultimate last concluding end",
    "compute calculate determine derive evaluate work",
    "step stage intermediate stepwise",
    "show demonstrate display exhibit",
    "explain justify reason rationale why account clarify reasoning justification explanation",
    "number numeric numerical amount quantity",
    "use apply employ utilise utilize rely",
    "check verify confirm validate test",
    "begin start open opening initial first",
    "avoid omit exclude refrain leave lack",
    "concise brief short succinct terse",
    "clear understandable readable legible comprehensible intelligible",
    "example instance illustration illustrate exemplify",
    "cause trigger source origin",
    "effect consequence impact implication influence",
    "need require demand necessary requirement",
    "suggest recommend advise propose recommendation advice",
    "warn caution alert warning",
    "doctor physician clinician",
    "medicine drug medication",
    "big large great",
    "small little tiny",
    "increase rise grow raise climb",
    "decrease fall drop reduce lower decline",
    "assume suppose assumption premise",
    "equal same identical match",
    "differ distinguish contrast difference separate",
    "unit units dimension",
    "handle treat deal manage cope",
    "empty blank missing",
    "return output produce",
    "function method routine procedure",
    "complexity runtime",
    "contain include hold comprise",
    "remove delete drop",
    "keep preserve retain maintain remain",
    "limit bound restrict",
    "whole entire complete full",
    "several multiple various many",
    "quick fast rapid prompt",
    "ask request",
    "help aid assist",
    "person individual people",
    "child kid",
    "dangerous hazardous unsafe risky",
    "risk danger hazard",
    "cost price expense",
    "buy purchase",
    "job work employment",
    "date day",
    "tone register",
    "polite courteous respectful",
)
_SYNONYMS = {word: group.split()[0] for group in _GROUPS for word in group.split()}
_SUFFIXES = (
    "ications",
    "ication",
    "ations",
    "ation",
    "ively",
    "ingly",
    "edly",
    "ments",
    "ment",
    "ness",
    "ing",
    "ies",
    "ied",
)
_ENDINGS = ("ly", "ed", "es", "s", "e")


def stem(word: str) -> str:
    """A crude stem of an English word."""
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            word = word.removesuffix(suffix) + ("y" if suffix in ("ies", "ied") else "")
            break
    else:
        for ending in _ENDINGS:
            if word.endswith(ending) and len(word) - len(ending) >= 3:
                word = word.removesuffix(ending)
                break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "ls":
        word = word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word


_STEMMED_SYNONYMS = {stem(word): stem(first) for word, first in _SYNONYMS.items()}
_EMPTY = frozenset(map(stem, _SUBJECT | _SAYING)) | _SUBJECT | _SAYING


def plain(text: str) -> str:
    """Lower case, compatibility forms made one."""
    return unicodedata.normalize("NFKC", text).lower()


def content(text: str) -> frozenset[str]:
    """What a criterion is about, as comparable tokens; empty where it has no words."""
    text = plain(text)
    found = set()
    for token in _TOKEN.findall(text):
        if _HAN.match(token) or token in _STOP:
            continue
        if token[0].isdigit():
            found.add(token.replace(",", ""))
            continue
        root = stem(token.split("'")[0].split("’")[0])
        if root not in _EMPTY and token not in _EMPTY:
            found.add(_STEMMED_SYNONYMS.get(root, root))
    for run in _HAN.findall(text):
        found |= {run[at : at + 2] for at in range(max(1, len(run) - 1))}
    return frozenset(found)
