"""What is left out of the prompts: too long ones, near duplicates, what overlaps with evaluation sets."""

from __future__ import annotations

import orjson
import pytest

from ropd_cli.datasets.eval_sets import KNOWN_SETS, EvalQuestion, EvalSet, load_eval_set
from ropd_cli.datasets.overlap import FORM_COUNT, Overlap
from ropd_cli.datasets.text_words import normalized, words
from ropd_cli.errors import InputError
from ropd_cli.stages.prepare import Filters, Ledger, Plan, Source, prepare


def lines(path, *records):
    path.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
    return path


def overlap(*texts, n=5, shows_text=True):
    questions = tuple(EvalQuestion(id=f"q{k}", prompt=text) for k, text in enumerate(texts))
    return Overlap([EvalSet("set", questions, shows_text)], n)


def test_near_duplicates_differ_in_spelling_and_never_in_arithmetic():
    same = ["What is 1+1?", "what is  1 + 1", "“What is $1 + 1$?”", "What is 1 + 1."]
    assert len(set(map(normalized, same))) == 1
    others = [
        "2 + 3",
        "2 - 3",
        "2 * 3",
        "2 / 3",
        "2 ^ 3",
        "2.3",
        "23",
        "2 (3)",
        "2 = 3",
        "2 < 3",
        "2! 3",
        "你 3",
        "好 3",
    ]
    assert len(set(map(normalized, others))) == len(others)
    assert normalized("A well-known fact") == normalized("a well known fact")
    assert words("Don't you, 你好?") == ["don", "t", "you", "你", "好"]


def test_a_run_of_words_is_an_overlap_and_a_shorter_one_is_not():
    sets = overlap("Alpha beta gamma delta epsilon zeta eta")
    hits = sets.find(["so: beta, Gamma; delta epsilon ZETA it is", "beta gamma delta epsilon only", "", "eta"])
    assert [hit and (hit.set, hit.item, hit.words) for hit in hits] == [
        ("set", "q0", "beta gamma delta epsilon zeta"),
        None,
        None,
        None,
    ]


def test_a_short_question_is_compared_whole():
    sets = overlap("one two three four five six", "What is 2 + 2?", n=13)
    found = sets.find(
        ["Now one two three four five six!", "one two three four five", "what is 2+2", "what is 2 2 of 7"]
    )
    assert [hit and hit.item for hit in found] == ["q0", None, "q1", None]


def test_what_many_prompts_share_is_form_and_counts_only_with_half_a_question():
    form = "where m and n are relatively prime integers find m plus n"
    question = "the area of the strange shape with seven holes in it is a fraction " + form
    prompts = [f"problem {k} about object number {k} has value {form}" for k in range(FORM_COUNT + 1)]
    sets = overlap(question)
    assert sets.find(prompts[:3]) != [None] * 3
    assert sets.find(prompts) == [None] * len(prompts)
    assert sets.find([*prompts, f"Solve this: {question}"])[-1].item == "q0"
    copies = [f"variant {k} {question}" for k in range(FORM_COUNT + 5)]
    assert all(sets.find(copies))


def test_words_of_a_set_that_does_not_come_along_are_never_shown(tmp_path):
    secret = "the secret question of the guarded benchmark has more than a dozen words in it"
    row = {"Question": secret, "Correct Answer": "B", "Incorrect Answer 1": "x", "Record ID": "rec1"}
    file = lines(tmp_path / "gpqa.jsonl", row)
    (question,) = load_eval_set(f"gpqa={file}").questions
    assert (question.id, question.answer, question.model_extra["Incorrect Answer 1"]) == ("rec1", "B", "x")
    prompts = lines(tmp_path / "p.jsonl", {"prompt": f"Please: {secret}", "uid": "p1"}, {"prompt": "another"})
    plan = Plan(Source("mine", local=prompts), filters=Filters(decontaminate=(f"gpqa={file}",)))
    with Ledger(tmp_path / "d.jsonl") as ledger:
        assert prepare(plan, ledger).dropped == {"contaminated": 1}
        listing = ledger.finish().read_text()
    listed = orjson.loads(listing)
    assert set(listed) == {"row", "uid", "why", "set", "item", "hash"} and "secret" not in listing
    assert (listed["uid"], listed["set"], listed["item"]) == ("p1", "gpqa", "rec1")


def test_overlapping_prompts_can_be_kept_and_are_listed(tmp_path):
    health = {"prompt": [{"role": "user", "content": "w " * 20}], "prompt_id": "h1", "rubrics": []}
    file = lines(tmp_path / "hb.jsonl", health)
    prompts = lines(tmp_path / "p.jsonl", {"prompt": "w " * 30})
    filters = Filters(decontaminate=(str(file),), contaminated="keep")
    with Ledger(tmp_path / "d.jsonl") as ledger:
        prepared = prepare(Plan(Source("mine", local=prompts), filters=filters), ledger)
        listed = orjson.loads(ledger.finish().read_bytes())
    assert (prepared.kept, prepared.dropped, prepared.notes) == (1, {}, {"contaminated, kept": 1})
    assert listed["kept"] is True and listed["item"] == "h1" and listed["set"] == "hb"


def test_the_sets_that_come_along_are_whole_and_found_in_prompts(tmp_path):
    sizes = {name: len(load_eval_set(name).questions) for name, known in KNOWN_SETS.items() if known.shipped}
    assert sizes == {"math500": 500, "ifeval": 541, "gsm8k-sample": 100}
    first = load_eval_set("gsm8k-sample").questions[0]
    assert first.answer == "18"
    prompts = lines(tmp_path / "p.jsonl", {"prompt": f"Task: {first.text}"}, {"prompt": "another"})
    filters = Filters(decontaminate=("math500", "gsm8k-sample"))
    assert len(prepare(Plan(Source("mine", local=prompts), filters=filters)).train) == 1
    with pytest.raises(InputError, match="maths500") as caught:
        load_eval_set("maths500")
    assert "math500" in caught.value.hint
    with pytest.raises(InputError, match=r"x\.jsonl:1: no question"):
        load_eval_set(f"aime24={lines(tmp_path / 'x.jsonl', {'a': 1})}")


TEMPLATE = "{% for m in messages %}<s> {{ m.role }} {{ m.content }} {% endfor %}{{ '<s> go' if add_generation_prompt }}"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """A tokenizer that knows white space, with a chat template."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    raw = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="[UNK]")
    fast.chat_template = TEMPLATE
    folder = tmp_path_factory.mktemp("tokenizer")
    fast.save_pretrained(folder)
    return str(folder)


@pytest.mark.slow  # importing transformers
def test_lengths_are_those_of_the_chat_template(tmp_path, tokenizer):
    file = lines(tmp_path / "p.jsonl", *({"prompt": "w " * k, "uid": str(k)} for k in (1, 2, 5, 9)))
    plan = Plan(Source("mine", local=file), filters=Filters(tokenizer=tokenizer, min_tokens=6, max_tokens=10))
    prepared = prepare(plan)  # two tokens before a message and two after all
    assert [p.uid for p in prepared.train] == ["2", "5"]
    assert prepared.dropped == {"too short": 1, "too long": 1}
    assert prepared.tokens == {"min": 6, "median": 9, "p95": 9, "max": 9}
    with pytest.raises(InputError, match="--tokenizer"):
        prepare(Plan(Source("mine", local=file), filters=Filters(tokenizer=str(tmp_path))))
