"""Index: the prompts, and whether the teacher index has m distinct answers to each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from ropd_cli.doctor.check import Case, Check, Section, few
from ropd_cli.index import Stored, TeacherIndex
from ropd_cli.index.contents import survey
from ropd_cli.records.schemas import Prompt, load_prompts
from ropd_cli.util.tokens import estimate_tokens

HERE = Section("index")
SAMPLE = 500
"""Prompts whose answers are read for their lengths."""


def prompts(case: Case) -> list[Check]:
    """The prompts file."""
    data = case.config.data
    if data.prompts is None:
        return [HERE.skipped("prompts", "data.prompts is not set")] if case.named else []
    found = load_prompts(data.prompts)
    wanted = case.config.train.prompts_per_step
    if case.named and len(found) < wanted:
        return [
            HERE.fail(
                "prompts",
                f"{data.prompts}: {len(found)} prompts, train.prompts_per_step is {wanted}",
                f"give more prompts, or --set train.prompts_per_step={len(found)}",
            )
        ]
    return [HERE.ok("prompts", f"{data.prompts}: {len(found)} prompts")]


def index(case: Case) -> list[Check]:
    """The teacher index by itself, and against the prompts."""
    data, m = case.config.data, case.config.judge.m
    if data.index is None:
        return [HERE.skipped("index", "data.index is not set")] if case.named else []
    with closing(TeacherIndex.open(Path(data.index))) as opened:
        found = survey(opened)
        checks = [HERE.ok("index", f"{data.index}: {found.answers} answers to {found.prompts} prompts")]
        if found.truncated:
            what = f"{found.truncated} more answers were cut off by their token limit and are not handed out"
            checks.append(
                HERE.warn("cut-off answers", what, "ropd teacher-gen with --retry-max-tokens, then index build")
            )
        if data.prompts is None or not Path(data.prompts).is_file():
            return checks
        asked = load_prompts(data.prompts)
        checks += _coverage(opened, asked, m, skip=data.on_few_answers == "skip")
        step = max(1, len(asked) // SAMPLE)
        sample = [opened.get(prompt.uid, prompt.raw_prompt_hash) for prompt in asked[::step][:SAMPLE]]
    answers = [[stored for stored in each if stored.usable] for each in sample]
    return checks + usable([each for each in answers if each], m, case.config.judge.max_answer_tokens)


def _coverage(opened: TeacherIndex, asked: Sequence[Prompt], m: int, *, skip: bool) -> list[Check]:
    """``skip``: prompts without m answers are left out of a run, which is no fault then."""
    found = opened.check(asked, m)
    checks = []
    say = HERE.warn if skip else HERE.fail
    left_out = "; left out of a run by data.on_few_answers" if skip else ""
    if found.missing:
        elsewhere = [uid for uid in found.missing if opened.get(uid)]
        why = (
            f"; the index has {len(elsewhere)} of these uids with another prompt: was the prompts file changed?"
            if elsewhere
            else ""
        )
        checks.append(
            say(
                "coverage",
                f"no answer for {len(found.missing)} of {found.prompts} prompts ({few(found.missing)}){why}{left_out}",
                "ropd teacher-gen for these prompts, then ropd index build into the same index",
            )
        )
    if found.short:
        what, mend = _too_few(opened, asked, found.short, found.prompts, m)
        checks.append(say("distinct answers", what + left_out, mend))
    if not checks:
        checks.append(HERE.ok("coverage", f"each of {found.prompts} prompts has {m} distinct answers or more"))
    return checks


def _too_few(
    opened: TeacherIndex, asked: Sequence[Prompt], short: dict[str, int], count: int, m: int
) -> tuple[str, str]:
    """What is wrong and how to mend it, of prompts with fewer than m distinct answers; equal ones count once, which
    temperature 0 brings about."""
    hashes = {prompt.uid: prompt.raw_prompt_hash for prompt in asked}
    cold = [uid for uid in short if any(s.sampling.get("temperature") == 0 for s in opened.get(uid, hashes[uid]))]
    counted = few([f"{uid} {number}" for uid, number in short.items()])
    found = f"fewer than {m} distinct answers for {len(short)} of {count} prompts ({counted})"
    if cold:
        return (
            f"{found}; sampled at temperature 0, where equal answers count once: m silently becomes "
            f"{max(short[uid] for uid in cold)}",
            "ropd teacher-gen again with --temperature 0.7 or more into a new --out, then ropd index build",
        )
    return (
        f"{found}; equal answers count once (temperature 0 gives only such)",
        "ropd teacher-gen with a higher --temperature or a larger -m, then ropd index build; "
        f"or lower judge.m (now {m})",
    )


def usable(answers: Sequence[Sequence[Stored]], m: int, max_answer_tokens: int) -> list[Check]:
    """Answers by prompt, each list not empty: cut off, too long to be shown whole, or different only in spaces."""
    checks = []
    all_of_them = [stored.answer for each in answers for stored in each]
    if not all_of_them:
        return []
    cut = sum(answer.finish_reason == "length" for answer in all_of_them)
    if cut:
        found = f"{cut} of {len(all_of_them)} answers looked at were cut off by their token limit"
        mend = "ropd teacher-gen again with a higher --max-tokens, and build the index anew"
        checks.append(HERE.warn("cut-off answers", found, mend))
    alike = [each[0].uid for each in answers if len(each) >= m > len({" ".join(s.answer.text.split()) for s in each})]
    if alike:
        found = f"answers to {len(alike)} of {len(answers)} prompts differ only in white space ({few(alike)})"
        checks.append(HERE.fail("distinct answers", found, "ropd teacher-gen with a higher --temperature"))
    tokens = sorted(estimate_tokens(answer.text) for answer in all_of_them)
    long = sum(count > max_answer_tokens for count in tokens)
    lengths = f"about {tokens[len(tokens) // 2]:,} tokens in the middle, {tokens[-1]:,} at most"
    if long:
        found = (
            f"{long} of {len(tokens)} answers are longer than judge.max_answer_tokens {max_answer_tokens} ({lengths})"
        )
        mend = "judges see them without their middle: raise judge.max_answer_tokens if the judge's context allows it"
        checks.append(HERE.warn("lengths", found, mend))
    else:
        checks.append(HERE.ok("lengths", lengths))
    models = Counter(stored.model for each in answers for stored in each)
    if len(models) > 1:
        checks.append(HERE.ok("teachers", ", ".join(f"{name or '(no name)'} {n}" for name, n in models.most_common(4))))
    return checks


CHECKS = (prompts, index)
