"""Data sets that are known by name: where they lie and what their columns mean (docs/data.md shows this table)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How a data set becomes prompts.

    ``columns`` names for a field the columns that may hold it, first come first served; ``instruction`` is put after
    each question unless the user gives one; ``left_out`` are columns that only repeat others.
    """

    hub: str
    columns: Mapping[str, tuple[str, ...]]
    config: str | None = None
    split: str = "train"
    data_source: str | None = None
    ability: str = "general"
    instruction: str | None = None
    left_out: tuple[str, ...] = ()
    plain_numbers: bool = False
    """Answers lose the commas between thousands."""


_RAR_COLUMNS = {"prompt": ("question", "prompt"), "answer": (), "rubric": ("rubric",)}

RECIPES: Mapping[str, Recipe] = {
    "dapo-math-17k": Recipe(
        hub="BytedTsinghua-SIA/DAPO-Math-17k",
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
        config="main",
        columns={"prompt": ("question", "prompt"), "answer": ("answer", "reward_model.ground_truth")},
        data_source="openai/gsm8k",
        ability="math",
        instruction=r"Reason step by step, and write the final answer in \boxed{}.",
        plain_numbers=True,
    ),
    "rar-science": Recipe(
        hub="ScaleAI/RaR-Science",
        columns=_RAR_COLUMNS,
        data_source="ScaleAI/RaR-Science",
        ability="science",
        left_out=("rubric_list", "rubric_count"),
    ),
    "rar-medicine": Recipe(
        hub="ScaleAI/RaR-Medicine",
        columns=_RAR_COLUMNS,
        data_source="ScaleAI/RaR-Medicine",
        ability="medicine",
        left_out=("rubric_list", "rubric_count"),
    ),
    "rubrichub": Recipe(
        hub="sojuL/RubricHub_v1",
        columns={"prompt": ("prompt",), "answer": (), "rubric": ("Rubrics", "reward_model.rubrics")},
        data_source="sojuL/RubricHub_v1",
    ),
    "openrubrics": Recipe(
        hub="OpenRubrics/OpenRubrics",
        columns={"prompt": ("instruction", "prompt"), "answer": (), "rubric": ("rubric",)},
        data_source="OpenRubrics/OpenRubrics",
    ),
}
"""``answer`` of RaR is empty on purpose: its reference answers are prose, which nothing can check for equality. They
are kept as ``reference_answer``."""
