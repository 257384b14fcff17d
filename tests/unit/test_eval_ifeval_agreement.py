"""The IFEval rules against lm-eval's copy of the authors' checkers, on all 541 prompts. Skipped where lm-eval, what its
checkers import (langdetect, immutabledict) or NLTK's punkt_tab data is absent: it need not be installed whole,
``PYTHONPATH`` may name a folder with ``lm_eval/tasks/ifeval`` in it and ``NLTK_DATA`` one with the data."""

import importlib
import logging
import sys
import types
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from ifeval_answers import answers

from ropd_cli.datasets.eval_sets import load_eval_set
from ropd_cli.evaluation.tasks.ifeval import followed, instructions_of
from ropd_cli.evaluation.tasks.ifeval_instructions import KINDS
from ropd_cli.evaluation.tasks.ifeval_text import English

pytestmark = pytest.mark.long
RANDOM_THERE = {("keywords:letter_frequency", "#"), ("keywords:letter_frequency", "!")}
"""lm-eval draws a letter at random where the one demanded is none."""


@pytest.fixture(scope="module")
def lm_eval_ifeval():
    """lm-eval's module, without the rest of lm-eval."""
    found = [Path(folder) / "lm_eval" for folder in sys.path if (Path(folder) / "lm_eval/tasks/ifeval").is_dir()]
    if not found:
        pytest.skip("no lm-eval")
    for package in ("nltk", "langdetect", "immutabledict"):
        pytest.importorskip(package)
    import langdetect
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab/english/")
    except LookupError:
        pytest.skip("no punkt_tab data")
    names = {
        "lm_eval": found[0],
        "lm_eval.tasks": found[0] / "tasks",
        "lm_eval.tasks.ifeval": found[0] / "tasks/ifeval",
    }
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "lm_eval"}
    for name, folder in names.items():  # their __init__ would import torch and transformers
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(folder)]
    logging.getLogger("lm_eval.tasks.ifeval.instructions").setLevel(logging.CRITICAL)
    seed = langdetect.DetectorFactory.seed
    langdetect.DetectorFactory.seed = 0
    yield importlib.import_module("lm_eval.tasks.ifeval.utils")
    langdetect.DetectorFactory.seed = seed
    for name in [name for name in sys.modules if name.split(".")[0] == "lm_eval"]:
        del sys.modules[name]
    sys.modules.update(kept)


def _has_marks(text):
    """Whether there are combining marks: they part words for Python's patterns and for NLTK up to 3.9, and do not for
    NLTK 3.10, which uses the regex package."""
    return any(unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Mc") for char in text)


def test_agrees_with_lm_eval_on_all_prompts(lm_eval_ifeval, capsys):
    english = English()
    outcomes, texts, differing = Counter(), 0, []
    for question in load_eval_set("ifeval").questions:
        instructions = instructions_of(question)
        doc = {"key": question.id, "prompt": question.prompt, "kwargs": [dict(a) for _, a in instructions]}
        doc["instruction_id_list"] = [kind for kind, _ in instructions]
        for text in answers(question.prompt, instructions, question.id):
            texts += 1
            theirs = lm_eval_ifeval.process_results(doc, [text])
            strict, loose = followed(instructions, text, english)
            for number, (kind, arguments) in enumerate(instructions):
                if (kind, arguments.get("letter")) in RANDOM_THERE:
                    continue
                for form, ours in (("strict", strict), ("loose", loose)):
                    expected = bool(theirs[f"inst_level_{form}_acc"][number])
                    outcomes[kind, form, expected] += 1
                    if ours[number] is expected:
                        continue
                    if kind == "length_constraints:number_words" and _has_marks(text):
                        outcomes["marks"] += 1
                    else:
                        differing.append((question.id, kind, form, expected, text))
    with capsys.disabled():
        marks = outcomes.pop("marks", 0)
        print(f"\n{texts} answers, {outcomes.total()} judgements, {len(differing)} differ, {marks} by combining marks")
    assert not differing, differing[:10]
    assert texts >= 541 * 10
    for kind in KINDS:
        for form in ("strict", "loose"):
            assert outcomes[kind, form, True] and outcomes[kind, form, False], (kind, form)
