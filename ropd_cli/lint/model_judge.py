"""The lint judge: one structured call per rubric for what takes a reader.

What the judge says is held against the rubric; a reply that does not fit is asked for again. A call that failed for
good raises: the rubric's findings are missing then, which is the caller's to book, and not the same as none.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import orjson

from ropd_cli.config import EndpointConfig, JudgeConfig
from ropd_cli.errors import REPLY_HINT, ReplyInvalid
from ropd_cli.lint.records import Finding, Linted
from ropd_cli.lint.rules import FORMAT_WORTH, JUDGE_KINDS
from ropd_cli.llm.client import ChatClient, ChatRequest, JsonSchema, endpoint_request
from ropd_cli.llm.structured import parse_json
from ropd_cli.method.prompts import fill, read_template
from ropd_cli.records.schemas import Message, Rubric
from ropd_cli.util.resources import shipped

NAME, VERSION = "ropd_lint", "ropd.lint.v1"
MAX_FINDINGS, MAX_REASON_CHARS = 24, 200


def lint_template(settings: JudgeConfig) -> str:
    """Read ``lint.md`` of the user's own templates, else the shipped one. Raises InputError for one that lacks a
    place for what the judge has to see."""
    file = Path(settings.templates or "") / "lint.md"
    if not settings.templates or not file.is_file():
        file = shipped("prompts") / settings.language / "lint.md"
    return read_template("lint", file, {"question": "", "answer": "", "rubric": ""})


async def judge_lint(client: ChatClient, template: str, linted: Linted) -> list[Finding]:
    """Return what the judge finds in a rubric. Raises what ``ChatClient.ask`` raises."""
    request = lint_request(client.endpoint, template, linted)
    _, found = await client.ask(request, lambda reply: parse_findings(parse_json(reply.text), linted.rubric))
    return found


def lint_request(endpoint: EndpointConfig, template: str, linted: Linted) -> ChatRequest:
    """Return the request about a rubric: its question, the prompt's answer where there is one, its criteria."""
    criteria = [c.model_dump(include={"criterion_id", "criterion", "points"}) for c in linted.rubric.rubrics]
    values = {
        "question": linted.question or "",
        "answer": linted.answer or "",
        "rubric": orjson.dumps(criteria).decode(),
    }
    # the fence is drawn from what it encloses, so that nothing inside can close it
    tag = hashlib.sha256(orjson.dumps(values)).hexdigest()[:16]
    shown = {name: f"<{name}-{tag}>\n{text}\n</{name}-{tag}>" for name, text in values.items()}
    messages = (Message(role="user", content=fill(template, shown)),)
    schema = JsonSchema(name=NAME, body=findings_schema(linted.rubric))
    return endpoint_request(endpoint, messages, schema, section="lint.judge")


def findings_schema(rubric: Rubric) -> dict[str, Any]:
    """Return the JSON schema of a reply: only ids of this rubric and kinds of this judge can be named in it."""
    ids = [criterion.criterion_id for criterion in rubric.rubrics]
    finding = {
        "kind": {"type": "string", "enum": list(JUDGE_KINDS)},
        "criteria": {"type": "array", "items": {"type": "string", "enum": ids}, "minItems": 1, "maxItems": len(ids)},
        "reason": {"type": "string", "maxLength": MAX_REASON_CHARS},
    }
    items = {"type": "object", "properties": finding, "required": list(finding), "additionalProperties": False}
    body = {
        "schema_version": {"type": "string", "enum": [VERSION]},
        "findings": {"type": "array", "items": items, "maxItems": MAX_FINDINGS},
    }
    return {"type": "object", "properties": body, "required": list(body), "additionalProperties": False}


def parse_findings(document: dict[str, Any], rubric: Rubric) -> list[Finding]:
    """Return the findings of a reply, one per criterion ("near-duplicate": one per set of criteria).

    Format that is worth no more than it may be is dropped. Raises ReplyInvalid for an unknown kind or criterion.
    """
    points = {criterion.criterion_id: criterion.points for criterion in rubric.rubrics}
    rows = document.get("findings")
    if not isinstance(rows, list) or document.get("schema_version", VERSION) != VERSION:
        raise ReplyInvalid("the lint judge's reply does not fit: no list 'findings' in it", REPLY_HINT)
    found: list[Finding] = []
    for row in rows:
        fields: dict[str, Any] = row if isinstance(row, dict) else {}
        kind, ids = fields.get("kind"), fields.get("criteria", [])
        known = isinstance(ids, list) and bool(ids) and all(isinstance(name, str) and name in points for name in ids)
        if kind not in JUDGE_KINDS or not known:
            raise ReplyInvalid(
                "the lint judge's reply does not fit: a finding of no known kind or criterion", REPLY_HINT
            )
        ids = [name for name in points if name in ids]
        reason = " ".join(str(fields.get("reason", "")).split())[:MAX_REASON_CHARS]
        if kind != "near-duplicate":
            worth = [name for name in ids if kind != "format-heavy" or points[name] > FORMAT_WORTH]
            found += [Finding(kind, reason, (name,)) for name in worth]
        elif len(ids) < 2:
            raise ReplyInvalid("the lint judge's reply does not fit: a near-duplicate of one criterion", REPLY_HINT)
        else:
            found.append(Finding(kind, reason, tuple(ids)))
    return found
