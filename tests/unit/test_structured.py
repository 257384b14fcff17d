"""parse_json: finds the object, takes no part for the whole, raises ReplyInvalid and nothing else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropd_cli.errors import ReplyInvalid
from ropd_cli.llm.structured import parse_json, read_json

WANTED = {"schema_version": "ropd.rubric.v1", "rubrics": [{"criterion": 'says "42" {exactly}', "points": 5}]}
JSON = json.dumps(WANTED)

# no angle brackets: where a string of the JSON itself holds a thinking tag, what is thought is anybody's guess
# no control characters: a form feed before a letter is taken for LaTeX
letters = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="<>")
scalars = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(letters)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(letters, max_size=5), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.text(letters, max_size=8), values, min_size=1, max_size=5)
prose = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{}<>"), max_size=60)


def without_lone_surrogates(value):
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


@given(st.text() | st.text(alphabet='{}[]",:\\ \n1truefalsn<>/hik'))
def test_raises_only_our_error(text):
    try:
        assert isinstance(parse_json(text), dict)
    except ReplyInvalid:
        pass


@given(objects, prose, prose, st.sampled_from(["", "```json\n", "```\n"]), st.booleans(), st.sampled_from([None, 2]))
def test_finds_the_object_in_prose_and_fences_and_after_thinking(wanted, before, after, fence, thinking, indent):
    thoughts = '<think>Perhaps {"draft": true}?</think>' if thinking else ""
    end = "\n```" if fence else ""
    text = f"{thoughts}{before}\n{fence}{json.dumps(wanted, indent=indent, ensure_ascii=False)}{end}\n{after}"
    assert parse_json(text) == without_lone_surrogates(wanted)


@given(objects, st.data())
def test_an_object_that_was_cut_off_is_never_read(wanted, data):
    text = json.dumps({"answers": [wanted, wanted]})
    cut = data.draw(st.integers(1, len(text) - 1))
    with pytest.raises(ReplyInvalid):
        parse_json("Here it is: " + text[:cut])


@pytest.mark.parametrize(
    "text",
    [
        JSON,
        f"  {JSON}\n",
        f"Let S = {{1, 2}} and \\frac{{a}}{{b}}; then:\n{JSON}",
        f'A quoted verdict is no verdict: {{"judgement": [true, true]}}. Mine is {JSON}',
        f'<think>{{"draft": 1}}</think>\n\n{JSON}',
        f'{{"draft": 1}} still thinking</think>{JSON}',
        f"```json\n{json.dumps(WANTED, indent=2)}\n```\nI hope this helps {{smile}}",
    ],
)
def test_finds_the_object(text):
    assert parse_json(text) == WANTED


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            r'{"criterion": "gives \(x\) or \alpha, \u03b1 or \user"}',
            {"criterion": r"gives \(x\) or \alpha, α or \user"},
        ),
        ('{"a": [1, 2,], "b": "x,]",}', {"a": [1, 2], "b": "x,]"}),
        ('{"a": "one\ntwo"}', {"a": "one\ntwo"}),
        (r'{"a": "half a pair \ud83d"}', {"a": "half a pair ?"}),
    ],
)
def test_forgives_what_models_do(text, wanted):
    assert parse_json(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "no",
        "[1, 2]",
        "42",
        '"{"',
        "{",
        '{"a": NaN}',
        '{"a": 1',
        "{'a': 1",
        "{'a': {1, 2}}",
        "{'a': open('x')}",
        '{"a": [1, 2}',
        '[{"a": 1}, {"b": 2}]',
        '{"a": 1 // one',
        f"<think>{JSON}",
        f"{JSON}</think>  ",
        "[" * 9000,
    ],
)
def test_refuses(text):
    with pytest.raises(ReplyInvalid) as caught:
        parse_json(text)
    assert "\n" not in caught.value.message and len(caught.value.message) < 300 and caught.value.hint


@pytest.mark.parametrize(
    "part",
    [
        "//",
        "/*",
        "/**/",
        "\\nu",
        "$\\nu",
        "{'a':",
        "{'a': 1}",
        "-",
        '{"a":',
        '{"a":{',
        '"\\"',
        '{"',
        "{}",
        "\\",
        '{"a":1,}',
        '{"a":"\\"',
        '}"{',
    ],
)
def test_a_long_hostile_reply_comes_to_an_end(part):
    """Milliseconds where the time grows with the length; with its square, this test would not end."""
    for text in (part * (200_000 // len(part)), '{"a": "x' + part * (200_000 // len(part))):
        try:
            parse_json(text)
        except ReplyInvalid:
            pass


@pytest.mark.parametrize(
    ("written", "meant", "mended"),
    [
        (r"$\frac{1}{2}$", r"$\frac{1}{2}$", True),
        (r"$\beta$ and \bar{x} in \begin{cases}", r"$\beta$ and \bar{x} in \begin{cases}", True),
        (r"\text{km} \times \theta_1 \tfrac12", r"\text{km} \times \theta_1 \tfrac12", True),
        (r"\nabla f \neq 0, a \notin B", r"\nabla f \neq 0, a \notin B", True),
        (r"\left(\rho\right) \rightarrow", r"\left(\rho\right) \rightarrow", True),
        (r"\forall x, \underline{x}, \upsilon, \(x\)", r"\forall x, \underline{x}, \upsilon, \(x\)", True),
        (r"$x \to 0$ and $a \ne b$", r"$x \to 0$ and $a \ne b$", True),
        (r"\\(\nu\\) is the frequency", r"\(\nu\) is the frequency", True),
        (r"x \to 0 = \tan x", r"x \to 0 = \tan x", True),
        (r"one\n\nabla f", "one\n" + r"\nabla f", True),
        (r"the pattern \bword\b", r"the pattern \bword\b", True),
        (r"$\\frac{1}{2}$ \\nabla", r"$\frac{1}{2}$ \nabla", False),
        (r"one\nu = 3", "one\nu = 3", False),
        (r"one\ne.g. two\nnot three\ntext", "one\ne.g. two\nnot three\ntext", False),
        (r"a\tb\n\tan apple\n\to do\r\nright", "a\tb\n\tan apple\n\to do\r\nright", False),
        (r"says \"so\": \u03b1 \/ \\", 'says "so": α / \\', False),
        (r"\textract \nation \table", "\textract \nation \table", False),
    ],
)
def test_latex_with_single_backslashes(written, meant, mended):
    for text in (f'{{"criterion": "{written}"}}', f'Here it is:\n```json\n{{"criterion": "{written}"}}\n```'):
        assert read_json(text) == ({"criterion": meant}, ("latex",) if mended else ())


@pytest.mark.parametrize(
    "text",
    [
        '[{"a": [true, null, "x // y"]}]',
        '{"a": [true, null, "x // y"], // so\n}',
        '{"a": /* "b}" */ [true, null, "x // y"] // don\'t "stop\n}',
        '{"a": [true, null, "x // y",],}',
        "{'a': [True, None, 'x // y']}",
        "{'a': [true, null, 'x // y']}",
        '{"a": [True, None, "x // y"]}',
        "```python\n{'a': [True, None, 'x // y']}\n```",
        json.dumps('{"a": [true, null, "x // y"]}'),
    ],
)
def test_json_of_one_meaning_is_mended_and_noted(text):
    assert read_json(text) == ({"a": [True, None, "x // y"]}, ("json",))


@pytest.mark.parametrize(
    "text", ["\ufeff" + JSON, f"```json\n{{}}\n```\nBetter:\n```json\n{JSON}\n```", JSON + "\n}\nDone."]
)
def test_what_stands_around_it_is_nothing_to_mend(text):
    assert read_json(text) == (WANTED, ())


def test_curly_quotes_and_bare_lists():
    assert parse_json("{“a”: “b”}") == {"a": "b"}
    rows = [{"answer_index": 1}, {"answer_index": 2}]
    for text in (json.dumps(rows), f"```json\n{json.dumps(rows)}\n```"):
        assert read_json(text, "answers") == ({"answers": rows}, ("json",))
    assert parse_json(json.dumps(rows[:1]), "answers") == {"answers": rows[:1]}
    assert parse_json(json.dumps([{"answers": rows}]), "answers") == {"answers": rows}
