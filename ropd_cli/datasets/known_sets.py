"""Data sets that are known by name: where they lie and what their columns mean (docs/data.md shows this table)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    """How a data set becomes prompts.

    ``columns`` names for a field the columns that may hold it, first come first served; ``instruction`` is put after
    each question unless the user gives one; ``left_out`` are columns that only repeat others.
    """

    hub: str
    about: str
    """What it holds, in a few words."""
    columns: Mapping[str, tuple[str, ...]]
    config: str | None = None
    split: str = "train"
    data_source: str | None = None
    ability: str = "general"
    instruction: str | None = None
    left_out: tuple[str, ...] = ()
    plain_numbers: bool = False
    """Answers lose the commas between thousands."""


_BOXED = r"Reason step by step, and write the final answer in \boxed{}."
_RAR_COLUMNS = {"prompt": ("question", "prompt"), "answer": (), "rubric": ("rubric",)}

_ON_THE_HUB: Mapping[str, Recipe] = {
    "dapo-math-17k": Recipe(
        hub="BytedTsinghua-SIA/DAPO-Math-17k",
        about="maths with integer answers",
        columns={
            "prompt": ("prompt",),
            "answer": ("reward_model.ground_truth", "answer", "solution"),
            "uid": ("uid", "extra_info.index"),
        },
        data_source="math_dapo",
        ability="MATH",
    ),
    "gsm8k": Recipe(
        hub="openai/gsm8k",
        about="school maths in words",
        config="main",
        columns={"prompt": ("question", "prompt"), "answer": ("answer", "reward_model.ground_truth")},
        data_source="openai/gsm8k",
        ability="math",
        instruction=_BOXED,
        plain_numbers=True,
    ),
    "rar-science": Recipe(
        hub="ScaleAI/RaR-Science",
        about="science questions with rubrics",
        columns=_RAR_COLUMNS,
        data_source="ScaleAI/RaR-Science",
        ability="science",
        left_out=("rubric_list", "rubric_count"),
    ),
    "rar-medicine": Recipe(
        hub="ScaleAI/RaR-Medicine",
        about="medical questions with rubrics",
        columns=_RAR_COLUMNS,
        data_source="ScaleAI/RaR-Medicine",
        ability="medicine",
        left_out=("rubric_list", "rubric_count"),
    ),
    "rubrichub": Recipe(
        hub="sojuL/RubricHub_v1",
        about="tasks of many kinds with rubrics",
        columns={"prompt": ("prompt",), "answer": (), "rubric": ("Rubrics", "reward_model.rubrics")},
        data_source="sojuL/RubricHub_v1",
    ),
    "openrubrics": Recipe(
        hub="OpenRubrics/OpenRubrics",
        about="instructions with rubrics",
        columns={"prompt": ("instruction", "prompt"), "answer": (), "rubric": ("rubric",)},
        data_source="OpenRubrics/OpenRubrics",
    ),
}
"""``answer`` of RaR is empty on purpose: its reference answers are prose, which nothing can check for equality. They
are kept as ``reference_answer``."""

SHIPPED: Mapping[str, Recipe] = {
    "gsm8k-sample": replace(_ON_THE_HUB["gsm8k"], about="100 test problems of gsm8k", split="test"),
    "math500": Recipe(
        hub="HuggingFaceH4/MATH-500",
        about="competition maths, 500 problems",
        columns={"prompt": ("problem",), "answer": ("answer",)},
        split="test",
        data_source="HuggingFaceH4/MATH-500",
        ability="math",
        instruction=_BOXED,
    ),
    "ifeval": Recipe(
        hub="google/IFEval",
        about="541 instructions about form",
        columns={"prompt": ("prompt",), "answer": ()},
        data_source="google/IFEval",
        ability="instruction following",
    ),
}
"""Sets that come with the package; eval_sets.KNOWN_SETS names their files."""
RECIPES: Mapping[str, Recipe] = {**_ON_THE_HUB, **SHIPPED}
