"""How many tokens prompts have as a student is asked them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ropd_cli.datasets.text_words import text_of
from ropd_cli.errors import InputError, MissingPackage
from ropd_cli.records.schemas import Prompt

PROMPTS_A_BATCH = 1000


def count_tokens(prompts: Sequence[Prompt], name: str) -> list[int]:
    """Tokens of each prompt, shape (P,): in the tokenizer's chat template with the beginning of the answer, as in
    training; of a tokenizer without a template the bare texts.

    ``name`` is a folder or a name of the hub. Raises MissingPackage without transformers, InputError where the
    tokenizer can't be loaded or its template does not take a prompt.
    """
    tokenizer = _load(name)
    counts: list[int] = []
    for start in range(0, len(prompts), PROMPTS_A_BATCH):
        texts = [_text(tokenizer, prompt, name) for prompt in prompts[start : start + PROMPTS_A_BATCH]]
        ids = tokenizer(texts, add_special_tokens=not tokenizer.chat_template, return_attention_mask=False)["input_ids"]
        counts.extend(map(len, ids))
    return counts


def _load(name: str) -> Any:
    try:
        from transformers import AutoTokenizer
        from transformers.utils import logging
    except ImportError as fault:
        raise MissingPackage("counting tokens needs the package transformers", "pip install transformers") from fault
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError) as fault:
        why = (str(fault).strip() or type(fault).__name__).splitlines()[0]
        raise InputError(
            f"--tokenizer {name}: no tokenizer can be loaded ({why})",
            "name a folder with tokenizer.json, or a model of the hub that can be reached",
        ) from fault
    finally:
        logging.set_verbosity(level)
    tokenizer.model_max_length = 10**12  # a long prompt is counted, and said here and not by a warning
    return tokenizer


def _text(tokenizer: Any, prompt: Prompt, name: str) -> str:
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
