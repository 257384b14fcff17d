"""What of a group each request shows: laws over all choices."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ropd_cli.config import JudgeConfig
from ropd_cli.method.block import build_block, read_block
from ropd_cli.method.layouts import rubric_layouts, verdict_layouts
from ropd_cli.records.schemas import Answer, Group, Message, prompt_hash

FORMS = st.sampled_from(["shared-prefix", "group", "paper"])
TEXTS = st.lists(st.text(min_size=1).filter(lambda t: t.strip() and "think>" not in t), max_size=5)


def group(teacher, rollouts):
    messages = (Message(role="user", content="?"),)
    return Group(
        uid="u",
        prompt=messages,
        raw_prompt_hash=prompt_hash(messages),
        teacher_answers=tuple(teacher),
        rollouts=tuple(Answer(text=t) for t in rollouts),
    )


def names(block, numbers):
    return [(block.answers[k - 1].source, block.answers[k - 1].index) for k in numbers]


@given(TEXTS, TEXTS.filter(bool), FORMS, st.booleans(), st.one_of(st.none(), st.integers(1, 12)))
def test_every_answer_is_judged_once_and_none_that_should_not(teacher, rollouts, form, in_pool, size):
    block = build_block(group(teacher, rollouts))
    chosen = {"chunk_size": size} if form != "paper" else {}
    settings = JudgeConfig(form=form, teacher_in_pool=in_pool, **chosen)
    layouts = verdict_layouts(block, settings)
    judged = list(itertools.chain(*(names(layout.block, layout.judged) for layout in layouts)))
    assert len(judged) == len(set(judged))
    wanted = set(names(block, block.numbers if in_pool else block.rollouts))
    assert set(judged) == wanted
    for layout in layouts:
        assert layout.judged == tuple(range(layout.judged[0], layout.judged[-1] + 1))  # as the reply's schema says
        assert len(layout.judged) <= (1 if form == "paper" else size or len(wanted))
        assert read_block(layout.block.text)[1] == [answer.text for answer in layout.block.answers]
        order = [names(block, block.numbers).index(name) for name in names(layout.block, layout.block.numbers)]
        assert order == sorted(order)  # the blind order of the whole group
    sizes = [len(layout.judged) for layout in layouts]
    assert max(sizes) - min(sizes) <= 1


@given(TEXTS.filter(bool), TEXTS.filter(bool), FORMS)
def test_the_rubricator_sees_all_or_the_teacher_and_one(teacher, rollouts, form):
    block = build_block(group(teacher, rollouts))
    (layout,) = rubric_layouts(block, JudgeConfig(form=form))
    shown = layout.block
    assert layout.rollout is None and sorted(names(shown, shown.numbers)) == sorted(names(block, block.numbers))
    own = [(each.rollout, each.block) for each in rubric_layouts(block, JudgeConfig(form=form, rubric_per="rollout"))]
    assert [rollout for rollout, _ in own] == list(range(len(rollouts)))
    for rollout, each in own:
        wanted = [*(("teacher", k) for k in range(len(teacher))), ("student", rollout)]
        assert sorted(names(each, each.numbers)) == sorted(wanted)
    if form != "shared-prefix":  # the references first
        for _, each in [(None, shown), *own]:
            assert each.references == tuple(range(1, len(teacher) + 1))
    else:
        assert shown is block
        for rollout, each in own:  # and the verifier reads the same bytes
            (layout,) = verdict_layouts(block, JudgeConfig(form=form, rubric_per="rollout"), rollout)
            assert layout.block.text == each.text and layout.rollout == rollout


def test_two_blocks_of_a_group_do_not_share_a_tag():
    block = build_block(group(["a", "b"], ["c", "d"]))
    tags = {block.of(numbers).tag for size in range(1, 5) for numbers in itertools.combinations(block.numbers, size)}
    assert len(tags) == 15 and block.of(block.numbers) is block
