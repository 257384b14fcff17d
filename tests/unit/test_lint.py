"""The certain rules, each on wordings that it should find and on some that look alike."""

from __future__ import annotations

import random

import pytest

from ropd_cli.lint import CERTAIN, JUDGE_KINDS, RULES, Linted, lint, linted
from ropd_cli.records.schemas import Criterion, Rubric, RubricRecord

REFERENCE = [
    (True, "Reaches the same conclusion as the reference answer.", ""),
    (True, "Is as detailed as the expert response.", ""),
    (True, "Agrees with the model answer.", ""),
    (True, "Follows the same steps as the teacher's solution.", ""),
    (True, "与参考答案一致。", ""),
    (True, "Stimmt mit der Musterlösung überein.", ""),
    (False, "Explains the sample answer.", "Is this sample answer right?"),
    (False, "States that the inertial reference frame moves at constant speed.", "Explain reference frames"),
    (False, "Thanks the teacher for the extra lesson.", "Write a letter to a teacher"),
    (False, "Chooses a linear regression model.", "Which model fits?"),
    (False, "Cites at least one reference in APA style.", "write with references"),
    (False, "Explains what the sample mean estimates.", "statistics"),
]
AWAY = [
    (True, "The final result is 31.", "31"),
    (True, "States that the capital is Canberra.", "Canberra"),
    (True, "Reports 12.5 m/s.", "12.5 m/s"),
    (True, "Correctly determines the total as 1,250.", "1250"),
    (True, "The final value equals $2\\sqrt{3}$.", "2\\sqrt{3}"),
    (True, "湖の名をバイカル湖と答えている", "バイカル湖"),
    (False, "Lists at least 3 causes.", "3"),
    (False, "Chooses one of the options A to D.", "A"),
    (False, "Says yes or no.", "no"),
    (False, "Carries the 1 to the tens column.", "31"),
    (False, "Derives 31*2 on the way.", "31"),
    (False, "Gets 131.", "31"),
    (False, "Gets 31.5.", "31"),
    (False, "Gets 31.", None),
]
FORMAT = [
    (True, "The final answer is boxed.", "sum?"),
    (True, "Uses bullet points.", "why is the sky blue"),
    (True, "Key terms are in bold.", "why"),
    (True, "使用了项目符号", "why"),
    (False, "Uses bullet points.", "Answer in three bullets, in Markdown"),
    (False, "Uses bullet points.", "Use this format: a list"),
    (False, "The output is valid JSON.", "Return JSON"),
    (False, "Identifies the table's primary key.", "SQL design"),
    (False, "Names the bold decision that the king took.", "history"),
]
LANGUAGE = [
    (True, "给出正确的沸点。", "What is the boiling point of water at sea level?"),
    (True, "States that the boiling point is 100 degrees.", "水在海平面的沸点是多少？请说明原因。"),
    (
        True,
        "Die Antwort nennt den Siedepunkt und erklärt ihn.",
        "What is the boiling point of water and why does it change?",
    ),
    (
        True,
        "Explique pourquoi la pression est plus basse en altitude.",
        "Why does water boil at lower temperature in the mountains?",
    ),
    (True, "Explains why the air is thinner up there.", "Dlaczego woda w górach wrze w niższej temperaturze?"),
    (False, "Translates 'good morning' as \"guten Morgen\".", "Translate 'good morning' into German."),
    (False, "Nennt den Siedepunkt von Wasser.", "Was ist der Siedepunkt von Wasser?"),
    (False, "States $x=3$.", "求x的值"),
    (False, "Does not run over 80 words", "Why does water boil at lower temperature in the mountains?"),
    (False, "Is valid PostgreSQL syntax", "Write a query for all customers who have no orders yet."),
    (False, "def solve(x): return x", "Write a function that solves the equation for any x."),
    (False, "RETURNS THE CORRECT VALUE IN ALL CASES", "Write a function that solves the equation for any x."),
    (False, "Applies the doctrine of res ipsa loquitur to the barrel.", "Who is liable for the falling barrel?"),
    (False, "Places La Paz and Los Angeles on the map as labels.", "Draw a map of the cities that the text names."),
    (False, "Svaret förklarar varför det är kallare på höga berg.", "Varför är det kallare på höga berg än vid havet?"),
    (False, "Odpowiedź podaje, jak zmienia się ciśnienie.", "Dlaczego woda w górach wrze w niższej temperaturze?"),
    (
        False,
        "Names what sellers fear about losing their buyers.",
        "Summarise the following text in two sentences.\nLa ville veut réduire le nombre de voitures dans le centre, "
        "et elle propose de nouvelles lignes de bus pour les habitants des quartiers éloignés. Les commerçants "
        "craignent de perdre leurs clients, mais la mairie pense que les rues seront plus agréables pour tous.",
    ),
    (
        False,
        "Erklärt, warum das Wasser in den Bergen früher kocht.",
        "Please answer in German: why does the water boil earlier in the mountains than at the sea?",
    ),
]


def rubric(*texts, points=None):
    points = points or [1] * len(texts)
    criteria = tuple(
        Criterion(criterion_id=f"c{k}", category="Task Completion", criterion=text, points=worth)
        for k, (text, worth) in enumerate(zip(texts, points, strict=True), start=1)
    )
    return Rubric(rubrics=criteria, maximum_score=sum(points))


def finds(rule, text, *, points=1, question="How does it work?", **more):
    """Whether a rule finds anything in a rubric of this one criterion."""
    return bool(lint(Linted(rubric=rubric(text, points=[points]), question=question, **more), [rule]))


def test_every_rule_has_a_name_and_somebody_who_looks_for_it():
    assert all(rule.name == name and rule.why for name, rule in RULES.items())
    assert {*CERTAIN, *JUDGE_KINDS} == set(RULES)
    assert list(CERTAIN) == [name for name in RULES if name in CERTAIN]


@pytest.mark.parametrize(("found", "text", "question"), REFERENCE)
def test_mentions_reference(found, text, question):
    assert finds("mentions-reference", text, question=question or "How?") == found


@pytest.mark.parametrize(("found", "text", "answer"), AWAY)
def test_gives_answer_away(found, text, answer):
    assert finds("gives-answer-away", text, answer=answer, question="What is the thing?") == found
    if answer:
        assert not finds("gives-answer-away", text, answer=answer, question=f"Is it {answer} or not?")


@pytest.mark.parametrize(("found", "text", "question"), FORMAT)
def test_format_heavy(found, text, question):
    assert finds("format-heavy", text, points=2, question=question) == found
    assert not finds("format-heavy", text, points=1, question=question)


@pytest.mark.parametrize(("found", "text", "question"), LANGUAGE)
def test_language(found, text, question):
    assert finds("language", text, question=question) == found


def test_a_language_is_the_same_whatever_else_draws_at_random():
    from langdetect import DetectorFactory

    from ropd_cli.lint.language import language_of

    texts = [text for _, text, _ in LANGUAGE]
    first = list(map(language_of, texts))
    before, DetectorFactory.seed = DetectorFactory.seed, 7
    random.seed(1)
    language_of.cache_clear()
    assert [language_of(text) for text in reversed(texts)] == first[::-1]
    DetectorFactory.seed = before


def names(linted):
    return [(finding.rule, finding.criteria) for finding in lint(linted)]


def test_rules_of_the_judgements():
    criteria = rubric("Names the capital.", "Gives a date.", "Cites a source.", "Has no typos.", points=[4, 3, 2, 1])
    student = ((True, False, True, False), (True, False, False, True), (True, None, False, True))
    assert names(Linted(rubric=criteria, student_JK=student)) == [
        ("met-by-all", ("c1",)),
        ("met-by-none", ("c2",)),
    ]
    assert names(Linted(rubric=criteria, student_JK=student[:1])) == []  # one rollout says nothing
    assert names(Linted(rubric=criteria)) == []
    teacher = ((False, False, True, True),)
    found = lint(Linted(rubric=criteria, student_JK=student[:2], teacher_JK=teacher), ["teacher-below-student"])
    assert [finding.message for finding in found] == ["teacher 0.30, rollouts 0.55"]


def test_rules_of_the_weights():
    texts = ("Names the capital.", "Gives a date.", "Cites a source.", "Has no typos.")
    assert names(Linted(rubric=rubric(*texts, points=[2, 2, 2, 2]))) == [("flat-weights", ())]
    assert names(Linted(rubric=rubric(*texts, points=[5, 2, 2, 1]))) == [("dominated", ("c1",))]
    assert names(Linted(rubric=rubric(*texts, points=[5, 3, 2, 1]))) == []


def test_criteria_of_the_same_words_are_near_duplicates():
    criteria = rubric("Names the capital.", "Gives a date.", "names  the capital.", points=[4, 3, 2])
    same = ((True, True, True), (False, False, False), (True, False, True), (False, True, False), (True, True, True))
    for student in ((), same):
        [found] = lint(Linted(criteria, student_JK=student), ["near-duplicate"])
        assert found.criteria == ("c1", "c3") and found.message == "c1 and c3 are the same words"


def test_criteria_that_every_answer_meets_all_or_none_of_are_near_duplicates():
    criteria = rubric("Names the capital.", "Gives a date.", "Cites a source.", points=[4, 3, 2])
    rows = ((True, True, False), (False, False, True), (True, True, True), (False, False, False), (True, True, False))

    def found(student, teacher=()):
        return [
            each.criteria for each in lint(Linted(criteria, student_JK=student, teacher_JK=teacher), ["near-duplicate"])
        ]

    assert found(rows, ((True, True, True),)) == [("c1", "c2")]
    assert found(rows, ((True, False, True),)) == []  # the teacher's answer tells them apart
    assert found(rows[:4]) == []  # too few
    assert found(rows[::2] * 2) == []  # no answer meets neither: both may just be easy
    assert found((*rows[:4], (True, None, False))) == []
    assert found(tuple((a, a, a) for a, _, _ in rows)) == [("c1", "c2", "c3")]


def test_rubrics_of_the_built_in_provider_are_passed_over():
    criterion = Criterion(category="c", criterion_id="c1", criterion="The final result is 31.", points=5)
    rubric = Rubric(rubrics=(criterion,), maximum_score=5)
    record = RubricRecord(
        uid="u", raw_prompt_hash="h", rubric=rubric, rubric_hash="r", model="a-model", template_hash="t"
    )
    found, none = (
        lint(linted(record.model_copy(update={"model": model}), None, "sum?", "31")[0]) for model in ("m", "checkable")
    )
    assert "gives-answer-away" in {finding.rule for finding in found} and none == []
