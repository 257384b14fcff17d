"""The answers to one prompt, gathered in rounds: each asks every teacher for as many samples as it is short of.

What a round asks for follows from the replies of the rounds before and from nothing else, so the same replies, from
the cache or not, lead to the same answers; ``CachedReplies`` relies on it to say what is still to be asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from ropd_cli.answers.thinking import split_thinking
from ropd_cli.errors import RopdError, TooFewAnswers
from ropd_cli.llm.cache import ReplyCache, cache_key
from ropd_cli.llm.chat import ChatReply, ChatRequest, endpoint_request
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.urls import base_url
from ropd_cli.records.schemas import Answer, Prompt
from ropd_cli.stages.teacher.keep import Keeper, Verdicts
from ropd_cli.stages.teacher.request import Share, Teacher, TeacherCount, Wanted
from ropd_cli.util.concurrency import all_of

TeacherRequests = tuple[int, list[ChatRequest]]
"""(a teacher's place, requests to it that differ in the number of the sample)."""


class ReplySource(Protocol):
    """Where replies come from."""

    async def __call__(self, asked: Sequence[TeacherRequests]) -> list[list[ChatReply]]: ...


class LiveReplies:
    """The teachers themselves. When a call fails the others are finished: they are paid for, and kept."""

    def __init__(self, clients: Sequence[ChatClient], *, together: bool) -> None:
        self._clients, self._together = clients, together

    async def __call__(self, asked: Sequence[TeacherRequests]) -> list[list[ChatReply]]:
        calls = [
            partial(self._clients[teacher].samples, requests, together=self._together) for teacher, requests in asked
        ]
        replies = await all_of(calls, partial=False)  # without ``partial`` no error stands in a reply's place
        return [some for some in replies if not isinstance(some, RopdError)]


class RepliesMissing(Exception):
    """Replies that the cache lacks."""


class CachedReplies:
    """The cache alone. ``found`` and ``missing`` are the requests that were looked up, each with its teacher's place;
    where any is missing RepliesMissing is raised."""

    def __init__(self, cache: ReplyCache | None, teachers: Sequence[Teacher]) -> None:
        self._cache = cache
        self._urls = [base_url(teacher.endpoint) for teacher in teachers]
        self.found: list[tuple[int, ChatRequest]] = []
        self.missing: list[tuple[int, ChatRequest]] = []

    async def __call__(self, asked: Sequence[TeacherRequests]) -> list[list[ChatReply]]:
        known = [[self._look(teacher, request) for request in requests] for teacher, requests in asked]
        replies = [[reply for reply in part if reply is not None] for part in known]
        if self.missing:
            raise RepliesMissing
        return replies

    def _look(self, teacher: int, request: ChatRequest) -> ChatReply | None:
        reply = None
        if self._cache is not None:
            reply = self._cache.get(cache_key(self._urls[teacher], request), request.sampling.max_tokens)
        (self.missing if reply is None else self.found).append((teacher, request))
        return reply


@dataclass(frozen=True)
class Sample:
    """One reply of a teacher, as an answer. ``usable``: whole, and with text after its thinking."""

    teacher: int
    answer: Answer
    usable: bool


@dataclass
class _Turn:
    """How far a teacher is with a prompt."""

    share: Share
    asked: int = 0
    truncated: int = 0
    """Replies that were cut off and asked for again with a higher limit."""
    kept: list[Sample] = field(default_factory=list)

    @property
    def short(self) -> int:
        return max(0, self.share.m - len(self.kept))


class Collection:
    """The answers to one prompt. ``gather`` gets them; ``count`` books what came, also when it failed."""

    def __init__(
        self, prompt: Prompt, teachers: Sequence[Teacher], shared: Sequence[Share], wanted: Wanted, keeper: Keeper
    ) -> None:
        self._prompt, self._teachers, self._wanted, self._keeper = prompt, teachers, wanted, keeper
        self._messages = wanted.messages(prompt)
        self._turns = [_Turn(share) for share in shared]
        self._samples: list[Sample] = []
        self._verdicts = Verdicts({})
        self._done = False

    async def gather(self, source: ReplySource) -> list[Answer]:
        """The answers, m of them that count, in the order they came, and with ``keep_truncated`` those that were cut
        off behind them. Raises TooFewAnswers when the tries are used up, and what ``source`` raises."""
        while numbers := self._next():
            await self._round(numbers, source)
            await self._judge()
        self._done = True
        kept = {id(sample) for turn in self._turns for sample in turn.kept}
        answers = [self._marked(sample) for sample in self._samples if id(sample) in kept]
        if self._wanted.keep_truncated:
            answers += [s.answer for s in self._samples if s.answer.finish_reason == "length"]
        return answers

    def count(self, counts: Sequence[TeacherCount]) -> None:
        """Add what came to the teachers' counts."""
        for turn in self._turns:
            counts[turn.share.teacher].truncated += turn.truncated
            if self._done:
                counts[turn.share.teacher].answers += len(turn.kept)
        seen: set[str] = set()
        for sample in self._samples:
            count, text = counts[sample.teacher], sample.answer.text
            if sample.answer.finish_reason == "length":
                count.truncated += 1
            elif not sample.usable:
                count.empty += 1
            elif self._verdicts.counts.get(text) is False:
                count.wrong += 1
            elif self._verdicts.counts.get(text) is None:
                count.undecided += 1
            elif text in seen:
                count.duplicates += 1
            seen.add(text)

    def _next(self) -> dict[int, range]:
        """The numbers of the samples to ask for, by turn; none when all is there. Raises TooFewAnswers."""
        wanted = {place: turn.short for place, turn in enumerate(self._turns) if turn.short}
        if not wanted and not self._verdicts.settled:
            wanted = dict.fromkeys(range(len(self._turns)), 1)
        numbers = {}
        for place, short in wanted.items():
            turn = self._turns[place]
            numbers[place] = range(turn.asked, min(turn.asked + short, self._wanted.tries * turn.share.m))
        if any(turn.short and not numbers[place] for place, turn in enumerate(self._turns)):
            raise self._too_few()
        numbers = {place: some for place, some in numbers.items() if some}
        if wanted and not numbers:
            raise self._too_few()
        return numbers

    async def _round(self, numbers: dict[int, range], source: ReplySource) -> None:
        asked = [(self._turns[place].share.teacher, self._requests(place, some)) for place, some in numbers.items()]
        replies = await source(asked)
        again = await self._again(asked, replies, source)
        for k, (place, some) in enumerate(numbers.items()):
            turn = self._turns[place]
            turn.asked = some.stop
            turn.truncated += len(again[k])
            for index, reply in enumerate(replies[k]):
                longer = again[k].get(index)
                limit = self._wanted.retry_max_tokens if longer is not None else None
                self._samples.append(self._sample(turn.share.teacher, longer or reply, limit))

    async def _again(
        self, asked: Sequence[TeacherRequests], replies: Sequence[Sequence[ChatReply]], source: ReplySource
    ) -> list[dict[int, ChatReply]]:
        """The replies to what was cut off, asked for with the higher limit; by index, for each of ``asked``."""
        limit = self._wanted.retry_max_tokens
        if limit is None:
            return [{} for _ in asked]
        cut = [[k for k, reply in enumerate(part) if reply.finish_reason == "length"] for part in replies]
        longer = [
            (teacher, [_with_limit(requests[k], limit) for k in some])
            for (teacher, requests), some in zip(asked, cut, strict=True)
        ]
        came = iter(await source([one for one in longer if one[1]])) if any(cut) else iter(())
        return [dict(zip(some, next(came), strict=True)) if some else {} for some in cut]

    async def _judge(self) -> None:
        """Which samples count by now: of each teacher the first ones of those that do, as many as its share."""
        self._verdicts = await self._keeper.verdicts([s.answer.text for s in self._samples if s.usable])
        seen: set[str] = set()
        for turn in self._turns:
            turn.kept = []
        turns = {turn.share.teacher: turn for turn in self._turns}
        for sample in self._samples:
            text, turn = sample.answer.text, turns[sample.teacher]
            if not sample.usable or not self._verdicts.counts[text] or not turn.short:
                continue
            if text not in seen or self._wanted.same_allowed:
                turn.kept.append(sample)
            seen.add(text)

    def _requests(self, place: int, numbers: range) -> list[ChatRequest]:
        endpoint = self._teachers[self._turns[place].share.teacher].endpoint
        return [endpoint_request(endpoint, self._messages, sample=number) for number in numbers]

    def _sample(self, teacher: int, reply: ChatReply, limit: int | None) -> Sample:
        thinking, visible = split_thinking(reply.text)
        who, several = self._teachers[teacher], len(self._turns) > 1
        sampling = who.sampling if limit is None else {**who.sampling, "max_tokens": limit}
        answer = Answer(
            text=(visible or "").strip(),
            finish_reason=reply.finish_reason,
            usage=reply.usage,
            reasoning=(reply.reasoning or thinking or None) if self._wanted.reasoning else None,
            created=reply.created,
            model=who.model if several else None,
            endpoint=who.shown if several else None,
            sampling=sampling if several or limit is not None else None,
        )
        return Sample(teacher, answer, bool(answer.text) and reply.finish_reason not in ("length", "content_filter"))

    def _marked(self, sample: Sample) -> Answer:
        return sample.answer.model_copy(update={"correct": True}) if self._keeper.checked else sample.answer

    def _too_few(self) -> TooFewAnswers:
        """What a user is told of a prompt whose tries are used up."""
        counts = [TeacherCount(teacher.model, teacher.shown) for teacher in self._teachers]
        self.count(counts)
        kept = sum(len(turn.kept) for turn in self._turns)
        asked = sum(turn.asked for turn in self._turns)
        cut_off = sum(s.answer.finish_reason == "length" for s in self._samples)
        wrong, undecided = sum(c.wrong for c in counts), sum(c.undecided for c in counts)
        lost = [
            f", {number} {what}"
            for number, what in (
                (cut_off, "were cut off by the token limit"),
                (wrong, "have the wrong result" if self._wanted.keep == "correct" else "have another result than most"),
                (undecided, "have a result that can't be compared"),
            )
            if number
        ]
        if not self._verdicts.settled:
            lost.append(", no result has a majority")
        several = len(self._turns) > 1
        short = [self._teachers[turn.share.teacher].model for turn in self._turns if turn.short] if several else []
        of = f" ({', '.join(short)} fell short)" if short else ""
        if cut_off:
            hint = "raise --max-tokens, or --retry-max-tokens"
        elif wrong or undecided or not self._verdicts.settled:
            hint = "raise --tries, or leave the prompt out"
        else:
            hint = "raise --temperature or --tries, or ask for fewer by -m"
        return TooFewAnswers(
            f"uid {self._prompt.uid}: {kept} different usable answers in {asked} samples{of}{''.join(lost)}, "
            f"{self._wanted.m} are wanted",
            hint,
        )


def _with_limit(request: ChatRequest, max_tokens: int) -> ChatRequest:
    return request.model_copy(update={"sampling": request.sampling.model_copy(update={"max_tokens": max_tokens})})
