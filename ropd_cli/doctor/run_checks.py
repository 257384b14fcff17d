"""All sections in order, and what they are going to ask."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ropd_cli.doctor import devices, disk, endpoints, judges, packages, student
from ropd_cli.doctor import run_cost as forecast
from ropd_cli.doctor import teacher_index as index
from ropd_cli.doctor.check import Case, Check, guarded
from ropd_cli.doctor.sample_groups import hello, rubric_requests, verdict_requests
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


async def examine(case: Case, done: Callable[[str], None]) -> list[Check]:
    """Run every check in order. ``done`` is called with the section of each function that has ended."""
    checks: list[Check] = []
    for section in SECTIONS:
        for function in section.CHECKS:
            name = function.__name__.replace("_", " ")
            checks += await guarded(section.HERE, name, partial(function, case), debug=case.debug)
            done(section.HERE.name)
    return checks


def plan(case: Case) -> list[str]:
    """Return, in words, what each endpoint is going to be asked; nothing of the built-in one. What can't be told yet
    is left out: the checks say why."""
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


def _asking(case: Case, target: Target) -> str:
    endpoint = target.endpoint.model_copy(update={"model": target.model})
    requests: list[ChatRequest] = [hello(endpoint)]
    if not set(target.roles) & set(JUDGES):
        requests += [hello(endpoint)] * min(endpoints.BURST, endpoint.limits.concurrency)
    for role in target.roles:
        if role in JUDGES:
            requests += _of_judge(case, role)
    found = forecast_calls(requests, target.endpoint, None, Budget(case.config.prices))
    tokens = found.prompt_tokens + found.completion_tokens
    cost = "no price known" if found.cost_usd is None else f"${found.cost_usd:.4f}"
    return f"{found.calls} calls to {target.model} at {target.shown}, {tokens:,} tokens, {cost}"


def _of_judge(case: Case, role: str) -> list[ChatRequest]:
    endpoint = getattr(case.config, role)
    endpoint = endpoint.model_copy(update={"model": model_name(endpoint)})
    probe = [hello(endpoint)]  # stands for the one about the schema
    if role == "rubricator":
        return probe + [each.request for each in rubric_requests(case.config, endpoint)]
    return probe + [request for each in verdict_requests(case.config, endpoint) for request in each.requests]
