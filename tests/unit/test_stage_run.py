"""How a stage works through its records: what is written, what is listed as failed, when it stops."""

import asyncio
import json

import pytest

from ropd_cli.errors import (
    CostLimit,
    InputError,
    JudgeError,
    ProviderDown,
    ProviderRefused,
    ProviderUnreachable,
    ReplyInvalid,
    TooFewAnswers,
)
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import RecordModel
from ropd_cli.stages.runner import GIVE_UP_AFTER, Finished, run_records
from ropd_cli.util.progress import NoProgress


class Item(RecordModel):
    uid: str
    prompt: str = "q"


def items(n):
    return [Item(uid=str(i)) for i in range(n)]


def fails(*uids, fault=ReplyInvalid("not JSON")):
    async def work(item):
        await asyncio.sleep(0)
        if item.uid in uids:
            raise fault
        return item

    return work


async def run(out, todo, work, *, concurrency=3, max_failed_fraction=None):
    return await run_records(
        todo,
        work,
        total=len(todo),
        out=out,
        stage="verify",
        concurrency=concurrency,
        max_failed_fraction=max_failed_fraction,
        progress=NoProgress(),
    )


def uids(path):
    return sorted((r["uid"] for _, r in read_records(path)), key=int)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.jsonl"


@pytest.fixture
def failed(tmp_path):
    return tmp_path / "out.jsonl.failed.jsonl"


async def test_one_failure_costs_one_record_and_is_listed(out, failed):
    tally = await run(out, items(6), fails("2", "4"))
    assert (tally.done, tally.failed) == (4, 2)
    assert uids(out) == ["0", "1", "3", "5"]
    [first, _] = [json.loads(line) for line in failed.read_text().splitlines()]
    assert first == {"uid": "2", "error": {"stage": "verify", "type": "ReplyInvalid", "message": "not JSON"}}


async def test_the_next_run_rewrites_the_list(out, failed):
    await run(out, items(4), fails("1", "2"))
    await run(out, [Item(uid="1")], fails())
    assert uids(failed) == ["2"]
    await run(out, [Item(uid="2")], fails())
    assert not failed.exists()
    assert uids(out) == ["0", "1", "2", "3"]


async def test_no_more_at_once_than_asked_for(out):
    now = most = 0

    async def work(item):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        return item

    await run(out, items(20), work, concurrency=4)
    assert most == 4


@pytest.mark.parametrize("kind", [ProviderUnreachable, ProviderRefused])
async def test_a_dead_endpoint_is_given_up_early_and_says_so(out, failed, kind):
    tried = []

    async def work(item):
        tried.append(item.uid)
        raise kind("no")

    with pytest.raises(kind):
        await run(out, items(100), work, concurrency=2)
    assert len(tried) <= GIVE_UP_AFTER + 2
    assert len(uids(failed)) >= GIVE_UP_AFTER
    with pytest.raises(kind):  # and where there is little to do
        await run(out, items(1), work)


@pytest.mark.parametrize("stop", [ProviderDown, CostLimit])
async def test_a_stop_ends_it_with_what_was_under_way_and_nothing_failed_of_it(out, failed, stop):
    begun, stopped = [], asyncio.Event()

    async def work(item):
        begun.append(item.uid)
        if item.uid == "1":
            raise ReplyInvalid("not JSON")
        if item.uid == "4":
            stopped.set()
            raise stop("no more")
        if item.uid == "3":  # under way when the stop comes
            await stopped.wait()
            await asyncio.sleep(0.01)
        return item

    with pytest.raises(stop, match="no more"):
        await run(out, items(50), work, concurrency=2)
    assert uids(out) == ["0", "2", "3"] and uids(failed) == ["1"]
    assert begun == ["0", "1", "2", "3", "4"]  # no other was begun
    tally = await run(out, [Item(uid=uid) for uid in ("1", "4", "5")], fails())  # the next run goes on
    assert tally.done == 3 and not failed.exists()


async def test_records_that_need_no_call_do_not_speak_for_the_endpoint(out):
    work = fails("1", "3", fault=ProviderRefused("no"))
    todo = {"total": 4, "out": out, "stage": "verify", "concurrency": 1, "max_failed_fraction": None}
    todo["progress"] = NoProgress()
    with pytest.raises(ProviderRefused):
        await run_records(items(4), work, **todo, needed_endpoint=lambda record: False)
    assert uids(out) == ["0", "2"]  # what was finished is kept
    with pytest.raises(ProviderRefused):  # and neither does what was there before
        await run_records(items(4), work_or_skip(work, "0", "2"), **todo)


def work_or_skip(work, *there):
    async def both(item):
        return None if item.uid in there else await work(item)

    return both


async def test_an_endpoint_that_answered_once_is_not_given_up(out):
    lost = [str(i) for i in range(1, 30)]
    tally = await run(out, items(31), fails(*lost, fault=ProviderUnreachable("no")), concurrency=1)
    assert (tally.done, tally.failed) == (2, 29)


@pytest.mark.parametrize("answered", [ReplyInvalid, TooFewAnswers])
async def test_where_all_fail_the_most_frequent_reason_is_shown_unless_the_endpoint_is_dead(out, answered):
    async def work(item):
        if item.uid in ("0", "3"):
            raise ProviderRefused("no")
        raise TooFewAnswers(f"uid {item.uid}: too few", "more tries")

    todo = {"total": 5, "out": out, "stage": "teacher-gen", "concurrency": 1, "max_failed_fraction": None}
    todo["progress"] = NoProgress()
    of_the_endpoint, of_the_answers = (ProviderRefused, "^no$"), (TooFewAnswers, r"uid 1: too few \(3 of 5 failed")
    kind, says = of_the_answers if answered is TooFewAnswers else of_the_endpoint
    with pytest.raises(kind, match=says):  # TooFewAnswers of an index says nothing of the endpoint
        await run_records(items(5), work, **todo, answered=(answered,))


async def test_too_many_failures_stop_it(out, failed):
    with pytest.raises(JudgeError, match=r"3 of 10 failed, more than --max-failed-fraction 0\.2"):
        await run(out, items(10), fails("0", "1", "2", "3", "4"), concurrency=1, max_failed_fraction=0.2)
    assert uids(failed) == ["0", "1", "2"]
    tally = await run(out, items(10), fails("0", "1"), concurrency=1, max_failed_fraction=0.2)
    assert tally.failed == 2


async def test_other_errors_and_interruptions_end_it_with_the_books_written(out, failed):
    async def work(item):
        if item.uid == "0":
            raise ReplyInvalid("not JSON")
        if item.uid == "2":
            raise InputError("broken")
        if item.uid == "3":
            await asyncio.sleep(60)
        return item

    with pytest.raises(InputError, match="broken"):
        await run(out, items(5), work, concurrency=5)
    assert uids(failed) == ["0"]
    running = asyncio.create_task(run(out, [Item(uid="3"), Item(uid="0"), Item(uid="7")], work))
    await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert "7" in uids(out)
    assert uids(failed) == ["0"]


async def test_what_is_there_is_not_done_again(out):
    await run(out, items(3), fails())
    done = Finished(out, "prompts")
    assert done.left_of(["0", "1", "9"]) == 1

    async def work(item):
        return None if done.holds(item.uid, "asked") else item

    tally = await run(out, items(5), work)
    assert (tally.done, tally.skipped) == (2, 3)
    assert uids(out) == ["0", "1", "2", "3", "4"]


def test_a_record_of_another_question_is_neither_kept_nor_overwritten(out):
    record = {
        "uid": "1",
        "request_hash": "one",
        "model": "a",
        "template_hash": "x",
        "rubric": None,
        "rubric_hash": None,
    }
    out.write_text(json.dumps(record) + "\n")
    done = Finished(out, "rubrics")
    assert done.holds("1", "one")
    assert not done.holds("2", "one")
    for now, words in (
        ({}, "other answers or settings"),
        ({"model": "a", "template_hash": "x"}, "other answers or settings"),
        ({"model": "b"}, "another model (a, now b)"),
        ({"model": "a", "template_hash": "y"}, "another template"),
    ):
        with pytest.raises(InputError) as caught:
            done.holds("1", "two", **now)
        assert caught.value.message.endswith(f"the record of uid '1' was made from {words}")
        assert "cost nothing" in caught.value.hint


async def test_a_finished_parquet_file_is_gone_on_with(tmp_path):
    out = tmp_path / "out.parquet"
    await run(out, items(2), fails())
    await run(out, [Item(uid="2")], fails())
    assert uids(out) == ["0", "1", "2"]
    await run(out, [], fails())
    assert uids(out) == ["0", "1", "2"]
