"""Sections of the methods that reward a rollout as a whole: ``score``, ``verifiable``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ropd_cli.config.section import Section


class ScoreConfig(Section):
    """How the verifier is asked for one score per answer."""

    per: Literal["rollout", "group"] = Field("rollout", description="one call per rollout, or one for all of a group")
    teacher: Literal["none", "shown"] = Field("none", description="shown: the judge sees a teacher answer as reference")
    threshold: int = Field(5, ge=0, le=9, description="ovd-filter: a rollout with a lower score is replaced")


class VerifiableConfig(Section):
    """How the rewards of `method: grpo-verifiable` are graded."""

    graders: dict[str, str] = Field(
        default_factory=dict,
        description="by the prompts' data_source: math, integer or exact; else as `ropd eval` does, or math",
    )
