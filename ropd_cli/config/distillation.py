"""Sections that one kind of method reads."""

from __future__ import annotations

from pydantic import Field

from ropd_cli.config.section import Section


class TeacherServerConfig(Section):
    """A vLLM server that has the teacher already; its log-probabilities come over HTTP."""

    base_url: str | None = Field(None, description="vLLM server with the teacher; null: the run starts its own")
    model: str | None = Field(None, description="name there; null: teacher_path")
    api_key_env: str = Field("OPENAI_API_KEY", description="environment variable that holds the key")
    timeout_s: float = Field(600.0, gt=0, description="seconds per request, to the last byte")
    concurrency: int = Field(32, ge=1, description="simultaneous requests per rollout worker")


class DistilConfig(Section):
    """`lopd`, `exopd`: a teacher whose weights are there."""

    teacher_path: str | None = Field(None, description="the teacher: Hugging Face folder or hub name")
    strength: float = Field(1.25, ge=1, description="exopd: extrapolation beyond the teacher; 1 is lopd")
    devices: int = Field(1, ge=1, description="further devices for the teacher")
    tensor_parallel_size: int = Field(1, ge=1, description="devices per copy of the teacher")
    gpu_memory_utilization: float = Field(0.5, gt=0, lt=1, description="share of these devices' memory for vLLM")
    endpoint: TeacherServerConfig = TeacherServerConfig()


class DiscriminatorConfig(Section):
    """`gad`: the discriminator that is trained beside the student."""

    warmup_epochs: float = Field(
        1.0, ge=0, description="epochs of cross-entropy on the teacher's answers, before the scores count"
    )
    warmup_steps: int | None = Field(None, ge=0, description="the same in steps; null: warmup_epochs")
    lr: float | None = Field(None, gt=0, description="learning rate; null: train.lr")
    updates_per_step: int = Field(1, ge=1, description="updates of the discriminator per step")
