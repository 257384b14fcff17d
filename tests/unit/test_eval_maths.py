r"""Graders of final results: tables made by hand. What maths.py itself calls equal is in test_maths.py."""

import asyncio

import pytest

from ropd_cli.errors import InputError
from ropd_cli.evaluation.records import Sample
from ropd_cli.evaluation.tasks.exact import ExactTask
from ropd_cli.evaluation.tasks.integer import IntegerTask, integer_of
from ropd_cli.evaluation.tasks.maths import MathTask
from ropd_cli.maths import MathGrader
from ropd_cli.tasks.evalsets import EvalQuestion

RIGHT, WRONG, NO_RESULT = "right", "wrong", "no result"

MATHS = [
    # (gold, answer, verdict)
    ("42", r"So it is \boxed{42}.", RIGHT),
    ("42", r"\boxed{41} no, \boxed{42}", RIGHT),
    ("42", r"\boxed{42} no, \boxed{41}", WRONG),  # the last box
    ("42", r"\boxed{42}, checked with 7 · 6 = 42 and 6 < 7", RIGHT),  # a box comes before other numbers
    ("42", "The answer is 42.", RIGHT),
    ("42", "Answer: 42", RIGHT),
    ("42", "**Answer:** 42", RIGHT),
    ("42", "#### 42", RIGHT),
    ("42", "The answer is 41. No: the answer is 42", RIGHT),
    ("42", "I get 42", RIGHT),  # the last number
    ("42", "42 is what I get after 3 steps", WRONG),  # the last number is 3
    ("42", "forty-two", NO_RESULT),
    ("42", "", NO_RESULT),
    ("42", "<think>42", NO_RESULT),  # cut off inside its thinking
    ("42", "<think>41</think>42", RIGHT),
    ("42", r"<think>\boxed{42}</think> I can't say.", NO_RESULT),
    ("42", r"\boxed{42", RIGHT),  # no complete box: the last number
    ("42", r"\boxed{}", NO_RESULT),
    ("42", r"\boxed{\text{42}}", RIGHT),
    ("42", r"\boxed{42.0}", RIGHT),
    ("42", r"\boxed{42.}", RIGHT),
    ("42", r"\boxed{+42}", RIGHT),
    ("42", r"\boxed{-42}", WRONG),
    ("42", r"\boxed{42\%}", RIGHT),  # units are not compared
    ("42", r"\boxed{42 \text{ cm}}", RIGHT),
    ("42", r"\boxed{\$42}", RIGHT),
    ("42", r"\boxed{x = 42}", RIGHT),
    ("42", r"\boxed{6 \cdot 7}", RIGHT),
    ("42", r"\boxed{\frac{84}{2}}", RIGHT),
    ("42", r"$\boxed{42}$", RIGHT),
    ("42", r"\[ \boxed{ 42 } \]", RIGHT),
    ("42", r"\boxed{420}", WRONG),
    ("42", r"\boxed{4.2}", WRONG),
    ("42", r"\boxed{42, 43}", WRONG),
    ("1000", r"\boxed{1,000}", RIGHT),
    ("1000", r"\boxed{1{,}000}", RIGHT),
    ("1000", r"\boxed{10^3}", RIGHT),
    ("1000", r"\boxed{1000.01}", WRONG),
    ("0.5", r"\boxed{\frac{1}{2}}", RIGHT),
    ("0.5", r"\boxed{\dfrac12}", RIGHT),
    ("0.5", r"\boxed{1/2}", RIGHT),
    ("0.5", r"\boxed{.5}", RIGHT),
    ("0.5", r"\boxed{50\%}", RIGHT),
    ("0.5", r"\boxed{0.49}", WRONG),
    (r"\frac{3}{4}", r"\boxed{0.75}", RIGHT),
    (r"\frac{3}{4}", r"The answer is 3/4", RIGHT),
    (r"\frac{3}{4}", r"\boxed{\frac{4}{3}}", WRONG),
    (r"2\sqrt{2}", r"\boxed{\sqrt{8}}", RIGHT),
    (r"2\sqrt{2}", r"\boxed{2.828427}", RIGHT),  # six places
    (r"2\sqrt{2}", r"\boxed{2.83}", WRONG),
    (r"2\sqrt{2}", r"\boxed{4\sqrt{2}}", WRONG),
    (r"\pi", r"\boxed{3.14}", WRONG),
    (r"(1, 2)", r"\boxed{\left(1, 2\right)}", RIGHT),
    (r"(1, 2)", r"\boxed{(2, 1)}", WRONG),
    (r"\{1, 2\}", r"\boxed{\{2, 1\}}", RIGHT),
    ("1, 2", r"\boxed{2, 1}", RIGHT),  # without brackets the order says nothing
    (r"[0, 1)", r"\boxed{0 \le x < 1}", RIGHT),
    (r"[0, 1)", r"\boxed{[0, 1]}", WRONG),
    (r"x^2 + 2x + 1", r"\boxed{(x+1)^2}", RIGHT),
    (r"x^2 + 2x + 1", r"\boxed{(x-1)^2}", WRONG),
    (r"\text{east}", r"\boxed{\text{east}}", RIGHT),
    (r"\text{east}", r"\boxed{east}", RIGHT),
    (r"\text{east}", r"\boxed{\text{west}}", WRONG),
    (r"\text{(C)}", r"\boxed{C}", RIGHT),
    (r"90^\circ", r"\boxed{90}", RIGHT),
    (r"90^\circ", r"\boxed{90^{\circ}}", RIGHT),
    ("11_2", r"\boxed{11_{2}}", RIGHT),
    (r"3\frac{1}{2}", r"\boxed{3.5}", RIGHT),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\boxed{\begin{bmatrix} 1 \\ 2 \end{bmatrix}}", RIGHT),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\boxed{\begin{pmatrix} 2 \\ 1 \end{pmatrix}}", WRONG),
]

INTEGERS = [
    # (what a box holds, the integer)
    ("73", 73),
    ("073", 73),
    ("007", 7),
    ("000", 0),
    ("0", 0),
    ("999", 999),
    ("1000", None),
    ("-73", None),
    ("+73", 73),
    ("73.", 73),
    ("73.0", 73),
    ("73.00", 73),
    ("73.5", None),
    ("1,0", None),
    ("7 3", None),
    ("$73$", 73),
    (r"\(73\)", 73),
    (r"\text{73}", 73),
    (r"\textbf{73}", 73),
    (r"\mathbf{073}", 73),
    (r"\boxed{73}", 73),
    ("{73}", 73),
    ("**73**", 73),
    ("m+n = 73", 73),
    ("m + n = 37 + 36 = 73", 73),
    (r"p+q+r=\textbf{73}", 73),
    (r"73^\circ", 73),
    (r"73^{\circ}", 73),
    ("73°", 73),
    (r"73\text{ cm}", 73),
    (r"73 \mathrm{cm}", 73),
    ("73 units", 73),
    (r"\$73", 73),
    (r"\frac{73}{1}", None),
    ("73/1", None),
    (r"\frac{146}{2}", None),
    ("37+36", None),
    ("7.3e1", None),
    ("seventy-three", None),
    ("73 or 74", None),
    ("73, 74", None),
    ("", None),
    ("x", None),
    ("x = y", None),
    ("73x", None),
    ("73 m", 73),
    ("73cm", 73),
    (r"\infty", None),
    ("12345678901234567890", None),
    ("٧٣", None),
]

AIME_TEXTS = [
    ("073", r"\boxed{73}", RIGHT),
    ("73", r"\boxed{073}", RIGHT),
    ("073", "The answer is 073.", RIGHT),
    ("073", "Therefore m + n = 73", RIGHT),
    ("073", r"\boxed{m+n=73}", RIGHT),
    ("073", r"\boxed{730}", WRONG),
    ("073", r"\boxed{\frac{73}{2}}", WRONG),
    ("073", r"\boxed{73.5}", WRONG),
    ("073", r"x = 73, so \boxed{74}", WRONG),
    ("000", r"\boxed{0}", RIGHT),
    ("000", "I could not find it.", NO_RESULT),
    ("073", "<think>73</think>", NO_RESULT),
    ("073", r"**Answer:** \(73\)", RIGHT),
    ("073", "Answer: $73$", RIGHT),
]


def sample(text):
    return Sample(benchmark="b", id="q", sample=0, text=text, finish_reason="stop")


def verdict(grade):
    assert grade.why_missing is None, grade
    score = grade.scores["accuracy"]
    if grade.extracted is None:
        assert score == 0.0
        return NO_RESULT
    return RIGHT if score == 1.0 else WRONG


@pytest.fixture(scope="module")
def graded_maths():
    async def work():
        async with MathGrader(workers=1) as grader:
            task = MathTask(grader)
            return [
                await task.grade(EvalQuestion(id="q", prompt="?", answer=gold), sample(text)) for gold, text, _ in MATHS
            ]

    return asyncio.run(work())


@pytest.mark.parametrize("number", range(len(MATHS)))
def test_maths(graded_maths, number):
    assert verdict(graded_maths[number]) == MATHS[number][2], MATHS[number]


def test_right_answers_have_the_same_result_for_a_vote(graded_maths):
    right = {MATHS[k][0]: set() for k in range(len(MATHS))}
    for (gold, _, said), grade in zip(MATHS, graded_maths, strict=True):
        if said == RIGHT:
            right[gold].add(grade.extracted)
    assert all(len(results) <= 1 for results in right.values())


@pytest.mark.parametrize(("result", "value"), INTEGERS)
def test_integers(result, value):
    assert integer_of(result) == value


@pytest.mark.parametrize(("gold", "text", "said"), AIME_TEXTS)
async def test_aime(gold, text, said):
    task = IntegerTask()
    asked = EvalQuestion(id="q", prompt="?", answer=gold)
    task.check(asked)
    assert verdict(await task.grade(asked, sample(text))) == said


@pytest.mark.parametrize(
    ("gold", "text", "score"),
    [
        ("Paris", "Paris", 1.0),
        ("Paris", " Paris. ", 1.0),
        ("Paris", "<think>Rome</think>Paris", 1.0),
        ("Paris", r"It is \boxed{Paris}", 1.0),
        ("Paris", "It is Paris", 0.0),
        ("Paris", "paris", 0.0),
        ("7", "7.", 1.0),
        ("Paris", "", 0.0),
    ],
)
async def test_exact(gold, text, score):
    grade = await ExactTask().grade(EvalQuestion(id="q", prompt="?", answer=gold), sample(text))
    assert grade.scores == {"accuracy": score}


async def test_the_instruction_stands_below_the_question():
    chat = EvalQuestion(
        id="q", prompt=({"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}), answer="2"
    )
    messages = IntegerTask().ask(chat, 0).messages
    assert messages[0].content == "Be brief." and messages[1].content.startswith("1+1?\n\n")
    assert "\\boxed{}" in messages[1].content
    bare = IntegerTask(instruction=None).ask(chat, 0).messages
    assert bare[1].content == "1+1?"


async def test_a_comparison_that_takes_forever_is_missing_and_blocks_nobody():
    async with MathGrader(time_limit_s=0.5, workers=2) as grader:
        task = MathTask(grader)
        asked = EvalQuestion(id="q", prompt="?", answer="7")
        texts = [r"\boxed{9^{9^{9^9}}}", *[rf"\boxed{{\frac{{{7 * k}}}{{{k}}}}}" for k in range(2, 12)]]
        first, *others = await asyncio.gather(*(task.grade(asked, sample(text)) for text in texts))
    assert first.scores == {"accuracy": None} and "not decided" in first.why_missing
    assert all(grade.scores == {"accuracy": 1.0} for grade in others)


def test_what_can_not_be_graded_is_said_with_the_id():
    with pytest.raises(InputError, match="question q: no answer"):
        MathTask(None).check(EvalQuestion(id="q", prompt="?"))
    with pytest.raises(InputError, match="question q: its answer is no integer"):
        IntegerTask().check(EvalQuestion(id="q", prompt="?", answer=r"\frac{1}{2}"))
