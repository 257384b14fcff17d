"""``ropd config``, and how a configuration is written: one endpoint for all, keys with dots."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import jsonschema
import pytest
import yaml

from ropd_cli.config import RopdConfig, load_config
from ropd_cli.config.describe import all_keys, describe
from ropd_cli.errors import ConfigError
from ropd_cli.util.resources import shipped_configs


def ropd(*arguments, code=0):
    command = [sys.executable, "-m", "ropd_cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "140"})
    assert done.returncode == code, done.stderr
    return done


def load(text=None, *sets, tmp_path=None, environ=None):
    file = None
    if text is not None:
        file = tmp_path / "run.yaml"
        file.write_text(text)
    return load_config(file, overrides=sets, environ=environ or {})


def test_what_init_prints_is_the_shipped_file(tmp_path):
    listed = ropd("config", "init").stdout.split()
    assert listed == list(shipped_configs()) and "gpu-math" in listed
    printed = ropd("config", "init", "gpu-math").stdout
    assert printed.rstrip() == shipped_configs()["gpu-math"].read_text().rstrip()
    out = tmp_path / "mine.yaml"
    ropd("config", "init", "quickstart", "--out", out)
    assert load_config(out, environ={}) == load_config("quickstart", environ={})
    assert "exists" in ropd("config", "init", "quickstart", "--out", out, code=2).stderr
    assert "no configuration quickstrat" in ropd("config", "init", "quickstrat", code=2).stderr


def test_show_is_what_a_command_would_run_with():
    shown = json.loads(ropd("config", "show", "--config", "quickstart", "--set", "judge.m=3", "--json").stdout)
    config = load_config("quickstart", overrides=["judge.m=3"], environ={})
    cache = shown.pop("cache_dir")
    assert cache and shown == {k: v for k, v in config.model_dump(mode="json").items() if k != "cache_dir"}
    changed = yaml.safe_load(ropd("config", "show", "--set", "judge.m=3", "--set", "seed=0", "--diff").stdout)
    assert {k: v for k, v in changed.items() if k != "cache_dir"} == {"judge": {"m": 3}}
    secret = ["--set", "verifier.headers={Authorization: Bearer abcdefghijklmnop}"]
    assert "abcdefghijklmnop" not in ropd("config", "show", *secret).stdout


def test_every_key_is_explained():
    keys = list(all_keys())
    assert len({each.key for each in keys}) == len(keys) > 150
    assert not [each for each in keys if "<class" in each.type or "typing" in each.type]
    assert not [each.key for each in keys if not each.meaning]
    one = ropd("config", "explain", "judge.m").stdout
    assert "integer, at least 1" in one and "default: 4" in one and "distinct teacher answers" in one
    assert "one of none, one_step" in ropd("config", "explain", "train.async").stdout
    assert {each.key for each in describe("train.refill")} == {
        "train.refill.zero_variance",
        "train.refill.missing",
        "train.refill.max_batches",
    }
    assert "did you mean judge.m" in ropd("config", "explain", "jugde.m", code=2).stderr
    overview = ropd("config", "explain").stdout
    assert len(overview.splitlines()) < 80 and "refill" in overview and "train.steps" not in overview
    assert len(json.loads(ropd("config", "explain", "--json").stdout)["keys"]) == len(keys)


def test_the_schema_fits_the_shipped_files():
    schema = json.loads(ropd("config", "schema").stdout)
    for file in shipped_configs().values():
        jsonschema.validate(yaml.safe_load(file.read_text()) or {}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"judge": {"m": 0}}, schema)


def test_sections_inherit_from_one_endpoint(tmp_path):
    text = """
endpoint: {base_url: "http://localhost:8000/v1", model: judge, limits: {concurrency: 7}, headers: {X-Team: a}}
verifier: {model: other, limits: {rpm: 60}}
"""
    config = load(text, tmp_path=tmp_path)
    assert {config.rubricator.model, config.teacher.model, config.lint.judge.model} == {"judge"}
    verifier = config.verifier
    assert (verifier.model, verifier.limits.concurrency, verifier.limits.rpm) == ("other", 7, 60)
    assert verifier.base_url == config.monitor.judge.base_url == "http://localhost:8000/v1"
    assert (config.rubricator.sampling.temperature, verifier.sampling.temperature) == (0.7, 0.0)
    assert config.student.endpoint.model is None  # the student is no judge
    # what is written down for a run reads back as it is
    assert RopdConfig.model_validate(config.model_dump(mode="json")) == config
    environ = {"ROPD_VERIFIER_MODEL": "from-environment"}
    assert load(text, tmp_path=tmp_path, environ=environ).verifier.model == "from-environment"


def test_a_fault_of_the_common_endpoint_is_told_once(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load("endpoint: {limits: {concurency: 3}}\nverifier: {modle: x}\n", tmp_path=tmp_path)
    assert len(caught.value.problems) == 2
    assert "endpoint.limits.concurency: unknown key, did you mean concurrency?" in caught.value.problems
    assert "verifier.modle: unknown key, did you mean model?" in caught.value.problems


def test_a_key_of_another_section_is_found(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load("judge: {n: 8}\nrubricator: {temperature: 0.2}\n", tmp_path=tmp_path)
    assert sorted(caught.value.problems) == [
        "judge.n: unknown key, did you mean rollout.n?",
        "rubricator.temperature: unknown key, did you mean rubricator.sampling.temperature?",
    ]


def test_a_key_with_dots_stands_in_quotes():
    config = load(
        None, 'prices."gpt-5.2".input=1.75', 'prices."gpt-5.2".output=14', "prices.plain={input: 1, output: 2}"
    )
    assert config.prices["gpt-5.2"].input == 1.75 and config.prices["plain"].output == 2
