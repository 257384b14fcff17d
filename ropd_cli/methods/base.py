"""What a method of ``ropd train`` is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ropd_cli.config import EndpointConfig, RopdConfig, TrainConfig
from ropd_cli.index import TeacherIndex
from ropd_cli.llm.cache import ReplyCache
from ropd_cli.llm.chat import ChatRequest
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.shared import Shared
from ropd_cli.llm.urls import model_name
from ropd_cli.records.schemas import Group, Prompt, RubricRecord, VerdictRecord

Role = Literal["rubricator", "verifier"]


@dataclass(frozen=True)
class Needs:
    """What a configuration of a method needs beside the prompts and the student."""

    teacher_answers: int = 0
    """Distinct ones per prompt, in the index; 0: no index is opened."""
    answers: bool = False
    """Every prompt brings a checkable ``answer``."""
    roles: tuple[Role, ...] = ()
    """The judges that are asked."""
    checkpoint: bool = False
    """A teacher's weights."""
    why_no_judge: str = ""
    """Why a judge is not asked, in words for ``ropd doctor``."""


@dataclass(frozen=True)
class Resources:
    """What the processes of a run share."""

    config: RopdConfig
    cache: ReplyCache
    shared: Shared
    index: TeacherIndex | None
    """None where the method needs no teacher answers."""
    earlier_rubrics: Iterable[RubricRecord] = ()
    """By which the run's groups were judged so far, in order."""


@dataclass(frozen=True)
class Rewarded:
    """A group with its rewards (those of ``verdicts``)."""

    verdicts: VerdictRecord
    rubric: RubricRecord | None = None
    repair: str | None = None
    """What became of an attempt to repair the rubric; None where there was none."""
    replaced: Mapping[int, str] = field(default_factory=dict)
    """By rollout: the teacher's answer that takes its place in the update, with the rollout's entry of the rewards."""
    too_long: int = 0
    """Rollouts that would have been replaced by an answer that is longer than a rollout may be."""


class Rewarder(ABC):
    """Gives a group's rollouts their rewards. Many groups are under way at once."""

    clients: Mapping[Role, ChatClient]
    """Of the judges; what they did is counted among the metrics of a step."""

    @abstractmethod
    async def reward(self, group: Group) -> Rewarded:
        """Return the rewards of a group, which has its teacher answers. Raises one of ``RECORD_ERRORS`` where it has
        none, one of ``STOPS`` where no further group can have any either."""

    async def close(self) -> None:
        """Close the endpoints."""
        for client in self.clients.values():
            await client.close()


def optimizer(train: TrainConfig, lr: float | None = None) -> dict[str, Any]:
    """Return verl's settings of an optimizer (AdamW and its schedule); ``lr`` None: that of the section ``train``."""
    return {
        "lr": lr or train.lr,
        "lr_scheduler_type": train.lr_schedule,
        "lr_warmup_steps": train.warmup_steps,
        "betas": list(train.betas),
        "weight_decay": train.weight_decay,
        "clip_grad": train.grad_clip,
    }


def named(endpoint: EndpointConfig, role: str) -> EndpointConfig:
    """Return an endpoint with its model filled in where its URL says which. Raises InputError where nothing does."""
    return endpoint.model_copy(update={"model": model_name(endpoint, role)})


class Method(ABC):
    """One way to train a student. An instance has no state."""

    name: ClassVar[str]
    samples: ClassVar[bool] = True
    """Whether the student samples rollouts (verl's GRPO trainer); else it has answers to train on (its SFT trainer)."""
    program: ClassVar[str] = "ropd_cli.training.verl.program"
    """The module of the training process."""
    fixed: ClassVar[tuple[str, ...]] = ()
    """Keys that a resumed run may not have other values of, of those that it may with other methods."""
    trainer: ClassVar[str] = "ropd"
    """The name of verl's trainer class (``trainer.v1.trainer_mode``)."""
    rewards_suffice: ClassVar[bool] = False
    """Whether a trainer that gets the rewards, and nothing else, follows the method."""
    replaces: ClassVar[bool] = False
    """Whether teacher answers may take the place of rollouts in the update."""
    sections: ClassVar[frozenset[str]] = frozenset()
    """The sections of the configuration that it reads, of those that not every method does."""

    @abstractmethod
    def needs(self, config: RopdConfig) -> Needs:
        """Return what a configuration needs."""

    def check(self, config: RopdConfig, prompts: Sequence[Prompt]) -> None:  # noqa: B027
        """Raise InputError, before anything starts, where the configuration or the prompts do not fit the method."""

    def template_hashes(self, config: RopdConfig) -> dict[str, str]:
        """Return the hash of each template that is asked by, for the run's ``prompts.lock``. Raises InputError for
        templates that can't be used."""
        return {}

    def verl_settings(self, config: RopdConfig) -> dict[str, Any]:
        """Return settings of verl's, laid over our own and below the ``verl:`` section of the configuration."""
        return {}

    def requests(self, config: RopdConfig, groups: Sequence[Group]) -> dict[Role, list[ChatRequest]]:
        """Return what is asked about groups, by role; for forecasts. A later request that depends on an earlier reply
        is made of a plausible one."""
        return {}

    def rewarder(self, resources: Resources) -> Rewarder:
        """Return what gives the rewards. Raises InputError for settings that can't be used."""
        raise TypeError(f"method {self.name} gives no rewards")
