"""The reference's JSONL: rows written by hand are found by prompt; what is exported comes back equal."""

from __future__ import annotations

import hashlib
import json
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropd_cli.errors import InputError
from ropd_cli.index import IndexWriter, TeacherIndex
from ropd_cli.index.exchange import V1, V2, imported_rows, prompts_by_hash, write_reference
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import Answer, AnswerRecord, Usage, load_prompts, prompt_hash

PROMPTS = {
    "bare": "What is 2 + 2?",
    "user": [{"role": "user", "content": "What is 2 + 2?"}],
    "other order of keys": [{"content": "Was ist 2 + 2? Straße, ≤, 𝔸", "role": "user"}],
    "system": [{"role": "system", "content": "Antworte kurz."}, {"role": "user", "content": "Wie heißt du?"}],
    "chinese": [
        {"role": "system", "content": "请一步一步思考。"},
        {"role": "user", "content": "求 $\\sum_{k=1}^{n} k$ 的值。"},
    ],
    "arabic and emoji": [{"role": "user", "content": "ما هو العدد؟ 🧮\u200d\u2028 end"}],
    "nested": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": 'Look:\n\t"x" \\ y'},
                {"type": "image_url", "image_url": {"url": "data:,"}},
            ],
        }
    ],
    "turns": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "name": "bot"},
        {"role": "user", "content": "ç\u0000d"},
    ],
}
FINGERPRINT = {
    "provider": "openai",
    "model": "gpt-5.2-chat",
    "base_url": "https://api.openai.com/v1",
    "reasoning_effort": "high",
    "max_output_tokens": 8192,
    "temperature": None,
    "top_p": None,
    "timeout_seconds": 600,
    "prompt_template_version": "v3",
}


def reference_hash(messages):
    """The hash as the reference defines it, written again."""
    return hashlib.sha256(json.dumps(messages, ensure_ascii=False, sort_keys=True).encode()).hexdigest()


def write(path, rows, **dumps):
    path.write_text("".join(json.dumps(row, **dumps) + "\n" for row in rows), encoding="utf-8")
    return path


def by_hand(version):
    """Rows of the reference, as one would write them."""
    for number, (name, prompt) in enumerate(PROMPTS.items()):
        answer = f"answer to {name} — «è» 答案\n\n\\boxed{{{number}}}"
        row = {"schema_version": version, "uid": f"row-{number}", "raw_prompt_hash": reference_hash(prompt)}
        row |= {"teacher_answer": answer} if version == V1 else {"teacher_answers": [answer, answer + " (2)"]}
        yield row | {"teacher_fingerprint": FINGERPRINT}


def load(out, files, prompts=None):
    with IndexWriter(out) as writer:
        for file in files:
            for row in imported_rows(file, prompts):
                writer.add_row(row)
    return writer.added


def content(path):
    with closing(TeacherIndex.open(path)) as index:
        return list(index.rows())


@pytest.mark.parametrize("version", [V1, V2])
@pytest.mark.parametrize("ascii", [True, False])
def test_rows_written_by_hand_are_found_by_prompt(tmp_path, version, ascii):
    file = write(tmp_path / "rows.jsonl", by_hand(version), ensure_ascii=ascii)
    # one prompt keeps the row's uid; the others are found by their hash alone
    mine = write(
        tmp_path / "prompts.jsonl",
        [{"uid": "row-0" if k == 0 else f"mine-{k}", "prompt": prompt} for k, prompt in enumerate(PROMPTS.values())],
        ensure_ascii=ascii,
    )
    load(tmp_path / "i", [file], prompts_by_hash(mine))
    with closing(TeacherIndex.open(tmp_path / "i")) as index:
        for prompt, row in zip(load_prompts(mine), by_hand(version), strict=True):
            wanted = row.get("teacher_answers") or [row["teacher_answer"]]
            assert index.answers(prompt.uid, prompt.raw_prompt_hash, len(wanted)) == tuple(wanted)
            (stored, *_) = index.get(None, prompt.raw_prompt_hash)
            assert stored.source.fingerprint == FINGERPRINT
            assert (stored.model, stored.source.endpoint) == ("gpt-5.2-chat", "https://api.openai.com/v1")
            assert stored.sampling == {"max_tokens": 8192, "reasoning_effort": "high"}
        assert [row.prompt for row in index.rows()] == list(PROMPTS.values())


def test_hashes_are_the_reference_s_byte_for_byte():
    for prompt in PROMPTS.values():
        assert prompt_hash(prompt) == reference_hash(prompt)
    assert prompt_hash([{"role": "user", "content": "What is 2 + 2?"}]) == (
        hashlib.sha256(b'[{"content": "What is 2 + 2?", "role": "user"}]').hexdigest()
    )


@pytest.mark.parametrize("version", [V1, V2])
def test_plain_rows_are_the_reference_s_and_nothing_more(tmp_path, version):
    file = write(tmp_path / "rows.jsonl", by_hand(version))
    load(tmp_path / "i", [file])
    with closing(TeacherIndex.open(tmp_path / "i")) as index:
        write_reference(index, tmp_path / "out.jsonl", version.rpartition(".")[2], plain=True)
    assert [row for _, row in read_records(tmp_path / "out.jsonl")] == list(by_hand(version))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
usages = st.none() | st.builds(Usage, prompt_tokens=st.integers(0, 9), completion_tokens=st.integers(0, 9))
answers = st.builds(
    Answer,
    text=texts,
    finish_reason=st.sampled_from([None, "stop", "length"]),
    usage=usages,
    reasoning=st.none() | texts,
    created=st.none() | st.floats(0, 2e9),
    correct=st.none() | st.booleans(),
    model=st.none() | st.sampled_from(["a", "b"]),
    sampling=st.none() | st.dictionaries(st.sampled_from(["temperature", "top_p"]), st.floats(0, 1), max_size=2),
)
records = st.builds(
    lambda uid, prompt, said, endpoint, template: AnswerRecord(
        uid=uid,
        prompt=prompt,
        raw_prompt_hash=prompt_hash(prompt),
        answers=said,
        model="m",
        endpoint=endpoint,
        template=template,
    ),
    st.sampled_from(["u", "v", "w"]),
    st.sampled_from(list(PROMPTS.values())),
    st.lists(answers, max_size=4),
    st.none() | st.just("https://x/v1"),
    st.none() | st.just("0123"),
)


@given(st.lists(records, max_size=6))
def test_what_is_exported_to_v2_and_imported_again_is_equal(tmp_path_factory, made):
    folder = tmp_path_factory.mktemp("i")
    with IndexWriter(folder / "i") as writer:
        for record in made:
            writer.add(record)
    with closing(TeacherIndex.open(folder / "i")) as index:
        write_reference(index, folder / "out.jsonl", "v2", plain=False)
    load(folder / "again", [folder / "out.jsonl"])
    assert content(folder / "again") == content(folder / "i")
    load(folder / "again", [folder / "out.jsonl"])
    assert content(folder / "again") == content(folder / "i")


def test_an_answer_s_thinking_is_kept_apart_and_one_without_answer_left_out(tmp_path):
    row = {"schema_version": V2, "uid": "a", "raw_prompt_hash": "0" * 64, "teacher_fingerprint": {}}
    file = write(tmp_path / "r.jsonl", [row | {"teacher_answers": ["<think>hm</think>\n42", "<think>never", " "]}])
    load(tmp_path / "i", [file])
    ((stored,),) = [row.answers for row in content(tmp_path / "i")]
    assert (stored.answer.text, stored.answer.reasoning) == ("42", "hm")


GOOD = {"schema_version": V2, "uid": "a", "raw_prompt_hash": "0" * 64, "teacher_answers": ["x"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": "ropd.teacher_index.v3"}, "v3"),
        ({"schema_version": None}, "schema_version"),
        ({"uid": ""}, "uid is ''"),
        ({"raw_prompt_hash": "0" * 63}, "not 64 hex digits"),
        ({"raw_prompt_hash": "G" * 64}, "not 64 hex digits"),
        ({"teacher_answers": "x"}, "teacher_answers is no list"),
        ({"teacher_answers": [1]}, "teacher_answers is no list"),
        ({"schema_version": V1}, "teacher_answer is no text"),
        ({"teacher_fingerprint": "gpt"}, "teacher_fingerprint is str"),
        ({"ropd": {"sources": [], "answers": []}}, "does not fit"),
        ({"ropd": {"sources": [{}], "answers": [{"source": 0}, {"source": 0}]}}, "does not fit"),
        ({"ropd": {"sources": [{"colour": 1}], "answers": [{"source": 0}]}}, "does not fit"),
    ],
)
def test_a_row_that_is_none_is_named(tmp_path, change, said):
    file = write(tmp_path / "r.jsonl", [GOOD, GOOD | change])
    with pytest.raises(InputError, match=r"r\.jsonl:2: ") as caught:
        list(imported_rows(file))
    assert said in caught.value.message
