"""Forecast: what judging a whole run would take, in calls, money and time."""

from __future__ import annotations

from pathlib import Path

from ropd_cli.doctor.check import Case, Check, Section, shown_seconds
from ropd_cli.doctor.judges import judging_seconds
from ropd_cli.doctor.targets import JUDGES, is_asked, section
from ropd_cli.errors import InputError
from ropd_cli.llm.urls import BUILTIN
from ropd_cli.records.schemas import load_prompts
from ropd_cli.training.run_estimate import forecast_run
from ropd_cli.training.verl_config import steps_of

HERE = Section("forecast")
_ASSUMED = "rollouts half as long as data.max_response_tokens allows, no retries, nothing cached"


def prices(case: Case) -> list[Check]:
    """Models without a price, where money plays a part."""
    if not case.named:
        return []
    lacking = []
    for role in (*JUDGES, "teacher"):
        endpoint = section(case.config, role)
        builtin = (endpoint.base_url or "").startswith(BUILTIN)
        if is_asked(case.config, role) and endpoint.model and not builtin and endpoint.model not in case.config.prices:
            lacking.append(endpoint.model)
    if not lacking:
        return []
    names = ", ".join(dict.fromkeys(lacking))
    mend = f"prices: {{{lacking[0]}: {{input: …, output: …}}}} in the configuration, in dollars a million tokens"
    if case.config.max_cost is None:
        return [HERE.warn("prices", f"no price of {names}: the cost can't be told, and is not limited", mend)]
    found = f"no price of {names}, and max_cost {case.config.max_cost:g} is set: a limit that can't be kept"
    return [HERE.fail("prices", found, mend)]


def judging(case: Case) -> list[Check]:
    """Calls, tokens, money and time of a run's judging."""
    config = case.config
    if not case.named:
        return []
    for key, value in (("data.prompts", config.data.prompts), ("data.index", config.data.index)):
        if value is None or not Path(value).is_file():
            return [HERE.skipped("judging", f"{key} {'is not set' if value is None else f'is no file ({value})'}")]
    for role in JUDGES:
        endpoint = section(config, role)
        if is_asked(config, role) and not endpoint.model and not (endpoint.base_url or "").startswith(BUILTIN):
            return [HERE.skipped("judging", f"the {role} has no model")]
    try:
        asked = load_prompts(str(config.data.prompts))
        unlimited = config.model_copy(update={"max_cost": None})  # a price that is missing is said by itself
        found = forecast_run(unlimited, asked, steps_of(config, len(asked)))
    except InputError as fault:  # of the prompts, the index or the templates: it has a line already
        return [HERE.skipped("judging", fault.message)]
    if found is None:
        return [HERE.ok("judging", "reward.rubric is 0: no judge is asked")]
    cost = "no price known" if found["cost_usd"] is None else f"${found['cost_usd']:,.2f}"
    said = (
        f"{found['steps']} steps, {found['groups']:,} groups, {found['calls']:,} calls; about "
        f"{found['prompt_tokens']:,} tokens of prompts and {found['completion_tokens']:,} of replies; {cost} "
        f"({_ASSUMED})"
    )
    limit = config.max_cost
    if limit is not None and found["cost_usd"] is not None and found["cost_usd"] > limit:
        checks = [
            HERE.warn(
                "judging", f"{said}; max_cost is {limit:g}", "raise max_cost, or lower train.steps: the run stops there"
            )
        ]
    else:
        checks = [HERE.ok("judging", said)]
    return [*checks, _time(case, found["groups"])]


def _time(case: Case, groups: int) -> Check:
    seconds = judging_seconds(case, groups)
    if seconds is None:
        return HERE.skipped("time", "the judges' pace was not measured")
    paces = "; ".join(f"{role} {case.learnt.pace[role]}" for role in JUDGES if role in case.learnt.pace)
    return HERE.ok(
        "time",
        f"judging alone about {shown_seconds(seconds)} at the pace measured here ({paces}, tiny groups: real answers "
        "are longer, and more requests at once may be faster); it runs beside the rollouts",
    )


CHECKS = (prices, judging)
