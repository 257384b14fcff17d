"""The last complete box of a text, found in one pass."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ropd_cli.answers.final_answer import final_result


def by_trying_each(text):
    """The rule as it is written down: from the last box backwards, the first one that is closed."""
    start = text.rfind("\\boxed{")
    while start >= 0:
        depth = 0
        for at in range(start + 6, len(text)):
            depth += (text[at] == "{") - (text[at] == "}")
            if depth == 0:
                return text[start + 7 : at]
        start = text.rfind("\\boxed{", 0, start)
    return None


@given(st.lists(st.sampled_from(["\\boxed{", "\\boxed", "{", "}", "7", "\\"]), max_size=14).map("".join))
@example("\\boxed{1\\boxed{2}\\boxed{")
def test_the_rule(text):
    assert final_result(text) == by_trying_each(text)


@pytest.mark.parametrize("text", ["\\boxed{" * 40_000, "\\boxed{{" * 40_000 + "}"])
def test_an_answer_that_opens_boxes_without_end(text):  # quadratic, it would hold up every other group for minutes
    assert final_result(text) is None
