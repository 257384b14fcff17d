"""Training: stock verl in a process of its own, rewarded group by group."""

import ropd_cli.builtin  # noqa: F401 (registers builtin://)
