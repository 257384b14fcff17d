"""Tokens and money: what is counted, what a limit on the cost stops, what a forecast says."""

import asyncio
import json
import re
import subprocess
import sys

import pytest
from servers import Reply

from ropd_cli.config import EndpointConfig, LimitsConfig, PriceConfig, SamplingConfig
from ropd_cli.errors import ConfigError, CostLimit
from ropd_cli.llm.chat import ChatRequest
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.money import Budget, cost_usd
from ropd_cli.llm.shared import Shared
from ropd_cli.records.schemas import Message

PRICES = {"m": PriceConfig(input=1000.0, cached_input=100.0, output=10_000.0)}  # dollars a million: 0.001, 0.01 a token


def ask(text, **sampling):
    return ChatRequest(messages=(Message(role="user", content=text),), model="m", sampling=SamplingConfig(**sampling))


def opened(server, budget, **limits):
    endpoint = EndpointConfig(model="m", base_url=server.url, limits=LimitsConfig(**limits))
    return ChatClient.open(endpoint, cache=None, environ={}, shared=Shared(budget))


def test_cached_tokens_have_their_own_price():
    assert cost_usd(PRICES["m"], 10, 3, 4) == pytest.approx(6 * 0.001 + 4 * 0.0001 + 3 * 0.01)
    assert cost_usd(PriceConfig(input=1000, output=0), 10, 3, 4) == pytest.approx(0.01)


async def test_what_replies_cost_is_counted(server):
    usage = {"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}
    server.default = Reply("x", usage=usage)
    budget = Budget(PRICES)
    async with opened(server, budget) as client:
        await asyncio.gather(*(client.complete(ask(str(n))) for n in range(5)))
        stats = client.stats
    assert (stats.prompt_tokens, stats.cached_tokens, stats.completion_tokens) == (50, 20, 15)
    assert stats.cost_usd == budget.spent_usd == pytest.approx(5 * cost_usd(PRICES["m"], 10, 3, 4))
    assert budget.reserved_usd == 0


async def test_without_a_price_money_is_unknown(server):
    async with opened(server, Budget({})) as client:
        await client.complete(ask("x"))
    assert client.stats.cost_usd is None


@pytest.mark.parametrize("concurrency", [1, 8])
async def test_a_limit_on_the_cost_is_kept(server, concurrency):
    server.default = Reply("x", usage={"prompt_tokens": 10, "completion_tokens": 20})  # 0.21 dollars
    budget = Budget(PRICES, max_usd=2.0)
    async with opened(server, budget, concurrency=concurrency) as client:
        outcomes = await asyncio.gather(
            *(client.complete(ask(str(n), max_tokens=20)) for n in range(40)), return_exceptions=True
        )
        limited = [fault for fault in outcomes if isinstance(fault, BaseException)]
        assert {type(fault) for fault in limited} == {CostLimit}
        assert 0.21 * (40 - len(limited)) == pytest.approx(budget.spent_usd) and budget.spent_usd <= 2.0
        assert len(server.requests) == 40 - len(limited) >= 5
    assert "--max-cost" in limited[0].hint and budget.reserved_usd == 0


async def test_what_failed_costs_nothing_and_frees_what_was_set_aside(server):
    from servers import Status

    server.script(Status(400), Status(400))
    budget = Budget(PRICES, max_usd=10.0)
    async with opened(server, budget) as client:
        for text in ("a", "b"):
            with pytest.raises(Exception, match="400"):
                await client.complete(ask(text, max_tokens=5))
    assert (budget.reserved_usd, budget.spent_usd) == (0, 0)


async def test_a_reply_without_counts_is_estimated_so_that_the_limit_holds(server):
    server.default = Reply("x" * 300, usage=None)
    budget = Budget(PRICES, max_usd=10.0)
    async with opened(server, budget) as client:
        await client.complete(ask("a", max_tokens=200))
    assert 0.5 < budget.spent_usd < 2 and client.stats.completion_tokens == 0


def test_a_limit_without_a_price_is_refused():
    with pytest.raises(ConfigError, match=r"m has no price, and a limit on the cost is set"):
        Budget({}, max_usd=1.0).price("m", "http://localhost/v1")
    assert Budget({}, max_usd=1.0).price("m", "builtin://checkable").input == 0


OPENAI = "https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("model", "url", "price"),
    [
        ("gpt-4o-mini", OPENAI, 0.15),
        ("gpt-4.1", OPENAI, 7.0),  # of the configuration
        ("gpt-4o-mini", "http://localhost:8000/v1", None),  # something else under the name
        ("gpt-4o-mini", "https://api.openai.com.example/v1", None),
        ("gpt-4o-mini-2", OPENAI, None),
    ],
)
def test_a_list_price_counts_at_the_publishers_host(model, url, price):
    found = Budget({"gpt-4.1": PriceConfig(input=7, output=8)}).price(model, url)
    assert (found and found.input) == price


def test_the_command_shows_prices_with_their_date(tmp_path):
    (tmp_path / "c.yaml").write_text("prices: {mine: {input: 1, output: 2}, gpt-4.1: {input: 7, output: 8}}\n")
    shown = json.loads(ropd(tmp_path, "prices", "--config", "c.yaml", "--json").stdout)
    rows = {row["model"]: (row["input"], row["from"]) for row in shown["prices"]}
    assert rows["mine"] == (1.0, "configuration") and rows["gpt-4.1"] == (7.0, "configuration")
    assert rows["gpt-4o-mini"] == (0.15, "list") and re.fullmatch(r"20\d\d-\d\d", shown["as_of"])
    assert f"list of {shown['as_of']}" in ropd(tmp_path, "prices").stdout


def ropd(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "ropd_cli", *map(str, arguments)], cwd=folder, capture_output=True, text=True
    )


def test_the_command_forecasts_stops_and_goes_on(server, tmp_path):
    """--dry-run sends nothing; --max-cost keeps what is done; the same command with more money does the rest."""
    server.default = lambda body: Reply(
        f"answer {body['messages'][0]['content']}", usage={"prompt_tokens": 10, "completion_tokens": 20}
    )
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(f'{{"uid": "{n}", "prompt": "question {n}"}}\n' for n in range(20)))
    (tmp_path / "prices.yaml").write_text("prices: {m: {input: 1000, output: 10000}}\n")
    command = ["teacher-gen", prompts, "--out", "answers.jsonl", "-m", 1, "--model", "m", "--base-url", server.url]
    command += ["--max-tokens", 20, "--config", "prices.yaml", "--cache-dir", "cache", "--json"]
    dry = json.loads(ropd(tmp_path, *command, "--dry-run").stdout)
    assert (dry["calls"], dry["cached"], len(server.requests)) == (20, 0, 0) and dry["cost_usd"] > 1
    assert not (tmp_path / "answers.jsonl").exists()
    assert dry["completion_tokens_range"] == [20 * 3, 20 * 20]
    assert "guess: 11 tokens each, 3 to 20 (max_tokens);" in dry["rule"]
    low, high = dry["cost_usd_range"]
    assert low < dry["cost_usd"] < high
    # five bytes per token of the prompts at least, and few tokens of replies
    assert low == pytest.approx((0.6 * dry["prompt_tokens"] * 1000 + 20 * 3 * 10000) / 1e6, rel=0.01)
    stopped = ropd(tmp_path, *command, "--max-cost", 2)
    done = (tmp_path / "answers.jsonl").read_text().count("\n")
    assert stopped.returncode == 1 and "--max-cost" in stopped.stderr and 5 <= done == len(server.requests) <= 9
    assert not (tmp_path / "answers.jsonl.failed.jsonl").exists()
    assert json.loads(ropd(tmp_path, *command, "--dry-run").stdout)["calls"] == 20 - done
    rest = ropd(tmp_path, *command, "--max-cost", 20)
    assert rest.returncode == 0 and len(server.requests) == 20
    assert json.loads(rest.stdout)["cost_usd"] == pytest.approx(0.21 * (20 - done))
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 20


def test_a_forecast_learns_from_other_replies_of_the_model(server, tmp_path):
    """Short answers under a high limit: a guess with a range at first, then as long as others were."""
    for name, count in (("few", 10), ("many", 40)):
        rows = (json.dumps({"uid": f"{name}{n}", "prompt": f"{name} {n}"}) + "\n" for n in range(count))
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    lengths = iter([10, 20, 30, 40, 50, 60, 70, 80, 90, 1000])
    server.default = lambda body: Reply("yes", usage={"prompt_tokens": 10, "completion_tokens": next(lengths)})
    (tmp_path / "c.yaml").write_text("prices: {m: {input: 0, output: 1}}\n")
    options = ["-m", 1, "--model", "m", "--base-url", server.url, "--max-tokens", 32768, "-c", "c.yaml"]
    options += ["--cache-dir", "cache", "--out", "a.jsonl", "--set", "teacher.limits.concurrency=1"]

    def forecast(prompts="many.jsonl"):
        return json.loads(ropd(tmp_path, "teacher-gen", prompts, *options, "--dry-run", "--json").stdout)

    guessed = forecast()
    assert guessed["completion_tokens"] == 40 * 512 and guessed["completion_tokens_range"] == [40 * 16, 40 * 32768]
    assert ropd(tmp_path, "teacher-gen", "few.jsonl", *options).returncode == 0
    (tmp_path / "a.jsonl").unlink()
    known = forecast()
    assert known["completion_tokens"] == 40 * 145 and known["completion_tokens_range"] == [40 * 20, 40 * 1000]
    assert known["cost_usd_range"] == pytest.approx([0.0008, 0.04]) and "10 others of this model" in known["rule"]
    own = forecast("few.jsonl")
    assert own["calls"] == 0 and own["cost_usd"] == 0 and own["rule"] == "nothing is left to ask"
    said = ropd(tmp_path, "teacher-gen", "many.jsonl", *options, "--dry-run").stdout
    assert "5,800 of replies (800 to 40,000); $0.0058 ($0.0008 to $0.0400)\nrule: " in said
    other = ropd(tmp_path, "teacher-gen", "many.jsonl", *options, "--model", "m-large", "--dry-run").stdout
    assert "a guess" in other  # not the replies of m


def test_a_forecast_counts_samples_that_are_asked_for_again(server, tmp_path):
    """Two answers that differ of three samples each; then the same is expected of the others."""
    (tmp_path / "p.jsonl").write_text("".join(f'{{"uid": "{n}", "prompt": "question {n}"}}\n' for n in range(6)))
    texts = iter(["a", "a", "b"] * 2)
    server.default = lambda body: Reply(next(texts), usage={"prompt_tokens": 10, "completion_tokens": 20})
    options = ["-m", 2, "--model", "m", "--base-url", server.url, "--out", "a.jsonl", "--cache-dir", "cache"]
    options += ["--n-per-request", "1", "--set", "teacher.limits.concurrency=1"]
    first = ropd(tmp_path, "teacher-gen", "p.jsonl", *options, "--dry-run").stdout
    assert "12 calls" in first and first.endswith("; those asked for again come on top\n")
    assert ropd(tmp_path, "teacher-gen", "p.jsonl", *options, "--limit", 2).returncode == 0
    then = json.loads(ropd(tmp_path, "teacher-gen", "p.jsonl", *options, "--dry-run", "--json").stdout)
    assert (then["calls"], then["completion_tokens"]) == (12, 12 * 20)  # of 8 answers
    assert then["rule"] == "replies as long as the 6 in the cache; 1.5 samples per answer, as before"


def test_a_batch_has_a_request_for_each_answer(server, tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "q"}\n{"prompt": "r"}\n')
    command = ["teacher-gen", "p.jsonl", "--out", "a.jsonl", "--model", "m", "--base-url", server.url, "-m", 3]
    one, batches = (
        json.loads(ropd(tmp_path, *command, *more, "--dry-run", "--json").stdout) for more in ((), ("--batch-api",))
    )
    assert (one["calls"], batches["calls"]) == (2, 6)
    assert batches["prompt_tokens"] == 3 * one["prompt_tokens"] and not server.requests


def test_a_limit_without_a_price_is_said_before_anything_is_sent(server, tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "q"}\n')
    command = ["teacher-gen", "p.jsonl", "--out", "a.jsonl", "--model", "m", "--base-url", server.url]
    refused = ropd(tmp_path, *command, "--max-cost", 2)
    assert refused.returncode == 2 and "prices={m: {input: …" in refused.stderr and not server.requests
