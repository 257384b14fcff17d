"""A judge that follows rules, and a storm: the same judge on an endpoint that fails in one request of three.

server.default = Storm(rate=0.3, seed=7)
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from servers import Drop, Half, Hang, Reply, Status, Step

FAULTS = ("429", "500", "drop", "hang", "half response", "half JSON", "wrong count", "empty", "cut off")
WORDS = ("apple", "bridge", "candle", "desert", "engine", "forest", "garden", "harbour", "island", "jungle", "kettle")


class Storm:
    """A step: so often (``rate``) a fault, else what ``answer`` makes of the request's body.

    Which it is depends on the seed, on the request and on how often it came before, and on nothing else, so that
    a storm is the same however its requests are mixed. ``faults`` counts the faults by name.
    """

    def __init__(self, rate: float, seed: int, answer: Callable[[dict[str, Any]], str] | None = None) -> None:
        self.faults: Counter[str] = Counter()
        self._rate, self._seed, self._answer = rate, seed, answer or judge_by_rules
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, body: dict[str, Any]) -> Step:
        request = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        with self._lock:
            self._seen[request] += 1
            draw = random.Random(f"{self._seed} {request} {self._seen[request]}")
            if draw.random() >= self._rate:
                return Reply(self._answer(body))
            fault = draw.choice(FAULTS)
            self.faults[fault] += 1
        return storm_fault(fault, self._answer(body), draw)


def storm_fault(fault: str, text: str, draw: random.Random) -> Step:
    """One of FAULTS in the place of a right answer."""
    if fault == "429":
        spent = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20ms"}
        return Status(429, "slow down", retry_after=draw.choice(["0", "0.02", None]), headers=spent)
    if fault == "half JSON":
        return Reply(text[: int(len(text) * draw.uniform(0.1, 0.98))])
    if fault == "cut off":
        begun = text[: int(len(text) * draw.uniform(0.1, 1.0))]
        thought_better = f"{draft(text)}\n\nNo, that is wrong:\n\n"
        return Reply(draw.choice([begun, thought_better, thought_better + begun]), finish_reason="length")
    if fault == "wrong count":
        document = json.loads(text)
        rows = document.get("answers") or document["rubrics"]
        if draw.random() < 0.5:
            del rows[3 if "rubrics" in document else -1 :]  # three criteria are no rubric
        else:
            rows += [{**rows[-1], "answer_index": len(rows) + 1, "criterion_id": f"d{k}"} for k in range(6)]
        return Reply(json.dumps(document))
    steps = {"500": Status(500, "out of order"), "drop": Drop(), "hang": Hang(), "half response": Half(text)}
    return steps.get(fault, Reply(""))


def draft(text: str) -> str:
    """A reply of the right form that says the contrary."""
    document = json.loads(text)
    for row in document.get("answers", ()):
        row["judgement"] = [not met for met in row["judgement"]]
    for criterion in document.get("rubrics", ()):
        criterion["points"] = 6 - criterion["points"]
    return json.dumps(document)


def judge_by_rules(body: dict[str, Any]) -> str:
    """A judge's reply that follows from the request's text alone: eight criteria drawn by the question, each met by an
    answer that has a certain word in it."""
    text = user_text(body)
    tag = re.match(r"<question-([0-9a-f]+)>", text)[1]
    question, _, rest = text.partition(f"</question-{tag}>")
    answers = re.findall(rf'<answer-{tag} index="\d+">(.*?)</answer-{tag}>', rest, re.DOTALL)
    criteria = re.findall(r"Has the word “(\w+)”", rest.rpartition(f"</answer-{tag}>")[2])
    if not criteria:
        draw = random.Random(question.partition("\n")[2])
        rubrics = [
            {
                "criterion_id": f"c{k}",
                "category": "Task Completion",
                "criterion": f"Has the word “{word}”.",
                "points": p,
            }
            for k, (word, p) in enumerate(zip(draw.sample(WORDS, 8), draw.choices(range(1, 6), k=8), strict=True), 1)
        ]
        total = sum(row["points"] for row in rubrics)
        return json.dumps({"schema_version": "ropd.rubric.v1", "rubrics": rubrics, "maximum_score": total})
    rows = [
        {"answer_index": k, "judgement": [word in answer.split() for word in criteria], "final_score": 80}
        for k, answer in enumerate(answers, start=1)
    ]
    return json.dumps({"schema_version": "ropd.batch_verifier.v2", "answers": rows})


def user_text(body: dict[str, Any]) -> str:
    """The first user message of a Chat Completions or a Responses request."""
    asked = body["messages"] if "messages" in body else body["input"]
    if isinstance(asked, str):
        return asked
    content = next(message["content"] for message in asked if message["role"] == "user")
    return content if isinstance(content, str) else "".join(part["text"] for part in content)
