"""A training on several nodes: what is looked at before it starts, what stays on the head node, and which part of the
environment goes where.

The head node is the one that the training program runs on. verl's task runner and the owner of judging stay there, and
get the program's environment, with its API keys, as an argument, which Ray keeps in memory. ``runtime_env`` would hand
it to every process, and Ray writes that to logs and files, so it holds settings alone.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ropd_cli.errors import InputError
from ropd_cli.training.run_dir import RunDir
from ropd_cli.training.versions import installed_versions
from ropd_cli.util.processes import RUN_MARK

SETTINGS = (
    *("HF_HOME", "HF_HUB_OFFLINE", "HF_ENDPOINT", "TOKENIZERS_PARALLELISM", "PYTHONUNBUFFERED", "OMP_NUM_THREADS"),
    *("VERL_PLATFORM", "VERL_LOGGING_LEVEL", "VLLM_LOGGING_LEVEL"),
    *("VLLM_CPU_KVCACHE_SPACE", "VLLM_CPU_OMP_THREADS_BIND"),
    *("NCCL_SOCKET_IFNAME", "NCCL_IB_DISABLE", "NCCL_IB_HCA", "NCCL_DEBUG", "NCCL_P2P_DISABLE", "NCCL_CUMEM_ENABLE"),
    *("GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME", RUN_MARK),
)
"""Variables that every process of a training gets, on every node. None of them is a secret: Ray writes them down."""
OF_A_NODE = ("RAY_", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
"""How variables begin that belong to a process or its node, and that Ray sets itself."""
ANSWER_S = 5.0
LOOK_S = 120.0


def settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of an environment that is for all nodes, Ray's ``runtime_env.env_vars``."""
    return {name: environ[name] for name in SETTINGS if name in environ}


def take_environment(environ: Mapping[str, str]) -> None:
    """Give this process, which Ray started, the environment of the training program."""
    os.environ.update({name: value for name, value in environ.items() if not name.startswith(OF_A_NODE)})


def on_this_node() -> dict[str, Any]:
    """Return the options of an actor that stays on the node of this process, whatever else that one is busy with."""
    node = ray.get_runtime_context().get_node_id()
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False), "num_cpus": 0}


class HeadNode:
    """What verl's ``run_ppo`` takes for the class of a task runner: it makes the runner on this node, with the
    environment of this process."""

    def __init__(self, runner: Any, **options: Any) -> None:
        self._runner, self._options = runner, options

    def options(self, **options: Any) -> HeadNode:
        """As of an actor's class; verl calls it to profile."""
        return HeadNode(self._runner, **options)

    def remote(self) -> Any:
        """Start the runner."""
        return self._runner.options(**self._options, **on_this_node()).remote(dict(os.environ))


def check_cluster(run: RunDir, address: str, nodes: int, devices: int, model: str) -> None:
    """Raise InputError unless a Ray cluster is there, with so many free devices on so many nodes, and every node has
    the versions of this one and sees the run directory and the student.

    verl itself would wait without a word, or fail at the first checkpoint.
    """
    where = _answering(address, nodes)
    try:
        # not by its host: Ray looks for a token by itself where it finds the cluster by itself
        ray.init(address=address, runtime_env={"env_vars": settings(os.environ)}, log_to_driver=False)
    except (RayError, ConnectionError, RuntimeError, ValueError) as fault:
        raise InputError(
            f"train.nodes is {nodes}, and the Ray cluster at {where} can't be joined: {fault}",
            "run the command on a node of the cluster, with its token (RAY_AUTH_MODE=token)",
        ) from fault
    try:
        _check_alone(where)
        _check_room(nodes, devices)
        _check_nodes([str(run.config), *([model] if Path(model).is_absolute() else [])])
    finally:
        ray.shutdown()


def _answering(address: str, nodes: int) -> str:
    """Return the address of the cluster as host:port; ``auto`` is RAY_ADDRESS, or the one started on this node."""
    from ray._private.services import canonicalize_bootstrap_address

    hint = "start one on the nodes first: ray start --head here, ray start --address=… there"
    named = os.environ.get("RAY_ADDRESS") or address if address == "auto" else address
    if "://" in named:
        raise InputError(f"RAY_ADDRESS {named}: a training can't go through Ray's client", "name it as host:port")
    try:
        where = str(canonicalize_bootstrap_address(named))
    except (ConnectionError, OSError, ValueError) as fault:
        raise InputError(f"train.nodes is {nodes}, and no Ray cluster is there", hint) from fault
    host, _, port = where.rpartition(":")
    try:  # Ray itself would try for minutes
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    except OSError as fault:
        raise InputError(f"train.nodes is {nodes}, and no Ray cluster answers at {where}: {fault}", hint) from fault
    return where


def _check_room(nodes: int, devices: int) -> None:
    free = ray._private.state.available_resources_per_node()
    alive = [node for node in ray.nodes() if node["Alive"]]
    by_node = {node["NodeID"]: int(free.get(node["NodeID"], {}).get("GPU", 0)) for node in alive}
    room = sum(count // devices for count in by_node.values())
    if room < nodes:
        listed = ", ".join(f"{by_node[node['NodeID']]} on {node['NodeManagerAddress']}" for node in alive)
        raise InputError(
            f"train.nodes is {nodes} with {devices} devices each, and the Ray cluster has room for {room} of these; "
            f"free GPUs: {listed}",
            "start Ray on further nodes, or wait until they are free (ray status)",
        )


def _check_alone(where: str) -> None:
    """verl's queue has one name in a cluster: a second training would take its batches out of that of the first."""
    try:
        ray.get_actor("TransferQueueController", namespace="transfer_queue")
    except ValueError:
        return
    raise InputError(
        f"another verl training runs in the Ray cluster at {where}",
        "wait for it, or name your own cluster by RAY_ADDRESS=HOST:PORT",
    )


def _check_nodes(paths: list[str]) -> None:
    here = installed_versions()
    look = ray.remote(num_cpus=0, max_retries=0)(_look)
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        where = node["NodeManagerAddress"]
        strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        try:
            versions, missing = ray.get(look.options(scheduling_strategy=strategy).remote(paths), timeout=LOOK_S)
        except (RayError, ImportError) as fault:
            raise InputError(
                f"node {where} runs no task of ours: {str(fault).strip().splitlines()[-1]}",
                "install ropd-cli there in the environment that Ray was started in",
            ) from fault
        if missing:
            raise InputError(
                f"node {where} does not see {missing[0]}",
                "keep the run directory and the student on storage that all nodes share, under one path",
            )
        other = [name for name in here | versions if versions.get(name) != here.get(name)]
        if other:
            listed = ", ".join(f"{name} {versions.get(name)} (here {here.get(name)})" for name in other)
            raise InputError(f"node {where} has other versions: {listed}", "install the same on all nodes")


def _look(paths: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return, on a node, the versions that are installed there, and those of the paths that it does not see."""
    return installed_versions(), [path for path in paths if not Path(path).exists()]
