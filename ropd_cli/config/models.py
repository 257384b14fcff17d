"""Sections of a configuration file. Unknown keys are refused; every default stands here and nowhere else."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A section: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class SamplingConfig(Section):
    """What is sent with a request; None is left out, so the endpoint's own default holds."""

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1)
    reasoning_effort: str | None = None
    seed: int | None = None


class LimitsConfig(Section):
    """How an endpoint is treated. None of this changes an answer, so none of it is in a cache key."""

    timeout_s: float = Field(120.0, gt=0)
    concurrency: int = Field(32, ge=1)
    max_retries: int = Field(5, ge=0)


class EndpointConfig(Section):
    """One OpenAI-compatible endpoint and the model asked there.

    ``base_url: builtin://checkable`` is the embedded provider. The key is read from the environment
    variable named by ``api_key_env`` when the first request is made.
    """

    model: str | None = None
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    sampling: SamplingConfig = SamplingConfig()
    limits: LimitsConfig = LimitsConfig()


class JudgeConfig(Section):
    """How a group is judged."""

    m: int = Field(4, ge=1, description="teacher answers a prompt, distinct")
    on_no_answer: Literal["zero", "drop"] = "zero"
    templates: str | None = Field(None, description="folder of your own templates; None: the shipped ones")
    max_failed_fraction: float = Field(0.25, ge=0, le=1, description="of the groups of a step; above it a run stops")


class StudentConfig(Section):
    """The model that learns."""

    model_path: str | None = Field(None, description="Hugging Face folder or hub name")
    endpoint: EndpointConfig = Field(EndpointConfig(), description="`ropd rollout` from an API instead of a folder")
    system_prompt: str | None = None
    enable_thinking: bool | None = Field(None, description="handed to the chat template; None: not handed over")
    lora_rank: int = Field(0, ge=0, description="0: all weights are trained")
    lora_alpha: int = Field(16, ge=1)
    dtype: Literal["float32", "bfloat16"] | None = Field(None, description="None: by device")


class DataConfig(Section):
    """Prompts to train on and the teacher's answers to them."""

    prompts: str | None = None
    index: str | None = None
    max_prompt_tokens: int = Field(2048, ge=1)
    max_response_tokens: int = Field(8192, ge=1)
    shuffle: bool = True


class RolloutConfig(Section):
    """How the student samples, and how vLLM is sized."""

    n: int = Field(8, ge=1)
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_num_seqs: int | None = Field(None, ge=1)
    gpu_memory_utilization: float = Field(0.5, gt=0, lt=1)
    tensor_parallel_size: int = Field(1, ge=1)
    kv_cache_gb: int = Field(1, ge=1, description="CPU only: memory vLLM takes for its cache")


class TrainConfig(Section):
    """GRPO, in the paper's terms."""

    steps: int | None = Field(None, ge=1, description="None: `epochs` over the prompts")
    epochs: int = Field(1, ge=1)
    prompts_per_step: int = Field(32, ge=1)
    prompts_per_update: int | None = Field(None, ge=1, description="PPO mini-batch; None: prompts_per_step")
    lr: float = Field(1e-6, gt=0)
    lr_schedule: Literal["constant", "cosine"] = "cosine"
    warmup_steps: int = Field(0, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = Field(0.1, ge=0)
    grad_clip: float = Field(1.0, gt=0)
    clip_ratio: float = Field(0.2, gt=0)
    norm_adv_by_std: bool = True
    kl_coef: float = Field(0.0, ge=0)
    save_every: int | None = Field(None, ge=1, description="steps; None: at the end only")
    keep_checkpoints: int = Field(2, ge=1)
    nodes: int = Field(1, ge=1)
    devices_per_node: int = Field(1, ge=1)
    watchdog_s: float = Field(900.0, gt=0, description="silence after which the training process is stopped")


class RopdConfig(Section):
    """A whole configuration; every command reads the sections it needs."""

    out: str | None = Field(None, description="run directory")
    seed: int = 0
    device: Literal["cpu", "gpu"] = "gpu"
    cache_dir: str | None = None
    teacher: EndpointConfig = EndpointConfig()
    rubricator: EndpointConfig = EndpointConfig(sampling=SamplingConfig(temperature=0.7))
    verifier: EndpointConfig = EndpointConfig(sampling=SamplingConfig(temperature=0.0))
    judge: JudgeConfig = JudgeConfig()
    student: StudentConfig = StudentConfig()
    data: DataConfig = DataConfig()
    rollout: RolloutConfig = RolloutConfig()
    train: TrainConfig = TrainConfig()
    verl: dict[str, Any] = Field(default_factory=dict, description="raw settings, merged into verl's own last")
