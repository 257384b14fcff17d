"""A question as it is put to the model where nothing is added to it."""

from __future__ import annotations

from ropd_cli.datasets.eval_sets import EvalQuestion
from ropd_cli.evaluation.samples import Asked
from ropd_cli.records.schemas import Message


def as_it_stands(question: EvalQuestion) -> Asked:
    """The prompt alone, as one user message, or the messages that the row has."""
    if isinstance(question.prompt, str):
        return Asked((Message(role="user", content=question.prompt),))
    return Asked(question.prompt)
