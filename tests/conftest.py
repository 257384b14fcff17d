"""Fixtures that several folders of tests share."""

import itertools
import signal

import hypothesis
import pytest
from servers import ScriptedServer

import ropd_cli.builtin  # noqa: F401 (registers builtin://, as the command does)

_NUMBERS = itertools.count()

hypothesis.settings.register_profile("ropd", deadline=None)  # the machine may be busy; no test asserts a time
hypothesis.settings.load_profile("ropd")

# under nohup, and in the background of a script, the commands would inherit that these are ignored
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def server():
    """A scripted OpenAI-compatible server (see ``servers.py``)."""
    with ScriptedServer() as running:
        yield running


@pytest.fixture
def second_server():
    """Another such server."""
    with ScriptedServer() as running:
        yield running


@pytest.fixture
def run_judge(tmp_path):
    """Makes the owner of judging of a run, and the run's directory; see ``judged_runs.judge_of``."""
    from judged_runs import judge_of, write_inputs

    write_inputs(tmp_path)
    return lambda **settings: judge_of(tmp_path, **settings)


@pytest.fixture(autouse=True)
def no_surroundings(monkeypatch, tmp_path_factory):
    """No key, endpoint or cache of the machine's user plays a part in a test."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS"):
        monkeypatch.delenv(name, raising=False)
    for name in ("ROPD_TEACHER_MODEL", "ROPD_RUBRICATOR_MODEL", "ROPD_VERIFIER_MODEL", "ROPD_MODEL_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("ROPD_TEACHER_INDEX_PATH", raising=False)
    monkeypatch.setenv("ROPD_CACHE_DIR", str(tmp_path_factory.getbasetemp() / f"ropd-cache-{next(_NUMBERS)}"))
