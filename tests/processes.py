"""Starting ``ropd`` as a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys


def start_ropd(arguments, folder, environ):
    """The running command, its output in pipes, and with ears for Ctrl-C: what a shell starts in the background
    ignores SIGINT, and hands that on to all its children."""
    return subprocess.Popen(
        [sys.executable, "-m", "ropd_cli", *map(str, arguments)],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def mounts():
    """How to run a command in a mount namespace of its own; None where that is not allowed."""
    for wrap in (["unshare", "-m"], ["unshare", "-Urm"]):
        try:
            done = subprocess.run([*wrap, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, timeout=20)
        except OSError:
            return None
        if done.returncode == 0:
            return wrap
    return None
