"""The model of a training run as a folder for the hub, with its card."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import yaml

from ropd_cli.analysis.exported_sets import CARD, TAG, fact_lines, front_matter
from ropd_cli.analysis.group_files import step_files, views_of
from ropd_cli.analysis.run_data import RunData, read_run
from ropd_cli.config.describe import changed
from ropd_cli.config.masking import public, without_folders
from ropd_cli.config.models import RopdConfig
from ropd_cli.engines.model_folder import local_folder, looks_local, read_json
from ropd_cli.errors import InputError, ProviderRefused, ProviderUnreachable
from ropd_cli.records.files import write_atomic
from ropd_cli.report.run_words import outcome
from ropd_cli.training.run_dir import RunDir
from ropd_cli.util.counted import counted
from ropd_cli.util.yaml_text import load_yaml


def model_folder(run: RunDir, step: int | None) -> tuple[int, Path]:
    """Return the step of a whole checkpoint, by default the newest, and its Hugging Face folder. Raises InputError
    where there is none, or it holds no plain weights."""
    if not run.config.is_file():
        raise InputError(f"{run.path}: no training run (config.yaml is missing)", "give the --out of ropd train")
    whole = [each for each in run.saved.steps() if run.saved.is_whole(each)]
    if not whole:
        raise InputError(f"{run.path}: no whole checkpoint yet", "train.save_every says when one is written")
    if step is not None and step not in whole:
        steps = ", ".join(map(str, whole))
        raise InputError(f"{run.path}: no whole checkpoint of step {step}", f"there are those of {steps}")
    chosen = whole[-1] if step is None else step
    folder = run.huggingface(chosen)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise InputError(f"{folder}: no safetensors", "export another step")
    if any(".lora_" in name for file in weights for name in _tensor_names(file)):
        raise InputError(f"{folder}: the adapter is not merged", "ropd train --resume merges it")
    return chosen, folder


def _tensor_names(file: Path) -> list[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            return list(opened.keys())
    except (SafetensorError, OSError) as fault:
        raise InputError(f"{file}: not a readable safetensors file ({fault})", "export another step") from fault


def export_model(run: RunDir, step: int, folder: Path, out: Path) -> None:
    """Copy a checkpoint's Hugging Face folder, without the paths it was loaded from, and write the card."""
    card = model_card(run, step)
    out.mkdir(parents=True, exist_ok=True)
    for pattern in ("*.safetensors", "*.safetensors.index.json"):  # of an earlier export
        for old in out.glob(pattern):
            old.unlink()
    for file in sorted(folder.iterdir()):
        if file.is_file() and not file.name.startswith(".") and file.name != CARD:
            shutil.copyfile(file, out / file.name)
    for name in ("config.json", "tokenizer_config.json"):
        document = read_json(out / name)
        if kept := {key: value for key, value in document.items() if key not in ("_name_or_path", "name_or_path")}:
            write_atomic(out / name, orjson.dumps(kept, option=orjson.OPT_INDENT_2))
    write_atomic(out / CARD, card)


def model_card(run: RunDir, step: int) -> str:
    """Return the card of a run's model."""
    data = read_run(run.path)
    config = data.config
    base = str((config.get("student") or {}).get("model_path") or "")
    licence = base_licence(base)
    head: dict[str, Any] = {"license": licence or "unknown"}
    if base and not looks_local(base):
        head["base_model"] = base
    head |= {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": [TAG, "rubrics"]}
    method = str(config.get("method") or "ropd")
    name = without_folders(base) or "unknown"
    lines = [front_matter(head), f"# {name}, trained by {method}", ""]
    lines += [f"Made by [ropd](https://pypi.org/project/ropd-cli/), step {step} of a run of method `{method}`.", ""]
    lines += ["## Training", "", *fact_lines(_facts(run, data, name, licence, method)), "", "## The run", ""]
    # the first sentence is of the end of the run, and may quote an error with its paths
    lines += [f"- {words}" for words, _ in outcome(data)[1:]]
    lines += _curve(data)
    lines += ["", "## Versions", "", *(f"- {package} {version}" for package, version in data.versions.items())]
    differing = changed(public(config), RopdConfig().model_dump(mode="json"))
    lines += ["", "## Configuration", "", "Keys that differ from the defaults.", "", "```yaml"]
    lines += [yaml.safe_dump(differing, sort_keys=False, allow_unicode=True).rstrip(), "```", ""]
    return "\n".join(lines)


def _facts(run: RunDir, data: RunData, base: str, licence: str | None, method: str) -> dict[str, str]:
    """Return the card's facts by their heading; "" where one is not known."""
    rubricators, judges = set(), set()
    for view in () if data.is_supervised else views_of(step_files(run.path)[-1]):
        rubricators |= {view.rubric.model} if view.rubric and view.rubric.model else set()
        judges |= {view.verdicts.model} if view.verdicts and view.verdicts.answers else set()
    prompts = str((data.config.get("data") or {}).get("prompts") or "")
    count = run.prompt_count()
    cost = data.judging_usd if data.spent_usd is None else data.spent_usd
    return {
        "Base model": base,
        "Licence of the base model": licence or "unknown",
        "Data": without_folders(prompts) + (f", {counted(count, 'prompt')}" if count else ""),
        "Method": method,
        "Teacher": ", ".join(data.teachers),
        "Rubrics by": ", ".join(sorted(rubricators)),
        "Judge": ", ".join(sorted(judges)),
        "Steps": f"{len(data.steps)}" + (f" of {data.planned_steps}" if data.planned_steps else ""),
        "Cost of judging": "unknown" if cost is None else f"${cost:,.2f}",
    }


def _curve(data: RunData) -> list[str]:
    """Return the table of the training curve, ten steps at most; none where neither reward nor loss is known."""
    metric = "train/loss" if data.is_supervised else "reward/mean"
    series = data.series(metric)
    if not series:
        return []
    last = len(series) - 1
    shown = [series[k] for k in sorted({round(last * part / 9) for part in range(10)})]
    return ["", f"| step | {metric} |", "|---|---|", *(f"| {step} | {value:.3f} |" for step, value in shown)]


def base_licence(model_path: str) -> str | None:
    """Return the licence that the card of a model on this disk names; None where it names none."""
    folder = local_folder(model_path) if model_path else None
    card = folder / CARD if folder else None
    if card is None or not card.is_file():
        return None
    parts = card.read_text(encoding="utf-8", errors="replace").split("---\n", 2)
    try:
        head = load_yaml(parts[1]) if len(parts) == 3 and not parts[0].strip() else None
    except yaml.YAMLError:
        return None
    licence = head.get("license") if isinstance(head, Mapping) else None
    return licence if isinstance(licence, str) else None


def check_push(repo: str) -> None:
    """Raise InputError for a name that the hub takes for none, and where its client has no token."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as fault:
        raise InputError(f"--push {repo}: {_first_line(fault)}", "give OWNER/NAME") from fault
    if get_token() is None:
        raise InputError("--push: no token for the hub", "hf auth login, or set HF_TOKEN")


def push(out: Path, repo: str, *, private: bool) -> str:
    """Upload a folder to a model repository of the hub, which is made where it is missing; return its URL. Raises
    ProviderRefused and ProviderUnreachable."""
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    try:
        url = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=url.repo_id, folder_path=out, commit_message="ropd export model")
    except HfHubHTTPError as fault:
        hint = f"may the token write there? The folder is whole: {out}"
        raise ProviderRefused(f"--push {repo}: {_first_line(fault)}", hint) from fault
    except (httpx.HTTPError, OSError) as fault:
        hint = f"check the network (HF_ENDPOINT names a mirror); the folder is whole: {out}"
        raise ProviderUnreachable(f"--push {repo}: the hub can't be reached ({_first_line(fault)})", hint) from fault
    return str(url)


def _first_line(fault: BaseException) -> str:
    return str(fault).strip().splitlines()[0] if str(fault).strip() else type(fault).__name__
