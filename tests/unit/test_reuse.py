"""``judge.reuse``: a prompt's rubric is kept for later epochs, until it tells the rollouts apart no more."""

from __future__ import annotations

import json

import pytest
from judges import Reader, score
from servers import Reply, Status

from ropd_cli.config import load_config
from ropd_cli.errors import ConfigError
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import Answer

FIRST = ["right", "wrong " * 20, "rude " * 20]
LATER = ["right, I think", "rude " * 30, "wrong"]
EQUAL = ["right", "right!", "right?"]


class Run:
    """The owner of judging, one group a step (three prompts, so three steps an epoch)."""

    def __init__(self, run_judge, server, reader, **settings):
        server.default = reader
        flags = {f"{section}__base_url": server.url for section in ("rubricator", "verifier")}
        flags |= {f"{section}__model": "m" for section in ("rubricator", "verifier")}
        flags |= {f"{section}__limits__max_retries": 0 for section in ("rubricator", "verifier")}
        flags |= {"train__prompts_per_step": 1, "judge__reuse": "epoch"}
        self.reader = reader
        self.judge, self.directory = run_judge(**(flags | settings))

    async def step(self, step, texts, uid="a"):
        """(rewards, metrics, the rubric as it is written, calls of the rubricator) of one group."""
        before = len(self.reader.of("rubricator"))
        result = await self.judge.judge(step, uid, [Answer(text=text, finish_reason="stop") for text in texts])
        metrics = await self.judge.step_metrics(step, 1)
        ((_, group),) = read_records(self.directory.group_file(step))
        return result.rewards, metrics, group["rubric"], len(self.reader.of("rubricator")) - before


def counted(metrics):
    return metrics["rubrics/reused"], metrics["rubrics/renewed"]


async def test_one_rubric_a_prompt_until_it_is_outgrown(run_judge, server):
    run = Run(run_judge, server, Reader(own_rubrics=True))
    _, metrics, first, asked = await run.step(1, FIRST)
    assert (asked, counted(metrics)) == (1, (0, 0)) and "origin" not in first
    _, metrics, other, asked = await run.step(2, FIRST, uid="b")
    assert (asked, counted(metrics)) == (1, (0, 0)) and other["rubric_hash"] != first["rubric_hash"]
    # the second epoch
    rewards, metrics, kept, asked = await run.step(4, LATER)
    assert rewards == pytest.approx([score(text) for text in LATER])
    assert (asked, counted(metrics), metrics["judge/requests_sent"]) == (0, (1, 0), 1)
    assert (kept["origin"], kept["rubric"]) == ("reused", first["rubric"]) and "usage" not in kept
    # no rubric tells equal texts apart, nor no text at all
    for step, texts in ((5, ["right"] * 3), (6, ["", " "])):
        _, metrics, kept, asked = await run.step(step, texts)
        assert (asked, counted(metrics)) == (0, (1, 0)) and metrics["groups/zero_variance"] == 1
    # all are equally good by it
    _, metrics, renewed, asked = await run.step(7, EQUAL)
    assert (asked, counted(metrics), metrics["judge/requests_sent"]) == (1, (0, 1), 3)
    assert renewed["origin"] == "renewed" and renewed["rubric_hash"] not in (first["rubric_hash"], None)
    _, _, kept, asked = await run.step(10, LATER)
    assert (asked, kept["rubric"]) == (0, renewed["rubric"])
    await run.judge.close()
    # a resumed run
    again = Run(run_judge, server, run.reader)
    _, metrics, kept, asked = await again.step(13, FIRST)
    assert (asked, kept["rubric"], counted(metrics)) == (0, renewed["rubric"], (1, 0))
    _, _, kept, asked = await again.step(14, LATER, uid="b")
    assert (asked, kept["rubric"]) == (0, other["rubric"])
    await again.judge.close()


async def test_a_resumed_run_knows_the_rubrics_of_groups_in_flight(run_judge, server):
    run = Run(run_judge, server, Reader(own_rubrics=True))
    await run.judge.judge(1, "a", [Answer(text=text, finish_reason="stop") for text in FIRST])
    books = run.directory.saved.books(3)
    await run.judge.keep_open(books)
    await run.judge.close()
    (books.parent / "actor" / "huggingface").mkdir(parents=True)
    for name in ("model", "optim", "extra_state"):
        (books.parent / "actor" / f"{name}_world_size_1_rank_0.pt").write_text("x")
    (books.parent / "actor" / "huggingface" / "config.json").write_text("{}")
    (books.parent / "data.pt").write_text("x")
    again = Run(run_judge, server, run.reader)
    _, metrics, _, asked = await again.step(4, LATER)
    assert (asked, counted(metrics)) == (0, (1, 0))
    await again.judge.close()


async def test_a_rubric_that_can_not_be_renewed_leaves_the_group_as_it_is(run_judge, server):
    reader = Reader(refuses=lambda seen: Status(500) if seen.role == "rubricator" and EQUAL[1] in seen.text else None)
    run = Run(run_judge, server, reader)
    await run.step(1, FIRST)
    rewards, metrics, kept, asked = await run.step(4, EQUAL)
    assert asked == 1 and len(set(rewards)) == 1 and kept["origin"] == "reused"
    assert (metrics["groups/judged"], counted(metrics)) == (1, (1, 0))
    await run.judge.close()


class Repairs(Reader):
    """Asked to repair its rubric, it writes one that asks for an exclamation mark."""

    WORDS = "Ends with an exclamation mark."

    def __init__(self):
        super().__init__(lies=self.by_its_mark)

    def by_its_mark(self, seen, answer, nth):
        return [answer.endswith("!"), True, True, True] if self.WORDS in seen.text else None

    def __call__(self, body):
        if not any(message["role"] == "assistant" for message in body["messages"]):
            return super().__call__(body)
        rows = [
            {"criterion_id": f"c{k}", "category": "Task Completion", "criterion": f"{k}: {self.WORDS}", "points": 2}
            for k in range(1, 5)
        ]
        return Reply(json.dumps({"schema_version": "ropd.rubric.v1", "rubrics": rows, "maximum_score": 8}))


async def test_a_repaired_rubric_is_the_one_that_is_kept(run_judge, server):
    run = Run(run_judge, server, Repairs(), judge__repair=True, judge__teacher_in_pool=False)
    await run.step(1, FIRST)
    _, metrics, renewed, _ = await run.step(4, EQUAL)
    assert renewed["origin"] == "renewed" and metrics["rubrics/repair_helped"] == 1
    assert Repairs.WORDS in renewed["rubric"]["rubrics"][0]["criterion"]
    _, _, kept, asked = await run.step(7, [*EQUAL, "wrong!"])
    assert (asked, kept["rubric"], kept["origin"]) == (0, renewed["rubric"], "reused") and "repaired" not in kept
    await run.judge.close()


async def test_what_is_cut_is_said_of_the_group_that_is_shown(run_judge, server):
    run = Run(run_judge, server, Reader(), judge__max_answer_tokens=16)
    _, _, first, _ = await run.step(1, ["right " * 50, "wrong", "rude"])
    _, metrics, kept, _ = await run.step(4, ["right", "wrong", "rude"])
    await run.judge.close()
    assert first["cut"] == ["student 0"] and "cut" not in kept and metrics["answers/cut"] == 0


async def test_without_it_each_group_has_a_rubric_of_its_own(run_judge, server):
    run = Run(run_judge, server, Reader(own_rubrics=True), judge__reuse="none")
    hashes = set()
    for step, texts in ((1, FIRST), (4, LATER)):
        _, metrics, rubric, asked = await run.step(step, texts)
        hashes.add(rubric["rubric_hash"])
        assert asked == 1 and "rubrics/reused" not in metrics and "origin" not in rubric
    assert len(hashes) == 2
    await run.judge.close()


@pytest.mark.parametrize("key", ["judge.rubric_per=rollout", "judge.rubrics=dataset", "reward.rubric=0"])
def test_what_has_no_rubric_to_keep_is_refused(key):
    with pytest.raises(ConfigError, match=r"judge\.reuse") as caught:
        load_config(overrides=["judge.reuse=epoch", key], environ={})
    assert len(caught.value.problems) == 1
