"""Writes the pages that are made from the program itself: ``docs/commands/*.md``, ``docs/commands.md``,
``docs/formats.md`` and ``docs/schemas/*.json``.

    python docs/_generate.py            write them
    python docs/_generate.py --check    say which are out of date; exit code 1 if any is
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from ropd_cli.cli.main import COMMANDS, load_command
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
    "report": "../report.md",
    "doctor": "../doctor.md",
    "cache": "../cache.md",
    "serve-judge": "../local-judge.md",
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
        "\nEvery command takes `--help`. A command's own options have the last word ([configuration](configuration.md))."
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
    "Prompt.uid": "name of the prompt, unique in a file",
    "Prompt.prompt": "a text, or chat messages",
    "Prompt.answer": "the checkable final answer",
    "Prompt.data_source": "where it comes from; handed to your own reward function",
    "Prompt.rubric": "a rubric that the data set brings (`judge.rubrics`)",
    "Message.role": "`system`, `user`, `assistant` …",
    "Message.content": "a text, or content parts",
    "AnswerRecord.uid": "of the prompt",
    "AnswerRecord.prompt": "the prompt that was answered",
    "AnswerRecord.raw_prompt_hash": "SHA-256 of the prompt's messages; an answer belongs to a prompt of the same hash",
    "AnswerRecord.answers": "the answers, in the order of their samples",
    "AnswerRecord.model": "who answered",
    "AnswerRecord.sampling": "what was sent with the request",
    "AnswerRecord.endpoint": "where, without secrets",
    "AnswerRecord.template": "hash of a system prompt of the teacher's own",
    "Answer.text": "the answer",
    "Answer.finish_reason": "`stop`, `length` (cut off) or `content_filter` (refused)",
    "Answer.usage": "tokens, as the endpoint counted them",
    "Answer.reasoning": "thinking that was kept apart from the text",
    "Answer.created": "Unix time at which it came",
    "Answer.correct": "whether its final result is the prompt's `answer`, where that was looked at",
    "Answer.model": "where it is another than the record's",
    "Answer.endpoint": "where it is another than the record's",
    "Answer.sampling": "where it is another than the record's",
    "Usage.prompt_tokens": "tokens of the request",
    "Usage.completion_tokens": "tokens of the reply",
    "Usage.cached_tokens": "of the request's tokens, those that the endpoint had in its own prefix cache",
    "RubricRecord.uid": "of the prompt",
    "RubricRecord.raw_prompt_hash": "of the prompt",
    "RubricRecord.rubric": "the group's rubric; null where no rollout had an answer, and with a rubric a rollout",
    "RubricRecord.rubric_hash": "stands for the rubric in verdicts",
    "RubricRecord.rubrics": "with a rubric a rollout: one each, null for a rollout without an answer",
    "RubricRecord.model": "who wrote it",
    "RubricRecord.template_hash": "hash of all the text of ours in the request",
    "RubricRecord.usage": "tokens, as the endpoint counted them",
    "RubricRecord.mended": "what of the reply was put right",
    "RubricRecord.cut": "answers that were shown without their middle",
    "RubricRecord.origin": "`reused` from an earlier group of the prompt, or `renewed` because that one told no rollouts apart any more",
    "RubricRecord.repaired": "rules of the linter that the rubric before this one broke",
    "Rubric.schema_version": "of the format",
    "Rubric.rubrics": "the criteria",
    "Rubric.maximum_score": "the sum of their points",
    "Criterion.criterion_id": "unique in the rubric",
    "Criterion.category": "`Task Completion`, `Observable Quality` or `General Reasoning`",
    "Criterion.criterion": "the claim that is true or false of an answer",
    "Criterion.points": "its weight, 1 to 5",
    "VerdictRecord.uid": "of the prompt",
    "VerdictRecord.raw_prompt_hash": "of the prompt",
    "VerdictRecord.rubric_hash": "of the rubric they were given by",
    "VerdictRecord.answers": "the verdict on each rollout and each teacher answer",
    "VerdictRecord.rewards": "one a rollout; null is missing",
    "VerdictRecord.parts": "what rewards were mixed from, by name, one a rollout",
    "VerdictRecord.shaped": "what GRPO is given, one a rollout, where it is not the reward",
    "VerdictRecord.weights": "weights of the criteria in `shaped`, one a criterion",
    "VerdictRecord.coverage": "part of the rubric's weight that was judged for all rollouts",
    "VerdictRecord.agreement": "part of the judgements on which all repeats agree",
    "VerdictRecord.scale": "the highest score the judge could give, where it gave one score per answer",
    "VerdictRecord.cut": "answers that were shown without their middle",
    "VerdictRecord.model": "who judged",
    "VerdictRecord.template_hash": "hash of all the text of ours in the request",
    "VerdictRecord.usage": "tokens, as the endpoint counted them",
    "AnswerVerdict.source": "`student` or `teacher`",
    "AnswerVerdict.index": "from 0, among the answers of its source",
    "AnswerVerdict.judgement": "one a criterion: true, false, null where the judge gave none; empty where it was not shown, or given one score",
    "AnswerVerdict.score": "weighted share of the criteria met, or one score over `scale`, from 0 to 1; null is missing",
    "FailedRecord.uid": "of the record",
    "FailedRecord.error": "why it failed; the next run tries it again",
    "Failure.stage": "the stage",
    "Failure.type": "kind of error",
    "Failure.message": "what was said",
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
        "Made from the program's own schemas. [Files](files.md) says which command writes what, and how files are kept; unknown fields of a",
        "record are kept and passed on. `JSON` is any JSON value. Each record has a JSON Schema in `docs/schemas`.\n",
    ]
    shown: list[type[BaseModel]] = []
    for name, (model, where, example) in RECORDS.items():
        parts.append(f"## {name}\n\n`{model.__name__}`: {where} ([schema](schemas/{name}.json)).\n")
        for each in models_of(model):
            if each in shown:
                parts.append(f"`{each.__name__}` is as above.\n")
                continue
            shown.append(each)
            parts.append(f"| `{each.__name__}` | type | |\n|---|---|---|")
            for field_name, field in each.model_fields.items():
                needed = "" if field.is_required() else " (optional)"
                kind = _kind(field.annotation).replace("|", "\\|")
                parts.append(f"| `{field_name}`{needed} | {kind} | {MEANINGS[f'{each.__name__}.{field_name}']} |")
            parts.append("")
        parts.append(f"```json\n{example}\n```\n")
    return "\n".join(parts)


def _kind(annotation: Any) -> str:
    names = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "null"}
    if annotation in names:
        return names[annotation]
    arguments = getattr(annotation, "__args__", ())
    origin = str(getattr(annotation, "__origin__", ""))
    if "Literal" in origin or "Literal" in str(annotation):
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
    yield DOCS / "formats.md", formats_page() + NOTE
    for name, (model, _, _) in RECORDS.items():
        yield DOCS / "schemas" / f"{name}.json", json.dumps(model.model_json_schema(), indent=2) + "\n"


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
