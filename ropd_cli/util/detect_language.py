"""Language detection that always says the same of a text.

langdetect draws at random, and keeps its seed and its profiles for the whole process. Here it has a factory of its own
with a fixed seed, so a text has the same language in any thread and whatever else the process does with langdetect.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ropd_cli.errors import MissingPackage

if TYPE_CHECKING:
    from langdetect.detector_factory import DetectorFactory


def detected(text: str, trials: int = 7) -> tuple[str | None, float]:
    """Return a text's most likely language (ISO 639-1; Chinese: zh-cn, zh-tw) and its probability; (None, 0.0) where
    nothing tells. Fewer ``trials`` are faster and less sure. Raises MissingPackage without langdetect."""
    detector = _factory().create()
    from langdetect.lang_detect_exception import LangDetectException

    detector.n_trial = trials
    detector.append(text)
    try:
        found = detector.get_probabilities()
    except LangDetectException:  # no letters, or capitals alone
        return None, 0.0
    return (found[0].lang, found[0].prob) if found else (None, 0.0)


@lru_cache(maxsize=1)
def _factory() -> DetectorFactory:
    try:
        from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory
    except ImportError as fault:
        raise MissingPackage(f"language detection needs langdetect ({fault})", "pip install langdetect") from fault
    profiles = sorted(Path(PROFILES_DIRECTORY).iterdir())  # the order is part of what a seed means
    factory = DetectorFactory()
    factory.load_json_profile([file.read_text(encoding="utf-8") for file in profiles if file.name[0] != "."])
    factory.seed = 0  # of this instance: the class's own stays as it is
    return factory
