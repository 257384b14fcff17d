"""Words of a text, for comparing texts whose spelling differs: near duplicates and overlap with evaluation sets."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_TOKEN = re.compile(rf"\d+(?:\.\d+)+|[{_CJK}]|[^\W_{_CJK}]+|[-+*/^=<>≤≥≠±×÷√∑∫|%&~()\[\]{{}}]|(?<=[\d)])!")
_HYPHEN = re.compile(r"(?<=[^\W\d_]{2})[-‐‑](?=[^\W\d_]{2})")


def words(text: str) -> list[str]:
    """The words in lower case; without spaces between words (Chinese, Japanese) each character is one."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


def normalized(text: str) -> str:
    """The text without what a reader skips: case, white space, quotes, ``$``, commas, full stops, hyphens in words.
    Decimal points, signs of arithmetic and brackets stay: 1.5 is not 15, and 2 + 3 not 2 * 3."""
    text = unicodedata.normalize("NFKC", text).casefold().replace("−", "-")
    return " ".join(_TOKEN.findall(_HYPHEN.sub(" ", text)))


def text_of(messages: Iterable[Mapping[str, Any]], *, without: frozenset[str] = frozenset()) -> str:
    """The texts of chat messages, one a paragraph, but those of the roles ``without``."""
    return "\n\n".join(_text(each.get("content")) for each in messages if each.get("role") not in without)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list | tuple):  # content parts
        return "\n".join(part if isinstance(part, str) else str(part.get("text") or "") for part in content if part)
    return ""
