"""Sections that one kind of method reads."""

from __future__ import annotations

from pydantic import Field

from ropd_cli.config.section import Section


class TeacherServerConfig(Section):
    """A vLLM server that has the teacher already; its log-probabilities come over HTTP."""

    base_url: str | None = Field(None, description="None: the run starts a vLLM of its own for the teacher")
    model: str | None = Field(None, description="None: teacher_path, as vLLM calls a model by itself")
    api_key_env: str = "OPENAI_API_KEY"
    timeout_s: float = Field(600.0, gt=0, description="of one request, from sending to the last byte")
    concurrency: int = Field(32, ge=1, description="requests at once per rollout worker")


class DistilConfig(Section):
    """`lopd`, `exopd`: a teacher whose weights are there."""

    teacher_path: str | None = Field(None, description="Hugging Face folder or hub name")
    strength: float = Field(1.25, ge=1, description="exopd: how far beyond the teacher; 1 is lopd")
    devices: int = Field(1, ge=1, description="further devices for the teacher alone")
    tensor_parallel_size: int = Field(1, ge=1, description="devices that share one copy of the teacher")
    gpu_memory_utilization: float = Field(0.5, gt=0, lt=1, description="part of these devices' memory")
    endpoint: TeacherServerConfig = TeacherServerConfig()


class DiscriminatorConfig(Section):
    """`gad`: the discriminator that is trained beside the student."""

    warmup_epochs: float = Field(
        1.0, ge=0, description="the student learns the teacher's answers by cross-entropy before it learns by scores"
    )
    warmup_steps: int | None = Field(None, ge=0, description="the same in steps; None: warmup_epochs")
    lr: float | None = Field(None, gt=0, description="None: train.lr")
    updates_per_step: int = Field(1, ge=1)
