"""A hook of mkdocs: give each key in a table of configuration keys an anchor, as ``keys/#judge.m``."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element, SubElement

from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor


def on_config(config: Any) -> None:
    """Add the extension to mkdocs' list."""
    config.markdown_extensions.append(KeyAnchors())


class KeyAnchors(Extension):
    def extendMarkdown(self, md: Markdown) -> None:
        # after Markdown has parsed inline code (20), before mkdocs collects a page's anchors (5)
        md.treeprocessors.register(_Anchors(md), "key_anchors", 10)


class _Anchors(Treeprocessor):
    def run(self, root: Element) -> None:
        for table in root.iter("table"):
            heads = ["".join(head.itertext()) for head in table.iter("th")]
            if heads[:3] != ["key", "default", "meaning"]:
                continue
            for row in table.iter("tr"):
                cell = row.find("td")
                code = cell.find("code") if cell is not None else None
                if cell is not None and code is not None and code.text:
                    cell.remove(code)
                    cell.set("id", code.text)
                    cell.set("style", "white-space: nowrap")  # a key is not broken within a word
                    SubElement(cell, "a", href=f"#{code.text}").append(code)
