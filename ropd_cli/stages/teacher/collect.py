"""The answers to one prompt, gathered in rounds: each asks every teacher for as many samples as it is short of.

What a round asks for follows from the replies of the rounds before and from nothing else, so the same replies, from
the cache or not, lead to the same answers; ``CachedReplies`` relies on it to say what is still to be asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from ropd_cli.answers.endings import Ending
from ropd_cli.answers.thinking import split_thinking
from ropd_cli.errors import TooFewReplies
from ropd_cli.llm.cache import ReplyCache, cache_key
from ropd_cli.llm.chat import ChatReply, ChatRequest, canonical_reply, endpoint_request
from ropd_cli.llm.urls import base_url
from ropd_cli.records.schemas import Answer, Prompt
from ropd_cli.stages.teacher.keep import Grader, Keeper, Verdicts
from ropd_cli.stages.teacher.request import Teacher, TeacherCount, Wanted, shares
from ropd_cli.util.counted import counted

Requests = dict[int, list[ChatRequest]]
"""By a teacher's place: requests to it that differ in the number of the sample."""
ReplySource = Callable[[Requests], Awaitable[dict[int, list[ChatReply]]]]
"""Where replies come from: those to all requests, in the same order."""


class RepliesMissing(Exception):
    """Replies that the cache lacks."""


class CachedReplies:
    """The cache alone. ``found`` and ``missing`` are the requests that were looked up, each with its teacher's place;
    where any is missing RepliesMissing is raised."""

    def __init__(self, cache: ReplyCache | None, teachers: Sequence[Teacher]) -> None:
        self._cache = cache
        self._endpoints = [teacher.endpoint for teacher in teachers]
        self.found: list[tuple[int, ChatRequest]] = []
        self.missing: list[tuple[int, ChatRequest]] = []

    async def __call__(self, asked: Requests) -> dict[int, list[ChatReply]]:
        known = {teacher: [self._look(teacher, one) for one in requests] for teacher, requests in asked.items()}
        if self.missing:
            raise RepliesMissing
        return {teacher: [reply for reply in replies if reply is not None] for teacher, replies in known.items()}

    def _look(self, teacher: int, request: ChatRequest) -> ChatReply | None:
        reply, endpoint = None, self._endpoints[teacher]
        if self._cache is not None:
            reply = self._cache.get(cache_key(base_url(endpoint), request), request.sampling.max_tokens)
        (self.missing if reply is None else self.found).append((teacher, request))
        return reply and canonical_reply(reply, endpoint)


@dataclass(frozen=True)
class Sample:
    """One reply of a teacher, as an answer. ``usable``: whole, and with text after its thinking."""

    teacher: int
    answer: Answer
    usable: bool


@dataclass
class _Turn:
    """How far a teacher is with a prompt."""

    m: int
    asked: int = 0
    truncated: int = 0
    """Replies that were cut off and asked for again with a higher limit."""
    kept: list[Sample] = field(default_factory=list)

    @property
    def short(self) -> int:
        return max(0, self.m - len(self.kept))


class Collection:
    """The answers to one prompt. ``gather`` gets them; ``count`` books what came, also when it failed."""

    def __init__(self, prompt: Prompt, teachers: Sequence[Teacher], wanted: Wanted, grader: Grader | None) -> None:
        self._prompt, self._teachers, self._wanted = prompt, teachers, wanted
        self._keeper = Keeper(prompt, wanted, grader)
        self._messages = wanted.messages(prompt)
        self._turns = {k: _Turn(m) for k, m in shares(prompt, len(teachers), wanted.m).items()}
        self._samples: list[Sample] = []
        self._verdicts = Verdicts({})
        self._done = False

    async def gather(self, source: ReplySource) -> list[Answer]:
        """The answers, m of them that count, in the order they came, and with ``keep_truncated`` those that were cut
        off behind them. Raises TooFewReplies when the tries are used up, and what ``source`` raises."""
        while numbers := self._next():
            await self._round(numbers, source)
            await self._judge()
        self._done = True
        kept = {id(sample) for turn in self._turns.values() for sample in turn.kept}
        answers = [self._marked(sample) for sample in self._samples if id(sample) in kept]
        if self._wanted.keep_truncated:
            answers += [s.answer for s in self._samples if s.answer.finish_reason == "length"]
        return answers

    def count(self, counts: Sequence[TeacherCount]) -> None:
        """Add what came to the teachers' counts."""
        for teacher, turn in self._turns.items():
            counts[teacher].truncated += turn.truncated
            if self._done:
                counts[teacher].answers += len(turn.kept)
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
        """Return the numbers of the samples to ask for, by teacher; none when all is there. Raises TooFewReplies."""
        wanted = {teacher: turn.short for teacher, turn in self._turns.items() if turn.short}
        if not wanted and not self._verdicts.settled:
            wanted = dict.fromkeys(self._turns, 1)
        numbers = {}
        for teacher, short in wanted.items():
            turn = self._turns[teacher]
            some = range(turn.asked, min(turn.asked + short, self._wanted.tries * turn.m))
            if some:
                numbers[teacher] = some
            elif turn.short:
                raise self._too_few()
        if wanted and not numbers:
            raise self._too_few()
        return numbers

    async def _round(self, numbers: dict[int, range], source: ReplySource) -> None:
        asked = {
            teacher: [
                endpoint_request(self._teachers[teacher].endpoint, self._messages, sample=number) for number in some
            ]
            for teacher, some in numbers.items()
        }
        replies = await source(asked)
        cut: dict[int, list[int]] = {}
        longer: dict[int, list[ChatReply]] = {}
        limit = self._wanted.retry_max_tokens
        if limit is not None:
            cut = {t: [k for k, one in enumerate(some) if one.finish_reason == "length"] for t, some in replies.items()}
            again = {t: [_with_limit(asked[t][k], limit) for k in some] for t, some in cut.items() if some}
            longer = await source(again) if again else {}
        for teacher, some in numbers.items():
            turn = self._turns[teacher]
            second = dict(zip(cut.get(teacher, ()), longer.get(teacher, ()), strict=True))
            turn.asked = some.stop
            turn.truncated += len(second)
            for k, reply in enumerate(replies[teacher]):
                self._samples.append(self._sample(teacher, second.get(k, reply), limit if k in second else None))

    async def _judge(self) -> None:
        """Which samples count by now: of each teacher the first ones of those that do, as many as its share."""
        self._verdicts = await self._keeper.verdicts([s.answer.text for s in self._samples if s.usable])
        seen: set[str] = set()
        for turn in self._turns.values():
            turn.kept = []
        for sample in self._samples:
            text, turn = sample.answer.text, self._turns[sample.teacher]
            if not sample.usable or not self._verdicts.counts[text] or not turn.short:
                continue
            if text not in seen or self._wanted.same_allowed:
                turn.kept.append(sample)
            seen.add(text)

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
        return Sample(teacher, answer, bool(answer.text) and reply.finish_reason == Ending.WHOLE)

    def _marked(self, sample: Sample) -> Answer:
        return sample.answer.model_copy(update={"correct": True}) if self._keeper.checked else sample.answer

    def _too_few(self) -> TooFewReplies:
        """What a user is told of a prompt whose tries are used up."""
        counts = [TeacherCount(teacher.model, teacher.shown) for teacher in self._teachers]
        self.count(counts)
        turns = self._turns.values()
        kept, asked = sum(len(turn.kept) for turn in turns), sum(turn.asked for turn in turns)
        cut_off = sum(s.answer.finish_reason == "length" for s in self._samples)
        wrong, undecided = sum(c.wrong for c in counts), sum(c.undecided for c in counts)
        lost = {
            "were cut off by the token limit": cut_off,
            "were refused (content filter)": sum(s.answer.finish_reason == Ending.REFUSED for s in self._samples),
            "were empty, or thinking alone": sum(
                s.answer.finish_reason == Ending.WHOLE and not s.usable for s in self._samples
            ),
            "have the wrong result" if self._wanted.keep == "correct" else "have another result than most": wrong,
            "have a result that can't be compared": undecided,
        }
        words = [f"{number} {what}" for what, number in lost.items() if number]
        if not self._verdicts.settled:
            words.append("no result has a majority")
        short = [self._teachers[teacher].model for teacher, turn in self._turns.items() if turn.short]
        of = f" ({', '.join(short)} fell short)" if short and len(turns) > 1 else ""
        if cut_off:
            hint = "raise --max-tokens, or --retry-max-tokens"
        elif wrong or undecided or not self._verdicts.settled:
            hint = "raise --tries, or leave the prompt out"
        elif lost["were refused (content filter)"]:
            hint = "leave the prompt out, or ask a teacher without that filter"
        elif lost["were empty, or thinking alone"]:
            hint = "raise --max-tokens; does the server's reasoning parser take the answer for thinking?"
        else:
            hint = "raise --temperature or --tries, or ask for fewer by -m"
        return TooFewReplies(
            f"uid {self._prompt.uid}: {kept} different usable answers in {counted(asked, 'sample')}{of}, "
            + ", ".join([*words, f"{self._wanted.m} are wanted"]),
            hint,
        )


def _with_limit(request: ChatRequest, max_tokens: int) -> ChatRequest:
    return request.model_copy(update={"sampling": request.sampling.model_copy(update={"max_tokens": max_tokens})})
