"""Judges: whether they answer in JSON of the right shape, are held to the schema, and change their mind.

They are asked about made-up groups, by the configuration's own templates, once each: no retries, no cache.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ropd_cli.analysis.intervals import wilson
from ropd_cli.config import RopdConfig
from ropd_cli.doctor.check import Case, Check, Pace, Section
from ropd_cli.doctor.endpoints import rate_mend, status_of
from ropd_cli.doctor.sample_groups import VOTES, calls_a_group, forced, questions
from ropd_cli.doctor.targets import JUDGES, ask_all, endpoint_of, is_asked, open_client
from ropd_cli.errors import ProviderError, ReplyInvalid, RopdError
from ropd_cli.llm.chat import ChatReply
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.structured import STARTS, Form, parse_json
from ropd_cli.llm.urls import BUILTIN
from ropd_cli.method.replies import Judgements
from ropd_cli.method.verdicts import agreement
from ropd_cli.methods import method_of
from ropd_cli.methods.scored import Scored
from ropd_cli.util.counted import counted

HERE = Section("judges")
ENOUGH = 0.8
"""Share of replies that fit; below it retries do not save a run."""
MANY_FLIPS = 0.1
_CUT = "cut off at its length limit"


async def rubricator(case: Case) -> list[Check]:
    """Check rubrics of made-up groups."""
    return await _judge(case, "rubricator", "rubrics")


async def verifier(case: Case) -> list[Check]:
    """Check verdicts on made-up groups, or scores, each asked for several times."""
    is_scored = isinstance(method_of(case.config), Scored)
    return await _judge(case, "verifier", "scores" if is_scored else "verdicts")


async def _judge(case: Case, role: str, replies: str) -> list[Check]:
    endpoint = endpoint_of(case.config, role)
    if not is_asked(case.config, role) or not (endpoint.model or endpoint.base_url):
        return []
    if role in case.learnt.silent or endpoint.model is None:
        return [HERE.skipped(role, case.learnt.silent.get(role, "no model is named"))]
    async with open_client(case, endpoint) as client:
        began = time.perf_counter()
        asked = questions(case.config, role, client.endpoint)
        results = await ask_all(client, asked, case.timeout_s)
        seconds = time.perf_counter() - began
        checks = _obedience(role, results, client, replies)
        is_builtin = (endpoint.base_url or "").startswith(BUILTIN)
        if not is_builtin and any(
            not isinstance(each, RopdError) or isinstance(each, ReplyInvalid) for each in results
        ):
            checks.append(await _enforced(case, role, client))
    if role == "verifier":
        temperature = endpoint.sampling.temperature
        if temperature:
            found = (
                f"verifier.sampling.temperature is {temperature:g}: verdicts are drawn, and change from call to call"
            )
            mend = "--set verifier.sampling.temperature=0, or judge.repeats 3"
            checks.append(HERE.warn("verifier temperature", found, mend))
        checks.append(_flips(case.config, results, "scores" if replies == "scores" else "judgements"))
    return [*checks, _pace(case, role, results, seconds, client.endpoint.limits.concurrency)]


def _obedience(role: str, results: Sequence[Any], client: ChatClient, replies: str) -> list[Check]:
    """Check how many replies fit, and how many were cut off."""
    label = f"{role} JSON"
    faults = [each for each in results if isinstance(each, RopdError)]
    misfits = [fault for fault in faults if isinstance(fault, ReplyInvalid)]
    fitting = len(results) - len(faults)
    count = fitting + len(misfits)
    if not count:
        return [HERE.fail(label, faults[0].message, faults[0].hint or "see the endpoints section")]
    make = HERE.warn if fitting / count >= ENOUGH else HERE.fail
    found = f"{fitting} of {count} replies are {replies} that fit ({_how(client)})"
    unreadable = [fault.message for fault in misfits if _CUT not in fault.message]
    checks = []
    if not misfits:
        checks.append(HERE.ok(label, found))
    if unreadable:
        reason = unreadable[0].partition(": ")[2] or unreadable[0]
        checks.append(make(label, f"{found}; {reason}", _json_mend(role, client.json_form)))
    if len(unreadable) < len(misfits):
        limit = client.endpoint.sampling.max_tokens
        found = f"{len(misfits) - len(unreadable)} of {count} replies were cut off at their length limit"
        setting = f"now {limit}" if limit is not None else "the server's own now"
        mend = f"raise {role}.sampling.max_tokens ({setting}), or lower its reasoning_effort"
        checks.append(make(f"{role} length", found, mend))
    return checks


async def _enforced(case: Case, role: str, client: ChatClient) -> Check:
    """Check whether the endpoint holds the model to the schema, by one that allows a single unguessable word."""
    label = f"{role} schema"
    if client.json_form is not Form.JSON_SCHEMA:
        return HERE.ok(label, f"{_how(client)}: the schema stands in the prompt")
    request, word = forced(client.endpoint)
    (answer,) = await ask_all(client, [(request, _read_word)], case.timeout_s)
    if answer == word:
        return HERE.ok(label, "json_schema is enforced")
    if isinstance(answer, RopdError) and not isinstance(answer, ReplyInvalid):
        return HERE.skipped(label, f"that one call failed: {answer.message}")
    found = "json_schema is accepted and ignored: the model may answer anything"
    return HERE.warn(label, found, _json_mend(role, Form.JSON_SCHEMA))


def _flips(config: RopdConfig, results: Sequence[Any], judgements: str) -> Check:
    """Check on what share of ``judgements`` VOTES equal requests do not agree; ``results`` has VOTES per question."""
    label = "verifier flips"
    votes_by_question = [results[start : start + VOTES] for start in range(0, len(results), VOTES)]
    answered: list[Sequence[Judgements]] = [
        votes for votes in votes_by_question if not any(isinstance(each, RopdError) for each in votes)
    ]
    share = agreement(answered)
    if share is None:
        return HERE.skipped(label, f"no question was answered {VOTES} times")
    cells = sum(len(row) for votes in answered for row in votes[0])
    changed = round((1 - share) * cells)
    rate = wilson(changed, cells)
    found = (
        f"{changed} of {cells} {judgements} changed when asked {VOTES} times: {rate.mean:.0%} "
        f"(95% interval {rate.low:.0%} to {rate.high:.0%})"
    )
    if rate.mean <= MANY_FLIPS:
        return HERE.ok(label, found)
    if config.judge.repeats >= VOTES:
        return HERE.ok(label, f"{found}; the majority of judge.repeats {config.judge.repeats} counts")
    return HERE.warn(label, found, "--set judge.repeats=3 (the majority counts), temperature 0, or another verifier")


def _pace(case: Case, role: str, results: Sequence[Any], seconds: float, concurrency: int) -> Check:
    """Check how fast calls went, and whether some were turned away."""
    label, count = f"{role} pace", len(results)
    # A reply that does not fit took its time like any other.
    faults = [each for each in results if isinstance(each, RopdError) and not isinstance(each, ReplyInvalid)]
    pace = case.learnt.pace[role] = Pace(count - len(faults), seconds, min(concurrency, count))
    turned_away = sum(status_of(fault) == 429 for fault in faults)
    if turned_away:
        found = f"{turned_away} of {counted(count, 'request')} at once were turned away (429)"
        return HERE.warn(label, found, rate_mend(role))
    lost = [fault for fault in faults if isinstance(fault, ProviderError) and status_of(fault) != 400]
    if lost and not pace.calls:
        return HERE.fail(label, lost[0].message, lost[0].hint or "see the line itself")
    if lost:
        mend = f"lower {role}.limits.concurrency, or look at the server's log"
        return HERE.warn(label, f"{len(lost)} of {counted(count, 'request')} at once failed: {lost[0].message}", mend)
    return HERE.ok(label, f"{pace} ({count} calls about tiny groups)")


def judging_seconds(case: Case, groups: int) -> float | None:
    """Return the seconds that judging so many groups takes at the pace that was measured; None where none was."""
    total = 0.0
    for role, calls in zip(JUDGES, calls_a_group(case.config), strict=True):
        pace = case.learnt.pace.get(role)
        if calls and (pace is None or not pace.calls):
            return None
        total += groups * calls / pace.a_second if calls and pace is not None else 0.0
    return total or None


def _read_word(reply: ChatReply) -> Any:
    return parse_json(reply.text).get("word")


def _json_mend(role: str, form: Form) -> str:
    others = "another model, or a judge of your own that enforces schemas (ropd serve-judge)"
    if form is Form.JSON_SCHEMA:
        return f"--set {role}.structured_output=json_object (the schema then stands in the prompt), {others}"
    return others


def _how(client: ChatClient) -> str:
    """Return in which form JSON is asked for, and which forms the endpoint has refused before."""
    names = {Form.JSON_SCHEMA: "json_schema", Form.JSON_OBJECT: "json_object", Form.TEXT: "plain text"}
    first = STARTS[client.endpoint.structured_output]
    refused = [name for form, name in names.items() if first <= form < client.json_form]
    how = f"asked by {names[client.json_form]}"
    return f"{' and '.join(refused)} refused, {how}" if refused else how


CHECKS = (rubricator, verifier)
