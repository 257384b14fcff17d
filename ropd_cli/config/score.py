"""The section ``score``: one score per answer, of the methods that train on that."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ropd_cli.config.section import Section


class ScoreConfig(Section):
    """How the verifier is asked for one score per answer."""

    per: Literal["rollout", "group"] = Field("rollout", description="one call per rollout, or one for all of a group")
    teacher: Literal["none", "shown"] = Field("none", description="shown: the judge sees a teacher answer as reference")
    threshold: int = Field(5, ge=0, le=9, description="ovd-filter: a rollout with a lower score is replaced")
