"""The lint judge: one structured call per rubric, held against the rubric, and missing where it fails."""

from __future__ import annotations

import json

import pytest
from runs import write_run
from servers import Reply, Status
from typer.testing import CliRunner

from ropd_cli.analysis.group_files import load_groups
from ropd_cli.cli.main import app
from ropd_cli.config import EndpointConfig, JudgeConfig
from ropd_cli.errors import InputError, ProviderError, ReplyInvalid
from ropd_cli.lint import JUDGE_KINDS, Linted
from ropd_cli.lint.model_judge import judge_lint, lint_request, lint_template, parse_findings
from ropd_cli.llm.client import ChatClient
from ropd_cli.records.journals import RecordWriter
from ropd_cli.records.schemas import Criterion, Rubric

RUBRIC = Rubric(
    rubrics=tuple(
        Criterion(criterion_id=f"c{k}", category="Task Completion", criterion=text, points=points)
        for k, (text, points) in enumerate([("Is good.", 1), ("Names it and says why.", 3), ("Says why.", 2)], start=1)
    ),
    maximum_score=6,
)
LINTED = Linted(RUBRIC, question="Why? {{rubric}} </question-0>", answer="because")


def document(*findings, **more):
    rows = [{"kind": kind, "criteria": list(ids), "reason": "because  of\nit"} for kind, *ids in findings]
    return {"schema_version": "ropd.lint.v1", "findings": rows} | more


def reply(*findings):
    return Reply(json.dumps(document(*findings)))


def test_a_finding_has_the_kind_and_the_criteria_that_the_judge_names():
    found = parse_findings(
        document(
            ("vague", "c1"), ("compound", "c3", "c2"), ("near-duplicate", "c3", "c2"), ("format-heavy", "c1", "c2")
        ),
        RUBRIC,
    )
    assert [(each.rule, each.criteria) for each in found] == [
        ("vague", ("c1",)),
        ("compound", ("c2",)),
        ("compound", ("c3",)),
        ("near-duplicate", ("c2", "c3")),
        ("format-heavy", ("c2",)),  # c1 is worth 1 point, which format may be
    ]
    assert {each.message for each in found} == {"because of it"}
    assert parse_findings(document(), RUBRIC) == []


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"findings": None},
        document(schema_version="ropd.lint.v2"),
        document(("ugly", "c1")),
        document(("met-by-all", "c1")),  # a rule, but none of the judge's
        document(("vague", "c9")),
        document(("vague",)),
        document(("near-duplicate", "c1")),
        document(("near-duplicate", "c1", "c1")),
        {"findings": ["vague"]},
        {"findings": [{"kind": ["vague"], "criteria": "c1"}]},
        {"findings": [{"kind": "vague", "criteria": [["c1"]]}]},
    ],
)
def test_what_does_not_fit_the_rubric_is_no_reply(said):
    with pytest.raises(ReplyInvalid):
        parse_findings(said, RUBRIC)


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_the_request_shows_the_rubric_and_takes_nothing_else(server, language):
    server.script(reply(("vague", "c7")), reply(("vague", "c1")))
    endpoint = EndpointConfig(model="m", base_url=server.url)
    template = lint_template(JudgeConfig(language=language))
    async with ChatClient.open(endpoint, cache=None, environ={}) as client:
        found = await judge_lint(client, template, LINTED)
    assert [each.criteria for each in found] == [("c1",)] and len(server.bodies) == 2  # asked again for an unknown id
    body = server.bodies[0]
    text = body["messages"][0]["content"]
    assert "Names it and says why." in text and "Why? {{rubric}} </question-0>" in text and "because" in text
    assert all(f"`{kind}`" in text for kind in JUDGE_KINDS)
    schema = body["response_format"]["json_schema"]["schema"]
    finding = schema["properties"]["findings"]["items"]["properties"]
    assert finding["criteria"]["items"]["enum"] == ["c1", "c2", "c3"]
    assert finding["kind"]["enum"] == list(JUDGE_KINDS)
    other = lint_request(endpoint, template, Linted(RUBRIC, question="Another"))
    tag = text.split("<rubric-")[1][:16]
    assert text.count(f"-{tag}>") == 6 and tag not in other.messages[0].content


async def test_a_call_that_fails_is_no_list_without_findings(server):
    server.default = Status(500)
    endpoint = EndpointConfig(model="m", base_url=server.url, limits={"max_retries": 0})
    async with ChatClient.open(endpoint, cache=None, environ={}) as client:
        with pytest.raises(ProviderError):
            await judge_lint(client, lint_template(JudgeConfig()), LINTED)


def test_an_own_template_is_used_and_has_to_show_the_rubric(tmp_path):
    (tmp_path / "lint.md").write_text("{{question}} {{answer}} {{rubric}} Look.")
    settings = JudgeConfig(templates=str(tmp_path))
    assert lint_template(settings).endswith("Look.")
    (tmp_path / "lint.md").write_text("{{question}} {{answer}} Look.")
    with pytest.raises(InputError, match="rubric"):
        lint_template(settings)


@pytest.fixture
def inspect(tmp_path, server):
    run = write_run(tmp_path / "run")

    def call(*arguments, code=0, path=run):
        words = ["inspect-rubrics", str(path), "--cache-dir", str(tmp_path / "cache"), *map(str, arguments)]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == code, done.output
        return done

    call.run = run
    call.judge = ("--lint-judge", "--base-url", server.url, "--model", "m", "--set", "lint.judge.limits.max_retries=0")
    return call


def test_inspect_asks_about_each_rubric_once_and_filters_by_what_is_said(inspect, server):
    views = [view for view in load_groups(inspect.run) if view.criteria]
    vague = views[1]

    def judge(body):
        mine = vague.question in body["messages"][0]["content"]
        return reply(("vague", vague.criterion_ids[0])) if mine else reply()

    server.default = judge
    price = ("--set", "prices.m.input=1", "--set", "prices.m.output=1")
    foretold = json.loads(inspect(*inspect.judge, *price, "--dry-run", "--json").stdout)
    assert not server.bodies
    listed = json.loads(inspect(*inspect.judge, *price, "--lint", "vague", "--json").stdout)
    same = {view.uid for view in views if view.question == vague.question}
    assert {group["uid"] for group in listed["groups"]} == same
    assert all("vague" in group["lint"] for group in listed["groups"])
    asked, said = listed["lint_judge"], len(server.bodies)
    assert asked["missing"] == 0 and asked["known"] == 0 and asked["groups"] == len(load_groups(inspect.run))
    assert said == asked["requests_sent"] and said + asked["cache_hits"] == foretold["calls"] == len(views)
    assert asked["cost_usd"] == pytest.approx(said * 10 / 1e6)
    again = json.loads(inspect(*inspect.judge, "--uid", vague.uid, "--json").stdout)
    assert len(server.bodies) == said and again["lint_judge"]["asked"] == 0
    findings = again["groups"][0]["findings"]
    assert {"rule": "vague", "message": "because of it", "criteria": [vague.criterion_ids[0]]} in findings
    # a look without the judge does not show what it said, and does not filter by what nobody looked for
    assert all("vague" not in group["lint"] for group in json.loads(inspect("--json").stdout)["groups"])
    assert "only a lint judge finds that" in inspect("--lint", "vague", code=2).stderr


def test_groups_of_which_the_judge_says_nothing_are_missing_and_asked_again(inspect, server):
    lost = next(view for view in load_groups(inspect.run) if view.criteria)
    broken = True

    def judge(body):
        return Status(500) if broken and lost.question in body["messages"][0]["content"] else reply()

    server.default = judge
    done = inspect(*inspect.judge, "--json", code=3)
    listed = json.loads(done.stdout)
    faulty = [group for group in listed["groups"] if any("lint judge missing" in fault for fault in group["faults"])]
    assert listed["lint_judge"]["missing"] == len(faulty) > 0 and "tries these again" in done.stderr
    assert lost.uid in {group["uid"] for group in faulty}
    broken = False
    said = len(server.bodies)
    healed = json.loads(inspect(*inspect.judge, "--json").stdout)
    assert healed["lint_judge"]["missing"] == 0 and healed["lint_judge"]["asked"] == len(faulty)
    assert len(server.bodies) - said <= len(faulty)
    assert not any("lint judge missing" in fault for group in healed["groups"] for fault in group["faults"])


def test_inspect_asks_no_more_than_limit_and_says_what_it_lacks(inspect, server, tmp_path):
    server.default = reply()
    inspect(*inspect.judge, "--limit", 1)
    assert len(server.bodies) == 1
    assert "m has no price" in inspect(*inspect.judge, "--max-cost", 1, code=2).stderr
    assert "model" in inspect("--lint-judge", "--base-url", server.url, code=2).stderr
    assert "without --lint-judge" in inspect("--dry-run", code=2).stderr
    rubrics = tmp_path / "rubrics.jsonl"
    with RecordWriter(rubrics) as out:
        for view in load_groups(inspect.run):
            if view.rubric:
                out.append(view.rubric.to_json())
    assert "--prompts FILE" in inspect(*inspect.judge, path=rubrics, code=2).stderr
