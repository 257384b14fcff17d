"""Which m of more than m answers a step uses.

The answers of a prompt are put in an order that is drawn by (seed, uid): by the SHA-256 of both and of the answer's
text. Epoch e takes m of them from place e * m on, around the end, so that over the epochs all are used equally
often. Nothing else matters: not the process, not the order of the files, not the other prompts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def chosen(digests: Sequence[bytes], m: int, *, seed: int, uid: str, epoch: int) -> list[int]:
    """Return the positions of the answers that are used, ascending, shape (min(m, count),)."""
    count = len(digests)
    if count <= m:
        return list(range(count))
    head = f"{seed}\0{uid}\0".encode()
    order = sorted(range(count), key=lambda k: hashlib.sha256(head + digests[k]).digest())
    return sorted(order[(epoch * m + place) % count] for place in range(m))
