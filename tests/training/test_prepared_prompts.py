"""verl reads a prepared file as it stands."""

from __future__ import annotations

import pytest

from ropd_cli.records.schemas import Message, Prompt
from ropd_cli.stages.prepare import Output, write_all

pytestmark = pytest.mark.training
rl_dataset = pytest.importorskip("verl.utils.dataset.rl_dataset")


@pytest.mark.parametrize("name", ["p.parquet", "p.jsonl"])
def test_verl_s_dataset_reads_prompts_and_answers(tmp_path, name):
    from omegaconf import OmegaConf

    prompts = [
        Prompt(uid=f"u{k}", prompt=(Message(role="user", content=f"{k} + {k}?"),), answer=str(2 * k), data_source="d")
        for k in range(3)
    ]
    write_all([Output(tmp_path / name, "train", prompts)], force=False)
    config = OmegaConf.create({"filter_overlong_prompts": False, "cache_dir": str(tmp_path / "cache")})
    dataset = rl_dataset.RLHFDataset([str(tmp_path / name)], None, config)
    rows = [dataset[k] for k in range(len(dataset))]
    assert [row["raw_prompt"] for row in rows] == [[m.model_dump() for m in p.prompt] for p in prompts]
    assert [row["reward_model"] for row in rows] == [{"style": "rule", "ground_truth": p.answer} for p in prompts]
    assert [row["extra_info"]["ropd_uid"] for row in rows] == ["u0", "u1", "u2"]
    assert [row["index"] for row in rows] == [0, 1, 2] and {row["data_source"] for row in rows} == {"d"}
    assert set(rl_dataset.collate_fn(rows)) >= {"raw_prompt", "reward_model", "extra_info", "data_source"}
