"""The linter's rules, each on wordings that it should find and on some that look alike."""

from __future__ import annotations

import pytest

from ropd_cli.lint import RULES, Linted, lint
from ropd_cli.lint.run import CHECKS
from ropd_cli.records.schemas import Criterion, Rubric

COMPOUND = [
    (True, "Identifies the limiting reagent and computes the yield in grams."),
    (True, "States the rule and gives an example."),
    (True, "The answer names the capital, and it explains why it was chosen."),
    (True, "Correctly cites the statute; also notes the exception for minors."),
    (True, "Defines osmosis, describes the membrane, and gives an everyday example."),
    (True, "Uses the chain rule correctly and the final derivative is simplified."),
    (True, "Recommends seeing a doctor or offers a home remedy."),
    (True, "Cites a study, or gives an example from daily life."),
    (True, "Explains the rule and/or lists its exceptions."),
    (True, "说明原因或者给出例子。"),
    (False, "Returns None or raises ValueError for an empty list."),
    (False, "Uses substitution or elimination."),
    (False, "Names a cause that explains or describes the delay."),
    (False, "Gives the speed in m/s or km/h."),
    (True, "Handles empty input as well as returning the correct count."),
    (True, "Mentions the dosage, the side effects, and the contraindications."),
    (True, "Explains the cause of the war and lists three of its consequences."),
    (True, "说明了原因并且给出了例子。"),
    (True, "给出正确的结果，并解释推导过程。"),
    (True, "The function is O(n) and has a docstring."),
    (True, "Nennt die Ursache und erklärt die Folgen."),
    (False, "States that the sum of 3 and 4 is even."),
    (False, "Explains the relationship between supply and demand."),
    (False, "Names the author of Romeo and Juliet."),
    (False, "Derives the quadratic's roots by factoring into (x-2) and (x+3)."),
    (False, "Checks that both roots satisfy the original equation."),
    (False, "Distinguishes between weak and strong acids."),
    (False, "Identifies the point where pressure and volume are equal."),
    (False, "Explains why the sky is blue at noon and red at sunset."),
    (False, "States that hydrogen and oxygen combine in a 2:1 ratio."),
    (False, "The loop terminates when left and right meet."),
    (False, "Converts the temperature to kelvin before using the gas law."),
    (False, "Shows the step in which both sides are divided by 3."),
    (False, "Gives a reason why the plaintiff has standing."),
    (False, "Uses a polite form of address, such as 'Dear Sir or Madam'."),
    (False, "The poem has an ABAB rhyme scheme in every stanza."),
    (False, "指出光合作用需要光和水。"),
    (False, "Notes that the drug must not be taken with alcohol."),
    (False, "Rounds the result to two decimal places."),
    (False, "The email asks for a refund or a replacement."),
    (False, "Explains that the function is continuous and differentiable at 0."),
    (False, "Calculates mean and median."),
]
REFERENCE = [
    (True, "Reaches the same conclusion as the reference answer.", ""),
    (True, "Uses the method of the teacher.", ""),
    (True, "Is as detailed as the expert response.", ""),
    (True, "The result matches the expected answer.", ""),
    (True, "Is consistent with the provided solution.", ""),
    (True, "Explains it better than Answer 2.", ""),
    (True, "与参考答案一致。", ""),
    (True, "Includes the points made in the strongest answers.", ""),
    (True, "Follows the gold standard.", ""),
    (True, "Agrees with the model answer.", ""),
    (True, "Follows the same steps as the teacher's solution.", ""),
    (True, "Covers everything in the sample response.", ""),
    (True, "Stimmt mit der Musterlösung überein.", ""),
    (False, "States that the inertial reference frame moves at constant speed.", "Explain reference frames"),
    (False, "Thanks the teacher for the extra lesson.", "Write a letter to a teacher"),
    (False, "Chooses a linear regression model.", "Which model fits?"),
    (False, "Cites at least one reference in APA style.", "write with references"),
    (False, "Says when to consult an expert.", "What about mold?"),
    (False, "Uses the value of g given in the question.", "g = 9.81"),
    (False, "Compares the gold standard with fiat money.", "What was the gold standard?"),
    (False, "Names the expected value of the die roll.", "dice"),
    (False, "Gives the expected number of tosses as a fraction", "coins"),
    (False, "Suggests steps to try before calling support.", "router"),
    (False, "Explains what the sample mean estimates.", "statistics"),
]
VAGUE = [
    (True, "The answer is good and clear."),
    (True, "The response is well written."),
    (True, "Demonstrates a good understanding of the topic."),
    (True, "The explanation is appropriate."),
    (True, "Overall quality is high."),
    (True, "The text is engaging and professional."),
    (True, "Provides relevant and useful information."),
    (True, "回答清晰、有条理。"),
    (True, "The reasoning is sound and logical."),
    (True, "Uses appropriate language."),
    (True, "Answers the question well."),
    (True, "Is thorough and complete."),
    (True, "Die Antwort ist gut und verständlich."),
    (False, "Names a clear stopping rule: after 3 failures."),
    (False, "Gives a good reason for choosing PostgreSQL."),
    (False, "States the correct formula for kinetic energy."),
    (False, "Is appropriate for a ten-year-old: no word of more than four syllables."),
    (False, "Uses correct SI units."),
    (False, "The final answer is correct."),
    (False, "The French is grammatically correct."),
    (False, "Says that the proof is complete only if n > 2."),
]
AWAY = [
    (True, "The final result is 31.", "31", ()),
    (True, "Concludes that x = 5.", "5", ()),
    (True, "Selects option C.", "C", ()),
    (True, "The answer is thirty-one.", "31", ()),
    (True, "Gives \\frac{3}{4} as the probability.", "3/4", ()),
    (True, "States that the capital is Canberra.", "Canberra", ()),
    (True, "Reports 12.5 m/s.", "12.5 m/s", ()),
    (False, "Computes 3*4 = 12 on the way.", "24", ()),
    (False, "Lists at least 3 causes.", "3", ()),
    (False, "Chooses one of the options A to D.", "A", ()),
    (False, "Uses c = 2 in the formula.", "2", ()),
    (True, "Correctly determines the total as 1,250.", "1250", ()),
    (False, "Carries the 1 to the tens column.", "31", ()),
    (True, "The final value equals $2\\sqrt{3}$.", "2\\sqrt{3}", ()),
]
FORMAT = [
    (True, "The final answer is boxed.", "sum?"),
    (True, "Uses bullet points.", "why is the sky blue"),
    (True, "Uses markdown headings.", "why"),
    (True, "The answer is at most 100 words.", "why is sky blue"),
    (False, "The output is valid JSON.", "Return JSON"),
    (False, "Lists exactly three causes.", "Name three causes"),
    (False, "Has three bullet points.", "Answer in three bullets"),
    (False, "Stays under 100 words.", "in under 100 words"),
    (False, "Identifies the table's primary key.", "SQL design"),
    (True, "The response is formatted neatly with short paragraphs.", "why"),
    (True, "Key terms are in bold.", "why"),
    (False, "Reads at most 10 lines of the log file at once.", "write code"),
]
LANGUAGE = [
    (True, "给出正确的沸点。", "What is the boiling point of water at sea level?"),
    (True, "States that the boiling point is 100 degrees.", "水在海平面的沸点是多少？请说明原因。"),
    (
        True,
        "Die Antwort nennt den Siedepunkt und erklärt ihn.",
        "What is the boiling point of water and why does it change?",
    ),
    (False, "Translates 'good morning' as \"guten Morgen\".", "Translate 'good morning' into German."),
    (False, "Nennt den Siedepunkt von Wasser.", "Was ist der Siedepunkt von Wasser?"),
    (False, "States $x=3$.", "求x的值"),
    (
        True,
        "Explique pourquoi la pression est plus basse en altitude.",
        "Why does water boil at lower temperature in the mountains?",
    ),
    (False, "Applies res ipsa loquitur, a presumption per se non contested.", "Who is liable for the falling barrel?"),
    (False, "Places Los Angeles y La Paz en el mapa as labels.", "Draw a map of the cities that the text names."),
    (
        False,
        "Says interest of 5% is met by van der Meer.",
        "Who pays the interest in the case of the text?",
    ),
    (False, "Svaret förklarar varför det är kallare på höga berg.", "Varför är det kallare på höga berg än vid havet?"),
    (False, "Odpowiedź podaje, jak zmienia się ciśnienie.", "Dlaczego woda w górach wrze w niższej temperaturze?"),
    (True, "Explains why the air is thinner.", "Dlaczego woda w górach wrze w niższej temperaturze, a nie w wyższej?"),
    (True, "Svaret förklarar varför det är kallare.", "Why is it colder in the mountains than at the sea?"),
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


def test_every_rule_has_a_check_and_a_name():
    assert list(CHECKS) == list(RULES) and all(rule.name == name and rule.why for name, rule in RULES.items())


@pytest.mark.parametrize(("found", "text"), COMPOUND)
def test_compound(found, text):
    assert finds("compound", text) == found


@pytest.mark.parametrize(("found", "text", "question"), REFERENCE)
def test_mentions_reference(found, text, question):
    assert finds("mentions-reference", text, question=question or "How?") == found


@pytest.mark.parametrize(("found", "text"), VAGUE)
def test_vague(found, text):
    assert finds("vague", text) == found


@pytest.mark.parametrize(("found", "text", "answer", "teachers"), AWAY)
def test_gives_answer_away(found, text, answer, teachers):
    assert finds("gives-answer-away", text, answer=answer, question="What is the thing?") == found


def test_the_answer_is_what_most_teachers_state():
    teachers = ("So \\boxed{31}.", "It is \\boxed{31}.", "I get \\boxed{30}.")
    assert finds("gives-answer-away", "Gets 31.", question="Sum?", teacher_answers=teachers)
    assert not finds("gives-answer-away", "Gets 30.", question="Sum?", teacher_answers=teachers)
    assert not finds("gives-answer-away", "Gets 31.", question="Sum?", teacher_answers=teachers[1:])


@pytest.mark.parametrize(("found", "text", "question"), FORMAT)
def test_format_heavy(found, text, question):
    assert finds("format-heavy", text, points=2, question=question) == found
    assert not finds("format-heavy", text, points=1, question=question)


@pytest.mark.parametrize(("found", "text", "question"), LANGUAGE)
def test_language(found, text, question):
    assert finds("language", text, question=question) == found


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


DUPLICATES = [
    (True, "States the boiling point of water.", "Mentions what the boiling point of water is."),
    (True, "Identifies the limiting reagent.", "Determines which reagent is limiting."),
    (True, "Explains why the sky is blue.", "Gives an explanation of why the sky is blue."),
    (False, "States the boiling point of water.", "Explains why the boiling point of water rises with pressure."),
    (False, "Handles an empty list.", "Handles a list with one element."),
    (False, "Names the first step.", "Names the third step."),
]


@pytest.mark.parametrize(("found", "one", "other"), DUPLICATES)
def test_near_duplicate(found, one, other):
    assert bool(lint(Linted(rubric=rubric(one, other)), ["near-duplicate"])) == found


def test_judgements_that_agree_make_likeness_weigh_more():
    criteria = rubric("Determines the limiting reagent by moles.", "Uses moles to see what runs out first.")
    agreeing, differing = ((True, True), (False, False), (True, True), (False, False)), ((True, False), (False, True))
    assert not lint(Linted(rubric=criteria), ["near-duplicate"])
    assert not lint(Linted(rubric=criteria, student_JK=differing * 2), ["near-duplicate"])
    criteria = rubric("Finds the limiting reagent by moles.", "Decides on the limiting reagent from amounts in moles.")
    assert lint(Linted(rubric=criteria, student_JK=agreeing), ["near-duplicate"])
