"""Where thinking ends and the answer begins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropd_cli.answers.thinking import THINKING_TAGS, answer_of, canonical, opening_tag, sampled, split_thinking


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("4", "", "4"),
        ("<think>2+2</think>4", "2+2", "4"),
        ("<think>\n2+2\n</think>\n\n4\n", "2+2", "\n\n4\n"),
        ("2+2</think>4", "2+2", "4"),  # the template wrote the opening tag
        ("<think>a</think>no<think>b</think>4", "a</think>no<think>b", "4"),  # the last one counts
        ("", "", None),
        (" \n\t", "", None),
        ("<think></think>", "", None),
        ("<think>2+2</think>  \n", "2+2", None),
        ("<think>2+2 is", "2+2 is", None),  # cut off
        ("<think>a</think>4 <think>or", "a</think>4 <think>or", None),  # cut off in a second thought
        ("so far <think>2+2", "so far <think>2+2", None),
    ],
)
def test_split(text, thinking, answer):
    assert split_thinking(text) == (thinking, answer)
    assert answer_of(text) == answer


class Pieces:
    """A tokenizer whose tokens are the pieces of a text, numbered."""

    def __init__(self, *pieces, special=()):
        self.pieces = pieces
        self.ids = list(range(len(pieces)))
        self.all_special_tokens = list(special)

    def decode(self, token_ids, *, skip_special_tokens=False):
        hidden = self.all_special_tokens if skip_special_tokens else ()
        return "".join(piece for number in token_ids if (piece := self.pieces[number]) not in hidden)


def recorded(prompt, reply, special=(), tags=THINKING_TAGS):
    """What is recorded of a reply to a prompt, both in pieces."""
    tokenizer = Pieces(*prompt, *reply, special=special)
    ids = tokenizer.ids[len(prompt) :]
    text = tokenizer.decode(ids, skip_special_tokens=True)
    return sampled(text, ids, tokenizer.ids[: len(prompt)], tokenizer, tags)


OPENING = [
    Pieces("4 + 4?", "<|assistant|>", "<think>"),
    Pieces("4 + 4?", "<|assistant|>", "<think>\n"),
    Pieces("4 + 4?", "<|assistant|>", "<think>", "\n"),
    Pieces("4 + 4?", "<|assistant|>", "<", "th", "ink", ">", "\n", "\n"),
]


@pytest.mark.parametrize("tokenizer", OPENING, ids=lambda each: each.decode(each.ids[2:]))
def test_a_template_that_opens_the_thinking(tokenizer):
    cut_off, whole = (recorded(tokenizer.pieces, [text]) for text in ("4 + 4 is", "4 + 4 is\n</think>\n8"))
    assert split_thinking(cut_off) == ("4 + 4 is", None)
    assert split_thinking(whole) == ("4 + 4 is", "\n8")


@pytest.mark.parametrize("end", [["<|assistant|>"], ["<think>", "\n\n", "</think>", "\n\n"], ["<think>", "so"], []])
def test_a_template_that_does_not(end):
    assert recorded(end, ["8"]) == "8"


@given(st.text(), st.text().filter(str.strip))
def test_only_what_follows_the_last_tag(thoughts, answer):
    if "<think>" in answer or "</think>" in answer:
        return
    assert split_thinking(f"<think>{thoughts}</think>{answer}")[1] == answer
    assert split_thinking(f"<think>{thoughts.replace('</think>', '')}{answer}")[1] is None


ANALYSIS, FINAL = "<|channel|>analysis<|message|>", "<|channel|>final<|message|>"
TURN = "<|end|><|start|>assistant"
OTHERS = [pair for pair in THINKING_TAGS if pair[0] != "<think>"]


@pytest.mark.parametrize(("begin", "end"), OTHERS)
def test_every_tag(begin, end):
    """Whole, after white space, opened by the template, cut off, opened and cut off, and shown by an answer."""
    assert split_thinking(canonical(f"{begin}\n2+2{end}\n4")) == ("2+2", "\n4")
    assert split_thinking(canonical(f"\n {begin}2+2{end}4")) == ("2+2", "4")
    assert split_thinking(canonical(f"2+2{end}4")) == ("2+2", "4")
    assert answer_of(canonical(f"{begin}2+2 is")) is None
    assert answer_of(canonical(f"{begin}2+2{end} \n")) is None
    assert split_thinking(canonical(f"{begin}a{end}\n{begin}b{end}4")) == ("a\nb", "4")
    assert recorded(["4?", begin, "\n"], ["2+2"]) == "<think>2+2"
    assert split_thinking(recorded(["4?", begin], ["2+2", end, "4"], special=[begin, end])) == ("2+2", "4")
    assert split_thinking(recorded(["4?"], [begin, "2+2", end, "4", "</s>"], special=[begin, end, "</s>"]))[1] == "4"
    shown = f"Models write {begin}so{end} around it."
    for answer in (
        shown,
        f"```\n{begin}so\n{end}\n```\nThat is it.",
        f"Close it with `{end}`, then answer.",
        f"Close it like this:\n```\n{end}\n```\n",
        f'The tag "{end}" ends it.',
        f'{{"criterion": "writes {end} once"}}',
    ):
        assert canonical(answer) == answer
    assert answer_of(canonical(f"{begin}2+2{end}{shown}")) == shown


@pytest.mark.parametrize(
    ("reply", "thinking", "answer"),
    [
        (f"{ANALYSIS}2+2{TURN}{FINAL}4<|return|>", "2+2", "4"),
        (f"<|start|>assistant{ANALYSIS}2+2{TURN}{FINAL}4", "2+2", "4"),
        (f"{FINAL}4<|return|>", "", "4"),
        (f"{ANALYSIS}2+2{TURN}<|channel|>final json<|message|>{{}}", "2+2", "{}"),
        (f"{ANALYSIS}2+2{TURN}<|channel|>final <|constrain|>json<|message|>{{}}<|return|>", "2+2", "{}"),
        (f"{ANALYSIS}2+2{TURN}{FINAL}It ends with <|end|>, see?", "2+2", "It ends with <|end|>, see?"),
        (f"{ANALYSIS}2+2<|end|>4", "2+2", "4"),  # a server that knows half of it
        (f"2+2{TURN}{FINAL}4", "2+2", "4"),  # the template wrote the channel
        (f"{ANALYSIS}2+2 is", "2+2 is", None),
        (f"{ANALYSIS}2+2<|end|>", "2+2", None),
        (f"{ANALYSIS}a{TURN}<|channel|>commentary<|message|>I'll look it up.<|end|>", "", None),
        ("analysisThe user wants 2+2.assistantfinal4", "The user wants 2+2.", "4"),
        ('analysisWe need JSON.assistantfinal json{"a": 1}', "We need JSON.", '{"a": 1}'),
        ("analysisWe need to add 2", "We need to add 2", None),
    ],
)
def test_the_channels_of_gpt_oss(reply, thinking, answer):
    found = split_thinking(canonical(reply))
    assert found[1] == answer and (found[0] == thinking or not thinking)


@pytest.mark.parametrize(
    "answer",
    [
        f"gpt-oss writes {ANALYSIS}…{TURN}{FINAL}…",
        f"It looks like `{ANALYSIS}so{TURN}{FINAL}4<|return|>`.",
        "analysis of variance",
        "analysisResult = 4",
        "analysis: we need two terms",
        "<thinkers>Socrates</thinkers>",
        "<p>A [THINK] tank</p>",
        'Use <thinking budget="3">deep</thinking> here.',
    ],
)
def test_an_answer_that_looks_like_it(answer):
    assert canonical(answer) == answer


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("<|begin_of_thought|>2+2<|end_of_thought|>\n<|begin_of_solution|>4<|end_of_solution|>\n", "4"),
        ("<|START_THINKING|>2+2<|END_THINKING|><|START_RESPONSE|>4<|END_RESPONSE|>", "4"),
        ("<thinking>its own </think> tag", None),
        ("<reasoning>2+2</reasoning><answer>4</answer>", "<answer>4</answer>"),
        ('He said "yes"</thought>4', "4"),
        ("<Thinking>2+2</THINKING>4", "4"),
        ("<thinking>I end it with `</thinking>`.</thinking>4", "4"),
        (f"{ANALYSIS}2+2<|call|>\n<|start|>assistant{FINAL}4", "4"),
    ],
)
def test_what_stands_around_it(reply, answer):
    assert answer_of(canonical(reply)) == answer


def test_tags_of_ones_own():
    reply = "Here is my thought process: 2+2. Here is my response: 4"
    tags = [("Here is my thought process:", "Here is my response:")]
    assert canonical(reply) == reply and answer_of(canonical(reply, tags)) == " 4"
    assert canonical("<reasoning>2+2</reasoning>4", []) == "<reasoning>2+2</reasoning>4"
    assert answer_of(canonical("<think>2+2</think>4", [])) == "4"


def test_special_tokens_that_are_no_tags_go_as_they_did():
    assert recorded(["4?"], ["<b>", "4", "</s>"], special=["<b>", "</s>"]) == "4"
    special = ["<|channel|>", "<|message|>", "<|end|>", "<|start|>", "<|return|>"]
    reply = ["<|channel|>", "analysis", "<|message|>", "2+2", "<|end|>", "<|start|>", "assistant"]
    reply += ["<|channel|>", "final", "<|message|>", "4", "<|return|>"]
    assert recorded(["<|start|>", "assistant"], reply, special) == "<think>2+2</think>4"
    assert recorded(["<|start|>", "assistant"], reply[:4], special) == "<think>2+2"
    assert recorded(["x"], ["<think>", "2", "</think>", "4"], special=["<think>", "</think>"]) == "<think>2</think>4"
    assert opening_tag("4?<|start|>assistant<|channel|>analysis<|message|>") == ANALYSIS


MARKS = sorted({mark for pair in THINKING_TAGS for mark in pair} | {ANALYSIS, FINAL, "<|end|>", "analysis", "`", "{"})


@given(st.lists(st.sampled_from(MARKS) | st.text(max_size=4), max_size=8).map("".join))
def test_reading_it_twice_changes_nothing(reply):
    assert canonical(canonical(reply)) == canonical(reply)


@pytest.mark.parametrize(
    "part",
    [*MARKS, "<|end|> ", "<|channel|>final", "<|channel|>final<", "```", " ", "<thought>a</thought>", "`</thought>`"],
)
def test_a_long_hostile_reply_is_read(part):
    """Milliseconds where the time grows with the length; with its square, this test would not end."""
    long = part * (400_000 // len(part))
    for reply in (long, f"{ANALYSIS}{long}x", f"<thought>{long}"):
        canonical(reply)
