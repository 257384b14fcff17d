"""Teacher-gen: m distinct answers of the teacher to each prompt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ropd_cli.config import EndpointConfig
from ropd_cli.errors import InputError, TooFewAnswers
from ropd_cli.llm.client import ChatClient, ChatRequest, endpoint_request
from ropd_cli.llm.samples import sample
from ropd_cli.progress import Progress
from ropd_cli.schemas import Answer, AnswerRecord, Prompt, digest, load_prompts
from ropd_cli.stage_run import Finished, Tally, run_records
from ropd_cli.thinking import has_answer

STAGE = "teacher-gen"
TRIES_PER_ANSWER = 3
"""So many samples at most are asked for each distinct answer that is wanted."""


@dataclass(frozen=True)
class TeacherFiles:
    """What the stage reads, and the file it appends to."""

    prompts: Path
    out: Path
    limit: int | None = None


async def teacher_gen(
    files: TeacherFiles,
    client: ChatClient,
    m: int,
    *,
    same_allowed: bool = False,
    max_failed_fraction: float | None = None,
    progress: Progress,
) -> Tally:
    """``m`` distinct answers to each prompt, appended to ``files.out``; what stands there is kept.

    An answer that is empty, cut off by the token limit, all thinking, or the same as another is asked for
    again, TRIES_PER_ANSWER * m samples in all; a prompt that still has fewer fails. ``same_allowed`` takes the
    first m as they come. Raises InputError where a temperature of 0 could only give the same answer m times.
    """
    if m > 1 and client.endpoint.sampling.temperature == 0 and not same_allowed:
        raise InputError(
            f"{m} different answers at temperature 0: a model gives the same one {m} times",
            "raise --temperature, ask for -m 1, or take what comes by --force",
        )
    prompts = load_prompts(files.prompts, files.limit)
    done = Finished(files.out)

    async def work(prompt: Prompt) -> AnswerRecord | None:
        sampling = client.endpoint.sampling.model_dump(mode="json", exclude_none=True)
        asked = _asked(prompt, client.endpoint, m, same_allowed)
        if done.holds(prompt.uid, asked):
            return None
        if same_allowed:
            answers = await sample(client, prompt.messages, range(m))
        else:
            answers = await distinct_answers(prompt, client, m)
        record = AnswerRecord(
            uid=prompt.uid,
            prompt=prompt.prompt,
            raw_prompt_hash=prompt.raw_prompt_hash,
            answers=tuple(answers),
            model=client.endpoint.model or "",
            sampling=sampling,
        )
        return record.model_copy(update={"request_hash": asked})

    return await run_records(
        prompts,
        work,
        total=done.left_of([prompt.uid for prompt in prompts]),
        out=files.out,
        stage=STAGE,
        concurrency=client.endpoint.limits.concurrency,
        max_failed_fraction=max_failed_fraction,
        progress=progress,
    )


def pending(files: TeacherFiles, endpoint: EndpointConfig, m: int, same_allowed: bool = False) -> Iterator[ChatRequest]:
    """The first ``m`` requests of each prompt that ``files.out`` does not hold."""
    done = Finished(files.out)
    for prompt in load_prompts(files.prompts, files.limit):
        if not done.holds(prompt.uid, _asked(prompt, endpoint, m, same_allowed)):
            yield from (endpoint_request(endpoint, prompt.messages, sample=number) for number in range(m))


def _asked(prompt: Prompt, endpoint: EndpointConfig, m: int, same_allowed: bool) -> str:
    sampling = endpoint.sampling.model_dump(mode="json", exclude_none=True)
    return digest([prompt.raw_prompt_hash, endpoint.model, sampling, m, same_allowed])[:16]


async def distinct_answers(prompt: Prompt, client: ChatClient, m: int) -> list[Answer]:
    """``m`` usable answers with different texts. Raises TooFewAnswers, and what the client raises."""
    found: dict[str, Answer] = {}
    cut_off = asked = 0
    while len(found) < m and asked < TRIES_PER_ANSWER * m:
        numbers = range(asked, min(asked + m - len(found), TRIES_PER_ANSWER * m))
        asked = numbers.stop
        for answer in await sample(client, prompt.messages, numbers):
            if answer.finish_reason == "length":
                cut_off += 1
            elif has_answer(answer.text):
                found.setdefault(answer.text, answer)
    if len(found) < m:
        why = f", {cut_off} were cut off by the token limit" if cut_off else ""
        raise TooFewAnswers(
            f"uid {prompt.uid}: {len(found)} different usable answers in {asked} samples{why}, {m} are wanted",
            "raise --max-tokens" if cut_off else "raise --temperature, or ask for fewer by -m",
        )
    return list(found.values())
