"""Judge groups of rollouts from Python, for a trainer of your own: what ``ropd train`` does with the rollouts of a
prompt.

    judge = ropd_cli.Judge.from_config("run.yaml")
    group = await judge.rewards("What is 12 + 19?", rollouts)      # or judge.rewards_sync(…)
    trainer = GRPOTrainer(reward_funcs=judge.trl_reward(), …)      # TRL
"""

from __future__ import annotations

import asyncio
import atexit
import difflib
import importlib.metadata
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from packaging.version import Version

import ropd_cli.builtin  # noqa: F401 - registers itself
from ropd_cli.config import RopdConfig, load_config
from ropd_cli.errors import InputError, RopdError
from ropd_cli.index import TeacherIndex
from ropd_cli.llm.cache import ReplyCache
from ropd_cli.llm.shared import Shared
from ropd_cli.method.groups import group_of
from ropd_cli.methods import check_sections, method_of_rewards
from ropd_cli.methods.base import Method, Needs, Resources, Rewarded, Rewarder
from ropd_cli.records.schemas import Answer, Prompt, RubricRecord, VerdictRecord, load_prompts, prompt_hash
from ropd_cli.records.sent_prompts import SHOWN_CHARS, check_same, sent_prompt, shown_text
from ropd_cli.stages.runner import GIVE_UP_AFTER, RECORD_ERRORS
from ropd_cli.util.concurrency import STOPS

log = logging.getLogger(__name__)

SAY_EVERY_S = 60.0
LOOKED_AT = 20_000
"""So many prompts of an index are compared with one that it lacks: a fraction of a second."""
T = TypeVar("T")
Messages = str | Sequence[Mapping[str, Any]] | None
"""A prompt: a text, or chat messages; None: that of a uid."""
FIELDS = ("data_source", "rubric", "extra_info")
"""Further columns of a prompt."""
COLUMNS = ("answer", "uid", "teacher_answers", "data_source", "rubric")
"""Columns of a data set of TRL's that are used."""
TrlReward = Callable[..., list[float | None]]
LEAST_TRL = "1.6.0"
"""The first version of TRL that leaves a reward of None out of the group's mean; earlier ones count it as 0."""


class JudgedGroup(NamedTuple):
    """What a group is worth. ``rewards`` has one entry per rollout, in their order, shape (n,); None is missing, and is
    to be left out rather than counted as 0."""

    rewards: tuple[float | None, ...]
    rubric: RubricRecord | None
    """None for methods without rubrics, and where no rollout has an answer."""
    verdicts: VerdictRecord


class MissingGroups:
    """Says that groups are missing: of the first at once, of further ones every ``SAY_EVERY_S`` at most."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._unsaid = 0
        self._due = 0.0
        self._last = ""

    def note(self, why: str | None) -> None:
        """Note a group that has been judged (``why`` None), or why it could not be."""
        if why is not None:
            self._unsaid += 1
            self._last = why
        if self._unsaid and time.monotonic() >= self._due:
            groups = "1 group has" if self._unsaid == 1 else f"{self._unsaid} groups have"
            self._say(f"{groups} no rewards: {self._last}")
            self._unsaid, self._due = 0, time.monotonic() + SAY_EVERY_S


class Judge:
    """Judges groups by one configuration: its method, endpoints, templates, cache, limits and ``max_cost``.

    May be used from any thread and any event loop. The same group asked again is answered from the cache. Close it, or
    use it in a ``with`` statement.
    """

    def __init__(self, config: RopdConfig) -> None:
        """Raises InputError for settings that can't be used, or that the method does not read."""
        check_sections(config)
        method = method_of_rewards(config)
        self.config = config
        self._needs = method.needs(config)
        self._noted_size = self._has_judged = False
        self._bad_groups = 0
        self._missing = MissingGroups(log.warning)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ropd-judge", daemon=True)
        self._thread.start()
        try:
            self._index, self._cache, self._rewarder = self._here(self._opened(method))
        except BaseException:
            self._end()
            raise
        atexit.register(self.close)  # a judge that nobody closes would leave open connections to complain

    @classmethod
    def from_config(cls, config: str | Path | Mapping[str, Any] | RopdConfig) -> Judge:
        """Return the judge of a configuration: a YAML file (a path, or a shipped name), or its content as a mapping.

        Keys and models are read from the environment as by the commands. Raises ConfigError with every fault.
        """
        if isinstance(config, RopdConfig):
            return cls(config)
        if isinstance(config, Mapping):
            flags = dict(config)
            return cls(load_config(None, flags=flags, flags_from="mapping", environ=os.environ))
        if not isinstance(config, str | Path):
            raise InputError(f"a configuration is no {type(config).__name__}", "give a YAML file or a mapping")
        return cls(load_config(config, environ=os.environ))

    async def rewards(
        self,
        prompt: Messages,
        rollouts: Sequence[str | Answer],
        teacher_answers: Sequence[str] | None = None,
        *,
        answer: str | None = None,
        uid: str | None = None,
        epoch: int = 0,
        **fields: Any,
    ) -> JudgedGroup:
        """Judge the rollouts of one prompt together.

        ``prompt`` None: that of ``data.prompts`` with the ``uid``. ``teacher_answers`` None: those of the
        configuration's index, found by the prompt's text; of more than ``judge.m`` ``epoch`` says which. ``answer`` is
        the checkable answer, where the configuration wants one; ``fields`` are further columns of the prompt
        (``data_source``, ``rubric``, ``extra_info``).

        Raises RopdError where the group can't be judged: JudgeError or ProviderError for this group alone, CostLimit,
        ProviderDown or AccountEnded where no other can be either; InputError for arguments of the wrong type,
        a ``uid`` that is another prompt's, and where teacher answers are needed and there are none.
        """
        made = self._group(prompt, rollouts, teacher_answers, answer, uid, epoch, fields)
        return await asyncio.wrap_future(self._begun(made))

    def rewards_sync(
        self, prompt: Messages, rollouts: Sequence[str | Answer], *args: Any, **fields: Any
    ) -> JudgedGroup:
        """As ``rewards``, from code without an event loop. Raises InputError in one."""
        with suppress(RuntimeError):
            asyncio.get_running_loop()
            raise InputError("rewards_sync is called in a running event loop", "there: await judge.rewards(…)")
        return asyncio.run(self.rewards(prompt, rollouts, *args, **fields))

    def trl_reward(self) -> TrlReward:
        """Return a reward function for TRL's ``GRPOTrainer(reward_funcs=…)``.

        Each ``rollout.n`` consecutive completions of a call are a group, of one prompt. The data set's columns
        ``answer``, ``uid``, ``teacher_answers``, ``data_source`` and ``rubric`` are used where they are there. What
        could not be judged is None, which TRL leaves out, and is said on stderr. Raises InputError where the call does
        not consist of such groups, or the data set as a whole can't be judged, and at once for a TRL older than
        ``LEAST_TRL``; CostLimit, ProviderDown or AccountEnded where no further group can be.
        """
        try:
            installed = importlib.metadata.version("trl")
        except importlib.metadata.PackageNotFoundError:
            installed = LEAST_TRL  # the function is called by something else
        if Version(installed) < Version(LEAST_TRL):
            raise InputError(f"trl {installed} counts a missing reward as 0", f"pip install 'trl>={LEAST_TRL}'")

        def ropd_reward(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
            return self._here(self._completions(prompts, completions, columns))

        return ropd_reward

    def close(self) -> None:
        """Close endpoints, cache and index."""
        atexit.unregister(self.close)
        if not self._loop.is_closed():
            self._here(self._closed())
            self._end()

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Judge:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    async def _opened(self, method: Method) -> tuple[TeacherIndex | None, ReplyCache, Rewarder]:
        """Open all in the thread that uses it."""
        config = self.config
        has_index = config.data.index is not None and self._needs.teacher_answers > 0
        index = TeacherIndex.open(Path(str(config.data.index))) if has_index else None
        cache = ReplyCache.open(config.cache_dir, config.cache_max_gb)
        return index, cache, method.rewarder(Resources(config, cache, Shared.of(config), index))

    async def _closed(self) -> None:
        await self._rewarder.close()
        self._cache.close()
        if self._index is not None:
            self._index.close()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _here(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work in the judge's own loop, and wait for it."""
        return self._begun(work).result()

    def _begun(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        if self._loop.is_closed():
            work.close()
            raise InputError("the judge is closed", "make another: Judge.from_config(…)")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _group(
        self,
        prompt: Messages,
        rollouts: Sequence[str | Answer],
        teacher_answers: Sequence[str] | None,
        answer: str | None,
        uid: str | None,
        epoch: int,
        fields: Mapping[str, Any],
    ) -> JudgedGroup:
        for name in fields.keys() - set(FIELDS):
            known = ("teacher_answers", "answer", "uid", "epoch", *FIELDS)
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}"
            raise InputError(f"rewards has no argument {name!r}", hint)
        record = self._prompt(prompt, uid, answer, fields)
        check_answer(self._needs, record)
        answers = tuple(
            one if isinstance(one, Answer) else Answer(text=one, finish_reason="stop")
            for one in _checked_texts("rollouts", rollouts, (str, Answer))
        )
        if not answers:
            raise InputError("no rollouts", "one text per rollout of the prompt")
        teacher_answers = _checked_texts("teacher_answers", teacher_answers or (), (str,))
        if not teacher_answers:
            epoch = epoch if self.config.judge.rotate_answers else 0
            teacher_answers = indexed_answers(self.config, self._index, self._needs.teacher_answers, record, epoch)
        with_rubric = self.config.judge.rubrics != "induced"
        group = group_of(record, answers, teacher_answers, with_rubric=with_rubric)
        rewarded: Rewarded = await self._rewarder.reward(group)
        return JudgedGroup(rewarded.verdicts.rewards, rewarded.rubric, rewarded.verdicts)

    def _prompt(self, prompt: Messages, uid: str | None, answer: str | None, fields: Mapping[str, Any]) -> Prompt:
        """Return the prompt of ``data.prompts`` with the uid, or else the one that is sent. Raises InputError where
        there is neither, or both differ."""
        known = self._known.get(str(uid)) if uid is not None else None
        if known is None:
            if prompt is None:
                raise no_prompt(uid)
            return sent_prompt(prompt, uid, answer, **fields)
        if prompt is not None:
            check_same(known, sent_prompt(prompt, uid))
        given = {name: value for name, value in {"answer": answer, **fields}.items() if value is not None}
        return sent_prompt(known.prompt, **(known.model_dump(exclude={"prompt"}) | given))

    @cached_property
    def _known(self) -> dict[str, Prompt]:
        """The prompts of ``data.prompts`` by uid, read when the first uid is given."""
        file = self.config.data.prompts
        return {prompt.uid: prompt for prompt in load_prompts(file)} if file else {}

    async def _completions(
        self, prompts: Sequence[Any], completions: Sequence[Any], columns: Mapping[str, Any]
    ) -> list[float | None]:
        lengths = {"prompts": len(prompts), "completions": len(completions)}
        lengths |= {name: len(column) for name, column in columns.items() if name in COLUMNS}
        if not prompts or len(set(lengths.values())) > 1:
            raise InputError(
                f"columns of different lengths, or empty: {', '.join(f'{k} {v}' for k, v in lengths.items())}",
                "give one entry of each per completion",
            )
        n = self.config.rollout.n
        runs = [len(list(rows)) for _, rows in groupby(prompts)]
        if n < 2 or any(run % n for run in runs):
            raise InputError(
                f"consecutive completions of one prompt: {', '.join(map(str, runs))}; rollout.n is {n}, and a group is "
                "judged together",
                "set rollout.n to the trainer's number (TRL: num_generations, at least 2), and let each call bring all "
                "generations of its prompts (TRL: a per-device batch that holds whole groups)",
            )
        if min(runs) > n and not self._noted_size:  # nothing tells a prompt drawn twice from a wrong rollout.n
            self._noted_size = True
            log.warning("each prompt has %d or more completions, judged in groups of rollout.n = %d", min(runs), n)
        known = {name: columns[name] for name in COLUMNS if name in columns and name != "teacher_answers"}

        async def group(first: int) -> tuple[float | None, ...] | RopdError:
            fields = {name: column[first] for name, column in known.items()}
            teacher = columns["teacher_answers"][first] if "teacher_answers" in columns else None
            texts = [_text(completion) for completion in completions[first : first + n]]
            try:
                judged = await self._group(
                    prompts[first], texts, teacher, fields.pop("answer", None), fields.pop("uid", None), 0, fields
                )
            except (*STOPS, *RECORD_ERRORS, InputError) as fault:
                return fault
            return judged.verdicts.for_update

        judged = await asyncio.gather(*(group(first) for first in range(0, len(prompts), n)))
        faults = [each for each in judged if isinstance(each, RopdError)]
        for fault in faults:
            if isinstance(fault, STOPS):
                raise fault
        self._raise_if_hopeless(len(judged), faults)
        for each in judged:
            self._missing.note(str(each) if isinstance(each, RopdError) else None)
        rewards = [(None,) * n if isinstance(each, RopdError) else each for each in judged]
        return [reward for group_rewards in rewards for reward in group_rewards]

    def _raise_if_hopeless(self, groups: int, faults: Sequence[RopdError]) -> None:
        """Raise the first error where going on makes no sense: no group was ever judged, and the data is at fault or
        ``GIVE_UP_AFTER`` groups have failed; or the data is at fault for so many groups of whole calls in a row."""
        if len(faults) < groups:
            self._bad_groups, self._has_judged = 0, True
            return
        is_data = all(isinstance(fault, InputError) for fault in faults)
        if is_data or not self._has_judged:
            self._bad_groups += groups
            if self._bad_groups >= GIVE_UP_AFTER or (is_data and not self._has_judged):
                raise faults[0]


def no_prompt(uid: Any) -> InputError:
    """Return the error of a prompt that is neither sent nor known by its uid."""
    return InputError(f"no prompt, and uid {uid!r} is not in data.prompts", "send prompt, or a uid of those")


def check_answer(needs: Needs, prompt: Prompt) -> None:
    """Raise InputError for a prompt without the checkable answer that the rewards need."""
    if needs.answers and not prompt.answer:
        raise InputError(
            f"the prompt {shown_text(prompt.messages)[:SHOWN_CHARS]!r} has no answer, which the method or reward.exact "
            "compares with",
            "send answer; a prompt of data.prompts has its own there",
        )


def _checked_texts(name: str, given: Iterable[T], kinds: tuple[type, ...]) -> tuple[T, ...]:
    """Return texts that a caller gives. Raises InputError for one text, and for what is none."""
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise InputError(f"{name} is one {type(given).__name__}", "a list of texts")
    texts = tuple(given)
    for number, each in enumerate(texts):
        if not isinstance(each, kinds):
            hint = "leave out what there is not" if each is None else "give a text: of a chat message its content"
            raise InputError(f"{name}[{number}] is {type(each).__name__}, not a text", hint)
    return texts


def _text(completion: str | Iterable[Mapping[str, Any]]) -> str:
    """Return the text of a completion, which TRL gives as messages where the prompts are."""
    if isinstance(completion, str):
        return completion
    return "".join(str(message.get("content") or "") for message in completion if message.get("role") == "assistant")


def indexed_answers(
    config: RopdConfig, index: TeacherIndex | None, m: int, prompt: Prompt, epoch: int = 0
) -> tuple[str, ...]:
    """Return m of the teacher's answers in the index; none where none are needed. A bare text and one message of a
    user's are the same prompt. Raises InputError where they are not there."""
    if not m:
        return ()
    if index is None:
        raise InputError(
            f"method {config.method} needs {m} teacher answers per prompt, and data.index is not set",
            "name the teacher index in data.index, or give teacher_answers",
        )
    hashes = [prompt_hash(prompt.messages)]
    if len(prompt.messages) == 1 and isinstance(content := prompt.messages[0].content, str):
        hashes.append(prompt_hash(content))
    for known in hashes:
        if stored := index.get(raw_prompt_hash=known):
            return index.answers(stored[0].uid, known, m, seed=config.seed, epoch=epoch)
    raise InputError(
        f"{config.data.index}: no answer to the prompt {shown_text(prompt.messages)[:SHOWN_CHARS]!r}",
        _index_hint(index, prompt),
    )


def _index_hint(index: TeacherIndex, prompt: Prompt) -> str:
    """Return what to do about a prompt that an index lacks, by whether it has the text in another form."""
    sent = shown_text(prompt.messages)
    for _, stored in islice(index.prompt_texts(), LOOKED_AT):
        known = shown_text(stored)
        last = known if isinstance(stored, str) else shown_text(stored[-1:])  # not the worked examples before it
        if sent and known and (known in sent or re.search(rf"(?<!\w){re.escape(sent)}(?!\w)", last)):
            form = "without your system message, or with other blanks" if known == sent else repr(known[:SHOWN_CHARS])
            return (
                f"the index has it in another form, {form}: send it so, or set data.prompts and give its uid, or give "
                "teacher_answers"
            )
    return "index it first, or give teacher_answers"
