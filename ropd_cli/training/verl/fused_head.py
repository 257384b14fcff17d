"""A repair of verl 0.9.1, loaded in its workers by ``actor_rollout_ref.model.external_lib``.

FSDP2 gets an untied last layer as a unit of its own, and the fused kernels read its weights without calling it, which
finds them split (``aten.mm.default got mixed torch.Tensor and DTensor``). Left to the root's unit they are whole there.
Upstream: https://github.com/verl-project/verl/pull/7427.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from verl.utils import fsdp_utils

_select = fsdp_utils._select_fsdp2_wrap_targets


@wraps(_select)
def without_last_layer(model: Any, layers: list[str]) -> list[Any]:
    """Return the modules that become units of FSDP2, without the last layer."""
    last = model.get_output_embeddings()
    return [module for module in _select(model, layers) if module is not last]


fsdp_utils._select_fsdp2_wrap_targets = without_last_layer
