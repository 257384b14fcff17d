"""What judging a whole run would take: calls, tokens and money, from a sample of its prompts."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from ropd_cli.config import RopdConfig
from ropd_cli.errors import IndexMissing, TooFewAnswers
from ropd_cli.index import TeacherIndex
from ropd_cli.llm.cost_estimate import Forecast, forecast
from ropd_cli.llm.money import TOKENS_A_BYTE, Budget
from ropd_cli.llm.urls import model_name
from ropd_cli.method.block import build_block
from ropd_cli.method.prompts import Templates
from ropd_cli.method.replies import CATEGORIES
from ropd_cli.records.schemas import Answer, Criterion, Group, Prompt, Rubric, RubricRecord
from ropd_cli.stages.groups import group_of
from ropd_cli.stages.rubricate import rubric_requests
from ropd_cli.stages.verify import verdict_requests

SAMPLE = 32
_CRITERIA = 8
_CRITERION_CHARS = 200


def forecast_run(config: RopdConfig, prompts: list[Prompt], steps: int) -> dict[str, Any] | None:
    """Calls, tokens and money of ``steps`` steps; None where the judges are not asked at all.

    The teacher's answers are those of the index. Rollouts are taken to have half of
    ``data.max_response_tokens``, rubrics eight criteria; nothing is taken to come from the cache.
    """
    if config.reward.rubric == 0:
        return None
    step = max(1, len(prompts) // SAMPLE)
    with closing(TeacherIndex.open(Path(str(config.data.index)))) as index:
        sample = [_group(config, prompt, index) for prompt in prompts[::step][:SAMPLE]]
    budget = Budget(config.prices, config.max_cost)
    templates = Templates.load(config.judge)
    asked: dict[str, list[Any]] = {"rubricator": [], "verifier": []}
    for group in sample:
        block = build_block(group, config.judge.max_answer_tokens)
        rubricator, verifier = (
            getattr(config, name).model_copy(update={"model": model_name(getattr(config, name), name)})
            for name in ("rubricator", "verifier")
        )
        if config.judge.rubrics != "dataset":
            induced = config.judge.model_copy(update={"rubrics": "induced"})
            rubrics = rubric_requests(group, rubricator, induced, templates, block)
            asked["rubricator"] += [ask.request for ask in rubrics]
        verdicts = verdict_requests(group, _rubric(group, config), verifier, config.judge, templates, block)
        asked["verifier"] += [request for ask in verdicts for request in ask.requests]
    found = [forecast(asked[name], getattr(config, name), None, budget) for name in asked]
    groups = steps * config.train.prompts_per_step
    total = _scaled(found, groups / len(sample))
    if config.monitor.share:  # the second judge is asked the verifier's questions
        name = model_name(config.monitor.judge, "monitor.judge")
        questions = [request.model_copy(update={"model": name}) for request in asked["verifier"]]
        second = forecast(questions, config.monitor.judge, None, budget)
        total = _sum(total, _scaled([second], config.monitor.share * groups / len(sample)))
    return total | {"groups": groups, "steps": steps}


def sentence(found: dict[str, Any]) -> str:
    """A forecast in words."""
    cost = "no price known" if found["cost_usd"] is None else f"${found['cost_usd']:,.2f}"
    return (
        f"forecast: {found['steps']} steps, {found['groups']:,} groups, {found['calls']:,} calls; about "
        f"{found['prompt_tokens']:,} tokens of prompts and {found['completion_tokens']:,} of replies; {cost} "
        "(rollouts half as long as data.max_response_tokens allows, no retries or repairs, nothing cached)"
    )


def _scaled(found: list[Forecast], factor: float) -> dict[str, Any]:
    costs = [each.cost_usd for each in found]
    total = {
        name: round(sum(getattr(each, name) for each in found) * factor)
        for name in ("calls", "prompt_tokens", "completion_tokens")
    }
    return total | {"cost_usd": None if None in costs else sum(c for c in costs if c is not None) * factor}


def _sum(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    costs = (one["cost_usd"], other["cost_usd"])
    counts = {name: one[name] + other[name] for name in one if name != "cost_usd"}
    return counts | {"cost_usd": None if None in costs else sum(costs)}


def _group(config: RopdConfig, prompt: Prompt, index: TeacherIndex) -> Group:
    try:
        answers = index.answers(prompt.uid, prompt.raw_prompt_hash, config.judge.m, seed=config.seed)
    except (IndexMissing, TooFewAnswers):
        answers = ()
    size = int(config.data.max_response_tokens / 2 / TOKENS_A_BYTE)
    rollouts = tuple(Answer(text=f"{number} ".ljust(size, "x")) for number in range(config.rollout.n))
    return group_of(prompt, rollouts, answers or ("x" * size,) * config.judge.m)


def _rubric(group: Group, config: RopdConfig) -> RubricRecord:
    criteria = tuple(
        Criterion(criterion_id=f"c{k}", category=CATEGORIES[0], criterion="x" * _CRITERION_CHARS, points=2)
        for k in range(1, _CRITERIA + 1)
    )
    rubric = Rubric(rubrics=criteria, maximum_score=2 * _CRITERIA)
    own = config.judge.rubric_per == "rollout"
    return RubricRecord(
        uid=group.uid,
        raw_prompt_hash=group.raw_prompt_hash,
        rubric=None if own else rubric,
        rubrics=(rubric,) * len(group.rollouts) if own else (),
        rubric_hash=rubric.hash,
        model="",
        template_hash="",
    )
