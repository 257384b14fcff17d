"""The endpoints of a configuration, each once, and how they are asked: no retries, no cache, little patience."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from ropd_cli.config import EndpointConfig, RopdConfig
from ropd_cli.doctor.check import Case, Pace, Stopwatch
from ropd_cli.errors import ConfigError, InputError, ProviderUnreachable, RopdError
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.retry import RetryPolicy
from ropd_cli.llm.shared import Shared
from ropd_cli.llm.urls import BUILTIN, base_url, model_name, shown_url

ROLES = ("teacher", "rubricator", "verifier", "student.endpoint")
JUDGES = ("rubricator", "verifier")

T = TypeVar("T")
Call = Callable[[], Awaitable[T]]


@dataclass(frozen=True)
class Target:
    """One endpoint and the sections that name it; ``model`` is None where none is named."""

    roles: tuple[str, ...]
    endpoint: EndpointConfig
    url: str
    model: str | None

    @property
    def label(self) -> str:
        """Whose it is, in short."""
        if set(JUDGES) <= set(self.roles):
            return ", ".join(["judges", *(role for role in self.roles if role not in JUDGES)])
        return ", ".join(self.roles)

    @property
    def is_builtin(self) -> bool:
        return self.url.startswith(BUILTIN)

    @property
    def shown(self) -> str:
        """Its URL as it may be shown."""
        return shown_url(self.url)


def is_asked(config: RopdConfig, role: str) -> bool:
    """Whether a run of this configuration asks an endpoint at all."""
    if role in JUDGES and config.reward.rubric == 0:
        return False
    return not (role == "rubricator" and config.judge.rubrics == "dataset")


def section(config: RopdConfig, role: str) -> EndpointConfig:
    """The configuration section of a role."""
    return config.student.endpoint if role == "student.endpoint" else getattr(config, role)


def targets(config: RopdConfig) -> list[Target]:
    """The endpoints that are named, in the order of their roles; those of ``no_urls`` are left out."""
    bad = no_urls(config)
    found: dict[tuple[str, str, str | None], Target] = {}
    for role in ROLES:
        endpoint = section(config, role)
        if role in bad or not is_asked(config, role) or (endpoint.model is None and endpoint.base_url is None):
            continue
        url = base_url(endpoint)
        model = model_name(endpoint) if endpoint.model or url.startswith(BUILTIN) else None
        key = url, endpoint.api_key_env, model
        known = found.get(key)
        roles = (*(known.roles if known else ()), role)
        found[key] = Target(roles, known.endpoint if known else endpoint, url, model)
    named = {(target.url, target.endpoint.api_key_env) for target in found.values() if target.model is not None}
    return [t for t in found.values() if t.model is not None or (t.url, t.endpoint.api_key_env) not in named]


def no_urls(config: RopdConfig) -> dict[str, InputError]:
    """By role, why its base_url is none."""
    found = {}
    for role in ROLES:
        try:
            base_url(section(config, role))
        except InputError as fault:
            found[role] = fault
    return found


def unpriced(config: RopdConfig, target: Target) -> ConfigError | None:
    """Why nothing may be sent to a target: a limit on the cost that can't be kept."""
    if target.model is None:
        return None
    try:
        Shared.of(config).budget.price(target.model, target.url)
    except ConfigError as fault:
        return fault
    return None


@asynccontextmanager
async def asked(case: Case, endpoint: EndpointConfig, shared: Shared) -> AsyncIterator[ChatClient]:
    """A client that sends each request once and believes the first answer."""
    limits = endpoint.limits.model_copy(
        update={
            "timeout_s": min(case.timeout_s, endpoint.limits.timeout_s),
            "connect_timeout_s": min(case.timeout_s, endpoint.limits.connect_timeout_s),
            "max_retries": 0,
            "max_pause_s": 0.0,
        }
    )
    once = endpoint.model_copy(update={"limits": limits, "model": model_name(endpoint)})
    async with ChatClient.open(
        once, cache=None, retry=RetryPolicy(max_retries=0), environ=case.environ, shared=shared
    ) as client:
        yield client


async def at_once(calls: Sequence[Call[T]], concurrency: int, timeout_s: float) -> tuple[list[T | RopdError], Pace]:
    """What each call gave or the error it ended with, in order, and how fast they went."""
    watch = Stopwatch()

    async def outcome(call: Call[T]) -> T | RopdError:
        try:
            async with asyncio.timeout(timeout_s):  # waiting for a place counts too: nobody watches for long
                return await call()
        except TimeoutError:
            return ProviderUnreachable(f"no answer within {timeout_s:g} s", "ask a faster one, or raise --timeout")
        except RopdError as fault:
            return fault

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(outcome(call)) for call in calls]
    results = [task.result() for task in running]
    answered = sum(not isinstance(result, RopdError) for result in results)
    return results, Pace(answered, watch.seconds, min(concurrency, len(calls)))
