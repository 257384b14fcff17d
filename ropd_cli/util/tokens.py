"""Estimates of how many tokens a text has, for where there is no tokenizer."""

from __future__ import annotations

BYTES_A_TOKEN = 4
"""Of UTF-8, for English prose and most tokenizers; code and other scripts have more tokens a byte."""


def estimate_tokens(text: str | bytes) -> int:
    """Return the bytes of UTF-8 over BYTES_A_TOKEN, rounded up."""
    size = len(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return -(-size // BYTES_A_TOKEN)


def cut_middle(data: bytes, max_tokens: int) -> str | None:
    """Return the text of UTF-8 ``data`` without its middle, so that it has at most ``max_tokens`` tokens by estimate;
    None where it is not longer than that. Characters are kept whole, and a line says how many bytes went."""
    if len(data) <= max_tokens * BYTES_A_TOKEN:
        return None
    mark = "\n[… {} bytes left out …]\n"
    room = max(0, max_tokens * BYTES_A_TOKEN - len(mark.format(len(data)).encode()))
    head, tail = data[: (room + 1) // 2], data[len(data) - room // 2 :]
    left_out = len(data) - len(head) - len(tail)
    return head.decode("utf-8", "ignore") + mark.format(left_out) + tail.decode("utf-8", "ignore")
