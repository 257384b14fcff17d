"""Forecast: what judging a whole run would take, in calls, money and time."""

from __future__ import annotations

from pathlib import Path

from ropd_cli.doctor.check import Case, Check, Section, shown_time
from ropd_cli.doctor.judges import judging_seconds
from ropd_cli.doctor.targets import JUDGES, endpoint_of, is_asked
from ropd_cli.errors import InputError
from ropd_cli.llm.money import Budget
from ropd_cli.llm.urls import OPENAI_URL
from ropd_cli.methods import method_of
from ropd_cli.records.schemas import load_prompts
from ropd_cli.training.run_estimate import forecast_run, sentence
from ropd_cli.training.verl_config import steps_of

HERE = Section("forecast")
SLOW_STEP_S = 900.0


def prices(case: Case) -> list[Check]:
    """Check that every model that a run pays for has a price."""
    if not case.named:
        return []
    endpoints = [endpoint_of(case.config, role) for role in (*JUDGES, "teacher") if is_asked(case.config, role)]
    if case.config.monitor.share:
        endpoints.append(case.config.monitor.judge)
    table = Budget(case.config.prices)
    lacking = [
        each.model for each in endpoints if each.model and table.price(each.model, each.base_url or OPENAI_URL) is None
    ]
    if not lacking:
        return []
    names = ", ".join(dict.fromkeys(lacking))
    mend = f"prices: {{{lacking[0]}: {{input: …, output: …}}}} in the configuration, in dollars per million tokens"
    if case.config.max_cost is None:
        return [HERE.warn("prices", f"no price of {names}: the cost can't be told, and is not limited", mend)]
    found = f"no price of {names}, and max_cost {case.config.max_cost:g} is set: a limit that can't be kept"
    return [HERE.fail("prices", found, mend)]


def judging(case: Case) -> list[Check]:
    """Estimate calls, tokens, cost and time of a run's judging."""
    config = case.config
    if not case.named:
        return []
    needs = method_of(config).needs(config)
    files = [("data.prompts", config.data.prompts)]
    if needs.teacher_answers:
        files.append(("data.index", config.data.index))
    for key, value in files:
        if value is None or not Path(value).is_file():
            return [HERE.skipped("judging", f"{key} {'is not set' if value is None else f'is no file ({value})'}")]
    for role in JUDGES:
        if is_asked(config, role) and not endpoint_of(config, role).model:
            return [HERE.skipped("judging", f"the {role} has no model")]
    try:
        prompts = load_prompts(str(config.data.prompts))
        unlimited = config.model_copy(update={"max_cost": None})  # the check of prices says what is missing
        estimate = forecast_run(unlimited, prompts, steps_of(config, len(prompts)))
    except InputError as fault:  # of the prompts, the index or the templates: it has a line already
        return [HERE.skipped("judging", fault.message)]
    if estimate is None:
        return [HERE.ok("judging", f"{needs.why_no_judge}: no judge is asked")]
    found, limit, cost = sentence(estimate).removeprefix("forecast: "), config.max_cost, estimate["cost_usd"]
    check = HERE.ok("judging", found)
    if limit is not None and cost is not None and cost > limit:
        mend = "raise max_cost, or lower train.steps: the run stops there"
        check = HERE.warn("judging", f"{found}; max_cost is {limit:g}", mend)
    seconds = judging_seconds(case, estimate["groups"])
    if seconds is None:
        return [check, HERE.skipped("time", "the judges' pace was not measured")]
    a_step = seconds / estimate["steps"]
    paces = "; ".join(f"{role} {case.learnt.pace[role]}" for role in JUDGES if role in case.learnt.pace)
    found = (
        f"judging alone about {shown_time(seconds)}, {shown_time(a_step)} per step, at the pace measured here "
        f"({paces}, tiny groups: real answers are longer, and more requests at once may be faster); it runs beside the "
        "rollouts"
    )
    mend = "raise limits.concurrency, put more servers behind base_url, or take a faster judge"
    return [check, HERE.ok_unless(a_step > SLOW_STEP_S, "time", found, mend)]


CHECKS = (prices, judging)
