"""The model folder of a checkpoint, as verl leaves it and as it loads everywhere."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]
torch = pytest.importorskip("torch", reason="needs the CPU stack: make env")


@pytest.fixture
def folder(tmp_path):
    """Two files with an index, a LoRA layer of rank 1, float32, and a config that says bfloat16."""
    from safetensors.torch import save_file

    base = "base_model.model.layer"
    parts = {
        "model-00001-of-00002.safetensors": {
            f"{base}.base_layer.weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
            f"{base}.lora_A.default.weight": torch.tensor([[1.0, -1.0]]),
        },
        "model-00002-of-00002.safetensors": {
            f"{base}.lora_B.default.weight": torch.tensor([[0.5], [2.0]]),
            "base_model.model.norm.weight": torch.tensor([1.0, 1.0]),
        },
    }
    for name, tensors in parts.items():
        save_file(tensors, tmp_path / name)
    where = {key: name for name, tensors in parts.items() for key in tensors}
    index = {"metadata": {"total_size": 40}, "weight_map": where}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text('{"model_type": "llama", "dtype": "bfloat16", "torch_dtype": "bfloat16"}')
    return tmp_path


def tensors_of(folder):
    from safetensors.torch import load_file

    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_adapter_is_merged_and_the_type_is_the_config_s(folder, dtype):
    from ropd_cli.training.verl.saved_model import finish_folder

    for _ in range(2):  # the second time changes nothing
        finish_folder(folder, dtype, rank=1, alpha=2)
        tensors = tensors_of(folder)
        # W + 2 B A with B A = [[.5, -.5], [2, -2]]
        assert tensors["layer.weight"].tolist() == [[2.0, 1.0], [7.0, 0.0]]
        assert set(tensors) == {"layer.weight", "norm.weight"}
        assert {tensor.dtype for tensor in tensors.values()} == {getattr(torch, dtype)}
        assert json.loads((folder / "config.json").read_text()) == {"model_type": "llama", "dtype": dtype}
        assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_files_of_a_model_without_an_adapter_keep_their_index(folder):
    from ropd_cli.training.verl.saved_model import finish_folder

    finish_folder(folder, "bfloat16")
    assert len(tensors_of(folder)) == 4
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors_of(folder).values()) == 20
