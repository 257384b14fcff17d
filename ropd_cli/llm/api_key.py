"""API keys and header values: read from the environment, and kept out of everything else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr

from ropd_cli.config.masking import REFERENCE, Secrets, is_variable, secrets_of, shown_url
from ropd_cli.config.models import EndpointConfig
from ropd_cli.errors import InputError
from ropd_cli.llm.urls import BUILTIN, OPENAI_URL, base_url

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
QUOTED_CHARS = 300
"""So much of a server's words stands in a message."""


@dataclass(frozen=True)
class Peer:
    """Who is spoken to: what is sent to be let in, and what may be said of it in messages."""

    url: str
    key_name: str = ""
    key: SecretStr | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The configuration's, filled in."""
    secrets: Secrets = field(default_factory=lambda: Secrets([]), repr=False)
    """Texts to be struck out of what a server says."""

    @classmethod
    def read(cls, endpoint: EndpointConfig, environ: Mapping[str, str]) -> Peer:
        """Return the peer with its key and headers. Raises InputError for one that is missing, or no key or header."""
        url = base_url(endpoint)
        key = api_key(endpoint, environ)
        headers, variables = headers_of(endpoint, environ)
        text = key.get_secret_value() if key is not None else ""
        secrets = secrets_of(url, endpoint.headers, endpoint.extra_body, variables, text)
        return cls(url, endpoint.api_key_env, key, headers, secrets)

    def clean(self, text: str) -> str:
        """Return one short line of a server's text, without secrets."""
        text = " ".join(self.secrets.strike(text).split())
        return text if len(text) <= QUOTED_CHARS else text[:QUOTED_CHARS] + " …"

    @property
    def shown(self) -> str:
        return shown_url(self.url)


def api_key(endpoint: EndpointConfig, environ: Mapping[str, str]) -> SecretStr | None:
    """Return the key in the variable that ``endpoint.api_key_env`` names; None where there is none and none is needed
    (a server of one's own: ``base_url`` is given). Raises InputError that names the variable."""
    if endpoint.base_url is not None and endpoint.base_url.startswith(BUILTIN):
        return None
    name = endpoint.api_key_env.strip()
    if "," in name:
        raise InputError(
            "api_key_env holds a comma: an endpoint has one key, so one variable",
            "name one; a router such as LiteLLM proxy spreads requests over several accounts",
        )
    if name and not is_variable(name):  # not shown: somebody has put the key itself there
        raise InputError(
            "api_key_env is not the name of an environment variable",
            "put the key into a variable, for example OPENAI_API_KEY, and name that",
        )
    key = environ.get(name, "").strip()
    if not key:
        own_header = any(each.lower() in ("authorization", "api-key", "x-api-key") for each in endpoint.headers)
        if endpoint.base_url is None and not own_header:
            raise InputError(
                f"no API key for {OPENAI_URL}: the environment variable {name} is not set",
                f"export {name}=…, or name another variable by api_key_env (--api-key-env), or your own server by "
                "base_url (--base-url)",
            )
        return None
    if not (key.isascii() and key.isprintable()):
        raise InputError(
            f"{name}: holds characters that no API key has", f"set {name} again, without quotes or line ends"
        )
    return SecretStr(key)


def variables_sent(endpoint: EndpointConfig, environ: Mapping[str, str]) -> list[str]:
    """Return the names of the environment variables whose values an endpoint's requests carry."""
    if (endpoint.base_url or "").startswith(BUILTIN):
        return []
    names = [
        endpoint.api_key_env.strip(),
        *(name for text in endpoint.headers.values() for name in REFERENCE.findall(text)),
    ]
    return [name for name in dict.fromkeys(names) if environ.get(name, "").strip()]


def headers_of(endpoint: EndpointConfig, environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return (headers to send, those values that are secrets) of an endpoint's ``headers``.

    ``${NAME}`` is the value of an environment variable, and a secret. Raises InputError for one that is not
    set and for what is no header.
    """
    headers, secrets = {}, []
    for name, value in endpoint.headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise InputError(f"headers: {name!r} is no name of a header", "letters, digits and dashes")
        for variable in REFERENCE.findall(value):
            if not environ.get(variable, "").strip():
                raise InputError(
                    f"headers.{name}: the environment variable {variable} is not set", f"export {variable}=…"
                )
            secrets.append(environ[variable].strip())
        filled = REFERENCE.sub(lambda match: environ[match[1]].strip(), value)
        if not (filled.isascii() and filled.isprintable()):
            raise InputError(f"headers.{name}: holds characters that no header has", "printable ASCII")
        headers[name] = filled
    return headers, secrets
