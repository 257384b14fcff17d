"""The sizes of a decoder by its config.json: weights, cache and arithmetic per token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ropd_cli.engines.model_folder import local_folder, model_config, parameters

WITH_QKV_BIAS = ("qwen2", "qwen2_moe")
WITH_QK_NORM = ("qwen3", "qwen3_moe")


@dataclass(frozen=True)
class Shape:
    """A decoder of transformer layers with grouped attention and gated MLPs, dense or of experts."""

    layers: int
    hidden: int
    mlp: int
    """Width of one MLP, or of one expert."""
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    is_tied: bool = False
    """Whether the last layer's weights are those of the embedding."""
    experts: int = 1
    experts_at_once: int = 1
    biases: int = 0
    """Weights of a layer besides its matrices and its two norms."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape | None:
        """Return the shape that a config.json describes; None where it lacks a size or describes another kind."""
        config = config.get("text_config") or config
        kind = config.get("model_type")
        if "kv_lora_rank" in config or ("layer_types" in config and "linear_attention" in config["layer_types"]):
            return None
        experts = next((config[k] for k in ("num_experts", "num_local_experts") if config.get(k)), 1)
        try:
            heads: int = config["num_attention_heads"]
            kv_heads = config.get("num_key_value_heads") or heads
            head_dim = config.get("head_dim") or config["hidden_size"] // heads
            biases = (heads + 2 * kv_heads) * head_dim if kind in WITH_QKV_BIAS or config.get("attention_bias") else 0
            return cls(
                layers=config["num_hidden_layers"],
                hidden=config["hidden_size"],
                mlp=(config.get("moe_intermediate_size") if experts > 1 else None) or config["intermediate_size"],
                heads=heads,
                kv_heads=kv_heads,
                head_dim=head_dim,
                vocab=config["vocab_size"],
                is_tied=bool(config.get("tie_word_embeddings")),
                experts=experts,
                experts_at_once=config.get("num_experts_per_tok", 1) if experts > 1 else 1,
                biases=biases + (2 * head_dim if kind in WITH_QK_NORM else 0),
            )
        except (KeyError, TypeError):
            return None

    @property
    def attention(self) -> int:
        """Weights of a layer's four attention matrices."""
        return 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)

    def _layer(self, experts: int) -> int:
        router = self.hidden * self.experts if self.experts > 1 else 0
        return self.attention + 3 * self.hidden * self.mlp * experts + router + 2 * self.hidden + self.biases

    @property
    def embedding(self) -> int:
        """Weights of the embedding, and of the last layer's matrix."""
        return self.vocab * self.hidden

    @property
    def weights(self) -> int:
        """All weights."""
        return self.layers * self._layer(self.experts) + self.embedding * (1 if self.is_tied else 2) + self.hidden

    @property
    def multiplied(self) -> int:
        """Weights that a token is multiplied with: those of its experts, and the last layer; not the embedding."""
        return self.layers * self._layer(self.experts_at_once) + self.embedding

    @property
    def decoded(self) -> int:
        """Weights that a decoding step of many sequences reads: all but the embedding's."""
        return self.layers * self._layer(self.experts) + self.embedding

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values per token, in bfloat16."""
        return 2 * self.layers * self.kv_heads * self.head_dim * 2

    def forward_flops(self, length: float) -> float:
        """Return floating-point operations per token of a forward pass over a sequence of ``length`` tokens: two per
        weight, and two products of attention with half of the sequence on average."""
        return 2 * self.multiplied + 2 * self.layers * self.heads * self.head_dim * length


def weights_of(model_path: str | None, *, ask_hub: bool = False) -> int | None:
    """Return how many weights a model has, by its files or its config.json; None where neither is here."""
    folder = local_folder(model_path)
    counted = parameters(folder) if folder is not None else None
    if counted is None and (shape := Shape.of(model_config(model_path, ask_hub=ask_hub))) is not None:
        counted = shape.weights
    return counted
