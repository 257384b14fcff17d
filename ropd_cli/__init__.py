"""Rubric-based on-policy distillation, from the command line and from Python."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Judge", "JudgedGroup", "__version__"]

if TYPE_CHECKING:
    from ropd_cli.judging import Judge, JudgedGroup


def __getattr__(name: str) -> Any:
    """Import the judge when it is used: the command line's help does without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ropd_cli import judging

    return getattr(judging, name)
