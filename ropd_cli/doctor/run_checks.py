"""All sections in order, and what they are going to ask."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ropd_cli.doctor import devices, disk, endpoints, judges, packages, student
from ropd_cli.doctor import run_cost as forecast
from ropd_cli.doctor import teacher_index as index
from ropd_cli.doctor.check import Case, Check, guarded
from ropd_cli.doctor.sample_groups import hello, rubric_asks, verdict_asks
from ropd_cli.doctor.targets import JUDGES, Target, targets, unpriced
from ropd_cli.errors import RopdError
from ropd_cli.llm.chat import ChatRequest
from ropd_cli.llm.cost_estimate import forecast as forecast_calls
from ropd_cli.llm.keys import api_key
from ropd_cli.llm.money import Budget
from ropd_cli.llm.urls import model_name

SECTIONS = (packages, devices, disk, endpoints, judges, index, student, forecast)
"""Modules that each have HERE, the section, and CHECKS, its functions of a case."""
COUNT = sum(len(section.CHECKS) for section in SECTIONS)


@dataclass(frozen=True)
class Asking:
    """What is about to be asked of one endpoint; ``cost_usd`` None: its model has no price."""

    model: str
    shown: str
    calls: int
    tokens: int
    cost_usd: float | None

    def __str__(self) -> str:
        cost = "no price known" if self.cost_usd is None else f"${self.cost_usd:.4f}"
        return f"{self.calls} calls to {self.model} at {self.shown}, {self.tokens:,} tokens, {cost}"


async def examine(case: Case, done: Callable[[str], None]) -> list[Check]:
    """Every check in order. ``done`` is told the section of each function that has ended."""
    checks: list[Check] = []
    for section in SECTIONS:
        for function in section.CHECKS:
            name = function.__name__.replace("_", " ")
            checks += await guarded(section.HERE, name, partial(_call, function, case), debug=case.debug)
            done(section.HERE.name)
    return checks


def plan(case: Case) -> list[Asking]:
    """What the endpoints are going to be asked; nothing of the built-in one. What can't be told yet is left out: the
    checks say why."""
    if case.offline:
        return []
    asking = []
    for target in targets(case.config):
        if target.is_builtin or target.model is None or unpriced(case.config, target):
            continue
        try:
            api_key(target.endpoint, case.environ)
            asking.append(_asking(case, target))
        except RopdError:  # the checks will say it
            continue
    return asking


def _asking(case: Case, target: Target) -> Asking:
    endpoint = target.endpoint.model_copy(update={"model": target.model})
    requests: list[ChatRequest] = [hello(endpoint)]
    if not set(target.roles) & set(JUDGES):
        requests += [hello(endpoint)] * min(endpoints.BURST, endpoint.limits.concurrency)
    for role in target.roles:
        if role in JUDGES:
            requests += _of_judge(case, role)
    found = forecast_calls(requests, target.endpoint, None, Budget(case.config.prices))
    tokens = found.prompt_tokens + found.completion_tokens
    return Asking(str(target.model), target.shown, found.calls, tokens, found.cost_usd)


def _of_judge(case: Case, role: str) -> list[ChatRequest]:
    endpoint = getattr(case.config, role)
    endpoint = endpoint.model_copy(update={"model": model_name(endpoint)})
    probe = [hello(endpoint)]  # stands for the one about the schema
    if role == "rubricator":
        return probe + [ask.request for ask in rubric_asks(case.config, endpoint)]
    return probe + [request for ask in verdict_asks(case.config, endpoint) for request in ask.requests]


def _call(function: Callable[[Case], Any], case: Case) -> list[Check] | Awaitable[list[Check]]:
    return function(case)
