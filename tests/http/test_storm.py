"""The judge path in a storm: three requests in ten come to nothing, in every way there is.

What comes out is what would have come out without it, or it is missing and said to be; nothing is ever scored wrongly.
"""

import asyncio
import itertools
import random
import threading
import time

import pytest
import yaml
from servers import Reply, ScriptedServer, Status
from storms import FAULTS, WORDS, Storm

from ropd_cli.config import EndpointConfig, JudgeConfig, LimitsConfig, load_config
from ropd_cli.errors import JudgeError, ProviderError
from ropd_cli.index import IndexWriter
from ropd_cli.llm.cache import ReplyCache
from ropd_cli.llm.chat import ChatRequest
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.retry import RetryPolicy
from ropd_cli.records.files import read_records
from ropd_cli.records.journals import RecordWriter
from ropd_cli.records.schemas import Answer, AnswerRecord, Group, Message, prompt_hash
from ropd_cli.stages.rubricator import Rubricator
from ropd_cli.stages.verifier import Verifier
from ropd_cli.training.judge_owner import RunJudge
from ropd_cli.training.run_dir import RunDir

GROUPS = 60
MAY_FAIL_OF = (ProviderError, JudgeError)


def some_words(draw):
    return " ".join(draw.choices(WORDS, k=6))


def make_group(number):
    """4 teacher answers, 8 rollouts, one of which has no answer in every third group."""
    draw = random.Random(number)
    prompt = (Message(role="user", content=f"Question {number}: what stands on the desk?"),)
    rollouts = [some_words(draw) for _ in range(8)]
    if number % 3 == 0:
        rollouts[draw.randrange(8)] = "<think>" + some_words(draw)
    return Group(
        uid=f"g{number}",
        prompt=prompt,
        raw_prompt_hash=prompt_hash(prompt),
        teacher_answers=tuple(f"{some_words(draw)} {k}" for k in range(4)),
        rollouts=tuple(Answer(text=text, finish_reason="stop") for text in rollouts),
    )


ALL = [make_group(number) for number in range(GROUPS)]


async def judge_all(url, *, api="chat", retries=5, cache=None):
    """(What each group came to: its two records without the token counts, or its error; requests sent)."""
    limits = LimitsConfig(timeout_s=4.0, concurrency=32, max_retries=retries)
    endpoint = EndpointConfig(model="judge", base_url=url, limits=limits, api=api)
    retry = RetryPolicy(max_retries=retries, first_wait_s=0.01, max_wait_s=0.05)
    came_to = {}
    async with ChatClient.open(endpoint, cache=cache, retry=retry, environ={}) as client:
        rubricator, verifier = Rubricator(client, JudgeConfig()), Verifier(client, JudgeConfig())

        async def one(group):
            try:
                rubric = await rubricator.rubric(group)
                verdicts = await verifier.verdicts(group, rubric)
            except MAY_FAIL_OF as fault:
                came_to[group.uid] = fault
            else:
                came_to[group.uid] = [record.model_dump(exclude={"usage"}) for record in (rubric, verdicts)]

        async with asyncio.TaskGroup() as tasks:
            for group in ALL:
                tasks.create_task(one(group))
        return came_to, client.stats.requests_sent


@pytest.fixture(scope="module")
def calm():
    """What every group comes to where nothing fails."""
    with ScriptedServer() as server:
        server.default = Storm(0.0, seed=0)
        came_to, sent = asyncio.run(judge_all(server.url))
    assert sent == 2 * GROUPS
    return came_to


def test_the_storm_is_worth_the_name(calm):
    rewards = [reward for _, verdicts in calm.values() for reward in verdicts["rewards"]]
    assert len(set(rewards)) > 50 and min(rewards) == 0.0 and max(rewards) > 0.7


@pytest.mark.parametrize(
    ("seed", "retries", "api"),
    [
        (1, 5, "chat"),
        (4, 5, "responses"),
        *(pytest.param(*case, marks=pytest.mark.long) for case in [(2, 5, "chat"), (3, 5, "chat"), (5, 1, "chat")]),
        (6, 0, "chat"),
    ],
)
async def test_scored_as_without_faults_or_missing(calm, server, tmp_path, seed, retries, api):
    server.default = storm = Storm(0.3, seed)
    with ReplyCache.open(tmp_path) as cache:
        came_to, sent = await judge_all(server.url, api=api, retries=retries, cache=cache)
    missing = {uid for uid, outcome in came_to.items() if isinstance(outcome, Exception)}
    assert {uid: came_to[uid] for uid in came_to.keys() - missing} == {uid: calm[uid] for uid in calm.keys() - missing}
    assert len(storm.faults) >= len(FAULTS) - 2
    assert len(server.requests) <= sent <= 2 * 2 * GROUPS  # one that waits too long may never have been read
    assert len(missing) <= {5: 2, 1: 25, 0: 48}[retries]
    assert retries == 5 or missing
    path = {"chat": "/v1/chat/completions", "responses": "/v1/responses"}[api]
    assert {request.path for request in server.requests} == {path}

    # the cache holds right replies and nothing else: with them and a calm endpoint the rest follows
    server.default = Storm(0.0, seed)
    with ReplyCache.open(tmp_path) as cache:
        came_to, sent = await judge_all(server.url, api=api, cache=cache)
    assert came_to == calm
    assert len(missing) <= sent <= 2 * len(missing)


async def test_a_storm_inside_training(server, tmp_path):
    """The owner of a run's judges: rewards as without faults, or none and counted as missing."""
    with IndexWriter(tmp_path / "i.db") as index:
        for group in ALL:
            answers = tuple(Answer(text=text) for text in group.teacher_answers)
            index.add(
                AnswerRecord(
                    uid=group.uid,
                    prompt=group.prompt,
                    raw_prompt_hash=group.raw_prompt_hash,
                    answers=answers,
                    model="m",
                )
            )
    with RecordWriter(tmp_path / "prompts.jsonl") as prompts:
        for group in ALL:
            prompts.append({"uid": group.uid, "prompt": [message.model_dump() for message in group.prompt]})

    async def run(name, step):
        server.default = step
        before = len(server.requests)
        judge, directory = open_judge(tmp_path, name, server.url, timeout_s=30.0 if name == "calm" else 1.0)
        said = {}

        async def one(group):
            said[group.uid] = await judge.judge(group.uid, 1, group.uid, group.rollouts)

        async with asyncio.TaskGroup() as tasks:
            for group in ALL:
                tasks.create_task(one(group))
        metrics = await judge.close_step(1, list(said))
        await judge.close()
        written = {group["uid"]: group for _, group in read_records(directory.group_file(1))}
        assert {uid: group["rewards"] for uid, group in written.items()} == {
            uid: s.rewards and list(s.rewards) for uid, s in said.items()
        }
        return said, metrics, len(server.requests) - before

    calm, _, sent = await run("calm", Storm(0.0, seed=0))
    assert sent == 2 * GROUPS
    said, metrics, sent = await run("storm", Storm(0.3, seed=8))
    missing = {uid for uid, outcome in said.items() if outcome.rewards is None}
    assert all(said[uid].error for uid in missing)
    assert {uid: said[uid] for uid in said.keys() - missing} == {uid: calm[uid] for uid in calm.keys() - missing}
    assert (metrics["groups/judged"], metrics["groups/missing"]) == (GROUPS - len(missing), len(missing))
    assert sent <= 2 * 2 * GROUPS and 0 < len(missing) <= 25


def open_judge(folder, name, url, timeout_s):
    flags = {"data.prompts": str(folder / "prompts.jsonl"), "data.index": str(folder / "i.db")}
    flags |= {"cache_dir": str(folder / f"cache-{name}"), "out": str(folder / name)}
    for section in ("rubricator", "verifier"):
        flags |= {f"{section}.model": "judge", f"{section}.base_url": url, f"{section}.limits.timeout_s": timeout_s}
        flags |= {f"{section}.limits.max_retries": 1}
    run = RunDir(folder / name)
    run.path.mkdir()
    run.config.write_text(yaml.safe_dump(load_config(None, flags=flags, environ={}).model_dump(mode="json")))
    return RunJudge(str(run.path)), run


async def test_what_was_under_way_when_an_endpoint_went_away_says_nothing_of_its_return(server):
    """Replies that were under way when the endpoint went out of order do not show that it is back, and the failures
    that were under way are no reason to look for it less often."""
    lock, asked, went = threading.Lock(), itertools.count(), time.monotonic()

    def step(body):
        with lock:
            number = next(asked)
        if number <= 4:
            return Reply("42", delay_s=0.0 if number == 0 else 0.3 * number)
        return Status(503, "out of order") if time.monotonic() - went < 2.5 else Reply("42")

    server.default = step
    endpoint = EndpointConfig(model="m", base_url=server.url, limits=LimitsConfig(max_pause_s=15))
    retry = RetryPolicy(max_retries=1, first_wait_s=0.0)
    async with ChatClient.open(endpoint, cache=None, retry=retry, environ={}) as client:

        async def ask(number):
            message = Message(role="user", content=f"Question {number}")
            return (await client.complete(ChatRequest(messages=(message,), model="m"))).text

        assert await ask(0) == "42"
        went = time.monotonic()
        replies = await asyncio.gather(*(ask(number) for number in range(1, 21)), return_exceptions=True)
    assert replies == ["42"] * 20
