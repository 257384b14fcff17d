"""What each command prints with ``--json``: the types, their JSON Schemas, and the page that shows them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import get_original_bases, is_typeddict

from ropd_cli.cli import (
    _batches,
    _evaluating,
    _index_exchange,
    _stages,
    cache,
    compare_methods,
    config,
    data,
    eval,
    export,
    index,
    inspect_rubrics,
    prices,
    quickstart,
    rejudge,
    report,
    runs,
    serve_judge,
    serve_reward,
    teacher_gen,
    train,
)
from ropd_cli.doctor.check import Checks
from ropd_cli.doctor.simulated import Simulation
from ropd_cli.evaluation.compare import Compared
from ropd_cli.evaluation.summary import Report
from ropd_cli.llm.cache_maintenance import Contents, Removed
from ropd_cli.llm.cost_estimate import Forecast
from ropd_cli.recipes.quickstart_summary import OutcomeShown
from ropd_cli.training.launch import Resolved, Trained

OUTPUTS: dict[str, tuple[Any, ...]] = {
    "quickstart": (OutcomeShown, quickstart.JudgedOnly),
    "config init": (config.Shipped, config.Printed, config.WrittenTo),
    "config show": (dict[str, Any],),
    "config explain": (config.Explained,),
    "config schema": (dict[str, Any],),
    "data prepare": (data.PreparedPrompts,),
    "data list": (data.DataSets,),
    "teacher-gen": (teacher_gen.TeachersDone, Forecast, teacher_gen.TeachersForecast, _batches.UnderWay),
    "rollout": (_stages.StageDone, _stages.Counted, Forecast),
    "index build": (_index_exchange.AddedTo,),
    "index show": (index.IndexShown, index.IndexCovered),
    "index get": (index.AnswersShown,),
    "index check": (index.WholeAndCovers, index.Whole, index.Covers, index.Opened),
    "index merge": (_index_exchange.AddedTo,),
    "index export": (_index_exchange.RowsWritten,),
    "index import": (_index_exchange.AddedFromFiles, _index_exchange.AnswersWritten),
    "index rehash": (_index_exchange.Rehashed,),
    "rubricate": (_stages.StageDone, Forecast),
    "verify": (_stages.JudgingDone, Forecast),
    "inspect-rubrics": (inspect_rubrics.GroupsListed, inspect_rubrics.GroupsInFull, Forecast),
    "train": (Trained, Resolved, train.Differences),
    "compare-methods": (compare_methods.Comparison, compare_methods.Planned),
    "eval": (Report, Forecast, _evaluating.SamplesLeft),
    "eval compare": (Compared,),
    "eval list": (eval.Benchmarks,),
    "rejudge": (rejudge.Rejudged, rejudge.Forecasts),
    "runs": (runs.Runs,),
    "report": (report.Reported,),
    "export pairs": (export.ExportedRows,),
    "export sft": (export.ExportedRows,),
    "export rubrics": (export.ExportedRows,),
    "export verdicts": (export.ExportedRows,),
    "export model": (export.ExportedModel,),
    "doctor": (Checks, Simulation),
    "prices": (prices.Prices,),
    "cache info": (Contents,),
    "cache gc": (Removed,),
    "cache clear": (cache.Cleared,),
    "cache export": (cache.Exported,),
    "cache import": (cache.Imported,),
    "serve-judge": (serve_judge.ModelServed, serve_judge.ProviderServed),
    "serve-reward": (serve_reward.RewardsServed,),
}
"""The documents of each command, one type per mode."""
OPEN = {
    "config show": "The configuration, by section; its [keys](keys.md).",
    "config schema": "The JSON Schema of configurations.",
}
RECORDS = {
    "Answer": "answers",
    "RubricRecord": "rubric",
    "VerdictRecord": "verdicts",
}
"""Where formats.md describes a record."""
CONFIG = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Schemas(GenerateJsonSchema):
    """JSON Schemas of what is printed: of a dataclass and of a model every field, of a record what it has."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def field_is_required(self, field: Any, total: bool) -> bool:
        return field["type"] == "dataclass-field" or super().field_is_required(field, total)

    def model_schema(self, schema: Any) -> dict[str, Any]:
        made = super().model_schema(schema)
        if schema.get("config", {}).get("extra_fields_behavior") != "allow":
            made["required"] = list(made["properties"])
        return made

    def dataclass_schema(self, schema: Any) -> dict[str, Any]:
        return _with_inherited(super().dataclass_schema(schema), schema["cls"])

    def typed_dict_schema(self, schema: Any) -> dict[str, Any]:
        return _with_inherited(super().typed_dict_schema(schema), schema["cls"])


def _with_inherited(made: dict[str, Any], kind: type) -> dict[str, Any]:
    """Add what the types that it inherits from say of it and of their fields: pydantic reads a type's own source."""
    for base in get_original_bases(kind):
        if is_dataclass(base) or is_typeddict(base):
            inherited = schema_of((base,))["$defs"][base.__name__]
            if "description" in inherited:
                made.setdefault("description", inherited["description"])
            for name, field in inherited["properties"].items():
                if "description" in field:
                    made["properties"][name].setdefault("description", field["description"])
    return made


@functools.cache
def schema_of(kinds: tuple[Any, ...]) -> dict[str, Any]:
    """Return the JSON Schema of a document that is of one of these types."""
    several = TypeAdapter(tuple[kinds], config=CONFIG)  # type: ignore[valid-type]
    made = several.json_schema(mode="serialization", schema_generator=Schemas)
    return {"$schema": GenerateJsonSchema.schema_dialect, "anyOf": made["prefixItems"], "$defs": made.get("$defs", {})}


def output_page() -> str:
    """Return the page of all documents, a table per type."""
    parts = [
        "# JSON output\n",
        "With `--json` a command prints one document on stdout: one of those below, by its options. After an error it",
        "prints none; the error is on stderr, with an [exit code](endpoints.md#errors-and-exit-codes). In the names of",
        "fields, `[]` is each entry of a list, and `*` each name of an object. A field is always there unless it is",
        "*optional*. Later versions may have more fields.\n",
    ]
    first: dict[Any, str] = {}
    for command, kinds in OUTPUTS.items():
        name = command.replace(" ", "-")
        parts.append(f"## ropd {command}\n\n[Schema](schemas/output/{name}.json)\n")
        whole = schema_of(kinds)
        for kind, node in zip(kinds, whole["anyOf"], strict=True):
            if "$ref" not in node:
                parts.append(f"{OPEN[command]}\n")
                continue
            found = _resolved(node, whole)
            words = _words(found.get("description", ""))
            if (before := first.setdefault(kind, command)) != command:
                words = words.partition(". ")[0].rstrip(".") or "Fields"
                parts.append(f"{words}: as of [`ropd {before}`](#ropd-{before.replace(' ', '-')}).\n")
                continue
            parts += [f"{words}\n"] if words else []
            parts += ["| field | type | meaning |", "|---|---|---|"]
            parts += [f"| `{path}` | {words} | {meaning} |" for path, words, meaning in _rows(found, whole)]
            parts.append("")
    return "\n".join(parts)


def _rows(node: dict[str, Any], whole: dict[str, Any], path: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (dotted name, type, meaning) of an object's fields and of those inside them."""
    for name, field in node["properties"].items():
        suffix, inner = _inside(field, whole)
        meaning = _words(field.get("description") or inner.get("description", ""))
        optional = "" if name in node.get("required", ()) else ", optional"
        yield f"{path}{name}", _type(field, whole) + optional, meaning
        if "properties" in inner:
            yield from _rows(inner, whole, f"{path}{name}{suffix}.")


def _inside(node: dict[str, Any], whole: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the object in a field, below lists and objects by name, and how it is reached; an empty one of none."""
    node = _resolved(node, whole)
    steps = [("", each) for each in node.get("anyOf", ())] + [
        ("[]", node.get("items")),
        (".*", node.get("additionalProperties")),
    ]
    if "properties" in node:
        return "", node
    for step, each in steps:
        if isinstance(each, dict):
            suffix, inner = _inside(each, whole)
            if inner:
                return step + suffix, inner
    return "", {}


def _resolved(node: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    name = node.get("$ref", "").rpartition("/")[2]
    return {} if name in RECORDS else whole["$defs"][name] if name else node


def _type(node: dict[str, Any], whole: dict[str, Any]) -> str:
    """Return a type in words."""
    name = node.get("$ref", "").rpartition("/")[2]
    if name in RECORDS:
        return f"[{name}](formats.md#{RECORDS[name]})"
    node = _resolved(node, whole)
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(_type(each, whole) for each in node["anyOf"]))
    if "enum" in node or "const" in node:
        return " or ".join(f"`{value}`" for value in node.get("enum", [node.get("const")]))
    kind = node.get("type")
    if kind == "array":
        items = node.get("prefixItems") or [node["items"]]
        words = ", ".join(_type(each, whole) for each in items)
        return f"({words})" if "prefixItems" in node else f"list of {words}"
    if kind == "object" and isinstance(node.get("additionalProperties"), dict):
        return f"{_type(node['additionalProperties'], whole)} by name"
    names = {"string": "text", "boolean": "true or false", None: "JSON"}
    return " or ".join(names.get(each, each) for each in (kind if isinstance(kind, list) else [kind]))


def _words(text: str) -> str:
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|").replace("None", "null")
