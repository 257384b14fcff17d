"""True runs of the methods that reward a rollout as a whole, by the command: what verl's batch holds is what the judge,
or the grader, says of each rollout."""

from __future__ import annotations

import json

import orjson
import pytest
from conftest import Shell
from judges import read
from servers import Reply, ScriptedServer
from tiny_runs import groups_of, has_answer, rows_of, write_inputs

from ropd_cli.records.files import read_records

pytestmark = [pytest.mark.training, pytest.mark.long, pytest.mark.timeout(900)]
pytest.importorskip("verl", reason="needs the CPU stack: make env")

TOPS = {"t-judge": 100, "ovd-reward": 9, "ovd-filter": 9, "grpo-verifiable": 1}
THRESHOLD, TEACHER = 8, "w3 w4 w5 w6"
GROUPS, ROLLOUTS, TOKENS = 4, 4, 12
CONFIG = """
device: cpu
method: {method}
verifier: {{base_url: "{url}", model: judge, limits: {{max_retries: 0}}}}
student: {{model_path: "{model}", dtype: float32}}
data: {{prompts: prompts.jsonl, max_prompt_tokens: 16, max_response_tokens: 12, shuffle: false}}
rollout: {{n: 4, temperature: 1.0}}
train: {{steps: 2, prompts_per_step: 4, lr: 1e-3, lr_schedule: constant, weight_decay: 0.0}}
verl: {{trainer: {{rollout_data_dir: dumped}}}}
"""
MORE = {
    "t-judge": "",
    "ovd-reward": "score: {per: group, teacher: shown}\n",
    "ovd-filter": f"score: {{threshold: {THRESHOLD}}}\n",
    "grpo-verifiable": "verifiable: {graders: {words: exact}}\n",
}


def worth(answer, top):
    """What the judge thinks of an answer: the more different words, the better."""
    return round(top * len(set(answer.split())) / TOKENS)


def judge(body):
    seen = read(body)
    top = int(seen.inside["scale"].partition("-")[2])
    rows = [{"answer_index": k, "score": worth(seen.answers[k - 1], top)} for k in seen.numbers("judged")]
    return Reply(json.dumps({"schema_version": "ropd.scores.v1", "answers": rows}))


class Run:
    """Two steps of a method, in a folder and with a judge of its own."""

    def __init__(self, method, shell, server):
        self.method, self.shell, self.server = method, shell, server
        self.top = TOPS[method]

    def train(self, *options, code=0):
        return self.shell.ropd("train", "--config", "run.yaml", "--out", "run", *options, code=code)

    def reward(self, text):
        if self.is_replaced(text):
            return 1.0
        if not has_answer({"text": text}):
            return 0.0
        if self.method == "grpo-verifiable":
            return float(text.strip() == "w3")
        return worth(text, self.top) / self.top

    def is_replaced(self, text):
        score = worth(text, self.top) if has_answer({"text": text}) else 0
        return self.method == "ovd-filter" and score < THRESHOLD


@pytest.fixture(scope="module", params=list(TOPS))
def run(request, tmp_path_factory, tiny_model):
    method, shell = request.param, Shell(tmp_path_factory.mktemp("shell"))
    write_inputs(shell, 2 * GROUPS)
    prompts = [json.loads(line) for line in (shell.folder / "prompts.jsonl").read_text().splitlines()]
    rows = "".join(json.dumps(prompt | {"data_source": "words"}) + "\n" for prompt in prompts)
    (shell.folder / "prompts.jsonl").write_text(rows)
    with ScriptedServer() as server:
        server.default = judge
        config = CONFIG.format(method=method, url=server.url, model=tiny_model) + MORE[method]
        if method.startswith("ovd"):
            config = config.replace("data: {", "data: {index: teacher.index, ")
        (shell.folder / "run.yaml").write_text(config)
        made = Run(method, shell, server)
        made.train()
        yield made


def test_rewards_are_what_was_said_of_each_rollout(run):
    for step in (1, 2):
        groups = list(groups_of(run.shell, step).values())
        assert len(groups) == GROUPS and not any(group["error"] or group["rubric"] for group in groups)
        for group in groups:
            expected = [run.reward(rollout["text"]) for rollout in group["rollouts"]]
            assert group["rewards"] == pytest.approx(expected) and len(expected) == ROLLOUTS
            assert len(group["teacher_answers"]) == run.method.startswith("ovd")
        rows = [record for _, record in read_records(run.shell.folder / "dumped" / f"{step}.jsonl")]
        dumped = sorted(row["score"] for row in rows if "pad" not in str(row["uid"]))
        assert dumped == pytest.approx(sorted(reward for group in groups for reward in group["rewards"]), abs=1e-5)
        if run.method == "ovd-filter":  # the batch has the teacher's tokens where a rollout was rejected
            texts = [rollout["text"] for group in groups for rollout in group["rollouts"]]
            replaced = list(map(run.is_replaced, texts))
            assert any(replaced) and not all(replaced)
            shown = sorted(TEACHER if out else text.strip() for text, out in zip(texts, replaced, strict=True))
            assert sorted(row["output"].replace("<|turn|>", "").strip() for row in rows) == shown
            assert [k for g in groups for k in g["replaced"]] == [k % ROLLOUTS for k, out in enumerate(replaced) if out]


def test_metrics_requests_and_templates(run):
    rows = rows_of(run.shell)
    assert [row["step"] for row in rows] == [1, 2]
    assert all(row["groups/judged"] == GROUPS and row["groups/missing"] == 0 for row in rows)
    answered = sum(has_answer(r) for step in (1, 2) for g in groups_of(run.shell, step).values() for r in g["rollouts"])
    lock = orjson.loads((run.shell.folder / "run" / "prompts.lock").read_bytes())
    if run.method == "grpo-verifiable":
        assert not run.server.requests and lock == {}
    else:
        texts = {body["messages"][-1]["content"] for body in run.server.bodies}
        assert len(texts) <= (2 * GROUPS if run.method == "ovd-reward" else answered)
        assert list(lock) == ["score"]
        hashes = {g["verdicts"]["template_hash"] for step in (1, 2) for g in groups_of(run.shell, step).values()}
        assert hashes == set(lock.values())


def test_the_command_s_page_and_list_speak_of_no_rubric(run):
    page = (run.shell.folder / "run" / "report.html").read_text()
    assert "The <i>rubricator</i>" not in page and "Hardest criteria" not in page
    listed, _ = run.shell.ropd("inspect-rubrics", "run")
    assert "teacher" not in listed and listed.split()[:3] == ["step", "uid", "n"]


def test_another_method_is_refused_on_resume_and_the_same_one_goes_on(run):
    (run.shell.folder / "run" / "result.json").unlink()
    for key in ("method=ropd", "score.per=group" if run.method == "t-judge" else "score.per=rollout"):
        if run.method in ("grpo-verifiable", "ovd-filter") and key != "method=ropd":
            continue
        _, err = run.train("--resume", "--set", key, code=2)
        name = key.partition("=")[0]
        assert f"of other settings: {name} " in err or "method ropd reads no " in err
    run.train("--resume", "--set", "train.steps=3")
    assert [row["step"] for row in rows_of(run.shell)] == [1, 2, 3]
