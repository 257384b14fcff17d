"""``judge.repair``: a rubric by which all rollouts are equal is written once more, with what the linter found in it."""

from __future__ import annotations

import json

import pytest
from judges import WORDS, Reader, read, score
from servers import Reply, Status

from ropd_cli.errors import InputError
from ropd_cli.method.prompts import Templates
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import Answer

DULL = ["Is an answer to the question.", "Has been written down.", "Consists of letters or digits.", "Is good."]
ROLLOUTS = ["right", "wrong " * 20, "rude " * 20, "rude " * 30]


def rubric(texts, points):
    rows = [
        {"criterion_id": f"c{k}", "category": "Task Completion", "criterion": text, "points": worth}
        for k, (text, worth) in enumerate(zip(texts, points, strict=True), start=1)
    ]
    return Reply(json.dumps({"schema_version": "ropd.rubric.v1", "rubrics": rows, "maximum_score": sum(points)}))


class Dull(Reader):
    """Its first rubric says the same of every answer; asked again it does what ``again`` says."""

    def __init__(self, again):
        super().__init__(lies=lambda seen, answer, nth: [True] * 4 if DULL[0] in seen.text else None)
        self.again = again
        self.repairs = []

    def __call__(self, body):
        if any(message["role"] == "assistant" for message in body["messages"]):
            self.repairs.append(body)
            return self.again
        if read(body).role == "rubricator":
            return rubric(DULL, [5, 2, 2, 1])
        return super().__call__(body)


async def judged(run_judge, server, reader, texts=ROLLOUTS, **settings):
    """(rewards, metrics, the group as it is written) of a step with one group."""
    server.default = reader
    flags = {f"{section}__base_url": server.url for section in ("rubricator", "verifier")}
    flags |= {f"{section}__model": "m" for section in ("rubricator", "verifier")}
    flags |= {f"{section}__limits__max_retries": 0 for section in ("rubricator", "verifier")}
    judge, directory = run_judge(**flags, judge__repair=True, **settings)
    result = await judge.judge(1, "a", [Answer(text=text, finish_reason="stop") for text in texts])
    metrics = await judge.step_metrics(1, 1)
    await judge.close()
    ((_, group),) = read_records(directory.group_file(1))
    return list(result.rewards), metrics, group


def tried(metrics):
    return tuple(metrics[f"rubrics/repair_{how}"] for how in ("tried", "helped", "failed", "rejected"))


async def test_a_rubric_that_tells_the_rollouts_apart_takes_its_place(run_judge, server):
    reader = Dull(again=rubric(WORDS, WORDS.values()))
    rewards, metrics, group = await judged(run_judge, server, reader)
    assert rewards == pytest.approx([score(text) for text in ROLLOUTS])
    assert tried(metrics) == (1, 1, 0, 0) and metrics["groups/zero_variance"] == 0
    assert [c["criterion"] for c in group["rubric"]["rubric"]["rubrics"]] == list(WORDS)
    assert {"met-by-all", "dominated"} <= set(group["rubric"]["repaired"])
    assert group["rubric"]["template_hash"] == Templates.load().repair_hash
    (body,) = reader.repairs  # the same request, the rubric that came, and what was found in it
    roles = [message["role"] for message in body["messages"]]
    assert roles[-3:] == ["user", "assistant", "user"]
    assert all(text in body["messages"][-2]["content"] for text in DULL)
    asked = body["messages"][-1]["content"]
    assert "c1: met by 4 of 4" in asked and "1.00 of 1" in asked
    assert "c1: one criterion outweighs all others (5 of 10 points)" in asked
    assert "{{" not in asked


@pytest.mark.parametrize(
    ("again", "counts"),
    [(rubric(DULL, [1, 1, 1, 2]), (1, 0, 0, 0)), (Status(500), (1, 0, 1, 0)), (Reply("No."), (1, 0, 1, 0))],
    ids=["as dull", "an error", "no rubric"],
)
async def test_a_repair_that_does_not_help_leaves_the_group_as_it_was(run_judge, server, again, counts):
    rewards, metrics, group = await judged(run_judge, server, Dull(again))
    assert rewards == [pytest.approx(1.0)] * 4
    assert tried(metrics) == counts and metrics["groups/missing"] == 0 and metrics["groups/zero_variance"] == 1
    assert group["error"] is None and "repaired" not in group["rubric"]
    assert [c["points"] for c in group["rubric"]["rubric"]["rubrics"]] == [5, 2, 2, 1]


async def test_nothing_is_asked_where_no_rubric_could_help(run_judge, server):
    reader = Dull(again=rubric(WORDS, WORDS.values()))
    _, metrics, _ = await judged(run_judge, server, reader, texts=["right"] * 4)
    assert not reader.repairs and not any(tried(metrics))
    plain = Reader()
    rewards, metrics, _ = await judged(run_judge, server, plain)
    assert len(set(rewards)) > 1 and not any(tried(metrics))


async def test_a_repair_that_is_worse_is_not_taken(run_judge, server):
    """It tells the rollouts apart, but by what the teacher's answers lack."""
    texts = ["right", "right, in a box", "right!", "right?"]
    rewards, metrics, group = await judged(run_judge, server, Dull(again=rubric(WORDS, WORDS.values())), texts=texts)
    assert rewards == [pytest.approx(1.0)] * 4 and tried(metrics) == (1, 0, 0, 1)
    assert metrics["lint/teacher-below-student"] == 0 and "repaired" not in group["rubric"]


async def test_an_own_template_is_used_and_has_to_show_the_findings(run_judge, server, tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "repair.md").write_text("Noch einmal. {{findings}}")
    reader = Dull(again=rubric(WORDS, WORDS.values()))
    await judged(run_judge, server, reader, judge__templates=str(folder))
    assert reader.repairs[0]["messages"][-1]["content"].startswith("Noch einmal. - c1: met by 4 of 4")
    (folder / "repair.md").write_text("Noch einmal.")
    with pytest.raises(InputError, match="findings"):
        run_judge(judge__templates=str(folder))
