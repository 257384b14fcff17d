"""Rollout: n answers of the student to each prompt, from an endpoint or from a local checkpoint."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ropd_cli.answers.endings import Ending
from ropd_cli.config import EndpointConfig
from ropd_cli.engines.vllm_sampling import LocalModel, SamplingOptions
from ropd_cli.errors import ReplyInvalid
from ropd_cli.llm.client import ChatClient, ChatRequest, endpoint_request
from ropd_cli.llm.urls import builtin_query
from ropd_cli.records.schemas import Answer, AnswerRecord, Message, Prompt, digest, load_prompts, with_system
from ropd_cli.stages.runner import Finished, Tally, run_records
from ropd_cli.util.counted import counted
from ropd_cli.util.progress import Progress

STAGE = "rollout"
PROMPTS_AT_ONCE = 1024
"""Prompts handed to a local engine before the first is finished; it queues what it can't hold."""

Sampler = Callable[[int, tuple[Message, ...]], Awaitable[list[Answer]]]
"""(number of the prompt, its messages) -> n answers."""


@dataclass(frozen=True)
class RolloutFiles:
    """What the stage reads, and the file it appends to; ``system_prompt`` goes before prompts without one."""

    prompts: Path
    out: Path
    limit: int | None = None
    system_prompt: str | None = None


FIRST_SAMPLE = 100_000
"""Number of an endpoint's first rollout to a prompt: far above a teacher's, whose samples are other draws, so that a
teacher that plays the student too is asked again. With a seed the user says which draws they are."""


def _numbers(endpoint: EndpointConfig, n: int) -> range:
    first = FIRST_SAMPLE if endpoint.sampling.seed is None else 0
    return range(first, first + n)


async def rollout_api(
    files: RolloutFiles, client: ChatClient, n: int, *, max_failed_fraction: float | None = None, progress: Progress
) -> Tally:
    """``n`` rollouts a prompt from an endpoint, appended to ``files.out``; what stands there is kept."""

    async def sampler(_number: int, messages: tuple[Message, ...]) -> list[Answer]:
        return await sample(client, messages, _numbers(client.endpoint, n))

    sampling = client.endpoint.sampling.model_dump(mode="json", exclude_none=True)
    at_once = client.endpoint.limits.concurrency
    model, query = client.endpoint.model or "", builtin_query(client.endpoint)
    return await _rollout(files, sampler, model, sampling, n, at_once, max_failed_fraction, progress, query)


def pending(files: RolloutFiles, endpoint: EndpointConfig, n: int, *, made: bool = False) -> Iterator[ChatRequest]:
    """The requests of each prompt that ``files.out`` does not hold, or of those ``made``."""
    done = Finished(files.out, "answers")
    how = _how(files, endpoint.sampling.model_dump(mode="json", exclude_none=True), n)
    for prompt in load_prompts(files.prompts, files.limit):
        model = f"{endpoint.model or ''}{builtin_query(endpoint)}"
        origin = {"raw_prompt_hash": prompt.raw_prompt_hash, "model": model, "sampling": how}
        if done.holds(prompt.uid, _request_hash(prompt, model, how), **origin) is made:
            messages = with_system(prompt.messages, files.system_prompt)
            yield from (endpoint_request(endpoint, messages, sample=k) for k in _numbers(endpoint, n))


async def rollout_local(
    files: RolloutFiles,
    start: Callable[[], Awaitable[LocalModel]],
    model_path: str,
    sampling: SamplingOptions,
    *,
    max_failed_fraction: float | None = None,
    progress: Progress,
) -> Tally:
    """``sampling.n`` rollouts a prompt from a local checkpoint, appended to ``files.out``; what stands there is kept.

    ``start`` loads the model; it is not called where nothing is left to do.
    """
    is_done = not Finished(files.out, "answers").left_of(
        [prompt.uid for prompt in load_prompts(files.prompts, files.limit)]
    )
    async with AsyncExitStack() as stack:
        model: LocalModel | None = None
        if not is_done:
            started = await start()
            progress.note(f"loading {model_path} into vLLM")
            model = await stack.enter_async_context(started)

        async def sampler(number: int, messages: tuple[Message, ...]) -> list[Answer]:
            assert model is not None  # there is a prompt left
            return await model.sample(messages, sampling.of_prompt(number))

        options = asdict(sampling)
        return await _rollout(
            files, sampler, model_path, options, sampling.n, PROMPTS_AT_ONCE, max_failed_fraction, progress
        )


async def _rollout(
    files: RolloutFiles,
    sampler: Sampler,
    model: str,
    sampling: dict[str, Any],
    n: int,
    at_once: int,
    max_failed_fraction: float | None,
    progress: Progress,
    query: str = "",
) -> Tally:
    prompts = load_prompts(files.prompts, files.limit)
    numbers = {prompt.uid: number for number, prompt in enumerate(prompts)}
    done = Finished(files.out, "answers")
    how = _how(files, sampling, n)

    async def work(prompt: Prompt) -> AnswerRecord | None:
        hash = _request_hash(prompt, model + query, how)
        if done.holds(prompt.uid, hash, raw_prompt_hash=prompt.raw_prompt_hash, model=model + query, sampling=how):
            return None
        answers = await sampler(numbers[prompt.uid], with_system(prompt.messages, files.system_prompt))
        record = AnswerRecord(
            uid=prompt.uid,
            prompt=prompt.prompt,
            raw_prompt_hash=prompt.raw_prompt_hash,
            answers=tuple(answers),
            model=model,
            sampling=how,
        )
        return record.model_copy(update={"request_hash": hash})

    return await run_records(
        prompts,
        work,
        total=done.left_of([prompt.uid for prompt in prompts]),
        out=files.out,
        stage=STAGE,
        concurrency=at_once,
        max_failed_fraction=max_failed_fraction,
        progress=progress,
    )


def _how(files: RolloutFiles, sampling: dict[str, Any], n: int) -> dict[str, Any]:
    how = {key: value for key, value in sampling.items() if value is not None} | {"n": n}
    return how if files.system_prompt is None else how | {"system_prompt": files.system_prompt}


def _request_hash(prompt: Prompt, model: str, how: dict[str, Any]) -> str:
    return digest([prompt.raw_prompt_hash, model, how])[:16]


async def sample(client: ChatClient, messages: tuple[Message, ...], numbers: Iterable[int]) -> list[Answer]:
    """Return the answers of these sample numbers, each a request of its own, in the order of the numbers.

    Sample s is cached apart from the others, and sent ``seed + s`` where a seed is set. Raises what
    ``ChatClient.samples`` raises, and ReplyInvalid where the endpoint's filter refused one: that is no rollout.
    """
    requests = [endpoint_request(client.endpoint, messages, sample=number) for number in numbers]
    replies = await client.samples(requests, together=False)
    refused = sum(reply.finish_reason == Ending.REFUSED for reply in replies)
    if refused:
        raise ReplyInvalid(
            f"{client.shown}: {refused} of {counted(len(replies), 'reply', 'replies')} were refused (content filter)",
            "leave the prompt out, or ask an endpoint without that filter",
        )
    return [Answer(text=reply.text, finish_reason=reply.finish_reason, usage=reply.usage) for reply in replies]
