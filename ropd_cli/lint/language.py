"""The language of a short text: by its script, and of Latin letters by its commonest words.

Whole documents are not what is looked at but sentences of ten words, on which statistical guessers of language are
mostly wrong; so this says nothing where the commonest words do not say it plainly.
"""

from __future__ import annotations

import re
from collections import Counter

_IGNORED = re.compile(
    r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\\\(.*?\\\)|\\\[.*?\\\]|\\[A-Za-z]+|https?://\S+"
    r"|\"[^\"]*\"|“[^”]*”|«[^»]*»|„[^“”]*[“”]|「[^」]*」|『[^』]*』|《[^》]*》|‘[^’]*’|(?<!\w)'[^'\n]*'(?!\w)",
    re.DOTALL,
)
"""Code, formulas, links and quoted words: they are in the language of what is quoted."""
_SCRIPTS = {
    "ja": re.compile(r"[\u3040-\u30ff]"),
    "zh": re.compile(r"[\u4e00-\u9fff]"),
    "ko": re.compile(r"[\uac00-\ud7af\u1100-\u11ff]"),
    "ru": re.compile(r"[\u0400-\u04ff]"),
    "el": re.compile(r"[\u0370-\u03ff]"),
    "ar": re.compile(r"[\u0600-\u06ff]"),
    "he": re.compile(r"[\u0590-\u05ff]"),
    "hi": re.compile(r"[\u0900-\u097f]"),
    "th": re.compile(r"[\u0e00-\u0e7f]"),
}
_COMMON = {
    "en": "the of and to is are that with for from this it its by an at as be not which has have does do without "
    "than between into each or on if when why how what whether only least one all any their your you",
    "de": "der die das und ist nicht ein eine einen einem einer eines mit für auf den dem des von zu im als auch dass "
    "wird werden oder sich bei nach aus sind hat wie zur zum durch über ohne kein keine antwort nennt erklärt",
    "fr": "le la les des et est une du que qui dans pour pas sur avec au aux ce cette sont par plus ou réponse l d "
    "qu il elle sans ses son sa entre chaque",
    "es": "el la los las y es una del que en para con por se no su al como más o respuesta sin sus entre cada ser "
    "está son lo un de",
    "it": "il lo la gli le e è una del della che di per con non si al come più o risposta sono nel nella dei delle un",
    "pt": "o a os as e é uma do da que em para com não se ao como mais ou resposta dos das no na são sem um",
    "nl": "de het een en is van dat met voor niet op zijn aan ook als door bij of naar uit wordt antwoord worden",
}
_COMMON_WORDS = {language: frozenset(words.split()) for language, words in _COMMON.items()}
_WORD = re.compile(r"[^\W\d_]+")
_NAMES = {
    "en": r"english|anglais|englisch|inglés|inglese|英文|英语|英語|английск\w+",
    "de": r"german|deutsch\w*|allemand|alemán|德文|德语|ドイツ語|немецк\w+",
    "fr": r"french|français\w*|französisch\w*|francés|法文|法语|フランス語|французск\w+",
    "es": r"spanish|español\w*|spanisch\w*|espagnol|西班牙语|西班牙文|スペイン語|испанск\w+",
    "it": r"italian\w*|italienisch\w*|italien|意大利语",
    "pt": r"portugu\w+|葡萄牙语",
    "nl": r"dutch|niederländisch\w*|荷兰语",
    "zh": r"chinese|mandarin|chinesisch\w*|chinois|chino|中文|汉语|中国語|китайск\w+",
    "ja": r"japanese|japanisch\w*|japonais|japonés|日语|日文|日本語|японск\w+",
    "ko": r"korean|koreanisch\w*|coréen|韩语|韓国語",
    "ru": r"russian|russisch\w*|russe|ruso|俄语|俄文|ロシア語|русск\w+",
    "el": r"greek|griechisch\w*",
    "ar": r"arabic|arabisch\w*|arabe|阿拉伯语",
    "hi": r"hindi",
    "he": r"hebrew",
    "th": r"thai",
}
_NAMED = {
    language: re.compile(rf"\b(?:{names})\b|(?:[\u4e00-\u9fff])*(?:{names})", re.I)
    for language, names in _NAMES.items()
}


def language_of(text: str) -> str | None:
    """The language as its two-letter code; None where that is not plain. Not looked at: code, formulas, quotes."""
    bare = _IGNORED.sub(" ", text)
    letters = sum(map(str.isalpha, bare))
    counts = {language: len(script.findall(bare)) for language, script in _SCRIPTS.items()}
    words = _WORD.findall(bare.lower())
    if counts["ja"] and counts["ja"] + counts["zh"] > letters / 3:
        return "ja"
    for language, count in counts.items():
        if language != "ja" and count > letters / 3:
            return language
    return _latin(words)


def _latin(words: list[str]) -> str | None:
    hits = Counter({language: sum(word in common for word in words) for language, common in _COMMON_WORDS.items()})
    (first, most), (_, second) = hits.most_common(2)
    if most >= 2 and most >= 1.5 * second:
        return first
    return None


def is_latin(text: str) -> bool:
    """Whether the text, without what is quoted, holds words of Latin letters and hardly anything else."""
    bare = _IGNORED.sub(" ", text)
    words = [word for word in _WORD.findall(bare) if len(word) > 2 and word.isascii()]
    other = sum(len(script.findall(bare)) for script in _SCRIPTS.values())
    return len(words) >= 3 and other * 10 < sum(map(len, words))


def languages_around(question: str) -> set[str]:
    """Languages in which a criterion about a question may be: its own, those that it names, those it is partly in."""
    found = {language for language, names in _NAMED.items() if names.search(question)}
    if own := language_of(question):
        found.add(own)
    letters = max(1, sum(map(str.isalpha, question)))
    found |= {language for language, script in _SCRIPTS.items() if len(script.findall(question)) > 0.15 * letters}
    return found
