"""How runs read that no judge has a part in: a teacher's log-probabilities, or a discriminator's scores."""

from __future__ import annotations

import html
import json
import re

import pytest

from ropd_cli.analysis.run_data import read_run
from ropd_cli.records.schemas import Answer
from ropd_cli.report.run_page import page

DEFERRED = [0.5, -1.0, 2.0]


async def written(run_judge, method):
    """The directory of a run of two steps, whose rewards the trainer tells where the method has any."""
    judge, directory = run_judge(method=method)
    with open(directory.metrics, "w") as metrics:
        for step in (1, 2):
            await judge.judge(step, "a", [Answer(text=f"{k}", finish_reason="stop") for k in (7, 8, 9)])
            deferred = {f"{step}/a": DEFERRED} if method == "gad" else None
            row = await judge.close_step(step, [f"{step}/a"], deferred=deferred)
            more = {"actor/distillation/loss": 0.5, "actor/distillation/k1": 0.25, "discriminator/loss": 0.75}
            metrics.write(json.dumps({"step": step, **row, **more}) + "\n")
    await judge.close()
    return directory.path


def words_of(text):
    """The words of a page."""
    text = re.sub(r"<script.*?</script>|<style.*?</style>|<svg.*?</svg>", " ", text, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


@pytest.mark.parametrize(("method", "distance"), [("lopd", "0.50"), ("exopd", "0.25")])
async def test_a_run_without_rewards_speaks_of_none(run_judge, method, distance):
    run = read_run(await written(run_judge, method))
    words = words_of(page(run))
    assert "There are no rewards." in words and "No group failed." in words
    assert "Distance to the teacher, mean per token" in words and distance in words
    for wrong in ("taught nothing", "without spread", "by GRPO", "reward rose", ", score –", "reward 0.00"):
        assert wrong not in words, wrong


async def test_a_run_with_a_discriminator_shows_its_scores(run_judge):
    run = read_run(await written(run_judge, "gad"))
    words = words_of(page(run))
    assert "A discriminator, which learns" in words and "by GRPO" in words
    assert "student 1, reward -1.00" in words and "student 2, reward 2.00" in words
    assert "Loss of the discriminator before its update 0.75" in words
    assert ", score –" not in words and "no judge is asked" not in words
