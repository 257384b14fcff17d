"""Where the shipped templates and configurations lie: in a checkout beside the package, in a wheel inside it."""

from __future__ import annotations

from pathlib import Path

from ropd_cli.errors import InputError

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped(kind: str) -> Path:
    """Return the folder of shipped files of a ``kind`` ("prompts" or "configs").

    A wheel carries them as ``ropd_cli/_shipped/<kind>``; a checkout (or an editable installation) has
    them beside the package.
    """
    for folder in (_PACKAGE / "_shipped" / kind, _PACKAGE.parent / kind):
        if folder.is_dir():
            return folder
    raise InputError(
        f"the installation lacks its {kind} folder ({_PACKAGE / '_shipped' / kind})",
        "install ropd-cli again: pip install --force-reinstall ropd-cli",
    )


def shipped_configs() -> dict[str, Path]:
    """Return the shipped configurations by name: "quickstart", "ablations/not-blind"."""
    folder = shipped("configs")
    return {str(file.relative_to(folder).with_suffix("")): file for file in sorted(folder.rglob("*.yaml"))}


def find_config(name: str | Path) -> Path:
    """Return the configuration that a user names: a file of that path, else a shipped one of that name.

    Raises InputError where neither is there.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = shipped_configs()
    wanted = str(path).removeprefix("configs/").removesuffix(".yaml")
    if wanted in known:
        return known[wanted]
    raise InputError(
        f"no configuration {name}", f"give the path of a YAML file, or one of the shipped: {', '.join(known)}"
    )
