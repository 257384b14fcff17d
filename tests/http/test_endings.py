"""How replies end, how their tokens are counted, and where their text stands, over real sockets: each case is what one
kind of server sends."""

import json
import subprocess
import sys

import pytest
from servers import Raw, Reply

from ropd_cli.config import EndpointConfig
from ropd_cli.config.models import PriceConfig
from ropd_cli.errors import ProviderBusy, ReplyInvalid
from ropd_cli.llm.chat import ChatRequest, JsonSchema
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.money import Budget
from ropd_cli.llm.retry import NO_WAIT
from ropd_cli.llm.shared import Shared
from ropd_cli.records.schemas import Message, prompt_hash

FORM = JsonSchema(name="numbers", schema={"type": "object"})
WHOLE, CUT, REFUSED, BROKEN = "stop", "length", "content_filter", "error"
ENDINGS = [
    ("stop", WHOLE),  # OpenAI
    ("tool_calls", WHOLE),
    ("end_turn", WHOLE),  # Anthropic
    ("STOP", WHOLE),  # Gemini
    ("FinishReason.STOP", WHOLE),
    ("eos_token", WHOLE),  # TGI
    ("eos", WHOLE),  # Together
    ("COMPLETE", WHOLE),  # Cohere
    ({"type": "stop", "matched": 2}, WHOLE),  # SGLang
    ("stop: a stop string", WHOLE),
    (None, WHOLE),
    ("", WHOLE),
    ("length", CUT),
    ("max_tokens", CUT),
    ("MAX_TOKENS", CUT),
    ("FinishReason.MAX_TOKENS", CUT),
    ("FINISH_REASON_MAX_TOKENS", CUT),
    ("max_output_tokens", CUT),
    ("model_length", CUT),  # Mistral
    ("model_context_window_exceeded", CUT),  # Anthropic, Zhipu
    ("contextLengthReached", CUT),  # LM Studio
    ("ERROR_LIMIT", CUT),  # Cohere
    ({"type": "length", "length": 20}, CUT),
    ("pause_turn", CUT),
    ("something_new", CUT),
    ("content_filter", REFUSED),
    ("SAFETY", REFUSED),
    ("RECITATION", REFUSED),
    ("PROHIBITED_CONTENT", REFUSED),
    ("refusal", REFUSED),
    ("sensitive", REFUSED),  # Zhipu
    ("guardrail_intervened", REFUSED),  # Bedrock
    ("ERROR_TOXIC", REFUSED),
    ("error", BROKEN),
    ("abort", BROKEN),  # vLLM, SGLang
    ("network_error", BROKEN),  # Zhipu
    ("insufficient_system_resource", BROKEN),  # DeepSeek
    ("MALFORMED_FUNCTION_CALL", BROKEN),
    ("OTHER", BROKEN),
    ("cancelled", BROKEN),
    ("error (upstream timed out)", BROKEN),
]


def ask(text="What is 17 + 25?", **more):
    return ChatRequest(messages=(Message(role="user", content=text),), model="m", **more)


def opened(server, *, api="chat", shared=None, retry=NO_WAIT):
    endpoint = EndpointConfig(model="m", base_url=server.url, api=api)
    return ChatClient.open(endpoint, cache=None, retry=retry, environ={}, shared=shared)


def raw(**document):
    return Raw(json.dumps(document).encode())


def chat(message, **choice):
    return raw(choices=[{"message": message, "finish_reason": "stop", **choice}])


@pytest.mark.parametrize(("word", "ending"), ENDINGS, ids=lambda value: str(value)[:30])
async def test_every_word_is_one_of_four_endings(server, word, ending):
    said = []
    server.script(Reply("half", finish_reason=word), Reply("42"))
    async with opened(server, shared=Shared(say=said.append)) as client:
        reply = await client.complete(ask())
    if ending == BROKEN:  # asked again
        assert (reply.text, reply.finish_reason, len(server.requests)) == ("42", WHOLE, 2)
    else:
        assert (reply.text, reply.finish_reason) == ("" if ending == REFUSED else "half", ending)
    assert [text.partition("ended with ")[2] for text in said] == (
        ["'something_new', which is not known here: such replies count as cut off"] if word == "something_new" else []
    )


async def test_an_unknown_word_is_said_once(server):
    said = []
    server.default = Reply("half", finish_reason="something_new")
    async with opened(server, shared=Shared(say=said.append)) as client:
        for number in range(3):
            await client.complete(ask(sample=number))
    assert len(said) == 1


@pytest.mark.parametrize(
    ("choice", "text", "ending"),
    [
        ({"native_finish_reason": "MAX_TOKENS"}, "half", CUT),  # OpenRouter
        ({"native_finish_reason": "their own"}, "half", WHOLE),
        ({"stop_reason": "max_tokens"}, "half", CUT),
        ({"stop_reason": 128009}, "half", WHOLE),  # vLLM: the token that stopped it
        ({"finishReason": "MAX_TOKENS", "finish_reason": None}, "half", CUT),
        ({"finish_details": {"type": "max_tokens"}, "finish_reason": None}, "half", CUT),
        ({"truncated": True}, "half", CUT),
        ({"content_filter_results": {"violence": {"filtered": True, "severity": "high"}}}, "", REFUSED),
        ({"content_filter_results": {"violence": {"filtered": False}}}, "half", WHOLE),
        ({"message": {"content": [{"type": "refusal", "refusal": "I can't help."}]}}, "", REFUSED),
        ({"message": {"content": "half", "refusal": "I can't help with that."}}, "", REFUSED),
        ({"message": {"content": None, "refusal": "I can't help with that."}}, "", REFUSED),
        ({"message": {"content": None, "refusal": [{"type": "text", "text": "no"}]}}, "", REFUSED),
    ],
)
async def test_what_else_of_a_choice_tells_its_end(server, choice, text, ending):
    server.default = raw(choices=[{"message": {"content": "half"}, "finish_reason": "stop", **choice}])
    async with opened(server) as client:
        reply = await client.complete(ask())
    assert (reply.text, reply.finish_reason) == (text, ending)


@pytest.mark.parametrize(
    ("status", "reason", "item", "ending"),
    [
        ("completed", None, {}, WHOLE),
        ("incomplete", "max_output_tokens", {}, CUT),
        ("incomplete", "max_tokens", {}, CUT),
        ("incomplete", None, {}, CUT),
        ("incomplete", "content_filter", {}, REFUSED),
        ("completed", None, {"status": "incomplete"}, CUT),
        ("completed", None, {"content": [{"type": "refusal", "refusal": "I can't help."}]}, REFUSED),
        ("failed", None, {}, BROKEN),
        ("in_progress", None, {}, BROKEN),
        ("cancelled", None, {}, BROKEN),
    ],
)
async def test_endings_of_responses(server, status, reason, item, ending):
    message = {"type": "message", "content": [{"type": "output_text", "text": "half"}], **item}
    details = None if reason is None else {"reason": reason}
    server.default = raw(status=status, incomplete_details=details, output=[message])
    async with opened(server, api="responses") as client:
        if ending == BROKEN:
            with pytest.raises(ProviderBusy, match=f"broke the reply off \\({status}\\)"):
                await client.complete(ask(api="responses"))
            return
        reply = await client.complete(ask(api="responses"))
    assert (reply.text, reply.finish_reason) == ("" if ending == REFUSED else "half", ending)


async def test_comments_before_the_answer_of_responses_are_none_of_it(server):
    parts = ["I'll work on it.", "42"]
    messages = [{"type": "message", "content": [{"type": "output_text", "text": part}]} for part in parts]
    server.default = raw(status="completed", output=messages)
    async with opened(server, api="responses") as client:
        assert (await client.complete(ask(api="responses"))).text == "42"


async def test_an_error_beside_a_choice_is_the_error(server):
    choices = [{"message": {"content": "half"}, "finish_reason": None}]
    server.script(raw(choices=choices, error={"code": 502, "message": "Provider returned error"}), Reply("42"))
    async with opened(server) as client:
        assert (await client.complete(ask())).text == "42"


async def test_a_reply_that_was_broken_off_is_paid_for(server):
    server.default = Reply("half", finish_reason="abort", usage={"prompt_tokens": 40, "completion_tokens": 1000})
    shared = Shared(Budget({"m": PriceConfig(input=0.0, output=1e6)}))
    async with opened(server, shared=shared) as client:
        with pytest.raises(ProviderBusy):
            await client.complete(ask())
    assert shared.budget.spent_usd == 6 * 1000


async def test_comments_of_a_gateway_before_the_document_are_passed_over(server):
    document = json.dumps({"choices": [{"message": {"content": "42"}, "finish_reason": "stop"}]}).encode()
    server.default = Raw(b": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n" + document)
    async with opened(server) as client:
        assert (await client.complete(ask())).text == "42"


@pytest.mark.parametrize("word", ["MAX_TOKENS", "something_new", "SAFETY"])
async def test_half_a_judgement_is_none(server, word):
    server.default = Reply('{"a": 1}', finish_reason=word)
    async with opened(server) as client:
        with pytest.raises(ReplyInvalid, match="refused" if word == "SAFETY" else "cut off"):
            await client.complete(ask(form=FORM))
    assert len(server.requests) == (1 if word == "SAFETY" else 6)


async def test_one_of_several_that_broke_off_is_asked_for_again(server):
    choices = [{"message": {"content": f"answer {k}"}, "finish_reason": "stop"} for k in range(3)]
    choices[1]["finish_reason"] = "abort"
    server.script(raw(choices=choices))
    server.default = Reply("again")
    async with opened(server) as client:
        replies = await client.samples([ask(sample=k) for k in range(3)])
    assert sorted(reply.text for reply in replies) == ["again", "answer 0", "answer 2"]


USAGE = [  # what a server counts, what it comes to (prompt, reply, cached)
    ({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}, (9, 5, 0)),
    ({"input_tokens": 9, "output_tokens": 5}, (9, 5, 0)),
    ({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 314}, (9, 305, 0)),  # Gemini
    (  # Grok
        {"prompt_tokens": 9, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 300}},
        (9, 305, 0),
    ),
    (  # OpenAI: thinking is part of the reply
        {"prompt_tokens": 9, "completion_tokens": 305, "completion_tokens_details": {"reasoning_tokens": 300}},
        (9, 305, 0),
    ),
    ({"prompt_tokens": 9, "completion_tokens": 5, "prompt_cache_hit_tokens": 4}, (9, 5, 4)),  # DeepSeek
    ({"prompt_tokens": 3, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 6}}, (9, 5, 6)),
    ({"prompt_tokens": 9.0, "completion_tokens": 5.0}, (9, 5, 0)),
    ({"prompt_tokens": 0, "completion_tokens": 0}, None),
    ({"prompt_tokens": 9, "completion_tokens": 0}, (9, 4, 0)),  # by the text: "forty-two"
    ({"prompt_tokens": -1, "completion_tokens": 5}, None),
    ({"prompt_tokens": 10**12, "completion_tokens": 5}, None),
    ({"prompt_tokens": 9, "completion_tokens": 10**12}, (9, 4, 0)),
    ({"prompt_tokens": "9", "completion_tokens": True}, None),
    ({"prompt_tokens": None, "completion_tokens": 5}, None),
    ([], None),
]


@pytest.mark.parametrize(("usage", "counted"), USAGE)
async def test_tokens_that_can_be_right(server, usage, counted):
    server.default = raw(choices=[{"message": {"content": "forty-two"}, "finish_reason": "stop"}], usage=usage)
    shared = Shared(Budget({"m": PriceConfig(input=1e6, output=1e6)}))  # a dollar a token
    async with opened(server, shared=shared) as client:
        found = (await client.complete(ask())).usage
    if counted is None:
        assert found is None
        assert shared.budget.spent_usd > 9  # estimated
    else:
        assert (found.prompt_tokens, found.completion_tokens, found.cached_tokens) == counted
        assert shared.budget.spent_usd == counted[0] + counted[1]


WORDS = "The teacher wrote an answer with several steps. "


@pytest.mark.parametrize(
    ("prompt", "first", "second", "is_cut"),
    [
        (WORDS * 1600, 12, 2050, True),
        (WORDS * 1600, 2050, 2050, True),  # every count is that of the context
        (WORDS * 1600, 12, 17_000, False),
        (WORDS * 1600, 900, 900, False),  # a made-up count: nothing goes by the length
        ("f(x)=3; " * 9000, 12, 2050, True),
        ("答案是四十二。" * 3000, 12, 2050, True),
        ("答案是四十二。" * 3000, 12, 12_000, False),
        ("x" * 77_000, 12, 2050, False),  # the same letter again and again is few tokens
    ],
)
async def test_a_prompt_that_the_server_cut_is_refused(server, prompt, first, second, is_cut):
    for number in (first, second):
        server.script(Reply("42", usage={"prompt_tokens": number, "completion_tokens": 3}))
    async with opened(server) as client:
        await client.complete(ask("What is 17 + 25, and why?"))
        if is_cut:
            with pytest.raises(ReplyInvalid, match="read 2050 tokens of a prompt of .. kB: it cut the prompt") as fault:
                await client.complete(ask(prompt))
            assert "OLLAMA_CONTEXT_LENGTH" in fault.value.hint
        else:
            assert (await client.complete(ask(prompt))).text == "42"


OBJECT = '{"a": 1}'
PLACES = [  # where servers put the text: a message, the text for free text, the text where JSON is asked for
    ({"content": [{"type": "text", "text": "4"}, {"type": "text", "text": "2"}]}, "42", None),
    (
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"text": OBJECT}]},
        OBJECT,
        OBJECT,
    ),
    ({"content": {"type": "text", "text": OBJECT}}, OBJECT, OBJECT),
    ({"content": {"a": 1}}, '{"a":1}', '{"a":1}'),
    ({"content": None, "reasoning_content": OBJECT}, "", OBJECT),
    ({"content": "", "reasoning": f"So the object is\n{OBJECT}"}, "", f"So the object is\n{OBJECT}"),
    ({"content": None, "tool_calls": [{"function": {"name": "json", "arguments": OBJECT}}]}, "", OBJECT),
    ({"content": None, "tool_calls": [{"function": {"name": "json", "arguments": {"a": 1}}}]}, "", '{"a":1}'),
    ({"content": None, "function_call": {"name": "json", "arguments": OBJECT}}, "", OBJECT),
    ({"content": "Let me compute that.", "tool_calls": [{"function": {"name": "calc", "arguments": "{}"}}]}, "", None),
    ({"content": OBJECT, "tool_calls": []}, OBJECT, OBJECT),
    ({"content": None, "reasoning_content": "I think of {"}, "", None),
]


@pytest.mark.parametrize("form", [None, FORM], ids=["text", "json"])
@pytest.mark.parametrize(("message", "text", "json_text"), PLACES)
async def test_where_the_text_stands(server, message, text, json_text, form):
    server.default = chat(message)
    async with opened(server) as client:
        if form is None:
            assert (await client.complete(ask())).text == text
        elif json_text is None:
            with pytest.raises(ReplyInvalid):
                await client.complete(ask(form=form))
        else:
            assert (await client.complete(ask(form=form))).text == json_text


def ropd(*arguments):
    return subprocess.run([sys.executable, "-m", "ropd_cli", *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture
def prompts(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"uid": "a", "prompt": "What is 17 + 25?", "answer": "42"}\n')
    return file


@pytest.mark.parametrize(
    ("step", "status", "words"),
    [
        (Reply("half", finish_reason="MAX_TOKENS"), 1, "were cut off by the token limit"),
        (Reply("I can't help", finish_reason="SAFETY"), 1, "were refused (content filter)"),
        (chat({"content": None, "refusal": "I can't help"}), 1, "were refused (content filter)"),
        (Reply("half", finish_reason="abort"), 4, "broke the reply off (abort)"),
    ],
    ids=["cut", "filtered", "refusal", "broken"],
)
def test_half_a_text_is_no_teacher_answer(server, tmp_path, prompts, step, status, words):
    server.default = step
    out = tmp_path / "answers.jsonl"
    to = ("--base-url", server.url, "--model", "m", "--set", "teacher.limits.max_retries=0", "--no-cache")
    done = ropd("teacher-gen", prompts, "--out", out, "-m", 1, *to)
    assert (done.returncode, words in done.stderr) == (status, True), done.stderr
    assert "raise --temperature" not in done.stderr
    assert not out.exists() or not out.read_text()


def test_halves_are_not_served_under_a_higher_limit(server, tmp_path, prompts):
    server.default = Reply("half", finish_reason="MAX_TOKENS")
    to = ("--base-url", server.url, "--model", "m", "--cache-dir", tmp_path / "cache", "-m", 1)
    ropd("teacher-gen", prompts, "--out", tmp_path / "a.jsonl", "--max-tokens", 100, *to)
    server.default = Reply("whole")
    done = ropd("teacher-gen", prompts, "--out", tmp_path / "b.jsonl", "--max-tokens", 1000, *to)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "b.jsonl").read_text())["answers"][0]["text"] == "whole"


@pytest.mark.parametrize(("word", "status"), [("SAFETY", 1), ("length", 0)])
def test_a_filter_makes_no_rollout(server, tmp_path, prompts, word, status):
    server.default = Reply("half", finish_reason=word)
    out = tmp_path / "rollouts.jsonl"
    done = ropd("rollout", prompts, "--out", out, "-n", 2, "--base-url", server.url, "--model", "m", "--no-cache")
    assert done.returncode == status, done.stderr
    if status:
        assert "were refused (content filter)" in done.stderr
    else:
        assert [one["finish_reason"] for one in json.loads(out.read_text())["answers"]] == [CUT, CUT]


def test_words_of_other_tools_in_an_index(tmp_path):
    answers = [
        {"text": f"answer {word}", "finish_reason": word} for word in ("end_turn", "MAX_TOKENS", "SAFETY", "new", None)
    ]
    record = {"uid": "a", "prompt": "p", "answers": answers, "model": "m", "raw_prompt_hash": prompt_hash("p")}
    (tmp_path / "answers.jsonl").write_text(json.dumps(record) + "\n")
    done = ropd("index", "build", tmp_path / "answers.jsonl", "--out", tmp_path / "index", "--json")
    assert done.returncode == 0, done.stderr
    shown = ropd("index", "get", tmp_path / "index", "--uid", "a", "--json")
    usable = [one["text"] for one in json.loads(shown.stdout)["answers"] if one["usable"]]
    assert sorted(usable) == ["answer None", "answer end_turn"]
