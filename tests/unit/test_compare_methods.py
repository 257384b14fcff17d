"""Methods side by side: what a label sets, what the table makes of the cells, and the judge that errs on purpose."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from ropd_cli.analysis.method_runs import CellResult, Point, by_task, read_cells, rows_of, write_cells
from ropd_cli.builtin.noise import Noise, read_noise
from ropd_cli.config import load_config
from ropd_cli.errors import InputError
from ropd_cli.llm.urls import identity, model_name
from ropd_cli.methods import METHODS
from ropd_cli.recipes.compare_methods import ABLATIONS, VARIANTS, Options, Paths, compare_methods, config_of, forecasts
from ropd_cli.report.compare_report import charts, markdown, page
from ropd_cli.util.progress import NoProgress


def cell(label, seed, accuracy, task="sums", before=0.25):
    points = (
        Point(0, before, 0.4),
        Point(6, (before + accuracy) / 2, 0.5, 384, 192, 96, 10_000, 60.0),
        Point(12, accuracy, 0.6, 768, 384, 192, 20_000, 120.0),
    )
    return CellResult(label, seed, task, 12, points, (1.0, 0.0), 12.0, 0.125, 0.9, "here", "1")


CELLS = [
    *(cell("ropd", seed, accuracy) for seed, accuracy in enumerate((0.7, 0.75, 0.8))),
    *(cell("sft", seed, accuracy) for seed, accuracy in enumerate((0.5, 0.6, 0.55))),
    cell("ropd", 0, 0.3, task="long-sums"),
]


def configured(tmp_path, label, seed=0, **options):
    """The configuration of a cell."""
    return config_of(Options(tmp_path, (label,), **options), Paths(tmp_path), "student", label, seed)


@pytest.mark.parametrize("variant", [*ABLATIONS, *VARIANTS])
def test_every_variant_is_a_configuration(tmp_path, variant):
    config, plain = configured(tmp_path, f"ropd@{variant}"), configured(tmp_path, "ropd")
    assert config.method == "ropd" and config.model_copy(update={"out": plain.out}) != plain


def test_labels(tmp_path):
    config = configured(tmp_path, "ropd@m1@no-pool@flip10", seed=2)
    assert (config.judge.m, config.judge.rotate_answers, config.judge.teacher_in_pool) == (1, False, False)
    assert config.seed == 2 and config.verifier.base_url.endswith("?flip=0.1&seed=2")
    for label, known in (("grpo", METHODS), ("ropd@m2", [*ABLATIONS, *VARIANTS])):
        with pytest.raises(InputError) as caught:
            configured(tmp_path, label)
        assert label.partition("@")[2] or label in caught.value.message
        assert all(name in caught.value.hint for name in known)


def test_a_misspelt_method_is_found_before_a_model_is_fetched(tmp_path):
    options = Options(tmp_path / "out", ("ropd", "sftt"), cache_dir=str(tmp_path / "cache"))
    with pytest.raises(InputError, match="no 'sftt' is known"):
        compare_methods(options, NoProgress())
    assert not (tmp_path / "cache").exists()


def test_a_setting_for_one_method(tmp_path):
    overrides = ("train.steps=8", "lopd:distil.teacher_path=/t", "ropd:train.lr=1", "ropd@m1:train.lr=2")
    sft, ropd, m1 = (
        configured(tmp_path, label, overrides=overrides, model_path=None) for label in ("sft", "ropd", "ropd@m1")
    )
    assert (sft.train.steps, sft.train.lr) == (8, 2e-5) and (ropd.train.lr, m1.train.lr) == (1, 2)
    with pytest.raises(InputError, match="gad: .*warmup"):
        configured(tmp_path, "gad", overrides=("gad:discriminator.warmup_stepz=2",))


def test_a_distillation_needs_its_teacher_before_anything_starts(tmp_path):
    with pytest.raises(InputError, match=r"lopd: .*distil\.teacher_path is not set"):
        configured(tmp_path, "lopd")


def test_a_dry_run_counts_what_is_left(tmp_path):
    labels = ("ropd", "t-judge", "sft", "ropd@per-rollout")
    options = Options(tmp_path / "out", labels, overrides=("train.steps=2", "train.prompts_per_step=4"))
    write_cells(Paths(options.out).cells, [replace(CELLS[0], label="ropd", seed=1)])
    ropd, judge, sft, rollout = forecasts(options)
    assert (ropd[:2], ropd[2]["calls"], ropd[2]["cost_usd"]) == (("ropd", 2), 2 * 4 * 2, 0)
    assert judge[1] == 3 and judge[2]["calls"] == 2 * 4 * 8 and sft == ("sft", 3, None)
    assert rollout[2]["calls"] == 2 * 4 * 8 * 2
    assert [path.name for path in options.out.iterdir()] == ["compare.json"]


def test_a_dry_run_refuses_what_the_comparison_refuses(tmp_path):
    for wrong in ({"task": "sumz"}, {"labels": ("ropd@m2",)}):
        with pytest.raises(InputError, match="no such task|no 'm2' is known"):
            forecasts(replace(Options(tmp_path / "out", ("ropd",)), **wrong))


def test_rows_are_means_over_seeds_with_changes_paired_by_seed():
    ropd, sft = rows_of(CELLS[:6])
    assert (ropd.label, ropd.seeds, ropd.change) == ("ropd", 3, None)
    assert ropd.accuracy.mean == pytest.approx(0.75)
    # t = 4.302653 of 2 degrees of freedom times 0.05 / sqrt(3)
    assert ropd.accuracy.high - ropd.accuracy.mean == pytest.approx(4.302653 * 0.05 / math.sqrt(3), rel=1e-5)
    assert sft.change.mean == pytest.approx(-0.2) and sft.change.low < -0.2 < sft.change.high < 0
    assert sft.used == {"samples": 768, "teacher_answers": 384, "judge_calls": 192, "judge_tokens": 20_000}
    assert sft.minutes == 2.0 and list(by_task(CELLS)) == ["sums", "long-sums"]


def test_what_is_shown(tmp_path):
    tasks = by_task(CELLS)
    text = markdown(tasks)
    assert "| ropd | 3 | 25.0% | 75.0% ± 12.4 | – | 60.0% |" in text
    assert "| sft | 3 | 25.0% | 55.0% ± 12.4 | -20.0 ±" in text
    assert "| ropd | 1 | 25.0% | 30.0% |" in text  # one seed has no interval
    drawn = charts("sums", CELLS)
    assert [len(one.lines) for one in drawn] == [2] * 6 and "teacher answers" in drawn[2].title
    html = page(tasks, CELLS, "Methods")
    assert html.count("<svg") == 12 and "75.0% ± 12.4" in html


def test_cells_are_written_and_read_back(tmp_path):
    write_cells(tmp_path / "compare.json", CELLS)
    assert sorted(read_cells(tmp_path / "compare.json"), key=lambda c: c.key) == sorted(CELLS, key=lambda c: c.key)
    assert read_cells(tmp_path / "nothing.json") == []
    (tmp_path / "other.json").write_text(json.dumps({"cells": [{"label": 3}]}))
    with pytest.raises(InputError, match="no comparison's cells"):
        read_cells(tmp_path / "other.json")


def test_a_tenth_of_the_verdicts_is_turned_round_and_always_the_same():
    flips = read_noise("flip=0.1&seed=4").verdict
    turned = [flips(True, f"answer {k}", "right") for k in range(4000)]
    assert 0.08 < turned.count(False) / 4000 < 0.12
    assert turned == [flips(True, f"answer {k}", "right") for k in range(4000)]
    assert turned == [not flips(False, f"answer {k}", "right") for k in range(4000)]
    assert turned != [Noise(0.1, seed="5").verdict(True, f"answer {k}", "right") for k in range(4000)]
    assert all(Noise().verdict(True, f"answer {k}", "right") for k in range(100))
    for query in ("flip=2", "flip=x", "flop=1", "skill=-1"):
        with pytest.raises(InputError, match="not understood"):
            read_noise(query)


def test_a_noisy_judge_is_another_endpoint_by_the_same_name(tmp_path):
    config = configured(tmp_path, "ropd@flip10", seed=1)
    plain = load_config("quickstart", environ={})
    assert identity(config.verifier.base_url) != identity(plain.verifier.base_url)
    unnamed = config.verifier.model_copy(update={"model": None})
    assert model_name(unnamed) == "checkable"
