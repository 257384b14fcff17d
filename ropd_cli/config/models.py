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

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1)
    reasoning_effort: str | None = None
    seed: int | None = None


class LimitsConfig(Section):
    """How an endpoint is treated. None of this changes an answer, so none of it is in a cache key."""

    timeout_s: float = Field(120.0, gt=0, description="of one request, from sending to the last byte")
    connect_timeout_s: float = Field(10.0, gt=0)
    first_byte_timeout_s: float | None = Field(None, gt=0, description="None: timeout_s alone holds")
    concurrency: int = Field(32, ge=1)
    rpm: int | None = Field(None, ge=1, description="requests a minute")
    tpm: int | None = Field(None, ge=1, description="tokens a minute, of prompts and replies")
    max_retries: int = Field(5, ge=0)
    max_pause_s: float = Field(600.0, ge=0, description="so long an endpoint that stopped answering is waited for")


def _date_as_text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value  # YAML takes 2024-10-21 for a date


_Tag = Annotated[str, Field(min_length=1)]


class EndpointConfig(Section):
    """One OpenAI-compatible endpoint and the model asked there.

    ``base_url: builtin://checkable`` is the embedded provider. The key is read from the environment variable named by
    ``api_key_env`` when the first request is made. ``${NAME}`` in the value of a header is that environment variable.
    """

    model: str | None = None
    base_url: str | None = None
    api: Literal["chat", "responses", "azure"] = Field("chat", description="azure: Chat Completions of Azure OpenAI")
    api_version: Annotated[str | None, BeforeValidator(_date_as_text)] = Field(None, description="of Azure OpenAI")
    api_key_env: str = "OPENAI_API_KEY"
    ca_file: str | None = Field(None, description="PEM file of certificates to trust besides the system's")
    headers: dict[str, str] = Field(default_factory=dict, description="sent with every request")
    extra_body: Annotated[dict[str, Any], AfterValidator(check_extra_body)] = Field(
        default_factory=dict, description="merged into every request's JSON"
    )
    structured_output: Literal["json_schema", "json_object", "text"] = Field(
        "json_schema", description="how JSON is asked for at first; what an endpoint refuses falls back to the next"
    )
    prompt_cache_key: bool = Field(False, description="send OpenAI's prompt_cache_key, one a group")
    thinking_tags: tuple[tuple[_Tag, _Tag], ...] | None = Field(
        None, description="[open, close] pairs around the model's thinking; None: those of the models we know"
    )
    sampling: SamplingConfig = SamplingConfig()
    limits: LimitsConfig = LimitsConfig()


class PriceConfig(Section):
    """What a model costs, in dollars per million tokens; ``cached_input`` None: as ``input``."""

    input: float = Field(ge=0)
    cached_input: float | None = Field(None, ge=0)
    output: float = Field(ge=0)
    batch_factor: float = Field(0.5, ge=0, description="factor of these prices for a request of a batch")


class StudentConfig(Section):
    """The model that learns."""

    model_path: str | None = Field(None, description="Hugging Face folder or hub name")
    from_run: str | None = Field(
        None, description="training: directory of a finished run, whose checkpoint takes the place of model_path"
    )
    from_checkpoint: Literal["final", "best"] = Field("final", description="of from_run")
    endpoint: EndpointConfig = Field(EndpointConfig(), description="`ropd rollout` from an API instead of a folder")
    system_prompt: str | None = None
    enable_thinking: bool | None = Field(None, description="passed to the chat template; None: not passed")
    lora_rank: int = Field(0, ge=0, description="0: all weights are trained")
    lora_alpha: int = Field(16, ge=1)
    dtype: Literal["float32", "bfloat16"] | None = Field(None, description="None: by device")

    @model_validator(mode="after")
    def _fits(self) -> StudentConfig:
        if self.from_checkpoint == "best" and self.from_run is None:
            raise ValueError("student.from_checkpoint is about student.from_run, which is not set")
        return self


class DataConfig(Section):
    """Prompts to train on and the teacher's answers to them."""

    prompts: str | None = None
    index: str | None = None
    on_few_answers: Literal["error", "skip"] = Field(
        "error",
        description="a prompt with fewer than judge.m distinct answers in the index stops the run, or is left out",
    )
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


class RefillConfig(Section):
    """Further prompts in the place of groups that teach nothing, within the same step (arXiv 2503.14476)."""

    zero_variance: bool = Field(False, description="replace groups whose rewards are all equal")
    missing: bool = Field(False, description="replace groups that could not be judged")
    max_batches: int = Field(3, ge=1, description="at most so many times train.prompts_per_step prompts per step")

    @property
    def is_on(self) -> bool:
        return self.zero_variance or self.missing


_ASYNC: Any = {
    "async": (
        Literal["none", "one_step"],
        Field("none", description="one_step: judge and sample the next step while this one is learnt from"),
    )
}
# the key is a keyword of Python's, so it can't stand in the body of a class
_Async: Any = create_model("_Async", __base__=Section, **_ASYNC)


class TrainConfig(_Async):
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
    loss_agg_mode: Literal["token-mean", "token-sum"] = Field(
        "token-mean", description="how verl sums the loss over a batch's tokens"
    )
    rollout_is: Literal["auto", "none", "token", "sequence"] = Field(
        "auto",
        description="truncated importance sampling between vLLM and trainer; auto: token on a GPU, none on a CPU",
    )
    trackers: list[Literal["tensorboard", "wandb", "mlflow", "trackio", "swanlab"]] = Field(
        ["tensorboard"], description="where the curves go beside metrics.jsonl"
    )
    offload: Literal["auto", "none", "optimizer", "all"] = Field(
        "auto", description="GPU: what waits in main memory during rollouts; auto: all on one device, else none"
    )
    strategy: Literal["fsdp", "fsdp2"] = "fsdp2"
    save_every: int | None = Field(None, ge=1, description="steps; None: at the end only")
    keep_checkpoints: int = Field(2, ge=1)
    nodes: int = Field(1, ge=1)
    devices_per_node: int = Field(1, ge=1)
    watchdog_s: float = Field(
        1800.0, gt=0, description="a training that starts or samples is stopped after so long without a judged group"
    )
    watchdog_update_s: float = Field(7200.0, gt=0, description="as watchdog_s, for one update of the weights")
    refill: RefillConfig = RefillConfig()

    @property
    def is_async(self) -> bool:
        """Whether a step's groups are judged while the step before is learnt from."""
        return bool(getattr(self, "async") != "none")


class EvalConfig(Section):
    """`ropd eval`: what is asked, and how the model under test samples."""

    benchmarks: list[str] = Field(default_factory=list, description="by name, in the order of the report")
    data: dict[str, str] = Field(default_factory=dict, description="files to read benchmarks from, by name")
    grader: dict[str, str] = Field(default_factory=dict, description="how files of your own are graded, by name")
    n: int = Field(16, ge=1, description="samples per problem")
    temperature: float | None = Field(1.0, ge=0, le=2)
    top_p: float | None = Field(0.95, gt=0, le=1)
    max_tokens: int | None = Field(32_768, ge=1)
    max_model_len: int | None = Field(
        None, ge=16, description="prompt and reply on vLLM here; None: as the model allows"
    )
    max_num_seqs: int = Field(256, ge=1, description="sequences at once on vLLM here")

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

    benchmarks: list[str] = Field(default_factory=list, description="as those of `ropd eval`; none: no validation")
    every: int | None = Field(None, ge=1, description="steps; None: where a checkpoint is saved")
    before: bool = Field(True, description="also before the first step")
    n: int = Field(1, ge=1, description="samples per problem")
    limit: int | None = Field(None, ge=1, description="the first problems of each benchmark only")
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(0.95, gt=0, le=1)
    best_by: str | None = Field(
        None, description="the benchmark whose score chooses the best checkpoint; None: the first"
    )

    @model_validator(mode="after")
    def _fits(self) -> ValidateConfig:
        if self.best_by is not None and self.best_by not in self.benchmarks:
            raise ValueError(f"validate.best_by {self.best_by} is not among validate.benchmarks")
        return self


class ThresholdsConfig(Section):
    """Limits of the monitor's figures, as means over `monitor.window` steps; None: no limit."""

    gap_growth: float | None = Field(
        None, gt=0, description="growth of the first judge's mean over the second's, at most"
    )
    rank_agreement: float | None = Field(
        None, gt=0, le=1, description="share of rollout pairs that both judges order alike, at least"
    )
    length_ratio: float | None = Field(
        None, gt=1, description="factor by which rollouts get longer or shorter, at most"
    )
    fence_attempts: float | None = Field(None, gt=0, lt=1, description="share of the rollouts, at most")


class MonitorConfig(Section):
    """What a training monitors besides its rewards."""

    share: float = Field(0.0, ge=0, le=1, description="share of the groups that a second judge judges, too; 0: none")
    judge: EndpointConfig = EndpointConfig(sampling=SamplingConfig(temperature=0.0))
    templates: str | None = Field(None, description="folder of the second judge's templates; None: judge.templates")
    window: int = Field(
        5, ge=1, description="steps that a figure is averaged over before it is held against a threshold"
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
        Field("ropd", description="how the student learns (docs/methods.md)")
    )
    seed: int = 0
    device: Literal["cpu", "gpu"] = "gpu"
    cache_dir: str | None = None
    cache_max_gb: float | None = Field(
        20.0, gt=0, description="above it the oldest replies are removed; None: no limit"
    )
    prices: dict[str, PriceConfig] = Field(default_factory=dict, description="by model name")
    max_cost: float | None = Field(None, ge=0, description="dollars; no request is sent that could go beyond it")
    endpoint: EndpointConfig = Field(
        EndpointConfig(), description="what every endpoint's section has that it leaves out itself"
    )
    teacher: EndpointConfig = EndpointConfig()
    teachers: dict[str, EndpointConfig] = Field(
        default_factory=dict, description="further teachers by name; what an entry leaves out is as in `teacher`"
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
