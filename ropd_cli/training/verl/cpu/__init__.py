"""verl and vLLM without a GPU: a platform for verl and the patches it can't do without.

Opt-in by VERL_PLATFORM=cpu, inert otherwise. Each patch is described in docs/cpu.md.
"""

from __future__ import annotations

import os


def wanted() -> bool:
    """Whether this process is asked to run verl on the CPU."""
    return os.environ.get("VERL_PLATFORM", "").lower() == "cpu"
