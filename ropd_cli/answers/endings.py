"""How a reply ended, in the words of every API, read to one of four endings.

The words are those of OpenAI (Chat Completions and Responses), Azure, Gemini and Vertex, Anthropic, Bedrock, Cohere,
DeepSeek, Mistral, Moonshot, OpenRouter, Together, watsonx, xAI, Zhipu, vLLM, SGLang, TGI, llama.cpp, LM Studio and
Ollama, as their documentation or their bug reports have them.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any


class Ending(StrEnum):
    """What a reply is by its ending; the value is what records have as ``finish_reason``."""

    WHOLE = "stop"
    CUT_OFF = "length"
    """A limit of tokens, of the context or of time ended it."""
    REFUSED = "content_filter"
    """The model or a filter refused; what text there is does not answer."""
    BROKEN_OFF = "error"
    """The endpoint failed on the way; another attempt may help."""


_WORDS = {
    Ending.WHOLE: """stop stop_sequence stop_sequences stop_string stopStringFound stop_token stop_criteria eos
        eos_token eosFound end end_turn end_of_turn end_of_text endoftext complete completed done finished finish
        success normal tool_call tool_calls tool_use function_call function_calls""",
    Ending.CUT_OFF: """length max_tokens max_token max_length max_output_tokens max_completion_tokens max_new_tokens
        maxPredictedTokensReached token_limit model_length context_length contextLengthReached context_window
        model_context_window_exceeded context_length_exceeded context_window_exceeded error_limit time_limit
        truncated incomplete pause_turn repetition compaction""",
    Ending.REFUSED: """content_filter content_filtered filtered safety recitation language blocklist blocked spii
        prohibited_content image_safety image_prohibited_content image_recitation refusal refused sensitive moderation
        error_toxic guardrail guardrails guardrail_intervened guardrails_violation model_armor policy_violation
        content_policy_violation risk""",
    Ending.BROKEN_OFF: """error abort aborted cancel cancelled canceled user_cancel userStopped failed failure
        network_error timeout insufficient_system_resource modelUnloaded unload shutdown preempted not_finished
        in_progress queued other finish_reason_unspecified unspecified malformed_function_call unexpected_tool_call
        too_many_tool_calls malformed_response malformed_model_output malformed_tool_use missing_thought_signature
        invalid_function_call function_call_filter no_image server_error internal_error overloaded""",
}
_BEHIND = re.compile(r"[\s:(,;]")
_NOT_A_LETTER = re.compile(r"[^a-z]")


def _key(word: str) -> str:
    return _NOT_A_LETTER.sub("", word.lower())


_ENDINGS = {_key(word): ending for ending, words in _WORDS.items() for word in words.split()}
_WORST_LAST = (Ending.WHOLE, Ending.CUT_OFF, Ending.REFUSED, Ending.BROKEN_OFF)


def ending_of(word: Any) -> Ending | None:
    """Return what an endpoint's word for the end of a reply means; None for one that is not known.

    The word may have any case and punctuation (``MAX_TOKENS``, ``maxTokens``, ``FinishReason.STOP``), words behind it
    ("error: timeout"), or stand in an object's ``type`` (SGLang).
    """
    if isinstance(word, dict):
        word = word.get("type")
    if not isinstance(word, str):
        return None
    keys = (_key(word), _key(word).removeprefix("finishreason"), _key(_BEHIND.split(word.strip(), maxsplit=1)[0]))
    return next((_ENDINGS[key] for key in keys if key in _ENDINGS), None)


def worst(*endings: Ending | None) -> Ending:
    """Return the ending that leaves the least of a reply; what is not known counts for nothing."""
    return max((ending for ending in endings if ending is not None), key=_WORST_LAST.index, default=Ending.WHOLE)
