"""However a training ends, nothing of it is left behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from processes import start_ropd
from tiny_runs import write_inputs

from ropd_cli.records.outputs import sole_writer

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]
pytest.importorskip("verl", reason="needs the CPU stack: make env")


@pytest.fixture(scope="module")
def files(shell, tiny_model):
    write_inputs(shell, 4)
    return shell


def command(tiny_model, out, **settings):
    settings = {
        "data.prompts": "prompts.jsonl",
        "data.index": "teacher.index",
        "student.model_path": tiny_model,
        "judge.m": 1,
        "train.prompts_per_step": 4,
        **settings,
    }
    sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    return ["train", "--config", "quickstart", "--out", out, *map(str, sets)]


def processes_of(run):
    """Processes that a run has started and that still live."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if str(run).encode() in (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes():
                    state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                    found += [entry.name] if state != "Z" else []
            except OSError:
                continue
    return found


def test_a_silent_process_is_stopped_by_the_watchdog(files, tiny_model):
    _, err = files.ropd(*command(tiny_model, "silent", **{"train.watchdog_s": 0.4}), code=1)
    lines = [line for line in err.splitlines() if line.startswith(("ropd: error:", "hint:"))]
    assert len(lines) == 2 and "was silent for 0.4 s" in lines[0] and "--resume" in lines[1]
    assert processes_of(files.folder / "silent") == []


def test_a_prompt_that_is_too_long_is_named_and_nothing_is_cut(files, tiny_model):
    _, err = files.ropd(*command(tiny_model, "long", **{"data.max_prompt_tokens": 4}), code=2)
    assert "4 of 4 prompts have more tokens than data.max_prompt_tokens 4: p0 (5)" in err and "Traceback" not in err


@pytest.mark.long  # starts of verl
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL], ids=lambda sent: sent.name)
def test_ctrl_c_and_kill_end_everything(files, tiny_model, sent):
    run = files.folder / sent.name
    child = start_ropd(command(tiny_model, sent.name), files.folder, files.environ)
    deadline = time.monotonic() + 120
    while len(processes_of(run)) < 4 and time.monotonic() < deadline:  # Ray's daemons are there
        assert child.poll() is None
        time.sleep(0.5)
    assert len(processes_of(run)) >= 4
    _, err = files.ropd(*command(tiny_model, sent.name), "--resume", code=2)
    error, hint = err.splitlines()
    assert f"is being written by ropd train (process {child.pid} on " in error and hint.startswith("hint: ")
    os.kill(child.pid, sent)
    _, err = child.communicate(timeout=90)
    assert child.returncode == (130 if sent == signal.SIGINT else -sent) and "Traceback" not in err
    deadline = time.monotonic() + 60
    while sent == signal.SIGKILL and processes_of(run) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert processes_of(run) == []
    assert (run / ".lock").exists() == (sent == signal.SIGKILL)
    with sole_writer(run, directory=True):
        pass
