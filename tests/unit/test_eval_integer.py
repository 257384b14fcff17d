"""Which integer of 000 to 999 a reply states, by a table made by hand."""

from __future__ import annotations

import asyncio

import pytest

from ropd_cli.datasets.eval_sets import EvalQuestion
from ropd_cli.errors import InputError
from ropd_cli.evaluation.samples import Sample
from ropd_cli.evaluation.tasks.integer import IntegerTask, read_integer
from ropd_cli.evaluation.tasks.single_result import BOX_INSTRUCTION, messages_with

READ = [  # (reply, integer or None)
    (r"\boxed{73}", 73),
    (r"\boxed{073}", 73),
    (r"\boxed{(73)}", 73),
    (r"\boxed{73)}", None),
    (r"\boxed{73 since there are 12 cases}", 73),  # the number that a sentence begins with, not its last
    (r"\boxed{7, as 73 is too much}", 7),
    (r"\boxed{there is no such number}", None),
    (r"\boxed{000}", 0),
    (r"\boxed{0}", 0),
    (r"\boxed{999}", 999),
    (r"$\boxed{ 73 }$.", 73),
    (r"\boxed{\text{73}}", 73),
    (r"\boxed{\mathbf{73}}", 73),
    (r"\boxed{\textbf{073}}", 73),
    (r"\boxed{$73$}", 73),
    (r"\boxed{73.0}", 73),
    (r"\boxed{73.}", 73),
    (r"\boxed{p+q=73}", 73),
    (r"\boxed{m + n = 25 + 48 = 73}", 73),
    (r"\boxed{x=73}", 73),
    (r"\boxed{73^\circ}", 73),
    (r"\boxed{73^{\circ}}", 73),
    (r"\boxed{73\text{ cm}}", 73),
    (r"\boxed{73 \text{ units}^2}", 73),
    (r"\boxed{\$73}", 73),
    (r"\boxed{+73}", 73),
    (r"\boxed{\boxed{73}}", 73),
    (r"\boxed{{73}}", 73),
    (r"\boxed{\,73\,}", 73),
    (r"\boxed{n \equiv 73}", 73),
    (r"\boxed{m+n = \mathbf{73}}", 73),
    (r"First \boxed{5}, in the end \boxed{73}", 73),
    (r"\boxed{73}. It is greater than 10.", 73),
    ("The answer is 73.", 73),
    ("The answer is **73**.", 73),
    ("The answer is $73$.", 73),
    (r"The answer is \(73\).", 73),
    (r"The answer is: $m+n=73$", 73),
    ("Answer: 073", 73),
    ("**Answer: 73**", 73),
    ("**Final Answer**\n\n73", 73),
    ("Answer:\n\n$$73$$", 73),
    ("#### 73", 73),
    ("The answer is 73 because 25 + 40 + 8 makes that, by 3 steps.", 73),
    ("The answer is 25 + 48 = 73.", 73),
    ("The answer is the sum of 25 and 48, which is 73.", 73),
    ("Thus m + n = 73.", 73),
    ("so $m+n = 25+48 = 73$", 73),
    ("We find 73", 73),
    ("The answer is not 72. We find 73", 73),
    ("<think>\\boxed{5}</think>\\boxed{73}", 73),
    ("<think>72</think>\nThe answer is 73", 73),
    ("$m/n = 25/48$, so the answer is 073.", 73),
    ("Hence x = 73\n", 73),
    ("The final answer is \\[ 73 \\]", 73),
    ("**73**", 73),
    ("the remainder when N is divided by 1000 is 73.", 73),
    ("the number of ways is 73 (mod 1000).", 73),
    ("The answer is 73 modulo 1000", 73),
    (r"\boxed{73 \pmod{1000}}", 73),
    (r"So the answer is $\textbf{(073)}$.", 73),
    ("Answer: 73 degrees", 73),
    (r"The answer is 73\degree.", 73),
    (r"\boxed{\text{The answer is }73}", 73),
    ("The answer is $p+q+r = 2+3+68 = 73$, as required by 3 cases.", 73),
    (r"\boxed{\frac{25}{48}} so m+n = 73", None),  # the box counts
    # no result: outside 0 to 999, or no integer
    (r"\boxed{1000}", None),
    (r"\boxed{1,073}", None),
    (r"\boxed{-73}", None),
    (r"\boxed{73.5}", None),
    (r"\boxed{\frac{73}{2}}", None),
    (r"\boxed{\frac{146}{2}}", None),  # must be written out, as on an answer sheet
    (r"\boxed{73/1}", None),
    (r"\boxed{2^6+9}", None),
    (r"\boxed{73x}", None),
    (r"\boxed{70\sqrt{2}}", None),
    (r"\boxed{7, 3}", None),
    (r"\boxed{(7,3)}", None),
    (r"\boxed{0073}", None),  # four digits do not fit the sheet
    (r"\boxed{73 \text{ or } 74}", None),
    (r"\boxed{}", None),
    (r"\boxed{7 3}", None),
    (r"\boxed{73!}", None),
    (r"\boxed{\text{none}}", None),
    (r"\boxed{m = 25, n = 73}", None),  # two results
    (r"\boxed{m = 25 \text{ and } n = 73}", None),
    ("so $2^{73}$", None),
    ("There are at least 73.", None),
    (r"\boxed{73\%}", 73),
    (r"\boxed{\text{She makes 73 dollars}}", 73),
    ("<answer>73</answer>", 73),
    ("So there are **73** ways.", 73),
    (r"so there are $5^2 + 48 = 73$ ways.", 73),
    ("The answer is 1073.", None),
    ("The answer is -73.", None),
    ("The answer is 73.5", None),
    ("The answer is 73/2.", None),
    ("so the ratio is 25/48", None),
    ("<think>\\boxed{73}", None),
    ("<think>\\boxed{73}</think>", None),
    ("", None),
    ("There is no such number.", None),
]


@pytest.mark.parametrize(("reply", "integer"), READ)
def test_the_integer_of_a_reply(reply, integer):
    assert read_integer(reply) == integer


def graded(answer, text, finish="stop"):
    question = EvalQuestion(id="i", prompt="How many?", answer=answer)
    task = IntegerTask()
    task.check(question)
    return asyncio.run(task.grade(question, Sample(benchmark="x", id="i", sample=0, text=text, finish_reason=finish)))


@pytest.mark.parametrize(
    ("answer", "text", "score", "extracted"),
    [
        ("073", r"\boxed{73}", 1.0, "73"),
        ("73", r"\boxed{073}", 1.0, "73"),
        ("73.0", r"\boxed{73}", 1.0, "73"),
        ("73", r"\boxed{74}", 0.0, "74"),
        ("73", r"\boxed{1073}", 0.0, None),
        ("0", r"\boxed{}", 0.0, None),  # nothing is not zero
    ],
)
def test_grades(answer, text, score, extracted):
    grade = graded(answer, text)
    assert grade.scores == {"accuracy": score} and grade.extracted == extracted


def test_a_truncated_reply_is_graded_by_what_it_says():
    assert graded("73", "<think>so 73", "length").scores == {"accuracy": 0.0}
    assert graded("73", "So 25 + 48 = 73", "length").scores == {"accuracy": 1.0}


@pytest.mark.parametrize("answer", [None, "", "1000", "-1", "1/2", "x"])
def test_a_gold_answer_outside_the_range_is_refused(answer):
    with pytest.raises(InputError, match="i17"):
        IntegerTask().check(EvalQuestion(id="i17", prompt="How many?", answer=answer))


def test_asking_appends_the_instruction_to_the_last_message_of_the_user():
    asked = IntegerTask().ask(EvalQuestion(id="i", prompt="How many? ", answer="3"), 2)
    assert [(m.role, m.content) for m in asked.messages] == [("user", f"How many?\n\n{BOX_INSTRUCTION}")]
    assert asked.key is None and r"\boxed{}" in BOX_INSTRUCTION
    chat = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "How many?"})
    told = EvalQuestion(id="i", prompt=(*chat, {"role": "assistant", "content": "Of"}), answer="3")
    assert [m.content for m in messages_with(told, "Box it.")] == ["Be brief.", "How many?\n\nBox it.", "Of"]
    pictured = EvalQuestion(id="i", prompt=({"role": "user", "content": [{"type": "text", "text": "a"}]},), answer="3")
    assert messages_with(pictured, "Box it.")[1].content == "Box it."
