"""The endpoints of a configuration, each once, and how they are asked: no retries, no cache, little patience."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from ropd_cli.config import EndpointConfig, RopdConfig
from ropd_cli.config.masking import shown_url
from ropd_cli.doctor.check import Case
from ropd_cli.errors import InputError, ProviderUnreachable, RopdError
from ropd_cli.llm.chat import ChatReply, ChatRequest
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.shared import Shared
from ropd_cli.llm.urls import BUILTIN, base_url, builtin_name
from ropd_cli.methods import method_of

ROLES = ("teacher", "rubricator", "verifier", "student.endpoint")
JUDGES = ("rubricator", "verifier")

Question = tuple[ChatRequest, Callable[[ChatReply], Any]]
"""A request, and what reads the reply."""


@dataclass(frozen=True)
class Target:
    """One endpoint and the sections that name it."""

    roles: tuple[str, ...]
    endpoint: EndpointConfig
    url: str

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
    """Return whether a run of this configuration asks an endpoint at all."""
    return role not in JUDGES or role in method_of(config).needs(config).roles


def endpoint_of(config: RopdConfig, role: str) -> EndpointConfig:
    """Return the configuration section of a role; the built-in provider's model is filled in."""
    endpoint: EndpointConfig = attrgetter(role)(config)
    url = endpoint.base_url or ""
    if endpoint.model or not url.startswith(BUILTIN):
        return endpoint
    return endpoint.model_copy(update={"model": builtin_name(url).partition("?")[0]})


def url_fault(endpoint: EndpointConfig) -> InputError | None:
    """Return why an endpoint's base_url is none."""
    try:
        base_url(endpoint)
    except InputError as fault:
        return fault
    return None


def targets(config: RopdConfig) -> list[Target]:
    """Return the endpoints that are named, in the order of their roles; those without a usable URL are left out."""
    roles: dict[tuple[str, str, str | None], list[str]] = {}
    for role in ROLES:
        endpoint = endpoint_of(config, role)
        if is_asked(config, role) and (endpoint.model or endpoint.base_url) and url_fault(endpoint) is None:
            roles.setdefault((base_url(endpoint), endpoint.api_key_env, endpoint.model), []).append(role)
    # A section without a model adds nothing where another asks the same server for one.
    with_model = {(url, key_name) for url, key_name, model in roles if model is not None}
    return [
        Target(tuple(names), endpoint_of(config, names[0]), url)
        for (url, key_name, model), names in roles.items()
        if model is not None or (url, key_name) not in with_model
    ]


def impatient(case: Case, endpoint: EndpointConfig) -> EndpointConfig:
    """Return an endpoint whose requests are sent once and do not wait longer than the case does."""
    limits = {name: min(case.timeout_s, getattr(endpoint.limits, name)) for name in ("timeout_s", "connect_timeout_s")}
    limits |= {"max_retries": 0, "max_pause_s": 0.0}
    return endpoint.model_copy(update={"limits": endpoint.limits.model_copy(update=limits)})


def open_client(case: Case, endpoint: EndpointConfig) -> ChatClient:
    """Return a client that sends each request once and believes the first answer."""
    return ChatClient.open(impatient(case, endpoint), cache=None, shared=Shared(case.budget, lambda _line: None))


async def ask_all(client: ChatClient, questions: Sequence[Question], timeout_s: float) -> list[Any]:
    """Ask all questions at once; return what was read in the replies, in order, or in its place the RopdError."""

    async def attempt(request: ChatRequest, read: Callable[[ChatReply], Any]) -> Any:
        try:
            async with asyncio.timeout(timeout_s):  # waiting for a place counts too: nobody watches for long
                return (await client.ask(request, read))[1]
        except TimeoutError:
            return ProviderUnreachable(f"no answer within {timeout_s:g} s", "ask a faster one, or raise --timeout")
        except RopdError as fault:
            return fault

    return await asyncio.gather(*(attempt(*question) for question in questions))
