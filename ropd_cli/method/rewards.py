"""Compute the rewards of a group: the rubric's scores, alone or mixed with other parts (step 5).

reward_i = sum_p weight_p * part_pi over the parts whose weight is not 0. A part that is missing makes the
reward missing. With the rubric alone at weight 1 the rewards are the scores.

GRPO is given these rewards, or shaped ones: with other weights of the rubric's criteria (``criterion_weights``), or
with each part normalised within the group before the sum (``reward.combine: separate``).
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import importlib.util
import inspect
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from pathlib import Path
from typing import Any

from ropd_cli.answers.exact_match import is_exact
from ropd_cli.answers.thinking import answer_of
from ropd_cli.config import RewardConfig
from ropd_cli.config.rewarding import SHAPING
from ropd_cli.errors import InputError, JudgeError
from ropd_cli.method.criterion_weights import counted_weights, in_points, mask_seed, weighted_scores
from ropd_cli.method.scoring import advantages
from ropd_cli.records.schemas import Answer, AnswerVerdict, Group, Prompt, Rubric
from ropd_cli.util.counted import counted
from ropd_cli.util.tokens import estimate_tokens

PARTS = ("rubric", "exact", "length", "format", "custom")
SEARCHED_CHARS = 100_000
"""So much of an answer's end is searched for the format's pattern."""
_NAMED_UIDS = 3
GRID = 2**19

Scores = tuple[float | None, ...]


def on_grid(reward: float) -> float:
    """Return the nearest multiple of 2^-19.

    Sums of 16 of these up to 2 are exact in float32, so that equal rewards of a group have an advantage of exactly 0 in
    verl's GRPO (others get up to 0.1 from rounding).
    """
    return round(reward * GRID) / GRID


@dataclass(frozen=True)
class Mixed:
    """The rewards of a group, shape (n,), and the parts they were mixed from, by name, each of shape (n,).

    ``shaped_G`` and ``weights_K``: what GRPO is given, where it is given other numbers, and the weights of the criteria
    in them.
    """

    rewards_G: Scores
    parts: dict[str, Scores]
    shaped_G: Scores = ()
    weights_K: tuple[float, ...] = ()


class RewardMixer:
    """Mixes the rewards of groups by one configuration. ``seed`` draws the masks of ``reward.criterion_dropout``."""

    def __init__(self, settings: RewardConfig, custom: Callable[..., Any] | None, seed: int = 0) -> None:
        self.settings = settings
        self._seed = seed
        self._custom = custom
        self._pattern = re.compile(settings.format_pattern, re.DOTALL)
        self._weights = {name: getattr(settings, name) for name in PARTS if getattr(settings, name) != 0}
        # records of versions that did not have these keys keep their hash
        newer = set(SHAPING) - set(settings.shaping)
        self._dumped = settings.model_dump(exclude=newer) | ({"seed": seed} if settings.criterion_dropout else {})

    @classmethod
    def load(cls, settings: RewardConfig, seed: int = 0) -> RewardMixer:
        """Check the settings and import the user's function. Raises InputError for what can't be used."""
        for name in PARTS:
            if not math.isfinite(getattr(settings, name)):
                raise InputError(f"reward.{name} {getattr(settings, name)} is no finite number", "give it a weight")
        if not any(getattr(settings, name) for name in PARTS):
            raise InputError("reward: all weights are 0", f"give one of {', '.join(PARTS)} a weight")
        if settings.length and settings.length_free_tokens >= settings.length_max_tokens:
            raise InputError(
                f"reward.length_free_tokens {settings.length_free_tokens} is not below "
                f"reward.length_max_tokens {settings.length_max_tokens}",
                "full reward up to the first, none from the second on",
            )
        try:
            re.compile(settings.format_pattern)
        except re.error as fault:
            raise InputError(
                f"reward.format_pattern {settings.format_pattern!r}: {fault}", "a regular expression of Python's"
            ) from fault
        if settings.custom and settings.custom_function is None:
            raise InputError("reward.custom has a weight, and reward.custom_function is not set", "FILE.py:NAME")
        return cls(settings, _load_function(settings.custom_function) if settings.custom_function else None, seed)

    @property
    def needs_judges(self) -> bool:
        """Whether the rubric's score plays a part."""
        return "rubric" in self._weights

    def check(self, prompts: Iterable[Prompt]) -> None:
        """Raise InputError where prompts lack what a part needs."""
        if "exact" not in self._weights:
            return
        lacking = [prompt.uid for prompt in prompts if prompt.answer is None]
        if lacking:
            shown = ", ".join(map(repr, lacking[:_NAMED_UIDS])) + (", …" if len(lacking) > _NAMED_UIDS else "")
            raise InputError(
                f"reward.exact has a weight, and there is no `answer` in {counted(len(lacking), 'prompt')} (uid "
                f"{shown})",
                "give every prompt its checkable `answer`, or set reward.exact to 0",
            )

    async def mix(
        self,
        group: Group,
        scores_G: Sequence[float | None],
        rubric: Rubric | None = None,
        answers: Sequence[AnswerVerdict] = (),
    ) -> Mixed:
        """The rewards of a group whose rollouts have these rubric scores, shape (n,).

        ``rubric`` and the verdicts on the rollouts by it, shape (n,), are needed for other weights of its criteria.
        ``parts`` always has the scores as "rubric", and the other parts that have a weight.
        Raises JudgeError where the user's function fails: the group is then missing, not worth 0.
        """
        parts: dict[str, Scores] = {"rubric": tuple(scores_G)}
        for name in self._weights:
            if name == "exact":
                right = group.answer
                parts[name] = tuple(
                    [None if right is None else float(is_exact(each.text, right)) for each in group.rollouts]
                )
            elif name == "length":
                parts[name] = tuple([self._length(each) for each in group.rollouts])
            elif name == "format":
                parts[name] = tuple([self._format(each) for each in group.rollouts])
            elif name == "custom":
                parts[name] = tuple([await self._custom_score(group, each) for each in group.rollouts])
        rewards_G = self._sum(group, parts)
        own = parts["rubric"]
        weights_K: tuple[float, ...] = ()
        rows_GK = [each.judgement for each in answers if each.judgement and each.score is not None]
        if self.settings.reweighs and rubric is not None and rows_GK:
            counted = counted_weights(rows_GK, rubric.weights_K, self.settings, mask_seed(self._seed, group))
            own, weights_K = weighted_scores(answers, counted), in_points(counted, rubric.weights_K)
        if self.settings.combine == "separate":
            return Mixed(rewards_G, parts, self._sum(group, self._normalised(parts | {"rubric": own})), weights_K)
        return Mixed(rewards_G, parts, self._sum(group, parts | {"rubric": own}) if weights_K else (), weights_K)

    def _sum(self, group: Group, parts: dict[str, Scores]) -> Scores:
        """The weighted sums of parts, shape (n,). Raises JudgeError where one is no finite number."""
        columns = [(weight, parts[name]) for name, weight in self._weights.items()]
        sums_G = tuple([_sum([(weight, part[k]) for weight, part in columns]) for k in range(len(group.rollouts))])
        if not all(value is None or math.isfinite(value) for value in sums_G):
            raise JudgeError(f"uid {group.uid}: a reward is no finite number: {parts}"[:400], "give smaller weights")
        return sums_G

    def _normalised(self, parts: dict[str, Scores]) -> dict[str, Scores]:
        """The parts that have a weight, each as (part - mean) / (std + eps) over the rollouts that have all of them."""
        whole_G = [None not in values for values in zip(*(parts[name] for name in self._weights), strict=True)]
        return {
            name: advantages([v if whole else None for v, whole in zip(parts[name], whole_G, strict=True)])
            for name in self._weights
        }

    def _length(self, rollout: Answer) -> float:
        """1 up to the free length, then falling evenly to 0 at the longest."""
        free, most = self.settings.length_free_tokens, self.settings.length_max_tokens
        known = rollout.usage.completion_tokens if rollout.usage is not None else 0
        tokens = known or estimate_tokens(rollout.text)
        return min(1.0, max(0.0, (most - tokens) / (most - free)))

    def _format(self, rollout: Answer) -> float:
        visible = answer_of(rollout.text)
        return float(visible is not None and self._pattern.search(visible[-SEARCHED_CHARS:]) is not None)

    def fingerprint(self, group: Group) -> list[Any] | dict[str, Any]:
        """What rewards depend on besides the verdicts: the settings and, where more than the rubric is mixed in, what
        no judge is shown of the group. Part of the ``request_hash`` of a verdict record."""
        if not any(self._dumped[part] for part in PARTS if part != "rubric"):
            return self._dumped
        rollouts = [(r.text, r.usage.completion_tokens if r.usage is not None else None) for r in group.rollouts]
        # Parquet brings dates and bytes too, which JSON does not know
        shown = repr([group.answer, group.data_source, group.extra_info, rollouts])
        return [self._dumped, hashlib.sha256(shown.encode()).hexdigest()]

    async def _custom_score(self, group: Group, rollout: Answer) -> float | None:
        """The user's function of one rollout, called as verl calls its ``compute_score``."""
        assert self._custom is not None
        arguments = {
            "data_source": group.data_source,
            "solution_str": rollout.text,
            "ground_truth": group.answer,
            "extra_info": group.extra_info,
        }
        try:
            if inspect.iscoroutinefunction(self._custom):
                value = self._custom(**arguments)
            else:  # it may take its time: the judges' replies are not to wait for it
                value = await asyncio.to_thread(_call, self._custom, arguments)
            if inspect.isawaitable(value):
                value = await value
        except (Exception, SystemExit) as fault:
            cause = fault.__cause__ if isinstance(fault, _Raised) and fault.__cause__ else fault
            raise self._failed(group, f"{type(cause).__name__}: {cause}") from cause
        try:
            return _number(value)
        except (ValueError, TypeError, ArithmeticError, LookupError) as fault:
            what = f"it returned {value!r}"[:200]
            raise self._failed(group, f"{what}, not a finite number, a dict with 'score', or None") from fault

    def _failed(self, group: Group, what: str) -> JudgeError:
        return JudgeError(
            f"uid {group.uid}: reward function {self.settings.custom_function}: {what[:300]}",
            "mend the function; the group is missing until it answers",
        )


def _sum(terms: list[tuple[float, float | None]]) -> float | None:
    if any(value is None for _, value in terms):
        return None
    try:
        return math.fsum(weight * value for weight, value in terms if value is not None)
    except (OverflowError, ValueError):  # beyond the largest float, or both infinities
        return math.nan


class _Raised(Exception):
    """What the user's function raised is this one's cause."""


def _call(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Call the user's function in a thread. Whatever it raises comes out wrapped: a bare StopIteration could not
    cross to the event loop, and the caller would wait for ever."""
    try:
        return function(**arguments)
    except BaseException as fault:
        raise _Raised from fault


def _number(returned: Any) -> float | None:
    """The number in what a function returned; None is missing. Raises an ordinary exception for anything else."""
    value = returned["score"] if isinstance(returned, dict) else returned
    if value is None:
        return None
    if getattr(value, "ndim", None) == 0:  # a scalar of numpy or torch
        value = value.item()
    if not isinstance(value, Real | Decimal):
        raise TypeError("not a number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number


def _load_function(where: str) -> Callable[..., Any]:
    """The function of ``FILE.py:NAME`` or ``MODULE:NAME``. Raises InputError."""
    place, separator, name = where.rpartition(":")
    if not separator or not place or not name:
        raise InputError(f"reward.custom_function {where!r}: no function named in it", "FILE.py:NAME or MODULE:NAME")
    try:
        if place.endswith(".py"):
            file = Path(os.path.expanduser(place))
            if not file.is_file():
                raise InputError(
                    f"reward.custom_function: no file {file}", "paths are taken from the current directory"
                )
            spec = importlib.util.spec_from_file_location(f"ropd_reward_{file.stem}", file)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module  # dataclasses and pickle look there for it
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
    except InputError:
        raise
    except (Exception, SystemExit) as fault:  # whatever the user's file does when it is run
        raise InputError(
            f"reward.custom_function {where}: {type(fault).__name__}: {fault}", "it has to be importable by itself"
        ) from fault
    function = getattr(module, name, None)
    if not callable(function):
        what = "is not in it" if function is None else "can't be called"
        raise InputError(f"reward.custom_function {where}: {name} {what}", "name a function")
    return function
