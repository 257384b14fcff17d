"""The judge for Python: rewards of one group, of a call of TRL's, and what goes wrong."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import pytest
from judged_runs import QUESTIONS, write_inputs
from servers import Status

import ropd_cli
from ropd_cli.builtin.teacher import write_answer
from ropd_cli.errors import AccountEnded, ConfigError, InputError, ProviderError
from ropd_cli.index import IndexWriter
from ropd_cli.records.schemas import Answer, AnswerRecord, prompt_hash
from ropd_cli.records.sent_prompts import is_same, sent_prompt
from ropd_cli.stages.runner import GIVE_UP_AFTER

ROLLOUTS = ("3 + 4 = 7", "3 + 4 = 9", "no idea", "")


@pytest.fixture
def config(tmp_path):
    write_inputs(tmp_path)
    return {
        "data.index": str(tmp_path / "i.db"),
        "data.prompts": str(tmp_path / "prompts.jsonl"),
        "cache_dir": str(tmp_path / "cache"),
        "judge": {"m": 2},
        "rollout": {"n": 2},
        "rubricator": {"base_url": "builtin://checkable"},
        "verifier": {"base_url": "builtin://checkable"},
    }


@pytest.fixture
def judge(config):
    with ropd_cli.Judge.from_config(config) as judge:
        yield judge


async def test_a_group_is_judged_as_in_a_training(judge, run_judge):
    group = await judge.rewards(QUESTIONS["a"], ROLLOUTS, uid="a")
    trained, _ = run_judge()
    same = await trained.judge(1, "a", [Answer(text=text, finish_reason="stop") for text in ROLLOUTS])
    await trained.close()
    assert group.rewards == same.rewards and group.rewards[0] > group.rewards[1] > group.rewards[3] == 0
    assert len(group.rubric.rubric.rubrics) >= 4 and len(group.verdicts.answers) == 6


@pytest.mark.parametrize(("version", "is_fit"), [("1.5.1", False), ("1.6.0", True), ("1.16.0", True)])
def test_a_trl_that_counts_a_missing_reward_as_0_is_refused(judge, monkeypatch, version, is_fit):
    monkeypatch.setattr("importlib.metadata.version", {"trl": version}.__getitem__)
    if is_fit:
        assert callable(judge.trl_reward())
    else:
        with pytest.raises(InputError, match=r"trl 1\.5\.1 counts a missing reward as 0"):
            judge.trl_reward()


@pytest.mark.parametrize("method", ["sft", "lopd", "exopd", "gad", "ovd-filter"])
def test_a_method_that_trains_on_more_than_rewards_is_refused(config, method):
    with pytest.raises(InputError, match=f"method {method} trains on more than rewards") as refused:
        ropd_cli.Judge.from_config(config | {"method": method})
    assert refused.value.hint == "set method to one of ropd, t-judge, ovd-reward, grpo-verifiable"


def test_without_an_event_loop_and_with_teacher_answers_of_one_s_own(judge):
    teacher = [write_answer("What is 9 + 9?", n) for n in range(2)]
    group = judge.rewards_sync("What is 9 + 9?", ["18", "It is 17."], teacher)
    assert group.rewards[0] > group.rewards[1]
    messages = [{"role": "user", "content": QUESTIONS["a"]}]  # the index has the bare text
    assert judge.rewards_sync(messages, ROLLOUTS).rewards == judge.rewards_sync(QUESTIONS["a"], ROLLOUTS).rewards


async def test_many_groups_from_several_loops(judge):
    groups = await asyncio.gather(*(judge.rewards(QUESTIONS[uid], ["7", "14"]) for uid in "ab"))
    other = await asyncio.to_thread(judge.rewards_sync, QUESTIONS["a"], ["7", "14"])
    assert groups[0].rewards == other.rewards and groups[0].rewards[0] > groups[0].rewards[1]
    assert groups[1].rewards[0] < groups[1].rewards[1]


def test_trl_s_call(judge, caplog):
    reward = judge.trl_reward()
    a, b = ([{"role": "user", "content": QUESTIONS[uid]}] for uid in "ab")
    said = [[{"role": "assistant", "content": text}] for text in ("7", "9", "14", "no")]
    values = reward(prompts=[a, a, b, b], completions=said, completion_ids=[[1]] * 4, trainer_state=None)
    assert values[0] > values[1] and values[2] > values[3]
    # as plain texts, and a prompt that was drawn twice
    twice = [QUESTIONS["a"]] * 4 + [QUESTIONS["b"]] * 2 + [QUESTIONS["a"]] * 2
    assert reward(prompts=twice, completions=["7", "9", "9", "7", "14", "no", "9", "9"]) == [
        *values[:2], values[1], values[0], *values[2:], values[1], values[1]
    ]  # fmt: skip
    assert not caplog.messages
    reward(prompts=twice[:4], completions=["7", "9"] * 2)
    assert caplog.messages == ["each prompt has 4 or more completions, judged in groups of rollout.n = 2"]
    assert reward.__name__ == "ropd_reward"
    missing = reward(prompts=[QUESTIONS["odd"]] * 2 + [QUESTIONS["a"]] * 2, completions=["Goethe", "x", "7", "9"])
    assert missing == [None, None, values[0], values[1]]


def test_trl_s_unknown_prompts(judge, caplog):
    reward = judge.trl_reward()
    unknown, known = ["What is 1 + 1?"] * 2, [QUESTIONS["a"]] * 2
    with pytest.raises(InputError, match="no answer to the prompt"):  # nothing was judged yet
        reward(prompts=unknown, completions=["2", "3"])
    *missing, first, second = reward(prompts=unknown + known, completions=["2", "3", "7", "9"])
    assert missing == [None, None] and first > second
    for _ in range(GIVE_UP_AFTER - 1):
        assert reward(prompts=unknown, completions=["2", "3"]) == [None, None]
    assert [line[:40] for line in caplog.messages] == [f"1 group has no rewards: {judge.config.data.index}"[:40]]
    with pytest.raises(InputError, match="no answer to the prompt"):
        reward(prompts=unknown, completions=["2", "3"])


@pytest.mark.parametrize("error", [Status(402), Status(400)])
def test_trl_s_missing_groups(config, server, error):
    server.default = error
    endpoint = {"base_url": server.url, "model": "m", "limits": {"max_retries": 0}}
    with ropd_cli.Judge.from_config(config | {"verifier": endpoint}) as judge:
        call = {"prompts": [QUESTIONS["a"]] * 2, "completions": ["7", "9"]}
        if error.code == 402:
            with pytest.raises(AccountEnded):
                judge.trl_reward()(**call)
        else:
            for _ in range(GIVE_UP_AFTER - 1):
                assert judge.trl_reward()(**call) == [None, None]
            with pytest.raises(ProviderError):  # nothing was ever judged
                judge.trl_reward()(**call)


@pytest.mark.parametrize("method, role", [("ropd", "rubricator"), ("t-judge", "verifier")])
def test_a_judge_without_a_model_is_refused_at_once(config, method, role):
    endpoint = {"base_url": "http://127.0.0.1:9"}
    with pytest.raises(InputError, match=f"no model name for the {role}"):
        ropd_cli.Judge.from_config(config | {"method": method, role: endpoint})


def test_trl_is_given_what_verl_would_be(config):
    with ropd_cli.Judge.from_config(
        config | {"rollout": {"n": 4}, "reward": {"criterion_weights": "discriminating"}}
    ) as judge:
        group = judge.rewards_sync(QUESTIONS["a"], ROLLOUTS)
        values = judge.trl_reward()(prompts=[QUESTIONS["a"]] * len(ROLLOUTS), completions=list(ROLLOUTS))
    assert values == list(group.verdicts.shaped) != list(group.rewards)


@pytest.mark.parametrize("prompts", [["x", "x", "y"], ["x", "y"], ["x", "y", "x", "y"]])
def test_unequal_groups_are_refused(judge, prompts):
    with pytest.raises(InputError, match="a group is judged together"):
        judge.trl_reward()(prompts=prompts, completions=["1"] * len(prompts))


@pytest.mark.parametrize(
    "form",
    [
        f" {QUESTIONS['a']}\n",
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTIONS["a"]}],
        f"<|im_start|>user\n{QUESTIONS['a']}<|im_end|>\n<|im_start|>assistant\n",
        "3 + 4?",
    ],
)
def test_a_prompt_that_is_indexed_in_another_form(judge, form):
    with pytest.raises(InputError, match=r"no answer to the prompt '[^M]*'$") as fault:
        judge.rewards_sync(form, ROLLOUTS)
    own = judge.rewards_sync(QUESTIONS["a"], ROLLOUTS).rewards
    same_text = isinstance(form, list) or form.strip() == QUESTIONS["a"]
    shown = "without your system message" if same_text else "'What is 3 + 4?'"
    assert f"the index has it in another form, {shown}" in fault.value.hint
    if QUESTIONS["a"] in str(form):  # as the hint says
        assert judge.rewards_sync(form, ROLLOUTS, uid="a").rewards == own


async def test_what_is_missing_is_said(judge, config, server):
    with pytest.raises(InputError, match="no answer to the prompt 'What is 1") as fault:
        await judge.rewards("What is 1 + 1?", ["2", "3"])
    assert fault.value.hint == "index it first, or give teacher_answers"
    without = {key: value for key, value in config.items() if key != "data.index"}
    async with ropd_cli.Judge.from_config(without) as other:
        with pytest.raises(InputError, match=r"needs 2 teacher answers per prompt, and data\.index is not set"):
            await other.rewards(QUESTIONS["a"], ["2", "3"])
    server.default = Status(400)
    endpoint = {"base_url": server.url, "model": "m", "limits": {"max_retries": 0}}
    async with ropd_cli.Judge.from_config(config | {"rubricator": endpoint}) as other:
        with pytest.raises(ProviderError):
            await other.rewards(QUESTIONS["a"], ["2", "3"])
        other.close()
        other.close()


def test_settings_that_the_method_does_not_read_are_refused(config):
    with pytest.raises(ConfigError, match="reward.exact: method t-judge reads no reward section"):
        ropd_cli.Judge.from_config(config | {"method": "t-judge", "reward": {"exact": 0.5, "rubric": 0.5}})


def test_other_methods_reward_too(config):
    with ropd_cli.Judge.from_config(config | {"method": "grpo-verifiable"}) as judge:
        assert judge.rewards_sync(QUESTIONS["a"], ["7", r"\boxed{9}"], answer="7").rewards == (1.0, 0.0)


SCRIPT = """
import ropd_cli
def rewards():
    judge = ropd_cli.Judge.from_config({"method": "grpo-verifiable", "rollout": {"n": 2}})
    print(judge.rewards_sync("What is 1/2?", [r"\\boxed{\\frac{1}{2}}", r"\\boxed{x}"], answer="0.5").rewards)
"""


@pytest.mark.slow
def test_a_script_that_compares_formulas(tmp_path):
    """Worker processes import the script: it needs its guard, and nothing complains of a judge that was not closed."""

    def run(end):
        (tmp_path / "script.py").write_text(SCRIPT + end)
        return subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)

    guarded = run('if __name__ == "__main__":\n    rewards()\n')
    assert (guarded.stdout, guarded.stderr) == ("(1.0, 0.0)\n", "")
    bare = run("rewards()\n")
    assert bare.returncode == 1 and '`if __name__ == "__main__":`' in bare.stderr


def test_the_example_of_the_documentation(config, tmp_path, monkeypatch, capsys):
    page = Path(__file__).parents[2] / "docs" / "python.md"
    example = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)[0]
    assert len([line for line in example.splitlines() if line.strip()]) <= 5
    with IndexWriter(tmp_path / "i.db") as index:
        texts = [write_answer("What is 12 + 19?", n) for n in range(2)]
        answers = tuple(Answer(text=text) for text in texts)
        question = "What is 12 + 19?"
        index.add(
            AnswerRecord(uid="c", prompt=question, raw_prompt_hash=prompt_hash(question), answers=answers, model="m")
        )
    data = {name: config.pop(f"data.{name}") for name in ("index", "prompts")}
    sections = {"data": data, **config}
    (tmp_path / "run.yaml").write_text(json.dumps(sections))
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(example, names)
    names["judge"].close()
    rewards = ast.literal_eval(capsys.readouterr().out)
    assert rewards[0] == max(rewards) > rewards[1]


SIGNATURES = {
    "Judge": "(config: 'RopdConfig') -> 'None'",
    "Judge.from_config": "(config: 'str | Path | Mapping[str, Any] | RopdConfig') -> 'Judge'",
    "Judge.rewards": "(self, prompt: 'Messages', rollouts: 'Sequence[str | Answer]', "
    "teacher_answers: 'Sequence[str] | None' = None, *, answer: 'str | None' = None, uid: 'str | None' = None, "
    "epoch: 'int' = 0, **fields: 'Any') -> 'JudgedGroup'",
    "Judge.rewards_sync": "(self, prompt: 'Messages', rollouts: 'Sequence[str | Answer]', *args: 'Any', "
    "**fields: 'Any') -> 'JudgedGroup'",
    "Judge.trl_reward": "(self) -> 'TrlReward'",
    "Judge.close": "(self) -> 'None'",
}


def test_the_public_signatures_are_frozen():
    found = {name: str(inspect.signature(attrgetter(name)(ropd_cli))) for name in SIGNATURES}
    assert found == SIGNATURES
    public = {f"Judge.{name}" for name, each in vars(ropd_cli.Judge).items() if name[0] != "_" and callable(each)}
    assert public <= set(SIGNATURES)
    assert ropd_cli.JudgedGroup._fields == ("rewards", "rubric", "verdicts")


def test_the_public_names():
    assert set(ropd_cli.__all__) == {"Judge", "JudgedGroup", "__version__", "verl_reward"}
    with pytest.raises(AttributeError):
        _ = ropd_cli.nothing


QUESTION = QUESTIONS["a"]


@pytest.mark.parametrize(
    ("arguments", "fields", "complaint"),
    [
        ((QUESTION, "31"), {}, "rollouts is one str"),
        ((QUESTION, ["7", None]), {}, r"rollouts\[1\] is NoneType, not a text"),
        ((QUESTION, []), {}, "no rollouts"),
        ((QUESTION, 7), {}, "rollouts is one int"),
        ((QUESTION, ["7", "9"], "It is 31."), {}, "teacher_answers is one str"),
        ((QUESTION, ["7", "9"], ["7", 7]), {}, r"teacher_answers\[1\] is int"),
        ((QUESTION, ["7", "9"]), {"anwser": "7"}, "rewards has no argument 'anwser'"),
        ((QUESTION, ["7", "9"]), {"data_source": 7}, "data_source: "),
        ((None, ["7", "9"]), {}, "no prompt"),
        ((None, ["7", "9"]), {"uid": "zz"}, r"uid 'zz' is not in data\.prompts"),
        ((QUESTION, ["7", "9"]), {"uid": "b"}, "uid 'b' is the prompt 'What is 5"),
        ((7, ["7", "9"]), {}, "prompt: int"),
        (([{"role": "usr", "content": QUESTION}], ["7", "9"]), {}, "message 1: unknown role 'usr'"),
        (([{"text": QUESTION}], ["7", "9"]), {}, "message 1: role: "),
    ],
)
def test_arguments_of_the_wrong_type_are_refused(judge, arguments, fields, complaint):
    with pytest.raises(InputError, match=complaint):
        judge.rewards_sync(*arguments, **fields)


@pytest.mark.parametrize(
    ("sent", "fits"),
    [
        ("What is 1 + 2?", True),
        ("<|im_start|>user\nWhat is 1 + 2?<|im_end|>\n<|im_start|>assistant\n", True),
        ("[INST] What is 1 + 2? [/INST]", True),
        ("USER: What is 1 + 2? ASSISTANT:", True),
        ("### Instruction:\nWhat is 1 + 2?\n\n### Response:\n", True),
        ([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 1 + 2?"}], True),
        ("What is 1 + 2? * 5", False),
        ('Tell me: "What is 1 + 2?"', False),
        ("What is 1 + 3?", False),
    ],
)
def test_what_counts_as_the_same_prompt(sent, fits):
    assert is_same(sent_prompt("What is 1 + 2?"), sent_prompt(sent)) is fits


def test_the_turns_of_a_prompt_in_a_template():
    turns = [("user", "3 + 4 ="), ("assistant", "7"), ("user", "5 + 6 =")]
    known = sent_prompt([{"role": role, "content": text} for role, text in turns])
    chat = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns)
    assert is_same(known, sent_prompt(chat + "<|im_start|>assistant\n"))
    assert not is_same(known, sent_prompt(chat.replace("5 + 6 =", "5 + 6 = 2 +")))


def test_an_answer_that_is_lacking_is_said(config):
    with ropd_cli.Judge.from_config(config | {"reward.exact": 0.5}) as judge:
        with pytest.raises(InputError, match="has no answer"):
            judge.rewards_sync("What is 1 + 2?", ["3", "4"], ["3", "It is 3."])
        with pytest.raises(InputError, match="has no answer"):
            judge.trl_reward()(prompts=["What is 1 + 2?"] * 2, completions=["3", "4"], teacher_answers=[["3"]] * 2)


@pytest.mark.parametrize(
    "call",
    [
        {"prompts": [], "completions": []},
        {"prompts": ["q"] * 4, "completions": ["3"] * 3},
        {"prompts": ["q"] * 2, "completions": ["3"] * 4},
        {"prompts": ["q"] * 2, "completions": ["3"] * 2, "teacher_answers": [["3"]]},
    ],
)
def test_columns_of_different_lengths_are_refused(judge, call):
    with pytest.raises(InputError, match="columns of different lengths, or empty"):
        judge.trl_reward()(**call)


def test_a_uid_alone_numbers_and_templates(judge):
    rewards = judge.rewards_sync(QUESTION, ["7", "9"]).rewards
    assert judge.rewards_sync(None, ["7", "9"], uid="a").rewards == rewards
    system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f" {QUESTION}\n"}]
    own = [write_answer(QUESTION, n) for n in range(2)]
    assert judge.rewards_sync(system, ["7", "9"], own, uid="a").rewards == rewards
    assert judge.rewards_sync(QUESTION, ["7", "9"], uid=1, answer=7).verdicts.uid == "1"
    trl = judge.trl_reward()(prompts=[QUESTION] * 2, completions=["7", "9"], uid=[1, 1], answer=[7, 7])
    assert trl == list(rewards)


async def test_a_running_loop_and_a_closed_judge(config):
    judge = ropd_cli.Judge.from_config(config)
    with pytest.raises(InputError, match="running event loop") as fault:
        judge.rewards_sync(QUESTION, ["7", "9"])
    assert fault.value.hint == "there: await judge.rewards(…)"
    await asyncio.to_thread(judge.close)
    with pytest.raises(InputError, match="the judge is closed"):
        await judge.rewards(QUESTION, ["7", "9"])
    with pytest.raises(InputError, match="the judge is closed"):
        judge.trl_reward()(prompts=[QUESTION] * 2, completions=["7", "9"])
