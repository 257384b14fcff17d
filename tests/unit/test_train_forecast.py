"""What judging a whole run would take, before it is started."""

import pytest

from ropd_cli.config import load_config
from ropd_cli.index import IndexWriter
from ropd_cli.records.schemas import Answer, AnswerRecord, load_prompts, prompt_hash
from ropd_cli.training.run_estimate import forecast_run, sentence

PRICES = {"big": {"input": 2.0, "output": 10.0}}


@pytest.fixture
def forecast(tmp_path):
    """A forecast over 50 prompts, of which the index holds the first 40."""
    questions = [f"What is {k} + {k}?" for k in range(50)]
    (tmp_path / "p.jsonl").write_text("".join(f'{{"uid": "u{k}", "prompt": "{q}"}}\n' for k, q in enumerate(questions)))
    with IndexWriter(tmp_path / "i.db") as index:
        for k, question in enumerate(questions[:40]):
            answers = tuple(Answer(text=f"{2 * k} {n}".ljust(900, "!")) for n in range(4))
            hashed = prompt_hash(question)
            index.add(AnswerRecord(uid=f"u{k}", prompt=question, raw_prompt_hash=hashed, answers=answers, model="big"))

    def make(steps=10, **settings):
        flags = {"data.prompts": str(tmp_path / "p.jsonl"), "data.index": str(tmp_path / "i.db")}
        flags |= {"rubricator.model": "big", "verifier.model": "big", "prices": PRICES, "data.max_response_tokens": 600}
        flags |= {key.replace("__", "."): value for key, value in settings.items()}
        config = load_config(None, flags=flags, environ={})
        return forecast_run(config, load_prompts(str(config.data.prompts)), steps)

    return make


def test_two_calls_a_group_and_money_by_the_table(forecast):
    found = forecast()
    assert (found["groups"], found["calls"]) == (320, 640)
    # eight rollouts and four answers of 300 tokens each, and the instructions, read twice
    assert 640 * 12 * 300 < found["prompt_tokens"] < 640 * (12 * 300 + 3000)
    cost = (found["prompt_tokens"] * 2 + found["completion_tokens"] * 10) / 1e6
    assert found["cost_usd"] == pytest.approx(cost, rel=1e-3)
    least, most = found["cost_usd_range"]
    assert 0 < least < cost < most
    assert "640 calls" in sentence(found) and f" (${least:.2f} to ${most:.2f}) (rollouts as long as the t" in sentence(
        found
    )
    short = forecast(data__max_response_tokens=30)
    assert 640 * (8 * 30 + 4 * 300) < short["prompt_tokens"] < found["prompt_tokens"] - 640 * 8 * 260


def test_it_grows_with_steps_and_rollouts(forecast):
    one, twice = forecast(), forecast(steps=20)
    for name in ("calls", "prompt_tokens", "completion_tokens", "cost_usd"):
        assert twice[name] == pytest.approx(2 * one[name], rel=1e-3)
    assert forecast(rollout__n=16)["prompt_tokens"] > 1.4 * one["prompt_tokens"]


def test_a_second_judge_counts_for_its_share(forecast):
    prices = PRICES | {"small": {"input": 1.0, "output": 1.0}}
    one = forecast(prices=prices)
    both = forecast(prices=prices, monitor__share=0.5, monitor__judge__model="small")
    assert both["calls"] == one["calls"] + 160
    assert one["cost_usd"] < both["cost_usd"] < 1.5 * one["cost_usd"]
    unpriced = forecast(monitor__share=0.5, monitor__judge__model="small")
    assert unpriced["cost_usd"] is None and "no price known of small" in sentence(unpriced)


def test_a_rubric_that_is_kept_is_asked_for_once_a_prompt(forecast):
    assert forecast(judge__reuse="epoch")["calls"] == 320 + 50
    assert forecast(judge__reuse="epoch", steps=1)["calls"] == 32 + 32


def test_what_the_data_set_brings_is_not_asked_for(forecast):
    assert forecast(judge__rubrics="dataset")["calls"] == 320
    assert forecast(reward__rubric=0.0, reward__format=1.0) is None


def test_without_a_price_the_money_is_unknown(forecast):
    found = forecast(prices={})
    assert found["cost_usd"] is None and "no price known" in sentence(found)
