"""Where thinking ends and the answer begins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropd_cli.answers.thinking import has_answer, split_thinking


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
    assert has_answer(text) is (answer is not None)


def test_a_template_that_opened_the_thinking():
    assert split_thinking("2+2 is", opened=True) == ("2+2 is", None)
    assert split_thinking("2+2</think>4", opened=True) == ("2+2", "4")
    assert not has_answer("4", opened=True)


@given(st.text(), st.text().filter(str.strip))
def test_only_what_follows_the_last_tag(thoughts, answer):
    if "<think>" in answer or "</think>" in answer:
        return
    assert split_thinking(f"<think>{thoughts}</think>{answer}")[1] == answer
    assert split_thinking(f"<think>{thoughts.replace('</think>', '')}{answer}")[1] is None
