"""The stage: every prompt of a file answered, and what is still to be asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from ropd_cli.errors import TooFewAnswers
from ropd_cli.llm.cache import ReplyCache
from ropd_cli.llm.chat import ChatRequest
from ropd_cli.llm.client import ChatClient
from ropd_cli.records.schemas import Answer, AnswerRecord, Prompt, load_prompts
from ropd_cli.stages.runner import Finished, Tally, run_records
from ropd_cli.stages.teacher.collect import CachedReplies, Collection, LiveReplies, RepliesMissing, ReplySource
from ropd_cli.stages.teacher.keep import Grader, keeper
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
    check(teachers, wanted)
    prompts = load_prompts(files.prompts, files.limit)
    check_prompts(prompts, wanted)
    done = Finished(files.out)
    source = source or LiveReplies(clients, together=wanted.together)

    async def work(prompt: Prompt) -> AnswerRecord | None:
        asked = request_hash(prompt, teachers, wanted)
        if done.holds(prompt.uid, asked):
            return None
        shared = shares(prompt, len(teachers), wanted.m)
        collection = Collection(prompt, teachers, shared, wanted, keeper(prompt, wanted, grader))
        try:
            answers = await collection.gather(source)
        finally:
            if counts is not None:
                collection.count(counts)
        record = _record(prompt, [teachers[share.teacher] for share in shared], answers, wanted)
        return record.model_copy(update={"request_hash": asked})

    return await run_records(
        prompts,
        work,
        total=done.left_of([prompt.uid for prompt in prompts]),
        out=files.out,
        stage=STAGE,
        concurrency=max(client.endpoint.limits.concurrency for client in clients),
        max_failed_fraction=max_failed_fraction,
        progress=progress,
    )


async def pending(
    files: TeacherFiles,
    teachers: Sequence[Teacher],
    wanted: Wanted,
    cache: ReplyCache | None,
    *,
    grader: Grader | None = None,
    with_cached: bool = True,
) -> AsyncIterator[tuple[int, ChatRequest]]:
    """What ``teacher_gen`` would ask for now: (a teacher's place, request). Without ``with_cached`` only what ``cache``
    does not answer.

    What is asked for again depends on replies that are not there yet. So when those have been put into the cache the
    next call gives the next round, until there is none: then ``teacher_gen`` sends nothing. Raises what
    ``teacher_gen`` raises before it asks.
    """
    check(teachers, wanted)
    prompts = load_prompts(files.prompts, files.limit)
    check_prompts(prompts, wanted)
    done = Finished(files.out)
    for prompt in prompts:
        if done.holds(prompt.uid, request_hash(prompt, teachers, wanted)):
            continue
        source = CachedReplies(cache, teachers)
        shared = shares(prompt, len(teachers), wanted.m)
        try:
            await Collection(prompt, teachers, shared, wanted, keeper(prompt, wanted, grader)).gather(source)
        except (RepliesMissing, TooFewAnswers):
            pass
        for one in [*(source.found if with_cached else ()), *source.missing]:
            yield one


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
        sampling=first.sampling if all(teacher.sampling == first.sampling for teacher in teachers) else {},
        endpoint=first.shown if all(teacher.shown == first.shown for teacher in teachers) else None,
        template=wanted.template if told else None,
    )
