"""``ropd export``: what is written loads by ``datasets``, and is what the groups say."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import datasets
import numpy as np
import pytest
import yaml
from runs import group_record, scored_record, write_run
from safetensors.numpy import save_file
from typer.testing import CliRunner

from ropd_cli.cli.main import app
from ropd_cli.method.dataset_rubrics import dataset_rubric
from ropd_cli.records.schemas import parse_prompt
from ropd_cli.training.run_dir import RunDir

YES, NO = [True] * 4, [False] * 4


def ropd(*words, code=0):
    done = CliRunner().invoke(app, [*map(str, words)])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if "--json" in words else " ".join(done.output.split())


def exported(kind, run, *options):
    """The report of an export, and the rows as ``datasets`` reads them."""
    said = ropd("export", kind, run, "--json", *options)
    rows = datasets.load_dataset(said["out"], split="train", cache_dir=str(run.parent / "hf"))
    return said, list(rows)


@pytest.fixture
def run(tmp_path):
    missing = group_record(1, "missing", [YES, NO, [True, False, True, False]], [YES])
    missing["rewards"] = missing["verdicts"]["rewards"] = [None, None, 0.5]
    extra = [
        group_record(1, "wide", [[True, False, True, False], NO, YES, [True] * 3 + [False]], [YES]),
        group_record(1, "close", [YES, [True, True, True, False]], [YES]),
        group_record(1, "same", [YES] * 2, [YES]),
        missing,
        group_record(1, "failed", [YES] * 2, [], error="late"),
    ]
    return write_run(tmp_path / "run", steps=1, groups=0, extra=extra)


def test_pairs(run):
    said, rows = exported("pairs", run)
    assert [row["uid"] for row in rows] == ["wide", "close"]
    assert said["left_out"] == {"without_spread": 1, "with_fewer_than_two_rewards": 1, "not_judged": 1}
    assert rows[0]["prompt"] == [{"role": "user", "content": "Capital of country wide?"}]
    assert rows[0]["chosen"] == [{"role": "assistant", "content": "Paris. 2"}]
    assert rows[0]["rejected"] == [{"role": "assistant", "content": "Paris. 1"}]
    assert (rows[0]["score_chosen"], rows[0]["score_rejected"]) == (pytest.approx(1.0), 0.0)
    said, rows = exported("pairs", run, "--margin", "0.5", "--out", run.parent / "wide")
    assert [row["uid"] for row in rows] == ["wide"] and said["left_out"]["within_the_margin"] == 1
    card = (run.parent / "wide" / "README.md").read_text()
    assert "1 row from 5 groups" in card and "1 within the margin" in card


@pytest.mark.parametrize(
    ("source", "replies"),
    [
        ("best", ["Paris. 2", "Paris. 0", "Paris. 0", "Paris. 2"]),
        ("teacher", ["It is Paris, teacher 0 says."] * 4),
    ],
)
def test_sft(run, source, replies):
    said, rows = exported("sft", run, "--source", source)
    assert [row["messages"][-1]["content"] for row in rows] == replies
    assert [row["messages"][0]["role"] for row in rows] == ["user"] * 4
    assert sum(said["left_out"].values()) == 1


def test_equal_conversations_appear_once(tmp_path):
    """Also where the judge thought otherwise of the same reply, and where a prompt has two names."""
    records = [scored_record(step, "a", [2, score], 9, teacher_answers=["Paris."]) for step, score in ((1, 7), (2, 8))]
    records += [records[0] | {"uid": "b"}, scored_record(2, "a", [9, 2], 9)]
    path = write_run(tmp_path / "scored", steps=1, groups=0, scale=9, extra=records)
    _, rows = exported("sft", path, "--source", "both")
    assert [(row["source"], row["messages"][-1]["content"], row["reward"]) for row in rows] == [
        ("student", "Paris. 1", pytest.approx(7 / 9)),
        ("teacher", "Paris.", None),
        ("student", "Paris. 0", 1.0),
    ]


def test_a_rollout_that_a_teacher_answer_replaced_is_no_example(tmp_path):
    """Its reward of 1 is the teacher's answer's."""
    records = []
    for uid, scores, replaced in (("some", [2, 7, 5], [0]), ("one", [2, 7], [0]), ("none", [2, 3], [0, 1])):
        record = scored_record(1, uid, scores, 9, teacher_answers=["Paris, says the teacher."], replaced=replaced)
        record["rewards"] = [1.0 if k in replaced else reward for k, reward in enumerate(record["rewards"])]
        records.append(record)
    path = write_run(tmp_path / "filtered", steps=1, groups=0, scale=9, extra=records)
    said, rows = exported("pairs", path)
    assert [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows] == [("Paris. 1", "Paris. 2")]
    assert said["left_out"] == {"with_fewer_than_two_rewards": 1, "with_all_rollouts_replaced_or_missing": 1}
    _, rows = exported("sft", path, "--source", "both")
    assert [(row["uid"], row["source"], row["reward"]) for row in rows] == [
        ("some", "student", pytest.approx(7 / 9)),
        ("some", "teacher", None),
        ("one", "student", pytest.approx(7 / 9)),
        ("one", "teacher", None),
        ("none", "teacher", None),
    ]


def test_rubrics_and_verdicts(run):
    said, rows = exported("rubrics", run)
    assert len(rows) == 4 and said["left_out"] == {"without_a_rubric": 1}
    assert [c["points"] for c in rows[0]["rubric"]["rubrics"]] == [5, 3, 2, 1]
    _, rows = exported("verdicts", run)
    wide = [row for row in rows if row["uid"] == "wide"]
    assert [(row["source"], row["index"], row["reward"]) for row in wide][:3] == [
        ("teacher", 0, None),
        ("student", 0, wide[1]["score"]),
        ("student", 1, 0.0),
    ]
    assert wide[2]["answer"] == "Paris. 1" and wide[2]["judgement"] == NO
    assert [row["reward"] for row in rows if row["uid"] == "missing"] == [None, None, None, 0.5]


def test_files_of_the_stages(tmp_path, caplog):
    """Pairs and rubrics of what rubricate and verify write."""
    prompts, rollouts = tmp_path / "prompts.jsonl", tmp_path / "rollouts.jsonl"
    prompts.write_text('{"uid": "a", "prompt": "What is 3 + 4?"}\n')
    teacher = ["--base-url", "builtin://checkable", "--model", "builtin"]
    ropd("teacher-gen", prompts, "--out", tmp_path / "t.jsonl", "-m", 2, *teacher)
    ropd("index", "build", tmp_path / "t.jsonl", "--out", tmp_path / "i.db")
    record = json.loads((tmp_path / "t.jsonl").read_text())
    record["answers"] = [{"text": text, "finish_reason": "stop"} for text in ("3 + 4 = 7, so \\boxed{7}", "8")]
    rollouts.write_text(json.dumps(record) + "\n")
    rubrics, verdicts = tmp_path / "r.jsonl", tmp_path / "v.jsonl"
    both = ["--rollouts", rollouts, "--index", tmp_path / "i.db", "--base-url", "builtin://checkable"]
    both += ["--set", "judge.m=2"]
    ropd("rubricate", prompts, *both, "--out", rubrics)
    ropd("verify", prompts, *both, "--rubrics", rubrics, "--out", verdicts)
    said, rows = exported("pairs", verdicts)
    assert said["out"] == str(tmp_path / "v-pairs")
    assert (rows[0]["chosen"][0]["content"], rows[0]["rejected"][0]["content"]) == ("3 + 4 = 7, so \\boxed{7}", "8")
    assert rows[0]["prompt"] == [{"role": "user", "content": "What is 3 + 4?"}]
    for file in (rubrics, verdicts):  # the teacher's answers are those of the index that it was made with
        _, rows = exported("sft", file, "--source", "teacher")
        assert [row["source"] for row in rows] == ["teacher"] * 2
    record["answers"][1]["text"] = "9"
    rollouts.write_text(json.dumps(record) + "\n")  # drawn again: what was judged is gone
    assert "1 without their rollouts" in ropd("export", "pairs", verdicts, "--out", tmp_path / "y", code=2)
    assert f"{rollouts}: other answers than those that were judged" in caplog.text
    verdicts.with_name("v.jsonl.sources.json").unlink()
    assert "without their prompt" in ropd("export", "pairs", verdicts, "--out", tmp_path / "x", code=2)
    _, rows = exported("rubrics", rubrics, "--prompts", prompts)
    assert rows[0]["prompt"][0]["content"] == "What is 3 + 4?" and rows[0]["rubric"]["rubrics"]
    again = parse_prompt({"prompt": rows[0]["prompt"], "rubric": rows[0]["rubric"]}, "here")
    points = [criterion["points"] for criterion in rows[0]["rubric"]["rubrics"]]
    assert [c.points for c in dataset_rubric(again).rubrics] == points  # what was exported, a data set can bring


@pytest.fixture
def trained(tmp_path):
    """A run with two whole checkpoints and one that was cut short; its base model lies in a folder with a card."""
    path = write_run(tmp_path / "run", steps=9)
    base = tmp_path / "base-model"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n# base\n")
    config = yaml.safe_load((path / "config.yaml").read_text())
    config |= {"student": {"model_path": str(base)}, "data": {"prompts": str(tmp_path / "sums.jsonl")}}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    run = RunDir(path)
    for step in (3, 6, 9):
        folder = run.saved.folder(step)
        (folder / "actor" / "huggingface").mkdir(parents=True)
        for kind in ("model", "optim", "extra_state"):
            (folder / "actor" / f"{kind}_world_size_1_rank_0.pt").write_text("x")
        hub = folder / "actor" / "huggingface"
        (hub / "config.json").write_text(json.dumps({"model_type": "qwen2", "_name_or_path": str(base)}))
        (hub / "tokenizer.json").write_text("{}")
        (hub / "chat_template.jinja").write_text("{{ messages }}")
        save_file({"w": np.full(2, step, dtype=np.float32)}, hub / "model.safetensors")
        if step < 9:
            (folder / "data.pt").write_text("x")
    return run


def test_a_model_and_its_card(trained, tmp_path):
    out = tmp_path / "out"
    assert ropd("export", "model", trained.path, "--out", out, "--json")["step"] == 6
    assert {file.name for file in out.iterdir()} == {
        "README.md",
        "chat_template.jinja",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }
    assert (out / "model.safetensors").read_bytes() == (trained.huggingface(6) / "model.safetensors").read_bytes()
    card = (out / "README.md").read_text()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["license"] == "apache-2.0" and "base_model" not in head  # a folder is no name on the hub
    for words in (
        "Base model: base-model",
        "Data: sums.jsonl",
        "Judge: m",
        "$0.09",
        "The mean reward rose",
        "ropd-cli",
    ):
        assert words in card
    everything = "".join(file.read_text(errors="replace") for file in out.iterdir())
    assert str(tmp_path) not in everything and "sk-secret-1" not in everything and "${KEY}" in card
    assert re.search(r"\| 9 \| 0\.\d{3} \|", card)
    assert ropd("export", "model", trained.path, "--out", out, "--step", 3, "--json")["step"] == 3  # over its own
    assert "step 3 of a run" in (out / "README.md").read_text()


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as an upload of small files needs."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append((self.path, self.headers.get("Authorization"), body))
        if self.server.refuses:
            self.answer({"error": "no"}, 403)
        elif self.path == "/api/repos/create":
            self.answer({"url": f"http://{self.headers['Host']}/me/student"})
        elif "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            self.answer({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
        elif "/commit/" in self.path:
            self.answer(
                {"commitUrl": f"http://{self.headers['Host']}/me/student/commit/{'0' * 40}", "commitOid": "0" * 40}
            )
        else:
            self.answer({})

    def do_GET(self):
        self.answer({"id": "me/student", "sha": "0" * 40, "siblings": []})

    def answer(self, document, status=200):
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.requests, server.refuses = [], False
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 30)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_push(trained, tmp_path, hub):
    out = tmp_path / "out"
    said = ropd("export", "model", trained.path, "--out", out, "--push", "me/student", "--json")
    assert said["url"].endswith("/me/student")
    created = json.loads(next(body for path, _, body in hub.requests if path.endswith("/create")))
    assert created.get("visibility") == "private" or created.get("private") is True  # by version of the client
    commit = next(body for path, _, body in hub.requests if "/commit/" in path).decode()
    sent = [json.loads(line)["value"].get("path") for line in commit.splitlines()]
    assert {file.name for file in out.iterdir()} <= set(sent)
    hub.refuses = True
    message = ropd("export", "model", trained.path, "--out", out, "--push", "me/student", code=4)
    assert "403" in message and "the folder is whole" in message.lower()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pairs", "nowhere"], "no file nowhere"),
        (["pairs", "empty"], "no groups/step-N.jsonl.zst in it"),
        (["rubrics", "scored"], "nothing to export as rubrics (groups: 1 without a rubric)"),
        (["pairs", "run", "--margin", "2"], "within the margin"),
        (["pairs", "run", "--out", "full"], "not empty, and no earlier export"),
        (["model", "empty", "--out", "o"], "no training run (config.yaml is missing)"),
        (["model", "run", "--out", "o"], "no whole checkpoint yet"),
        (["model", "trained", "--out", "o", "--step", "9"], "no whole checkpoint of step 9"),
        (["model", "trained", "--out", "o", "--push", "me/x"], "no token for the hub"),
        (["model", "trained", "--out", "o", "--push", "a/b/c"], "a/b/c"),
    ],
)
def test_bad_input(words, message, run, tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    write_run(tmp_path / "scored", steps=1, groups=0, scale=10, extra=[scored_record(1, "a", [3, 5], 10)])
    if "trained" in words:
        run.rename(tmp_path / "judged")
        request.getfixturevalue("trained").path.rename(tmp_path / "trained")
    if "a/b/c" in words:
        monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 30)
    said = ropd("export", *words, code=2)
    assert message in said and "Traceback" not in said
    assert not (tmp_path / "o").exists()
