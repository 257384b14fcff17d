"""Which option a reply chooses, by a table made by hand, and how options are shown and graded."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropd_cli.answers.math_equal import stated_result
from ropd_cli.datasets.eval_sets import EvalQuestion
from ropd_cli.errors import InputError
from ropd_cli.evaluation.samples import Sample
from ropd_cli.evaluation.tasks.integer import read_integer
from ropd_cli.evaluation.tasks.multiple_choice import ChoiceTask, read_choice

MINERALS = ("quartz", "a mixture of salts", "Calcite", "feldspar and mica")
NUMBERS = ("5", "5.2 m", r"$\frac{1}{2}$", "None of the above")
ENERGIES = ("10^-4 eV", "10^-8 eV", "10^-9 eV", "10^-11 eV")
BLOOD = ("B", "A", "AB", "O")

READ = [  # (reply, letter or None), options MINERALS
    ("Answer: C", "C"),
    ("Answer: (A)", "A"),
    ("ANSWER: D", "D"),
    ("**Answer: B**", "B"),
    ("**Answer:** B", "B"),
    ("Answer: **(C)**", "C"),
    ("Answer：C", "C"),  # full-width colon
    ("Answer: [D]", "D"),
    ("Answer: `C`", "C"),
    ("Answer: $C$", "C"),
    (r"\boxed{C}", "C"),
    (r"So it is $\boxed{\text{C}}$.", "C"),
    (r"$\boxed{\textbf{(D)}\ \text{feldspar}}$", "D"),
    (r"\boxed{\mathrm{B}}", "B"),
    (r"\boxed{C. Calcite}", "C"),
    (r"\boxed{Calcite}", "C"),
    (r"The answer is $\boxed{b}$", "B"),
    ("The correct answer is option b.", "B"),
    ("the answer is c", "C"),
    ("The correct answer is **C**", "C"),
    ("The correct answer is (C) Calcite.", "C"),
    ("The correct answer is: \n\n**C) Calcite**", "C"),
    ("### Answer\nB", "B"),
    ("**Final answer**\n\n**D**", "D"),
    ("I choose option D.", "D"),
    ("I would go with (B).", "B"),
    ("Therefore, option C is correct.", "C"),
    ("(C) is the correct answer.", "C"),
    ("Thus, **D** is the best choice.", "D"),
    ("The best answer must be A.", "A"),
    ("The answer should be A, because quartz is hard.", "A"),
    ("The answer is A because quartz is hard.", "A"),
    ("Correct option: C", "C"),
    ("The correct choice is D", "D"),
    ("(D) feldspar and mica", "D"),
    ("D) feldspar and mica", "D"),
    ("Reasoning about rocks.\n\nD. feldspar and mica", "D"),
    ("**C**", "C"),
    ("C", "C"),
    ("c)", "C"),
    ("C.", "C"),
    ("Calcite", "C"),
    ("The mineral fizzes, so:\n\nCalcite.", "C"),
    ("The answer is Calcite.", "C"),
    ("Answer: a mixture of salts", "B"),  # "a" is an article: the text of option B
    ("The answer is A mixture of salts.", "B"),
    ("C\n\nExplanation: it fizzes with acid.", "C"),
    ("C. It fizzes with acid, as carbonates do.", "C"),
    ("<think>Answer: A</think>Answer: B", "B"),
    ("<think>The answer is A.</think>\n\n\\boxed{D}", "D"),
    ("Answer: A\nWait, that is wrong.\nAnswer: C", "C"),
    (r"First \boxed{A}. Checking again, the answer is D.", "D"),
    ("The answer is A at first sight. Looking again, \\boxed{B}", "B"),
    ("The answer is C, not B.", "C"),
    ("The answer is not B. The answer is C.", "C"),
    ("The answer is C. Option B is incorrect.", "C"),
    ("The answer is C. The answer is not B.", "C"),
    ("Answer: D\n\nOption A is wrong, since quartz is too hard.", "D"),
    ("Answer: C\n\n(A) is wrong because quartz does not fizz.", "C"),
    ("If the answer is A, then it would scratch glass. It does not. So the answer is C.", "C"),
    ("The answer is C. If the answer were A, it would scratch.", "C"),
    ("The wrong answer is A. The right answer is D.", "D"),
    ("I don't think the answer is B; the answer is D", "D"),
    ("Answer: B) a mixture of salts", "B"),
    ("My final answer is: option (D).", "D"),
    ("The answer is 'B'.", "B"),
    ("So the answer is D—feldspar and mica.", "D"),
    ("The answer is option C: Calcite", "C"),
    ("Answer: C and not D", "C"),
    ("The correct answer is therefore C.", "C"),
    ("The correct answer is the option (C).", "C"),
    ("The final answer is $\\mathbf{(C)}$.", "C"),
    ("The answer is D, and I don't think the answer is B", "D"),
    ("Answer: C\nThe wrong answer is A.", "C"),
    ("Answer: C\nNow check if the answer is A.", "C"),
    ("**Answer: B ✅**", "B"),
    ("Therefore, B.", "B"),
    ("A: no. B: yes. Therefore B.", "B"),
    ("Correct: B", "B"),
    ("Ans: B", "B"),
    ("```\nB\n```", "B"),
    ('{"answer": "B", "confidence": 0.9}', "B"),
    ("Answer: B\n\nConfidence: 80%", "B"),
    ("I first thought the answer is A, but the answer is B", "B"),
    ("Option A: no.\nOption B: yes.\nOption C: no.\nOption D: no.\n\nAnswer: B", "B"),
    ("> **B**", "B"),
    ("Option C", "C"),
    ("option (C)", "C"),
    ("**Option C.**", "C"),
    ("Answer: C\n\nB) a mixture of salts", "C"),  # an option that is only quoted
    ("The answer is C\n\nquartz", "C"),
    ("Answer: C\n**D**", "D"),
    ("Answer: C. If it were about salt, the answer would be B.", "C"),
    ("Answer: C\nHad it been soft, the answer would have been B.", "C"),
    ("Answer: C\nSuppose it is salty; then the answer would be B.", "C"),
    ("If we heat it, the answer is C.", "C"),
    ("The answer would be C.", "C"),
    ("故选C", "C"),
    ("因此选 B。", "B"),
    ("选项A错误，故选：D", "D"),
    ("正确答案是 C", "C"),
    ("```\nAnswer: C\n```", "C"),
    # no result
    ("```\n```", None),
    ("```", None),
    ("\ud83d", None),
    ("If it were salty, the answer would be B.", None),
    ("A: no. B: perhaps.", None),
    ("Answer: B or maybe C", None),
    ("Answer: A\nThe answer is X or B", None),  # the last statement names two, one of which does not exist
    ("Answer:\nB\nbecause it fizzes.", "B"),
    ("Answer: A\nIt fizzes.\nC", "C"),
    ("Answer: A\nC\nIt fizzes.", "A"),  # no last line
    (r"$\boxed{B}x$", "B"),
    ("A is the answer? No.", None),
    ("Plan B is best.", None),
    ("A person rises. The answer follows.", None),
    ("Answer: ?", None),
    ("", None),
    ("<think>Answer: A", None),  # cut off inside its thinking
    ("<think>Answer: A</think>", None),
    ("A careful look at the rock is needed.", None),  # an article
    ("I think that a sample of A horizon soil would help.", None),
    ("The answer is a matter of taste.", None),
    ("Answer: A or B", None),
    ("Answer: A/B", None),
    ("The answer is both B and C.", None),
    ("Answer: A, B", None),
    (r"\boxed{A, C}", None),
    ("Answer: C. Later: Answer: A or D", None),  # the last statement is undecided
    ("Answer: E", None),  # no such option
    ("(A) quartz\n(B) a mixture of salts\n(C) Calcite\n(D) feldspar and mica", None),  # lists all of them
    ("The options are (A) quartz, (B) a mixture of salts, (C) Calcite, (D) feldspar and mica.", None),
    ("It is not B.", None),
    ("Option B is incorrect.", None),
    ("The answer is not B.", None),
    ("The answer cannot be B.", None),
    ("We can rule out A and B.", None),
    ("Is the answer B?", None),
    ("The answer is unclear.", None),
    ("Answer: none of these", None),
    ("The answer is D-glucose.", None),  # D stands for no option here
    ("The answer is C–H activation.", None),
    ("Answer: $LETTER", None),  # the instruction repeated
    ("Vitamin B is best.", None),
]
OTHER_OPTIONS = [
    (NUMBERS, "The answer is 5.", "A"),
    (NUMBERS, "The answer is 5.2 m.", "B"),  # the longer option, not its beginning
    (NUMBERS, "The answer is 50.", None),
    (NUMBERS, r"\boxed{\frac{1}{2}}", "C"),
    (NUMBERS, r"The answer is \(\frac{1}{2}\).", "C"),
    (NUMBERS, "Answer: None of the above", "D"),
    (NUMBERS, r"\boxed{5}", "A"),
    (BLOOD, "Answer: B", "B"),  # a letter alone is a letter, whatever the options say
    (BLOOD, "Answer: AB", "C"),
    (tuple("pqrstuvwxy"), "Answer: J", "J"),
    (tuple("pqrstuvwxy"), "Answer: (H)", "H"),
    (tuple("pqrstuvwxy"), "I think so.", None),  # I is the pronoun, not an option
    (tuple("pqrstuvwxy"), "The answer is I", "I"),
    (("mV", "MV"), "The answer is 5 MV", None),
    (("mV", "MV"), "Answer: mV", None),  # read without regard to case the two are alike
    (("mV", "MV"), "Answer: B) MV", "B"),
    (ENERGIES, r"Therefore, the correct answer is option (A) $10^{-4}$ eV.", "A"),
    (ENERGIES, r"The answer is $\boxed{10^{-4}\ \text{eV}}$", "A"),
    (ENERGIES, r"$$\boxed{\text{A) }10^{-4}\text{ eV}}$$", "A"),
    (ENERGIES, "answer：（A）", "A"),
    (ENERGIES, "Answer: A (10^-4 eV)", "A"),
    (ENERGIES, "Answer: A - 10^-4 eV", "A"),
    (ENERGIES, "So, the answer is **(A) 10^-4 eV**.\n\nTo check: (B) 10^-8 eV is too small.", "A"),
    (ENERGIES, "The correct answer among the given options is A.", "A"),
    (ENERGIES, "The one that works is A.", "A"),
    (ENERGIES, "The one that is wrong is A.", None),
    (ENERGIES, "Therefore the option that matches is **A**.", "A"),
    (ENERGIES, "So I'd say the answer's B.", "B"),
    (ENERGIES, "I'm going with B.", "B"),
    (ENERGIES, "We select B", "B"),
    (ENERGIES, "This corresponds to option B.", "B"),
    (ENERGIES, "<answer>B</answer>", "B"),
    (ENERGIES, "Answer: <B>", "B"),
    (ENERGIES, "B because the state lives long.", "B"),
    (ENERGIES, "Only option A is right.", "A"),
    (ENERGIES, "Both A and B are correct.", None),
    (ENERGIES, "Answer: A + B", None),
    (ENERGIES, "The answer might be C.", None),
    (ENERGIES, "The correct answer is not listed.", None),
    (ENERGIES, "Could be A, could be D; hard to tell.", None),
    (ENERGIES, "Options A, C and D are wrong, leaving B.", None),  # by elimination alone: not read
    (("yes", "no"), "Answer: C", None),
    (("yes", "no"), "no", "B"),
]


@pytest.mark.parametrize(("reply", "letter"), READ)
def test_the_letter_of_the_last_statement(reply, letter):
    assert read_choice(reply, MINERALS) == letter


@pytest.mark.parametrize(("options", "reply", "letter"), OTHER_OPTIONS)
def test_other_options(options, reply, letter):
    assert read_choice(reply, options) == letter


GPQA_LIKE = EvalQuestion(
    id="q1",
    prompt="Which invented mineral hums?",
    answer="hummite",
    **{
        "Correct Answer": "hummite\n",
        "Incorrect Answer 1": "dullite",
        "Incorrect Answer 2": "b",
        "Incorrect Answer 3": "c",
    },
)


def sample(text, *, question=GPQA_LIKE, index=0, key=None, finish="stop"):
    return Sample(benchmark="x", id=question.id, sample=index, text=text, finish_reason=finish, key=key)


def test_options_are_shuffled_by_seed_question_and_sample_and_graded_by_the_key():
    task = ChoiceTask(seed=7)
    asked = [task.ask(GPQA_LIKE, index) for index in range(40)]
    assert asked[3] == ChoiceTask(seed=7).ask(GPQA_LIKE, 3)
    assert len({tuple(one.key["order"]) for one in asked}) > 10
    assert {one.key["letter"] for one in asked} == set("ABCD")
    assert [one.key["order"] for one in asked] != [ChoiceTask(seed=8).ask(GPQA_LIKE, i).key["order"] for i in range(40)]
    for index, one in enumerate(asked):
        shown = one.messages[-1].content
        assert f"{one.key['letter']}) hummite\n" in shown and shown.count("hummite") == 1
        right = asyncio.run(task.grade(GPQA_LIKE, sample(f"Answer: {one.key['letter']}", index=index, key=one.key)))
        wrong_letter = next(letter for letter in "ABCD" if letter != one.key["letter"])
        wrong = asyncio.run(task.grade(GPQA_LIKE, sample(f"Answer: {wrong_letter}", index=index, key=one.key)))
        assert right.scores == {"accuracy": 1.0} and right.extracted == "0"
        assert wrong.scores == {"accuracy": 0.0} and wrong.extracted in ("1", "2", "3")


def test_the_order_is_the_documented_one():
    """Holds the order for ever: samples of an older version must be graded as they were asked."""
    hashes = [hashlib.sha256(f'[5, "q1", 3, {option}]'.encode()).hexdigest() for option in range(4)]
    order = [hashes.index(one) for one in sorted(hashes)]
    assert order == [1, 0, 2, 3]
    assert ChoiceTask(seed=5).ask(GPQA_LIKE, 3).key == {"letter": "ABCD"[order.index(0)], "order": order}


def test_without_a_result_the_score_is_zero():
    grade = asyncio.run(ChoiceTask(seed=0).grade(GPQA_LIKE, sample("<think>Answer: A", finish="length")))
    assert grade.scores == {"accuracy": 0.0} and grade.extracted is None and grade.why_missing is None


@pytest.mark.parametrize(
    ("answer", "more", "gold"),
    [
        ("B", {"choices": ["x", "y", "z"]}, 1),
        ("(c)", {"options": ["x", "y", "z"]}, 2),
        ("0", {"choices": ["x", "y", "z"]}, 0),
        ("z", {"choices": ["x", "y", "z"]}, 2),
        ("2", {"choices": {"text": ["x", "y"], "label": ["1", "2"]}}, 1),
        ("y", {"choices": {"A": "x", "B": "y"}}, 1),
        ("2", {"choices": ["1", "2", "3"], "answer_index": 1}, 1),
    ],
)
def test_generic_sets(answer, more, gold):
    question = EvalQuestion(id="g", prompt="Which?", answer=answer, **more)
    task = ChoiceTask(seed=1)
    task.check(question)
    key = task.ask(question, 0).key
    assert key["order"]["ABC".index(key["letter"])] == gold


@pytest.mark.parametrize(
    ("answer", "more", "said"),
    [
        ("B", {}, "no options"),
        (None, {"choices": ["x", "y"]}, "no answer"),
        ("E", {"choices": ["x", "y"]}, "none of its options"),
        ("2", {"choices": ["1", "2", "3"]}, "two ways"),  # the second option's text, or the index of the third
        ("B", {"choices": ["x"]}, "no options"),
        ("B", {"choices": ["x", ""]}, "empty"),
    ],
)
def test_a_question_that_cannot_be_graded_is_refused_without_its_text(answer, more, said):
    question = EvalQuestion(id="g17", prompt="SECRET", answer=answer, **more)
    with pytest.raises(InputError, match="g17") as refused:
        ChoiceTask(seed=1).check(question)
    assert said in refused.value.message and "SECRET" not in refused.value.message + (refused.value.hint or "")


def test_equal_options_are_one():
    question = EvalQuestion(id="d", prompt="Which?", answer="A", choices=["x", "x", "y"])
    task, grades = ChoiceTask(seed=1), set()
    for index in range(9):
        key = task.ask(question, index).key
        letter = "ABC"[key["order"].index(index % 2)]
        grade = asyncio.run(task.grade(question, sample(f"Answer: {letter}", question=question, index=index, key=key)))
        grades.add((grade.scores["accuracy"], grade.extracted))
    assert grades == {(1.0, "0")}


@given(st.text(alphabet="ABCDE()*.:, \n{}\\$answerisboxednot<think>/", max_size=80))
def test_reading_takes_any_text(reply):
    assert read_choice(reply, MINERALS) in (None, *"ABCD")
    assert (found := read_integer(reply)) is None or 0 <= found <= 999
    assert (stated := stated_result(reply)) is None or isinstance(stated, str)


@pytest.mark.parametrize(
    "piece", ["a", "A is ", "answer is ", "####", r"\boxed{", "Answer: A or ", "$$", r"\( ", "( ", "9", "\n", " ", "*"]
)
def test_a_reply_that_repeats_itself_is_read_in_linear_time(piece):
    """Ten thousand tokens of one piece; what takes the square of that takes minutes, which the runner's limit ends."""
    text = "The answer is " + piece * 30_000
    read_choice(text, MINERALS)
    read_integer(text)
