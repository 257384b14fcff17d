"""Every benchmark runs, measures what it says it does, and prints its ratios; how large they are is not asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from servers import Drop

from ropd_cli.config import EndpointConfig, JudgeConfig
from ropd_cli.errors import ProviderUnreachable
from ropd_cli.llm.client import ChatClient
from ropd_cli.stages.rubricator import Rubricator
from ropd_cli.stages.verifier import Verifier

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    """Makes the benchmarks' own modules importable, as they are for themselves."""
    monkeypatch.syspath_prepend(str(FOLDER))


def benchmark(name, *options):
    """The ``--json`` document of a benchmark."""
    command = [sys.executable, str(FOLDER / name), *map(str, options), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_judge_path_has_a_ratio_for_each_latency():
    found = benchmark("judge_path.py", "--groups", 6, "--pairs", 1, "--latency", 0, 20, "--answer-bytes", 300)
    assert [result["latency_ms"] for result in found["results"]] == [0, 20]
    for result in found["results"]:
        assert result["ratio"] == pytest.approx(result["ours_groups_per_s"] / result["bare_groups_per_s"])
        assert result["cpu_ms_over_bare"] == pytest.approx(result["ours_cpu_ms"] - result["bare_cpu_ms"])
        assert result["bare_groups_per_s"] > 0


@pytest.mark.slow
def test_judge_path_watches_memory():
    found = benchmark("judge_path.py", "--memory", 40, "--every", 10, "--answer-bytes", 300)
    assert [point["groups"] for point in found["points"]] == [10, 20, 30, 40]
    assert found["growth_mb"] == pytest.approx(found["points"][-1]["rss_mb"] - found["points"][0]["rss_mb"])


@pytest.mark.slow
def test_step_overlap_knows_its_bound_and_a_barrier_is_above_it():
    found = benchmark("step_overlap.py", "--steps", 2, "--groups", 4, "--rollout-s", 0.1, "--judge-s", 0.05)
    for step in found["steps"]:
        assert step["bound_s"] <= step["ours_s"]  # else the latencies are not the ones that the server drew
        assert step["bound_s"] <= step["barrier_s"]
    assert found["ratio"] >= 1 and found["barrier_ratio"] >= 1


@pytest.mark.slow
def test_warm_verify_sends_nothing():
    found = benchmark("warm_verify.py", "--groups", 12, "--repeats", 1, "--answer-bytes", 200)
    assert found["requests_sent"] == 0
    for name in ("warm_groups_per_s", "warm_net_groups_per_s", "there_groups_per_s", "there_net_groups_per_s"):
        assert found[name] > 0


async def test_the_judge_server_judges(bench):
    """Its verdicts differ between groups, also where a request is larger than its buffer."""
    from judge_material import Texts
    from judge_server import lognormal_s, running

    assert lognormal_s("a", "rubric", 1.0, 0.4) == lognormal_s("a", "rubric", 1.0, 0.4)
    assert lognormal_s("a", "rubric", 1.0, 0.4) != lognormal_s("a", "verdicts", 1.0, 0.4)
    texts, seen = Texts(60_000), set()
    with running() as url:
        endpoint = EndpointConfig(model="judge", base_url=url, limits={"max_retries": 0})
        async with ChatClient.open(endpoint, cache=None, environ={}) as client:
            rubricator, verifier = Rubricator(client, JudgeConfig()), Verifier(client, JudgeConfig())
            for number in range(4):
                group = texts.group(f"g-{number}")
                record = await verifier.verdicts(group, await rubricator.rubric(group))
                seen.add(record.rewards)
    assert len(seen) == 4 and all(0 <= reward <= 1 for rewards in seen for reward in rewards)
    assert len({reward for rewards in seen for reward in rewards}) > 4


async def test_the_bare_loop_sends_what_ours_sends(bench, server):
    from judge_material import Texts, rubric_record
    from judge_path import judges, same_requests

    server.default = Drop()
    group = Texts(500).group("one")
    endpoint = EndpointConfig(model="judge", base_url=server.url, limits={"max_retries": 0})
    async with ChatClient.open(endpoint, cache=None, environ={}) as client:
        rubricator, verifier = judges(client)
        for call in (rubricator.rubric(group), verifier.verdicts(group, rubric_record(group))):
            with pytest.raises(ProviderUnreachable):
                await call
    assert server.bodies == list(same_requests(group, rubricator, verifier))


@pytest.mark.slow
def test_teacher_index_stands_beside_a_dict():
    sizes = ("--prompts", 40, "--answer-bytes", 2000, "--lookups", 60, "--repeats", 1)
    found = benchmark("teacher_index.py", *sizes)
    assert found["index_mb"] > found["text_mb"] > 40 * 4 * 1500 / 1e6
    assert found["lookups_ratio"] == pytest.approx(found["index"]["lookups_per_s"] / found["dict"]["lookups_per_s"])
    assert found["open_ratio"] == pytest.approx(found["dict"]["open_s"] / found["index"]["open_s"])
    assert found["readers"]["processes"] == 8


def test_resume_has_its_ratios_to_a_bare_loop():
    found = benchmark("resume.py", "--megabytes", 1, "--repeats", 1, "--answer-bytes", 300)
    [size] = found["sizes"]
    assert size["records"] > 1000
    for name in ("reading", "resuming"):
        assert size[f"{name}_ratio"] == pytest.approx(size[name] / size["bare"])
