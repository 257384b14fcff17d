"""``ropd serve-judge --model`` with real vLLM. A start takes half a minute or more, so ``make test`` has one for all
cases, of a tiny random model with a long context: a key, rubrics and verdicts under structured output, the share of
prompt tokens that the form ``shared-prefix`` computes, and the death of its engine. ``make test-all`` has three more:

* the small real model: more rubrics and verdicts, then Ctrl-C. ``ROPD_TEST_JUDGED=50`` is the full length, half an hour
  where the processor has no AVX-512;
* a model without weights; and a start that is stopped by SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes import start_ropd

from ropd_cli.config import JudgeConfig, load_config
from ropd_cli.llm.client import ChatClient
from ropd_cli.method.replies import MAX_CRITERIA, MIN_CRITERIA
from ropd_cli.records.schemas import Answer, Group, Message, prompt_hash
from ropd_cli.stages.rubricator import Rubricator
from ropd_cli.stages.verifier import Verifier

pytestmark = [pytest.mark.training, pytest.mark.timeout(900)]
pytest.importorskip("vllm", reason="needs the CPU stack: make env")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
START_S = 300
KEY = "s3cret"
CONTEXT = 65_536
# the penalty keeps so small a model from saying one thing until the context is full
WEAK = """--override-generation-config '{"repetition_penalty": 1.1}'"""
GROUPS = int(os.environ.get("ROPD_TEST_JUDGED", "12"))
TASKS = [  # question, teacher answers, rollouts
    (
        "What is 17 * 23?",
        ["17 * 23 = 17 * 20 + 17 * 3 = 340 + 51, so the result is \\boxed{391}."],
        ["391", "I think it is $\\boxed{381}$.", '17 * 23 is "about" 400'],
    ),
    (
        "Why is the sky blue?",
        ["Air scatters short waves more strongly (Rayleigh scattering), so blue reaches us from all sides."],
        ["Because the sea is mirrored in it.", "Rayleigh: the intensity grows as $1/\\lambda^4$."],
    ),
    (
        "Write a Python function that reverses a string.",
        ["```python\ndef reverse(text):\n    return text[::-1]\n```", "def reverse(s): return ''.join(reversed(s))"],
        ["print(s)", "```python\ndef f(s):\n\treturn s[-1:0:-1]\n```"],
    ),
    (
        "A patient has a fever of 39.5 °C and a stiff neck. What has to be ruled out first?",
        ["Bacterial meningitis, an emergency: blood cultures, antibiotics at once, lumbar puncture."],
        ["The flu.", "Meningitis.", 'A cold; drink tea and wait "two days".'],
    ),
    ("把“早上好”翻译成英文和德文。", ["Good morning; Guten Morgen。"], ["good morning / guten Morgen", "buenos días"]),
]


@pytest.fixture(scope="module")
def long_model(small_model, tmp_path_factory):
    """A random Llama of one layer with the small model's tokenizer and a context of CONTEXT tokens."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("long") / "model"
    tokenizer = AutoTokenizer.from_pretrained(small_model)
    tokenizer.model_max_length = CONTEXT
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    end = tokenizer.eos_token_id
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=CONTEXT, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=end, pad_token_id=end, dtype="float32",
    )  # fmt: skip
    LlamaForCausalLM(config).float().save_pretrained(folder)
    return folder


class Serving:
    """A running ``ropd serve-judge``, and what it printed once it was ready."""

    def __init__(self, child):
        self.child = child
        lines = []
        while not lines or lines[-1].rstrip() not in ("}", ""):
            lines.append(child.stdout.readline())
        assert lines[-1], f"it ended: {child.stderr.read()}"
        self.said = json.loads("".join(lines))
        self.url, self.root = self.said["url"], self.said["url"].removesuffix("/v1")
        self.processes = below(child.pid)

    def get(self, path, key=None):
        request = urllib.request.Request(self.root + path, headers={"Authorization": f"Bearer {key}"} if key else {})
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read()

    def ends(self, timeout_s=90):
        """(exit code, stderr) once it has ended; nothing of it is left."""
        _, err = self.child.communicate(timeout=timeout_s)
        assert [pid for pid in self.processes if alive(pid)] == []
        assert "Traceback" not in err
        return self.child.returncode, err


@contextmanager
def serving(shell, model, *options, **environ):
    """``ropd serve-judge --model`` that is ready; killed where the test fails before it has ended."""
    command = ["serve-judge", "--model", model, "--port", 0, "--json", *options]
    child = start_ropd(command, shell.folder, shell.environ | environ)
    try:
        yield Serving(child)
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            child.communicate(timeout=90)


def stat(pid):
    """(state, parent) of a process; None where there is none."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return state, int(parent)


def alive(pid):
    found = stat(pid)
    return found is not None and found[0] != "Z"


def below(root):
    """All processes that a process started, and theirs."""
    parents = {int(entry.name): stat(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    found = [root]
    for pid in found:
        found += [child for child, known in parents.items() if known is not None and known[1] == pid]
    return found[1:]


def title(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()


def group(number):
    """A small group; no two are alike."""
    question, teacher, rollouts = TASKS[number % len(TASKS)]
    prompt = (Message(role="user", content=question),)
    texts = [*rollouts[:-1], f"{rollouts[-1]} (attempt {number})"]
    return Group(
        uid=f"g{number}",
        prompt=prompt,
        raw_prompt_hash=prompt_hash(prompt),
        teacher_answers=tuple(teacher),
        rollouts=tuple(Answer(text=text, finish_reason="stop") for text in texts),
    )


async def judged(config, numbers, environ, form):
    """Rubric and verdicts of groups, all at once, each request sent once and nothing kept."""
    settings = JudgeConfig(form=form)
    async with (
        ChatClient.open(config.rubricator, cache=None, environ=environ) as writer,
        ChatClient.open(config.verifier, cache=None, environ=environ) as judge,
        asyncio.TaskGroup() as tasks,
    ):
        rubricator, verifier = Rubricator(writer, settings), Verifier(judge, settings)

        async def one(number):
            rubric = await rubricator.rubric(group(number))
            return rubric, await verifier.verdicts(group(number), rubric)

        running = [tasks.create_task(one(number)) for number in numbers]
    return [task.result() for task in running], writer.stats, judge.stats


def keeps_to_the_schema(settings, count, form):
    """Rubrics and verdicts of so many groups, by the settings that ``serve-judge`` printed: each at the first try."""
    overrides = ("rubricator.limits.max_retries=0", "verifier.limits.max_retries=0")
    environ = {"MY_KEY": KEY}
    config = load_config(settings, overrides=overrides, environ=environ)
    began = time.monotonic()
    records, rubrics, verdicts = asyncio.run(judged(config, range(count), environ, form))
    print(f"\n{count} rubrics and {count} verdicts in {time.monotonic() - began:.0f} s; {rubrics}; {verdicts}")
    assert (rubrics.requests_sent, rubrics.failures, rubrics.retries) == (count, 0, 0)
    answers = sum(len(group(k).rollouts) + len(group(k).teacher_answers) for k in range(count))
    sent = answers if form == "paper" else count
    assert (verdicts.requests_sent, verdicts.failures, verdicts.retries) == (sent, 0, 0)
    for number, (rubric, verdict) in enumerate(records):
        assert MIN_CRITERIA <= len(rubric.rubric.rubrics) <= MAX_CRITERIA
        assert len(verdict.rewards) == len(group(number).rollouts)
        assert all(0 <= reward <= 1 for reward in verdict.rewards)
    assert verdicts.cached_tokens > 0  # the server says what its prefix cache held


def shared_prefix(server, *options):
    """What ``benchmarks/shared_prefix.py`` measures at a server."""
    command = [sys.executable, BENCHMARKS / "shared_prefix.py", "--base-url", server.url, "--model", "judge", "--json"]
    environ = {**os.environ, "OPENAI_API_KEY": KEY}
    done = subprocess.run([*command, *options], env=environ, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    print("\n", done.stdout)
    found = json.loads(done.stdout)
    for form in found["forms"].values():
        assert form["asked"] == form["prompt_tokens"]  # the counters count tokens, and these requests alone
        assert form["prompt_tokens"] > found["groups"] * 2 * 12 * found["answer_bytes"] / 5
    return found["share"]


@pytest.fixture(scope="module")
def server(shell, long_model):
    """The server of the tests of ``make test``; the last of them ends it."""
    options = ("--kv-cache-gb", 1, "--served-model-name", "judge", "--api-key-env", "MY_KEY")
    with serving(shell, long_model, *options, MY_KEY=KEY) as server:
        yield server


def test_a_key_is_asked_for_and_named_in_the_settings_but_not_said(server):
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.get("/v1/models")
    assert refused.value.code == 401 and server.get("/v1/models", KEY)[0] == 200
    assert KEY not in json.dumps(server.said) and server.said["settings"]["verifier"]["api_key_env"] == "MY_KEY"
    assert server.get("/health")[0] == 200
    assert server.said["model"] == "judge" and server.said["max_model_len"] == CONTEXT
    assert {"VLLM::EngineCore", "VLLM::Worker"} <= set(map(title, server.processes))


def test_rubrics_and_verdicts_keep_to_the_schema(shell, server):
    (shell.folder / "c.yaml").write_text(json.dumps(server.said["settings"]))
    # one answer a request: of several, a random model does not say which is which
    keeps_to_the_schema(shell.folder / "c.yaml", 2, "paper")


def test_a_shared_prefix_is_computed_once(server):
    assert shared_prefix(server, "--groups", "1") <= 0.55


def test_a_dead_engine_ends_it(server):
    os.kill(next(pid for pid in server.processes if title(pid) == "VLLM::EngineCore"), signal.SIGKILL)
    code, err = server.ends()
    assert code == 1 and "ropd: error: vLLM ended" in err and "EngineDeadError" in err


@pytest.mark.long
def test_many_rubrics_and_verdicts_and_ctrl_c_leaves_nothing(shell, small_model):
    with serving(shell, small_model, "--kv-cache-gb", 4, "--log", "judge.log", "--vllm-arg", WEAK) as server:
        assert server.said["max_model_len"] == 8192
        (shell.folder / "c.yaml").write_text(json.dumps(server.said["settings"]))
        keeps_to_the_schema(shell.folder / "c.yaml", GROUPS, JudgeConfig().form)
        server.child.send_signal(signal.SIGINT)
        code, err = server.ends()
    assert code == 130 and "judge.log" in err and (shell.folder / "judge.log").stat().st_size > 0


@pytest.mark.long
def test_a_model_without_weights_is_one_line(shell, tiny_model):
    broken = shell.folder / "broken"
    shutil.copytree(tiny_model, broken)
    for file in broken.glob("*.safetensors"):
        file.unlink()
    out, err = shell.ropd("serve-judge", "--model", broken, "--port", 0, "--quiet", code=1)
    error, hint = err.splitlines()
    assert out == "" and error.startswith("ropd: error: vLLM ended") and "annot find any model weights" in error
    log = Path(hint.split(": ")[-1])
    assert log.parent == shell.folder / "cache" / "logs" and "annot find any model weights" in log.read_text()


@pytest.mark.long
def test_a_start_that_is_stopped_leaves_nothing(shell, tiny_model):
    child = start_ropd(["serve-judge", "--model", tiny_model, "--port", 0], shell.folder, shell.environ)
    deadline = time.monotonic() + START_S
    # until the server and its engine are there
    while len(started := below(child.pid)) < 2 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=90)
    assert len(started) >= 2 and not any(map(alive, started))
    assert (child.returncode, out) == (143, "") and "Traceback" not in err
