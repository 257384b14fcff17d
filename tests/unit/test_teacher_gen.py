"""Teacher-gen as a stage: which replies become answers, of which teacher, and what is asked for again."""

from __future__ import annotations

import hashlib
import itertools
import json
from contextlib import AsyncExitStack

import pytest
from servers import Reply, ScriptedServer, Status

from ropd_cli.config.models import EndpointConfig, LimitsConfig, SamplingConfig
from ropd_cli.errors import InputError, TooFewReplies
from ropd_cli.llm.cache import ReplyCache, cache_key
from ropd_cli.llm.chat import ChatReply
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.urls import base_url
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import Prompt, digest, prompt_hash
from ropd_cli.stages.teacher import Teacher, TeacherCount, TeacherFiles, Wanted, pending, teacher_gen
from ropd_cli.stages.teacher.request import shares
from ropd_cli.util.progress import NoProgress


class Results:
    """Compares what stands behind the last "=" ; "?" can't be compared."""

    async def final(self, text):
        return text.rpartition("=")[2].strip() if "=" in text else None

    async def same(self, first, second):
        return None if "?" in (first, second) else first == second

    async def is_correct(self, text, answer):
        result = await self.final(text)
        return False if result is None else await self.same(result, answer)


class Stage:
    """The stage in a folder, with a cache that is kept between runs."""

    def __init__(self, folder, *endpoints):
        self.folder, self.endpoints = folder, endpoints
        self.counts = []

    @property
    def files(self):
        return TeacherFiles(prompts=self.folder / "p.jsonl", out=self.folder / "t.jsonl")

    def prompts(self, *rows):
        self.files.prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))

    async def run(self, wanted, **how):
        self.counts = [TeacherCount(Teacher(e).model, Teacher(e).shown) for e in self.endpoints]
        async with AsyncExitStack() as stack:
            cache = stack.enter_context(ReplyCache.open(self.folder / "cache"))
            clients = [
                await stack.enter_async_context(ChatClient.open(endpoint, cache=cache, environ={}))
                for endpoint in self.endpoints
            ]
            return await teacher_gen(
                self.files, clients, wanted, counts=self.counts, grader=Results(), progress=NoProgress(), **how
            )

    async def answers(self, wanted, uid="a", **how):
        self.files.out.unlink(missing_ok=True)
        await self.run(wanted, **how)
        return self.record(uid)["answers"]

    def record(self, uid="a"):
        return {record["uid"]: record for _, record in read_records(self.files.out)}[uid]


def endpoint(server, model="m", **sampling):
    limits = LimitsConfig(max_retries=0, max_pause_s=0, concurrency=1)
    return EndpointConfig(model=model, base_url=server.url, limits=limits, sampling=SamplingConfig(**sampling))


@pytest.fixture
def stage(tmp_path, server):
    stage = Stage(tmp_path, endpoint(server))
    stage.prompts({"uid": "a", "prompt": "q", "answer": "4"})
    return stage


def texts(answers):
    return [answer["text"] for answer in answers]


async def test_equal_answers_are_asked_for_again_and_counted(stage, server):
    server.script(*map(Reply, ["x", " x\n", "y", "x", "z"]))
    answers = await stage.answers(Wanted(3, together=False, tries=2))
    assert texts(answers) == ["x", "y", "z"]
    count = stage.counts[0]
    assert (count.answers, count.duplicates, count.truncated, count.wrong) == (3, 2, 0, 0)
    assert answers[0]["created"] > 1.7e9 and stage.record()["endpoint"] == server.url
    server.default = Reply("always")
    stage.prompts({"uid": "b", "prompt": "r"})
    with pytest.raises(TooFewReplies, match="1 different usable answers in 6 samples, 3 are wanted"):
        await stage.run(Wanted(3, together=False, tries=2))
    assert stage.counts[0].duplicates == 5 and stage.counts[0].answers == 0


async def test_the_file_of_an_earlier_version_stays_valid(stage, server):
    old = digest([prompt_hash("q"), "m", {}, 2, False])[:16]
    row = {"uid": "a", "prompt": "q", "raw_prompt_hash": prompt_hash("q"), "model": "m"}
    row["answers"] = [{"text": text, "finish_reason": "stop"} for text in "ab"]
    stage.files.out.write_text(json.dumps(row | {"request_hash": old}) + "\n")
    operational = {"tries": 9, "together": False, "reasoning": False, "retry_max_tokens": 9, "keep_truncated": True}
    for wanted in (Wanted(2), Wanted(2, **operational)):
        assert (await stage.run(wanted)).skipped == 1
    for wanted, told in (
        (Wanted(3), "judge.m 2, now 3"),
        (Wanted(2, system_prompt="s"), "another system prompt"),
        (Wanted(2, keep="correct"), "other answers or settings"),
        (Wanted(2, same_allowed=True), "other answers or settings"),
    ):
        with pytest.raises(InputError, match=f"was made from {told}"):
            await stage.run(wanted)
    assert server.requests == []


async def test_thinking_is_kept_apart(stage, server):
    server.script(
        Reply("<think>hm</think>\n four \n"),
        Reply("five", message={"reasoning_content": "apart"}),
        Reply("<think>only thoughts"),
        Reply("opened by the template</think>six"),
    )
    answers = await stage.answers(Wanted(3, together=False))
    assert [(a["text"], a["reasoning"]) for a in answers] == [
        ("four", "hm"),
        ("five", "apart"),
        ("six", "opened by the template"),
    ]
    assert stage.counts[0].empty == 1
    answers = await stage.answers(Wanted(3, together=False, reasoning=False))
    assert texts(answers) == ["four", "five", "six"] and all("reasoning" not in a for a in answers)
    assert len(server.requests) == 4


async def test_what_was_cut_off_never_counts_and_is_paid_for_once(stage, server):
    server.script(Reply("hal", "length"), Reply("whole"), Reply("<think>so", "length"), Reply("other"))
    wanted = Wanted(2, together=False)
    assert texts(await stage.answers(wanted)) == ["whole", "other"]
    assert stage.counts[0].truncated == 2 and len(server.requests) == 4
    answers = await stage.answers(Wanted(2, together=False, keep_truncated=True))
    assert [(a["text"], a["finish_reason"]) for a in answers] == [
        ("whole", "stop"),
        ("other", "stop"),
        ("hal", "length"),
        ("", "length"),
    ]
    assert len(server.requests) == 4  # the cut-off ones come from the cache too


async def test_what_was_cut_off_is_asked_for_again_with_a_higher_limit(tmp_path, server):
    stage = Stage(tmp_path, endpoint(server, max_tokens=10))
    stage.prompts({"uid": "a", "prompt": "q"})
    numbers = itertools.count()
    usage = {"prompt_tokens": 5, "completion_tokens": 40}
    server.default = lambda body: (
        Reply("ha", "length") if body["max_tokens"] == 10 else Reply(f"whole {next(numbers)}", usage=usage)
    )
    wanted = Wanted(2, together=False, retry_max_tokens=100)
    answers = await stage.answers(wanted)
    assert texts(answers) == ["whole 0", "whole 1"] and stage.counts[0].truncated == 2
    assert [a["sampling"] for a in answers] == [{"max_tokens": 100}] * 2
    assert sorted(body["max_tokens"] for body in server.bodies) == [10, 10, 100, 100]
    assert texts(await stage.answers(wanted)) == ["whole 0", "whole 1"] and len(server.requests) == 4
    with pytest.raises(InputError, match="--retry-max-tokens 10 is not more"):
        await stage.run(Wanted(2, retry_max_tokens=10))


@pytest.mark.parametrize(("m", "teachers"), [(4, 2), (5, 2), (4, 3), (1, 2), (2, 3), (3, 1)])
def test_answers_are_spread_evenly_and_the_remainder_rotates(m, teachers):
    totals = [0] * teachers
    for number in range(300):
        of = shares(Prompt(uid="", prompt=f"{number}"), teachers, m)
        assert sum(of.values()) == m and all(0 <= share - m // teachers <= 1 for share in of.values())
        for teacher, share in of.items():
            totals[teacher] += share
    assert max(totals) - min(totals) < 60


async def test_several_teachers_answer_together_and_are_named(tmp_path, server):
    with ScriptedServer() as second:
        stage = Stage(tmp_path, endpoint(server, "one", temperature=0.5), endpoint(second, "two"))
        stage.prompts({"uid": "a", "prompt": "q"})
        server.script(Reply("x", others=("y",)))
        second.script(Reply("x", others=("z",)), Reply("w"))
        answers = await stage.answers(Wanted(4))
        assert [(a["text"], a["model"], a["endpoint"], a["sampling"]) for a in answers] == [
            ("x", "one", server.url, {"temperature": 0.5}),
            ("y", "one", server.url, {"temperature": 0.5}),
            ("z", "two", second.url, {}),
            ("w", "two", second.url, {}),
        ]
        record = stage.record()
        assert (record["model"], record["sampling"]) == ("one + two", {}) and "endpoint" not in record
        assert [(c.model, c.answers, c.duplicates) for c in stage.counts] == [("one", 2, 0), ("two", 2, 1)]
        # a single answer is one teacher's alone
        stage.prompts({"uid": "b", "prompt": "r"})
        [answer] = await stage.answers(Wanted(1), uid="b")
        assert set(answer) == {"text", "finish_reason", "usage", "created"}
        assert stage.record("b")["model"] in ("one", "two") and "endpoint" in stage.record("b")


async def test_a_teacher_that_fails_fails_the_prompt_and_the_others_replies_are_kept(tmp_path, server):
    with ScriptedServer() as second:
        second.script(Status(403))
        stage = Stage(tmp_path, endpoint(server, "one"), endpoint(second, "two"))
        stage.prompts({"uid": "a", "prompt": "q"}, {"uid": "b", "prompt": "q2"})
        for one in (server, second):
            one.default = lambda body: Reply(body["model"], others=(body["model"] * 2,))
        tally = await stage.run(Wanted(4))
        assert (tally.done, tally.failed) == (1, 1)
        before = len(server.requests)
        assert (await stage.run(Wanted(4))).done == 1
        assert len(server.requests) == before
    with pytest.raises(InputError, match="named twice"):
        await Stage(tmp_path, endpoint(server), endpoint(server)).run(Wanted(4))


async def test_only_correct_answers_are_kept(stage, server):
    server.script(*map(Reply, ["a = 4", "b = 5", "c = ?", "d = 4", "no result", "e = 4"]))
    answers = await stage.answers(Wanted(3, together=False, keep="correct"))
    assert [(a["text"], a["correct"]) for a in answers] == [("a = 4", True), ("d = 4", True), ("e = 4", True)]
    count = stage.counts[0]
    assert (count.answers, count.wrong, count.undecided) == (3, 2, 1)
    server.default = Reply("= 5")
    with pytest.raises(TooFewReplies, match="0 different usable answers in 6 samples, 6 have the wrong result"):
        stage.prompts({"uid": "b", "prompt": "another", "answer": "4"})
        await stage.run(Wanted(2, together=False, keep="correct"))


async def test_a_prompt_without_an_answer_is_refused_first_or_keeps_any(stage, server):
    stage.prompts({"uid": "a", "prompt": "q"}, {"uid": "b", "prompt": "q2", "answer": "4"})
    with pytest.raises(InputError, match="no `answer` in 1 of 2 prompts, the first is uid a"):
        await stage.run(Wanted(1, keep="correct"))
    assert server.requests == []
    server.default = Reply("is = 4")
    await stage.run(Wanted(1, keep="correct", unverifiable=True))
    assert "correct" not in stage.record("a")["answers"][0] and stage.record("b")["answers"][0]["correct"] is True


async def test_the_result_of_most_samples_is_kept(stage, server):
    server.script(*map(Reply, ["a = 4", "b = 5", "c = 5", "d = 5", "e = 5"]))
    assert texts(await stage.answers(Wanted(3, together=False, keep="majority"))) == ["b = 5", "c = 5", "d = 5"]
    assert stage.counts[0].wrong == 1 and len(server.requests) == 4
    stage.prompts({"uid": "b", "prompt": "another"})
    server._script.clear()
    server.script(*map(Reply, ["= 1", "= 2", "= 3"]))
    with pytest.raises(TooFewReplies, match="no result has a majority"):
        await stage.run(Wanted(1, together=False, keep="majority"))
    # one answer alone is no majority of samples: two more have to agree
    stage.prompts({"uid": "c", "prompt": "third"})
    server.script(*map(Reply, ["x = 1", "y = 1", "z = 1"]))
    assert texts(await stage.answers(Wanted(1, together=False, keep="majority"), uid="c")) == ["x = 1"]


async def test_a_system_prompt_of_the_teachers_own(stage, server):
    own = [{"role": "system", "content": "mine"}, {"role": "user", "content": "q"}]
    stage.prompts({"uid": "a", "prompt": "q"}, {"uid": "b", "prompt": own})
    await stage.run(Wanted(1, system_prompt="Be brief."))
    said = sorted([m["content"] for m in body["messages"]] for body in server.bodies)
    assert said == [["Be brief.", "q"], ["mine", "q"]]
    assert stage.record("a")["template"] == hashlib.sha256(b"Be brief.").hexdigest()[:16]
    assert stage.record("a")["prompt"] == "q" and "template" not in stage.record("b")


async def test_the_same_is_taken_by_force_but_nothing_that_was_cut_off(stage, server):
    server.script(Reply("same"), Reply("half", "length"), Reply("same"))
    assert texts(await stage.answers(Wanted(2, same_allowed=True, together=False))) == ["same", "same"]
    with pytest.raises(InputError, match="temperature 0"):
        await Stage(stage.folder, endpoint(server, temperature=0)).run(Wanted(2))


async def test_rounds_can_be_driven_from_outside(stage, server):
    """What the Batch API does: ask for what is missing, put it into the cache, until nothing is."""
    stage.prompts(*({"uid": str(k), "prompt": f"q{k}"} for k in range(3)))
    wanted, teachers = Wanted(2, retry_max_tokens=50), [Teacher(stage.endpoints[0])]
    said, rounds = itertools.cycle(["x", "x", "cut", "y", "z", "z", "w"]), []
    with ReplyCache.open(stage.folder / "cache") as cache:
        while round_ := [one async for one in pending(stage.files, teachers, wanted, cache, with_cached=False)]:
            rounds.append(len(round_))
            for place, request in round_:
                text = next(said)
                cut = text == "cut" and request.sampling.max_tokens is None
                reply = ChatReply(text=text, finish_reason="length" if cut else "stop")
                url = base_url(teachers[place].endpoint)
                cache.put(cache_key(url, request), reply, max_tokens=request.sampling.max_tokens)
        looked = [one async for one in pending(stage.files, teachers, wanted, cache)]
    # the whole reply under the higher limit stands for the one that was cut off under none
    assert rounds[0] == 6 and len(rounds) > 1 and len(looked) == sum(rounds) - 1
    assert (await stage.run(wanted)).done == 3 and server.requests == []
    with ReplyCache.open(stage.folder / "cache") as cache:
        assert [one async for one in pending(stage.files, teachers, wanted, cache)] == []
