"""Endpoints: there or not, the key by the name of its variable, and the model."""

from __future__ import annotations

import difflib
import os
import re
import time
from functools import partial

from ropd_cli.config.masking import shown_url
from ropd_cli.doctor.check import Case, Check, Section, few, guarded
from ropd_cli.doctor.sample_groups import hello
from ropd_cli.doctor.targets import (
    ROLES,
    Target,
    ask_all,
    endpoint_of,
    impatient,
    is_asked,
    open_client,
    targets,
    url_fault,
)
from ropd_cli.errors import ConfigError, ProviderUnreachable, RopdError
from ropd_cli.llm.api_key import Peer
from ropd_cli.llm.model_list import Listing, list_models
from ropd_cli.methods import method_of

HERE = Section("endpoints")
URL_VARIABLE = "OPENAI_BASE_URL"
_STATUS = re.compile(r": status (\d{3}): ")
_LIMIT = re.compile(r"max_(completion_|output_)?tokens|output limit", re.IGNORECASE)
_NO_MODEL = re.compile(
    r"\bmodel\b.{0,80}?(not exist|not found|unknown|invalid|not available)|(unknown|invalid|no such) model",
    re.IGNORECASE,
)


def environment(case: Case) -> list[Check]:
    """Show which endpoints have the URL of the environment, which a YAML file's does not override."""
    url = os.environ.get(URL_VARIABLE)
    roles = [role for role in ROLES if url and endpoint_of(case.config, role).base_url == url]
    if not url or not roles:
        return []
    found = f"{shown_url(url)}, the base_url of {', '.join(roles)}: the environment overrides YAML files"
    return [HERE.ok(URL_VARIABLE, found)]


def unnamed(case: Case) -> list[Check]:
    """Check for sections that name no endpoint: without a model, or with a URL that is none."""
    checks = []
    for role in ROLES:
        endpoint = endpoint_of(case.config, role)
        fault = url_fault(endpoint)
        if not is_asked(case.config, role):
            if case.named:
                why = method_of(case.config).needs(case.config).why_no_judge
                checks.append(HERE.skipped(role, f"{why}, so it is never asked"))
        elif fault is not None:
            case.learnt.silent[role] = "its base_url is none"
            checks.append(HERE.fail(role, fault.message, f"{role}.base_url: {fault.hint}"))
        elif endpoint.model or endpoint.base_url or not case.named or role == "student.endpoint":
            continue
        elif role == "teacher":
            checks.append(HERE.skipped(role, "teacher.model is not set (ropd teacher-gen needs it)"))
        else:
            case.learnt.silent[role] = "it has no model"
            mend = f"set {role}.model, or ROPD_{role.upper()}_MODEL in the environment"
            checks.append(HERE.fail(role, f"no model name for the {role}", mend))
    if not case.named and not checks and not targets(case.config):
        checks.append(HERE.skipped("endpoints", "none is named: give --config, or OPENAI_BASE_URL and ROPD_*_MODEL"))
    return checks


async def named(case: Case) -> list[Check]:
    """Check every endpoint that is named, each once."""
    checks: list[Check] = []
    for target in targets(case.config):
        lines = await guarded(HERE, target.label, partial(_target, case, target), debug=case.debug)
        bad = next((line for line in lines if line.status == "fail"), None)
        if bad is not None:
            _silence(case, target, f"of the failed check of {bad.name} above")
        checks += lines
    return checks


def _silence(case: Case, target: Target, why: str) -> str:
    """Keep later sections from asking an endpoint."""
    for role in target.roles:
        case.learnt.silent.setdefault(role, why)
    return why


async def _target(case: Case, target: Target) -> list[Check]:
    label, endpoint = target.label, target.endpoint
    listed: tuple[str, ...] = ()
    if target.is_builtin:
        checks = [HERE.ok(label, f"{target.shown}: rules inside this program, no key, free")]
    else:
        key = Peer.read(endpoint, os.environ).key  # raises what says which one is missing
        state = "is set" if key is not None else "is not set; a server of your own may need none"
        checks = [HERE.ok(f"{label} key", f"{endpoint.api_key_env} {state}")]
        if case.offline:
            return [*checks, HERE.skipped(f"{label} url", _silence(case, target, "no endpoint is asked (--offline)"))]
        try:
            listing = await list_models(impatient(case, endpoint), os.environ)
        except RopdError as fault:
            return [*checks, HERE.fail(f"{label} url", fault.message, fault.hint or "see the line itself")]
        checks += _read_listing(target, listing)
        listed = listing.names or ()
    if endpoint.model is None:
        return [*checks, HERE.skipped(f"{label} model", "no model is named, so none is asked")]
    if checks[-1].status != "fail":
        checks.append(await _hello(case, target, listed))
    return checks


def _read_listing(target: Target, listing: Listing) -> list[Check]:
    """Check a server by its list of models."""
    label, url, model = f"{target.label} url", target.shown, target.endpoint.model
    if listing.status in (401, 403):
        return [HERE.fail(label, f"{url}: status {listing.status}: {listing.text}", _key_mend(target))]
    if listing.status >= 500:
        found = f"{url}: status {listing.status} to /models: {listing.text}"
        return [HERE.warn(label, found, "look at the server's log")]
    answers = f"{url}: answers in {_time(listing.seconds)}"
    if listing.names is None:
        return [HERE.ok(label, f"{answers}, and lists no models (status {listing.status})")]
    count = len(listing.names)
    checks = [HERE.ok(label, f"{answers}, lists {count} model{'s' if count != 1 else ''}")]
    if model is not None and not any(name == model or name.endswith(f"/{model}") for name in listing.names):
        found = f"{url}: {model} is not among the models listed"
        checks.append(HERE.warn(f"{target.label} model", found, _model_mend(target, listing.names)))
    return checks


async def _hello(case: Case, target: Target, listed: tuple[str, ...]) -> Check:
    """Ask one short question through the client that every command uses."""
    label, model = f"{target.label} model", target.endpoint.model
    began = time.perf_counter()
    async with open_client(case, target.endpoint) as client:
        (fault,) = await ask_all(client, [(hello(client.endpoint), lambda _reply: None)], case.timeout_s)
    if isinstance(fault, ConfigError):  # nothing was sent
        why = f"max_cost is set and {model} has no price, so nothing is sent"
        return HERE.skipped(label, _silence(case, target, why))
    if fault is None:
        where = "" if target.is_builtin else f" at {target.shown}"
        return HERE.ok(label, f"{model}{where} answers in {_time(time.perf_counter() - began)}")
    if status_of(fault) == 429:
        return HERE.warn(label, f"turned away: {fault.message}", rate_mend(target.roles[0]))
    return HERE.fail(label, fault.message, _mend(target, fault, listed))


def _mend(target: Target, fault: RopdError, listed: tuple[str, ...]) -> str:
    """Return what to do about the error of a short call."""
    status, role = status_of(fault), target.roles[0]
    if status in (401, 403):
        return _key_mend(target)
    if status == 404 or (status in (400, 422) and _NO_MODEL.search(fault.message)):
        return _model_mend(target, listed)
    if status in (400, 422) and _LIMIT.search(fault.message):
        limit = target.endpoint.sampling.max_tokens
        return f"lower {role}.sampling.max_tokens (now {limit}) to what the model takes"
    if status in (400, 422):
        return f"what is null is not sent: --set {role}.sampling.temperature=null, if it is that"
    if isinstance(fault, ProviderUnreachable):
        return f"{fault.hint} ({role}.base_url)"
    return fault.hint or "see the line itself"


def status_of(fault: RopdError) -> int | None:
    """Return the HTTP status that an error's message names."""
    match = _STATUS.search(fault.message)
    return int(match[1]) if match else None


def rate_mend(role: str) -> str:
    """Return what to do about 429."""
    return f"lower {role}.limits.concurrency or set {role}.limits.rpm to what the account has"


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _key_mend(target: Target) -> str:
    name = target.endpoint.api_key_env
    return f"put a valid key into {name} (export {name}=…), or name another variable: {target.roles[0]}.api_key_env"


def _model_mend(target: Target, listed: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(target.endpoint.model or "", listed, n=3, cutoff=0.4) or list(listed)
    names = f": {few(near)}" if near else " (see the server's documentation)"
    return f"set {target.roles[0]}.model to one that is there{names}"


CHECKS = (environment, unnamed, named)
