"""The methods that reward a rollout as a whole: what they need, what they refuse, and the group files of their runs."""

import json

import pytest
from hostile import HOSTILE
from judged_runs import QUESTIONS, judge_of, write_inputs
from typer.testing import CliRunner

from ropd_cli.analysis.run_data import read_run
from ropd_cli.builtin.teacher import write_answer
from ropd_cli.cli.main import app
from ropd_cli.config import load_config
from ropd_cli.errors import InputError
from ropd_cli.evaluation.tasks.single_result import ResultTask, grade_of
from ropd_cli.index import IndexWriter
from ropd_cli.methods import method_of
from ropd_cli.methods.verifiable import VerifiableRewarder, grader_of
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import Answer, AnswerRecord, Group, Message, load_prompts, prompt_hash
from ropd_cli.report.run_page import page
from ropd_cli.training.run_estimate import forecast_run

WRONG = "It is 99."
SILENT = "<think>It is 7"


def config_of(method, **settings):
    flags = {"method": method, "verifier.base_url": "builtin://checkable", "judge.m": 2}
    return load_config(None, flags=flags | {k.replace("__", "."): v for k, v in settings.items()}, environ={})


async def judged_run(folder, **settings):
    """(rewards by uid, metrics, groups of the file) of a step of three groups."""
    write_inputs(folder)
    judge, run = judge_of(folder, **settings)
    rewards = {}
    for uid, question in QUESTIONS.items():
        texts = (write_answer(question, 1), WRONG, SILENT) if uid != "odd" else ("Goethe", "Schiller")
        rewards[uid] = (await judge.judge(1, uid, [Answer(text=text) for text in texts])).rewards
    metrics = await judge.step_metrics(1, 3)
    await judge.close()
    return rewards, metrics, [record for _, record in read_records(run.group_file(1))], run


@pytest.mark.parametrize(("method", "top"), [("t-judge", 100), ("ovd-reward", 9)])
@pytest.mark.parametrize(("teacher", "index"), [("none", None), ("shown", "i.db")])
async def test_a_step_of_scores(tmp_path, method, top, teacher, index):
    settings = {"data__index": index and str(tmp_path / index)}
    rewards, metrics, groups, run = await judged_run(tmp_path, method=method, score__teacher=teacher, **settings)
    assert rewards["odd"] is None  # the embedded judge can't work it out: missing, and no zero
    assert rewards["a"][0] == 1.0 and 0 < rewards["a"][1] < 0.3 and rewards["a"][2] == 0.0
    assert all(value * top == pytest.approx(round(value * top)) for value in rewards["a"])
    assert (metrics["groups/judged"], metrics["groups/missing"], metrics["judge/requests_sent"]) == (2, 1, 6)
    assert metrics["groups/no_answer_rollouts"] == 2 and "reward/teacher_mean" not in metrics
    by_uid = {group["uid"]: group for group in groups}
    assert by_uid["a"]["rubric"] is None and by_uid["a"]["verdicts"]["scale"] == top
    assert len(by_uid["a"]["teacher_answers"]) == (1 if teacher == "shown" else 0)
    assert by_uid["odd"]["error"]["type"] == "ProviderRefused"
    text = page(read_run(run.path))
    assert f"one score from 0 to {top}" in text and "The <i>rubricator</i>" not in text


@pytest.mark.parametrize(("teacher", "cut"), [("none", 2), ("shown", 3)])
async def test_answers_that_are_shown_without_their_middle_are_counted(tmp_path, monkeypatch, teacher, cut):
    monkeypatch.setattr("ropd_cli.methods.scored.fits", lambda config: lambda text: True)  # there is no tokenizer
    write_inputs(tmp_path)
    question, long = QUESTIONS["a"], "It is " + "certainly " * 50 + "7"
    with IndexWriter(tmp_path / "long.db") as index:
        answers = (Answer(text=long),)
        index.add(
            AnswerRecord(uid="a", prompt=question, raw_prompt_hash=prompt_hash(question), answers=answers, model="m")
        )
    settings = {"data__index": str(tmp_path / "long.db"), "judge__max_answer_tokens": 16, "score__teacher": teacher}
    judge, _ = judge_of(tmp_path, method="ovd-filter", **settings)
    group = await judge.judge(1, "a", [Answer(text=text) for text in (long, long + ".", WRONG)])
    metrics = await judge.step_metrics(1, 1)
    await judge.close()
    assert group.rewards is not None and metrics["answers/cut"] == cut


@pytest.mark.parametrize("method", ["t-judge", "ovd-reward"])
def test_needs_and_requests_of_the_scored_methods(tmp_path, method):
    config = config_of(method)
    needs = method_of(config).needs(config)
    assert (needs.teacher_answers, needs.roles, needs.answers) == (0, ("verifier",), False)
    shown = config_of(method, score__teacher="shown")
    assert method_of(shown).needs(shown).teacher_answers == 1
    write_inputs(tmp_path)
    prompts = load_prompts(tmp_path / "prompts.jsonl")
    settings = {"rollout__n": 4, "train__prompts_per_step": 3}
    assert forecast_run(config_of(method, **settings), prompts, steps=5)["calls"] == 5 * 3 * 4
    assert forecast_run(config_of(method, score__per="group", **settings), prompts, steps=5)["calls"] == 5 * 3
    method_of(config).check(config, prompts)
    assert list(method_of(config).template_hashes(config)) == ["score"]
    with pytest.raises(InputError, match=f"monitor.share is 0.5, and method {method} has no rubrics"):
        method_of(config).check(config_of(method, monitor__share=0.5), prompts)
    (tmp_path / "score.md").write_text("Score {{judged}} by {{scale}}.")
    own = config_of(method, judge__templates=str(tmp_path), score__teacher="shown")
    with pytest.raises(InputError, match="references"):
        method_of(own).check(own, prompts)


# --- grpo-verifiable --------------------------------------------------------------------------------------------------


def group(rollouts, answer, data_source=None):
    messages = (Message(role="user", content="?"),)
    return Group(
        uid="u",
        prompt=messages,
        raw_prompt_hash=prompt_hash(messages),
        rollouts=tuple(Answer(text=text) for text in rollouts),
        answer=answer,
        data_source=data_source,
    )


async def test_rewards_are_the_grades_of_ropd_eval():
    rewarder = VerifiableRewarder(config_of("grpo-verifiable"))
    rollouts = [r"\boxed{1/2}", r"So it is \boxed{\frac{2}{4}}.", r"\boxed{0.51}", "no idea", r"<think>\boxed{0.5}", ""]
    try:
        record = (await rewarder.reward(group(rollouts, "0.5"))).verdicts
        assert record.rewards == record.student_scores == (1.0, 1.0, 0.0, 0.0, 0.0, 0.0)
        drop = VerifiableRewarder(config_of("grpo-verifiable", judge__on_no_answer="drop"), rewarder._tasks)
        assert (await drop.reward(group(rollouts, "0.5"))).verdicts.rewards == (1.0, 1.0, 0.0, 0.0, None, None)
        for source, text, answer, reward in (
            ("aime24", r"\boxed{073}", "73", 1.0),
            ("aime24", r"\boxed{146/2}", "73", 0.0),  # the integer grader's: its answer sheet has no room for it
            ("mine", r"\boxed{146/2}", "73", 1.0),
            ("gpqa", r"\boxed{B}", "B", 1.0),
        ):
            assert (await rewarder.reward(group([text], answer, source))).verdicts.rewards == (reward,), (source, text)
        hostile = await rewarder.reward(group([f"{text} \\boxed{{3}}" for text in HOSTILE.values()], "4"))
        assert set(hostile.verdicts.rewards) == {0.0}
    finally:
        await rewarder.close()


async def test_what_could_not_be_compared_is_missing():
    class Ended(ResultTask):
        def check(self, question):
            """Any."""

        async def grade(self, question, sample):
            return grade_of(sample, None if "?" in sample.text else sample.text == question.answer, None, "ended")

    rewarder = VerifiableRewarder(config_of("grpo-verifiable"), {"math": Ended()})
    assert (await rewarder.reward(group(["4", "?", "5"], "4"))).verdicts.rewards == (1.0, None, 0.0)


def test_graders_by_data_source():
    config = config_of("grpo-verifiable", verifiable__graders={"mine": "exact", "aime25": "math"})
    sources = ("mine", "aime24", "aime25", "gsm8k", "healthbench", "other", None)
    assert [grader_of(source, config) for source in sources] == ["exact", "integer", *["math"] * 5]


@pytest.mark.parametrize(
    ("rows", "settings", "complaint"),
    [
        ([{"answer": "7"}, {}, {"answer": " "}], {}, r"no `answer` in 2 prompts \(uid 'p1', 'p2'\)"),
        ([{}] * 5, {}, r"no `answer` in 5 prompts \(uid 'p0', 'p1', 'p2', …\)"),
        (
            [{"answer": "7"}, {"answer": "1/2", "data_source": "aime24"}],
            {},
            r"1 prompt can't be graded \(uid 'p1'\): question p1: its answer is no integer",
        ),
        ([{"answer": "7"}], {"verifiable__graders": {"x": "maths"}}, "graders: x: maths: no such grader"),
        ([{"answer": "7"}], {"verifiable__graders": {"x": "healthbench"}}, "no such grader"),
    ],
)
def test_prompts_that_can_not_be_graded(tmp_path, rows, settings, complaint):
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"uid": f"p{k}", "prompt": "?"} | row) + "\n" for k, row in enumerate(rows)))
    config = config_of("grpo-verifiable", **settings)
    with pytest.raises(InputError, match=complaint) as caught:
        method_of(config).check(config, load_prompts(file))
    assert caught.value.hint and "\n" not in str(caught.value)


async def test_a_verifiable_run_sends_nothing_and_opens_no_index(tmp_path):
    write_inputs(tmp_path)
    answers = {"a": "7", "b": "14", "odd": "Goethe"}
    rows = [{"uid": uid, "prompt": question, "answer": answers[uid]} for uid, question in QUESTIONS.items()]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judge, run = judge_of(tmp_path, method="grpo-verifiable", data__index=None, verifier__base_url="http://127.0.0.1:9")
    texts = {"a": ("7", WRONG, SILENT), "b": (WRONG, WRONG), "odd": (r"\boxed{Goethe}", "Schiller")}
    rewards = {uid: (await judge.judge(1, uid, [Answer(text=t) for t in texts[uid]])).rewards for uid in texts}
    metrics = await judge.step_metrics(1, 3)
    await judge.close()
    assert rewards == {"a": (1.0, 0.0, 0.0), "b": (0.0, 0.0), "odd": (1.0, 0.0)}
    assert metrics["judge/requests_sent"] == 0 and metrics["groups/judged"] == 3 and metrics["groups/missing"] == 0
    text = page(read_run(run.path))
    assert "for which no judge is asked" in text and "<th>score</th>" in text and "<td>of" not in text
    done = CliRunner().invoke(app, ["inspect-rubrics", str(run.path), "--uid", "a", "--cache-dir", str(tmp_path / "c")])
    assert done.exit_code == 0 and "1 without an answer" in done.stdout and "student 0, score 1.00" in done.stdout
