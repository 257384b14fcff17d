"""Which prompts of the pool stay: by their length in tokens, and by overlap with evaluation sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ropd_cli.datasets.eval_sets import load_eval_set
from ropd_cli.datasets.overlap import Overlap
from ropd_cli.datasets.text_words import text_of
from ropd_cli.errors import InputError, MissingPackage
from ropd_cli.records.schemas import Prompt
from ropd_cli.stages.prepare.ledger import Ledger

PROMPTS_A_BATCH = 1000
_NOT_ASKED = frozenset({"system"})


@dataclass(frozen=True)
class Filters:
    """What is left out besides repeated prompts."""

    dedup: Literal["exact", "normalized"] = "exact"
    require_answer: bool = False
    bad_rows: Literal["error", "drop"] = "error"
    tokenizer: str | None = None
    min_tokens: int | None = None
    max_tokens: int | None = None
    decontaminate: tuple[str, ...] = ()
    """Evaluation sets: NAME, FILE or NAME=FILE."""
    ngram: int = 13
    contaminated: Literal["drop", "keep"] = "drop"


@dataclass(frozen=True)
class Pooled:
    """A prompt and the row that it comes from."""

    row: int
    prompt: Prompt


def apply_filters(pool: list[Pooled], filters: Filters, ledger: Ledger) -> tuple[list[Pooled], dict[int, int]]:
    """(what stays, tokens by row; empty without a tokenizer). Raises InputError and MissingPackage as
    ``count_tokens`` and ``load_eval_set`` do."""
    overlap = Overlap(map(load_eval_set, filters.decontaminate), filters.ngram) if filters.decontaminate else None
    tokens: dict[int, int] = {}
    if filters.tokenizer is not None:
        counts = count_tokens([each.prompt for each in pool], filters.tokenizer)
        tokens = {each.row: count for each, count in zip(pool, counts, strict=True)}
        pool = list(_of_length(pool, tokens, filters, ledger))
    if overlap is not None:
        pool = list(_uncontaminated(pool, overlap, filters, ledger))
    return pool, tokens


def _of_length(pool: list[Pooled], tokens: dict[int, int], filters: Filters, ledger: Ledger) -> Iterator[Pooled]:
    for each in pool:
        count = tokens[each.row]
        if filters.max_tokens is not None and count > filters.max_tokens:
            ledger.leave_out(each.row, each.prompt.uid, "too long", tokens=count)
        elif filters.min_tokens is not None and count < filters.min_tokens:
            ledger.leave_out(each.row, each.prompt.uid, "too short", tokens=count)
        else:
            yield each


def _uncontaminated(pool: list[Pooled], overlap: Overlap, filters: Filters, ledger: Ledger) -> Iterator[Pooled]:
    texts = (text_of([m.model_dump() for m in each.prompt.messages], without=_NOT_ASKED) for each in pool)
    for each, hit in zip(pool, overlap.find(texts), strict=True):
        if hit is None:
            yield each
            continue
        details = {"set": hit.set, "item": hit.item, "hash": hit.hash}
        if hit.words is not None:
            details["overlap"] = hit.words
        if filters.contaminated == "keep":
            ledger.mention(each.row, each.prompt.uid, "contaminated", **details)
            yield each
        else:
            ledger.leave_out(each.row, each.prompt.uid, "contaminated", **details)


def count_tokens(prompts: Sequence[Prompt], name: str) -> list[int]:
    """Tokens of each prompt, shape (P,): in the tokenizer's chat template with the beginning of the answer, as in
    training; of a tokenizer without a template the bare texts.

    ``name`` is a folder or a name of the hub. Raises MissingPackage without transformers, InputError where the
    tokenizer can't be loaded or its template does not take a prompt.
    """
    tokenizer = _tokenizer(name)
    counts: list[int] = []
    for start in range(0, len(prompts), PROMPTS_A_BATCH):
        texts = [_rendered(tokenizer, prompt, name) for prompt in prompts[start : start + PROMPTS_A_BATCH]]
        ids = tokenizer(texts, add_special_tokens=not tokenizer.chat_template, return_attention_mask=False)["input_ids"]
        counts.extend(map(len, ids))
    return counts


def _tokenizer(name: str) -> Any:
    try:
        from transformers import AutoTokenizer
        from transformers.utils import logging
    except ImportError as fault:
        raise MissingPackage("counting tokens needs the package transformers", "pip install transformers") from fault
    logging.set_verbosity_error()
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError) as fault:
        why = (str(fault).strip() or type(fault).__name__).splitlines()[0]
        raise InputError(
            f"--tokenizer {name}: no tokenizer can be loaded ({why})",
            "name a folder with tokenizer.json, or a model of the hub that can be reached",
        ) from fault
    tokenizer.model_max_length = 10**12  # a long prompt is counted, and said here and not by a warning
    return tokenizer


def _rendered(tokenizer: Any, prompt: Prompt, name: str) -> str:
    messages = [m.model_dump(mode="json") for m in prompt.messages]
    if not tokenizer.chat_template:
        return text_of(messages)
    import jinja2

    try:
        return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    except (jinja2.TemplateError, TypeError, ValueError) as fault:
        raise InputError(
            f"uid {prompt.uid}: the chat template of {name} does not take this prompt ({fault})",
            "leave such prompts out of the source, or name another --tokenizer",
        ) from fault
