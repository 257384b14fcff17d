"""The stage: every prompt of a file answered, and what is still to be asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from ropd_cli.errors import ReplyInvalid, RopdError, TooFewReplies
from ropd_cli.llm.cache import ReplyCache
from ropd_cli.llm.chat import ChatReply, ChatRequest
from ropd_cli.llm.client import ChatClient
from ropd_cli.records.schemas import Answer, AnswerRecord, Prompt, load_prompts
from ropd_cli.stages.runner import Finished, Tally, run_records
from ropd_cli.stages.teacher.collect import CachedReplies, Collection, RepliesMissing, ReplySource, Requests
from ropd_cli.stages.teacher.keep import Grader, open_grader
from ropd_cli.stages.teacher.request import (
    Teacher,
    TeacherCount,
    TeacherFiles,
    Wanted,
    check,
    check_prompts,
    request_hash,
    shares,
)
from ropd_cli.util.concurrency import all_of
from ropd_cli.util.progress import Progress

STAGE = "teacher-gen"


async def teacher_gen(
    files: TeacherFiles,
    clients: Sequence[ChatClient],
    wanted: Wanted,
    *,
    grader: Grader | None = None,
    counts: Sequence[TeacherCount] | None = None,
    source: ReplySource | None = None,
    max_failed_fraction: float | None = None,
    progress: Progress,
) -> Tally:
    """The answers that are ``wanted`` to each prompt, appended to ``files.out``; what stands there is kept.

    ``clients`` are the teachers. A reply that is empty, cut off, all thinking, the same as another or not to be kept
    is asked for again; a prompt that has too few when its tries are used up fails, and so does one of which a teacher
    can't give its share: the others don't fill in. ``counts`` has one entry a teacher, to be added to. ``source``:
    where replies come from instead of the clients.
    Raises InputError where what is wanted can't be had.
    """
    teachers = [Teacher(client.endpoint) for client in clients]
    prompts, done = _opened(files, teachers, wanted)

    async def live(asked: Requests) -> dict[int, list[ChatReply]]:
        # When a call fails the others are finished: they are paid for, and kept.
        calls = [partial(clients[k].samples, requests, together=wanted.together) for k, requests in asked.items()]
        replies = await all_of(calls, partial=False)  # without ``partial`` no error stands in a reply's place
        return {k: some for k, some in zip(asked, replies, strict=True) if not isinstance(some, RopdError)}

    async with open_grader(wanted, grader) as opened:

        async def work(prompt: Prompt) -> AnswerRecord | None:
            asked = request_hash(prompt, teachers, wanted)
            if done.holds(prompt.uid, asked, **_origin(prompt, teachers, wanted)):
                return None
            collection = Collection(prompt, teachers, wanted, opened)
            try:
                answers = await collection.gather(source or live)
            finally:
                if counts is not None:
                    collection.count(counts)
            shared = [teachers[k] for k in shares(prompt, len(teachers), wanted.m)]
            return _record(prompt, shared, answers, wanted).model_copy(update={"request_hash": asked})

        return await run_records(
            prompts,
            work,
            total=done.left_of([prompt.uid for prompt in prompts]),
            out=files.out,
            stage=STAGE,
            concurrency=max(client.endpoint.limits.concurrency for client in clients),
            max_failed_fraction=max_failed_fraction,
            progress=progress,
            answered=(ReplyInvalid,),
        )


async def pending(
    files: TeacherFiles,
    teachers: Sequence[Teacher],
    wanted: Wanted,
    cache: ReplyCache | None,
    *,
    grader: Grader | None = None,
    with_cached: bool = True,
    made: bool = False,
) -> AsyncIterator[tuple[int, ChatRequest]]:
    """What ``teacher_gen`` would ask for now: (a teacher's place, request). Without ``with_cached`` only what ``cache``
    does not answer. With ``made`` what it asked for the records that are there.

    What is asked for again depends on replies that are not there yet. So when those have been put into the cache the
    next call gives the next round, until there is none: then ``teacher_gen`` sends nothing. Raises what
    ``teacher_gen`` raises before it asks.
    """
    prompts, done = _opened(files, teachers, wanted)
    async with open_grader(wanted, grader) as opened:
        for prompt in prompts:
            is_made = done.holds(
                prompt.uid, request_hash(prompt, teachers, wanted), **_origin(prompt, teachers, wanted)
            )
            if is_made is not made:
                continue
            source = CachedReplies(cache, teachers)
            with suppress(RepliesMissing, TooFewReplies):
                await Collection(prompt, teachers, wanted, opened).gather(source)
            for one in [*(source.found if with_cached else ()), *source.missing]:
                yield one


def _opened(files: TeacherFiles, teachers: Sequence[Teacher], wanted: Wanted) -> tuple[list[Prompt], Finished]:
    """Return the prompts and what is finished of them. Raises InputError where what is wanted can't be had."""
    check(teachers, wanted)
    prompts = load_prompts(files.prompts, files.limit)
    check_prompts(prompts, wanted)
    return prompts, Finished(files.out, "answers")


def _origin(prompt: Prompt, teachers: Sequence[Teacher], wanted: Wanted) -> dict[str, object]:
    """Return what a record of a prompt says of where it is from."""
    shared = [teachers[k] for k in shares(prompt, len(teachers), wanted.m)]
    return {
        "raw_prompt_hash": prompt.raw_prompt_hash,
        "model": " + ".join(teacher.asked for teacher in shared),
        "sampling": _common_sampling(shared),
        "template": wanted.template if wanted.messages(prompt) != prompt.messages else None,
        "m": wanted.m,
    }


def _common_sampling(teachers: Sequence[Teacher]) -> dict[str, Any]:
    """Return the sampling of all teachers, empty where they differ."""
    first = teachers[0].sampling
    return first if all(teacher.sampling == first for teacher in teachers) else {}


def _record(prompt: Prompt, teachers: Sequence[Teacher], answers: Sequence[Answer], wanted: Wanted) -> AnswerRecord:
    """The record of a prompt; what its teachers do not have in common stands at the answers alone."""
    first = teachers[0]
    told = wanted.messages(prompt) != prompt.messages
    return AnswerRecord(
        uid=prompt.uid,
        prompt=prompt.prompt,
        raw_prompt_hash=prompt.raw_prompt_hash,
        answers=tuple(answers),
        model=" + ".join(teacher.model for teacher in teachers),
        sampling=_common_sampling(teachers),
        endpoint=first.shown if all(teacher.shown == first.shown for teacher in teachers) else None,
        template=wanted.template if told else None,
    )
