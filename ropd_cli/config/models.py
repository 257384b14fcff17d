"""Sections of a configuration file. Unknown keys are refused; every default stands here and nowhere else."""

from __future__ import annotations

import re
import warnings
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, create_model, field_validator, model_validator

from ropd_cli.config.distillation import DiscriminatorConfig, DistilConfig
from ropd_cli.config.extra_body import check_extra_body
from ropd_cli.config.rewarding import JudgeConfig, RewardConfig
from ropd_cli.config.score import ScoreConfig, VerifiableConfig
from ropd_cli.config.section import Section

# a section of that name hides a method of pydantic's that nobody calls any more
warnings.filterwarnings("ignore", message='Field name "validate" in "RopdConfig" shadows')


class SamplingConfig(Section):
    """What is sent with a request; None is left out, so the endpoint's own default holds."""

    temperature: float | None = Field(None, ge=0, le=2, description="sampling temperature")
    top_p: float | None = Field(None, gt=0, le=1, description="probability mass of nucleus sampling")
    max_tokens: int | None = Field(None, ge=1, description="maximum tokens per reply")
    reasoning_effort: str | None = Field(None, description="low, medium, high …, if the model has it")
    seed: int | None = Field(None, description="sample s is sent seed + s")


class LimitsConfig(Section):
    """How an endpoint is treated. None of this changes an answer, so none of it is in a cache key."""

    timeout_s: float = Field(120.0, gt=0, description="seconds per request, to the last byte")
    connect_timeout_s: float = Field(10.0, gt=0, description="seconds to connect")
    first_byte_timeout_s: float | None = Field(
        None, gt=0, description="seconds until the response begins; null: timeout_s alone"
    )
    concurrency: int = Field(32, ge=1, description="simultaneous requests")
    rpm: int | None = Field(None, ge=1, description="requests per minute")
    tpm: int | None = Field(None, ge=1, description="tokens per minute, of prompts and replies")
    max_retries: int = Field(5, ge=0, description="retries per request")
    max_pause_s: float = Field(600.0, ge=0, description="seconds to wait for an endpoint that stopped answering")


def _date_as_text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value  # YAML takes 2024-10-21 for a date


_Tag = Annotated[str, Field(min_length=1)]


class EndpointConfig(Section):
    """One OpenAI-compatible endpoint and the model asked there.

    ``base_url: builtin://checkable`` is the built-in provider. The key is read from the environment variable named by
    ``api_key_env`` when the first request is made. ``${NAME}`` in the value of a header is that environment variable.
    """

    model: str | None = Field(None, description="model name at the endpoint")
    base_url: str | None = Field(
        None, description="OpenAI-compatible endpoint; null: OpenAI; builtin://checkable: built-in"
    )
    api: Literal["chat", "responses", "azure"] = Field(
        "chat", description="Chat Completions, Responses, or Azure OpenAI"
    )
    api_version: Annotated[str | None, BeforeValidator(_date_as_text)] = Field(
        None, description="API version of Azure OpenAI"
    )
    api_key_env: str = Field("OPENAI_API_KEY", description="environment variable that holds the key")
    ca_file: str | None = Field(None, description="PEM file of further trusted certificates")
    headers: dict[str, str] = Field(
        default_factory=dict, description="sent with every request; ${NAME} is an environment variable"
    )
    extra_body: Annotated[dict[str, Any], AfterValidator(check_extra_body)] = Field(
        default_factory=dict, description="merged into the JSON of every request"
    )
    structured_output: Literal["json_schema", "json_object", "text"] = Field(
        "json_schema", description="how JSON is requested at first; a refusal falls back to the next"
    )
    prompt_cache_key: bool = Field(False, description="send OpenAI's prompt_cache_key, one per group")
    thinking_tags: tuple[tuple[_Tag, _Tag], ...] | None = Field(
        None, description="[open, close] pairs around the model's thinking; null: those of known models"
    )
    sampling: SamplingConfig = SamplingConfig()
    limits: LimitsConfig = LimitsConfig()


class PriceConfig(Section):
    """What a model costs, in dollars per million tokens; ``cached_input`` None: as ``input``."""

    input: float = Field(ge=0)
    cached_input: float | None = Field(None, ge=0)
    output: float = Field(ge=0)
    batch_factor: float = Field(0.5, ge=0, description="price factor of requests in a batch")


class StudentConfig(Section):
    """The model that learns."""

    model_path: str | None = Field(None, description="Hugging Face folder or hub name")
    from_run: str | None = Field(
        None, description="training: directory of a finished run to take the model from, in place of model_path"
    )
    from_checkpoint: Literal["final", "best"] = Field("final", description="checkpoint of from_run")
    endpoint: EndpointConfig = Field(EndpointConfig(), description="`ropd rollout` from an API instead of a folder")
    system_prompt: str | None = Field(None, description="for prompts without one")
    enable_thinking: bool | None = Field(None, description="passed to the chat template; null: not passed")
    lora_rank: int = Field(0, ge=0, description="rank of the adapter; 0: all weights are trained")
    lora_alpha: int = Field(16, ge=1, description="scale of the LoRA adapter")
    dtype: Literal["float32", "bfloat16"] | None = Field(None, description="of the computation; null: by device")

    @model_validator(mode="after")
    def _fits(self) -> StudentConfig:
        if self.from_checkpoint == "best" and self.from_run is None:
            raise ValueError("student.from_checkpoint is about student.from_run, which is not set")
        return self


class DataConfig(Section):
    """Prompts to train on and the teacher's answers to them."""

    prompts: str | None = Field(None, description="prompts file to train on")
    index: str | None = Field(None, description="teacher index")
    on_few_answers: Literal["error", "skip"] = Field(
        "error",
        description="a prompt with fewer than judge.m distinct answers in the index stops the run, or is left out",
    )
    max_prompt_tokens: int = Field(2048, ge=1, description="a longer prompt is an error")
    max_response_tokens: int = Field(8192, ge=1, description="rollouts are cut off here")
    shuffle: bool = Field(True, description="shuffle the prompts by seed")


class RolloutConfig(Section):
    """How the student samples, and how vLLM is sized."""

    n: int = Field(8, ge=1, description="rollouts per prompt")
    temperature: float = Field(1.0, ge=0, description="sampling temperature")
    top_p: float = Field(1.0, gt=0, le=1, description="probability mass of nucleus sampling")
    max_num_seqs: int | None = Field(None, ge=1, description="simultaneous sequences in vLLM; null: by device")
    gpu_memory_utilization: float = Field(0.5, gt=0, lt=1, description="share of GPU memory for vLLM")
    tensor_parallel_size: int = Field(1, ge=1, description="devices per copy of the student in vLLM")
    kv_cache_gb: int = Field(1, ge=1, description="CPU only: size of vLLM's cache in GB")


class RefillConfig(Section):
    """Further prompts in the place of groups that teach nothing, within the same step (arXiv 2503.14476)."""

    zero_variance: bool = Field(False, description="replace groups whose rewards are all equal")
    missing: bool = Field(False, description="replace groups that could not be judged")
    max_batches: int = Field(
        3, ge=1, description="maximum of further prompts per step, as a multiple of prompts_per_step"
    )

    @property
    def is_on(self) -> bool:
        return self.zero_variance or self.missing


_ASYNC: Any = {
    "async": (
        Literal["none", "one_step"],
        Field("none", description="one_step: sample and judge one step ahead of the update"),
    )
}
# the key is a keyword of Python's, so it can't stand in the body of a class
_Async: Any = create_model("_Async", __base__=Section, **_ASYNC)


class TrainConfig(_Async):
    """GRPO, in the paper's terms."""

    steps: int | None = Field(None, ge=1, description="null: `epochs` over the prompts")
    epochs: int = Field(1, ge=1, description="passes over the prompts, if steps is null")
    prompts_per_step: int = Field(32, ge=1, description="prompts per step")
    prompts_per_update: int | None = Field(None, ge=1, description="PPO mini-batch; null: prompts_per_step")
    lr: float = Field(1e-6, gt=0, description="learning rate")
    lr_schedule: Literal["constant", "cosine"] = Field("cosine", description="schedule after the warm-up")
    warmup_steps: int = Field(0, ge=0, description="steps in which the learning rate rises to lr")
    betas: tuple[float, float] = Field((0.9, 0.95), description="of AdamW")
    weight_decay: float = Field(0.1, ge=0, description="of AdamW")
    grad_clip: float = Field(1.0, gt=0, description="maximum norm of the gradient")
    clip_ratio: float = Field(0.2, gt=0, description="PPO clip")
    norm_adv_by_std: bool = Field(True, description="divide advantages by the group's standard deviation")
    kl_coef: float = Field(0.0, ge=0, description="weight of the KL term against the initial model; 0: no such model")
    loss_agg_mode: Literal["token-mean", "token-sum"] = Field(
        "token-mean", description="how verl aggregates the loss over a batch's tokens"
    )
    rollout_is: Literal["auto", "none", "token", "sequence"] = Field(
        "auto",
        description="truncated importance sampling between vLLM and trainer; auto: token on a GPU, none on a CPU",
    )
    trackers: list[Literal["tensorboard", "wandb", "mlflow", "trackio", "swanlab"]] = Field(
        ["tensorboard"], description="where metrics go besides metrics.jsonl"
    )
    offload: Literal["auto", "none", "optimizer", "all"] = Field(
        "auto", description="GPU: moved to main memory during rollouts; auto: all on one device, else none"
    )
    strategy: Literal["fsdp", "fsdp2"] = Field("fsdp2", description="verl's engine")
    save_every: int | None = Field(None, ge=1, description="steps between checkpoints; null: only at the end")
    keep_checkpoints: int = Field(2, ge=1, description="newest checkpoints to keep")
    nodes: int = Field(1, ge=1, description="nodes of a Ray cluster")
    devices_per_node: int = Field(1, ge=1, description="devices per node")
    watchdog_s: float = Field(
        1800.0, gt=0, description="seconds without progress after which a run is stopped, except in updates"
    )
    watchdog_update_s: float = Field(7200.0, gt=0, description="as watchdog_s, during an update")
    refill: RefillConfig = RefillConfig()

    @property
    def is_async(self) -> bool:
        """Whether a step's groups are judged while the step before is learnt from."""
        return bool(getattr(self, "async") != "none")


class EvalConfig(Section):
    """`ropd eval`: what is asked, and how the model under test samples."""

    benchmarks: list[str] = Field(default_factory=list, description="names, in the order of the report")
    data: dict[str, str] = Field(default_factory=dict, description="files of benchmarks, by name")
    grader: dict[str, str] = Field(default_factory=dict, description="graders of your own files, by name")
    n: int = Field(16, ge=1, description="samples per problem")
    temperature: float | None = Field(1.0, ge=0, le=2, description="null: the endpoint's own")
    top_p: float | None = Field(0.95, gt=0, le=1, description="null: the endpoint's own")
    max_tokens: int | None = Field(
        32_768, ge=1, description="maximum tokens per reply, thinking included; null: endpoint's or model's"
    )
    max_model_len: int | None = Field(None, ge=16, description="prompt and reply in local vLLM; null: the model's")
    max_num_seqs: int = Field(256, ge=1, description="simultaneous sequences in local vLLM")

    @field_validator("data")
    @classmethod
    def _are_file_names(cls, data: dict[str, str]) -> dict[str, str]:
        """Samples and grades lie in files that are called after their benchmark."""
        for name in data:
            if re.fullmatch(r"\w[\w.+-]{0,63}", name) is None:
                raise ValueError(
                    f"{name!r} can't name a benchmark: 1 to 64 letters, digits, and . + - _ after the first"
                )
        return data


class ValidateConfig(Section):
    """Benchmarks that a training is measured by; they are read and graded as `eval.data` and `eval.grader` say."""

    benchmarks: list[str] = Field(
        default_factory=list, description="benchmarks, as of `ropd eval`; none: no validation"
    )
    every: int | None = Field(None, ge=1, description="steps; null: whenever a checkpoint is saved")
    before: bool = Field(True, description="also before the first step")
    n: int = Field(1, ge=1, description="samples per problem")
    limit: int | None = Field(None, ge=1, description="use the first problems of each benchmark")
    temperature: float = Field(1.0, ge=0, description="sampling temperature")
    top_p: float = Field(0.95, gt=0, le=1, description="probability mass of nucleus sampling")
    best_by: str | None = Field(None, description="benchmark that chooses the best checkpoint; null: the first")

    @model_validator(mode="after")
    def _fits(self) -> ValidateConfig:
        if self.best_by is not None and self.best_by not in self.benchmarks:
            raise ValueError(f"validate.best_by {self.best_by} is not among validate.benchmarks")
        return self


class ThresholdsConfig(Section):
    """Limits of the monitor's figures, as means over `monitor.window` steps; None: no limit."""

    gap_growth: float | None = Field(None, gt=0, description="maximum growth of the gap between the judges' means")
    rank_agreement: float | None = Field(
        None, gt=0, le=1, description="minimum share of rollout pairs that both judges order alike"
    )
    length_ratio: float | None = Field(None, gt=1, description="maximum factor by which rollouts get longer or shorter")
    fence_attempts: float | None = Field(
        None, gt=0, lt=1, description="maximum share of rollouts that address the judge"
    )


class MonitorConfig(Section):
    """What a training monitors besides its rewards."""

    share: float = Field(0.0, ge=0, le=1, description="share of the groups for the second judge; 0: none")
    judge: EndpointConfig = EndpointConfig(sampling=SamplingConfig(temperature=0.0))
    templates: str | None = Field(None, description="folder of the second judge's templates; null: judge.templates")
    window: int = Field(
        5, ge=1, description="steps over which a figure is averaged before it is compared with a threshold"
    )
    wait_s: float = Field(30.0, ge=0, description="seconds that a step waits for the second judge")
    warn: ThresholdsConfig = ThresholdsConfig(gap_growth=0.1, rank_agreement=0.6, length_ratio=2.0, fence_attempts=0.05)
    stop: ThresholdsConfig = ThresholdsConfig()


class LintConfig(Section):
    """Who is asked about rubrics by `--lint-judge`."""

    judge: EndpointConfig = EndpointConfig(sampling=SamplingConfig(temperature=0.0))


class RopdConfig(Section):
    """A whole configuration; every command reads the sections it needs."""

    out: str | None = Field(None, description="run directory")
    method: Literal["ropd", "sft", "t-judge", "ovd-reward", "ovd-filter", "gad", "lopd", "exopd", "grpo-verifiable"] = (
        Field("ropd", description="how the student learns")
    )
    seed: int = Field(0, description="of data order and sampling")
    device: Literal["cpu", "gpu"] = Field("gpu", description="where to train")
    cache_dir: str | None = Field(None, description="cache of replies; null: the user's cache directory")
    cache_max_gb: float | None = Field(
        20.0, gt=0, description="size above which the oldest replies are removed; null: no limit"
    )
    prices: dict[str, PriceConfig] = Field(
        default_factory=dict,
        description="by model: {input, cached_input, output} in dollars per million tokens, and batch_factor (0.5)",
    )
    max_cost: float | None = Field(None, ge=0, description="limit in dollars; no request is sent that could exceed it")
    endpoint: EndpointConfig = Field(EndpointConfig(), description="values that the sections of endpoints inherit")
    teacher: EndpointConfig = EndpointConfig()
    teachers: dict[str, EndpointConfig] = Field(
        default_factory=dict, description="further teachers by name; they inherit from `teacher`"
    )
    rubricator: EndpointConfig = EndpointConfig(sampling=SamplingConfig(temperature=0.7))
    verifier: EndpointConfig = EndpointConfig(sampling=SamplingConfig(temperature=0.0))
    judge: JudgeConfig = JudgeConfig()
    score: ScoreConfig = ScoreConfig()
    verifiable: VerifiableConfig = VerifiableConfig()
    reward: RewardConfig = RewardConfig()
    distil: DistilConfig = DistilConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    student: StudentConfig = StudentConfig()
    data: DataConfig = DataConfig()
    rollout: RolloutConfig = RolloutConfig()
    train: TrainConfig = TrainConfig()
    validate: ValidateConfig = ValidateConfig()  # type: ignore[assignment]
    monitor: MonitorConfig = MonitorConfig()
    lint: LintConfig = LintConfig()
    eval: EvalConfig = EvalConfig()
    verl: dict[str, Any] = Field(default_factory=dict, description="raw settings, merged into verl's own last")

    @model_validator(mode="after")
    def _fits(self) -> RopdConfig:
        keys = [f"reward.{key}" for key in self.reward.shaping] + ["judge.reuse"] * (self.judge.reuse == "epoch")
        if keys and self.method != "ropd":
            raise ValueError(f"{', '.join(keys)}: method {self.method} has no rubrics and mixes no rewards")
        if self.judge.reuse == "epoch" and not self.reward.rubric:
            raise ValueError("judge.reuse is about rubrics, and reward.rubric is 0")
        if self.judge.rubric_per == "rollout" and self.reward.reweighs:
            raise ValueError(
                "reward.criterion_weights and reward.criterion_dropout compare rollouts by one rubric: "
                "judge.rubric_per is rollout"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _lay_teachers(cls, tree: Any) -> Any:
        """Lay each entry of ``teachers`` over the section ``teacher``."""
        if not isinstance(tree, dict) or not isinstance(tree.get("teachers"), dict):
            return tree  # pydantic says what is wrong with it
        teacher = tree.get("teacher", {})
        if isinstance(teacher, EndpointConfig):
            teacher = teacher.model_dump()
        entries = {
            name: laid_over(teacher, entry) if isinstance(entry, dict) and isinstance(teacher, dict) else entry
            for name, entry in tree["teachers"].items()
        }
        return {**tree, "teachers": entries}


def laid_over(defaults: dict[str, Any], tree: dict[str, Any]) -> dict[str, Any]:
    """Return ``tree`` laid over ``defaults``, section by section: a section given in part keeps its other defaults."""
    merged = dict(defaults)
    for key, value in tree.items():
        below = merged.get(key)
        merged[key] = laid_over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
