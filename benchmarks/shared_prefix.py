"""How many prompt tokens a vLLM server computes in the form ``shared-prefix``, as a share of the form ``group``.

    ropd serve-judge --model MODEL                     # in another terminal; a context that holds a group
    python benchmarks/shared_prefix.py --base-url http://127.0.0.1:8710/v1 --model MODEL

Both forms' rubricator and verifier requests for groups of 4 teacher answers and 8 rollouts go to the server, a
group's verifier request after its rubricator request, as in training. What was computed is read from the server's
own counters, ``vllm:prefix_cache_queries`` less ``vllm:prefix_cache_hits``, which count tokens. Replies are cut
after one token; each form and each run has groups of its own, so that none finds another's. The share depends on
texts and templates, not on the model's weights.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import secrets
import urllib.request
from typing import Any

from judge_material import Texts, endpoint, rubric_record, show, table

from ropd_cli.config import JudgeConfig, SamplingConfig
from ropd_cli.llm.client import ChatClient, ChatRequest
from ropd_cli.records.schemas import Group
from ropd_cli.stages.rubricator import Rubricator
from ropd_cli.stages.verifier import Verifier

FORMS = ("group", "shared-prefix")


async def measure(url: str, model: str, groups: int, answer_bytes: int, at_once: int = 2) -> dict[str, Any]:
    """For each form the prompt tokens asked for and computed, and the share of ``shared-prefix`` in ``group``."""
    run = secrets.token_hex(4)
    found: dict[str, Any] = {"groups": groups, "answer_bytes": answer_bytes, "forms": {}}
    for seed, form in enumerate(FORMS):
        texts = Texts(answer_bytes, seed)
        asked, hits = prefix_counters(url)
        tokens = await _send([texts.group(f"{run} {form} {k}") for k in range(groups)], form, url, model, at_once)
        asked, hits = (now - before for now, before in zip(prefix_counters(url), (asked, hits), strict=True))
        found["forms"][form] = {"prompt_tokens": tokens, "asked": asked, "hits": hits, "computed": asked - hits}
    found["share"] = found["forms"]["shared-prefix"]["computed"] / found["forms"]["group"]["computed"]
    return found


def prefix_counters(url: str) -> tuple[int, int]:
    """Prompt tokens that the server looked up in its prefix cache, and those that it found, since its start."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/metrics", timeout=30) as response:
        text = response.read().decode()
    counted = []
    for name in ("queries", "hits"):
        values = re.findall(rf"^vllm:prefix_cache_{name}(?:_total)?(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        counted.append(int(sum(map(float, values))))  # an entry for each engine
    return counted[0], counted[1]


async def _send(groups: list[Group], form: str, url: str, model: str, at_once: int) -> int:
    """Send the requests of the groups, so many groups at once; their prompt tokens by the replies' own count."""
    settings = JudgeConfig(form=form)
    where = endpoint(url, at_once).model_copy(update={"model": model})
    rubricator, verifier = Rubricator(where, settings), Verifier(where, settings)
    free = asyncio.Semaphore(at_once)
    async with ChatClient.open(where, cache=None) as client, asyncio.TaskGroup() as tasks:

        async def one(group: Group) -> int:
            requests = [each.request for each in rubricator.requests(group)]
            requests += [one for each in verifier.requests(group, rubric_record(group)) for one in each.requests]
            total = 0
            async with free:
                for request in requests:
                    reply = await client.complete(_short(request))
                    assert reply.usage is not None
                    total += reply.usage.prompt_tokens
            return total

        running = [tasks.create_task(one(group)) for group in groups]
    return sum(task.result() for task in running)


def _short(request: ChatRequest) -> ChatRequest:
    """The same prompt; the reply does not matter."""
    return request.model_copy(update={"form": None, "sampling": SamplingConfig(max_tokens=1, temperature=0.0)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", required=True, help="of a vLLM server with prefix caching")
    parser.add_argument("--model", required=True, help="its name there")
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--answer-bytes", type=int, default=10_240)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = asyncio.run(measure(options.base_url, options.model, options.groups, options.answer_bytes))
    rows = [
        [form, *(figures[name] for name in ("prompt_tokens", "hits", "computed"))]
        for form, figures in found["forms"].items()
    ]
    text = table(["form", "prompt tokens", "found in the cache", "computed"], rows)
    show(found, f"{text}\n\ncomputed by shared-prefix, as a share of group: {found['share']:.3f}", options.json)


if __name__ == "__main__":
    main()
