"""Teacher answers in the place of rollouts: which, with what rewards, and what is counted and written of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ropd_cli.config import RopdConfig
from ropd_cli.errors import InputError
from ropd_cli.methods import method_of
from ropd_cli.methods.base import Resources, Rewarded, Rewarder
from ropd_cli.methods.demonstrations import FilterRewarder, demonstration_ids
from ropd_cli.methods.ropd import Ropd
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import Answer, AnswerVerdict, Group, Message, VerdictRecord


class Scripted(Rewarder):
    """Gives these rewards."""

    def __init__(self, *rewards):
        self.clients = {}
        self.rewards, self.is_closed = rewards, False

    async def reward(self, group):
        answers = [AnswerVerdict(source="student", index=k, judgement=(), score=r) for k, r in enumerate(self.rewards)]
        return Rewarded(
            VerdictRecord(
                uid=group.uid,
                raw_prompt_hash=group.raw_prompt_hash,
                rubric_hash=None,
                answers=tuple(answers),
                rewards=self.rewards,
                model="",
                template_hash="",
            )
        )

    async def close(self):
        self.is_closed = True


def group_of(n, answer="the teacher's"):
    return Group(
        uid="a",
        prompt=(Message(role="user", content="1 + 1"),),
        raw_prompt_hash="0" * 64,
        teacher_answers=(answer,),
        rollouts=tuple(Answer(text=f"rollout {k}") for k in range(n)),
    )


@pytest.mark.parametrize(
    ("rewards", "fits", "expected", "replaced", "too_long"),
    [
        ((1.0, 4 / 9, 0.0, None), True, (1.0, 1.0, 1.0, None), {1, 2}, 0),
        ((1.0, 5 / 9, None, None), True, (1.0, 5 / 9, None, None), set(), 0),  # the threshold itself is accepted
        ((1.0, 4 / 9, 0.0, None), False, (1.0, 4 / 9, 0.0, None), set(), 2),
    ],
)
async def test_what_scores_less_is_replaced(rewards, fits, expected, replaced, too_long):
    scored = Scripted(*rewards)
    rewarder = FilterRewarder(scored, 5 / 9, lambda text: fits)
    given = await rewarder.reward(group_of(4))
    assert given.verdicts.rewards == expected
    assert given.replaced == dict.fromkeys(replaced, "the teacher's") and given.too_long == too_long
    assert given.verdicts.parts == {"score": rewards}
    assert [answer.score for answer in given.verdicts.answers] == list(rewards)
    await rewarder.close()
    assert scored.is_closed


async def test_the_owner_of_judging_hands_it_on_counts_and_writes_it(run_judge, monkeypatch):
    texts = []

    def rewarder(_self, _resources: Resources):
        return FilterRewarder(Scripted(1.0, 0.0, 0.25), 5 / 9, lambda text: texts.append(text) or len(texts) == 1)

    monkeypatch.setattr(Ropd, "rewarder", rewarder)
    monkeypatch.setattr(Ropd, "replaces", True)
    judge, directory = run_judge()
    rollouts = [Answer(text=text, finish_reason="stop") for text in ("3 + 4 = 7", "x", "y")]
    first = await judge.judge(1, "a", rollouts)
    second = await judge.judge(1, "b", rollouts)
    assert first.rewards == (1.0, 1.0, 1.0) and first.replaced == dict.fromkeys((1, 2), texts[0])
    assert second.rewards == (1.0, 0.0, 0.25) and second.replaced == {}
    metrics = await judge.step_metrics(1, 2)
    assert (metrics["rollouts/replaced"], metrics["rollouts/too_long_to_replace"]) == (2, 2)
    # a group whose rewards are all 1 is one without spread, and the mean of what is learnt from is not the rollouts'
    assert metrics["groups/zero_variance"] == 1 and metrics["reward/mean"] == pytest.approx(4.25 / 6)
    assert metrics["reward/score_mean"] == pytest.approx(2.5 / 6)
    written = {g["uid"]: g for _, g in read_records(directory.group_file(1))}
    assert (written["a"]["replaced"], written["a"]["too_long"]) == ([1, 2], 0)
    assert (written["b"]["replaced"], written["b"]["too_long"]) == ([], 2)
    assert texts[0] == written["a"]["teacher_answers"][0]
    await judge.close()


@pytest.mark.parametrize(
    ("tree", "said"),
    [({"rollout_is": "token"}, "train.rollout_is is token"), ({"async": "one_step"}, "train.async is")],
)
def test_what_does_not_go_with_answers_that_nobody_sampled(tree, said):
    config = RopdConfig.model_validate({"method": "ovd-filter", "train": tree})
    with pytest.raises(InputError, match=said):
        method_of(config).check(config, [])
    # verl's figures of how vLLM and trainer differ are left out (training/verl/trainer.py)
    assert method_of(config).verl_settings(config)["ropd"] == {"replaces": True}


def test_an_answer_ends_the_turn():
    class Tokenizer:
        eos_token_id = 9

        def __call__(self, text, add_special_tokens):
            assert not add_special_tokens
            return SimpleNamespace(input_ids=[len(word) for word in text.split()])

    assert demonstration_ids(Tokenizer(), "a bb") == [1, 2, 9]
