"""Tiny groups to try judges on, and what a group of a configuration takes of them.

The questions are sums and the criteria are sentences that the built-in provider's rules read too.
"""

from __future__ import annotations

import secrets
from functools import partial

from ropd_cli.config import EndpointConfig, RopdConfig
from ropd_cli.doctor.targets import Question
from ropd_cli.llm.chat import ChatReply, ChatRequest, JsonSchema, endpoint_request
from ropd_cli.method.groups import given_rubric
from ropd_cli.method.replies import CATEGORIES
from ropd_cli.methods import method_of
from ropd_cli.methods.scored import Scored
from ropd_cli.records.schemas import Answer, Criterion, Group, Message, Rubric, RubricRecord, prompt_hash
from ropd_cli.stages.rubricator import Rubricator, read_rubric
from ropd_cli.stages.scorer import Scorer, ScoreRequest
from ropd_cli.stages.verifier import Verifier

SUMS = ((17, 25), (38, 14), (9, 46), (23, 58), (61, 12))
VOTES = 3
"""Times that each verdict is asked for."""
_CRITERIA = (
    (5, "The final result that the answer states is {result}."),
    (2, "The value {result} appears in the answer."),
    (2, "The final result is a number near {result}: off by at most 2 or one part in 10."),
    (1, "The answer states one result and no other that contradicts it."),
    (1, "The answer ends once its result is stated: nothing comes after it."),
    (1, "The answer has at most 60 words."),
)


def groups() -> list[Group]:
    """Return five groups of two teacher answers and three rollouts, one of them right."""
    return [_group(number, *numbers) for number, numbers in enumerate(SUMS)]


def questions(config: RopdConfig, role: str, endpoint: EndpointConfig) -> list[Question]:
    """Return what a judge is asked about the sample groups, as the configuration lays it out: a rubric of each, or
    the verdicts on each VOTES times over; for a method without rubrics scores, as rows of one."""
    if role == "rubricator":
        rubricator = Rubricator(endpoint, config.judge.model_copy(update={"rubrics": "induced"}))
        return [(each.request, read_rubric) for group in groups() for each in rubricator.requests(group)[:1]]
    settings, method = config.judge.model_copy(update={"repeats": VOTES}), method_of(config)
    if isinstance(method, Scored):
        scorer = Scorer(endpoint, settings, config.score, method.top)
        asked = [scorer.requests(group)[0] for group in groups()]
        return [(request, partial(_score_rows, each)) for each in asked for request in each.requests]
    verifier = Verifier(endpoint, settings)
    layouts = [verifier.requests(group, _rubric(group, config))[0] for group in groups()]
    return [(request, each.read) for each in layouts for request in each.requests]


def _score_rows(asked: ScoreRequest, reply: ChatReply) -> tuple[tuple[int | None], ...]:
    return tuple([(score,) for score in asked.read(reply)])


def calls_a_group(config: RopdConfig) -> tuple[int, int]:
    """Return the requests to (rubricator, verifier) that a group of this configuration takes."""
    method = method_of(config)
    one = groups()[0]
    rollouts = tuple(Answer(text=f"It is {number}.") for number in range(config.rollout.n))
    teacher = tuple(f"The result is {number}." for number in range(config.judge.m))
    group = one.model_copy(update={"rollouts": rollouts, "teacher_answers": teacher})
    anyone = {role: EndpointConfig(model="m") for role in ("rubricator", "verifier")}
    asked = method.requests(config.model_copy(update=anyone), [group])
    return len(asked.get("rubricator", ())), len(asked.get("verifier", ()))


def hello(endpoint: EndpointConfig) -> ChatRequest:
    """Return a question with a short answer."""
    message = Message(role="user", content="What is 2 + 2? Answer with the number only.")
    return endpoint_request(endpoint, (message,))


def forced(endpoint: EndpointConfig) -> tuple[ChatRequest, str]:
    """Return a request whose schema allows one word that nobody could guess, and the word: an endpoint that enforces
    schemas answers it."""
    word = f"w{secrets.token_hex(6)}"
    body = {
        "type": "object",
        "properties": {"word": {"type": "string", "enum": [word]}},
        "required": ["word"],
        "additionalProperties": False,
    }
    messages = (Message(role="user", content='Name a fruit, as JSON: {"word": "…"}'),)
    return endpoint_request(endpoint, messages, JsonSchema(name="ropd_word", body=body)), word


def _group(number: int, a: int, b: int) -> Group:
    prompt = (Message(role="user", content=f"What is {a} + {b}?"),)
    right = a + b
    return Group(
        uid=f"doctor-{number}",
        prompt=prompt,
        raw_prompt_hash=prompt_hash(prompt),
        teacher_answers=(f"{a} + {b} = {right}. The result is {right}.", f"Adding {a} and {b} gives {right}."),
        rollouts=(
            Answer(text=f"{right}"),
            Answer(text=f"The result is {right + 10}. I am not quite sure of that, though."),
            Answer(text=f"{a} + {b} = {right - 1}"),
        ),
        answer=str(right),
    )


def _rubric(group: Group, config: RopdConfig) -> RubricRecord:
    result = group.answer or ""
    criteria = tuple(
        Criterion(
            criterion_id=f"c{k}", category=CATEGORIES[0], criterion=text.replace("{result}", result), points=points
        )
        for k, (points, text) in enumerate(_CRITERIA, start=1)
    )
    rubric = Rubric(rubrics=criteria, maximum_score=sum(points for points, _ in _CRITERIA))
    return given_rubric(group, rubric, config.judge)
