"""Rubric-based on-policy distillation, from the command line and from Python."""

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = ["Judge", "JudgedGroup", "__version__", "verl_reward"]

if TYPE_CHECKING:
    from ropd_cli.judging import Judge, JudgedGroup
    from ropd_cli.training.verl.reward_client import VerlReward as verl_reward


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    """Import the judge, or verl, when it is used: the command line's help does without them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "verl_reward":
        try:
            from ropd_cli.training.verl.reward_client import VerlReward
        except ModuleNotFoundError as fault:
            from ropd_cli.errors import INSTALL_STACK, MissingPackage

            raise MissingPackage(f"verl_reward needs verl, and {fault.name} is not installed", INSTALL_STACK) from fault
        return VerlReward
    from ropd_cli import judging

    return getattr(judging, name)
