"""What of a configuration may be a secret, and how it is shown.

Secrets: API keys, values of headers, texts in ``extra_body``, user and query of a URL. ``masked`` and ``shown_url`` are
for what we write ourselves, ``Secrets`` for what a server says back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

MASK = "***"
SECRET_CHARS = 12
"""A shorter "key" (vLLM users set EMPTY, or x) is no secret; striking it out would spoil words."""
REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""To an environment variable, in the value of a header."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SCHEME = re.compile(r"(?:Bearer|Basic|Token) ", re.IGNORECASE)
_CREDENTIAL = re.compile("auth|key|token|secret|cookie|passw", re.IGNORECASE)
"""Names of headers whose values are credentials."""

_FOLDERS = re.compile(r"(?<![\w/.])~?/(?!/)[^\s,'\"]*/")
"""The folders of an absolute path inside a text; a URL has none."""


def masked(value: Any, key: str = "") -> Any:
    """Return a configuration, or what stands in it under ``key``, with secrets masked and ``${NAME}`` kept."""
    if key == "extra_body":
        return _without_texts(value)
    if isinstance(value, Mapping):
        if key == "headers":
            return {name: _shown_header(str(text)) for name, text in value.items()}
        return {name: masked(part, str(name)) for name, part in value.items()}
    if key == "base_url" and value is not None:
        return shown_url(str(value))
    if key == "api_key_env" and value is not None and not is_variable(str(value)):
        return MASK  # somebody has put the key itself there
    return value


def public(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration as anybody may read it: secrets masked, of absolute paths the last name alone."""

    def shown(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: shown(part) for name, part in value.items()}
        if isinstance(value, list):
            return [shown(part) for part in value]
        return without_folders(value) if isinstance(value, str) else value

    return {name: shown(part) for name, part in masked(config).items()}


def without_folders(text: str) -> str:
    """Return a text with the last name alone of each absolute path in it."""
    text = text.removeprefix("file://")
    return Path(text).name if text.startswith(("/", "~")) and "\n" not in text else _FOLDERS.sub("", text)


def shown_url(url: str) -> str:
    """Return a URL as it may stand in a message or a file: without a user, a password, a query or a fragment."""
    try:
        parts = urlsplit(url)
        if parts.netloc:
            return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        pass
    # no URL, or USER:PASSWORD@HOST, which is a scheme and a path to urlsplit
    return url.rpartition("@")[2].partition("?")[0].partition("#")[0]


def is_variable(name: str) -> bool:
    """Return whether a text can be the name of an environment variable."""
    return _VARIABLE.fullmatch(name) is not None


def _shown_header(value: str) -> str:
    """Return a header's value, of which its ``${NAME}`` and the name of its scheme are shown."""
    scheme = match[0] if (match := _SCHEME.match(value)) else ""
    parts = REFERENCE.split(value[len(scheme) :])  # text, name, text, name, text
    return scheme + "".join(f"${{{part}}}" if k % 2 else MASK if part else "" for k, part in enumerate(parts))


def _without_texts(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_texts(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_texts(part) for part in value]
    return MASK if isinstance(value, str) else value


class Secrets:
    """Texts that must not get out. ``keys`` are struck out of messages, and where they are long enough to be keys out
    of a model's answers too; ``words`` may be anything, and the long ones are struck out of messages alone."""

    def __init__(self, keys: list[str], words: list[str] | None = None) -> None:
        written = {form for text in keys for form in _forms(text)}
        self._keys = sorted((text for text in written if len(text) >= SECRET_CHARS), key=len, reverse=True)
        written |= {form for text in words or () if len(text) >= SECRET_CHARS for form in _forms(text)}
        self._texts = sorted(written, key=len, reverse=True)

    def strike(self, text: str) -> str:
        """Return a message without them."""
        for secret in self._texts:
            text = text.replace(secret, MASK)
        return text

    def strike_from_answer(self, text: str) -> str:
        """Return a model's text without the keys."""
        for secret in self._keys:
            if secret in text:
                text = text.replace(secret, MASK)
        return text


def secrets_of(
    url: str, headers: Mapping[str, str], extra_body: Mapping[str, Any], variables: list[str], key: str
) -> Secrets:
    """Return the secrets of an endpoint. ``headers`` as configured; ``variables``: the values of their ``${NAME}``."""
    query = urlsplit(url).query
    keys = [key, *variables, query]
    words = [*_texts(extra_body), *(value for _, value in parse_qsl(query)), *re.split("[=&]", query)]
    for name, value in headers.items():
        literal = [part for text in REFERENCE.split(value)[::2] for part in (text, *text.split())]
        is_key = _CREDENTIAL.search(name) or REFERENCE.search(value)
        (keys if is_key else words).extend(part for part in literal if len(part) >= SECRET_CHARS)
    return Secrets(keys, words)


def _forms(text: str) -> Iterator[str]:
    """Yield a text as it is, and as it stands in JSON inside a text."""
    if text:
        plain = json.dumps(text)[1:-1]
        yield from (text, plain, plain.replace("/", "\\/"))


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in a JSON value; names of its fields are none."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, str):
        yield value
