"""Questions that another process answers: one that may be slow, may hang, or imports what is heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ropd_cli.errors import RopdError


def said_by(command: Sequence[str], environ: Mapping[str, str], timeout_s: float) -> str | None:
    """What a command prints; None where there is no such command or it fails. Raises RopdError where it hangs."""
    try:
        done = subprocess.run(
            list(command), capture_output=True, text=True, errors="replace", env=dict(environ), timeout=timeout_s
        )
    except subprocess.TimeoutExpired as fault:
        raise RopdError(
            f"{command[0]} does not answer within {timeout_s:g} s",
            f"run {command[0]} by hand; is the driver all right?",
        ) from fault
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def module_says(module: str, environ: Mapping[str, str], timeout_s: float) -> dict[str, Any] | None:
    """The JSON object that ``python -m module`` prints last; None where it fails."""
    said = said_by([sys.executable, "-m", module], environ, timeout_s)
    try:
        return json.loads((said or "").strip().splitlines()[-1])
    except (IndexError, ValueError):
        return None
