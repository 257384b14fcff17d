"""Estimate what judging a whole run would take: calls, tokens and money, from a sample of its prompts."""

from __future__ import annotations

from contextlib import closing, nullcontext
from pathlib import Path
from statistics import fmean
from typing import Any, cast

from typing_extensions import TypedDict

from ropd_cli.config import RopdConfig
from ropd_cli.errors import IndexMissing, TooFewAnswers
from ropd_cli.index import TeacherIndex
from ropd_cli.llm.cost_estimate import Forecast, forecast
from ropd_cli.llm.money import TOKENS_A_BYTE, Budget
from ropd_cli.llm.urls import model_name
from ropd_cli.method.groups import group_of
from ropd_cli.methods import method_of
from ropd_cli.methods.base import named
from ropd_cli.records.schemas import Answer, Group, Prompt
from ropd_cli.util.counted import counted

SAMPLE = 32


class RunForecast(TypedDict):
    """What judging a run takes: estimates, without retries, repairs and cached replies."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    """Null where a price is not known."""
    cost_usd_range: tuple[float, float] | None
    """(least, most)."""
    without_price: list[str]
    """Models whose price is not known."""
    groups: int
    steps: int
    rollouts_like: str
    """How long rollouts are taken to be, in words."""


def forecast_run(config: RopdConfig, prompts: list[Prompt], steps: int) -> RunForecast | None:
    """Calls, tokens and money of ``steps`` steps; None where no judge is asked at all.

    The teacher's answers are those of the index. Rollouts are taken to be as long as these, without an index half as
    long as ``data.max_response_tokens``; rubrics to have eight criteria. Nothing is taken to come from the cache.
    """
    method = method_of(config)
    needs = method.needs(config)
    if not needs.roles:
        return None
    step = max(1, len(prompts) // SAMPLE)
    with closing(TeacherIndex.open(Path(str(config.data.index)))) if needs.teacher_answers else nullcontext() as index:
        sample = [_group(config, prompt, index, needs.teacher_answers) for prompt in prompts[::step][:SAMPLE]]
    budget = Budget(config.prices, config.max_cost)
    asked = method.requests(config, sample)
    groups = steps * config.train.prompts_per_step
    share = groups / len(sample)
    shares = dict.fromkeys(asked, share)
    if config.judge.reuse == "epoch" and "rubricator" in asked:  # once for each prompt
        shares["rubricator"] = min(groups, len(prompts)) / len(sample)
    forecasts = [
        (forecast(requests, named(getattr(config, role), role), None, budget), shares[role])
        for role, requests in asked.items()
    ]
    if config.monitor.share:  # the second judge is asked the verifier's questions
        name = model_name(config.monitor.judge, "monitor.judge")
        again = [request.model_copy(update={"model": name}) for request in asked["verifier"]]
        forecasts.append((forecast(again, config.monitor.judge, None, budget), share * config.monitor.share))
    like = "as long as the teacher's answers" if index is not None else "half as long as data.max_response_tokens"
    return cast(RunForecast, _total(forecasts) | {"groups": groups, "steps": steps, "rollouts_like": like})


def sentence(totals: RunForecast) -> str:
    """A forecast in words."""
    return (
        f"forecast: {counted(totals['steps'], 'step')}, {counted(totals['groups'], 'group')}, "
        f"{counted(totals['calls'], 'call')}; up to {totals['prompt_tokens']:,} tokens of prompts, about "
        f"{totals['completion_tokens']:,} of replies; "
        f"{cost_words(totals)} (rollouts {totals['rollouts_like']}, no retries or repairs, nothing cached)"
    )


def cost_words(totals: RunForecast) -> str:
    """A forecast's cost in words: dollars with their range, or the models without a price."""
    if (between := totals["cost_usd_range"]) is None:
        return f"no price known of {', '.join(totals['without_price'])}"
    return f"${totals['cost_usd']:,.2f}" + (f" (${between[0]:,.2f} to ${between[1]:,.2f})" if between[1] else "")


def _total(forecasts: list[tuple[Forecast, float]]) -> dict[str, Any]:
    """The sum of forecasts, each scaled by its factor; without a price for one there is none for all."""
    unknown = [each.model for each, _ in forecasts if each.cost_usd is None]
    cost = None if unknown else sum((each.cost_usd or 0.0) * factor for each, factor in forecasts)
    ranges = [(each.cost_usd_range or (0.0, 0.0), factor) for each, factor in forecasts]
    least, most = (sum(between[k] * factor for between, factor in ranges) for k in (0, 1))
    total = {
        name: round(sum(getattr(each, name) * factor for each, factor in forecasts))
        for name in ("calls", "prompt_tokens", "completion_tokens")
    }
    total |= {"cost_usd": cost, "cost_usd_range": None if unknown else (least, most)}
    return total | {"without_price": list(dict.fromkeys(unknown))}


def _group(config: RopdConfig, prompt: Prompt, index: TeacherIndex | None, m: int) -> Group:
    answers: tuple[str, ...] = ()
    if index is not None:
        try:
            answers = index.answers(prompt.uid, prompt.raw_prompt_hash, m, seed=config.seed)
        except (IndexMissing, TooFewAnswers):
            pass
    limit = config.data.max_response_tokens / TOKENS_A_BYTE
    size = int(min(limit, fmean(map(len, answers))) if answers else limit / 2)
    rollouts = tuple(Answer(text=f"{number} ".ljust(size, "x")) for number in range(config.rollout.n))
    return group_of(prompt, rollouts, answers or ("x" * size,) * m)
