"""How many planted defects the linter finds, by kind, and how many good rubrics it blames.

    python benchmarks/lint_agreement.py                                       # the certain rules alone
    python benchmarks/lint_agreement.py --base-url http://127.0.0.1:8710/v1 --model MODEL   # and a lint judge

The cases are whole rubrics with question, verdicts and one planted defect each, and good ones. A defect counts as
found where a finding has its kind and, where it sits in certain criteria, exactly these; a good rubric is blamed where
there is any finding at all. A case of which the judge said nothing usable is missing: of it nothing is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from judge_material import show, table

from ropd_cli.config import EndpointConfig, JudgeConfig, LimitsConfig, SamplingConfig
from ropd_cli.errors import ProviderError
from ropd_cli.lint import RULES, Finding, Linted, lint
from ropd_cli.lint.model_judge import judge_lint, lint_template
from ropd_cli.llm.cache import ReplyCache
from ropd_cli.llm.client import ChatClient
from ropd_cli.records.schemas import Rubric

SETS = Path(__file__).parents[1] / "tests" / "unit" / "lint_cases"
Case = dict[str, Any]


def load_cases(files: Iterable[Path]) -> list[Case]:
    """Read the cases of these files that are whole rubrics."""
    lines = (line for file in files for line in file.read_text(encoding="utf-8").splitlines() if line)
    return [case for case in map(json.loads, lines) if "rubric" in case]


def linted(case: Case) -> Linted:
    """Return what the linter reads of a case."""
    return Linted(
        rubric=Rubric.model_validate(case["rubric"]),
        question=case["question"],
        answer=case["answer"],
        student_JK=tuple(map(tuple, case["student"])),
        teacher_JK=tuple(map(tuple, case["teacher"])),
    )


def is_found(case: Case, findings: Iterable[Finding]) -> bool:
    """Return whether the planted defect is among the findings."""
    wanted = set(case["criteria"])
    return any(each.rule == case["defect"] and (not wanted or set(each.criteria) == wanted) for each in findings)


def tally(cases: Sequence[Case], findings: Sequence[list[Finding] | None]) -> dict[str, Any]:
    """Count by kind what was planted and found, and the good rubrics that were blamed; None is a missing case."""
    planted, found, blamed = Counter[str](), Counter[str](), Counter[str]()
    good = blamed_rubrics = 0
    for case, some in zip(cases, findings, strict=True):
        if some is None:
            continue
        if "defect" in case:
            planted[case["defect"]] += 1
            found[case["defect"]] += is_found(case, some)
        else:
            good += 1
            blamed_rubrics += bool(some)
            blamed.update({each.rule for each in some})
    kinds = {name: {"planted": planted[name], "found": found[name], "blamed": blamed[name]} for name in RULES}
    return {
        "kinds": kinds,
        "planted": planted.total(),
        "found": found.total(),
        "good": good,
        "blamed": blamed_rubrics,
        "missing": sum(some is None for some in findings),
    }


async def judged(
    cases: Sequence[Case], endpoint: EndpointConfig, template: str, cache: ReplyCache | None
) -> tuple[list[list[Finding] | None], dict[str, Any]]:
    """Return what the lint judge finds in each case, None where it failed, and what its client did."""
    async with ChatClient.open(endpoint, cache=cache) as client:

        async def one(case: Case) -> list[Finding] | None:
            try:
                return await judge_lint(client, template, linted(case))
            except ProviderError:
                return None

        said = await asyncio.gather(*map(one, cases))
        return list(said), client.stats.as_dict()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="*", type=Path, help="files of cases (default: all that the tests have)")
    parser.add_argument("--limit", type=int, help="cases per file, the first")
    parser.add_argument("--model", help="ask this model too")
    parser.add_argument("--base-url", help="where")
    parser.add_argument("--api-key-env", default="OPENAI_API_KEY")
    parser.add_argument("--language", choices=("en", "zh"), default="en", help="of the judge's template")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--cache-dir", help="keep the replies there")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    files = options.sets or sorted(SETS.glob("*.jsonl"))
    cases = [case for file in files for case in load_cases([file])[: options.limit]]
    findings: list[list[Finding] | None] = [lint(linted(case)) for case in cases]
    stats: dict[str, Any] = {}
    if options.model or options.base_url:
        endpoint = EndpointConfig(
            model=options.model,
            base_url=options.base_url,
            api_key_env=options.api_key_env,
            sampling=SamplingConfig(temperature=0.0),
            limits=LimitsConfig(concurrency=options.concurrency),
        )
        cache = ReplyCache.open(options.cache_dir, None) if options.cache_dir else None
        template = lint_template(JudgeConfig(language=options.language))
        said, stats = asyncio.run(judged(cases, endpoint, template, cache))
        findings = [
            None if more is None else [*some, *more]
            for some, more in zip(findings, said, strict=True)
            if some is not None
        ]
        if cache is not None:
            cache.close()
    counts = tally(cases, findings)
    show({**counts, "judge": options.model, "stats": stats}, text_of(counts), options.json)


def text_of(counts: dict[str, Any]) -> str:
    """Return the counts as a table and a line."""
    rows = [[name, of["planted"], of["found"], of["blamed"]] for name, of in counts["kinds"].items()]
    lines = [
        table(["kind", "planted", "found", "good rubrics blamed"], rows),
        f"\n{counts['found']} of {counts['planted']} defects found, {counts['blamed']} of {counts['good']} good "
        f"rubrics blamed, {counts['missing']} cases missing",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
