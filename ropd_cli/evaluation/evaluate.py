"""One evaluation from its questions to its grades; the same again does what is not done yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

from ropd_cli.errors import RopdError
from ropd_cli.evaluation.grading import Grading
from ropd_cli.evaluation.samples import Benchmark
from ropd_cli.evaluation.sampling import Meter, draw, left_to_draw
from ropd_cli.evaluation.sources import Source
from ropd_cli.evaluation.store import EvalRun
from ropd_cli.stages.runner import Tally
from ropd_cli.util.progress import Progress


async def evaluate(
    run: EvalRun,
    benchmarks: Sequence[Benchmark],
    how: Mapping[str, Any],
    open_source: Callable[[], AbstractAsyncContextManager[Source]],
    meter: Meter,
    *,
    system_prompt: str | None = None,
    max_failed_fraction: float | None,
    progress: Progress,
) -> Tally:
    """Draw what is missing, grade it meanwhile, and return how the questions went.

    ``how`` is all that shapes an answer besides its messages; ``open_source`` is not called where nothing is left to
    draw. What was drawn before a fault is graded; then the fault is raised: what ``draw`` raises, or what ended the
    grading.
    """
    jobs = left_to_draw(run, benchmarks, how, system_prompt)
    async with AsyncExitStack() as stack:
        for benchmark in benchmarks:
            await stack.enter_async_context(benchmark.task)
        grading = await stack.enter_async_context(Grading(run, benchmarks))
        grading.add_ungraded()
        tally, fault = Tally(), None
        if jobs:
            try:
                async with open_source() as source:
                    tally = await draw(
                        run,
                        jobs,
                        source,
                        grading.add,
                        meter,
                        max_failed_fraction=max_failed_fraction,
                        progress=progress,
                    )
            except RopdError as caught:
                fault = caught
        await grading.finish(progress)
        if fault is not None:
            raise fault
    return tally
