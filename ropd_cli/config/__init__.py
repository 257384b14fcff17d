"""The configuration: its sections (``models``) and how it is read (``load``)."""

from ropd_cli.config.load import load_config
from ropd_cli.config.models import (
    DataConfig,
    EndpointConfig,
    JudgeConfig,
    LimitsConfig,
    MonitorConfig,
    PriceConfig,
    RewardConfig,
    RolloutConfig,
    RopdConfig,
    SamplingConfig,
    StudentConfig,
    TrainConfig,
)
from ropd_cli.config.score import ScoreConfig

__all__ = [
    "DataConfig",
    "EndpointConfig",
    "JudgeConfig",
    "LimitsConfig",
    "MonitorConfig",
    "PriceConfig",
    "RewardConfig",
    "RolloutConfig",
    "RopdConfig",
    "SamplingConfig",
    "ScoreConfig",
    "StudentConfig",
    "TrainConfig",
    "load_config",
]
