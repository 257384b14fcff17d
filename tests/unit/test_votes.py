"""Votes of a judge that is asked more than once, and calls that fail."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropd_cli.errors import CostLimit, ProviderBusy, ProviderDown, ReplyInvalid
from ropd_cli.method.verdicts import agreement, majority
from ropd_cli.util.concurrency import all_of

VALUE = st.sampled_from([True, False, None])


def one(*values):
    return [((value,),) for value in values]


@pytest.mark.parametrize(
    ("votes", "repeats", "said"),
    [
        ([True, True, False], 3, True),
        ([False, True, False], 3, False),
        ([True, False], 2, None),
        ([True, None, False], 3, None),
        ([True, None, True], 3, True),
        ([True, None, None], 3, None),
        ([True, True], 3, True),  # the third call failed
        ([True, False], 3, None),
        ([True], 3, None),
        ([None], 1, None),
        ([False], 1, False),
    ],
)
def test_more_than_half_of_all_that_were_asked(votes, repeats, said):
    assert majority(one(*votes), repeats) == ((said,),)


@given(st.lists(st.lists(st.lists(VALUE, min_size=3, max_size=3), min_size=2, max_size=2), min_size=1, max_size=5))
def test_laws(votes):
    votes = [tuple(tuple(row) for row in vote) for vote in votes]
    said = majority(votes, len(votes))
    assert majority(list(reversed(votes)), len(votes)) == said
    turned = [tuple(tuple(None if v is None else not v for v in row) for row in vote) for vote in votes]
    assert majority(turned, len(votes)) == tuple(tuple(None if v is None else not v for v in row) for row in said)
    assert majority(votes[:1] * 3, 3) == votes[0]
    shares = agreement([votes])
    assert (shares is None) == (len(votes) == 1) and (shares is None or 0 <= shares <= 1)


def test_agreement_is_over_all_cells():
    assert agreement([one(True, True), one(True, False), [((True,),)]]) == 0.5
    assert agreement([[((True,),)]]) is None and agreement([]) is None


def calls(*outcomes):
    async def call(outcome):
        await asyncio.sleep(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return [lambda outcome=outcome: call(outcome) for outcome in outcomes]


async def test_calls_that_fail_stand_in_their_place_or_end_it():
    fault = ReplyInvalid("no")
    assert await all_of(calls(1, fault, 3), partial=True) == [1, fault, 3]
    with pytest.raises(ReplyInvalid):
        await all_of(calls(1, fault, 3), partial=False)
    with pytest.raises(ProviderBusy):
        await all_of(calls(ProviderBusy("busy"), fault), partial=True)
    for stop in (ProviderDown("down"), CostLimit("spent")):
        with pytest.raises(type(stop)):
            await all_of(calls(1, fault, stop), partial=True)
    assert await all_of([], partial=False) == [] and await all_of(calls(7), partial=False) == [7]
    with pytest.raises(ZeroDivisionError):  # a fault of ours is nobody's missing judgement
        await all_of(calls(ZeroDivisionError()), partial=True)


async def test_the_others_are_finished_before_it_ends():
    done = []

    async def slow():
        await asyncio.sleep(0.02)
        done.append(True)

    with pytest.raises(ReplyInvalid):
        await all_of([slow, *calls(ReplyInvalid("no"))], partial=False)
    assert done == [True]
