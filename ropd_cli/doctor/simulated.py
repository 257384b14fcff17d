"""A run on GPUs that are not here: what it would choose, whether it fits, and how long a step takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from ropd_cli.config import RopdConfig
from ropd_cli.doctor.check import SKIPPED, Case, Check, Checks, Section, shown_bytes, shown_time
from ropd_cli.doctor.devices import dividing, on_gpu
from ropd_cli.doctor.disk import checkpoints
from ropd_cli.doctor.student import folder
from ropd_cli.errors import InputError
from ropd_cli.records.schemas import load_prompts
from ropd_cli.training.device_choices import Machine, cpus_per_node, device_choices, table
from ropd_cli.training.gpu_forecast import (
    Part,
    Plan,
    amount_of,
    kv_tokens,
    node_bytes,
    node_memory,
    sampling_memory,
    step_time,
    update_memory,
)
from ropd_cli.training.gpus import USABLE, GpuKind, parse_gpus
from ropd_cli.training.model_shape import Shape
from ropd_cli.training.verl_config import steps_of
from ropd_cli.util.counted import counted

CHOICES, GPU, NODE, DISK, STEP, RUN = (
    Section(name) for name in ("choices", "GPU memory", "each node", "disk", "time per step", "run")
)
ASK_OR_NAME = "leave out --offline, or --set student.model_path=DIR, a folder with its config.json"


class PartShown(TypedDict):
    """A part of an amount, in bytes or seconds."""

    name: str
    amount: float
    arithmetic: str


class BytesShown(TypedDict):
    """Memory that a GPU has, and bytes on each GPU while sampling and in the update, and in a node's main memory."""

    gpu: float
    sampling: list[PartShown]
    update: list[PartShown]
    main: list[PartShown]


class Simulated(TypedDict):
    gpu: GpuKind
    devices_per_node: int
    nodes: int
    weights: int
    """Of the student, in number."""
    fits: bool
    kv_tokens: int
    """That vLLM's cache holds."""
    bytes: BytesShown
    cpus_per_node: int
    seconds: list[PartShown]
    """Of the phases of a step; empty where the GPU's speed is not known."""
    steps: int | None
    """Of the run."""
    disk_bytes: float
    """Of the checkpoints."""


class Simulation(Checks):
    """With ``--simulate``."""

    simulated: Simulated


def simulate(config: RopdConfig, gpus: str, *, ask_hub: bool) -> tuple[list[Check], Simulated]:
    """Return the checks and their figures for a run of ``config`` on nodes of ``gpus`` (as H100-80GB:8) with as many
    processors as verl reserves. Raises InputError for an unknown GPU, for a ``device`` that is cpu, and for a student
    whose sizes are not known."""
    kind, count = parse_gpus(gpus)
    if config.device == "cpu":
        raise InputError("device is cpu, and --simulate forecasts a run on GPUs", "--device gpu, or no --simulate")
    train = config.train.model_copy(update={"devices_per_node": count})
    config = config.model_copy(update={"train": train})
    cpus = cpus_per_node(config)
    machine = replace(Machine.here(config, ask_hub=ask_hub), cores=cpus)
    shape = Shape.of(machine.student)
    if shape is None:
        raise _no_shape(Case(config, offline=not ask_hub), machine.student)
    choices = device_choices(config, machine)
    plan = Plan.of(config, shape, kind, choices)
    sampling, updating, main, phases = (f(plan) for f in (sampling_memory, update_memory, node_memory, step_time))
    verdict = on_gpu(plan)
    _, *rows = table(choices, config.verl)
    checks = [CHOICES.ok(name, f"{value} ({why})") for name, value, why in rows]
    checks.append(dividing(config).model_copy(update={"section": CHOICES.name}))
    label = f"{kind.gigabytes:g} GiB, of which a program may have {USABLE:.0%}"
    checks.append(GPU.ok("size", f"{shown_bytes(kind.bytes)} per GPU: {label}"))
    checks += _bytes(GPU, sampling, "while sampling", kind.bytes)
    checks += _bytes(GPU, updating, "in the update", kind.bytes)
    status = "ok" if verdict.status == "ok" else "fail"
    checks.append(verdict.model_copy(update={"section": GPU.name, "name": "fits", "status": status}))
    checks += [NODE.ok(part.name, f"{shown_bytes(part.amount)}: {part.words}") for part in main]
    checks.append(NODE.ok("main memory", f"{shown_bytes(node_bytes(main))} at the peak"))
    checks.append(NODE.ok("processors", f"{cpus}, which verl and TransferQueue reserve"))
    steps = _steps(config)
    one, count = checkpoints(config, shape.weights, steps)
    words = f"{shown_bytes(one * count)}: {counted(count, 'checkpoint')} of {shown_bytes(one)} at once"
    checks.append(DISK.ok("checkpoints", words))
    if phases:
        checks += [STEP.ok(part.name, f"{part.amount:.1f} s: {part.words}") for part in phases]
        checks.append(STEP.ok("step", f"{amount_of(phases):.0f} s, longer where judging is slower than the rollouts"))
        if steps is None:
            checks.append(RUN.skipped("time", "neither train.steps nor data.prompts says how many steps there are"))
        else:
            time = shown_time(steps * amount_of(phases))
            checks.append(
                RUN.ok("time", f"{counted(steps, 'step')}: {time}, without slower judging, validation and saving")
            )
    else:
        checks.append(STEP.skipped("step", f"the speed of {kind.name} is not known; name a GPU, such as H100-80GB"))
    figures: Simulated = {
        "gpu": kind,
        "devices_per_node": count,
        "nodes": train.nodes,
        "weights": shape.weights,
        "fits": verdict.status == "ok",
        "kv_tokens": kv_tokens(plan),
        "bytes": {
            "gpu": kind.bytes,
            "sampling": _document(sampling),
            "update": _document(updating),
            "main": _document(main),
        },
        "cpus_per_node": cpus,
        "seconds": _document(phases),
        "steps": steps,
        "disk_bytes": one * count,
    }
    return checks, figures


def _no_shape(case: Case, student: Mapping[str, Any]) -> InputError:
    """Return why the student's sizes are not known; ``student``: its config.json, empty where there is none."""
    path = case.config.student.model_path
    if path is None:
        return InputError(
            "student.model_path is not set", "--config gpu-math, or --set student.model_path=… (folder or hub name)"
        )
    (check, *_) = folder(case)
    if student or check.status == "ok":
        return InputError(
            f"{path}: its config.json describes no plain transformer",
            "the forecast knows decoders with grouped attention, such as Llama, Mistral and Qwen",
        )
    return InputError(check.found.removeprefix(SKIPPED), check.mend or ASK_OR_NAME)


def _steps(config: RopdConfig) -> int | None:
    """Return the steps of the run; None where that depends on prompts that are not here."""
    prompts = config.data.prompts
    count = len(load_prompts(prompts)) if prompts is not None and Path(prompts).is_file() else 0
    return steps_of(config, count) if config.train.steps or count else None


def _bytes(section: Section, parts: Sequence[Part], when: str, size: float) -> list[Check]:
    checks = [section.ok(part.name, f"{shown_bytes(part.amount)}: {part.words}") for part in parts]
    found = f"{shown_bytes(amount_of(parts))} of {shown_bytes(size)}"
    if amount_of(parts) > size:
        return [*checks, section.fail(when, found, "the largest parts above say where to begin")]
    return [*checks, section.ok(when, found)]


def _document(parts: Sequence[Part]) -> list[PartShown]:
    return [PartShown(name=part.name, amount=part.amount, arithmetic=part.words) for part in parts]
