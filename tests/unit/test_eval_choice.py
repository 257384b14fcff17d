"""Which option an answer chooses: a table made by hand, and the order of options that each sample has."""

from collections import Counter

import pytest

from ropd_cli.errors import InputError
from ropd_cli.evaluation.records import Sample
from ropd_cli.evaluation.tasks.choice import ChoiceTask
from ropd_cli.evaluation.tasks.letters import chosen_option
from ropd_cli.tasks.evalsets import EvalQuestion

OPTIONS = ["a lone electron", "two photons", "10 m/s", "the Higgs boson"]
A, B, C, D, NONE = 0, 1, 2, 3, None

TABLE = [
    # plainly said
    ("Answer: C", C),
    ("Answer: (C)", C),
    ("Answer: C.", C),
    ("**Answer:** C", C),
    ("**Answer: C**", C),
    ("Answer: **C**", C),
    ("### Answer\n\nC", C),
    ("ANSWER: D", D),
    ("answer: d", D),
    ("The answer is B.", B),
    ("The correct answer is option b.", B),
    ("the correct option is (a)", A),
    ("The final answer is: **B**", B),
    ("The answer is therefore D.", D),
    ("The best choice is [D].", D),
    ("My answer: 'B'", B),
    ("The answer is A", A),
    ("Final Answer: Option A", A),
    ("The answer is\n\nD", D),
    ("Answer - C", C),
    ("Correct answer → B", B),
    # boxes
    (r"\boxed{C}", C),
    (r"\boxed{\text{C}}", C),
    (r"\boxed{(C)}", C),
    (r"\boxed{\textbf{(B)}}", B),
    (r"$$\boxed{\mathrm{D}}$$", D),
    (r"\boxed{C) 10 m/s}", C),
    (r"The final answer is $\boxed{B}$.", B),
    (r"\boxed{10\text{ m/s}}", C),
    (r"\boxed{\text{two photons}}", B),
    (r"\boxed{A} was my first idea, but it is \boxed{D}", D),
    # said of the option
    ("Option C is correct.", C),
    ("(D) is the correct answer.", D),
    ("B is the right choice here.", B),
    ("So option B must be correct.", B),
    ("I choose C.", C),
    ("I would go with option D", D),
    ("I'll go with (a).", A),
    ("Therefore, C.", C),
    ("Thus the answer must be B", B),
    ("This corresponds to option D.", D),
    # nothing but an option
    ("C", C),
    ("(c)", C),
    ("**D**", D),
    ("B)", B),
    ("B) two photons", B),
    ("(D) the Higgs boson", D),
    ("D. the Higgs boson", D),
    ("The Higgs boson", D),
    ("Long thoughts about photons.\n\nC", C),
    ("A\n\nBecause a lone electron has charge.", A),
    ("After all this it can only be the Higgs boson.", D),
    # the last statement counts
    ("Answer: A\nWait, that is wrong.\nAnswer: B", B),
    ("At first I thought the answer is A. But the answer is C.", C),
    ("The answer is B. Option A is a distractor and option D is, too.", B),
    ("The answer is C, because A is too small and B too large.", C),
    ("Option A is correct if g = 9.8. Since g = 10, option C is correct.", C),
    # text behind the letter, with and without a sign between
    ("Answer: C 10 m/s", C),
    ("The answer is D, the Higgs boson.", D),
    ("The answer is D (the Higgs boson).", D),
    ("The answer is A a lone electron", A),
    ("Answer: the Higgs boson", D),
    ("The correct answer is two photons.", B),
    # not fooled
    ("The answer is a matter of taste.", NONE),
    ("A photon has no mass.", NONE),
    ("I think so.", NONE),
    ("Answer: A or B", NONE),
    ("The answer is A and C.", NONE),
    ("Answer: A/B", NONE),
    ("The answer is either B or D.", NONE),
    ("Both A and B is correct", NONE),
    ("The answer is not B.", NONE),
    ("B is not correct.", NONE),
    ("Option B is incorrect.", NONE),
    ("I don't think the answer is B.", NONE),
    ("Is the answer B?", NONE),
    ("If the answer is B, then charge is lost.", NONE),
    ("The options are:\nA) a lone electron\nB) two photons\nC) 10 m/s\nD) the Higgs boson", NONE),
    ("A) a lone electron: no\nB) two photons: no\nC) 10 m/s: perhaps", NONE),
    ("It is not the Higgs boson.", NONE),
    ("Vitamin C helps.", NONE),
    ("The temperature is 20 °C", NONE),
    ("", NONE),
    ("I can't answer this.", NONE),
    ("The answer is E.", NONE),
    # a list of the options, and then a statement
    ("A) a lone electron\nB) two photons\nC) 10 m/s\nD) the Higgs boson\n\nAnswer: B", B),
    ("Not A, not B. We can eliminate D. The answer is C.", C),
    ("Neither A nor B is correct; the answer is D", D),
    ("A: wrong. B: wrong. D: wrong. So, C.", C),
    # as models write
    ("**Answer: (B)**\n\n**Explanation:** Option A is wrong because it has charge.", B),
    ("Hence, the correct option is **(C)**.", C),
    ("$\\boxed{\\text{Option D}}$", D),
    ("The answer: B) two photons", B),
    ("Answer:\n**D**", D),
    ("So the final choice: A.", A),
    ("Among the options, only C is consistent with this.", C),
    ("C is the answer", C),
    ("it must be D.", D),
    ("Answer: [[B]]", B),
    ("ANSWER IS C", C),
    ("答案：C", C),
    ("答案是 B。", B),
    ("Answer: $C$", C),
    ("Answer: \\(C\\)", C),
    ("Answer:C", C),
    ("<answer>C</answer>", C),
    ("The answer would be (C), not (D).", C),
    ("I am confident that the answer is C!", C),
    ("Option (B): two photons is correct", B),
    ("The correct answer is:\n\n**C) 10 m/s**", C),
    ("The correct answer is **C. 10 m/s**\n\nA is wrong since...\nB is wrong since...", C),
    ("Let me check A. A has charge. B does not. So it's B.", B),
    ("Final answer: A\n\n---\nConfidence: 90%", A),
    ("Correct: D", D),
    ("Selected option: B", B),
    ("Answer: D) The Higgs boson.\n", D),
    ("Step 1: ... \nStep 2: ...\nAnswer: X", NONE),
    ("The answer is C or possibly D.", NONE),
    ("answer is option (A) and option (B)", NONE),
    ("We have E = mc^2, so a photon.", NONE),
    ("Plan B is good.", NONE),
    ("The correct answer is the Higgs boson, i.e. option D.", D),
    ("The answer is 10 m/s.", C),
    ("Answer: (B) two photons\nAnswer: (B)", B),
    ("None of the above.", NONE),
    ("The answer isn't C.", NONE),
    ("D is the only option that conserves charge.", D),
    ("My choice is B: two photons.", B),
    ("Answer: $\\mathbf{D}$", D),
    ("**\\boxed{\\mathbf{A}}**", A),
    ("Answer: A, B", NONE),
    ("A", A),
    ("a", A),
    ("The answer is: a", A),
    ("I", NONE),
    ("Answer: **A** is incorrect, so **B**", B),
]


@pytest.mark.parametrize(("text", "expected"), TABLE)
def test_the_last_statement(text, expected):
    assert chosen_option(text, OPTIONS) == expected


def question(**fields):
    return EvalQuestion(id="q1", prompt="Which?", **fields)


def sample(text, key, number=0):
    return Sample(benchmark="b", id="q1", sample=number, text=text, finish_reason="stop", key=key)


GPQA = {"answer": "right", "Incorrect Answer 1": "w1", "Incorrect Answer 2": "w2", "Incorrect Answer 3": "w3"}


async def test_options_are_shuffled_for_each_sample_and_graded_by_what_was_chosen():
    task, asked = ChoiceTask(seed=0), question(**GPQA)
    places = Counter()
    for number in range(400):
        put = task.ask(asked, number)
        places[put.key["letter"]] += 1
        text = put.messages[0].content
        assert f"{put.key['letter']}) right" in text and all(f") {w}" in text for w in ("w1", "w2", "w3"))
        assert put == task.ask(asked, number)
    assert set(places) == set("ABCD") and all(70 < count < 130 for count in places.values())
    for number in range(4):
        key = dict(task.ask(asked, number).key)
        good = await task.grade(asked, sample(f"Answer: {key['letter']}", key, number))
        assert good.scores == {"accuracy": 1.0} and good.extracted == "0"
        other = next(letter for letter in "ABCD" if letter != key["letter"])
        bad = await task.grade(asked, sample(f"<think>Answer: {key['letter']}</think>Answer: {other}", key, number))
        assert bad.scores == {"accuracy": 0.0} and bad.extracted in ("1", "2", "3")
    nothing = await task.grade(asked, sample("<think>Answer: A", key))
    assert nothing.scores == {"accuracy": 0.0} and nothing.extracted is None
    unknown = await task.grade(asked, sample("Answer: A", None))
    assert unknown.scores == {"accuracy": None} and unknown.why_missing
    assert ChoiceTask(seed=1).ask(asked, 0).key["order"] != ChoiceTask(seed=2).ask(asked, 0).key["order"] or (
        ChoiceTask(seed=1).ask(asked, 1).key["order"] != ChoiceTask(seed=2).ask(asked, 1).key["order"]
    )


@pytest.mark.parametrize("answer", ["b", "1", "two", "B"])
async def test_other_sets(answer):
    task = ChoiceTask(seed=0)
    for fields in ({"choices": ["one", "two", "three"]}, {"options": {"A": "one", "B": "two", "C": "three"}}):
        asked = question(answer=answer, **fields)
        key = task.ask(asked, 0).key
        assert key["order"]["ABC".index(key["letter"])] == 1


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"answer": "A"}, "no options"),
        ({"answer": "A", "choices": ["x"]}, "1 options"),
        ({"answer": "A", "choices": ["x", "x"]}, "equal"),
        ({"answer": "Z", "choices": ["x", "y"]}, "none of its options"),
        ({"choices": ["x", "y"]}, "no options"),
    ],
)
def test_what_can_not_be_asked(fields, says):
    with pytest.raises(InputError, match=says):
        ChoiceTask(seed=0).check(question(**fields))
