"""How often the intervals of `ropd eval` hold the true value, beside a bootstrap over problems.

    python benchmarks/eval_coverage.py

One run: problems have a probability to be solved drawn from a population, n samples each; the true value is the
population's mean. Two runs (`ropd eval compare`): the log-odds of the second run's are higher by a fixed amount and by
chance, problem by problem; the true difference is that of the population. All intervals are said to hold the truth in
95% of the repetitions.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from judge_material import show, table

from ropd_cli.analysis.intervals import paired_difference, problem_mean

SCORES = {"any": (1.0, 1.0), "hard": (0.3, 1.7), "hardest": (0.1, 1.9), "easy": (9.0, 1.0)}
"""Beta distributions of a problem's probability to be solved."""
POPULATIONS = {
    "mixed": (0.0, 2.0, 0.5),
    "mixed, no difference": (0.0, 2.0, 0.0),
    "hard": (-3.0, 2.0, 0.5),
    "easy": (2.0, 2.0, 0.5),
    "easy or hopeless": (0.0, 4.0, 0.3),
}
"""Mean and deviation of the log-odds of a problem, and how much the second run's are higher."""
NOISE = 0.5
"""Deviation of the second run's log-odds from the first's, problem by problem."""


def score_coverage(
    problems: int, n: int, population: tuple[float, float], repeats: int, seed: int, draws: int
) -> dict[str, float]:
    """Shares of the repetitions whose interval holds the mean, by method; bootstrap only with ``draws``."""
    import numpy as np

    rng = np.random.default_rng(seed)
    true = population[0] / sum(population)
    ours = boot = 0
    for _ in range(repeats):
        values = rng.binomial(n, rng.beta(*population, problems)) / n
        interval = problem_mean(values.tolist())
        ours += interval.low <= true <= interval.high
        if draws:
            boot += _bootstrap(rng, values, draws, true)
    return {"true": true, "ours": ours / repeats} | ({"bootstrap": boot / repeats} if draws else {})


def _bootstrap(rng: Any, values: Any, draws: int, true: float) -> bool:
    """Whether the percentile bootstrap over problems holds the truth."""
    import numpy as np

    means = values[rng.integers(0, len(values), (draws, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return bool(low <= true <= high)


def coverage(
    problems: int, n: int, population: Sequence[float], repeats: int, seed: int, draws: int
) -> dict[str, float]:
    """Shares of the repetitions whose interval holds the true difference, by method; bootstrap only with ``draws``."""
    import numpy as np

    rng = np.random.default_rng(seed)
    mean, deviation, change = population

    def probabilities(count: int) -> tuple[Any, Any]:
        odds = rng.normal(mean, deviation, count)
        other = odds + change + rng.normal(0.0, NOISE, count)
        return 1 / (1 + np.exp(-odds)), 1 / (1 + np.exp(-other))

    first, second = probabilities(2_000_000)
    true = float((second - first).mean())
    ours = boot = 0
    for _ in range(repeats):
        first, second = probabilities(problems)
        before, after = (rng.binomial(n, each) / n for each in (first, second))
        interval = paired_difference((after - before).tolist(), n)
        ours += interval.low <= true <= interval.high
        if draws:
            boot += _bootstrap(rng, after - before, draws, true)
    return {"true": true, "ours": ours / repeats} | ({"bootstrap": boot / repeats} if draws else {})


def main() -> None:
    """The script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, nargs="+", default=[30, 200])
    parser.add_argument("--n", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=500, help="of a bootstrap; 0: leave it out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = {
        what: [
            {"problems": problems, "n": n, "population": name}
            | measure(problems, n, population, options.repeats, options.seed, options.draws)
            for problems in options.problems
            for n in options.n
            for name, population in populations.items()
        ]
        for what, measure, populations in (("score", score_coverage, SCORES), ("change", coverage, POPULATIONS))
    }
    show({"repeats": options.repeats, **found}, "\n\n".join(map(_table, found.items())), options.json)


def _table(part: tuple[str, list[dict[str, Any]]]) -> str:
    what, results = part
    head = ["problems", "n", "population", f"true {what}", "ours", "bootstrap"]
    lines = [
        [
            str(each["problems"]),
            str(each["n"]),
            each["population"],
            f"{each['true']:+.1%}",
            f"{each['ours']:.1%}",
            f"{each['bootstrap']:.1%}" if "bootstrap" in each else "–",
        ]
        for each in results
    ]
    return table(head, lines)


if __name__ == "__main__":
    main()
