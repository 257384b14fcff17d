"""Student: its folder, its chat template and the thinking switch in it, and the prompts' lengths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ropd_cli.answers.thinking import opens_thinking
from ropd_cli.config import RopdConfig
from ropd_cli.doctor.check import Case, Check, Section, few, shown_bytes
from ropd_cli.doctor.model_folder import SWITCH, Template, local_folder, looks_local, parameters, read_json
from ropd_cli.errors import InputError
from ropd_cli.records.schemas import Prompt, load_prompts, with_system
from ropd_cli.util.tokens import estimate_tokens

HERE = Section("student")
HUB_TIMEOUT_S = 10.0
SAMPLE = 200
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
_TRIED = [{"role": "user", "content": "What is 2 + 2?"}]


def folder(case: Case) -> list[Check]:
    """The model's files, or its name on the hub."""
    path = case.config.student.model_path
    if path is None:
        return [HERE.skipped("model", "student.model_path is not set")] if case.named else []
    here = local_folder(path)
    if here is None:
        return [_missing(path)] if looks_local(path) else [_on_hub(path, case.offline)]
    if not (here / "config.json").is_file():
        return [_missing(path)]
    if not any((here / name).is_file() for name in TOKENIZERS):
        mend = "give the whole folder of a model (tokenizer.json stands in it)"
        return [HERE.fail("model", f"{path}: no tokenizer in {here}", mend)]
    weights = parameters(here)
    size = f", {weights / 1e6:,.0f} M weights" if weights else ""
    kind = str(read_json(here / "config.json").get("model_type", "a model"))
    return [HERE.ok("model", f"{path}: {kind}{size}"), *_context(case.config, here)]


def template(case: Case) -> list[Check]:
    """The chat template, and what it does about thinking."""
    here = local_folder(case.config.student.model_path)
    if here is None or not (here / "config.json").is_file():
        return []
    found = Template.of(here)
    if found is None:
        mend = "take an instruct model, or put the template of its family there as chat_template.jinja"
        return [HERE.fail("chat template", f"{here}: none, so no prompt can be asked (a base model?)", mend)]
    return [switch(found, case.config.student.enable_thinking)]


def prompt_lengths(case: Case) -> list[Check]:
    """Tokens of a sample of the prompts, as the student gets them."""
    here, data = local_folder(case.config.student.model_path), case.config.data
    if here is None or data.prompts is None or not Path(data.prompts).is_file():
        return []
    asked = load_prompts(data.prompts)
    sample = asked[:: max(1, len(asked) // SAMPLE)][:SAMPLE]
    counter = Counter.of(here)
    counts = {prompt.uid: counter.tokens(prompt, case.config) for prompt in sample}
    long = [f"{uid} {count}" for uid, count in counts.items() if count > data.max_prompt_tokens]
    most = max(counts.values())
    found = f"{counter.how} {most} tokens at most, of {len(sample)} prompts looked at; data.max_prompt_tokens is "
    if long:
        make = HERE.fail if counter.is_exact else HERE.warn
        return [
            make(
                "prompt lengths",
                f"{found}{data.max_prompt_tokens}, {len(long)} are longer ({few(long)})",
                f"--set data.max_prompt_tokens={most}, or leave them out",
            )
        ]
    return [HERE.ok("prompt lengths", f"{found}{data.max_prompt_tokens}")]


@dataclass(frozen=True)
class Counter:
    """Counts a prompt's tokens: with the model's tokenizer and template where the packages for it are there, else by
    its bytes."""

    tokenizer: Any
    template: Template | None

    @classmethod
    def of(cls, here: Path) -> Counter:
        try:
            import jinja2  # noqa: F401
            from tokenizers import Tokenizer
        except ImportError:
            return cls(None, None)
        file = here / "tokenizer.json"
        if not file.is_file():
            return cls(None, None)
        try:
            return cls(Tokenizer.from_file(str(file)), Template.of(here))
        except Exception as fault:  # tokenizers raises nothing narrower
            raise InputError(f"{file}: can't be read ({fault})", "copy or download the model again") from fault

    @property
    def is_exact(self) -> bool:
        return self.tokenizer is not None and self.template is not None

    @property
    def how(self) -> str:
        return "" if self.is_exact else "by estimate"

    def tokens(self, prompt: Prompt, config: RopdConfig) -> int:
        """Raises InputError where the template does not take the prompt."""
        said = [m.model_dump(mode="json") for m in with_system(prompt.messages, config.student.system_prompt)]
        if self.tokenizer is None or self.template is None:
            return estimate_tokens("\n".join(str(message["content"]) for message in said))
        thinking = config.student.enable_thinking
        options = {} if thinking is None else {SWITCH: thinking}
        return len(self.tokenizer.encode(self.template.render(said, **options), add_special_tokens=False).ids)


def switch(found: Template, wanted: bool | None) -> Check:
    """Whether a template has the switch that ``student.enable_thinking`` turns, and where it stands by itself."""
    label = "thinking switch"
    try:
        by_itself, on, off = (found.render(_TRIED, **options) for options in ({}, {SWITCH: True}, {SWITCH: False}))
    except ImportError:  # an installation for endpoints only
        on = off = by_itself = ""
        has_switch = found.names_switch
    else:
        has_switch = on != off
    if not has_switch:
        inside = " (it opens <think> itself: every rollout begins inside its thinking)"
        opens = inside if opens_thinking(by_itself) else ""
        if wanted is None:
            return HERE.ok(label, f"the chat template has none{opens}")
        told = f"student.enable_thinking is {str(wanted).lower()}, and the chat template has no such switch"
        return HERE.fail(label, f"{told}: it would change nothing{opens}", "--set student.enable_thinking=null")
    if wanted is not None:
        return HERE.ok(label, f"the chat template has one, and it is {'on' if wanted else 'off'}")
    if not on:
        found_it = "the chat template has one, and student.enable_thinking is not set"
        return HERE.warn(label, f"{found_it} (what it does then was not looked at: jinja2 is missing)", _SAY_IT)
    if by_itself == on:
        told = "the student thinks, as its chat template does by itself: student.enable_thinking is not set"
        return HERE.warn(label, f"{told}; thoughts use up data.max_response_tokens and are never judged", _SAY_IT)
    return HERE.ok(label, "the chat template has one, off by itself")


_SAY_IT = "--set student.enable_thinking=false, or true to have it think"


def _context(config: RopdConfig, here: Path) -> list[Check]:
    """Whether prompts and rollouts fit into what the model was made for."""
    known = read_json(here / "config.json")
    most = known.get("max_position_embeddings") or (known.get("text_config") or {}).get("max_position_embeddings")
    wanted = config.data.max_prompt_tokens + config.data.max_response_tokens
    if not isinstance(most, int) or wanted <= most:
        return []
    found = f"data.max_prompt_tokens + data.max_response_tokens are {wanted}, the model takes {most}"
    mend = f"lower data.max_response_tokens to {max(1, most - config.data.max_prompt_tokens)} or less"
    return [HERE.fail("context", found, mend)]


def _missing(path: str) -> Check:
    mend = "give the folder of a Hugging Face model, or a hub name (student.model_path, ROPD_MODEL_PATH)"
    return HERE.fail("model", f"{path}: no model there (config.json is missing)", mend)


def _on_hub(name: str, offline: bool) -> Check:
    """Whether the hub has a model; nothing is downloaded."""
    if offline:
        return HERE.skipped("model", f"{name} is not on this disk, and the hub is not asked (--offline)")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        about = HfApi().model_info(name, timeout=HUB_TIMEOUT_S, files_metadata=True)
    except (RepositoryNotFoundError, HFValidationError, GatedRepoError) as fault:
        mend = "check student.model_path; for a gated or private model: hf auth login"
        return HERE.fail("model", f"{name}: not on the hub for you ({type(fault).__name__})", mend)
    except (OSError, OfflineModeIsEnabled, RuntimeError) as fault:
        return _unreachable(name, fault)
    except Exception as fault:
        if type(fault).__module__.split(".")[0] not in ("httpx", "httpx2", "httpcore", "httpcore2", "requests"):
            raise
        return _unreachable(name, fault)
    size = sum(file.size or 0 for file in about.siblings or ())
    return HERE.ok(
        "model", f"{name}: on the hub, {shown_bytes(size)} to download; its template is looked at once it is here"
    )


def _unreachable(name: str, fault: Exception) -> Check:
    return HERE.warn(
        "model",
        f"{name}: not on this disk, and the hub is out of reach ({type(fault).__name__})",
        "give student.model_path a folder, or download the model first (hf download NAME); a mirror: HF_ENDPOINT",
    )


CHECKS = (folder, template, prompt_lengths)
