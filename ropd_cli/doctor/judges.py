"""Judges: whether they answer in JSON of the right shape, are held to the schema, and change their mind.

They are asked about made-up groups, by the configuration's own templates, once each: no retries, no cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ropd_cli.analysis.intervals import wilson
from ropd_cli.config import RopdConfig
from ropd_cli.doctor.check import Case, Check, Pace, Section, guarded, shown_seconds
from ropd_cli.doctor.endpoints import paced
from ropd_cli.doctor.sample_groups import VOTES, calls_a_group, forced, rubric_asks, verdict_asks
from ropd_cli.doctor.targets import JUDGES, asked, at_once, is_asked, section
from ropd_cli.errors import ReplyInvalid, RopdError
from ropd_cli.llm.chat import ChatReply
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.shared import Shared
from ropd_cli.llm.structured import Form, parse_json
from ropd_cli.llm.urls import BUILTIN
from ropd_cli.method.replies import Judgements, parse_rubric
from ropd_cli.stages.verify import VerdictAsk

HERE = Section("judges")
ENOUGH = 0.8
"""Share of replies that fit; below it retries do not save a run."""
MANY_FLIPS = 0.1
SLOW_STEP_S = 900.0
_CUT = "cut off at its length limit"


@dataclass(frozen=True)
class Replies:
    """What came of a judge's calls: replies that fit, the errors of those that do not, and of those that were no
    replies at all."""

    fitting: int
    misfits: list[ReplyInvalid]
    lost: list[RopdError]

    @classmethod
    def of(cls, results: Sequence[Any]) -> Replies:
        faults = [each for each in results if isinstance(each, RopdError)]
        misfits = [fault for fault in faults if isinstance(fault, ReplyInvalid)]
        lost = [fault for fault in faults if not isinstance(fault, ReplyInvalid)]
        return cls(len(results) - len(faults), misfits, lost)

    @property
    def cut(self) -> int:
        """How many ended at the limit of their length."""
        return sum(_CUT in fault.message for fault in self.misfits)

    @property
    def count(self) -> int:
        return self.fitting + len(self.misfits)


async def rubricator(case: Case) -> list[Check]:
    """Rubrics of made-up groups."""
    return await guarded(HERE, "rubricator", partial(_rubricator, case), debug=case.debug)


async def verifier(case: Case) -> list[Check]:
    """Verdicts on made-up groups, each asked for several times."""
    return await guarded(HERE, "verifier", partial(_verifier, case), debug=case.debug)


def step(case: Case) -> list[Check]:
    """What one training step would take of the judges' time."""
    if not case.named or not all(role in case.learnt.pace for role in JUDGES if is_asked(case.config, role)):
        return []
    seconds = judging_seconds(case, case.config.train.prompts_per_step)
    if seconds is None:
        return []
    calls = [count * case.config.train.prompts_per_step for count in calls_a_group(case.config)]
    found = (
        f"{case.config.train.prompts_per_step} groups: {calls[0]} + {calls[1]} calls, about {shown_seconds(seconds)} "
        "at this pace (tiny groups; long answers take longer)"
    )
    if seconds > SLOW_STEP_S:
        mend = "raise limits.concurrency, put a router with more servers behind base_url, or take a faster judge"
        return [HERE.warn("a step", found, mend)]
    return [HERE.ok("a step", found)]


def judging_seconds(case: Case, groups: int) -> float | None:
    """Seconds that judging so many groups takes at the pace that was measured; None where none was."""
    total = 0.0
    for role, calls in zip(JUDGES, calls_a_group(case.config), strict=True):
        pace = case.learnt.pace.get(role)
        if calls and (pace is None or not pace.calls):
            return None
        total += groups * calls / pace.a_second if calls and pace is not None else 0.0
    return total or None


async def _rubricator(case: Case) -> list[Check]:
    if (why := _left_out(case, "rubricator")) is not None:
        return why
    async with asked(case, case.config.rubricator, _shared(case)) as client:
        asks = rubric_asks(case.config, client.endpoint)
        calls = [partial(client.ask, ask.request, _read_rubric) for ask in asks]
        results, pace = await at_once(calls, client.endpoint.limits.concurrency, case.timeout_s)
        checks = _obedience(case.config, "rubricator", Replies.of(results), client, "rubrics")
        checks += await _enforced(case, "rubricator", client, Replies.of(results))
    return [*checks, _pace(case, "rubricator", results, pace)]


async def _verifier(case: Case) -> list[Check]:
    if (why := _left_out(case, "verifier")) is not None:
        return why
    async with asked(case, case.config.verifier, _shared(case)) as client:
        asks = verdict_asks(case.config, client.endpoint)
        calls = [partial(client.ask, request, ask.read) for ask in asks for request in ask.requests]
        results, pace = await at_once(calls, client.endpoint.limits.concurrency, case.timeout_s)
        checks = _obedience(case.config, "verifier", Replies.of(results), client, "verdicts")
        checks += await _enforced(case, "verifier", client, Replies.of(results))
    checks += _temperature(case)
    checks += flips(case.config, asks, results)
    return [*checks, _pace(case, "verifier", results, pace)]


def _obedience(config: RopdConfig, role: str, replies: Replies, client: ChatClient, what: str) -> list[Check]:
    """How many replies fit."""
    label = f"{role} JSON"
    if not replies.count:
        fault = replies.lost[0]
        return [HERE.fail(label, fault.message, fault.hint or "see the endpoints section")]
    how = _how(client)
    found = f"{replies.fitting} of {replies.count} replies are {what} that fit ({how})"
    checks = []
    if not replies.misfits:
        checks.append(HERE.ok(label, found))
    elif replies.cut < len(replies.misfits):
        other = next(fault for fault in replies.misfits if _CUT not in fault.message)
        said = other.message.partition(": ")[2] or other.message
        share = replies.fitting / replies.count
        make = HERE.warn if share >= ENOUGH else HERE.fail
        checks.append(make(label, f"{found}; {said}", _json_mend(role, client.json_form)))
    if replies.cut:
        limit = section(config, role).sampling.max_tokens
        set_to = f"now {limit}" if limit is not None else "the server's own now"
        make = HERE.warn if replies.fitting / replies.count >= ENOUGH else HERE.fail
        checks.append(
            make(
                f"{role} length",
                f"{replies.cut} of {replies.count} replies were cut off at their length limit",
                f"raise {role}.sampling.max_tokens ({set_to}), or lower its reasoning_effort",
            )
        )
    return checks


async def _enforced(case: Case, role: str, client: ChatClient, replies: Replies) -> list[Check]:
    """Whether the endpoint holds the model to the schema, by one that allows a single unguessable word."""
    if (client.endpoint.base_url or "").startswith(BUILTIN) or not replies.count:
        return []
    label = f"{role} schema"
    if client.json_form is not Form.JSON_SCHEMA:
        return [HERE.ok(label, f"{_how(client)}: the schema stands in the prompt")]
    request, word = forced(client.endpoint)
    (answer,), _ = await at_once([partial(client.ask, request, _read_word)], 1, case.timeout_s)
    if not isinstance(answer, RopdError) and answer[1] == word:
        return [HERE.ok(label, "json_schema is enforced")]
    if isinstance(answer, RopdError) and not isinstance(answer, ReplyInvalid):
        return [HERE.skipped(label, f"that one call failed: {answer.message}")]
    return [
        HERE.warn(
            label,
            "json_schema is accepted and ignored: the model may answer anything",
            _json_mend(role, Form.JSON_SCHEMA),
        )
    ]


def _temperature(case: Case) -> list[Check]:
    temperature = case.config.verifier.sampling.temperature
    if not temperature:
        return []
    found = f"verifier.sampling.temperature is {temperature:g}: verdicts are drawn, and change from call to call"
    return [HERE.warn("verifier temperature", found, "--set verifier.sampling.temperature=0, or judge.repeats 3")]


def flips(config: RopdConfig, asks: Sequence[VerdictAsk], results: Sequence[Any]) -> list[Check]:
    """Share of judgements on which VOTES equal requests do not agree; ``results`` has VOTES entries an ask."""
    label, cells, changed = "verifier flips", 0, 0
    for number in range(len(asks)):
        votes: list[Judgements] = [
            each[1] for each in results[number * VOTES : (number + 1) * VOTES] if not isinstance(each, RopdError)
        ]
        if len(votes) < VOTES:
            continue
        for rows in zip(*votes, strict=True):
            for values in zip(*rows, strict=True):
                cells += 1
                changed += len(set(values)) > 1
    if not cells:
        return [HERE.skipped(label, f"no question was answered {VOTES} times")]
    rate = wilson(changed, cells)
    found = (
        f"{changed} of {cells} judgements changed when asked {VOTES} times: {rate.mean:.0%} "
        f"(95% interval {rate.low:.0%} to {rate.high:.0%})"
    )
    if rate.mean <= MANY_FLIPS:
        return [HERE.ok(label, found)]
    if config.judge.repeats >= VOTES:
        return [HERE.ok(label, f"{found}; the majority of judge.repeats {config.judge.repeats} counts")]
    return [HERE.warn(label, found, "--set judge.repeats=3 (the majority counts), temperature 0, or another verifier")]


def _pace(case: Case, role: str, results: Sequence[Any], pace: Pace) -> Check:
    answered = sum(not isinstance(each, RopdError) or isinstance(each, ReplyInvalid) for each in results)
    pace = Pace(answered, pace.seconds, pace.at_once)
    case.learnt.pace[role] = pace
    usable = [None if isinstance(each, ReplyInvalid) else each for each in results]
    return paced(HERE, f"{role} pace", role, usable, pace, f"{len(results)} calls about tiny groups")


def _left_out(case: Case, role: str) -> list[Check] | None:
    """The line of a judge that is not asked, or none; None for one that is."""
    endpoint = section(case.config, role)
    if not is_asked(case.config, role) or (endpoint.model is None and endpoint.base_url is None):
        return []
    if role in case.learnt.silent:
        return [HERE.skipped(role, case.learnt.silent[role])]
    if endpoint.model is None and not (endpoint.base_url or "").startswith(BUILTIN):
        return [HERE.skipped(role, "no model is named")]
    return None


def _shared(case: Case) -> Shared:
    return Shared.of(case.config, lambda _line: None)


def _read_rubric(reply: ChatReply) -> Any:
    return parse_rubric(parse_json(reply.text))


def _read_word(reply: ChatReply) -> Any:
    return parse_json(reply.text).get("word")


def _json_mend(role: str, form: Form) -> str:
    others = "another model, or a judge of your own that enforces schemas (ropd serve-judge)"
    if form is Form.JSON_SCHEMA:
        return f"--set {role}.structured_output=json_object (the schema then stands in the prompt), {others}"
    return others


_FORMS = {"json_schema": Form.JSON_SCHEMA, "json_object": Form.JSON_OBJECT, "plain text": Form.TEXT}
_CONFIGURED = {"json_schema": Form.JSON_SCHEMA, "json_object": Form.JSON_OBJECT, "text": Form.TEXT}


def _how(client: ChatClient) -> str:
    """In which form JSON is asked for, and what the endpoint has refused before."""
    form, wanted = client.json_form, _CONFIGURED[client.endpoint.structured_output]
    refused = [name for name, each in _FORMS.items() if wanted <= each < form]
    asked_by = f"asked by {next(name for name, each in _FORMS.items() if each is form)}"
    return f"{' and '.join(refused)} refused, {asked_by}" if refused else asked_by


CHECKS = (rubricator, verifier, step)
