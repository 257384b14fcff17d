"""Configuration: layers, all faults at once, nearest names; every shipped file loads."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ropd_cli.config import RopdConfig, load_config
from ropd_cli.config.load import dump_config
from ropd_cli.errors import ConfigError, InputError
from ropd_cli.util.resources import find_config, shipped


def test_layers_in_order(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("judge: {m: 2}\nteacher: {model: from-yaml}\ntrain: {lr: 1e-6}\n")
    environ = {"ROPD_TEACHER_MODEL": "from-env", "OPENAI_BASE_URL": "http://x/v1"}
    assert load_config(file, environ={}).teacher.model == "from-yaml"
    config = load_config(file, environ=environ)
    assert config.teacher.model == "from-env"
    assert {config.teacher.base_url, config.rubricator.base_url, config.verifier.base_url} == {"http://x/v1"}
    assert config.train.lr == 1e-6 and config.judge.m == 2
    config = load_config(file, overrides=["teacher.model=from-set", "judge.m=5"], environ=environ)
    assert (config.teacher.model, config.judge.m) == ("from-set", 5)
    flags = {"teacher.model": "from-flag", "judge.m": None}
    config = load_config(file, overrides=["teacher.model=from-set"], flags=flags, environ=environ)
    assert (config.teacher.model, config.judge.m) == ("from-flag", 2)


def test_a_section_given_in_part_keeps_the_other_defaults():
    config = load_config(overrides=["rubricator.model=x"], environ={})
    assert config.rubricator.sampling.temperature == 0.7
    config = load_config(overrides=["rubricator.sampling.max_tokens=99"], environ={})
    assert config.rubricator.sampling.temperature == 0.7
    config = load_config(overrides=["verifier.sampling.max_tokens=99"], environ={})
    assert config.verifier.sampling.temperature == 0.0


def test_all_faults_at_once_with_the_nearest_names(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("trian: {lr: 1}\njudge: {mm: 3, m: many}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file, overrides=["student.lora_rnak=3", "seed"], environ={})
    text = str(caught.value)
    assert caught.value.exit_code == 2 and len(caught.value.problems) == 5
    for part in ("c.yaml", "did you mean train?", "judge.mm", "judge.m:", "did you mean lora_rank?", "--set 'seed'"):
        assert part in text


def test_faults_of_further_teachers_stand_beside_all_others(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(
        "judge: {m: 0}\nteacher: {model: x, sampling: {temperature: 9}}\n"
        "teachers:\n  bold: {modle: x, sampling: {temperature: 7, q: 1}}\n  none: 3\n"
        "  careful: {sampling: {top_p: 0.5}}\n  wide: {limits: 4}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(file, environ={})
    said = sorted(problem.partition(":")[0] for problem in caught.value.problems)
    teachers = ["teachers.bold.modle", "teachers.bold.sampling.q", "teachers.bold.sampling.temperature"]
    assert said == ["judge.m", "teacher.sampling.temperature", *teachers, "teachers.none", "teachers.wide.limits"]
    assert any("did you mean model" in problem for problem in caught.value.problems)


@pytest.mark.parametrize("text, where", [("a: [1\n", r"c\.yaml:2"), ("- 1\n", "expected sections")])
def test_bad_yaml_is_one_input_error(tmp_path, text, where):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=where):
        load_config(file, environ={})


def test_unknown_file_lists_the_shipped_ones():
    with pytest.raises(InputError) as caught:
        load_config("nothing.yaml", environ={})
    assert "quickstart.yaml" in caught.value.hint


@given(
    st.builds(
        lambda lr, m, path: {"train": {"lr": lr}, "judge": {"m": m}, "student": {"model_path": path}},
        st.floats(min_value=1e-9, max_value=1.0),
        st.integers(1, 50),
        st.text(min_size=1).filter(lambda s: s.isprintable()),
    )
)
def test_round_trip_through_yaml(tree):
    config = RopdConfig.model_validate(tree)
    assert RopdConfig.model_validate(yaml.safe_load(dump_config(config))) == config


@pytest.mark.parametrize("file", sorted(shipped("configs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_configuration_loads(file):
    load_config(file, environ={})
    assert "ropd " in file.read_text().splitlines()[0], "the first line is the command that runs it"
    assert find_config(file.name) == file == find_config(file.stem)
