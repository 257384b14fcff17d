"""IFEval's rules by a table made by hand from what the authors' rules say, and the task around them."""

import asyncio
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import ropd_cli
from ropd_cli.datasets.eval_sets import EvalQuestion, load_eval_set
from ropd_cli.errors import InputError
from ropd_cli.evaluation.samples import Sample
from ropd_cli.evaluation.tasks.ifeval import IfevalTask, followed, instructions_of, visible_answer
from ropd_cli.evaluation.tasks.ifeval_instructions import KINDS, follows
from ropd_cli.evaluation.tasks.ifeval_text import English

ENGLISH = "the house is small and the garden behind it is full of apple trees"
GERMAN = "Das Haus ist klein und der Garten dahinter ist voller Apfelbäume."
KEYWORD = {"keyword": "cat", "frequency": 2, "relation": "at least"}
FEWER = KEYWORD | {"relation": "less than"}
LETTER = {"letter": "q", "let_frequency": 2, "let_relation": "less than"}
SENTENCES = {"num_sentences": 3, "relation": "at least"}
WORDS = {"num_words": 3, "relation": "less than"}
FIRST = {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "elm"}
CAPITALS = {"capital_frequency": 2, "capital_relation": "at least"}
SECTIONS = {"section_spliter": "Section", "num_sections": 2}

TABLE = [
    ("keywords:existence", {"keywords": ["apple", "sun"]}, "Apples in the SUN", True),  # case and endings are free
    ("keywords:existence", {"keywords": ["apple", "sun"]}, "apple", False),
    ("keywords:existence", {"keywords": ["c++"]}, "I like C++.", True),  # a word, not a pattern
    ("keywords:existence", {"keywords": ["a.c"]}, "abc", False),
    ("keywords:frequency", KEYWORD, "Cat, concatenate", True),  # inside a word counts
    ("keywords:frequency", KEYWORD, "one cat", False),
    ("keywords:frequency", FEWER, "one cat", True),
    ("keywords:frequency", FEWER, "cat cat", False),
    ("keywords:forbidden_words", {"forbidden_words": ["dog"]}, "dogma", True),  # only as a whole word
    ("keywords:forbidden_words", {"forbidden_words": ["dog"]}, "A Dog.", False),
    ("keywords:forbidden_words", {"forbidden_words": ["dog"]}, "hot-dog", False),  # a hyphen ends a word
    ("keywords:forbidden_words", {"forbidden_words": ["dog"]}, "dog_house", True),  # an underscore does not
    ("keywords:letter_frequency", LETTER, "Quiet", True),
    ("keywords:letter_frequency", LETTER, "Quiet q", False),  # capitals count too
    ("keywords:letter_frequency", {"letter": "#", "let_frequency": 2, "let_relation": "at least"}, "# #", True),
    ("keywords:letter_frequency", {"letter": "#", "let_frequency": 2, "let_relation": "at least"}, "no marks", False),
    ("language:response_language", {"language": "de"}, GERMAN, True),
    ("language:response_language", {"language": "de"}, ENGLISH, False),
    ("language:response_language", {"language": "de"}, "123 !", True),  # no letters: can't be held against it
    ("language:response_language", {"language": "zh"}, "这是一个关于房子和花园的简短回答", True),  # zh-cn is zh
    ("length_constraints:number_sentences", SENTENCES, "One. Two. Three.", True),
    ("length_constraints:number_sentences", SENTENCES, "Dr. Smith came at 3.15 p.m. today. He left.", False),
    ("length_constraints:number_sentences", SENTENCES, "One\nTwo\nThree\n", False),  # lines are no sentences
    ("length_constraints:number_sentences", SENTENCES, "Why? Because! So.", True),
    ("length_constraints:number_words", WORDS, "two words", True),
    ("length_constraints:number_words", WORDS, "don't stop", False),  # don + t + stop
    ("length_constraints:number_words", WORDS, "state_of_art well", True),
    ("length_constraints:number_words", WORDS, "a-b-c", False),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", True),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***\na\n***\nb\n***", True),  # empty at the ends
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\n***\nb", False),  # empty within
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n\nb", False),  # not the divider
    ("length_constraints:nth_paragraph_first_word", FIRST, "One.\n\nElm, a tree", True),
    ("length_constraints:nth_paragraph_first_word", FIRST, "One.\n\n'\"Elm\" a", True),  # quotes before it go
    ("length_constraints:nth_paragraph_first_word", FIRST, "One.\n\nElms", False),
    ("length_constraints:nth_paragraph_first_word", FIRST, "\n\nOne.\n\nelm", False),  # the empty one is numbered
    ("length_constraints:nth_paragraph_first_word", FIRST, "One.\n\nelm\n\nThree", False),
    ("length_constraints:nth_paragraph_first_word", FIRST, "One.\n\n(Elm", False),  # a bracket belongs to the word
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] and [b c]", True),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[[a] [b", False),
    ("detectable_content:number_placeholders", {"num_placeholders": 1}, "[a\nb]", False),  # not over lines
    ("detectable_content:number_placeholders", {"num_placeholders": 1}, "[]", True),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "] [a] [\n[b]", True),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\np. s. more", True),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye. PS more", False),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "P.P.S. more", True),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "P.S. more", False),
    ("detectable_content:postscript", {"postscript_marker": "N.B."}, "see n.b. this", True),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n  - b", True),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n* b\n- c", False),  # exactly so many
    ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "**bold**\n* a", True),  # bold is no bullet
    ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "*\n* a", True),  # the star takes the next line
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n---", True),  # a rule counts as a bullet
    ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "• a", False),
    ("detectable_format:constrained_response", {}, "Well: My answer is no. Sorry", True),
    ("detectable_format:constrained_response", {}, "my answer is no.", False),  # case matters here
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* *b*", True),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "**a**", False),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "* a\n* b", False),  # bullets
    ("detectable_format:number_highlighted_sections", {"num_highlights": 1}, "* *", False),  # nothing inside
    ("detectable_format:multiple_sections", SECTIONS, "Section 1\nSection 2", True),
    ("detectable_format:multiple_sections", SECTIONS, "SECTION 1 Section 2", False),
    ("detectable_format:multiple_sections", {"section_spliter": "Section", "num_sections": 1}, "Section X", False),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', True),
    ("detectable_format:json_format", {}, 'Here it is: {"a": 1}', False),
    ("detectable_format:json_format", {}, '{"a": 1,}', False),
    ("detectable_format:json_format", {}, "12", True),  # any JSON value is JSON
    ("detectable_format:json_format", {}, "[" * 100_000, False),
    ("detectable_format:title", {}, "<<A poem>>\ntext", True),
    ("detectable_format:title", {}, "<<  >>", False),
    ("detectable_format:title", {}, "<<a\nb>>", False),
    ("detectable_format:title", {}, "<A poem>", False),
    ("combination:two_responses", {}, "one\n******\ntwo", True),
    ("combination:two_responses", {}, "one******one", False),  # two different ones
    ("combination:two_responses", {}, "******one******two******", True),
    ("combination:two_responses", {}, "one******two******three", False),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi."}, " SAY HI. Hi!", True),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi."}, "Sure. Say hi.", False),
    ("startend:end_checker", {"end_phrase": "The end."}, 'So. the END."\n', True),
    ("startend:end_checker", {"end_phrase": "The end."}, "The end", False),
    ("startend:quotation", {}, ' "all of it" ', True),
    ("startend:quotation", {}, '"', False),
    ("startend:quotation", {}, "“all of it”", False),  # only straight ones
    ("change_case:capital_word_frequency", CAPITALS, "NASA and I", True),
    ("change_case:capital_word_frequency", CAPITALS, "STATE-OF-THE-ART", False),  # one word
    ("change_case:capital_word_frequency", CAPITALS, "B2B 100", False),
    ("change_case:english_capital", {}, ENGLISH.upper(), True),
    ("change_case:english_capital", {}, ENGLISH.upper() + " x", False),
    ("change_case:english_capital", {}, GERMAN.upper(), False),
    ("change_case:english_lowercase", {}, ENGLISH, True),
    ("change_case:english_lowercase", {}, ENGLISH + " I", False),
    ("change_case:english_lowercase", {}, GERMAN.lower(), False),
    ("punctuation:no_comma", {}, "a; b，c", True),  # another comma than the English one
    ("punctuation:no_comma", {}, "a, b", False),
]  # fmt: skip


@pytest.fixture(scope="module")
def english():
    return English()


@pytest.mark.parametrize(("kind", "arguments", "answer", "expected"), TABLE)
def test_rule(english, kind, arguments, answer, expected):
    assert not KINDS[kind].faults(arguments)
    assert follows(kind, answer, arguments, english) is expected


def test_the_table_has_both_outcomes_of_every_kind():
    assert len(TABLE) >= 60
    assert {(kind, expected) for kind, _, _, expected in TABLE} == {(k, e) for k in KINDS for e in (True, False)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", ["", " \n\t", "\xa0"])
def test_nothing_follows_no_instruction(english, kind, answer):
    arguments = next(arguments for k, arguments, _, _ in TABLE if k == kind)
    assert not follows(kind, answer, arguments, english)


@pytest.mark.parametrize(
    ("answer", "kind", "arguments"),
    [
        ("Sure, here:\n{}", "detectable_format:json_format", {}),  # without the first line
        ('"quoted"\nAnything else?', "startend:quotation", {}),  # without the last
        ('Sure\n{"a": 1}\nBye', "detectable_format:json_format", {}),  # without both
        ('**"quoted"**', "startend:quotation", {}),  # without stars
        ('Sure\n*{"a": 1}*\nBye', "detectable_format:json_format", {}),  # all of it
    ],
)
def test_loose_forgives_what_stands_around(english, answer, kind, arguments):
    assert followed(((kind, arguments),), answer, english) == ([False], [True])


def test_loose_is_never_stricter_than_strict(english):
    for kind, arguments, answer, expected in TABLE:
        [strict], [loose] = followed(((kind, arguments),), answer, english)
        assert strict is expected and loose >= strict


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a, b", "a, b"),
        ("  a", "  a"),  # no thinking: as it came
        ("<think>x, y</think>\n\na", "a"),
        ("x, y</think>a", "a"),  # the template had opened it
        ("<think>x, y", ""),  # cut off inside
        ("<think>x</think>  \n", ""),
    ],
)
def test_thinking_is_not_judged(text, expected):
    assert visible_answer(text) == expected


def test_language_is_drawn_alike_in_any_thread_and_leaves_others_alone(english):
    import langdetect

    before = langdetect.DetectorFactory.seed
    text, found = "hola ciao bonjour ok", []

    def look():
        found.extend(english.language(text) for _ in range(5))

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    random.seed(7)
    look()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and len(found) == 20
    assert langdetect.DetectorFactory.seed == before


def question(kinds, kwargs, prompt="Do it."):
    return EvalQuestion(id="7", prompt=prompt, instruction_id_list=kinds, kwargs=kwargs)


def sample(text):
    return Sample(benchmark="ifeval", id="7", sample=0, text=text, finish_reason="stop")


async def test_grade_counts_prompts_and_instructions(english):
    asked = question(
        ["punctuation:no_comma", "startend:quotation", "detectable_format:title"],
        [{"num_words": None}, None, {}],  # arguments as a table fills them in
    )
    async with IfevalTask(english) as task:
        task.check(asked)
        assert [m.content for m in task.ask(asked, 3).messages] == ["Do it."]
        grade = await task.grade(asked, sample('<think>a, b</think>"<<T>>"\nBye'))
        nothing = await task.grade(asked, sample("<think>no end"))
        right = await task.grade(asked, sample('"<<T>>"'))
    assert grade.scores == {"prompt_strict": 0.0, "prompt_loose": 1.0}
    assert grade.counts == {"inst_strict": (2, 3), "inst_loose": (3, 3)}
    assert [each["strict"] for each in grade.detail["instructions"]] == [True, False, True]
    assert nothing.counts == {"inst_strict": (0, 3), "inst_loose": (0, 3)}
    assert nothing.scores == {"prompt_strict": 0.0, "prompt_loose": 0.0} and nothing.why_missing is None
    assert right.scores == {"prompt_strict": 1.0, "prompt_loose": 1.0}
    assert [m.name for m in task.metrics if m.from_counts] == ["inst_strict", "inst_loose"]
    assert task.metrics[0].name == "prompt_strict"


async def test_the_loop_goes_on_while_a_long_answer_is_graded(english):
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    asked = question(["change_case:capital_word_frequency"], [CAPITALS])
    async with IfevalTask(english) as task, asyncio.TaskGroup() as tasks:
        ticking = tasks.create_task(tick())
        await task.grade(asked, sample("A. " * 3000))
        ticking.cancel()
    assert ticks > 3


@pytest.mark.parametrize(
    ("kinds", "kwargs", "says"),
    [
        (["a:b"], [{}], "unknown kind"),
        (["keywords:existence"], [{}], "keywords is not a list of texts"),
        (["keywords:existence"], [{"keywords": "secret"}], "keywords is not a list of texts"),
        (["length_constraints:number_words"], [{"num_words": 3, "relation": "about"}], "relation is not"),
        (["length_constraints:number_words"], [{"num_words": True, "relation": "at least"}], "num_words is not"),
        (["length_constraints:number_words"], [{"num_words": 2.5, "relation": "at least"}], "num_words is not"),
        (["keywords:letter_frequency"], [LETTER | {"letter": "ab"}], "letter is not one character"),
        (["punctuation:no_comma"], [], "no instructions"),
        ([], [], "no instructions"),
        (None, None, "no instructions"),
        ([3], [{}], "no instructions"),
        (["punctuation:no_comma"], ["x"], "no instructions"),
    ],
)
def test_rows_that_cannot_be_graded(kinds, kwargs, says):
    with pytest.raises(InputError, match=says) as caught:
        IfevalTask().check(question(kinds, kwargs, prompt="secret"))
    assert "question 7" in caught.value.message and "secret" not in caught.value.message


OFFLINE = """
import sys

def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind"):
        raise SystemExit(f"{event} {arguments}")

sys.addaudithook(hook)
from ropd_cli.evaluation.tasks.ifeval_text import English

english = English()
assert english.sentences("Dr. No left. Why?") == 2
assert english.capital_words("NASA and I") == 2
assert english.language("the house is small and the garden is full of trees") == "en"
"""


@pytest.mark.slow
def test_needs_no_network_and_no_data_of_the_users_and_says_nothing(tmp_path):
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "NLTK_DATA": str(tmp_path / "none")}
    environment["PYTHONPATH"] = str(Path(ropd_cli.__file__).parents[1])
    ran = subprocess.run([sys.executable, "-c", OFFLINE], env=environment, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_every_row_of_the_set_can_be_graded():
    rows = load_eval_set("ifeval").questions
    for row in rows:
        IfevalTask().check(row)
    assert len(rows) == 541
    assert {kind for row in rows for kind, _ in instructions_of(row)} == set(KINDS)


async def test_an_answer_that_is_too_slow_to_split_follows_nothing():
    class Slow(English):
        def words(self, text):
            raise TimeoutError  # as NLTK's limit for one pattern does

    async with IfevalTask(Slow()) as task:
        grade = await task.grade(question(["length_constraints:number_words"], [WORDS]), sample("a b"))
    assert grade.scores == {"prompt_strict": 0.0, "prompt_loose": 0.0} and "too long" in grade.undecided
    assert grade.counts == {"inst_strict": (0, 1), "inst_loose": (0, 1)} and grade.why_missing is None
