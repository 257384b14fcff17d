"""`ropd serve-judge --model` without vLLM: its options, the child's command line and environment, the settings."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import yaml

from ropd_cli.config import load_config
from ropd_cli.engines.judge_server import (
    JudgeOptions,
    JudgeServer,
    child_command,
    child_environment,
    settings,
    settings_text,
)
from ropd_cli.engines.vllm_sampling import installed_device
from ropd_cli.errors import InputError
from ropd_cli.util.processes import Child, last_error


@pytest.fixture
def model(tmp_path):
    """A folder that could hold a model."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def serve_judge(*arguments, **environ):
    command = [sys.executable, "-m", "ropd_cli", "serve-judge", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environ}, timeout=60)


def value(command, name):
    return command[command.index(name) + 1]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--dtype", "auto", "--log", "x"], "--dtype, --log: only with --model"),
        (["--no-thinking"], "--thinking: only with --model"),
        (["--vllm-arg", "--seed=1"], "--vllm-arg: only with --model"),
        (["checkable", "--model", "some/name"], "'checkable' is a built-in provider"),
        (["--model", "./nowhere"], "no model in ./nowhere (config.json is missing)"),
        (["--model", "MODEL", "--api-key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY is not set"),
        (["--model", "MODEL", "--port", 0, "--vllm-arg", "--api_key=secret"], "--api-key is set by ropd serve-judge"),
        (["--model", "MODEL", "--port", 0, "--vllm-arg", "--x 'y"], "No closing quotation"),
    ],
)
def test_what_does_not_go_together_is_one_line_and_a_hint(model, options, complaint):
    done = serve_judge(*(model if option == "MODEL" else option for option in options))
    error, hint = done.stderr.strip().splitlines()
    assert done.returncode == 2 and done.stdout == ""
    assert error.startswith("ropd: error: ") and complaint in error and hint.startswith("hint: ")
    assert "secret" not in error


def test_sizes_of_the_other_kind_of_device_are_refused(model):
    other, right = ("--gpu-memory-utilization", "--kv-cache-gb")
    if installed_device() == "gpu":
        other, right = right, other
    done = serve_judge("--model", model, other, 1)
    assert done.returncode == 2 and other in done.stderr and f"hint: use {right}" in done.stderr


def test_a_port_that_is_taken_is_said_before_anything_starts(model):
    pytest.importorskip("vllm", reason="without it that is what is said")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = serve_judge("--model", model, "--port", port)
    assert done.returncode == 2 and f"can't listen on 127.0.0.1:{port}" in done.stderr


def test_the_command_line_is_set_up_for_judging(model):
    command = child_command(JudgeOptions(str(model), "gpu", port=7))
    assert command[:3] == [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    assert "--enable-prefix-caching" in command
    assert json.loads(value(command, "--structured-outputs-config")) == {
        "backend": "guidance",
        "disable_any_whitespace": True,
    }
    assert value(command, "--served-model-name") == value(command, "--model") == str(model)
    assert (value(command, "--port"), value(command, "--max-num-seqs")) == ("7", "64")
    for absent in ("--max-model-len", "--default-chat-template-kwargs", "--enforce-eager"):
        assert absent not in command


def test_options_reach_the_command_line_and_further_ones_have_the_last_word(model):
    options = JudgeOptions(
        "org/name",
        "cpu",
        served_model_name="judge",
        max_model_len=9,
        max_num_seqs=3,
        dtype="bfloat16",
        tensor_parallel_size=2,
        thinking=False,
        vllm_args=("--seed 5", "--dtype=float32", """--hf-overrides '{"a": "b c"}'"""),
    )
    command = child_command(options)
    given = ("--model", "--served-model-name", "--max-model-len", "--max-num-seqs", "--tensor-parallel-size", "--dtype")
    assert [value(command, name) for name in given] == ["org/name", "judge", "9", "3", "2", "bfloat16"]
    assert json.loads(value(command, "--default-chat-template-kwargs")) == {"enable_thinking": False}
    assert command[-5:] == ["--seed", "5", "--dtype=float32", "--hf-overrides", '{"a": "b c"}']
    assert "--gpu-memory-utilization" not in command


def test_the_environment_is_explicit_and_the_key_is_in_it_alone(model):
    around = {"PATH": "/bin", "JUDGE_KEY": "s3cret", "VLLM_API_KEY": "another"}
    options = JudgeOptions(str(model), "cpu", kv_cache_gb=3, api_key_env="JUDGE_KEY")
    environment = child_environment(options, around)
    assert environment["VLLM_API_KEY"] == "s3cret" and environment["PATH"] == "/bin"
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "3" and environment["HF_HUB_OFFLINE"] == "1"
    assert not any("s3cret" in word for word in child_command(options))
    assert "s3cret" not in settings_text(settings(options, "http://x/v1"))
    with pytest.raises(InputError, match="JUDGE_KEY is not set"):
        child_environment(options, {"JUDGE_KEY": " "})
    gpu = child_environment(JudgeOptions("org/name", "gpu"), {})
    assert not any(name.startswith("VLLM_CPU") for name in gpu) and "HF_HUB_OFFLINE" not in gpu


@pytest.mark.parametrize(("device", "timeout_s"), [("gpu", 600), ("cpu", 3600)])
def test_the_settings_load_and_cost_nothing(model, tmp_path, device, timeout_s):
    options = JudgeOptions(str(model), device, max_num_seqs=5)
    text = settings_text(settings(options, "http://127.0.0.1:1/v1"))
    assert yaml.safe_load(text) == settings(options, "http://127.0.0.1:1/v1") and "&" not in text
    (tmp_path / "c.yaml").write_text(text)
    config = load_config(tmp_path / "c.yaml", environ={})
    for endpoint in (config.rubricator, config.verifier):
        assert (endpoint.model, endpoint.base_url) == (str(model), "http://127.0.0.1:1/v1")
        assert (endpoint.limits.concurrency, endpoint.limits.timeout_s) == (5, timeout_s)
        assert endpoint.api_key_env == "VLLM_API_KEY"  # and not the teacher's OPENAI_API_KEY
    assert (config.rubricator.sampling.temperature, config.verifier.sampling.temperature) == (0.7, 0.0)
    price = config.prices[str(model)]
    assert price.input == price.output == 0


def test_a_folder_is_named_by_its_whole_path(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert JudgeOptions("model", "gpu").name == str(model)
    assert JudgeOptions("org/name", "gpu").name == "org/name"
    assert JudgeOptions("model", "gpu", served_model_name="judge").name == "judge"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:7/v1"),
        ("::1", "http://[::1]:7/v1"),
        ("0.0.0.0", f"http://{socket.gethostname()}:7/v1"),
    ],
)
def test_the_url_is_one_that_can_be_called(host, url):
    options = JudgeOptions("org/name", "gpu", host=host, port=7)
    assert JudgeServer(options, None, "").url == url


def test_a_child_ends_with_what_it_started_in_other_sessions(tmp_path):
    started = "import subprocess, sys; subprocess.Popen(['sleep', '300'], start_new_session=True).wait()"
    children = [Child([sys.executable, "-c", started], os.environ, tmp_path / "log") for _ in range(2)]
    while not all(len(child._living()) == 2 for child in children):
        assert all(child.process.poll() is None for child in children)
        time.sleep(0.05)
    children[0].end()
    assert children[0]._living() == [] and len(children[1]._living()) == 2
    children[1].end()
    assert children[1]._living() == [] and children[1].process.returncode == -signal.SIGTERM


LOG = """\
ValueError: of an earlier run
(APIServer pid=6) WARNING 11-23 15:32:39 [utils.py:299] This can cause errors like `OSError: Too many open files`.
(EngineCore pid=7) INFO 11-23 15:32:40 [core.py:121] Initializing a V1 LLM engine
(EngineCore pid=7) ERROR 11-23 15:32:41 [core.py:1108] Traceback (most recent call last):
(EngineCore pid=7) ERROR 11-23 15:32:41 [core.py:1108]     raise ValueError(
(EngineCore pid=7) ERROR 11-23 15:32:41 [core.py:1108] ValueError: the KV cache is too small
(APIServer pid=6)     raise RuntimeError(
(APIServer pid=6) RuntimeError: Engine core initialization failed. See root cause above.
/usr/lib/resource_tracker.py:254: UserWarning: resource_tracker: There appear to be 1 leaked Error objects
  warnings.warn('resource_tracker: There appear to be %d '
"""


def test_the_last_error_of_a_log_is_the_cause(tmp_path):
    log = tmp_path / "log"
    log.write_text(LOG)
    assert last_error(log, LOG.index("(EngineCore")) == "ValueError: the KV cache is too small"
    assert last_error(log, LOG.index("/usr/lib")) == "warnings.warn('resource_tracker: There appear to be %d '"
    assert last_error(log, len(LOG)) == "no output"
    log.write_text(LOG.replace("ValueError: the KV", "the KV"))
    assert last_error(log, LOG.index("(EngineCore")).startswith("RuntimeError: Engine core initialization failed")
    log.write_text("ValueError: long ago\n" + "GET /health\n" * 1000 + "vllm.EngineDeadError: EngineCore is dead\n")
    assert last_error(log, 0) == "vllm.EngineDeadError: EngineCore is dead"
    log.write_text(
        "pydantic.ValidationError: 1 validation error for M\n  Value error, no model [type=value_error, x]\n"
    )
    assert last_error(log, 0) == "no model"
    log.write_text(
        "[rank1]: ValueError: no such strategy\ntorch.distributed.elastic.multiprocessing.errors.ChildFailedError:\n"
    )
    assert last_error(log, 0) == "ValueError: no such strategy"
    log.write_text("usage: server\nserver.py: error: unrecognized arguments: --x\n")
    assert last_error(log, 0) == "server.py: error: unrecognized arguments: --x"
