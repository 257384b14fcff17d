"""Student: its folder, its chat template and the thinking switch in it, and the prompts' lengths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ropd_cli.answers.thinking import Tags, opening_tag
from ropd_cli.config import RopdConfig
from ropd_cli.doctor.check import Case, Check, Section, few, shown_bytes
from ropd_cli.engines.model_folder import Template, has_tokenizer, local_folder, looks_local, parameters, read_json
from ropd_cli.errors import InputError
from ropd_cli.records.schemas import Prompt, load_prompts, with_system
from ropd_cli.training.device_choices import whole_sequence
from ropd_cli.util.tokens import estimate_tokens

HERE = Section("student")
HUB_TIMEOUT_S = 10.0
SWITCH = "enable_thinking"
SAMPLE = 200
_TRIED = [{"role": "user", "content": "What is 2 + 2?"}]


def folder(case: Case) -> list[Check]:
    """Check the model's files, or its name on the hub."""
    path = case.config.student.model_path
    if path is None:
        return [HERE.skipped("model", "student.model_path is not set")] if case.named else []
    here = local_folder(path)
    if here is None and not looks_local(path):
        return [_on_hub(path, case.offline)]
    if here is None or not (here / "config.json").is_file():
        mend = "give the folder of a Hugging Face model, or a hub name (student.model_path, ROPD_MODEL_PATH)"
        return [HERE.fail("model", f"{path}: no model there (config.json is missing)", mend)]
    if not has_tokenizer(here):
        mend = "give the whole folder of a model (tokenizer.json stands in it)"
        return [HERE.fail("model", f"{path}: no tokenizer in {here}", mend)]
    weights = parameters(here)
    size = f", {weights / 1e6:,.0f} M weights" if weights else ""
    kind = str(read_json(here / "config.json").get("model_type", "a model"))
    return [HERE.ok("model", f"{path}: {kind}{size}"), *_context(case.config, here)]


def template(case: Case) -> list[Check]:
    """Check the chat template, and what it does about thinking."""
    here = local_folder(case.config.student.model_path)
    if here is None or not (here / "config.json").is_file():
        return []
    found = Template.of(here)
    if found is None:
        mend = "take an instruct model, or put the template of its family there as chat_template.jinja"
        return [HERE.fail("chat template", f"{here}: none, so no prompt can be asked (a base model?)", mend)]
    student = case.config.student
    return [switch(found, student.enable_thinking, student.endpoint.thinking_tags)]


def prompt_lengths(case: Case) -> list[Check]:
    """Check the tokens of a sample of the prompts, as the student gets them."""
    here, data = local_folder(case.config.student.model_path), case.config.data
    if here is None or data.prompts is None or not Path(data.prompts).is_file():
        return []
    asked = load_prompts(data.prompts)
    sample = asked[:: max(1, len(asked) // SAMPLE)][:SAMPLE]
    tokens, is_exact = _counter(here, case.config)
    counts = {prompt.uid: tokens(prompt) for prompt in sample}
    long = [f"{uid} {count}" for uid, count in counts.items() if count > data.max_prompt_tokens]
    most = max(counts.values())
    found = (
        f"{'' if is_exact else 'by estimate '}{most} tokens at most, of {len(sample)} prompts looked at; "
        f"data.max_prompt_tokens is {data.max_prompt_tokens}"
    )
    if not long:
        return [HERE.ok("prompt lengths", found)]
    make = HERE.fail if is_exact else HERE.warn
    mend = f"--set data.max_prompt_tokens={most}, or leave them out"
    return [make("prompt lengths", f"{found}, {len(long)} are longer ({few(long)})", mend)]


def _counter(here: Path, config: RopdConfig) -> tuple[Callable[[Prompt], int], bool]:
    """Return what counts a prompt's tokens, and whether it is exact: with the model's tokenizer and template where
    the package tokenizers is installed, else by its bytes. Raises InputError for a tokenizer that can't be read."""
    chat, file = Template.of(here), here / "tokenizer.json"
    try:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(file)) if file.is_file() else None
    except ImportError:
        tokenizer = None
    except Exception as fault:  # tokenizers raises nothing narrower
        raise InputError(f"{file}: can't be read ({fault})", "copy or download the model again") from fault
    thinking = config.student.enable_thinking
    options = {} if thinking is None else {SWITCH: thinking}

    def tokens(prompt: Prompt) -> int:
        messages = [m.model_dump(mode="json") for m in with_system(prompt.messages, config.student.system_prompt)]
        if tokenizer is None or chat is None:
            return estimate_tokens("\n".join(str(message["content"]) for message in messages))
        return len(tokenizer.encode(chat.render(messages, **options), add_special_tokens=False).ids)

    return tokens, tokenizer is not None and chat is not None


def switch(found: Template, wanted: bool | None, tags: Tags | None = None) -> Check:
    """Check that a template has the switch that ``student.enable_thinking`` sets, and what it does without it."""
    label = "thinking switch"
    by_itself, on, off = (found.render(_TRIED, **options) for options in ({}, {SWITCH: True}, {SWITCH: False}))
    if on == off:
        tag = opening_tag(by_itself, tags)
        opens = f" (it opens {tag} itself: every rollout begins inside its thinking)" if tag else ""
        if wanted is None:
            return HERE.ok(label, f"the chat template has none{opens}")
        told = f"student.enable_thinking is {str(wanted).lower()}, and the chat template has no such switch"
        return HERE.fail(label, f"{told}: it would change nothing{opens}", "--set student.enable_thinking=null")
    if wanted is not None:
        return HERE.ok(label, f"the chat template has one, and it is {'on' if wanted else 'off'}")
    if by_itself == on:
        told = "the student thinks, as its chat template does by itself: student.enable_thinking is not set"
        mend = "--set student.enable_thinking=false, or true to have it think"
        return HERE.warn(label, f"{told}; thoughts use up data.max_response_tokens and are never judged", mend)
    return HERE.ok(label, "the chat template has one, off by itself")


def _context(config: RopdConfig, here: Path) -> list[Check]:
    """Check that prompts and rollouts fit into the model's context."""
    known = read_json(here / "config.json")
    most = known.get("max_position_embeddings") or (known.get("text_config") or {}).get("max_position_embeddings")
    wanted = whole_sequence(config)
    if not isinstance(most, int) or wanted <= most:
        return []
    found = f"data.max_prompt_tokens + data.max_response_tokens are {wanted}, the model takes {most}"
    mend = f"lower data.max_response_tokens to {max(1, most - config.data.max_prompt_tokens)} or less"
    return [HERE.fail("context", found, mend)]


def _on_hub(name: str, offline: bool) -> Check:
    """Check that the hub has a model; nothing is downloaded."""
    if offline:
        return HERE.skipped("model", f"{name} is not on this disk, and the hub is not asked (--offline)")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        about = HfApi().model_info(name, timeout=HUB_TIMEOUT_S, files_metadata=True)
    except (RepositoryNotFoundError, HFValidationError) as fault:  # a gated model is one that is not found
        mend = "check student.model_path; for a gated or private model: hf auth login"
        return HERE.fail("model", f"{name}: not on the hub for you ({type(fault).__name__})", mend)
    except Exception as fault:  # which HTTP library's errors these are differs between versions of the hub's client
        found = f"{name}: not on this disk, and the hub is out of reach ({type(fault).__name__})"
        mend = "give student.model_path a folder, or download the model first (hf download NAME); a mirror: HF_ENDPOINT"
        return HERE.warn("model", found, mend)
    size = sum(file.size or 0 for file in about.siblings or ())
    found = f"{name}: on the hub, {shown_bytes(size)} to download; its template is looked at once it is here"
    return HERE.ok("model", found)


CHECKS = (folder, template, prompt_lengths)
