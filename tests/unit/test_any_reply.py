"""Any reply is graded, by every grader of results, and reading it takes work that grows with its length."""

from __future__ import annotations

import asyncio
import time

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ropd_cli.answers.choice import read_choice
from ropd_cli.answers.exact_match import canonical, is_exact
from ropd_cli.answers.final_answer import stated_result
from ropd_cli.answers.math_equal import MAX_CHARS, MathGrader, _based, _percentage
from ropd_cli.answers.result_text import alike, formula_of, has_variables, is_words
from ropd_cli.datasets.eval_sets import EvalQuestion, load_eval_set
from ropd_cli.evaluation.samples import Grade, Sample
from ropd_cli.evaluation.tasks.exact_string import ExactTask
from ropd_cli.evaluation.tasks.ifeval import followed, instructions_of, visible_answer
from ropd_cli.evaluation.tasks.ifeval_text import English
from ropd_cli.evaluation.tasks.integer import IntegerTask, read_integer
from ropd_cli.evaluation.tasks.maths import MathTask, written_alike
from ropd_cli.evaluation.tasks.multiple_choice import ChoiceTask

OPTIONS = ("quartz", "a mixture of salts", "Calcite", "feldspar and mica")
QUESTION = EvalQuestion(id="q", prompt="?", answer="7", choices=["7", *OPTIONS])
TOKENS = r"\boxed{ } ( ) $ \( \) \[ \] # ``` ** Answer: answer is A B C 7 1/2 , and or \frac \sqrt ^ _ % e i 1e9 \pm"
ODD = ("\n", " ", "\ud800", "\udc00", "\x00", "²", "½", "√", "７", "\\text{", "Final answer: ", "</think>", "<think>")
PIECES = st.sampled_from((*TOKENS.split(), *ODD))
REPLIES = st.one_of(st.text(st.characters(exclude_categories=())), st.lists(PIECES, max_size=24).map("".join))


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(reply=REPLIES)
@example(reply="```\n```")
@example(reply="```")
@example(reply="\\boxed{\ud83d}")
@example(reply="Answer: \ud83d\n")
@example(reply="\\boxed{²}")
@example(reply="\\boxed{NaN}")
@example(reply="\\boxed{sNaN}")
@example(reply="\\boxed{1e999999999}")
@example(reply="\\boxed{" + "^(" * 4000 + ")" * 4000 + "}")
@example(reply="\\boxed{" + "9" * 50_000 + "}")
@example(reply="\\boxed{" + "9" * 9000 + "_{36}}")
def test_any_reply_gets_a_grade_that_can_be_written(reply):
    sample = Sample(benchmark="b", id="q", sample=0, text=reply, finish_reason="stop")
    for task in (ExactTask(), IntegerTask(), ChoiceTask(seed=1)):
        grade = asyncio.run(task.grade(QUESTION, sample))
        assert grade.scores["accuracy"] in (0.0, 1.0)
        assert_can_be_written(grade)
    is_exact(reply, "7")
    found = stated_result(reply)
    if found:
        for reader in RESULT_READERS:
            reader(found[:MAX_CHARS])
        written_alike(found)


def assert_can_be_written(grade):
    assert Grade.model_validate_json(orjson.dumps(grade.to_json())) == grade


@pytest.fixture(scope="module")
def maths():
    """(ask, loop) of one task that compares results: its workers take a second to start."""
    loop = asyncio.new_event_loop()
    task = MathTask(MathGrader(time_limit_s=1.0, workers=1))

    def grade(reply):
        sample = Sample(benchmark="b", id="q", sample=0, text=reply, finish_reason="stop")
        return loop.run_until_complete(task.grade(QUESTION, sample))

    yield grade
    loop.run_until_complete(task.__aexit__(None, None, None))
    loop.close()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(reply=REPLIES)
@example(reply="\\boxed{\ud83d+1}")
@example(reply="\\boxed{" + "(" * 2000 + "}")
def test_any_reply_gets_a_grade_from_maths(maths, reply):
    grade = maths(reply)
    assert grade.scores["accuracy"] in (0.0, 1.0) and grade.why_missing is None
    assert_can_be_written(grade)


@pytest.fixture(scope="module")
def instructions():
    """One instruction of each kind of IFEval."""
    each = (one for question in load_eval_set("ifeval").questions for one in instructions_of(question))
    return tuple({kind: (kind, arguments) for kind, arguments in each}.values())


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(reply=REPLIES)
def test_any_reply_is_read_by_the_rules_of_ifeval(instructions, reply):
    strict, loose = followed(instructions, visible_answer(reply), English())
    assert len(strict) == len(loose) == len(instructions) > 20


# Work. Regular expressions have no counter of their steps, and instructions of the processor can't be counted
# everywhere. Processor time of this thread at two lengths, the least of several runs, stands for them: others on the
# machine add little to it. From one length to another eight times as long it grows 8-fold, by a pattern that is
# quadratic 64-fold; the limit is half way between, since caches and other processes do add something.

TEXT_READERS = {
    "choice": lambda text: read_choice(text, OPTIONS),
    "integer": read_integer,
    "stated": stated_result,
    "exact": lambda text: is_exact(f"\\boxed{{{text}}}", "7"),
    "canonical": canonical,
    "written alike": written_alike,
}
RESULT_READERS = (
    alike,
    is_words,
    has_variables,
    _percentage,
    _based,
    lambda text: formula_of(text, False),
    lambda text: formula_of(text, True),
)
REPEATED = [
    ("answer", " "),
    ("Answer:", "\n"),
    ("# ", "\t"),
    ("The answer is ", r"\( "),
    ("", "answer:\nso we go on and on\n"),
    ("The answer is 5", " word"),
    ("", "####"),
    ("", r"\boxed{1} and "),
    ("5", " % "),
    ("", "9"),
    ("", "1,234,"),
    ("", "_"),
    ("", "1 1/2 "),
    ("", "A is "),
]
GROWTH, SLACK_NS = (8 * 64) ** 0.5, 3_000_000  # and a pause of the interpreter
RESULT, REPLY, MEGABYTE = 1 << 12, 1 << 14, 1 << 20


def work(reader, text, runs):
    """Processor time of this thread for one reading, the least of several."""
    taken = []
    for _ in range(runs):
        begun = time.thread_time_ns()
        reader(text)
        taken.append(time.thread_time_ns() - begun)
    return min(taken)


def assert_linear(reader, before, piece, longest):
    """Whether reading grows with the length, up to ``longest`` characters."""
    short, long = (before + piece * (length // len(piece)) + "x" for length in (longest // 8, longest))
    least = work(reader, short, 3)
    most = work(reader, long, 1)
    if most > GROWTH * least + SLACK_NS:
        most = work(reader, long, 3)
    assert most <= GROWTH * least + SLACK_NS, (before, piece, least, most)


@pytest.mark.parametrize("reader", TEXT_READERS)
@pytest.mark.parametrize(("before", "piece"), REPEATED, ids=repr)
def test_reading_a_reply_is_linear(reader, before, piece):
    assert_linear(TEXT_READERS[reader], before, piece, 8 * REPLY)


@pytest.mark.parametrize("reader", TEXT_READERS)
@pytest.mark.parametrize(("before", "piece"), REPEATED[:2], ids=repr)
def test_reading_a_megabyte_is_linear(reader, before, piece):
    assert_linear(TEXT_READERS[reader], before, piece, REPLY)  # a square is told in seconds
    assert_linear(TEXT_READERS[reader], before, piece, MEGABYTE)


@pytest.mark.parametrize("reader", range(len(RESULT_READERS)))
def test_reading_a_result_is_linear(reader):
    for before, piece in [*REPEATED, ("", "^("), ("", "\\frac{"), ("", "\\text{"), ("", "word: "), ("", "5 and ")]:
        assert_linear(RESULT_READERS[reader], before, piece, 8 * RESULT)


def test_reading_by_the_rules_of_ifeval_is_linear(instructions):
    english = English()
    english.sentences("Load the splitter. Now.")
    for before, piece in (("", " "), ("a", "\n"), ("", "a "), ("", "* "), ("", "<<"), ("", "P.S. ")):
        for instruction in instructions:
            assert_linear(lambda text, one=instruction: followed((one,), text, english), before, piece, 8 * RESULT)
