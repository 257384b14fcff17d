"""The owner of judging in a run, without Ray: what a group's rollouts are paid, and what is counted and written."""

from __future__ import annotations

import json

import pytest
from judged_runs import QUESTIONS
from judges import Reader

from ropd_cli.analysis.run_data import read_run
from ropd_cli.builtin.teacher import write_answer
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import Answer, Usage


def said(*texts):
    return [Answer(text=text, finish_reason="stop") for text in texts]


async def test_rewards_metrics_and_the_group_file_agree(run_judge):
    judge, directory = run_judge()
    result = await judge.judge(1, "a", said("3 + 4 = 7", "3 + 4 = 9", "no idea", ""))
    rewards = result.rewards
    assert rewards[0] > rewards[1] > rewards[2] >= 0 and rewards[3] == 0.0
    other = await judge.judge(1, "b", said("5 + 9 = 14", "5 + 9 = 14", "5 + 9 = 14"))
    metrics = await judge.step_metrics(1, 3)
    assert (metrics["groups/judged"], metrics["groups/missing"], metrics["groups/zero_variance"]) == (2, 1, 1)
    assert metrics["groups/no_answer_rollouts"] == 1
    assert metrics["reward/mean"] == pytest.approx(sum(rewards + other.rewards) / 7)
    assert metrics["judge/requests_sent"] == 4 and metrics["reward/teacher_mean"] == pytest.approx(1.0)
    written = {g["uid"]: g for _, g in read_records(directory.group_file(1))}
    assert written["a"]["rewards"] == written["a"]["verdicts"]["rewards"] == list(rewards)
    await judge.close()


async def test_a_group_that_cannot_be_judged_has_no_rewards_at_all(run_judge):
    judge, directory = run_judge()
    result = await judge.judge(1, "odd", said("Goethe", "Schiller"))
    assert result.rewards is None and "400" in result.error
    assert "400" in await judge.last_fault() and await judge.missing(["1/odd"]) == 1
    metrics = await judge.step_metrics(1, 1)
    assert metrics["groups/missing"] == 1 and "reward/mean" not in metrics
    (_, group), = read_records(directory.group_file(1))  # fmt: skip
    assert group["rewards"] is None and group["error"]["type"] == "ProviderRefused"
    await judge.close()


async def test_no_answer_is_the_policy_s_failure_or_dropped(run_judge):
    judge, directory = run_judge(judge__on_no_answer="drop")
    result = await judge.judge(1, "a", said("3 + 4 = 7", "", "3 + 4 = 8"))
    assert result.rewards[1] is None and None not in (result.rewards[0], result.rewards[2])
    # a lone reward has nothing to be compared with
    result = await judge.judge(1, "b", said("5 + 9 = 14", "", "<think>14"))
    why = "fewer than two rollouts with a reward"
    assert result.rewards is None and result.error == why
    metrics = await judge.step_metrics(1, 2)
    assert metrics["groups/missing"] == 1
    judged, missing = (group for _, group in read_records(directory.group_file(1)))
    assert judged["error"] is None
    assert missing["rewards"] is None and missing["error"] == {"stage": "judge", "type": "JudgeError", "message": why}
    assert [row.uid for row in read_run(directory.path).failed] == ["b"]
    await judge.close()


async def test_without_any_answer_all_get_zero_and_no_judge_is_asked(run_judge):
    judge, _ = run_judge()
    result = await judge.judge(1, "a", said("", "<think>7", " "))
    assert result.rewards == (0.0, 0.0, 0.0)
    assert (await judge.step_metrics(1, 1))["judge/requests_sent"] == 0
    await judge.close()


async def test_each_epoch_uses_the_next_m_of_more_answers(run_judge):
    judge, directory = run_judge(judge__m=1, train__prompts_per_step=1)  # three prompts, so three steps an epoch
    for step in (1, 3, 4, 6, 7):
        await judge.judge(step, "a", said("3 + 4 = 7", "3 + 4 = 9"))
        await judge.step_metrics(step, 1)
    await judge.close()
    used = []
    for step in (1, 3, 4, 6, 7):
        ((_, group),) = read_records(directory.group_file(step))
        used.append(group["teacher_answers"][0])
    first, second = used[0], used[2]
    assert {first, second} == {write_answer(QUESTIONS["a"], n) for n in range(2)}
    assert used == [first, first, second, second, first]


async def test_without_rotation_each_epoch_uses_the_same_answer(run_judge):
    judge, directory = run_judge(judge__m=1, judge__rotate_answers=False, train__prompts_per_step=1)
    used = set()
    for step in (1, 4):
        await judge.judge(step, "a", said("3 + 4 = 7", "3 + 4 = 9"))
        await judge.step_metrics(step, 1)
        ((_, group),) = read_records(directory.group_file(step))
        used.add(tuple(group["teacher_answers"]))
    await judge.close()
    assert len(used) == 1


async def test_the_same_group_again_comes_from_the_cache(run_judge):
    judge, _ = run_judge()
    first = await judge.judge(1, "a", said("3 + 4 = 7", "3 + 4 = 9"))
    await judge.step_metrics(1, 1)
    assert await judge.judge(2, "a", said("3 + 4 = 7", "3 + 4 = 9")) == first
    metrics = await judge.step_metrics(2, 1)
    assert (metrics["judge/requests_sent"], metrics["judge/cache_hits"]) == (0, 2)
    await judge.close()


async def test_parts_are_mixed_counted_and_written(run_judge):
    judge, directory = run_judge(reward__length=0.5, reward__length_free_tokens=0, reward__length_max_tokens=10)
    rollouts = [
        Answer(text="3 + 4 = 7", finish_reason="stop", usage=Usage(completion_tokens=5)),
        Answer(text="3 + 4 = 9", finish_reason="stop", usage=Usage(completion_tokens=10)),
    ]
    result = await judge.judge(1, "a", rollouts)
    metrics = await judge.step_metrics(1, 1)
    ((_, group),) = read_records(directory.group_file(1))
    parts = group["verdicts"]["parts"]
    assert parts["length"] == [0.5, 0.0] and parts["rubric"][0] > parts["rubric"][1]
    assert result.rewards == pytest.approx(
        [r + 0.5 * p for r, p in zip(*map(parts.get, ("rubric", "length")), strict=True)]
    )
    assert metrics["reward/length_mean"] == 0.25
    assert metrics["reward/rubric_mean"] == pytest.approx(sum(parts["rubric"]) / 2)
    assert metrics["judge/coverage_mean"] == 1.0 and metrics["reward/mean"] == pytest.approx(sum(result.rewards) / 2)
    await judge.close()


async def test_what_the_update_is_given_and_what_is_reported(run_judge):
    texts = said("3 + 4 = 7", "3 + 4 = 9", "no idea", "")
    judge, _ = run_judge()
    plain = (await judge.judge(1, "a", texts)).rewards
    await judge.close()
    judge, directory = run_judge(reward__criterion_weights="discriminating", reward__criterion_dropout=0.5)
    result = await judge.judge(1, "a", texts)
    metrics = await judge.step_metrics(1, 1)
    await judge.close()
    ((_, group),) = read_records(directory.group_file(1))
    verdicts = group["verdicts"]
    assert group["rewards"] == verdicts["rewards"] == list(plain)
    assert list(result.rewards) == verdicts["shaped"] != verdicts["rewards"]
    assert result.rewards[3] == 0.0 and metrics["reward/mean"] == pytest.approx(sum(plain) / 4)
    # what separates no rollout has no weight, and what is dropped has none either
    rows = [answer["judgement"] for answer in verdicts["answers"] if answer["source"] == "student"][:3]
    constant = [len(set(column)) == 1 for column in zip(*rows, strict=True)]
    assert all(weight == 0 for weight, same in zip(verdicts["weights"], constant, strict=True) if same)
    points = [criterion["points"] for criterion in group["rubric"]["rubric"]["rubrics"]]
    assert sum(verdicts["weights"]) == pytest.approx(sum(points))
    teachers = [answer["score"] for answer in verdicts["answers"] if answer["source"] == "teacher"]
    assert metrics["reward/teacher_mean"] == pytest.approx(sum(teachers) / len(teachers))


async def test_without_a_weight_for_the_rubric_no_judge_is_asked(run_judge):
    judge, directory = run_judge(reward__rubric=0.0, reward__format=1.0, reward__format_pattern=r"= \d+")
    result = await judge.judge(1, "odd", said("it is = 7", "no idea"))  # the embedded judge would refuse this one
    assert result.rewards == (1.0, 0.0)
    metrics = await judge.step_metrics(1, 1)
    assert metrics["judge/requests_sent"] == 0 and "reward/rubric_mean" not in metrics
    ((_, group),) = read_records(directory.group_file(1))
    assert group["rubric"] is None
    assert group["verdicts"]["parts"] == {"rubric": [None, None], "format": [1.0, 0.0]}
    await judge.close()


async def test_money_that_an_earlier_part_of_the_run_spent_counts(run_judge, server, tmp_path):
    """The limit holds for the run; reaching it stops the run, and nothing is called missing for good."""
    from servers import Reply

    server.default = Reply("x", usage={"prompt_tokens": 10, "completion_tokens": 10})
    prices = {"judge": {"input": 1000.0, "output": 1000.0}}
    settings = {"base_url": server.url, "model": "judge", "sampling.max_tokens": 10, "limits.max_retries": 0}
    flags = {f"{section}__{key}": value for section in ("rubricator", "verifier") for key, value in settings.items()}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "spent.json").write_text('{"usd": 4.9}')
    judge, _ = run_judge(**flags, prices=prices, max_cost=5.0)
    result = await judge.judge(2, "a", said("3 + 4 = 7", "3 + 4 = 9"))
    assert result.rewards is None and not server.requests
    kind, message, hint = await judge.stopped()
    assert kind == "CostLimit" and "$4.9000 of $5 are spent" in message and "max" in hint
    await judge.close()


async def test_money_of_steps_that_are_dropped_stays_spent(run_judge, server):
    """Also of a step that was never finished, since a killed process writes no metrics."""
    server.default = Reader()
    prices = {"judge": {"input": 1000.0, "output": 1000.0}}
    settings = {"base_url": server.url, "model": "judge", "limits.max_retries": 0}
    flags = {f"{section}__{key}": value for section in ("rubricator", "verifier") for key, value in settings.items()}
    judge, directory = run_judge(**flags, prices=prices)
    assert (await judge.judge(1, "a", said("3 + 4 = 7", "3 + 4 = 9"))).rewards
    first = (await judge.step_metrics(1, 1))["judge/cost_usd"]
    directory.metrics.write_text(json.dumps({"step": 1, "judge/cost_usd": first}) + "\n")
    assert directory.spent_usd() == pytest.approx(first) and first > 0
    await judge.judge(2, "a", said("3 + 4 = 7", "3 + 4 = 10"))  # and then it is killed
    both = directory.spent_usd()
    assert both > first * 1.2
    directory.set_aside_after(0)
    assert not directory.metric_rows() and directory.spent_usd() == both
    await judge.close()


@pytest.mark.parametrize(
    "choice",
    [
        {"judge__form": "group"},
        {"judge__form": "paper"},
        {"judge__form": "group", "judge__chunk_size": 2},
        {"judge__chunk_size": 2, "judge__blind": False},
        {"judge__form": "paper", "judge__blind": False, "judge__repeats": 3},
        {"judge__language": "zh", "judge__teacher_in_pool": False},
    ],
    ids=lambda choice: " ".join(f"{key[7:]}={value}" for key, value in choice.items()),
)
async def test_the_embedded_judge_takes_every_choice(run_judge, choice):
    texts = said("3 + 4 = 7", "3 + 4 = 9", "no idea", "")
    judge, _ = run_judge()
    usual = await judge.judge(1, "a", texts)
    await judge.close()
    judge, _ = run_judge(**choice)
    assert await judge.judge(1, "a", texts) == usual
    await judge.close()


@pytest.mark.parametrize("form", ["shared-prefix", "group", "paper"])
async def test_the_embedded_judge_writes_a_rubric_a_rollout(run_judge, form):
    judge, directory = run_judge(judge__rubric_per="rollout", judge__form=form)
    rewards = (await judge.judge(1, "a", said("3 + 4 = 7", "3 + 4 = 9", ""))).rewards
    await judge.step_metrics(1, 1)
    assert rewards[0] > rewards[1] and rewards[2] == 0.0
    ((_, group),) = read_records(directory.group_file(1))
    assert [bool(each) for each in group["rubric"]["rubrics"]] == [True, True, False]
    await judge.close()


async def test_a_step_takes_groups_that_another_one_sampled(run_judge):
    """And what a refill left out is written, marked, and counts in no mean."""
    judge, directory = run_judge()
    await judge.judge(1, "a", said("3 + 4 = 7", "3 + 4 = 9"))
    await judge.judge(1, "b", said("5 + 9 = 14", "5 + 9 = 14"))
    other = await judge.judge(2, "b", said("5 + 9 = 14", "5 + 9 = 15"))
    first = await judge.close_step(1, ["1/a", "never there"], {})
    assert (first["groups/judged"], first["groups/missing"], first["groups/left_out_tied"]) == (1, 1, 0)
    second = await judge.close_step(2, ["2/b"], {"1/b": "tied"})
    assert (second["groups/judged"], second["groups/zero_variance"], second["groups/left_out_tied"]) == (1, 0, 1)
    assert second["reward/mean"] == pytest.approx(sum(other.rewards) / 2)
    # all that was asked is of the step that was closed first: nothing was asked between the two
    assert (first["judge/requests_sent"], second["judge/requests_sent"]) == (6, 0)
    written = [g for _, g in read_records(directory.group_file(2))]
    assert [(g["uid"], g["step"], g["sampled_step"], g["left_out"]) for g in written] == [
        ("b", 2, 2, None),
        ("b", 2, 1, "tied"),
    ]
    assert [row.uid for row in read_run(directory.path).rows] == ["a", "b"]
    await judge.close()


async def test_groups_in_flight_outlive_the_process(run_judge):
    judge, directory = run_judge()
    given = await judge.judge(1, "a", said("3 + 4 = 7", "3 + 4 = 9"))
    await judge.judge(1, "odd", said("Goethe", "Schiller"))
    await judge.judge(1, "b", said("5 + 9 = 14", "5 + 9 = 15"))
    before = await judge.close_step(1, ["1/a"])
    books = directory.saved.books(3)
    await judge.keep_open(books, with_last_step=True)
    await judge.close()
    (books.parent / "actor" / "huggingface").mkdir(parents=True)
    for name in ("model", "optim", "extra_state"):
        (books.parent / "actor" / f"{name}_world_size_1_rank_0.pt").write_text("x")
    (books.parent / "actor" / "huggingface" / "config.json").write_text("{}")
    (books.parent / "data.pt").write_text("x")
    again, _ = run_judge()
    metrics = await again.close_step(1, ["1/a"])
    told = {name for name in before if not name.startswith("judge/")}
    assert {name: metrics[name] for name in told} == {name: before[name] for name in told}
    rest = await again.close_step(4, ["1/b", "1/odd"])
    assert (rest["groups/judged"], rest["groups/missing"], rest["judge/requests_sent"]) == (1, 1, 0)
    ((_, group),) = read_records(directory.group_file(1))
    assert group["rewards"] == list(given.rewards)
    await again.close()


async def test_rewards_that_the_trainer_tells_when_it_takes_the_groups(run_judge):
    """GAD: the group is in the books with its teacher answer, and its rewards come later."""
    judge, directory = run_judge(method="gad")
    placeholder = await judge.judge(1, "a", said("3 + 4 = 7", "3 + 4 = 9"))
    await judge.judge(1, "b", said("5 + 9 = 14", "5 + 9 = 15", "5 + 9 = 16"))
    assert placeholder.rewards == (0.0, 0.0)
    demonstrations = await judge.demonstrations(["1/a", "1/b"])
    assert await judge.missing(["1/a", "1/b", "never there"]) == 1
    rewards = {"1/a": [-1.5, 2.25], "1/b": [0.5, None, 0.5]}
    metrics = await judge.close_step(1, ["1/a", "1/b", "never there"], deferred=rewards)
    assert (metrics["groups/judged"], metrics["groups/missing"], metrics["groups/zero_variance"]) == (2, 1, 1)
    assert (metrics["groups/missing_rollouts"], metrics["judge/requests_sent"]) == (1, 0)
    assert metrics["reward/mean"] == pytest.approx(1.75 / 4)
    assert (metrics["reward/min"], metrics["reward/max"]) == (-1.5, 2.25)
    written = {g["uid"]: g for _, g in read_records(directory.group_file(1))}
    for uid in ("a", "b"):
        assert written[uid]["rewards"] == written[uid]["verdicts"]["rewards"] == rewards[f"1/{uid}"]
        assert written[uid]["teacher_answers"] == [demonstrations[f"1/{uid}"]]
    await judge.close()


async def test_why_a_group_failed_before_it_was_judged_is_known(run_judge):
    judge, _ = run_judge()
    await judge.unjudged("the teacher: http://gpu-2: no connection")
    assert await judge.last_fault() == "the teacher: http://gpu-2: no connection"
    await judge.close()
