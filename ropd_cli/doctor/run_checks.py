"""All sections in order, and what they are going to ask."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from ropd_cli.doctor import devices, disk, endpoints, judges, packages, run_cost, student, teacher_index
from ropd_cli.doctor.check import Case, Check, guarded
from ropd_cli.doctor.sample_groups import hello, questions
from ropd_cli.doctor.targets import JUDGES, endpoint_of, targets
from ropd_cli.errors import RopdError
from ropd_cli.llm.api_key import api_key
from ropd_cli.llm.chat import ChatRequest
from ropd_cli.llm.cost_estimate import forecast
from ropd_cli.llm.money import Budget
from ropd_cli.util.counted import counted

SECTIONS = (packages, devices, disk, endpoints, judges, teacher_index, student, run_cost)
"""Modules that each have HERE, the section, and CHECKS, its functions of a case."""
SHORT_TOKENS = 16
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
    lines = []
    for target in [] if case.offline else targets(case.config):
        endpoint = target.endpoint
        if target.is_builtin or endpoint.model is None:
            continue
        requests = [_short(hello(endpoint))]
        try:
            api_key(endpoint, os.environ)
            for role in set(target.roles) & set(JUDGES):
                judge = endpoint_of(case.config, role)
                # one more stands for the question about the schema
                requests += [_short(hello(judge)), *(request for request, _ in questions(case.config, role, judge))]
            estimate = forecast(requests, endpoint, None, Budget(case.config.prices, case.config.max_cost))
        except RopdError:  # a key, a price or a template is missing
            continue
        tokens = estimate.prompt_tokens + estimate.completion_tokens
        cost = "no price known" if estimate.cost_usd is None else f"${estimate.cost_usd:.4f}"
        lines.append(
            f"{counted(estimate.calls, 'call')} to {endpoint.model} at {target.shown}, "
            f"about {counted(tokens, 'token')}, {cost}"
        )
    return lines


def _short(request: ChatRequest) -> ChatRequest:
    """Return a question as it is estimated: its answer is a number or a word."""
    return request.model_copy(update={"sampling": request.sampling.model_copy(update={"max_tokens": SHORT_TOKENS})})
