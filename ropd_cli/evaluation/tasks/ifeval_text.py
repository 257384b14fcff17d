"""Sentences, words and the language of a text, as IFEval counts and names them.

IFEval's figures depend on NLTK's English sentence splitter (Punkt) and word splitter, and on langdetect. NLTK's own
way to Punkt's parameters is a download; here they come with the package (``punkt/``).
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import zstandard

from ropd_cli.errors import MissingPackage
from ropd_cli.util.detect_language import detected

if TYPE_CHECKING:
    from nltk.tokenize import NLTKWordTokenizer, PunktSentenceTokenizer

PUNKT = Path(__file__).parent / "punkt" / "english.json.zst"
_WORD = re.compile(r"\w+")


class English:
    """The splitters and the detector. Each is loaded when first used (half a second for the first); they keep no state
    between texts."""

    def sentences(self, text: str) -> int:
        """How many sentences Punkt finds."""
        return len(self._punkt.tokenize(text))

    def words(self, text: str) -> int:
        r"""How many runs of letters, digits and underscores there are (``\w+``)."""
        return sum(1 for _ in _WORD.finditer(text))

    def capital_words(self, text: str) -> int:
        """How many of NLTK's word tokens have capitals and no small letters: "I", "NASA", "B2B", "A-LEVEL"."""
        shouting = (each for each in self._punkt.tokenize(text) if any(map(str.isupper, each)))
        return sum(token.isupper() for sentence in shouting for token in self._words.tokenize(sentence))

    def language(self, text: str) -> str | None:
        """ISO 639-1 code (Chinese: zh-cn, zh-tw) of a text's most likely language; None where nothing in it tells."""
        return detected(text)[0]

    @cached_property
    def _punkt(self) -> PunktSentenceTokenizer:
        tokenize: Any = _package("nltk.tokenize", "nltk")
        punkt: Any = _package("nltk.tokenize.punkt", "nltk")
        stored = orjson.loads(zstandard.ZstdDecompressor().decompress(PUNKT.read_bytes()))
        parameters = punkt.PunktParameters()
        parameters.abbrev_types = set(stored["abbreviations"])
        parameters.sent_starters = set(stored["sentence_starters"])
        parameters.collocations = {tuple(pair) for pair in stored["collocations"]}
        parameters.ortho_context.update(stored["orthography"])
        return tokenize.PunktSentenceTokenizer(parameters)

    @cached_property
    def _words(self) -> NLTKWordTokenizer:
        return _package("nltk.tokenize", "nltk").NLTKWordTokenizer()


def _package(module: str, package: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as fault:
        raise MissingPackage(f"grading IFEval needs {package} ({fault})", f"pip install {package}") from fault
