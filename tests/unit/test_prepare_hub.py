"""Sets of the hub, as ``datasets.load_dataset`` reads them: from folders here, and from nowhere."""

from __future__ import annotations

import json

import pytest

from ropd_cli.datasets import hub
from ropd_cli.datasets.eval_sets import KNOWN_SETS, load_eval_set
from ropd_cli.datasets.hub import HubSet, hub_rows
from ropd_cli.datasets.known_sets import RECIPES
from ropd_cli.errors import InputError
from ropd_cli.stages.prepare import Plan, Source, prepare

pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)


def test_a_folder_is_read_by_its_splits(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    chat = [{"role": "user", "content": "é?"}, {"role": "user", "content": "x", "name": "n"}]
    for split, count in (("train", 300), ("test", 2)):
        rows = [{"messages": chat[: 1 + (k == 1)], "question": f"{split} {k}"} for k in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = Source(f"hf:{folder}", split="test", columns={"uid": "question"})
    train = prepare(Plan(source)).train
    assert [p.uid for p in train] == ["test 0", "test 1"]
    assert [m.model_dump() for m in train[1].messages] == chat  # the null that a column has for `name` is no key
    rows = list(hub_rows(HubSet(str(folder))))
    assert len(rows) == 300 > hub.ROWS_A_BATCH and rows[-1].number == 300
    for source, says in ((HubSet(str(folder), split="dev"), "dev"), (HubSet(str(folder), "other"), "other")):
        with pytest.raises(InputError, match=says) as caught:
            list(hub_rows(source))
        assert "--split" in caught.value.hint
    with pytest.raises(InputError, match="no folder"):
        list(hub_rows(HubSet("./absent")))


def test_without_a_network_one_line_says_so_and_names_local():
    for name in ("hf:owner/name", "gsm8k"):
        with pytest.raises(InputError, match="can't be read from the hub") as caught:
            prepare(Plan(Source(name)))
        assert "--local" in caught.value.hint and "\n" not in caught.value.message


def test_where_a_known_set_cannot_be_had_its_shipped_sample_is_named(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError) as caught:
        load_eval_set("gsm8k")
    assert "gsm8k=FILE" in caught.value.hint and "gsm8k-sample" in caught.value.hint
    with pytest.raises(InputError) as caught:
        load_eval_set("aime25")
    assert caught.value.hint.endswith("aime25=FILE")


def test_the_data_page_lists_every_known_set():
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    for name, recipe in RECIPES.items():
        assert f"| `{name}` | `{recipe.hub}` |" in page
    for name, known in KNOWN_SETS.items():
        assert f"| `{name}` | `{known.hub.path}` |" in page
