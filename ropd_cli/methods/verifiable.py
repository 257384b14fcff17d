"""GRPO with a verifiable reward: 1 where the final result of a rollout is the prompt's ``answer``, else 0, by the
graders of ``ropd eval``. No judge is asked, and no teacher."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence

from ropd_cli.answers.math_equal import MathGrader, check_installed
from ropd_cli.answers.thinking import answer_of
from ropd_cli.config import RopdConfig
from ropd_cli.datasets.eval_sets import EvalQuestion
from ropd_cli.errors import InputError
from ropd_cli.evaluation.benchmarks import KINDS
from ropd_cli.evaluation.samples import Sample, Task
from ropd_cli.evaluation.tasks.exact_string import ExactTask
from ropd_cli.evaluation.tasks.integer import IntegerTask
from ropd_cli.evaluation.tasks.maths import MathTask
from ropd_cli.methods.base import Method, Needs, Resources, Rewarded, Rewarder
from ropd_cli.records.schemas import Answer, AnswerVerdict, Group, Prompt, VerdictRecord
from ropd_cli.util.counted import counted

DEFAULT = "math"
GRADERS: Mapping[str, Callable[[], Task]] = {
    "math": lambda: MathTask(MathGrader()),
    "integer": IntegerTask,
    "exact": ExactTask,
}
"""Those of ``ropd eval`` that need no judge, and grade a prompt as it stands."""
_NAMED_UIDS = 3


class Verifiable(Method):
    """``method: grpo-verifiable``."""

    name = "grpo-verifiable"
    rewards_suffice = True
    sections = frozenset({"verifiable"})

    def needs(self, config: RopdConfig) -> Needs:
        return Needs(answers=True, why_no_judge=f"method is {self.name}")

    def check(self, config: RopdConfig, prompts: Sequence[Prompt]) -> None:
        if config.monitor.share:
            raise InputError(
                f"monitor.share is {config.monitor.share:g}, and method {self.name} has no verdicts to compare",
                "set monitor.share to 0",
            )
        for source, name in config.verifiable.graders.items():
            if name not in GRADERS:
                near = difflib.get_close_matches(name, GRADERS, n=1)
                hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(GRADERS)}"
                raise InputError(f"verifiable.graders: {source}: {name}: no such grader", hint)
        if lacking := [prompt.uid for prompt in prompts if not (prompt.answer or "").strip()]:
            raise InputError(
                f"method {self.name}: no `answer` in {counted(len(lacking), 'prompt')} (uid {_shown(lacking)})",
                "give every prompt its checkable `answer`, or leave those out",
            )
        tasks = {name: make() for name, make in GRADERS.items()}
        misfits: dict[str, str] = {}
        used = set()
        for prompt in prompts:
            name = grader_of(prompt.data_source, config)
            used.add(name)
            try:
                tasks[name].check(_question(prompt.uid, prompt.answer))
            except InputError as fault:
                misfits[prompt.uid] = fault.message
        if misfits:
            first = next(iter(misfits.values()))
            raise InputError(
                f"method {self.name}: {counted(len(misfits), 'prompt')} can't be graded (uid "
                f"{_shown(list(misfits))}): {first}",
                "name another grader for their data_source: verifiable.graders",
            )
        if "math" in used:
            check_installed()

    def rewarder(self, resources: Resources) -> Rewarder:
        return VerifiableRewarder(resources.config)


class VerifiableRewarder(Rewarder):
    """Grades rollouts; worker processes that compare results start with the first."""

    def __init__(self, config: RopdConfig, tasks: Mapping[str, Task] | None = None) -> None:
        self.clients = {}
        self._config = config
        self._tasks = tasks or {name: make() for name, make in GRADERS.items()}

    async def reward(self, group: Group) -> Rewarded:
        """A rollout without an answer is worth 0 or missing by ``judge.on_no_answer``, one whose comparison was ended
        from outside is missing."""
        scores = [await self._score(group, rollout) for rollout in group.rollouts]
        answers = [
            AnswerVerdict(source="student", index=k, judgement=(), score=score) for k, score in enumerate(scores)
        ]
        return Rewarded(
            VerdictRecord(
                uid=group.uid,
                raw_prompt_hash=group.raw_prompt_hash,
                rubric_hash=None,
                answers=tuple(answers),
                rewards=tuple(scores),
                model="",
                template_hash="",
            )
        )

    async def close(self) -> None:
        """End the worker processes."""
        for task in self._tasks.values():
            await task.__aexit__(None, None, None)

    async def _score(self, group: Group, rollout: Answer) -> float | None:
        if answer_of(rollout.text) is None:
            return 0.0 if self._config.judge.on_no_answer == "zero" else None
        task = self._tasks[grader_of(group.data_source, self._config)]
        ending = rollout.finish_reason or "stop"
        sample = Sample(benchmark="", id=group.uid, sample=0, text=rollout.text, finish_reason=ending)
        grade = await task.grade(_question(group.uid, group.answer), sample)
        return grade.scores[task.metrics[0].name]


def grader_of(data_source: str | None, config: RopdConfig) -> str:
    """Return the grader of prompts of a ``data_source``: as the configuration says, as ``ropd eval`` grades the
    benchmark of that name, else maths."""
    source = data_source or ""
    known = KINDS.get(source, DEFAULT)
    return config.verifiable.graders.get(source, known if known in GRADERS else DEFAULT)


def _question(uid: str, answer: str | None) -> EvalQuestion:
    return EvalQuestion(id=uid, prompt="", answer=answer)


def _shown(uids: Sequence[str]) -> str:
    return ", ".join(map(repr, uids[:_NAMED_UIDS])) + (", …" if len(uids) > _NAMED_UIDS else "")
