"""Sections about how groups are judged, and how rewards are made of that."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ropd_cli.config.section import Section

SHAPING = ("criterion_weights", "criterion_dropout", "combine")


class JudgeConfig(Section):
    """How a group is judged."""

    m: int = Field(4, ge=1, description="distinct teacher answers per prompt")
    rotate_answers: bool = Field(
        True, description="with more than m answers in the index: other answers in each epoch; false: always the same"
    )
    form: Literal["shared-prefix", "group", "paper"] = Field(
        "shared-prefix", description="layout of the requests; paper: one verifier call per answer"
    )
    language: Literal["en", "zh"] = Field("en", description="language of the shipped templates")
    rubric_per: Literal["group", "rollout"] = Field(
        "group", description="one rubric for all rollouts, or one per rollout"
    )
    blind: bool = Field(True, description="the verifier is not told which answers are the teacher's")
    teacher_in_pool: bool = Field(True, description="the verifier judges the teacher's answers too")
    chunk_size: int | None = Field(None, ge=1, description="answers per verifier call; null: all of a group")
    repeats: int = Field(1, ge=1, description="calls per verifier request; the majority counts, of scores the median")
    rubrics: Literal["induced", "dataset", "both"] = Field(
        "induced", description="induced by the rubricator, from the data set, or both"
    )
    min_coverage: float = Field(
        0.5,
        gt=0,
        le=1,
        description="share of a rubric's weight that must be judged for all rollouts, else the group is missing",
    )
    max_answer_tokens: int = Field(
        524_288, ge=16, description="longer answers are shown without their middle; four bytes count as a token"
    )
    on_no_answer: Literal["zero", "drop"] = Field(
        "zero", description="reward of a rollout without an answer: zero, or drop it"
    )
    templates: str | None = Field(None, description="folder of your own templates; null: the shipped ones")
    rubricator_instructions: str | None = Field(None, description="added to the rubricator's template")
    verifier_instructions: str | None = Field(None, description="added to the verifier's template")
    repair: bool = Field(False, description="training: ask for another rubric if all rewards of a group are equal")
    reuse: Literal["none", "epoch"] = Field(
        "none", description="training: epoch keeps a prompt's rubric until it no longer separates the rollouts"
    )
    max_failed_fraction: float = Field(
        0.25, ge=0, le=1, description="share of a step's groups; if more are missing, the run stops"
    )

    @model_validator(mode="after")
    def _fits(self) -> JudgeConfig:
        if self.form == "paper" and self.chunk_size not in (None, 1):
            raise ValueError("judge.form paper has a verifier call for each answer: leave judge.chunk_size out")
        if self.rubric_per == "rollout" and self.rubrics == "dataset":
            raise ValueError("judge.rubric_per rollout needs a rubricator: judge.rubrics is dataset")
        if self.reuse == "epoch" and (self.rubric_per == "rollout" or self.rubrics == "dataset"):
            raise ValueError("judge.reuse epoch is for rubrics of a group that the rubricator writes")
        if self.repair and (self.rubric_per == "rollout" or self.rubrics != "induced"):
            raise ValueError("judge.repair is for rubrics of a group that the rubricator writes alone")
        return self


class RewardConfig(Section):
    """How a rollout's reward is computed: the sum of its parts, each in [0, 1] (your own: any number), times these
    weights."""

    rubric: float = Field(1.0, description="weight of the rubric's score")
    exact: float = Field(0.0, description="weight of a part that is 1 if the final result equals the prompt's `answer`")
    length: float = Field(
        0.0, description="weight of a part that is 1 up to length_free_tokens and falls to 0 at length_max_tokens"
    )
    format: float = Field(0.0, description="weight of a part that is 1 if format_pattern is found in the answer")
    custom: float = Field(0.0, description="weight of your own function")
    length_free_tokens: int = Field(1024, ge=0, description="length up to which the part is 1")
    length_max_tokens: int = Field(8192, ge=1, description="length from which the part is 0")
    format_pattern: str = Field(r"\\boxed\{.+\}", description="regular expression")
    custom_function: str | None = Field(None, description="FILE.py:NAME or MODULE:NAME, as verl's compute_score")
    criterion_weights: Literal["rubric", "discriminating"] = Field(
        "rubric", description="in the update: the points, or points scaled by how a criterion separates the rollouts"
    )
    criterion_dropout: float = Field(
        0.0, ge=0, le=0.5, description="in the update: probability that a criterion is left out of a group's scores"
    )
    combine: Literal["sum", "separate"] = Field(
        "sum", description="in the update: the parts' sum, or each part normalised within the group before the sum"
    )

    @property
    def shaping(self) -> tuple[str, ...]:
        """The keys that are set of those that give the update other numbers than the rewards."""
        return tuple(key for key in SHAPING if getattr(self, key) != type(self).model_fields[key].default)

    @property
    def reweighs(self) -> bool:
        """Whether a rubric's criteria have other weights in the update than their points."""
        return any(key in self.shaping for key in ("criterion_weights", "criterion_dropout"))

    @model_validator(mode="after")
    def _fits(self) -> RewardConfig:
        if self.reweighs and not self.rubric:
            raise ValueError(f"reward.{self.shaping[0]} is about the rubric's score, and reward.rubric is 0")
        named = [self.rubric, self.exact, self.length, self.format, self.custom]
        if self.combine == "separate" and sum(map(bool, named)) < 2:
            raise ValueError("reward.combine separate needs two parts with a weight, such as reward.exact: 1.0")
        return self
