"""What a reply to a maths problem is worth, by a table made by hand."""

from __future__ import annotations

import asyncio

import pytest

from ropd_cli.answers.math_equal import MathGrader
from ropd_cli.datasets.eval_sets import EvalQuestion
from ropd_cli.errors import InputError
from ropd_cli.evaluation.samples import Sample
from ropd_cli.evaluation.tasks.exact_string import ExactTask
from ropd_cli.evaluation.tasks.maths import MathTask

RIGHT = [  # (gold answer, reply)
    ("5", r"\boxed{5}"),
    ("5", r"so $x = \boxed{5}$."),
    ("5", r"\boxed{x = 5}"),
    ("5", "The answer is 5."),
    ("5", "The answer is **5**."),
    ("5", "The answer is 5 because 2 + 3 = 5."),
    ("5", "**Answer:** 5"),
    ("5", "Answer:\n5"),
    ("5", "The final answer is $5$. I hope it is correct."),
    ("5", "Final Answer: The final answer is $5$. I hope it is correct."),
    ("5", "we get 3, then 5"),
    ("5", r"\boxed{5\text{ apples}}"),
    ("5", r"\boxed{5 \mbox{ cm}^2}"),
    ("5", "<think>\\boxed{4}</think>\\boxed{5}"),
    ("5", r"\boxed{4} is wrong, it is \boxed{5}"),
    ("5", "The answer is not 4. It is 5"),
    ("5", "The answer is 5, since 5 + 1 = 6."),
    ("5", "#### 5"),
    (r"\frac{1}{2}", r"\boxed{0.5}"),
    (r"\frac{1}{2}", r"\boxed{1/2}"),
    (r"\frac{1}{2}", r"\boxed{\dfrac12}"),
    (r"\frac{1}{2}", r"The answer is $\frac{1}{2}$."),
    (r"\frac{1}{2}", r"The answer is \(\frac{1}{2}\)."),
    (r"\frac{1}{2}", "The answer is\n\\[\n\\frac{1}{2}\n\\]"),
    (r"\frac{1}{2}", r"**Answer:** $$\dfrac{1}{2}$$"),
    (r"\frac{\pi}{4}", "### Final answer\n\n$$\\frac{\\pi}{4}$$"),
    (r"\frac{1}{2}", r"The answer is $\frac{1}{2}$, or $50$ percent of it."),
    (r"10,\!080", r"\boxed{10080}"),
    (r"11,\! 111,\! 111,\! 100", r"\boxed{11111111100}"),
    ("58,500", r"\boxed{58500}"),
    ("58500", r"\boxed{58{,}500}"),
    ("58500", r"\boxed{58\,500}"),
    (r"\$18.90", r"\boxed{18.9}"),
    (r"\$36", r"\boxed{\$36.00}"),
    (r"\text{Evelyn}", r"\boxed{\text{Evelyn}}"),
    (r"\text{Evelyn}", r"\boxed{Evelyn}"),
    (r"\text{Evelyn}", "The answer is Evelyn."),
    (r"\text{even}", r"\boxed{\textbf{Even}}"),
    (r"\text{(C)}", r"\boxed{C}"),
    (r"\text{(C)}", r"\boxed{\textbf{(C)}}"),
    (r"90^\circ", r"\boxed{90}"),
    (r"90^\circ", r"\boxed{90 \text{ degrees}}"),
    ("90", r"\boxed{90^{\circ}}"),
    ("x=5", r"\boxed{5}"),
    ("1,-2", r"\boxed{-2, 1}"),
    ("1,-2", r"\boxed{x = 1, x = -2}"),
    ("1,-2", r"\boxed{1 \text{ and } -2}"),
    ("3, 5, 7", r"\boxed{3,5,7}"),
    ("52_8", r"\boxed{52_{8}}"),
    ("52_8", r"\boxed{52}"),
    (r"1 \pm \sqrt{19}", r"\boxed{1 + \sqrt{19}, 1 - \sqrt{19}}"),
    (r"\{1\pm\sqrt{5},-2\}", r"\boxed{-2, 1+\sqrt{5}, 1-\sqrt{5}}"),
    ("(3,4]", r"\boxed{3 < x \le 4}"),
    (r"x \in [-2,7]", r"\boxed{[-2,7]}"),
    (r"x \in [-2,7]", r"\boxed{-2 \leq x \leq 7}"),
    (r"(0,9) \cup (9,36)", r"\boxed{(9,36) \cup (0,9)}"),
    (
        r"\begin{pmatrix} -1/3 \\ 2/3 \\ 5/3 \end{pmatrix}",
        r"\boxed{\begin{pmatrix} -\frac13 \\ \frac23 \\ \frac53 \end{pmatrix}}",
    ),
    ("y = 2x + 3", r"\boxed{y = 3 + 2x}"),
    ("5x - 7y + 11z + 4 = 0", r"\boxed{4 + 11z - 7y + 5x = 0}"),
    ("6 - 5i", r"\boxed{-5i + 6}"),
    (r"1\frac{4}{5}", r"\boxed{\frac{9}{5}}"),
    (r"137 \frac{1}{2}", r"\boxed{137.5}"),
    (r".0000672", r"\boxed{6.72 \times 10^{-5}}"),
    (r"\frac{270}7\text{ degrees}", r"\boxed{\frac{270}{7}^\circ}"),
    (r"70 \sqrt{2}", r"\boxed{70\sqrt2}"),
    ("(a+5)(b+2)", r"\boxed{(b+2)(a+5)}"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"\boxed{(3, \pi/2)}"),
    (r"\frac{\sqrt{3}}{3}", r"\boxed{\frac{1}{\sqrt{3}}}"),
    (r"\frac 59", r"\boxed{5/9}"),
    ("p - q", r"\boxed{-q + p}"),
    ("5", r"the correct answer is thus: $5$ (see step 2)."),
    ("5", "The answer is therefore 5."),
    ("5", r"The answer is \$5 per hour for 2 hours of work there"),
    ("5", "#### Step 2: add\n\nWe get 5"),  # a heading is no result
    (r"\text{Evelyn}", "9 of them.\n#### Evelyn"),
    ("5", r"The answer is $5$ square metres in all cases."),
    ("5", "Is the answer correct? The answer is correct: 5"),
    ("5000", r"$$\boxed{\, 5\,000 \,}.$$"),
    ("6 - 5i", r"The answer is 6 -\; 5i"),
    ("5", "Answer:\n\nTo solve it we add 2 and 3 and get to 5"),  # a sentence is no result: the last number
]
WRONG = [  # (gold answer, reply)
    ("5", r"\boxed{6}"),
    ("5", r"\boxed{-5}"),
    ("5", "The answer is 6, not 5."),
    ("5", "so 5, no: 6"),
    ("5", r"\boxed{5}, no, \boxed{6}"),
    ("5", r"\boxed{50}"),
    ("5", r"\boxed{5.1}"),
    ("5", r"\boxed{}"),
    ("5", ""),
    ("5", "No idea."),
    ("5", "<think>\\boxed{5}"),
    ("5", "<think>\\boxed{5}</think>"),
    (r"\frac{1}{2}", r"\boxed{\frac{1}{3}}"),
    (r"\frac{1}{2}", r"\boxed{2}"),
    (r"\frac{2}{3}", r"\boxed{0.67}"),
    ("(3,4]", r"\boxed{(3,4)}"),
    ("(3,4]", r"\boxed{[3,4]}"),
    ("1,-2", r"\boxed{1, 2}"),
    ("1,-2", r"\boxed{1}"),
    ("3, 5, 7", r"\boxed{3, 5}"),
    ("52_8", r"\boxed{52_9}"),
    ("52_8", r"\boxed{53_8}"),
    (r"\text{Evelyn}", r"\boxed{\text{Carla}}"),
    (r"\text{(C)}", r"\boxed{D}"),
    ("(6,31,-1)", r"\boxed{(6,-1,31)}"),
    (r"1 \pm \sqrt{19}", r"\boxed{1 + \sqrt{19}}"),
    ("y = 2x + 3", r"\boxed{y = 2x - 3}"),
    ("6 - 5i", r"\boxed{6 + 5i}"),
    (r"3 \sqrt{5}", r"\boxed{5\sqrt{3}}"),
    ("58,500", r"\boxed{58.5}"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\boxed{\begin{pmatrix} 2 \\ 1 \end{pmatrix}}"),
    ("x^2+1", r"\boxed{x^2-1}"),
    ("2k+2", r"\boxed{2k}"),
    (r"90^\circ", r"\boxed{45^\circ}"),
    ("5", "The answer is $5$ million."),
    ("2", "The answer is $x$ = 3"),
]


def question(answer):
    return EvalQuestion(id="m", prompt="Solve it.", answer=answer)


def sample(text, finish="stop"):
    return Sample(benchmark="x", id="m", sample=0, text=text, finish_reason=finish)


@pytest.fixture(scope="module")
def grades():
    """Grades of both tables by one grader: its workers take a second to start."""

    async def grade():
        async with MathTask(MathGrader(time_limit_s=20)) as task:
            pairs = RIGHT + WRONG
            found = await asyncio.gather(*(task.grade(question(answer), sample(text)) for answer, text in pairs))
            return dict(zip(pairs, found, strict=True))

    return asyncio.run(grade())


@pytest.mark.parametrize("pair", RIGHT, ids=str)
def test_right(grades, pair):
    assert grades[pair].scores == {"accuracy": 1.0}


@pytest.mark.parametrize("pair", WRONG, ids=str)
def test_wrong(grades, pair):
    assert grades[pair].scores == {"accuracy": 0.0}


def test_all_right_results_to_a_question_are_extracted_alike_and_no_wrong_one_with_them(grades):
    for answer in {answer for answer, _ in RIGHT}:
        right = {grades[pair].extracted for pair in RIGHT if pair[0] == answer}
        wrong = {grades[pair].extracted for pair in WRONG if pair[0] == answer}
        assert len(right) == 1 and None not in right and not right & wrong


def test_without_a_result_there_is_nothing_extracted(grades):
    assert [pair[1] for pair in WRONG if grades[pair].extracted is None] == [
        r"\boxed{}", "", "No idea.", "<think>\\boxed{5}", "<think>\\boxed{5}</think>",
    ]  # fmt: skip


async def test_equal_wrong_results_are_extracted_alike():
    async with MathTask(MathGrader()) as task:
        texts = (r"\boxed{\dfrac{2}{3} }", r"\boxed{\frac23}", r"Answer: $\tfrac{2}{3}$")
        found = {(await task.grade(question("5"), sample(text))).extracted for text in texts}
        assert len(found) == 1
        found = {(await task.grade(question("5"), sample(rf"\boxed{{{n}}}"))).extracted for n in ("7", "07", "7.0")}
        assert len(found) == 1


@pytest.mark.slow
async def test_what_is_not_decided_is_wrong_counted_apart_and_blocks_no_other():
    async with MathTask(MathGrader(time_limit_s=1.0, workers=1)) as task:
        nasty = [task.grade(question("x"), sample(r"\boxed{9^{9^{9^{9}}}+x}")) for _ in range(2)]
        plain = task.grade(question(r"\frac{1}{2}"), sample(r"\boxed{\frac{2}{4}}"))
        quick = task.grade(question("5"), sample(r"\boxed{5}"))
        *undecided, slow, at_once = await asyncio.gather(*nasty, plain, quick)
    assert slow.scores == at_once.scores == {"accuracy": 1.0}
    for grade in undecided:
        assert grade.scores == {"accuracy": 0.0} and grade.why_missing is None
        assert "limits" in grade.undecided and grade.extracted


async def test_a_truncated_reply_is_graded_by_what_it_says():
    async with MathTask(MathGrader()) as task:
        grade = await task.grade(question("5"), sample("so x = 5", "length"))
        assert grade.scores == {"accuracy": 1.0}
        grade = await task.grade(question("5"), sample("<think>so x = 5", "length"))
        assert grade.scores == {"accuracy": 0.0} and grade.extracted is None and grade.why_missing is None


def test_a_question_without_an_answer_is_refused():
    for task in (MathTask(MathGrader()), ExactTask()):
        with pytest.raises(InputError, match="m"):
            task.check(EvalQuestion(id="m", prompt="SECRET", answer=None))


@pytest.mark.parametrize(
    ("answer", "text", "score"),
    [
        ("blue", "blue", 1.0),
        ("blue", " Blue ", 0.0),  # exact: the case counts
        ("blue", "blue.", 1.0),
        ("blue", r"It is \boxed{blue}.", 1.0),
        ("blue", r"It is \boxed{\text{blue}}.", 1.0),
        ("blue", "It is blue", 0.0),
        ("7", "07.0", 1.0),
        ("1000", r"\boxed{1,000}", 1.0),
        ("blue", "<think>red</think>blue", 1.0),
        ("blue", "<think>blue", 0.0),
        ("blue", "", 0.0),
    ],
)
def test_exact(answer, text, score):
    grade = asyncio.run(ExactTask().grade(question(answer), sample(text)))
    assert grade.scores == {"accuracy": score}


def test_exact_results_that_are_equal_are_extracted_alike():
    texts = ("7", "07.0", r"\boxed{7}")
    assert {asyncio.run(ExactTask().grade(question("7"), sample(text))).extracted for text in texts} == {"7"}
