"""Rewards that a user mixes: linear in the weights, missing where a part is missing, and each part what it says."""

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropd_cli.config import RewardConfig
from ropd_cli.errors import InputError, JudgeError
from ropd_cli.method.rewards import RewardMixer
from ropd_cli.records.schemas import Answer, Group, Message, Prompt, Usage


def make_group(*texts, answer="42", tokens=None):
    rollouts = [
        Answer(text=text, usage=Usage(completion_tokens=tokens[k]) if tokens else None) for k, text in enumerate(texts)
    ]
    prompt = (Message(role="user", content="6 * 7?"),)
    return Group(
        uid="u",
        prompt=prompt,
        raw_prompt_hash="h",
        rollouts=tuple(rollouts),
        answer=answer,
        data_source="sums",
        extra_info={"level": 3},
    )


def mix(group, scores, **settings):
    return asyncio.run(RewardMixer.load(RewardConfig(**settings)).mix(group, scores))


scores_lists = st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=8)


@given(scores_lists)
def test_the_rubric_alone_is_the_score_itself(scores):
    mixed = mix(make_group(*["x"] * len(scores)), scores)
    assert mixed.rewards_G == tuple(scores) and mixed.parts == {"rubric": tuple(scores)}


@given(scores_lists, st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3))
def test_linear_in_the_weights_and_missing_with_any_part(scores, rubric, exact, length):
    group = make_group(*["\\boxed{42}", "\\boxed{41}"] * len(scores), tokens=list(range(100, 100 + 2 * len(scores))))
    scores = [s for s in scores for _ in range(2)]
    if not (rubric or exact or length):
        return
    weights = {"rubric": rubric, "exact": exact, "length": length}
    mixed = mix(group, scores, **weights, length_free_tokens=100, length_max_tokens=110)
    alone = {
        name: mix(group, scores, **{"rubric": 0.0, name: 1.0}, length_free_tokens=100, length_max_tokens=110)
        for name in weights
    }
    for k, reward in enumerate(mixed.rewards_G):
        parts = {name: alone[name].rewards_G[k] for name, weight in weights.items() if weight}
        if None in parts.values():
            assert reward is None
        else:
            assert reward == pytest.approx(math.fsum(weights[name] * part for name, part in parts.items()), abs=1e-9)


def test_exact_looks_at_the_box_behind_the_thinking():
    texts = (
        "\\boxed{42}",
        "so \\boxed{042.0}",
        "42",
        "<think>\\boxed{42}</think>\\boxed{41}",
        "<think>\\boxed{42}",
        "",
    )
    mixed = mix(make_group(*texts), [None] * 6, rubric=0.0, exact=2.0)
    assert mixed.rewards_G == (2.0, 2.0, 0.0, 0.0, 0.0, 0.0)
    assert mixed.parts == {"rubric": (None,) * 6, "exact": (1.0, 1.0, 0.0, 0.0, 0.0, 0.0)}
    assert mix(make_group("x", answer=None), [0.5], exact=1.0).rewards_G == (None,)


@pytest.mark.parametrize(("tokens", "part"), [(1, 1.0), (100, 1.0), (150, 0.5), (200, 0.0), (999, 0.0)])
def test_length_falls_between_its_two_marks(tokens, part):
    settings = {"rubric": 0.0, "length": 1.0, "length_free_tokens": 100, "length_max_tokens": 200}
    assert mix(make_group("x", tokens=[tokens]), [None], **settings).rewards_G == (part,)
    assert mix(make_group("xyz " * tokens), [None], **settings).rewards_G == (part,)  # by estimate


def test_format_looks_at_the_visible_answer_s_end():
    texts = ("a \\boxed{7}", "<think>\\boxed{7}</think>none", "\\boxed{\n7\n}", "\\boxed{7}" + " " * 200_000, "")
    assert mix(make_group(*texts), [0.5] * 5, rubric=0.0, format=1.0).rewards_G == (1.0, 0.0, 1.0, 0.0, 0.0)
    own = {"rubric": 0.0, "format": 1.0, "format_pattern": r"\A\d+\Z"}
    assert mix(make_group("42", "x"), [None, None], **own).rewards_G == (1.0, 0.0)


FUNCTIONS = """
from __future__ import annotations
from dataclasses import dataclass
import numpy

def brevity(data_source, solution_str, ground_truth, extra_info):
    assert (data_source, ground_truth, extra_info) == ("sums", "42", {"level": 3})
    return 1 / len(solution_str)

async def slow(solution_str, **_):
    return {"score": len(solution_str), "why": "as long as it is"}

def picky(solution_str, **_):
    return None if solution_str == "a" else True

def broken(**_):
    raise KeyError("level")

def words(**_):
    return "good"

def infinite(**_):
    return float("inf")

def twice(**_):
    return 2

def huge(**_):
    return 10**400

def other(**_):
    return {"reward": 1.0}

def ended(**_):
    return next(iter([]))

def leaves(**_):
    raise SystemExit(3)

def numpy_truth(solution_str, **_):
    return {"score": numpy.bool_(solution_str == "a")}

class Judge:
    async def __call__(self, solution_str, **_):
        return len(solution_str)

judge = Judge()

@dataclass
class Said:
    value: float

NUMBER = 3
"""


@pytest.fixture
def functions(tmp_path):
    (tmp_path / "mine.py").write_text(FUNCTIONS)
    return lambda name: f"{tmp_path}/mine.py:{name}"


@pytest.mark.parametrize(
    ("name", "rewards"),
    [
        ("brevity", (1.5, 1.0)),
        ("slow", (1.5, 2.5)),
        ("picky", (None, 1.5)),
        ("numpy_truth", (1.5, 0.5)),
        ("judge", (1.5, 2.5)),
    ],
)
def test_a_function_of_ones_own(functions, name, rewards):
    mixed = mix(make_group("a", "bb"), [0.5, 0.5], custom=1.0, custom_function=functions(name))
    assert mixed.rewards_G == rewards and mixed.parts["rubric"] == (0.5, 0.5)
    assert len(mixed.parts["custom"]) == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken", "KeyError: 'level'"),
        ("words", "'good'"),
        ("infinite", "inf"),
        ("huge", "1000"),
        ("other", "'reward'"),
        ("ended", "StopIteration"),  # which once made the caller wait for ever
        ("leaves", "SystemExit: 3"),
    ],
)
def test_a_function_that_fails_makes_the_group_missing(functions, name, said):
    with pytest.raises(JudgeError, match=f"uid u: reward function .*mine.py:{name}: .*{said}"):
        mix(make_group("a"), [0.5], custom=1.0, custom_function=functions(name))


def test_a_sum_beyond_every_number_is_missing(functions):
    with pytest.raises(JudgeError, match="uid u: a reward is no finite number"):
        mix(make_group("a"), [0.5], custom=1e308, exact=1e308, rubric=1e308, custom_function=functions("twice"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rubric": 0.0}, "all weights are 0"),
        ({"exact": math.nan}, "reward.exact nan"),
        ({"custom": 1.0}, "custom_function is not set"),
        ({"custom_function": "mine.py"}, "no function named"),
        ({"custom_function": "nowhere.py:f"}, "no file nowhere.py"),
        ({"custom_function": "no.such.module:f"}, "ModuleNotFoundError"),
        ({"custom_function": "math:nothing"}, "nothing is not in it"),
        ({"custom_function": "math:pi"}, "can't be called"),
        ({"format_pattern": "("}, "format_pattern"),
        ({"length": 1.0, "length_free_tokens": 9, "length_max_tokens": 9}, "not below"),
    ],
)
def test_settings_that_can_not_be_used(settings, said):
    with pytest.raises(InputError, match=said):
        RewardMixer.load(RewardConfig(**settings))


def test_each_part_is_normalised_by_itself():
    """Worked by hand: rubric has mean 0.5 and std sqrt(1/6), exact mean 0.5 and std sqrt(1/3)."""
    texts, scores = ("\\boxed{42}", "x", "\\boxed{42}", "x"), (0.0, 0.5, 1.0, 0.5)
    mixed = mix(make_group(*texts), scores, exact=0.5, combine="separate")
    assert mixed.rewards_G == (0.5, 0.5, 1.5, 0.5) and mixed.weights_K == ()
    assert mixed.shaped_G == pytest.approx((-0.791732, -0.433013, 1.657757, -0.433013), abs=1e-6)
    # a rollout without one of the parts has no reward, and no part in the means
    mixed = mix(make_group(*texts, "\\boxed{42}"), (*scores, None), exact=0.5, combine="separate")
    assert mixed.shaped_G == pytest.approx((-0.791732, -0.433013, 1.657757, -0.433013, None), abs=1e-6)
    # what is the same for all rollouts adds nothing
    mixed = mix(make_group(*["\\boxed{42}"] * 4), scores, exact=0.5, combine="separate")
    assert mixed.shaped_G == pytest.approx((-1.224745, 0.0, 1.224745, 0.0), abs=1e-6)
    mixed = mix(make_group("x", "x", "x"), (0.1, 0.1, 0.1), exact=0.5, combine="separate")
    assert mixed.shaped_G == (0.0, 0.0, 0.0)
    assert mix(make_group("x"), (0.7,), exact=0.5, combine="separate").shaped_G == (0.0,)


def test_settings_of_newer_versions_leave_older_hashes_as_they_were():
    parts = {"rubric", "exact", "length", "format", "custom"}
    older = {*parts, "length_free_tokens", "length_max_tokens", "format_pattern", "custom_function"}
    group = make_group("x")
    plain = RewardMixer.load(RewardConfig(), 3).fingerprint(group)
    assert plain.keys() == older
    newer = [{"criterion_weights": "discriminating"}, {"criterion_dropout": 0.2}, {"criterion_dropout": 0.3}]
    hashes = [RewardMixer.load(RewardConfig(**settings), 3).fingerprint(group) for settings in newer]
    hashes.append(RewardMixer.load(RewardConfig(criterion_dropout=0.3), 4).fingerprint(group))
    assert all(a != b for k, a in enumerate([plain, *hashes]) for b in hashes[k:])


def test_prompts_without_an_answer_are_named():
    prompts = [Prompt(uid=f"u{k}", prompt="?", answer="1" if k == 0 else None) for k in range(6)]
    with pytest.raises(InputError, match=r"no `answer` in 5 prompts \(uid 'u1', 'u2', 'u3', …\)"):
        RewardMixer.load(RewardConfig(exact=1.0)).check(prompts)
    RewardMixer.load(RewardConfig()).check(prompts)


def test_whether_judges_are_needed():
    assert RewardMixer.load(RewardConfig()).needs_judges
    assert not RewardMixer.load(RewardConfig(rubric=0.0, exact=1.0)).needs_judges
