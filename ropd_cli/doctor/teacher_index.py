"""Index: the prompts, and whether the teacher index has as many distinct answers to each as the method needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from ropd_cli.doctor.check import Case, Check, Section, few
from ropd_cli.index import Stored, TeacherIndex
from ropd_cli.index.contents import survey
from ropd_cli.methods import method_of
from ropd_cli.records.schemas import Prompt, load_prompts
from ropd_cli.util.counted import counted
from ropd_cli.util.tokens import estimate_tokens

HERE = Section("index")
SAMPLE = 500
"""Prompts whose answers are read for their lengths."""


def prompts(case: Case) -> list[Check]:
    """Check that the prompts file can be read and is large enough for a step."""
    data, wanted = case.config.data, case.config.train.prompts_per_step
    if data.prompts is None:
        return [HERE.skipped("prompts", "data.prompts is not set")] if case.named else []
    count = len(load_prompts(data.prompts))
    if case.named and count < wanted:
        found = f"{data.prompts}: {counted(count, 'prompt')}, train.prompts_per_step is {wanted}"
        return [HERE.fail("prompts", found, f"give more prompts, or --set train.prompts_per_step={count}")]
    return [HERE.ok("prompts", f"{data.prompts}: {counted(count, 'prompt')}")]


def index(case: Case) -> list[Check]:
    """Check the teacher index by itself, and against the prompts."""
    data, judge = case.config.data, case.config.judge
    needed = method_of(case.config).needs(case.config).teacher_answers
    if case.named and not needed:
        return [HERE.skipped("index", "no teacher answers are needed")]
    if data.index is None:
        return [HERE.skipped("index", "data.index is not set")] if case.named else []
    with closing(TeacherIndex.open(Path(data.index))) as opened:
        contents = survey(opened)
        checks = [
            HERE.ok(
                "index", f"{data.index}: {counted(contents.answers, 'answer')} to {counted(contents.prompts, 'prompt')}"
            )
        ]
        if contents.truncated:
            found = f"{contents.truncated} more answers were cut off by their token limit and are not used"
            mend = "ropd teacher-gen with --retry-max-tokens, then index build"
            checks.append(HERE.warn("cut-off answers", found, mend))
        if data.prompts is None or not Path(data.prompts).is_file():
            return checks
        wanted, m = load_prompts(data.prompts), needed or judge.m
        checks += _coverage(opened, wanted, m, skip=data.on_few_answers == "skip")
        sample = wanted[:: max(1, len(wanted) // SAMPLE)][:SAMPLE]
        stored = [opened.get(prompt.uid, prompt.raw_prompt_hash) for prompt in sample]
    by_prompt = [usable for each in stored if (usable := [one for one in each if one.usable])]
    return checks + (_answers(by_prompt, m, judge.max_answer_tokens) if by_prompt else [])


def _coverage(opened: TeacherIndex, wanted: Sequence[Prompt], m: int, *, skip: bool) -> list[Check]:
    """Check that each prompt has m distinct answers; ``skip``: prompts without them are left out of a run."""
    coverage = opened.check(wanted, m)
    if coverage.complete:
        return [HERE.ok("coverage", f"each of {coverage.prompts} prompts has {m} distinct answers or more")]
    make, left_out = HERE.fail, ""
    if skip:
        make, left_out = HERE.warn, "; left out of a run by data.on_few_answers"
    checks = []
    if coverage.missing:
        found = (
            f"no answer for {len(coverage.missing)} of {counted(coverage.prompts, 'prompt')} ({few(coverage.missing)})"
        )
        elsewhere = [uid for uid in coverage.missing if opened.get(uid)]
        if elsewhere:
            found += (
                f"; the index has {len(elsewhere)} of these uids with another prompt: was the prompts file changed?"
            )
        mend = "ropd teacher-gen for these prompts, then ropd index build into the same index"
        checks.append(make("coverage", found + left_out, mend))
    if coverage.short:
        short = few([f"{uid} {number}" for uid, number in coverage.short.items()])
        found = (
            f"fewer than {counted(m, 'distinct answer')} for {len(coverage.short)} of "
            f"{counted(coverage.prompts, 'prompt')} ({short})"
        )
        hashes = {prompt.uid: prompt.raw_prompt_hash for prompt in wanted}
        temperatures = {
            uid: {one.sampling.get("temperature") for one in opened.get(uid, hashes[uid])} for uid in coverage.short
        }
        at_zero = [count for uid, count in coverage.short.items() if 0 in temperatures[uid]]
        if at_zero:
            found += f"; sampled at temperature 0, where equal answers count once: m silently becomes {max(at_zero)}"
            mend = "ropd teacher-gen again with --temperature 0.7 or more into a new --out, then ropd index build"
        else:
            found += "; equal answers count once (temperature 0 gives only such)"
            mend = "ropd teacher-gen with a higher --temperature or a larger -m, then ropd index build; "
            mend += f"or lower judge.m (now {m})"
        checks.append(make("distinct answers", found + left_out, mend))
    return checks


def _answers(by_prompt: Sequence[Sequence[Stored]], m: int, max_answer_tokens: int) -> list[Check]:
    """Check a sample of the answers, each list not empty: cut off, different only in spaces, too long to be shown
    whole; and name the teachers."""
    checks = []
    answers = [one.answer for each in by_prompt for one in each]
    cut = sum(answer.finish_reason == "length" for answer in answers)
    if cut:
        found = f"{cut} of {counted(len(answers), 'answer')} looked at were cut off by their token limit"
        mend = "ropd teacher-gen again with a higher --max-tokens, and build the index anew"
        checks.append(HERE.warn("cut-off answers", found, mend))
    alike = [each[0].uid for each in by_prompt if len(each) >= m > len({" ".join(s.answer.text.split()) for s in each})]
    if alike:
        found = (
            f"answers to {len(alike)} of {counted(len(by_prompt), 'prompt')} differ only in white space ({few(alike)})"
        )
        checks.append(HERE.fail("distinct answers", found, "ropd teacher-gen with a higher --temperature"))
    tokens = sorted(estimate_tokens(answer.text) for answer in answers)
    long = sum(count > max_answer_tokens for count in tokens)
    found = f"median about {tokens[len(tokens) // 2]:,} tokens, {tokens[-1]:,} at most"
    if long:
        found = (
            f"{long} of {counted(len(tokens), 'answer')} are longer than judge.max_answer_tokens "
            f"{max_answer_tokens} ({found})"
        )
    mend = "judges see them without their middle: raise judge.max_answer_tokens if the judge's context allows it"
    checks.append(HERE.ok_unless(long > 0, "lengths", found, mend))
    models = Counter(one.model for each in by_prompt for one in each)
    if len(models) > 1:
        checks.append(HERE.ok("teachers", ", ".join(f"{name or '(no name)'} {n}" for name, n in models.most_common(4))))
    return checks


CHECKS = (prompts, index)
