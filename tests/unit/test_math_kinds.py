"""Replies by kinds that were misjudged once: right ones that must pass, wrong ones that must not."""

from __future__ import annotations

import asyncio

import pytest

from ropd_cli.answers.math_equal import MathGrader
from ropd_cli.datasets.eval_sets import EvalQuestion, load_eval_set
from ropd_cli.evaluation.samples import Sample
from ropd_cli.evaluation.tasks.integer import read_integer
from ropd_cli.evaluation.tasks.maths import MathTask

WORDS = (
    [
        ("18", "The final answer is 18 dollars."),
        ("18", "The final answer is 18 dollars per day."),
        ("48", "The answer is 48 pages per week."),
        ("31", r"\boxed{31 eggs}"),
        ("17", r"\boxed{\text{17 miles}}"),
        ("64", "The answer is 64, in total."),
        ("64", "The answer is approximately 64."),
        ("64", "The answer is 64 (rounded)."),
        ("16", "The final answer is 16 apples per day"),
        ("5", "**Answer:** **5** cups of flour"),
        ("5", r"\boxed{5\ \text{cm}^2}"),
        ("70000", "The final answer is $70,000 in profit."),
        ("20", "Total: 20 pages\n\n**Final Answer**\n\n20 pages"),
        ("5", r"\boxed{5\text{ km/h}}"),
        ("10", "The answer is 10 apples and oranges."),
        ("20", r"\boxed{20^\circ\text{C}}"),
        ("18 dollars per day", r"\boxed{18}"),
        ("3", r"\boxed{\text{Total} = 3}"),
        ("50", "The answer is 50% of the total."),
        ("45", "**45**"),
        ("5", "So **the answer is 5 apples.** Great!"),
        ("5", "答案：5。"),
    ],
    [
        ("18", "The final answer is 19 dollars."),
        ("5", "The answer is 5 million."),
        ("5", r"\boxed{5 \text{ million}}"),
        ("5", r"\boxed{5 dozen eggs}"),
        ("5", r"\boxed{5 bn}"),
        ("5", r"\boxed{5 tenths}"),
        ("5", r"\boxed{5 and a half}"),
        ("5", r"\boxed{5 or more}"),
        ("5", r"\boxed{at least 5}"),
        ("5", r"\boxed{not 5}"),
        ("5", r"\boxed{5 less than before}"),
        ("5", r"\boxed{5 \text{ or } 6}"),
        ("5", r"\boxed{5 times as many}"),
        ("5", "The answer is 5 to 6 hours of work."),
        ("5", "The answer is 5 hundred percent of it."),
        ("18", r"\boxed{1 8}"),
        ("5", r"\boxed{5 squared}"),
    ],
)
PARTS = (
    [
        ("2 hours 20 minutes", r"\boxed{2 hours, 20 minutes}"),
        ("2 hours 20 minutes", r"\boxed{2 \text{ hours } 20 \text{ minutes}}"),
        (r"6\sqrt{3}", r"\boxed{6\sqrt(3)}"),
        (r"6\sqrt{3}", r"\boxed{6 sqrt(3)}"),
        ("4+3i", r"\boxed{4+3\mathrm{i}}"),
        ("4000000", r"\boxed{4 000 000}"),
        ("4000000", r"\boxed{4\,000\,000}"),
        ("e", r"\boxed{\mathrm{e}}"),
        ("3:30", r"\boxed{3:30}"),
        ("3:2", r"\boxed{3 : 2}"),
        (r"1,2,\ldots,n", r"\boxed{1, 2, \ldots, n}"),
        ("x'", r"\boxed{x'}"),
        (r"3 \pmod 7", r"\boxed{3\pmod 7}"),
        ("2 hours 20 minutes", r"\boxed{2 hours and 20 minutes}"),
        (r"\frac{2}{3}", r"\boxed{0.\overline{6}}"),
    ],
    [
        ("7", r"\boxed{4+3\mathrm{i}}"),
        ("4", r"\boxed{4\sqrt(2)}"),
        ("6", r"\boxed{6\sqrt(3)}"),
        ("2 hours 20 minutes", r"\boxed{2 hours 50 minutes}"),
        ("2", "The answer is 2 hours 50 minutes in all."),
        ("2", r"\boxed{2 hours 50 minutes}"),
        ("12", r"\boxed{12 cows and 9 hens}"),
        ("12 cows and 9 hens", r"\boxed{12 cows and 7 hens}"),
        ("1", r"\boxed{1, 2, \ldots, 9}"),
        ("1,2,9", r"\boxed{1,2,\ldots,9}"),
        (r"\frac{1}{10}", r"\boxed{3:30}"),
        ("3", r"\boxed{3 \pmod 7}"),
        ("3", r"\boxed{x \equiv 3 \pmod 7}"),
        ("x", r"\boxed{x'}"),
        ("0", r"\boxed{4 000 000}"),
        ("0", r"\boxed{0.\overline{6}}"),
        ("2", r"\boxed{2\mathrm{e}}"),
        ("5", r"\boxed{5?}"),
        ("3", r"\boxed{3..5}"),
        ("4", r"\boxed{4\foo{2}}"),
        ("A", r"\boxed{A^T}"),
        ("2", r"\boxed{2 +}"),
        ("12", r"\boxed{12 \rightarrow 13}"),
        ("12", r"\boxed{\le 12}"),
        ("65", r"\boxed{6\phantom{1}5}"),
        ("6", r"\boxed{6'2''}"),
        ("5", r"\boxed{x_5}"),
    ],
)
EXACT = (
    [
        (r"\frac{1}{3}", r"\boxed{0.3333333}"),
        (r"\frac{1}{3^{69}}", r"\boxed{3^{-69}}"),
        (r"\frac{1}{2004!}", r"\boxed{\frac{2005}{2005!}}"),
        ("2^{-99}", r"\boxed{\frac{2}{2^{100}}}"),
        ("1.6e-19", r"\boxed{1.6 \times 10^{-19}}"),
        ("1.6e-19", r"\boxed{1.6000001e-19}"),
        (r"2^{1000}", r"\boxed{4^{500}}"),
        (r"\sqrt{3+2\sqrt{2}}", r"\boxed{1+\sqrt2}"),
        ("0.1", r"\boxed{\frac{1}{10}}"),
        (r"x + 10^{-30}", r"\boxed{10^{-30} + x}"),
        ("12345678901234567890123456789012", r"\boxed{12345678901234567890123456789012.0}"),
        (r"\pi", r"\boxed{3.14159265}"),
        (r"\binom{20}{10}", r"\boxed{184756}"),
        ("10^{12}", r"\boxed{1e12}"),
        ("52_8", r"\boxed{x = 52_{ 8 }}"),
        ("1A_{16}", r"\boxed{26}"),
        (r"\frac{x}{3}", r"\boxed{\frac{2x}{6}}"),
    ],
    [
        ("1.6e-19", r"\boxed{4.8e-19}"),
        ("1/3^{70}", r"\boxed{1/3^{69}}"),
        (r"\frac{1}{2006!}", r"\boxed{\frac{1}{2004!}}"),
        ("2^{-99}", r"\boxed{2^{-98}}"),
        (r"2^{1000}", r"\boxed{2^{1000}+1}"),
        ("12345678901234567890123456789012", r"\boxed{12345678901234567890123456789013}"),
        ("5", r"\boxed{5.0000001}"),
        ("0", r"\boxed{10^{-40}}"),
        ("0", r"\boxed{2^{-200}}"),
        (r"\frac{1}{3}", r"\boxed{0.33}"),
        (r"x + 10^{-30}", r"\boxed{x + 10^{-31}}"),
        (r"\sqrt{2}\cdot 10^{-20}", r"\boxed{\sqrt{3}\cdot 10^{-20}}"),
        (r"\pi", r"\boxed{3.14}"),
        (r"2^{1000}+\sqrt2", r"\boxed{2^{1000}+1+\sqrt2}"),
        ("1000000.5", r"\boxed{1000000}"),
        ("528", r"\boxed{52_8 + 0}"),
        ("204_5", r"\boxed{204_4}"),
        ("A_{12}", r"\boxed{10}"),
        ("52_8", r"\boxed{42_9}"),
    ],
)
PLAIN = (
    [
        (r"\frac{\pi}{2}", r"\boxed{pi/2}"),
        (r"-2\pi", "The answer is -2*pi"),
        (r"\frac{\pi}{3}", r"\boxed{π/3}"),
        (r"8\sqrt{11}", "Answer: 8 sqrt(11)"),
        (r"\sqrt{7}", r"\boxed{√7}"),
        (r"(-\infty,1)\cup(6,\infty)", r"\boxed{(−∞,1)∪(6,∞)}"),
        (r"\frac{2}{3}", r"\boxed{0.\overline{6}}"),
        ("-9", "The answer is −9."),
        ("3.1 \\times 10^{12}", r"\boxed{3.1 x 10^12}"),
        ("0.5", r"\boxed{½}"),
        ("5", r"\boxed{€5}"),
        (r"\frac{1}{2}", r"\boxed{\sfrac{1}{2}}"),
        ("5", r"\boxed{\color{red}{5}}"),
        ("5", r"\boxed{{\color{blue} 5}}"),
        ("5", r"\boxed{\textcolor{red}{5}}"),
        ("x^2", r"\boxed{x²}"),
        (r"\sqrt{10}", r"\boxed{sqrt(10)}"),
        ("2^{10}", r"\boxed{2**10}"),
        (r"\sqrt[3]{2}", r"\boxed{2^(1/3)}"),
        (r"\sin(x)", r"\boxed{sin(x)}"),
        (r"\ln 2", r"\boxed{\log_e 2}"),
        (r"\cos 20^\circ", r"\boxed{\sin 70^\circ}"),
        (r"\frac{1}{2}", r"\boxed{\sin 30°}"),
        (r"\log_2 5", r"\boxed{\log_{2}(5)}"),
        (r"x \le 3", r"\boxed{x ≤ 3}"),
        ("3,-3", r"\boxed{\pm 3}"),
        ("3,-3", r"\boxed{±3}"),
        ("3,-3", r"\boxed{x = \pm 3}"),
        (r"\frac{-1+\sqrt5}{2},\frac{-1-\sqrt5}{2}", r"\boxed{\frac{-1\pm\sqrt5}{2}}"),
        (r"\frac{1}{\sqrt n}", r"\boxed{\sqrt{1/n}}"),
        (r"\sqrt{\frac{1}{n}}", r"\boxed{\frac{1}{\sqrt{n}}}"),
    ],
    [
        (r"\frac{\pi}{2}", r"\boxed{pi/3}"),
        (r"\frac{\pi}{2}", r"\boxed{ip/2}"),
        (r"\sqrt{7}", r"\boxed{√8}"),
        ("7", r"\boxed{√7}"),
        (r"\frac{2}{3}", r"\boxed{0.6}"),
        ("9", "The answer is −9."),
        ("3", r"\boxed{\pm 3}"),
        ("23", r"\boxed{2**3}"),
        ("0.5", r"\boxed{¼}"),
        ("x^2", r"\boxed{x³}"),
        (r"(-\infty,1)\cup(6,\infty)", r"\boxed{(−∞,1]∪(6,∞)}"),
        (r"|x|", r"\boxed{x}"),
        ("x", r"\boxed{\sqrt{x^2}}"),
        ("3.1e12", r"\boxed{3.1 x 10^11}"),
        (r"\sin(x)", r"\boxed{\cos(x)}"),
        (r"\cos 20^\circ", r"\boxed{\cos 20}"),
        (r"\ln 2", r"\boxed{\log_3 2}"),
        (r"\frac{1}{\sqrt n}", r"\boxed{\frac{1}{n}}"),
        ("5", r"\boxed{\color{red}{6}}"),
    ],
)
COMPLEX = (
    [
        ("14-i", r"\boxed{14.0 + -1.0i}"),
        ("14-i", r"\boxed{14 + (-1)i}"),
        ("6-5i", r"\boxed{-5i+6}"),
        ("3+4i", r"\boxed{(2+i)^2}"),
        ("(2+i)^2", r"\boxed{3+4i}"),
        ("i", r"\boxed{\mathrm{i}}"),
        (r"\frac{1}{2}+\frac{i}{2}", r"\boxed{\frac{1}{1-i}}"),
        ("2i", r"\boxed{(1+i)^2}"),
        ("1+2i,1-2i", r"\boxed{1 \pm 2i}"),
        ("-i", r"\boxed{\frac{1}{i}}"),
        ("e^{i\\pi/2}", r"\boxed{i}"),
        ("3 + 4i", r"\boxed{z = 3+4i}"),
        ("1+\\sqrt{3}i", r"\boxed{1+i\sqrt{3}}"),
        ("a+bi", r"\boxed{bi+a}"),
        ("5i", r"\boxed{5 i}"),
    ],
    [
        ("14-i", r"\boxed{14+i}"),
        ("14-i", r"\boxed{14}"),
        ("6-5i", r"\boxed{6}"),
        ("3+4i", r"\boxed{(2-i)^2}"),
        ("i", r"\boxed{-i}"),
        ("i", r"\boxed{1}"),
        ("2i", r"\boxed{2}"),
        ("1+2i,1-2i", r"\boxed{1+2i}"),
        ("5i", r"\boxed{5j}"),
        ("a+bi", r"\boxed{a-bi}"),
        ("-i", r"\boxed{i^2}"),
        ("4+3i", r"\boxed{3+4i}"),
        ("5", r"\boxed{3+4i}"),
        ("5", r"\boxed{5i}"),
        ("1+\\sqrt{3}i", r"\boxed{1+\sqrt{3}}"),
    ],
)
MIXED = (
    [
        (r"\frac{9}{4}", r"\boxed{2 1/4}"),
        (r"\frac{9}{4}", "The answer is 2 1/4 cups."),
        ("2.25", "We need 2 1/4 cups.\nAnswer: 2 1/4 cups"),
        (r"2\frac{1}{4}", r"\boxed{2.25}"),
        (r"\frac{9}{4}", r"\boxed{2\frac14}"),
        (r"\frac{9}{4}", r"\boxed{2 \frac{1}{4}}"),
        (r"\frac{9}{4}", r"\boxed{2½ - ¼}"),
        (r"\frac{5}{2}", r"\boxed{2½}"),
        (r"-\frac{9}{4}", r"\boxed{-2 1/4}"),
        ("100, 250, 400", r"\boxed{100,250,400}"),
        ("100,250,400", r"\boxed{100, 250, 400}"),
        ("1234567", r"\boxed{1,234,567}"),
        ("1234.5", r"\boxed{1,234.50}"),
        ("1,234", r"\boxed{1234}"),
        ("58500", r"\boxed{58{,}500}"),
    ],
    [
        (r"\frac{9}{4}", r"\boxed{2 1/3}"),
        (r"\frac{1}{2}", r"\boxed{2 1/4}"),
        (r"\frac{21}{4}", r"\boxed{2 1/4}"),
        (r"\frac{9}{4}", r"\boxed{-2 1/4}"),
        ("2", "The answer is 2 1/4 cups."),
        ("(1,234)", r"\boxed{1234}"),
        ("(1,234)", r"\boxed{(1234)}"),
        ("1,234,5", r"\boxed{1234,5}"),
        ("100, 250, 400", r"\boxed{100, 250, 401}"),
        ("100, 250, 400", r"\boxed{100250400}"),
        ("123", r"\boxed{1,23}"),
        ("100", r"\boxed{100,250,400}"),
        ("12", r"\boxed{1 2}"),
        ("7", r"\boxed{3 4}"),
        ("58500", r"\boxed{58.500}"),
    ],
)
BOXES = (
    [
        ("1,-2", r"so $x$ is $\boxed{1}$ and $\boxed{-2}$."),
        ("1,-2", r"\boxed{1} or \boxed{-2}"),
        ("1,-2", r"\boxed{-2}, \boxed{1}"),
        ("1,-2", r"$x=\boxed{1}$ and $x=\boxed{-2}$"),
        ("1,-2,3", r"\boxed{1}, \boxed{-2}, and \boxed{3}"),
        ("5", r"\boxed{5}, \boxed{5}"),
        ("5", r"First $\boxed{4}$ seems right. But no: \boxed{5}"),
        ("5", "We get \\boxed{3} cows.\n\nAll in all \\boxed{5}"),
        ("5", "\\boxed{4}\n\nWait, I forgot one.\n\nFinal answer: 5"),
        ("5", "\\boxed{4}. That was wrong. The correct answer is 5."),
        ("5", "\\boxed{4}\n\n**Final Answer**\n\n5"),
        ("5", "\\boxed{4}\nHm.\n#### 5"),
        ("5", r"\boxed{5}. I hope the final answer is correct."),
        ("5", "\\boxed{5}\n\nFinal answer: see above"),
        ("5", "\\boxed{5}\n\nThe final answer is the sum of the roots 2 and 3."),
        ("5", r"\fbox{5}"),
    ],
    [
        ("-2", r"\boxed{1} and \boxed{-2}"),
        ("1", r"\boxed{1} and \boxed{-2}"),
        ("1,-2", r"\boxed{1} and \boxed{2}"),
        ("1,-2", r"\boxed{1} is not right, \boxed{-2} is"),
        ("1,-2", r"\boxed{1}"),
        ("1,-2", r"\boxed{1}, \boxed{-2}, \boxed{3}"),
        ("5", r"\boxed{5} or \boxed{6}"),
        ("5", r"\boxed{5}, no, \boxed{6}"),
        ("5", "\\boxed{5}\n\nFinal answer: 6"),
        ("5", "\\boxed{5}. That was wrong. The correct answer is 6."),
        ("5", "\\boxed{5}\n#### 6"),
        ("5", "\\boxed{5}\n\n**Final Answer**\n\n6"),
        ("5", "Final answer: 5. No, it is \\boxed{6}"),
        ("5", r"\boxed{6}; I first had 5"),
        ("5", r"\boxed{4} and \boxed{5}"),
    ],
)
FORMS = (
    [
        ("(1,2)", r"\boxed{\begin{pmatrix}1\\2\end{pmatrix}}"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\boxed{(1,2)}"),
        (r"\begin{pmatrix}1\\2\\3\end{pmatrix}", r"\boxed{\langle 1,2,3\rangle}"),
        ("(1,2,3)", r"\boxed{\begin{bmatrix}1\\2\\3\end{bmatrix}}"),
        ("ABC", r"\boxed{\text{ABC}}"),
        (r"\text{even}", r"\boxed{Even}"),
        (r"\text{Yes}", r"\boxed{yes}"),
        ("(C)", r"\boxed{C}"),
        ("2xy", r"\boxed{2yx}"),
        ("n^2+n", r"\boxed{n(n+1)}"),
        ("x=5", r"\boxed{5}"),
        (r"\{1,2\}", r"\boxed{\{2, 1\}}"),
        ("[1,2]", r"\boxed{1 \le x \le 2}"),
        ("1,2", r"\boxed{x=1 \text{ or } x=2}"),
        (r"\emptyset", r"\boxed{\varnothing}"),
        (r"\mathbb{R}", r"\boxed{\mathbb{R}}"),
    ],
    [
        ("(1,2)", r"\boxed{\begin{pmatrix}2\\1\end{pmatrix}}"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\boxed{(1,2,3)}"),
        ("ABC", r"\boxed{CBA}"),
        ("ABC", r"\boxed{\text{BCA}}"),
        ("x", r"\boxed{X}"),
        ("2n", r"\boxed{2N}"),
        ("A", r"\boxed{a}"),
        (r"\text{even}", r"\boxed{odd}"),
        (r"\text{Evelyn}", r"\boxed{5}"),
        ("(C)", r"\boxed{D}"),
        ("n^2+n", r"\boxed{n^2-n}"),
        ("[1,2]", r"\boxed{1 < x \le 2}"),
        ("1,2", r"\boxed{x=1}"),
        (r"\{1,2\}", r"\boxed{\{1,2,3\}}"),
        ("y", r"\boxed{x}"),
        ("5", r"\boxed{x > 5}"),
    ],
)
KINDS = {
    "words around": WORDS,
    "a part": PARTS,
    "exact": EXACT,
    "plain text": PLAIN,
    "complex": COMPLEX,
    "mixed numbers and separators": MIXED,
    "several boxes": BOXES,
    "forms": FORMS,
}
UNDECIDED = [  # (gold answer, reply): wrong, as the values were not compared
    ("5", r"\boxed{9^{9^{9^9}}}"),
    ("5", r"\boxed{\frac{(10^9)!}{(10^9)!}\cdot 6}"),
    ("5", r"\boxed{1e999999999}"),
    ("5", r"\boxed{5 or more}"),
    ("5", r"\boxed{\foo{5}}"),
    ("5", "\\boxed{" + "(" * 3000 + "6" + ")" * 3000 + "}"),
    ("5", "\\boxed{" + "^(" * 3000 + "6" + ")" * 3000 + "}"),
    ("5", "\\boxed{" + "1+" * 6000 + "1}"),
]
CASES = [(*case, float(right)) for kind in KINDS.values() for right in (True, False) for case in kind[not right]]


@pytest.fixture(scope="module")
def grades():
    """Grades of all tables by one grader: its workers take a second to start."""

    async def work():
        pairs = [case[:2] for case in CASES] + UNDECIDED
        async with MathTask(MathGrader(time_limit_s=1.0)) as task:
            graded = [task.grade(EvalQuestion(id="m", prompt="?", answer=gold), sample(text)) for gold, text in pairs]
            return dict(zip(pairs, await asyncio.gather(*graded), strict=True))

    return asyncio.run(work())


def sample(text):
    return Sample(benchmark="x", id="m", sample=0, text=text, finish_reason="stop")


@pytest.mark.parametrize(("gold", "text", "score"), CASES)
def test_kinds(grades, gold, text, score):
    assert grades[gold, text].scores == {"accuracy": score}


@pytest.mark.parametrize("pair", UNDECIDED, ids=lambda pair: pair[1][:40])
def test_what_a_text_leaves_undecided_is_wrong_and_says_why(grades, pair):
    grade = grades[pair]
    assert grade.scores == {"accuracy": 0.0} and grade.undecided and grade.why_missing is None


def test_at_least_fifteen_cases_a_kind():
    for kind, (right, wrong) in KINDS.items():
        assert min(len(right), len(wrong)) >= 15, kind


UNITS = ("dollars", "dollars per day", "miles", "pages per week", "ounces of water", "more students", "cups in total")


def test_integers_in_the_words_of_models():
    for gold in (0, 7, 25, 73, 204, 999):
        for form in GSM8K:
            if ".00" not in form:
                assert read_integer(form.format(gold, "ways", gold)) == gold, form
        for form in (form for form in NOT_GSM8K if "pmod" not in form):
            assert read_integer(form.format(gold, "ways", gold + 1)) != gold, form


@pytest.mark.long
def test_answers_of_gsm8k_in_the_words_of_models():
    golds = [question.answer.replace(",", "") for question in load_eval_set("gsm8k-sample").questions]
    right, wrong = [], []
    for number, gold in enumerate(golds):
        unit, other = UNITS[number % len(UNITS)], f"{int(gold) + 1}"
        right += [(gold, form.format(gold, unit, f"{int(gold):,}")) for form in GSM8K]
        wrong += [(gold, form.format(gold, unit, other)) for form in NOT_GSM8K]

    async def work():
        async with MathGrader() as grader:
            return await asyncio.gather(*(grader.is_correct(text, gold) for gold, text in right + wrong))

    found = asyncio.run(work())
    assert [pair for pair, equal in zip(right, found[: len(right)], strict=True) if equal is not True] == []
    assert [pair for pair, equal in zip(wrong, found[len(right) :], strict=True) if equal is not False] == []


GSM8K = (
    "The final answer is {0} {1}.",
    "She needs 3 + 4 things.\n\nThe final answer is {0} {1}, in total.",
    r"\boxed{{{0} \text{{ {1}}}}}",
    r"\boxed{{{0} {1}}}",
    r"\boxed{{\text{{{0} {1}}}}}",
    "So x = 3.\nAnswer: {0}",
    "The answer is approximately {0}.",
    "**Final Answer**\n\n{0} {1}",
    "**Answer:** **{0}** {1}",
    "#### {0}",
    "So the answer is ${2}.",
    r"The answer is \${2}.",
    "The answer is {2} (rounded).",
    "She has {0} {1}",
    "$\\boxed{{{0}}}$ {1}\n\nThe answer is {0} {1}.",
    r"\boxed{{\${2}}}",
    r"\boxed{{{0}.00}}",
    "I first got \\boxed{{999999}}.\nWait.\nFinal answer: {0} {1}",
    "The answer is {0} {1}.",
    "So the answer is: {0} {1}",
    "Answer: {0} {1}",
    "**Answer:** {0} {1}",
    "#### {0} {1}",
    r"\boxed{{{0}}}",
    r"$\boxed{{{0}}}$ {1}",
    r"\boxed{{{2}}}",
    "The answer is ${2}.00.",
    "The answer is **{0}** {1}.",
    "The answer is about {0} {1}, rounded.",
    r"\boxed{{\approx {0}}}",
    r"\boxed{{{0} \text{{ (rounded)}}}}",
    r"\boxed{{\text{{Total: }} {0}}}",
    r"\boxed{{\text{{The answer is }} {0}}}",
    r"\boxed{{x = {0}}}",
    "<answer>{0}</answer>",
    "<answer>{0} {1}</answer>",
    "Janet therefore has {0} {1}.",
    "Therefore, it takes **{0} {1}** altogether.",
    "In total that is 5 + 13 = {0} {1}.",
    "3 * 6 = $<<3*6={0}>>{0} a day.",
    r"Thus she gets $\${2}$ in all.",
    "The total is ${0}$ {1}.",
    "The final answer is {0} {1} because 3 + 4 = 7.",
    "Final answer: {0}. I hope it is correct.",
    "So x = {0}",
    "Step 1: 5.\nStep 2: 7.\nTotal: {0} {1}",
    r"\[ 9 \times 2 = {0} \text{{ {1}}} \]",
    "Answer: {2} {1}",
    "答案是{0}。",
    "It is {0}.0 {1}.",
)
NOT_GSM8K = (
    "The final answer is {2} {1}.",
    r"\boxed{{{0} million {1}}}",
    r"\boxed{{{0} and a half {1}}}",
    "The final answer is {0} hours 50 minutes.",
    r"\boxed{{{0}, {2}}}",
    r"\boxed{{{0}}} and \boxed{{{2}}}",
    r"\boxed{{{0} {1} and 50 {1}}}",
    r"\boxed{{{0}\mathrm{{i}}}}",
    r"\boxed{{{0}\sqrt(2)}}",
    r"\boxed{{{0}:30}}",
    "\\boxed{{{0}}}\n\nFinal answer: {2}",
    "The answer is {0} dozen.",
    r"\boxed{{{2}}}",
    r"\boxed{{-{0}}}",
    r"\boxed{{{0}5}}",
    r"\boxed{{{0}.5}}",
    "The answer is {0}.5 {1}.",
    "The answer is -{0}.",
    "It comes to -{0} {1}.",
    "The answer is minus {0}.",
    r"\boxed{{{0} million}}",
    "He has {0} million {1}.",
    "He has {0} thousand.",
    "He bought {0} dozen.",
    "The answer is at least {0}.",
    "There are more than {0} {1}.",
    "The answer is {0} or {2}.",
    "It is {2} or {0}.",
    r"\boxed{{{0}x}}",
    r"\boxed{{{0}i}}",
    r"\boxed{{{0}\sqrt2}}",
    r"\boxed{{{0}^2 + 1}}",
    r"The probability is $\frac{{7}}{{{0}}}$.",
    "It is $7^{{{0}}}$.",
    "The ratio is {0}:7.",
    "The ratio is 7:{0}.",
    "It is {0}/7 of it.",
    "The time is 7:{0}5.",
    r"\boxed{{{0} hours 50 minutes}}",
    r"\boxed{{{0} cows and 9 hens}}",
    "So {0} cows and 9991 hens.",
    "The answer is {0} * 7 = {2}.",
    "The answer is not {0}.",
    r"\boxed{{{0}}}. No, the final answer is {2}.",
    "<answer>{2}</answer> (not {0})",
    r"\boxed{{{0} \text{{ and a half}}}}",
    r"\boxed{{{0}k}}",
    r"\boxed{{> {0}}}",
    "It holds for x > {0}.",
    "The point is (7, {0}).",
    r"\boxed{{({0}, 7)}}",
    r"\boxed{{{0} \pmod 7}}",
    r"\boxed{{{0}\%}} of \boxed{{7{0}}}",
)
