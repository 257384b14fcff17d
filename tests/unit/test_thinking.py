"""Where thinking ends and the answer begins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropd_cli.answers.thinking import answer_of, split_thinking, with_opening


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

    def __init__(self, *pieces):
        self.pieces = pieces
        self.ids = list(range(len(pieces)))

    def decode(self, token_ids):
        return "".join(self.pieces[number] for number in token_ids)


OPENING = [
    Pieces("4 + 4?", "<|assistant|>", "<think>"),
    Pieces("4 + 4?", "<|assistant|>", "<think>\n"),
    Pieces("4 + 4?", "<|assistant|>", "<think>", "\n"),
    Pieces("4 + 4?", "<|assistant|>", "<", "th", "ink", ">", "\n", "\n"),
]


@pytest.mark.parametrize("tokenizer", OPENING, ids=lambda each: each.decode(each.ids[2:]))
def test_a_template_that_opens_the_thinking(tokenizer):
    cut_off, whole = (with_opening(text, tokenizer.ids, tokenizer) for text in ("4 + 4 is", "4 + 4 is\n</think>\n8"))
    assert split_thinking(cut_off) == ("4 + 4 is", None)
    assert split_thinking(whole) == ("4 + 4 is", "\n8")


@pytest.mark.parametrize("end", [["<|assistant|>"], ["<think>", "\n\n", "</think>", "\n\n"], ["<think>", "so"], []])
def test_a_template_that_does_not(end):
    tokenizer = Pieces(*end)
    assert with_opening("8", tokenizer.ids, tokenizer) == "8"


@given(st.text(), st.text().filter(str.strip))
def test_only_what_follows_the_last_tag(thoughts, answer):
    if "<think>" in answer or "</think>" in answer:
        return
    assert split_thinking(f"<think>{thoughts}</think>{answer}")[1] == answer
    assert split_thinking(f"<think>{thoughts.replace('</think>', '')}{answer}")[1] is None
