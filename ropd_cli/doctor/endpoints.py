"""Endpoints: there or not, the key by the name of its variable, the model, and how fast they answer."""

from __future__ import annotations

import difflib
import re
from functools import partial

from ropd_cli.doctor.check import Case, Check, Pace, Section, Stopwatch, few, guarded
from ropd_cli.doctor.sample_groups import hello
from ropd_cli.doctor.targets import (
    JUDGES,
    ROLES,
    Target,
    asked,
    at_once,
    is_asked,
    no_urls,
    section,
    targets,
    unpriced,
)
from ropd_cli.errors import ProviderBusy, ProviderError, ProviderRefused, ProviderUnreachable, RopdError
from ropd_cli.llm.keys import Peer
from ropd_cli.llm.model_list import Listing, list_models
from ropd_cli.llm.shared import Shared

HERE = Section("endpoints")
BURST = 8
"""Short calls at once, to measure the pace of an endpoint that is no judge."""
_STATUS = re.compile(r": status (\d{3}): ")
_LIMIT = re.compile(r"max_(completion_|output_)?tokens|output limit", re.IGNORECASE)
_NO_MODEL = re.compile(
    r"\bmodel\b.{0,80}?(not exist|not found|unknown|invalid|not available)|(unknown|invalid|no such) model",
    re.IGNORECASE,
)


def named(case: Case) -> list[Check]:
    """Sections that name no endpoint: without a model, with a URL that is none."""
    checks = []
    bad = no_urls(case.config)
    for role in ROLES:
        endpoint = section(case.config, role)
        if not is_asked(case.config, role):
            if case.named:
                why = "reward.rubric is 0" if case.config.reward.rubric == 0 else "judge.rubrics is dataset"
                checks.append(HERE.skipped(role, f"{why}, so it is never asked"))
        elif role in bad:
            case.learnt.silent[role] = "its base_url is none"
            checks.append(HERE.fail(role, bad[role].message, f"{role}.base_url: {bad[role].hint}"))
        elif endpoint.model is None and endpoint.base_url is None and case.named and role != "student.endpoint":
            checks.append(_without_model(case, role))
    if not case.named and not checks and not targets(case.config):
        checks.append(HERE.skipped("endpoints", "none is named: give --config, or OPENAI_BASE_URL and ROPD_*_MODEL"))
    return checks


async def all_of_them(case: Case) -> list[Check]:
    """Every endpoint that is named, each once."""
    checks: list[Check] = []
    for target in targets(case.config):
        found = await guarded(HERE, target.label, partial(_one, case, target), debug=case.debug)
        bad = next((each for each in found if each.status == "fail"), None)
        if bad is not None and target.label not in case.learnt.speaking:
            for role in target.roles:
                case.learnt.silent.setdefault(role, f"of what the endpoints section says of {bad.name}")
        checks += found
    return checks


async def _one(case: Case, target: Target) -> list[Check]:
    if target.is_builtin:
        checks = [HERE.ok(target.label, f"{target.shown}: rules inside this program, no key, free")]
    else:
        checks = _key(case, target)
        if case.offline:
            for role in target.roles:
                case.learnt.silent[role] = "no endpoint is asked (--offline)"
            return [*checks, HERE.skipped(f"{target.label} url", "no endpoint is asked (--offline)")]
        look = partial(_listed, case, target, f"{target.label} url")
        found = await guarded(HERE, f"{target.label} url", look, debug=case.debug)
        checks += found
        if any(check.status == "fail" for check in found):
            return checks
    if target.model is None:
        return [*checks, HERE.skipped(f"{target.label} model", "no model is named, so none is asked")]
    limit = unpriced(case.config, target)
    if limit is not None:
        for role in target.roles:
            case.learnt.silent[role] = f"max_cost is set and {target.model} has no price, so nothing is sent"
        return [*checks, HERE.skipped(f"{target.label} model", case.learnt.silent[target.roles[0]])]
    names = [name for check in checks for name in case.learnt.listed.get(check.name, ())]
    shared = Shared.of(case.config, lambda _line: None)
    checks.append(await _hello(case, target, shared, names))
    if checks[-1].status == "fail":
        return checks
    case.learnt.speaking.add(target.label)
    if not set(target.roles) & set(JUDGES):
        checks.append(await _pace(case, target, shared))
    return checks


def _key(case: Case, target: Target) -> list[Check]:
    """The key, by the name of its variable."""
    label = f"{target.label} key"
    if Peer.read(target.endpoint, case.environ).key is not None:  # raises what says which one is missing
        return [HERE.ok(label, f"{target.endpoint.api_key_env} is set")]
    return [HERE.ok(label, f"{target.endpoint.api_key_env} is not set; a server of your own may need none")]


async def _listed(case: Case, target: Target, label: str) -> list[Check]:
    """The server by its list of models."""
    limits = target.endpoint.limits
    limits = limits.model_copy(update={"timeout_s": min(case.timeout_s, limits.timeout_s)})
    found = await list_models(target.endpoint.model_copy(update={"limits": limits}), case.environ)
    return _read_listing(case, target, found, label)


def _read_listing(case: Case, target: Target, found: Listing, label: str) -> list[Check]:
    url = target.shown
    latency = f"in {_time(found.seconds)}"
    if found.status in (401, 403):
        return [HERE.fail(label, f"{url}: status {found.status}: {found.text}", _key_mend(target))]
    if found.status >= 500:
        return [HERE.warn(label, f"{url}: status {found.status} to /models: {found.text}", "look at the server's log")]
    if found.names is None:
        return [HERE.ok(label, f"{url}: answers {latency}, and lists no models (status {found.status})")]
    case.learnt.listed[label] = found.names
    checks = [HERE.ok(label, f"{url}: answers {latency}, lists {_models(found.names)}")]
    if target.model is not None and not _is_listed(target.model, found.names):
        checks.append(
            HERE.warn(
                f"{target.label} model",
                f"{url}: {target.model} is not among the models listed",
                _model_mend(target, list(found.names)),
            )
        )
    return checks


async def _hello(case: Case, target: Target, shared: Shared, names: list[str]) -> Check:
    """One short question through the client that every command uses."""
    label = f"{target.label} model"
    async with asked(case, target.endpoint, shared) as client:
        watch = Stopwatch()
        (answer,), _ = await at_once([partial(client.complete, hello(client.endpoint))], 1, case.timeout_s)
        seconds = watch.seconds
        unlimited = hello(client.endpoint).model_copy(update={"sampling": client.endpoint.sampling})
        if _is_about_limit(answer) and client.endpoint.sampling.max_tokens is None:
            (answer,), _ = await at_once([partial(client.complete, unlimited)], 1, case.timeout_s)
    where = "" if target.is_builtin else f" at {target.shown}"
    if not isinstance(answer, RopdError):
        return HERE.ok(label, f"{target.model}{where} answers in {_time(seconds)}")
    return _explained(target, answer, names, label)


def _explained(target: Target, fault: RopdError, names: list[str], label: str) -> Check:
    """What an error of a short call means, and what to do."""
    status = status_of(fault)
    if status in (401, 403):
        return HERE.fail(label, fault.message, _key_mend(target))
    if isinstance(fault, ProviderBusy) and status == 429:
        return HERE.warn(label, f"turned away: {fault.message}", rate_mend(target.roles[0]))
    if status == 404 or (status in (400, 422) and _NO_MODEL.search(fault.message)):
        return HERE.fail(label, fault.message, _model_mend(target, names))
    if _is_about_limit(fault):
        limit = target.endpoint.sampling.max_tokens
        mend = f"lower {target.roles[0]}.sampling.max_tokens (now {limit}) to what the model takes"
        return HERE.fail(label, fault.message, mend)
    if isinstance(fault, ProviderRefused) and status in (400, 422):
        mend = f"what is null is not sent: --set {target.roles[0]}.sampling.temperature=null, if it is that"
        return HERE.fail(label, fault.message, mend)
    if isinstance(fault, ProviderUnreachable):
        return HERE.fail(label, fault.message, f"{fault.hint} ({target.roles[0]}.base_url)")
    return HERE.fail(label, fault.message, fault.hint or "see the line itself")


async def _pace(case: Case, target: Target, shared: Shared) -> Check:
    """Short calls at once."""
    label, role = f"{target.label} pace", target.roles[0]
    async with asked(case, target.endpoint, shared) as client:
        count = min(BURST, client.endpoint.limits.concurrency)
        calls = [partial(client.complete, hello(client.endpoint, sample)) for sample in range(1, count + 1)]
        results, pace = await at_once(calls, client.endpoint.limits.concurrency, case.timeout_s)
    for one in target.roles:
        case.learnt.pace[one] = pace
    return paced(HERE, label, role, results, pace, "short answers")


def paced(here: Section, label: str, role: str, results: list, pace: Pace, what: str) -> Check:
    """How fast calls went, and whether some were turned away."""
    faults = [each for each in results if isinstance(each, RopdError)]
    turned_away = [fault for fault in faults if status_of(fault) == 429]
    if turned_away:
        found = f"{len(turned_away)} of {len(results)} requests at once were turned away (429)"
        return here.warn(label, found, rate_mend(role))
    lost = [fault for fault in faults if isinstance(fault, ProviderError) and status_of(fault) != 400]
    if lost and not pace.calls:
        return here.fail(label, lost[0].message, lost[0].hint or "see the line itself")
    if lost:
        mend = f"lower {role}.limits.concurrency, or look at the server's log"
        return here.warn(label, f"{len(lost)} of {len(results)} requests at once failed: {lost[0].message}", mend)
    return here.ok(label, f"{pace} ({what})")


def status_of(fault: RopdError) -> int | None:
    """The HTTP status that an error's message names."""
    found = _STATUS.search(fault.message)
    return int(found[1]) if found else None


def rate_mend(role: str) -> str:
    """What to do about 429."""
    return f"lower {role}.limits.concurrency or set {role}.limits.rpm to what the account has"


def _is_about_limit(answer: object) -> bool:
    refused = isinstance(answer, ProviderRefused) and status_of(answer) in (400, 422)
    return refused and bool(_LIMIT.search(str(answer)))


def _models(names: tuple[str, ...]) -> str:
    return "1 model" if len(names) == 1 else f"{len(names)} models"


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _is_listed(model: str, names: tuple[str, ...]) -> bool:
    return any(name == model or name.endswith(f"/{model}") for name in names)


def _key_mend(target: Target) -> str:
    name = target.endpoint.api_key_env
    return f"put a valid key into {name} (export {name}=…), or name another variable: {target.roles[0]}.api_key_env"


def _model_mend(target: Target, names: list[str]) -> str:
    near = difflib.get_close_matches(target.model or "", names, n=3, cutoff=0.4) or names
    known = f": {few(near)}" if near else " (see the server's documentation)"
    return f"set {target.roles[0]}.model to one that is there{known}"


def _without_model(case: Case, role: str) -> Check:
    if role == "teacher":
        return HERE.skipped(role, "teacher.model is not set (ropd teacher-gen needs it)")
    case.learnt.silent[role] = "it has no model"
    return HERE.fail(
        role, f"no model name for the {role}", f"set {role}.model, or ROPD_{role.upper()}_MODEL in the environment"
    )


CHECKS = (named, all_of_them)
