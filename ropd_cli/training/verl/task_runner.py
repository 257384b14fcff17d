"""verl's task runner, in a process that knows this project's trainers by their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray
from verl.trainer.main_ppo import TaskRunnerV1

from ropd_cli.training.verl.cluster import take_environment

_Runner: Any = TaskRunnerV1.__ray_metadata__.modified_class  # verl has made it an actor class already


@ray.remote
class RopdTaskRunner(_Runner):
    """As verl's, in the environment of the training program."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        take_environment(environment)
        super().__init__()

    def run(self, config: Any) -> None:
        # registers the trainers; here, for Ray sends this class without the module that it stands in
        from ropd_cli.training.verl import discriminator, trainer  # noqa: F401

        super().run(config)
