"""Ask the rubricator for the rubric of a group (step 3 of the method)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial as partial_of

from ropd_cli.errors import JudgeError, RopdError
from ropd_cli.llm.client import ChatReply, ChatRequest, JsonSchema
from ropd_cli.llm.structured import read_json
from ropd_cli.method.block import Block
from ropd_cli.method.dataset_rubrics import merged
from ropd_cli.method.layouts import Layout, rubric_layouts
from ropd_cli.method.replies import RUBRIC_NAME, parse_rubric, rubric_schema
from ropd_cli.records.schemas import Group, Rubric, RubricRecord, Usage, digest
from ropd_cli.stages.judge import Judge
from ropd_cli.util.concurrency import all_of

FORM = JsonSchema(name=RUBRIC_NAME, body=rubric_schema())


@dataclass(frozen=True)
class RubricRequest:
    """One request for a rubric, and what it shows."""

    layout: Layout
    request: ChatRequest


class Rubricator(Judge):
    """Writes the rubrics of groups."""

    def requests(self, group: Group, block: Block | None = None) -> list[RubricRequest]:
        """What is asked of a group: nothing where no rollout has an answer, and where the rubric is the data set's.

        Raises JudgeError for a group without teacher answers, or without the data set's rubric where that is used.
        """
        block, settings = block or self.block(group), self.settings
        if not block.has_students:
            return []
        if settings.rubrics != "induced" and group.dataset_rubric is None:
            raise JudgeError(
                f"uid {group.uid}: judge.rubrics is {settings.rubrics}, and the prompt brings no rubric",
                "give the prompts a `rubric`, or set judge.rubrics to induced",
            )
        if settings.rubrics == "dataset":
            return []
        if not block.references:
            raise JudgeError(
                f"uid {group.uid}: no teacher answer to show", f"look at what the index holds for uid {group.uid}"
            )
        requests = []
        for layout in rubric_layouts(block, settings):
            messages = self.templates.rubricator_messages(layout.block)
            requests.append(RubricRequest(layout, self._request(block, layout.block, messages, FORM)))
        return requests

    @property
    def author(self) -> str:
        """The model that rubrics are by; none where they are the data set's."""
        return "" if self.settings.rubrics == "dataset" else self.endpoint.model or ""

    async def rubric(
        self,
        group: Group,
        *,
        block: Block | None = None,
        requests: Sequence[RubricRequest] | None = None,
        partial: bool = False,
    ) -> RubricRecord:
        """The rubric of a group (with ``rubric_per`` of each of its rollouts): written by the rubricator, the data
        set's own, or both, as ``judge.rubrics`` says. Where no rollout has an answer there is nothing to judge: no call
        is made and the record has no rubric.

        ``block`` and ``requests`` are the group's, where they are at hand. ``partial``: of several rubrics those that
        failed are left out, unless all failed. Raises what ``requests`` raises, and ProviderError (ReplyInvalid among
        them) where the rubricator did not give a valid rubric within the client's retries.
        """
        block = block or self.block(group)
        requests = self.requests(group, block) if requests is None else requests
        calls = [partial_of(self.client.ask, each.request, read_rubric) for each in requests]
        outcomes = await all_of(calls, partial=partial)
        is_used = block.has_students and self.settings.rubrics != "induced"
        dataset = group.dataset_rubric if is_used else None
        rubrics: dict[int | None, Rubric] = {None: dataset} if dataset is not None and not requests else {}
        mended: set[str] = set()
        usages = []
        for each, outcome in zip(requests, outcomes, strict=True):
            if not isinstance(outcome, RopdError):
                reply, (rubric, repairs) = outcome
                rubrics[each.layout.rollout] = merged(dataset, rubric) if dataset is not None else rubric
                mended.update(repairs)
                usages.append(reply.usage)
        is_own = self.settings.rubric_per == "rollout" and requests
        return RubricRecord(
            uid=group.uid,
            raw_prompt_hash=group.raw_prompt_hash,
            rubric=rubrics.get(None),
            rubric_hash=_hash(rubrics),
            rubrics=tuple(rubrics.get(k) for k in range(len(group.rollouts))) if is_own else (),
            model=self.author,
            template_hash=self.templates.rubricator_hash,
            usage=Usage.total(usages),
            mended=tuple(sorted(mended)),
            cut=block.cut,
        )


def read_rubric(reply: ChatReply) -> tuple[Rubric, tuple[str, ...]]:
    """The rubric in a reply, and what of it was mended. Raises ReplyInvalid."""
    document, mended = read_json(reply.text, "rubrics")
    rubric, more = parse_rubric(document)
    return rubric, tuple(sorted({*mended, *more}))


def _hash(rubrics: dict[int | None, Rubric]) -> str | None:
    """Of the one rubric, or of those of all rollouts."""
    if not rubrics:
        return None
    if None in rubrics:
        return rubrics[None].hash
    return digest({str(rollout): rubric.hash for rollout, rubric in rubrics.items()})[:16]
