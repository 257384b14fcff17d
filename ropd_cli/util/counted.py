"""Counts in words."""


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """Return ``1 prompt`` or ``2,000 prompts``; ``plural`` where it is not the noun with an s."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"
