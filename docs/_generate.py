"""Writes the pages that are made from the program itself: ``docs/commands/*.md``, ``docs/commands.md``,
``docs/keys.md``, ``docs/formats.md``, ``docs/json-output.md`` and ``docs/schemas``.

    python docs/_generate.py            write them
    python docs/_generate.py --check    say which are out of date; exit code 1 if any is
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from _outputs import OUTPUTS, output_page, schema_of
from pydantic import BaseModel

from ropd_cli.cli.main import COMMANDS, load_command
from ropd_cli.config import RopdConfig
from ropd_cli.config.describe import KeyDescription, all_keys
from ropd_cli.config.models import EndpointConfig
from ropd_cli.records import schemas

DOCS = Path(__file__).parent
NOTE = "\n<!-- made by docs/_generate.py; change the program, then: make docs-pages -->\n"
GUIDES = {
    "config": "../configuration.md",
    "data": "../data.md",
    "teacher-gen": "../teacher-index.md",
    "index": "../teacher-index.md",
    "rubricate": "../rubrics.md",
    "verify": "../rubrics.md",
    "inspect-rubrics": "../rubrics.md#reading-them",
    "train": "../training.md",
    "compare-methods": "../comparison.md",
    "eval": "../eval.md",
    "rejudge": "../rejudge.md",
    "export": "../export.md",
    "runs": "../files.md#run-directory",
    "report": "../report.md",
    "prices": "../costs.md",
    "doctor": "../doctor.md",
    "cache": "../cache.md",
    "serve-judge": "../local-judge.md",
    "serve-reward": "../reward-server.md",
    "quickstart": "../cpu.md",
    "rollout": "../rubrics.md",
}

# --- commands --------------------------------------------------------------------------------------------------------


def command_pages() -> Iterator[tuple[Path, str]]:
    """(file, text) of a page a command, and of their list."""
    listed = ["# Commands\n", "| command | |", "|---|---|"]
    for name, (_, _, line) in COMMANDS.items():
        yield DOCS / "commands" / f"{name}.md", command_page(name) + NOTE
        listed.append(f"| [`ropd {name}`](commands/{name}.md) | {line} |")
    listed.append(
        "\nEvery command takes `--help`. A command's own options have the last word ([configuration](configuration.md)). With "
        "`--json` each prints one [document](json-output.md)."
    )
    yield DOCS / "commands.md", "\n".join(listed) + "\n" + NOTE


def command_page(name: str) -> str:
    command = load_command(name)
    parts = [f"# ropd {name}\n"]
    children = getattr(command, "commands", None)
    if children is None:
        parts.append(described(command, f"ropd {name}"))
    else:
        parts.append(f"{command.help or ''}\n")
        if getattr(command, "invoke_without_command", False):
            parts.append(described(command, f"ropd {name}", with_help=False))
        for child in children.values():
            parts.append(f"## ropd {name} {child.name}\n")
            parts.append(described(child, f"ropd {name} {child.name}"))
    parts.append(f"The guide: [{Path(GUIDES[name].split('#')[0]).name}]({GUIDES[name]}).\n")
    return "\n".join(parts)


def described(command: Any, path: str, *, with_help: bool = True) -> str:
    """Synopsis, description, arguments and options."""
    arguments = [p for p in command.params if not hasattr(p, "is_flag")]
    options = [p for p in command.params if p not in arguments and not getattr(p, "hidden", False)]
    words = [path, "[OPTIONS]", *(_metavar(a) for a in arguments)]
    parts = ["```\n" + " ".join(words) + "\n```\n"]
    if with_help and command.help:
        parts.append(command.help.strip() + "\n")
    if arguments:
        parts.append("| argument | |\n|---|---|")
        parts += [f"| `{_metavar(a)}` | {_cell(getattr(a, 'help', None))} |" for a in arguments]
        parts.append("")
    groups: dict[str, list[Any]] = {}
    for option in options:
        groups.setdefault(getattr(option, "rich_help_panel", None) or "Options", []).append(option)
    for title, some in groups.items():
        parts.append(f"| {title[:1].lower()}{title[1:]} | default | |\n|---|---|---|")
        parts += [f"| {_names(o)} | {_default(o)} | {_cell(getattr(o, 'help', None))} |" for o in some]
        parts.append("")
    return "\n".join(parts)


def _metavar(argument: Any) -> str:
    name = argument.metavar or (argument.name or "").upper()
    return name if argument.required else f"[{name}]"


def _names(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    if option.is_flag:
        return names
    kind = option.metavar or _kind_of(option)
    many = " (repeatable)" if option.multiple else ""
    return f"{names} <code>{kind.replace('|', '&#124;')}</code>{many}"


def _kind_of(option: Any) -> str:
    """What an option takes, by the annotation of the function behind it."""
    annotation = option.type_descriptor.annotation
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    inner = [each for each in getattr(annotation, "__args__", ()) if each is not type(None)]
    return {Path: "PATH", int: "INTEGER", float: "NUMBER"}.get(inner[0] if inner else annotation, "TEXT")


def _default(option: Any) -> str:
    if option.required:
        return "required"
    value = option.default
    if isinstance(option.show_default, str):  # a default of the configuration, or in words
        return option.show_default
    if value is None or value is False or value == () or callable(value) or "Sentinel" in type(value).__name__:
        return ""
    return f"`{value}`" if value is not True else "on"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


# --- configuration keys ----------------------------------------------------------------------------------------------

ENDPOINTS = ("endpoint", "teacher", "student.endpoint", "rubricator", "verifier", "monitor.judge", "lint.judge")
"""Sections that have the keys of an endpoint, which the page lists once."""
MORE = {
    "api": "endpoints.md#azure-openai",
    "ca_file": "endpoints.md#proxies-and-certificates",
    "structured_output": "endpoints.md#json",
    "thinking_tags": "endpoints.md#thinking",
    "limits.max_pause_s": "endpoints.md#when-an-endpoint-stops-answering",
    "base_url": "builtin.md",
    "method": "methods.md",
    "cache_max_gb": "cache.md",
    "prices": "endpoints.md#tokens-and-money",
    "max_cost": "costs.md",
    "teachers": "teacher-index.md#several-teachers",
    "verl": "training.md#raw-settings",
    "judge.form": "rubrics.md#three-forms-of-the-requests",
    "judge.rubric_per": "rubrics.md#choices",
    "judge.rubrics": "rewards.md#rubrics-that-the-data-set-brings",
    "judge.min_coverage": "method.md#verdicts-with-gaps",
    "judge.repair": "training.md#repairing-rubrics",
    "judge.reuse": "training.md#reusing-rubrics",
    "judge.templates": "rubrics.md#your-own-templates",
    "judge.max_failed_fraction": "training.md#missing-groups",
    "score.per": "rewards.md#one-score-per-answer",
    "verifiable.graders": "rewards.md#right-or-wrong",
    "reward.rubric": "rewards.md",
    "reward.criterion_weights": "rewards.md#criteria-that-separate",
    "reward.criterion_dropout": "rewards.md#criterion-dropout",
    "reward.combine": "rewards.md#parts-normalised-separately",
    "distil.teacher_path": "methods.md#lopd",
    "discriminator.warmup_epochs": "methods.md#gad",
    "student.from_run": "training.md#starting-from-another-run",
    "student.enable_thinking": "training.md#thinking-and-lora",
    "data.prompts": "files.md#prompts",
    "data.index": "teacher-index.md",
    "train.async": "training.md#one-step-ahead",
    "train.nodes": "clusters.md",
    "train.prompts_per_step": "training.md#steps-and-sizes",
    "train.refill.zero_variance": "training.md#refill",
    "train.save_every": "training.md#checkpoints",
    "train.trackers": "training.md#trackers",
    "train.watchdog_s": "training.md#the-training-process",
    "validate.benchmarks": "training.md#validation",
    "monitor.share": "training.md#hack-monitor",
    "eval.benchmarks": "eval.md#benchmarks",
}
"""Where a page says more about a key."""


def keys_page() -> str:
    """Return the page of all keys of a configuration, a table per section."""
    parts = [
        "# Configuration keys\n",
        "All keys with their types, defaults and meanings, as `ropd config explain` prints them. [Configuration](configuration.md)",
        "says how they are set.\n",
        "## Endpoints\n",
        f"The sections {', '.join(f'`{name}`' for name in ENDPOINTS)}",
        "and the entries of `teachers` have these keys. `sampling.temperature` is 0.7 for the rubricator, and 0.0 for the verifier,",
        "`monitor.judge` and `lint.judge`.\n",
        *_keys_table(all_keys(EndpointConfig())),
        "## Run\n",
    ]
    keys = [each for each in all_keys() if not f"{each.key}.".startswith(tuple(f"{name}." for name in ENDPOINTS))]
    parts += _keys_table(each for each in keys if "." not in each.key)
    for name, field in RopdConfig.model_fields.items():
        section = [each for each in keys if each.key.startswith(f"{name}.")]
        if section:
            about = " ".join((getattr(field.annotation, "__doc__", None) or "").split())
            parts += [f"## {name}\n", f"{about}\n", *_keys_table(section)]
    return "\n".join(parts)


def _keys_table(keys: Iterable[KeyDescription]) -> list[str]:
    rows = ["| key | default | meaning | type |", "|---|---|---|---|"]
    for each in keys:
        kind = ", ".join(filter(None, (each.type, each.limits)))
        default = each.default if isinstance(each.default, str) else json.dumps(each.default)
        meaning = each.meaning + (f" ([more]({MORE[each.key]}))" if each.key in MORE else "")
        rows.append(f"| `{each.key}` | `{_cell(default)}` | {_cell(meaning)} | {_cell(kind)} |")
    return [*rows, ""]


# --- formats ---------------------------------------------------------------------------------------------------------

RECORDS: dict[str, tuple[type[BaseModel], str, str]] = {
    "prompt": (schemas.Prompt, "a line of a prompts file", '{"uid": "p1", "prompt": "What is 6 * 7?", "answer": "42"}'),
    "answers": (
        schemas.AnswerRecord,
        "a line of a teacher file or of a rollouts file",
        '{"uid": "p1", "prompt": "What is 6 * 7?", "raw_prompt_hash": "0f…", "answers": [{"text": "42", "finish_reason": "stop"}], '
        '"model": "big"}',
    ),
    "rubric": (
        schemas.RubricRecord,
        "a line of a rubrics file, and `rubric` of a group of a run",
        '{"uid": "p1", "raw_prompt_hash": "0f…", "rubric": {"schema_version": "ropd.rubric.v1", "rubrics": [{"criterion_id": "c1", '
        '"category": "Task Completion", "criterion": "Multiplies 6 by 7.", "points": 5}], "maximum_score": 5}, "rubric_hash": "a1…", '
        '"model": "judge", "template_hash": "b2…"}',
    ),
    "verdicts": (
        schemas.VerdictRecord,
        "a line of a verdicts file, and `verdicts` of a group of a run",
        '{"uid": "p1", "raw_prompt_hash": "0f…", "rubric_hash": "a1…", "answers": [{"source": "student", "index": 0, "judgement": [true], '
        '"score": 1.0}], "rewards": [1.0], "model": "judge", "template_hash": "b2…"}',
    ),
    "failed": (
        schemas.FailedRecord,
        "a line of `OUT.failed.jsonl`",
        '{"uid": "p1", "error": {"stage": "verify", "type": "ReplyInvalid", "message": "no list \'answers\' in it"}}',
    ),
}
MEANINGS = {
    "Prompt.uid": "name of the prompt, unique in its file",
    "Prompt.prompt": "a text, or chat messages",
    "Prompt.answer": "the checkable final answer",
    "Prompt.data_source": "its source; passed to your own reward function",
    "Prompt.rubric": "a rubric that the data set brings (`judge.rubrics`)",
    "Message.role": "`system`, `user`, `assistant` …",
    "Message.content": "a text, or content parts",
    "AnswerRecord.uid": "of the prompt",
    "AnswerRecord.prompt": "the prompt that was answered",
    "AnswerRecord.raw_prompt_hash": "SHA-256 of the prompt's messages; an answer belongs to a prompt of the same hash",
    "AnswerRecord.answers": "the answers, in the order of their samples",
    "AnswerRecord.model": "model that answered",
    "AnswerRecord.sampling": "sampling parameters of the request",
    "AnswerRecord.endpoint": "URL, without secrets",
    "AnswerRecord.template": "hash of a system prompt of the teacher's own",
    "Answer.text": "the answer",
    "Answer.finish_reason": "`stop`, `length` (cut off) or `content_filter` (refused)",
    "Answer.usage": "tokens, as the endpoint counted them",
    "Answer.reasoning": "thinking, where it is apart from the text",
    "Answer.created": "Unix time of the reply",
    "Answer.correct": "whether the final result is the prompt's `answer`, if compared",
    "Answer.model": "if it differs from the record's",
    "Answer.endpoint": "if it differs from the record's",
    "Answer.sampling": "if it differs from the record's",
    "Usage.prompt_tokens": "tokens of the request",
    "Usage.completion_tokens": "tokens of the reply",
    "Usage.cached_tokens": "tokens of the request that were in the endpoint's prefix cache",
    "RubricRecord.uid": "of the prompt",
    "RubricRecord.raw_prompt_hash": "of the prompt",
    "RubricRecord.rubric": "the group's rubric; null if no rollout has an answer, and with a rubric per rollout",
    "RubricRecord.rubric_hash": "identifies the rubric in verdicts",
    "RubricRecord.rubrics": "with a rubric per rollout: one each, null for a rollout without an answer",
    "RubricRecord.model": "model that wrote it",
    "RubricRecord.template_hash": "hash of system message, template and extra instructions",
    "RubricRecord.usage": "tokens, as the endpoint counted them",
    "RubricRecord.mended": "corrections of the reply",
    "RubricRecord.cut": "answers shown without their middle",
    "RubricRecord.origin": "`reused` from an earlier group of the prompt, or `renewed` because that one no longer separated the rollouts",
    "RubricRecord.repaired": "linter rules that the previous rubric broke",
    "Rubric.schema_version": "of the format",
    "Rubric.rubrics": "the criteria",
    "Rubric.maximum_score": "the sum of their points",
    "Criterion.criterion_id": "unique in the rubric",
    "Criterion.category": "`Task Completion`, `Observable Quality` or `General Reasoning`",
    "Criterion.criterion": "the claim that is true or false of an answer",
    "Criterion.points": "its weight, 1 to 5",
    "VerdictRecord.uid": "of the prompt",
    "VerdictRecord.raw_prompt_hash": "of the prompt",
    "VerdictRecord.rubric_hash": "of the rubric that was applied",
    "VerdictRecord.answers": "the verdict on each rollout and each teacher answer",
    "VerdictRecord.rewards": "one per rollout; null is missing",
    "VerdictRecord.parts": "unweighted parts of the rewards, by name, one value per rollout",
    "VerdictRecord.shaped": "what GRPO is given, one per rollout, if it is not the reward",
    "VerdictRecord.weights": "weights in `shaped`, one per criterion",
    "VerdictRecord.coverage": "share of the rubric's weight that was judged for all rollouts",
    "VerdictRecord.agreement": "share of judgements on which all repeats agree",
    "VerdictRecord.scale": "highest possible score, with one score per answer",
    "VerdictRecord.cut": "answers shown without their middle",
    "VerdictRecord.model": "model that judged",
    "VerdictRecord.template_hash": "hash of system message, template and extra instructions",
    "VerdictRecord.rollouts_hash": "of the rollouts' texts; `ropd verify` writes it",
    "VerdictRecord.teacher_hash": "of the teacher answers; `ropd verify` writes it",
    "VerdictRecord.usage": "tokens, as the endpoint counted them",
    "AnswerVerdict.source": "`student` or `teacher`",
    "AnswerVerdict.index": "from 0, among the answers of its source",
    "AnswerVerdict.judgement": "one per criterion: true, false, or null (no verdict); empty if the answer was not shown, or has one score",
    "AnswerVerdict.score": "weighted share of criteria met, or score / `scale`, from 0 to 1; null is missing",
    "FailedRecord.uid": "of the record",
    "FailedRecord.error": "the failure",
    "Failure.stage": "the stage",
    "Failure.type": "kind of error",
    "Failure.message": "its message",
}


def models_of(model: type[BaseModel]) -> list[type[BaseModel]]:
    """A record and the models inside it, each once."""
    found = [model]
    for each in found:
        for field in each.model_fields.values():
            for inner in _inner(field.annotation):
                if inner not in found:
                    found.append(inner)
    return found


def _inner(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _inner(argument)


def formats_page() -> str:
    parts = [
        "# Formats of the records\n",
        "The fields of each record, with its JSON Schema. [Files](files.md) describes how files are read and written, and",
        "how fields depend on each other. `JSON` is any JSON value; an optional field may be null.\n",
    ]
    shown: list[type[BaseModel]] = []
    for name, (model, where, example) in RECORDS.items():
        parts.append(f"## {name}\n\n`{model.__name__}`: {where} ([schema](schemas/{name}.json)).\n")
        for each in models_of(model):
            if each in shown:
                continue
            shown.append(each)
            if each is not model:
                parts.append(f"`{each.__name__}`:\n")
            for field_name, field in each.model_fields.items():
                kind = _kind(field.annotation)
                if not field.is_required():
                    is_nullable = type(None) in get_args(field.annotation)
                    kind = f"{kind.removesuffix(' or null') if is_nullable else kind}, optional"
                parts.append(f"- `{field_name}` ({kind}): {MEANINGS[f'{each.__name__}.{field_name}']}")
            parts.append("")
        parts.append(f"```json\n{example}\n```\n")
    return "\n".join(parts)


def _kind(annotation: Any) -> str:
    names = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "null"}
    if annotation in names:
        return names[annotation]
    arguments = getattr(annotation, "__args__", ())
    origin = str(getattr(annotation, "__origin__", ""))
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{a}`" for a in arguments)
    if "dict" in origin:
        return "object"
    if "tuple" in origin or "list" in origin:
        return f"list of {_kind(arguments[0])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"`{annotation.__name__}`"
    if arguments:
        return " or ".join(dict.fromkeys(_kind(a) for a in arguments))
    return "JSON"


def pages() -> Iterator[tuple[Path, str]]:
    """(file, text) of every page that is made here."""
    yield from command_pages()
    yield DOCS / "keys.md", keys_page() + NOTE
    yield DOCS / "formats.md", formats_page() + NOTE
    for name, (model, _, _) in RECORDS.items():
        yield DOCS / "schemas" / f"{name}.json", json.dumps(model.model_json_schema(), indent=2) + "\n"
    yield DOCS / "json-output.md", output_page() + NOTE
    for command, kinds in OUTPUTS.items():
        file = DOCS / "schemas" / "output" / f"{command.replace(' ', '-')}.json"
        yield file, json.dumps(schema_of(kinds), indent=2) + "\n"


def main() -> int:
    stale = [(file, text) for file, text in pages() if not file.is_file() or file.read_text(encoding="utf-8") != text]
    for file, text in stale:
        if "--check" in sys.argv:
            print(f"{file.relative_to(DOCS.parent)} is out of date: make docs-pages")
        else:
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
            print(f"wrote {file.relative_to(DOCS.parent)}")
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
