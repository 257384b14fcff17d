"""API keys and header values: read from the environment, used in turn, and kept out of everything else."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping

from pydantic import SecretStr

from ropd_cli.config.models import EndpointConfig
from ropd_cli.errors import InputError
from ropd_cli.llm.urls import BUILTIN, OPENAI_URL

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
SECRET_CHARS = 12
"""A shorter "key" (vLLM users set EMPTY, or x) is no secret; striking it out would spoil words."""


class KeyRing:
    """The keys of one endpoint, by name of their variable: each request takes the next that is not resting."""

    def __init__(self, keys: dict[str, SecretStr]) -> None:
        self._keys = dict(keys)
        self._resting: dict[str, float] = {}
        self._order = list(keys)

    @classmethod
    def read(cls, endpoint: EndpointConfig, environ: Mapping[str, str]) -> KeyRing:
        """The keys in the variables that ``endpoint.api_key_env`` names; none where a server of one's own
        (``base_url`` is given) may need none. Raises InputError that names the variable."""
        if endpoint.base_url is not None and endpoint.base_url.startswith(BUILTIN):
            return cls({})
        names = [name.strip() for name in endpoint.api_key_env.split(",") if name.strip()]
        found = {name: _checked(name, environ[name].strip()) for name in names if environ.get(name, "").strip()}
        if len(names) > 1 and len(found) < len(names) and (found or endpoint.base_url is None):
            missing = next(name for name in names if name not in found)
            raise InputError(
                f"the environment variable {missing} is not set, and --api-key-env names it",
                f"export {missing}=…, or leave it out",
            )
        own_header = any(name.lower() in ("authorization", "api-key", "x-api-key") for name in endpoint.headers)
        if not found and endpoint.base_url is None and not own_header:
            raise InputError(
                f"no API key for {OPENAI_URL}: the environment variable {endpoint.api_key_env} is not set",
                f"export {endpoint.api_key_env}=…, or name another variable with --api-key-env, "
                "or give --base-url for your own server",
            )
        return cls(found)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, name: str) -> bool:
        return name in self._order

    def values(self) -> list[str]:
        """All keys, to be struck out of texts."""
        return [key.get_secret_value() for key in self._keys.values()]

    def take(self) -> tuple[str, str] | None:
        """(name of the variable, key) of the next request; None without keys."""
        if not self._order:
            return None
        now = time.monotonic()
        for _ in self._order:
            name = self._order.pop(0)
            self._order.append(name)
            if self._resting.get(name, 0.0) <= now:
                return name, self._keys[name].get_secret_value()
        return self._order[0], self._keys[self._order[0]].get_secret_value()

    def rest(self, name: str, seconds: float) -> float:
        """The provider has had enough of one key for now. Returns the seconds until any key may be used."""
        now = time.monotonic()
        self._resting[name] = max(self._resting.get(name, 0.0), now + seconds)
        return max(0.0, min(self._resting.get(each, 0.0) for each in self._order) - now)

    def drop(self, name: str) -> bool:
        """A key was refused: go on with the others. False where it was the last."""
        if name in self._order:
            if len(self._order) < 2:
                return False
            self._order.remove(name)
        return True


class Secrets:
    """Texts that must not get out: keys, values of headers, the query of the URL."""

    def __init__(self, texts: list[str]) -> None:
        written = set()
        for text in texts:
            if text:  # as it is, and as it stands in JSON inside a text
                written |= {text, json.dumps(text)[1:-1], json.dumps(text)[1:-1].replace("/", "\\/")}
        self._texts = sorted(written, key=len, reverse=True)
        self._long = [text for text in self._texts if len(text) >= SECRET_CHARS]

    def strike(self, text: str) -> str:
        """A message without them."""
        for secret in self._texts:
            text = text.replace(secret, "***")
        return text

    def strike_from_answer(self, text: str) -> str:
        """A model's text without those that are long enough to be secrets."""
        for secret in self._long:
            if secret in text:
                text = text.replace(secret, "***")
        return text


def headers_of(endpoint: EndpointConfig, environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """(headers to send, those values that are secrets) of an endpoint's ``headers``.

    ``${NAME}`` is the value of an environment variable, and a secret. Raises InputError for one that is not
    set and for what is no header.
    """
    headers, secrets = {}, []
    for name, value in endpoint.headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise InputError(f"headers: {name!r} is no name of a header", "letters, digits and dashes")
        for variable in _REFERENCE.findall(value):
            if not environ.get(variable, "").strip():
                raise InputError(
                    f"headers.{name}: the environment variable {variable} is not set", f"export {variable}=…"
                )
            secrets.append(environ[variable].strip())
        filled = _REFERENCE.sub(lambda match: environ[match[1]].strip(), value)
        if not (filled.isascii() and filled.isprintable()):
            raise InputError(f"headers.{name}: holds characters that no header has", "printable ASCII")
        headers[name] = filled
    return headers, secrets


def _checked(name: str, key: str) -> SecretStr:
    if not (key.isascii() and key.isprintable()):
        raise InputError(
            f"{name}: holds characters that no API key has", f"set {name} again, without quotes or line ends"
        )
    return SecretStr(key)
