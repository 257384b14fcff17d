"""The commit of the checkout that the program runs from."""

from __future__ import annotations

from pathlib import Path


def commit(root: Path) -> str | None:
    """Return the first ten digits of the commit that a git checkout is at; None where ``root`` is no checkout."""
    git = root / ".git"
    try:
        if git.is_file():  # a worktree: "gitdir: FOLDER"
            git = root / git.read_text().removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head[:10]
        ref = head.removeprefix("ref: ")
        shared = git / "commondir"  # where a worktree's branches are
        home = git / shared.read_text().strip() if shared.is_file() else git
        if (home / ref).is_file():
            return (home / ref).read_text().strip()[:10]
        packed = (home / "packed-refs").read_text().splitlines()
        return next((line[:10] for line in packed if line.endswith(f" {ref}")), None)
    except (OSError, UnicodeDecodeError):
        return None
