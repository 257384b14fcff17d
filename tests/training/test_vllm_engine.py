"""Sampling from a local checkpoint on stock vLLM, as ``ropd rollout`` does it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil

import pytest
from conftest import WORDS

from ropd_cli.engines.vllm_sampling import EngineOptions, LocalModel, SamplingOptions, installed_device
from ropd_cli.errors import PromptRefused, RopdError
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import Message

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]
pytest.importorskip("vllm", reason="needs the CPU stack: make env")


@pytest.fixture(scope="module")
def prompts(shell):
    rows = [{"uid": f"p{k}", "prompt": " ".join(WORDS[: k + 1])} for k in range(6)]
    (shell.folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "p.jsonl"


@pytest.mark.long
def test_a_seed_repeats_in_another_process(shell, prompts, tiny_model):
    texts = []
    for out in ("a.jsonl", "b.jsonl"):
        shell.ropd(
            "rollout", prompts, "--model-path", tiny_model, "--out", out, "-n", 3, "--seed", 5, "--max-tokens", 8
        )
        records = [record for _, record in read_records(shell.folder / out)]
        texts.append({record["uid"]: [answer["text"] for answer in record["answers"]] for record in records})
    assert texts[0] == texts[1] and len(texts[0]) == 6


def test_a_folder_that_holds_no_loadable_model_is_one_line(shell, prompts, tiny_model):
    broken = shell.folder / "broken"
    shutil.copytree(tiny_model, broken)
    for file in broken.glob("*.safetensors"):
        file.unlink()
    _, err = shell.ropd("rollout", prompts, "--model-path", broken, "--out", "x.jsonl", code=2)
    lines = [line for line in err.splitlines() if line.startswith(("ropd: error:", "hint:"))]
    assert len(lines) == 2 and "broken" in lines[0] and "Traceback" not in err


async def test_prompts_may_come_at_any_time_and_closing_leaves_no_process(tiny_model, tmp_path):
    engine = EngineOptions(str(tiny_model), installed_device(), max_model_len=64)
    message = (Message(role="user", content="w1 w2"),)
    async with await LocalModel.start(engine, environ=os.environ, log=tmp_path / "log") as model:
        greedy = SamplingOptions(temperature=0.0, max_tokens=4)
        (first,) = await model.sample(message, greedy)
        (again,), two = await asyncio.gather(
            model.sample(message, greedy), model.sample(message, SamplingOptions(n=2, max_tokens=4))
        )
        assert first.text == again.text and len(two) == 2
        with pytest.raises(PromptRefused):
            await model.sample((Message(role="user", content="w1 " * 100),), greedy)
        came = []  # more prompts than one step takes, each with a seed: none may be computed in parts on a CPU
        long = (Message(role="user", content="w1 " * 50),)
        seeded = SamplingOptions(n=2, max_tokens=2, seed=7)
        many = await asyncio.gather(
            *(model.sample(long, seeded, on_answer=lambda k, answer: came.append((k, answer.text))) for _ in range(80))
        )
        assert len({tuple(answer.text for answer in answers) for answers in many}) == 1 and len(came) == 160
        (alone,) = await model.sample(long, seeded, indices=[1])
        assert alone.text == many[0][1].text
        child = model._child.process.pid
    assert not os.path.exists(f"/proc/{child}")
    with pytest.raises(RopdError):
        await model.sample(message, greedy)
