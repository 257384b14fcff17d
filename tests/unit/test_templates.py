"""Shipped and own templates."""

import re
import shutil
from pathlib import Path

import pytest

from ropd_cli.config import JudgeConfig
from ropd_cli.errors import InputError
from ropd_cli.llm.chat import ChatRequest
from ropd_cli.method.block import build_block
from ropd_cli.method.prompts import Templates, fill
from ropd_cli.records.schemas import Answer, Group, Message


def test_the_shipped_ones_load_and_say_what_a_reply_looks_like():
    templates = Templates.load()
    assert '"ropd.rubric.v1"' in templates.rubricator
    assert '"ropd.batch_verifier.v2"' in templates.verifier
    assert "{{" not in templates.system


def test_filling_looks_into_no_value_and_stumbles_over_no_brace():
    assert fill('{"a": {{b}}} {{{b}} {{c}}', {"b": "{{c}} \\1", "c": "C"}) == '{"a": {{c}} \\1} {{{c}} \\1 C'


@pytest.mark.parametrize(
    ("template", "values", "text"),
    [
        ("a{{#x}} b{{/x}} c", {"x": "1"}, "a b c"),
        ("a{{#x}} b{{/x}} c", {"x": ""}, "a c"),
        ("a{{^x}} b{{/x}}\nc", {"x": ""}, "a b\nc"),
        ("a\n\n{{#x}}\nis {{x}}\n{{/x}}\n\nb", {"x": "{{y}} {{#x}}"}, "a\n\nis {{y}} {{#x}}\n\nb"),
        ("a\n\n{{#x}}\nis {{x}}\n{{/x}}\n\nb", {"x": ""}, "a\n\nb"),
        ("{{#x}}\n1\n{{/x}}\n{{^x}}\n2\n{{/x}}\n{{y}}", {"x": "", "y": "\n\n\n3"}, "2\n\n\n\n3"),
    ],
)
def test_sections(template, values, text):
    assert fill(template, values) == text


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("form", ["shared-prefix", "group", "paper"])
def test_every_form_in_every_language_has_what_every_setting_needs(form, language):
    chosen = JudgeConfig(
        form=form,
        language=language,
        blind=False,
        chunk_size=None if form == "paper" else 2,
        rubricator_instructions="x",
        verifier_instructions="y",
    )
    templates = Templates.load(chosen)
    assert '"ropd.rubric.v1"' in templates.rubricator and '"ropd.batch_verifier.v2"' in templates.verifier
    english = Templates.load(chosen.model_copy(update={"language": "en"}))
    for name in ("rubricator", "verifier"):
        found = [sorted(re.findall(r"{{[#^/]?[a-z_]+}}", getattr(each, name))) for each in (templates, english)]
        assert found[0] == found[1]


def test_the_hash_covers_instructions_form_and_language():
    chosen = [{}, {"language": "zh"}, {"form": "group"}, {"verifier_instructions": "x"}, {"verifier_instructions": "y"}]
    assert len({Templates.load(JudgeConfig(**each)).verifier_hash for each in chosen}) == len(chosen)


def test_own_templates_stand_in_for_the_shipped_ones(tmp_path):
    (tmp_path / "verifier.md").write_text("Judge {{rubric}}, {{criterion_count}} criteria.", encoding="utf-8")
    own, shipped = Templates.load(JudgeConfig(templates=str(tmp_path))), Templates.load()
    assert own.verifier == "Judge {{rubric}}, {{criterion_count}} criteria."
    assert own.rubricator == shipped.rubricator
    assert own.verifier_hash != shipped.verifier_hash
    assert own.rubricator_hash == shipped.rubricator_hash


def test_the_hash_covers_the_system_text(tmp_path):
    (tmp_path / "system.md").write_text("Other.", encoding="utf-8")
    own, shipped = Templates.load(JudgeConfig(templates=str(tmp_path))), Templates.load()
    assert own.hashes.keys() == shipped.hashes.keys() == {"rubricator", "verifier", "repair"}
    assert not set(own.hashes.values()) & set(shipped.hashes.values())


def test_an_empty_system_text_sends_no_system_message(tmp_path):
    (tmp_path / "system.md").write_text("\n", encoding="utf-8")
    block = build_block(
        Group(uid="u", prompt=(Message(role="user", content="q"),), raw_prompt_hash="h", rollouts=(Answer(text="a"),))
    )
    assert [m.role for m in Templates.load(JudgeConfig(templates=str(tmp_path))).rubricator_messages(block)] == ["user"]


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("verifier.md", "Judge them.", r"verifier\.md: placeholder \{\{rubric\}\} is missing"),
        ("rubricator.md", "Write one.", r"rubricator\.md: placeholder \{\{references\}\} is missing"),
        ("verifier.md", "{{rubric}} {{criterion_cout}}", r"unknown placeholder .*did you mean \{\{criterion_count\}\}"),
        ("system.md", "{{tag}}", r"unknown placeholder \{\{tag\}\}"),
        ("verifier.md", "{{rubric}} {{#judged}}", r"\{\{/judged\}\} is missing"),
        ("verifier.md", "{{rubric}} {{/judged}}", r"\{\{/judged\}\} closes a section that is not open"),
        (
            "verifier.md",
            "{{rubric}} {{#judged}} {{^tag}}{{/tag}}{{/judged}}",
            r"\{\{\^tag\}\} stands where \{\{/judged\}\} was expected",
        ),
    ],
)
def test_a_template_that_can_not_work(tmp_path, name, text, complaint):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=complaint) as caught:
        Templates.load(JudgeConfig(templates=str(tmp_path)))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"form": "group"}, r"\{\{answers\}\} is missing \(judge.form is group\)"),
        ({"blind": False}, r"\{\{references\}\} is missing \(judge.blind is false\)"),
        ({"chunk_size": 2}, r"\{\{judged\}\} is missing \(judge.chunk_size is set\)"),
        ({"verifier_instructions": "x"}, r"\{\{instructions\}\} is missing \(judge.verifier_instructions is set\)"),
    ],
)
def test_a_template_that_lacks_what_a_setting_needs(tmp_path, settings, why):
    (tmp_path / "verifier.md").write_text("Judge by {{rubric}}.", encoding="utf-8")
    Templates.load(JudgeConfig(templates=str(tmp_path)))
    with pytest.raises(InputError, match=why):
        Templates.load(JudgeConfig(templates=str(tmp_path), **settings))


def test_a_copy_of_the_shipped_folder(tmp_path):
    own = tmp_path / "mine"
    shutil.copytree(Path(__file__).parents[2] / "prompts" / "en", own)
    for form in ("shared-prefix", "group", "paper"):
        settings = JudgeConfig(templates=str(own), form=form)
        assert Templates.load(settings).hashes == Templates.load(JudgeConfig(form=form)).hashes
        changed = own / form / "verifier.md"
        changed.write_text(changed.read_text() + "Be strict.", encoding="utf-8")
        assert Templates.load(settings).verifier.endswith("Be strict.")


@pytest.mark.parametrize("place", ["shared_prefix/verifier.md", "paper/rubricator.md", "en/system.md", "verfier.md"])
def test_a_template_that_nothing_would_read(tmp_path, place):
    for name in ("system.md", place):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("Judge.", encoding="utf-8")
    (tmp_path / "README.md").write_text("Mine.", encoding="utf-8")
    with pytest.raises(InputError, match=f"{place} would not be read"):
        Templates.load(JudgeConfig(templates=str(tmp_path)))


def test_folders_that_hold_none(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="no (templates in|folder) "):
            Templates.load(JudgeConfig(templates=str(folder)))
    (tmp_path / "lint.md").write_text("{{question}} {{answer}} {{rubric}}", encoding="utf-8")
    Templates.load(JudgeConfig(templates=str(tmp_path)))  # the lint judge's alone


def test_not_utf8(tmp_path):
    (tmp_path / "system.md").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8"):
        Templates.load(JudgeConfig(templates=str(tmp_path)))


@pytest.mark.parametrize("system", ["", 'You judge "answers".\n\u2028 ü'])
@pytest.mark.parametrize("text", ["plain", 'quote " backslash \\ control \x01 \u202e \U0001f600 </answer>', "\ud800"])
def test_what_is_written_at_once_is_what_would_be_written(system, text):
    """The fast way to a request's JSON gives the bytes of the plain one, and another hash for any other text."""
    group = Group(
        uid="u", prompt=(Message(role="user", content=text),), raw_prompt_hash="h", rollouts=(Answer(text=text + "."),)
    )
    block = build_block(group)
    templates = Templates(system=system, rubricator=f"rubric? {{{{references}}}} {text!r}", verifier="x {{rubric}}")
    messages = templates.rubricator_messages(block)
    written = templates.written(block, messages)
    plain = ChatRequest(messages=messages, model="m")
    assert written.json == plain.messages_json
    assert ChatRequest(messages=messages, model="m", written=written).messages_json == plain.messages_json
    others = [
        Templates(system=system + "!", rubricator=templates.rubricator, verifier="x"),
        Templates(system, "y", "x"),
    ]
    hashes = {written.hash, *(each.written(block, each.rubricator_messages(block)).hash for each in others)}
    assert len(hashes) == 3
