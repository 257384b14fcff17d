"""Configuration: layers, all faults at once, nearest names; every shipped file loads."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ropd_cli.config import RopdConfig, load_config
from ropd_cli.config.load import PROFILES, dump_config
from ropd_cli.config.profiles import differences
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
    assert "quickstart" in caught.value.hint and "ablations/not-blind" in caught.value.hint


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


@pytest.mark.parametrize("file", sorted(shipped("configs").rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_configuration_loads(file):
    load_config(file, environ={})
    assert "ropd " in file.read_text().splitlines()[0], "the first line is the command that runs it"
    name = file.relative_to(shipped("configs"))
    assert find_config(name) == find_config(name.with_suffix("")) == file


def test_files_are_laid_over_each_other_and_over_the_profile(tmp_path):
    base, over = tmp_path / "base.yaml", tmp_path / "over.yaml"
    base.write_text("judge: {m: 2, blind: false}\nteacher: {model: base, sampling: {top_p: 0.5}}\n")
    over.write_text("judge: {m: 3}\nteacher: {model: over}\n")
    config = load_config([base, over], profile="reference", overrides=["train.steps=7"], environ={})
    assert (config.judge.m, config.judge.blind, config.judge.form) == (3, False, "group")
    assert (config.teacher.model, config.teacher.sampling.top_p, config.train.steps) == ("over", 0.5, 7)
    assert load_config([over, base], environ={"ROPD_TEACHER_MODEL": "env"}).teacher.model == "env"
    assert load_config([over, base], environ={}).judge.m == 2
    over.write_text("judge: {mm: 1}\n")
    with pytest.raises(ConfigError, match="did you mean m") as caught:
        load_config([base, over], environ={})
    assert str(caught.value).startswith(f"{over}: judge.mm: ")
    with pytest.raises(InputError, match="no profile mine"):
        load_config(profile="mine", environ={})


# key -> the paper's number, the reference's
NUMBERS = {
    "teacher.sampling.temperature": (1.0, None),
    "rubricator.sampling.temperature": (0.7, None),
    "rubricator.sampling.reasoning_effort": (None, "high"),
    "verifier.sampling.temperature": (0.0, None),
    "verifier.sampling.reasoning_effort": (None, "high"),
    "judge.form": ("paper", "group"),
    "train.steps": (None, 500),
    "train.prompts_per_update": (None, 8),
    "train.lr_schedule": ("cosine", "constant"),
    "train.warmup_steps": (100, 0),
    "train.betas": ([0.9, 0.95], [0.9, 0.999]),
    "train.weight_decay": (0.1, 0.01),
    "train.norm_adv_by_std": (True, False),
    "eval.n": (16, 8),
    "eval.top_p": (0.95, None),
    "eval.max_tokens": (32768, 8192),
}
SAME = {
    "train.lr": 1e-6,
    "train.grad_clip": 1.0,
    "train.prompts_per_step": 32,
    "rollout.n": 8,
    "judge.m": 4,
    "train.kl_coef": 0.0,
    "data.max_prompt_tokens": 2048,
    "data.max_response_tokens": 8192,
    "rollout.temperature": 1.0,
    "eval.temperature": 1.0,
}


def value_at(config, key):
    for part in key.split("."):
        config = getattr(config, part)
    return config


def test_profiles_differ_in_what_the_paper_and_its_reference_differ_in():
    configs = tuple(load_config(profile=name, environ={}) for name in PROFILES)
    rows = differences(PROFILES, configs)
    assert {row.key: row.values for row in rows} == NUMBERS
    assert all(all(row.why) for row in rows), "each key says why"
    assert {key: (value_at(configs[0], key), value_at(configs[1], key)) for key in SAME} == {
        key: (value, value) for key, value in SAME.items()
    }
    assert differences(("paper", "paper"), (configs[0], configs[0])) == []


def test_each_ablation_changes_its_own_keys_alone(tmp_path):
    base = tmp_path / "base.yaml"
    base.write_text("judge: {m: 4, form: group}\ntrain: {lr: 2e-6}\n")
    plain = load_config(base, environ={}).model_dump()
    for name, keys in {
        "one-answer": {"m": 1, "rotate_answers": False},
        "rubric-per-rollout": {"rubric_per": "rollout"},
        "not-blind": {"blind": False},
        "no-teacher-in-pool": {"teacher_in_pool": False},
    }.items():
        changed = load_config([base, f"ablations/{name}"], environ={}).model_dump()
        assert changed == plain | {"judge": plain["judge"] | keys}
