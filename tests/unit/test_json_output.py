"""What ``--json`` prints is what docs/schemas/output says: each command runs once, and no field may be unknown."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from batch_server import BatchServer
from jsonschema import Draft202012Validator
from judged_runs import QUESTIONS, judge_of, write_inputs
from processes import start_ropd
from runs import write_run
from servers import Reply
from typer.testing import CliRunner

from ropd_cli.analysis.intervals import Interval
from ropd_cli.analysis.method_runs import CellResult, Point, by_task
from ropd_cli.cli._screen import Screen
from ropd_cli.cli._stages import report
from ropd_cli.cli.compare_methods import Comparison
from ropd_cli.cli.main import COMMANDS, app, load_command
from ropd_cli.config import load_config
from ropd_cli.recipes.quickstart_summary import Outcome, Sample
from ropd_cli.records.schemas import Answer, load_prompts
from ropd_cli.stages.runner import Tally
from ropd_cli.training.device_choices import Machine, described, device_choices
from ropd_cli.training.launch import Result
from ropd_cli.training.run_dir import RunDir
from ropd_cli.training.run_estimate import forecast_run

FOLDER = Path(__file__).parents[2] / "docs" / "schemas" / "output"
SCHEMAS = {file.stem: json.loads(file.read_text()) for file in FOLDER.glob("*.json")}
JUDGE = ("--base-url", "builtin://checkable")
STUDENT = ("--base-url", "builtin://checkable?skill=0.5")
NOT_PRINTED = {"SamplesLeft", "ModelServed", "ExportedModel"}
"""Documents of commands that need vLLM or a checkpoint; these are made as their types, which mypy checks."""


class Printed:
    """Compares documents with the schemas of their commands, and notes the types that they turned out to be of."""

    def __init__(self):
        self.kinds = set()

    def check(self, command, text):
        document, schema = json.loads(text), SCHEMAS[command.replace(" ", "-")]
        faults = []
        for kind in schema["anyOf"]:
            found = list(Draft202012Validator({**kind, "$defs": schema["$defs"]}).iter_errors(document))
            if not found:
                self.kinds.add(kind.get("$ref", "").rpartition("/")[2])
                return
            faults += [f"{fault.json_path}: {fault.message}"[:300] for fault in found]
        pytest.fail("\n".join([command, *faults]))

    def ropd(self, command, *options, code=0):
        done = CliRunner().invoke(app, [*command.split(), *map(str, options), "--json", "--quiet"])
        assert done.exit_code == code, done.output
        self.check(command, done.stdout)

    def serve(self, command, *options):
        """Check what a server prints once it is ready, and stop it."""
        child = start_ropd([*command.split(), *options, "--port", 0, "--json"], Path.cwd(), os.environ)
        lines = []
        while lines[-1:] != ["}\n"]:
            lines.append(child.stdout.readline() or pytest.fail(child.stderr.read()))
        child.terminate()
        child.communicate(timeout=60)
        self.check(command, "".join(lines))


def judged_run(folder):
    """Write ``run``, judged by the built-in provider."""
    write_inputs(folder)
    judge, _ = judge_of(folder)

    async def work():
        texts = ["It is 7.", "7", "Perhaps 8, or 14."]
        await judge.judge(1, next(iter(QUESTIONS)), [Answer(text=text, finish_reason="stop") for text in texts])
        await judge.step_metrics(1, 1)
        await judge.close()

    asyncio.run(work())


def test_every_command_has_a_schema():
    commands = {name: getattr(load_command(name), "commands", {}) for name in COMMANDS}
    named = {f"{name}-{child}" for name, children in commands.items() for child in children}
    assert SCHEMAS.keys() == named | {name for name, children in commands.items() if not children} | {"eval"}


def test_every_command_prints_what_its_schema_says(tmp_path, monkeypatch, capsys, server):
    monkeypatch.chdir(tmp_path)
    printed = Printed()
    ropd = printed.ropd
    ropd("config init")
    ropd("config init", "quickstart")
    ropd("config init", "quickstart", "--out", "c.yaml")
    ropd("config show", "--diff")
    ropd("config explain", "judge")
    ropd("config schema")
    ropd("data list")
    ropd("data prepare", "sums", "--out", "p.jsonl", "--size", 6, "--held-out", 2, "--held-out-out", "h.jsonl")
    ropd("teacher-gen", "p.jsonl", "--out", "t.jsonl", "-m", 2, *JUDGE, "--dry-run")
    ropd("teacher-gen", "p.jsonl", "--out", "t.jsonl", "-m", 2, *JUDGE)
    two = ("--teacher", "x@builtin://checkable", "--teacher", "y@builtin://checkable")
    ropd("teacher-gen", "p.jsonl", "--out", "t2.jsonl", "-m", 2, *two, "--dry-run")
    ropd("index build", "t.jsonl", "--out", "i.db")
    ropd("index show", "i.db")
    ropd("index show", "i.db", "--prompts", "p.jsonl")
    uid = json.loads(Path("p.jsonl").read_text().splitlines()[0])["uid"]
    ropd("index get", "i.db", "--uid", uid)
    ropd("index check", "i.db")
    ropd("index check", "i.db", "--quick")
    ropd("index check", "i.db", "p.jsonl", "-m", 2)
    ropd("index check", "i.db", "h.jsonl", "--quick", code=3)
    ropd("index merge", "i.db", "--out", "i2.db")
    ropd("index export", "i.db", "--out", "e.jsonl")
    ropd("index import", "e.jsonl", "--out", "i3.db", "--prompts", "p.jsonl")
    Path("a.jsonl").write_text('{"prompt": "What is 1 + 1?", "response": "2"}\n')
    ropd("index import", "a.jsonl", "--out", "a-t.jsonl")
    ropd("index rehash", "i.db", "p.jsonl")
    ropd("rollout", "p.jsonl", "--out", "r.jsonl", "--n", 4, "--seed", 0, *STUDENT)
    ropd("rubricate", "p.jsonl", "--index", "i.db", "--rollouts", "r.jsonl", "--out", "b.jsonl", "-m", 2, *JUDGE)
    judged = ("--rubrics", "b.jsonl", "--rollouts", "r.jsonl", "--index", "i.db", "-m", 2)
    ropd("verify", "p.jsonl", *judged, "--out", "v.jsonl", *JUDGE)
    ropd("inspect-rubrics", "v.jsonl")
    ropd("inspect-rubrics", "v.jsonl", "--uid", uid)
    server.default = Reply('{"schema_version": "ropd.lint.v1", "findings": []}')
    lint = ("--lint-judge", "--model", "m", "--base-url", server.url)
    ropd("inspect-rubrics", "v.jsonl", *lint, "--dry-run")
    ropd("inspect-rubrics", "v.jsonl", *lint)
    ropd("inspect-rubrics", "v.jsonl", *lint, "--uid", uid)
    for name in ("x", "y"):
        options = ("--benchmarks", "mine", "--data", "mine=p.jsonl", "--n", 2, "--limit", 3)
        ropd("eval", *options, "--grader", "mine=integer", "--model", name, "--out", name, *STUDENT)
    ropd("eval", *options, "--grader", "mine=integer", "--model", "z", "--out", "z", *STUDENT, "--dry-run")
    ropd("eval compare", "x", "y")
    ropd("eval list")
    RunDir(write_run(tmp_path / "made", steps=3)).prompts_lock.write_text("{}")
    ropd("runs")
    ropd("report", "made")
    for kind in ("pairs", "sft", "rubrics", "verdicts"):
        ropd(f"export {kind}", "made")
    judged_run(tmp_path)
    ropd("rejudge", "run", "--dry-run")
    ropd("rejudge", "run", "--repeats", 2)
    ropd("doctor", "--offline")
    shape = {"model_type": "qwen3", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape |= {"num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 512, "torch_dtype": "bfloat16"}
    Path("config.json").write_text(json.dumps(shape))
    ropd("doctor", "--offline", "--simulate", "H100-80GB:8", "--set", f"student.model_path={tmp_path}")
    ropd("train", "--diff", "paper", "reference")
    ropd("quickstart", "--judge-only", "--out", "try")
    ropd("prices")
    ropd("cache info")
    ropd("cache gc")
    ropd("cache export", "cache.jsonl")
    ropd("cache import", "cache.jsonl")
    ropd("cache clear", "--yes")
    printed.serve("serve-judge")
    document = {"data": {"prompts": "p.jsonl", "index": "i.db"}, "out": "served", "judge": {"m": 2}}
    document |= {name: {"base_url": "builtin://checkable"} for name in ("rubricator", "verifier")}
    Path("served.yaml").write_text(json.dumps(document))
    printed.serve("serve-reward", "--config", "served.yaml")
    with BatchServer(lambda body: "an answer") as batches:
        batches.looks = 99
        options = ("--batch-api", "--no-batch-wait", "--model", "m", "--base-url", batches.url)
        ropd("teacher-gen", "p.jsonl", "--out", "t3.jsonl", "-m", 1, *options)

    def shown(command, document):
        Screen(json=True).result(document, "")
        printed.check(command, capsys.readouterr().out)

    report(Screen(json=True), Tally(done=2), Path("r.jsonl"), "prompts")
    printed.check("rollout", capsys.readouterr().out)
    rows = [{"reward/mean": 0.5, "train/loss": 1.0, "groups/judged": 4.0}, {"step": 2}]
    shown("train", Result(Path("run"), Path("model"), 2, rows).document())
    config = load_config("served.yaml", environ={})
    choices = described(device_choices(config, Machine(2, False, False)), {"trainer": {"device": "x"}})
    forecast = forecast_run(config, load_prompts("p.jsonl"), 2)
    shown("train", {"trainer": {}, "ropd": {"forecast": forecast, "choices": choices, "model": "m"}})
    cells = [CellResult("ropd", 0, "sums", 1, (Point(0, 0.5, None),), (1.0,), None, None, None, "here", "1")]
    shown("compare-methods", Comparison(tasks=by_task(cells), cells="compare.json"))
    ropd("compare-methods", "--methods", "ropd,sft", "--dry-run", "--out", "compared")
    figures = (0.25, 0.5, Interval(0.25, 0.1, 0.4), [0.5], [1.0], [Sample("1 + 1?", "2", "3", "2")])
    shown("quickstart", Outcome(0, 4, *figures, checkpoint="c", run_dir="r").document())
    declared = {
        kind["$ref"].rpartition("/")[2] for schema in SCHEMAS.values() for kind in schema["anyOf"] if "$ref" in kind
    }
    assert declared - printed.kinds == NOT_PRINTED
