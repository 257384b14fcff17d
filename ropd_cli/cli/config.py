"""``ropd config init | show | explain | schema``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typing_extensions import TypedDict

from ropd_cli.cli._completion import keys_and_sections, shipped_names
from ropd_cli.cli._options import ConfigOptions, command, command_group
from ropd_cli.cli._screen import Screen
from ropd_cli.config.describe import KeyDescription
from ropd_cli.errors import InputError

app = command_group("config", help="Show and explain configurations, and print shipped ones.")


class Shipped(TypedDict):
    """Without NAME: the names of the shipped configurations."""

    configs: list[str]


class Printed(TypedDict):
    """With NAME: the configuration as YAML."""

    name: str
    text: str


class WrittenTo(TypedDict):
    """With ``--out``: the file that was written."""

    name: str
    out: str


class Explained(TypedDict):
    """The keys of a section, or all of them."""

    keys: list[KeyDescription]


@app.command("init")
@command
def init(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", autocompletion=shipped_names, help="A shipped configuration.", show_default="lists them"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; it must not exist.", show_default="the screen")
    ] = None,
    *,
    screen: Screen,
) -> None:
    """Print a shipped configuration to start from: ropd config init gpu-math > run.yaml."""
    from ropd_cli.records.files import write_atomic
    from ropd_cli.util.resources import find_config, shipped_configs

    if name is None:
        names = list(shipped_configs())
        screen.result(Shipped(configs=names), "\n".join(names))
        return
    text = find_config(name).read_text(encoding="utf-8")
    if out is None:
        screen.result(Printed(name=name, text=text), text.rstrip("\n"))
        return
    if out.exists():
        raise InputError(f"{out} exists", "choose another --out, or delete it")
    write_atomic(out, text)
    screen.result(WrittenTo(name=name, out=str(out)), f"{out}: {name}; ropd doctor --config {out} checks it")


@app.command("show")
@command
def show(
    diff: Annotated[bool, typer.Option("--diff", help="Show only what differs from the defaults.")] = False,
    *,
    options: ConfigOptions,
    screen: Screen,
) -> None:
    """Show the configuration that a command runs with: defaults, files, environment and --set together.

    Secrets are masked.
    """
    import yaml

    from ropd_cli.config import RopdConfig
    from ropd_cli.config.describe import changed
    from ropd_cli.config.load import ENVIRONMENT
    from ropd_cli.config.masking import masked

    for name, keys in ENVIRONMENT.items():
        if os.environ.get(name):
            screen.note(f"{name} in the environment sets {', '.join(keys)}, whatever a YAML file says")
    tree = masked(options.load().model_dump(mode="json"))
    if diff:
        tree = changed(tree, masked(RopdConfig().model_dump(mode="json")))
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True) if tree else "nothing differs from the defaults"
    screen.result(tree, text.rstrip("\n"))


@app.command("explain")
@command
def explain(
    key: Annotated[
        str | None,
        typer.Argument(
            metavar="KEY",
            autocompletion=keys_and_sections,
            help="A key or a section: judge.m, train.",
            show_default="an overview",
        ),
    ] = None,
    *,
    screen: Screen,
) -> None:
    """Explain configuration keys: type, default and meaning."""
    from rich.table import Table

    from ropd_cli.config.describe import all_keys, describe
    from ropd_cli.util.terminal import Text

    found = describe(key) if key is not None else list(all_keys())
    document = Explained(keys=found)
    if len(found) == 1:
        one = found[0]
        limits = f", {one.limits}" if one.limits else ""
        lines = [one.key, f"  {one.type}{limits}", f"  default: {_yaml(one.default)}"]
        lines += [f"  {one.meaning}"] if one.meaning else []
        screen.result(document, "\n".join(lines))
        return
    table = Table(box=None, pad_edge=False)
    if key is None:
        table.show_header = False
        for section, names in _overview(found).items():
            table.add_row(Text(section or "(top level)"), Text(", ".join(names)))
        screen.result(document, table)
        screen.note("types, defaults and meanings: ropd config explain SECTION or KEY")
        return
    for name in ("key", "default", "meaning"):
        table.add_column(name, overflow="fold", no_wrap=name == "key")
    for each in found:
        table.add_row(*map(Text, (each.key, _yaml(each.default), each.meaning or each.type)))
    screen.result(document, table)


@app.command("schema")
@command
def schema(*, screen: Screen) -> None:
    """Print the JSON schema of configurations, for editors that check and complete YAML."""
    import json

    from ropd_cli.config import RopdConfig

    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **RopdConfig.model_json_schema()}
    screen.result(document, json.dumps(document, indent=2))


def _overview(keys: list[KeyDescription]) -> dict[str, list[str]]:
    """Return the first names of each section, those without a section under ""."""
    overview: dict[str, list[str]] = {}
    for each in keys:
        *sections, name = each.key.split(".", 2)[:2]
        names = overview.setdefault("".join(sections), [])
        if name not in names:
            names.append(name)
    return overview


def _yaml(value: Any) -> str:
    import json

    return "null" if value is None else value if isinstance(value, str) else json.dumps(value, default=str)
