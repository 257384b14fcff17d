"""A judge for ``ScriptedServer`` that reads requests of every form by the published tags and nothing else.

Its rubric has four criteria (5, 2, 2, 1 points): the answer holds "right", is short, holds a box, is polite. It keeps
what it was shown, so that tests can say what a setting changes in the requests.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass

from servers import Reply

WORDS = {"Holds the word right.": 5, "Is short.": 2, "Has a box.": 2, "Is polite.": 1}
WEIGHTS = tuple(WORDS.values())


def verdict(answer: str) -> list[bool]:
    """What the judge thinks of an answer, one value a criterion."""
    return ["right" in answer, len(answer) < 40, "box" in answer, "rude" not in answer]


def score(answer: str) -> float:
    """The score by these verdicts, as it should come out."""
    return sum(w for w, v in zip(WEIGHTS, verdict(answer), strict=True) if v) / sum(WEIGHTS)


@dataclass(frozen=True)
class Seen:
    """One request, read."""

    role: str
    text: str
    """Of the user's message."""
    system: str
    tag: str
    question: str
    answers: tuple[str, ...]
    inside: dict[str, str]
    """By name what stands between other tags of the group ("references", "judged", "rubric" …)."""
    body: dict

    def numbers(self, name: str) -> list[int]:
        return [int(k) for k in re.findall(r"\d+", self.inside.get(name, ""))]

    @property
    def told(self) -> set[str]:
        """The answers that the request says are the teacher's."""
        return {self.answers[k - 1] for k in self.numbers("references")}

    @property
    def frame(self) -> str:
        """The message without the question and the answers, and without the tag."""
        text = re.sub(rf"<(question|answer)-{self.tag}.*</\1-{self.tag}>", "…", self.text, flags=re.DOTALL)
        return text.replace(self.tag, "TAG")


def read(body: dict) -> Seen:
    """A request by the published format."""
    text = body["messages"][-1]["content"]
    tag = re.search(r"<question-([0-9a-f]{16})>\n", text)[1]
    found = re.findall(rf'<answer-{tag} index="(\d+)">(.*?)</answer-{tag}>', text, re.DOTALL)
    assert [int(k) for k, _ in found] == list(range(1, len(found) + 1))
    name = body["response_format"]["json_schema"]["name"]
    return Seen(
        role={"ropd_rubric": "rubricator", "ropd_verdicts": "verifier", "ropd_scores": "scorer"}[name],
        text=text,
        system=body["messages"][0]["content"] if len(body["messages"]) > 1 else "",
        tag=tag,
        question=re.search(rf"<question-{tag}>\n(.*?)\n</question-{tag}>", text, re.DOTALL)[1],
        answers=tuple(answer for _, answer in found),
        inside=dict(re.findall(rf"<([a-z]+)-{tag}>(.*?)</\1-{tag}>", text, re.DOTALL)),
        body=body,
    )


class Reader:
    """The judge. ``lies(seen, answer, nth)`` may say another verdict for the nth time that a question is asked;
    ``refuses(seen)`` may give a step of the server's instead; ``own_rubrics``: the rubric names what it was for."""

    def __init__(self, lies=lambda seen, answer, nth: None, refuses=lambda seen: None, own_rubrics=False):
        self.own_rubrics = own_rubrics
        self.seen: list[Seen] = []
        self.lies, self.refuses = lies, refuses
        self._lock = threading.Lock()

    def of(self, role: str) -> list[Seen]:
        return [each for each in self.seen if each.role == role]

    def __call__(self, body):
        seen = read(body)
        with self._lock:
            nth = sum(each.text == seen.text for each in self.seen)
            self.seen.append(seen)
        refusal = self.refuses(seen)
        if refusal is not None:
            return refusal
        if seen.role == "rubricator":
            references = seen.numbers("references")
            others = [a for k, a in enumerate(seen.answers, start=1) if k not in references]
            more = f" Told in {seen.tag} as for {others[0]}" if self.own_rubrics else ""
            rubrics = [
                {"criterion_id": f"c{k}", "category": "Task Completion", "criterion": words + more, "points": points}
                for k, (words, points) in enumerate(WORDS.items(), start=1)
            ]
            return Reply(json.dumps({"schema_version": "ropd.rubric.v1", "rubrics": rubrics, "maximum_score": 10}))
        numbers = seen.numbers("judged") or range(1, len(seen.answers) + 1)
        rows = []
        for k in numbers:
            answer = seen.answers[k - 1]
            judgement = self.lies(seen, answer, nth) or verdict(answer)
            rows.append({"answer_index": k, "judgement": judgement, "final_score": 80})
        return Reply(json.dumps({"schema_version": "ropd.batch_verifier.v2", "answers": rows}))
