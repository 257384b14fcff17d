"""The OpenAI Batch API: many requests handed over in a file, answered within a day, at half the price.

A batch fills the reply cache, under the keys that ordinary requests have: the ordinary stage then finds the replies
there. ``api`` speaks HTTP, ``state`` is what is remembered beside the output, ``submission`` hands over and collects.
"""

from ropd_cli.llm.batch.state import BatchState, state_path
from ropd_cli.llm.batch.submission import BatchFiller, Standing

__all__ = ["BatchFiller", "BatchState", "Standing", "state_path"]
