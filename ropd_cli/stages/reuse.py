"""Judge a prompt's later groups by the rubric that was written for its first (``judge.reuse``).

The rubricator is asked again where the rubric no longer tells the rollouts apart: the student has outgrown it.
"""

from __future__ import annotations

from collections.abc import Iterable

from ropd_cli.method.block import Block
from ropd_cli.method.scoring import group_stats
from ropd_cli.records.packed import Key
from ropd_cli.records.schemas import Group, RubricRecord, VerdictRecord
from ropd_cli.stages.rubricator import Rubricator
from ropd_cli.stages.runner import RECORD_ERRORS
from ropd_cli.stages.verifier import Verifier
from ropd_cli.util.concurrency import STOPS


class KeptRubrics:
    """The rubric that was last written for each prompt. ``earlier``: those of the run so far, in its order."""

    def __init__(self, earlier: Iterable[RubricRecord] = ()) -> None:
        self._by_prompt: dict[Key, RubricRecord] = {}
        for record in earlier:
            self.keep(record)

    def keep(self, record: RubricRecord) -> None:
        """Keep a rubric for the next group of its prompt; a record without a rubric leaves what is there."""
        if record.rubric is not None:
            self._by_prompt[record.uid, record.raw_prompt_hash] = record

    async def judged(
        self, group: Group, rubricator: Rubricator, verifier: Verifier, block: Block
    ) -> tuple[RubricRecord, VerdictRecord] | None:
        """Return the rubric and the verdicts of a group whose prompt has a kept rubric; None where it has none.

        Where all rewards by it are equal, the rubricator writes another for this group, which is kept from then on. If
        that fails the group stays judged as it is. Raises what ``Verifier.verdicts`` raises.
        """
        kept = self._by_prompt.get((group.uid, group.raw_prompt_hash))
        if kept is None:
            return None
        # it costs nothing this time, and nothing of it was mended
        own = {"usage": None, "mended": (), "repaired": (), "cut": block.cut}
        rubric = kept.model_copy(update={**own, "origin": "reused"})
        verdicts = await verifier.verdicts(group, rubric, block=block, partial=True)
        texts = {answer.text for answer in block.answers if answer.source == "student"}
        if len(texts) < 2 or not group_stats(verdicts.rewards).zero_variance:  # no rubric tells equal texts apart
            return rubric, verdicts
        try:
            written = await rubricator.rubric(group, block=block, partial=True)
            renewed = written.model_copy(update={"origin": "renewed"})
            return renewed, await verifier.verdicts(group, renewed, block=block, partial=True)
        except (*STOPS, *RECORD_ERRORS):
            return rubric, verdicts
