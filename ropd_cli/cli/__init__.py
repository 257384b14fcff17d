"""The commands."""

import ropd_cli.builtin  # noqa: F401 (registers builtin://)
