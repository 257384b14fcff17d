"""Golden values: what is asked about a fixed group, and under which cache keys the paid replies lie.

Each case is one choice of settings. It runs the real commands (``ropd rubricate``, ``ropd verify``, ``ropd
teacher-gen``) or the owner of judging of a training run against the scripted server, and compares what was sent, what
the cache holds and what the records say with ``tests/data/golden.json``. A key that changes makes users pay again for
replies that they have, so a difference here is a mistake unless it is wanted. ``python tests/unit/test_golden.py
--write`` writes the file anew; look at its diff.

A line of a request reads: cache key (or "not kept"), hash of the messages, hash of the body's bytes, tag, shown order.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from unittest import mock

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `python tests/unit/test_golden.py --write`
from servers import FromRequest, Reply, ScriptedServer, Status

DATA = Path(__file__).parents[1] / "data" / "golden.json"
URL = "http://judge.example:8000/v1"  # reached through a proxy, the scripted server: its port is in no cache key

# ---------------------------------------------------------------------------------------------------------------------
# The adapter: all that is called of the product. Cases and data below know nothing but commands, settings and files.


@functools.cache
def command_of(name):
    from ropd_cli.cli.main import load_command

    return load_command(name)


def ropd(name, *arguments, code=0):
    """Run a command of ``ropd`` in this process; ``code`` is the exit code that it should have."""
    with contextlib.redirect_stdout(io.StringIO()):
        found = command_of(name).main([str(each) for each in arguments], standalone_mode=False)
    assert (found or 0) == code, (name, *arguments)


def run_training_group(folder, settings, uid, rollouts):
    """One group of a training step, as the training judges it; the record of its group file."""
    from judged_runs import judge_of

    from ropd_cli.records.files import read_records
    from ropd_cli.records.schemas import Answer

    async def work():
        judge, run = judge_of(folder, **{name.replace(".", "__"): value for name, value in settings.items()})
        await judge.judge(1, uid, [Answer(text=text, finish_reason="stop") for text in rollouts])
        await judge.step_metrics(1, 1)
        await judge.close()
        return run.group_file(1)

    ((_, group),) = read_records(asyncio.run(work()))
    return group


def hashes_of_group(messages, teacher, rollouts, max_answer_tokens):
    """(places, tag, hash of the block) of a group."""
    from ropd_cli.method.block import build_block
    from ropd_cli.records.schemas import Answer, Group, Message, prompt_hash

    prompt = tuple(Message(**message) for message in messages)
    answers = tuple(Answer(text=text) for text in rollouts)
    group = Group(
        uid="g", prompt=prompt, raw_prompt_hash=prompt_hash(prompt), teacher_answers=tuple(teacher), rollouts=answers
    )
    block = build_block(group, max_answer_tokens)
    return block.places, block.tag, block.hash


def template_hashes(**settings):
    """The hashes of the rubricator's, the verifier's and the repair's templates."""
    from ropd_cli.config import JudgeConfig
    from ropd_cli.method.prompts import Templates

    return Templates.load(JudgeConfig(**settings)).hashes


def hash_of_prompt(prompt):
    """``raw_prompt_hash``, which a file of answers needs."""
    from ropd_cli.records.schemas import Prompt

    return Prompt(uid="u", prompt=prompt).raw_prompt_hash


# ---------------------------------------------------------------------------------------------------------------------
# The data. An answer is known by its first characters, whatever is cut out of its middle.

LONG = " ".join(f"Step {k}: the sum of the first {k} odd numbers is {k * k}." for k in range(1, 40))
DIALOGUE = [
    {"role": "system", "content": "Du bist ein sorgfältiger Mathematiker. \u2028 Keep to the point."},
    {"role": "user", "content": "What is 17 + 25?"},
    {"role": "assistant", "content": '<answer index="1">41</answer>'},
    {"role": "user", "content": "That is wrong. Try again, and explain {{why}} \\boxed{x} 数学 🧮."},
]
RAR = [
    {"description": "Essential Criteria: States 42.", "weight": 5},
    {"description": "Important Criteria: Explains the carry.", "weight": 3},
    {"description": "Pitfall Criteria: Does not mention the carry.", "weight": -1},
]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "Look:"}, {"type": "image", "n": 1.5}]}]
GROUPS = {
    "dialogue": {
        "prompt": DIALOGUE,
        "more": {"answer": "42", "rubric": RAR, "data_source": "made-up"},
        "teacher": [
            "T0: 17 + 25 = 42, because 7 + 5 = 12 carries one. \\boxed{42}",
            "<think>easy</think>T1: 四十二 (42). Der Übertrag ist 1.",
            f"T2: {LONG}",
            "T3:\n\n| 17 |\n| 25 |\n\n42 & <b>done</b>",
        ],
        "rollouts": [
            "<think>7 + 5 = 12, carry the one</think>S0: The answer is \\boxed{42}.",
            "<think>I was cut off inside my thoughts, 42",
            "S2: 42 \u2014 \u201cüber\u201d 🧮</answer-0123456789abcdef>\n"
            '<answer index="1">{"answers": []} {{rubric}}\x07',
            f"S3: 41. {LONG}",
        ],
    },
    "plain": {
        "prompt": "Name a prime number.",
        "more": {},
        "teacher": ["T0: 2", "T1: 3"],
        "rollouts": ["S0: 7", "S1: 9", ""],
    },
    "odd": {
        "prompt": PARTS,
        "more": {},
        "teacher": ["T0: half \ud83d a pair", "S1: the same text"],
        "rollouts": ["S0: \udc00 and\r\nlines", "S1: the same text", "S1: the same text", "S3: <question-"],
    },
    "silent": {
        "prompt": "Say nothing.",
        "more": {},
        "teacher": ["T0: ", "T1: …"],
        "rollouts": ["", "<think>hm", " \n"],
    },
}
RUBRIC = [
    ("Task Completion", "States that the sum is 42.", 5),
    ("General Reasoning", 'Explains the carry, "7 + 5 = 12" or \\boxed{12}.', 3),
    ("Observable Quality", "Ist kurz: höchstens 200 Zeichen 字.", 2),
    ("General Reasoning", "Nennt <b>keine</b> falsche Zwischensumme.", 4),
    ("Observable Quality", "Has no tags or code in it.", 1),
]
BETTER = [("Task Completion", f"Criterion {k} of the rubric that was written again.", k) for k in (5, 4, 3, 2)]
JUDGEMENTS = {
    "S0": [True, True, True, True, False],
    "S1": [False, True, False, True, True],
    "S2": [True, False, True, False, False],
    "S3": [False, False, False, True, True],
    "T0": [True, True, True, True, True],
    "T1": [True, True, True, False, True],
    "T2": [False, True, False, True, True],
    "T3": [True, False, True, True, False],
}
OWN_TEMPLATES = {
    "system.md": "You are my own judge. Tags are fences.\n",
    "rubricator.md": "Write {{answer_count}}. {{references}}{{#instructions}} {{instructions}}{{/instructions}}",
    "verifier.md": "Tag {{tag}}.\n{{#judged}}\nOnly {{judged_count}}: {{judged}}\n{{/judged}}\n{{rubric}}\n"
    "{{^references}}\nBlind.\n{{/references}}\n{{#references}}\nTeacher: {{references}}\n{{/references}}\n"
    "{{criterion_count}} {{students}}",
    "repair.md": "Again, please ({{score}}).\n{{findings}}",
}


def both(**settings):
    """Settings of both endpoints; ``sampling__seed`` is ``sampling.seed``."""
    return {
        f"{section}.{name.replace('__', '.')}": value
        for section in ("rubricator", "verifier")
        for name, value in settings.items()
    }


def judge(**settings):
    return {f"judge.{name}": value for name, value in settings.items()}


EXTRA = {"chat_template_kwargs": {"enable_thinking": False}, "top_k": 5}
FORMS = ("shared-prefix", "group", "paper")
OWN = {"templates": "own"}
SCHEMA = "structured_output"
OFF = {"api": "responses"}
SAY = {"rubricator_instructions": "Bitte streng: {{tag}} <b>.", "verifier_instructions": "Be strict, 严格。"}
GROUP_CASES = {  # name -> settings; what is no setting: "group", "kind", and how the judge behaves
    "default": {},
    # each choice of judge.*
    "m-2": judge(m=2),
    "m-2-seed-3": judge(m=2) | {"seed": 3},
    "form-group": judge(form="group"),
    "form-paper": judge(form="paper"),
    "zh": judge(language="zh"),
    "rubric-per-rollout": judge(rubric_per="rollout"),
    "not-blind": judge(blind=False),
    "teacher-not-in-pool": judge(teacher_in_pool=False),
    "chunk-1": judge(chunk_size=1),
    "chunk-2": judge(chunk_size=2),
    "chunk-3": judge(chunk_size=3),
    "chunk-99": judge(chunk_size=99),
    "repeats-2": judge(repeats=2),
    "repeats-3-dissent": judge(repeats=3) | {"dissent": True},
    "rubrics-dataset": judge(rubrics="dataset"),
    "rubrics-both": judge(rubrics="both"),
    "nulls": {"nulls": True},
    "nulls-min-coverage-0.8": judge(min_coverage=0.8) | {"nulls": True},
    "nulls-min-coverage-0.95": judge(min_coverage=0.95) | {"nulls": True, "code": 1},
    "max-answer-tokens-64": judge(max_answer_tokens=64),
    "max-answer-tokens-16": judge(max_answer_tokens=16),
    "on-no-answer-drop": judge(on_no_answer="drop"),
    "templates-own": judge(**OWN),
    "rubricator-instructions": judge(rubricator_instructions=SAY["rubricator_instructions"]),
    "verifier-instructions": judge(verifier_instructions=SAY["verifier_instructions"]),
    "max-failed-fraction": judge(max_failed_fraction=1.0),
    # combinations
    **{f"zh-{form}-not-blind": judge(language="zh", form=form, blind=False) for form in FORMS},
    **{f"{form}-per-rollout": judge(form=form, rubric_per="rollout") for form in FORMS[1:]},
    **{f"{form}-not-in-pool-not-blind": judge(form=form, teacher_in_pool=False, blind=False) for form in FORMS},
    **{f"{form}-instructions": judge(form=form, **SAY) for form in FORMS},
    "zh-instructions-chunk-3": judge(language="zh", chunk_size=3, **SAY),
    "group-chunk-3": judge(form="group", chunk_size=3),
    "group-chunk-2-repeats-2-zh": judge(form="group", chunk_size=2, repeats=2, language="zh"),
    "per-rollout-both": judge(rubric_per="rollout", rubrics="both"),
    "per-rollout-chunk-2-repeats-2": judge(rubric_per="rollout", chunk_size=2, repeats=2),
    "per-rollout-not-in-pool-drop": judge(rubric_per="rollout", teacher_in_pool=False, on_no_answer="drop"),
    "per-rollout-nulls": judge(rubric_per="rollout", min_coverage=0.9) | {"nulls": True},
    "dataset-paper-zh": judge(rubrics="dataset", form="paper", language="zh"),
    "own-not-blind-chunk-2": judge(blind=False, chunk_size=2, **OWN),
    "paper-repeats-3-cut": judge(form="paper", repeats=3, max_answer_tokens=64) | {"dissent": True},
    "quoted-tag": {"quotes": True},
    # other groups
    "plain": {"group": "plain"} | judge(m=2),
    "plain-group": {"group": "plain"} | judge(m=2, form="group"),
    "odd": {"group": "odd"} | judge(m=2),
    "odd-paper": {"group": "odd"} | judge(m=2, form="paper"),
    "silent": {"group": "silent"} | judge(m=2),
    # endpoints
    "responses": both(**OFF),
    "json-object": both(structured_output="json_object"),
    "text": both(structured_output="text"),
    "responses-json-object": both(structured_output="json_object", **OFF),
    "responses-text": both(structured_output="text", **OFF),
    "text-paper-zh": both(structured_output="text") | judge(form="paper", language="zh"),
    "schema-refused": {"first": "refused"},
    "reply-invalid": {"first": "invalid"},
    "responses-reply-invalid": both(**OFF) | {"first": "invalid"},
    "seed-repeats-2": both(sampling__seed=5) | judge(repeats=2),
    "responses-seed-repeats-2": both(sampling__seed=5, **OFF) | judge(repeats=2),
    "sampling": both(sampling__temperature=0.3, sampling__top_p=0.9),
    "no-temperature": both(sampling__temperature=None),
    "reasoning-effort": both(sampling__reasoning_effort="low"),
    "responses-reasoning-effort": both(sampling__reasoning_effort="low", **OFF),
    "max-tokens": both(sampling__max_tokens=4096),
    "responses-max-tokens": both(sampling__max_tokens=4096, **OFF),
    "extra-body": both(extra_body=EXTRA),
    "responses-extra-body": both(extra_body={"text": {"verbosity": "low"}}, **OFF),
    "prompt-cache-key": both(prompt_cache_key=True),
    "responses-prompt-cache-key": both(prompt_cache_key=True, **OFF),
    "no-part-of-the-key": both(headers={"X-A": "b"}, limits__concurrency=1, limits__timeout_s=60.0),
    # rewards
    "rewards-mixed": {"reward.exact": 0.5, "reward.length": 0.25, "reward.format": 0.125},
    # a training's own way, and the repair of a rubric by which all are equal
    "training": {"kind": "training"},
    "training-plain": {"kind": "training", "group": "plain"} | judge(m=2),
    "repair": {"kind": "training", "dull": True} | judge(repair=True, on_no_answer="drop"),
    "repair-zh-group": {"kind": "training", "dull": True}
    | judge(repair=True, on_no_answer="drop", language="zh", form="group"),
    "repair-own": {"kind": "training", "dull": True} | judge(repair=True, on_no_answer="drop", **OWN),
    "repair-responses": {"kind": "training", "dull": True} | judge(repair=True, on_no_answer="drop") | both(**OFF),
    # the teacher's answers
    "teacher": {"kind": "teacher"},
    "teacher-system": {"kind": "teacher", "group": "plain", "system": "Be brief, 简短。"},
    "teacher-seed": {"kind": "teacher", "teacher.sampling.seed": 5, "teacher.sampling.max_tokens": 100},
    "teacher-responses": {"kind": "teacher", "teacher.api": "responses"},
}
BLOCK_CASES = {"dialogue": None, "dialogue-cut": 64, "plain": None, "odd": None, "silent": None}
TEMPLATE_CASES = {
    f"{language}-{form}": {"language": language, "form": form} for language in ("en", "zh") for form in FORMS
} | {"instructions": SAY}
FULL_TEXTS = ("default", "repair")
ASIDE = ("group", "kind", "dissent", "nulls", "quotes", "dull", "first", "system", "code")


# ---------------------------------------------------------------------------------------------------------------------
# The judge that the server plays. It reads the published tags, and says the hash of what it read in its reply, by
# which a cache key finds its request.


def sha(value, digits=16):
    data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True, ensure_ascii=True).encode()
    return hashlib.sha256(data).hexdigest()[:digits]


def said_in(body):
    """The messages of a body of either API."""
    return body.get("messages") or body["input"]


class Seen:
    """One request that the server got."""

    def __init__(self, request):
        self.body, self.messages = request.body, said_in(request.body)
        self.role = request.body["model"]
        self.sha = sha(request.data)
        shown = [m["content"] for m in self.messages if "<question-" in str(m["content"]) and m["role"] == "user"]
        text = shown[0] if self.role != "teacher" else ""
        found = re.search(r"<question-([0-9a-f]{16})>\n", text)
        self.tag = found[1] if found else "-"
        answers = re.findall(rf'<answer-{self.tag} index="(\d+)">(.*?)</answer-{self.tag}>', text, re.DOTALL)
        self.shown = {int(number): answer[:2] for number, answer in answers}
        inside = dict(re.findall(rf"<(judged|rubric)-{self.tag}>(.*?)</\1-{self.tag}>", text, re.DOTALL))
        self.judged = [int(k) for k in re.findall(r"\d+", inside.get("judged", ""))] or list(self.shown)
        self.rubric = json.loads(inside["rubric"])["rubrics"] if "rubric" in inside else []

    def line(self, key):
        order = " ".join(self.shown.values())
        return f"{key} {sha(self.messages)} {self.sha} {self.tag} {order}".strip()


class Judge:
    """Answers requests as a case wants it, and keeps them."""

    def __init__(self, case):
        self.case, self.seen, self.lock = case, [], threading.Lock()

    def __call__(self, request):
        seen = Seen(request)
        with self.lock:
            nth = sum(each.sha == seen.sha for each in self.seen)
            first = not any(each.role == seen.role for each in self.seen)
            self.seen.append(seen)
        if first and "first" in self.case:
            return Status(400) if self.case["first"] == "refused" else Reply('{"no": "such thing"}')
        if seen.role == "teacher":
            texts = [f"{seen.sha} {nth} {k}" for k in range(seen.body.get("n", 1))]
            return Reply(texts[0], others=tuple(texts[1:]))
        document = self.rubric(seen) if seen.role == "rubricator" else self.verdicts(seen, nth)
        return Reply(json.dumps(document | {"request": seen.sha}))

    def rubric(self, seen):
        again = any(message["role"] == "assistant" for message in seen.messages) and self.case.get("dull")
        shown = " ".join(seen.shown.values())
        more = f" ({shown})" if self.case.get("judge.rubric_per") == "rollout" else ""
        more += f" as <answer-{seen.tag}> does" if self.case.get("quotes") else ""
        rows = [
            {"criterion_id": f"c{k}", "category": category, "criterion": text + more, "points": points}
            for k, (category, text, points) in enumerate(BETTER if again else RUBRIC, start=1)
        ]
        return {"rubrics": rows, "maximum_score": 15}

    def verdicts(self, seen, nth):
        rows = []
        for number in seen.judged:
            name = seen.shown[number]
            row = (JUDGEMENTS[name] * 5)[: len(seen.rubric)]
            if self.case.get("dull") and seen.rubric[0]["criterion"] == RUBRIC[0][1]:
                row = [True, False, True, True, True]
            if self.case.get("dissent") and nth == 1:
                row = [not row[0], *row[1:]]
            if self.case.get("nulls") and name in ("S0", "T1"):
                row = [*row[:2], None, *row[3:]]
            rows.append({"answer_index": number, "judgement": row, "final_score": 0})
        return {"answers": rows}


# ---------------------------------------------------------------------------------------------------------------------
# Running a case, and what is kept of it.


def jsonl(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def read(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.is_file() else []


@contextlib.contextmanager
def workplace():
    """A folder with the inputs, in memory where there is such a place (much is written), and a server that runs."""
    memory = Path("/dev/shm")
    where = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="golden-", dir=where) as folder, ScriptedServer() as server:
        write_inputs(Path(folder))
        yield Path(folder), server


def write_inputs(folder):
    """A folder a group: its prompt, its rollouts and its teacher index; and the templates of our own."""
    (folder / "own").mkdir()
    for name, text in OWN_TEMPLATES.items():
        (folder / "own" / name).write_text(text, encoding="utf-8")
    for name, group in GROUPS.items():
        own = folder / name
        own.mkdir()
        base = {"uid": f"u-{name}", "prompt": group["prompt"]}
        jsonl(own / "prompts.jsonl", base | group["more"])
        for kind in ("teacher", "rollouts"):
            answers = [{"text": text, "finish_reason": "stop"} for text in group[kind]]
            record = {"raw_prompt_hash": hash_of_prompt(group["prompt"]), "answers": answers, "model": "m"}
            jsonl(own / f"{kind}.jsonl", base | record)
        ropd("index", "build", own / "teacher.jsonl", "--out", own / "i.db")


def run(name, place):
    """The golden values of a case, and its requests."""
    case, (inputs, server) = GROUP_CASES[name], place
    folder = inputs / f"case-{name}"
    folder.mkdir()
    judge = Judge(case)
    server.default = FromRequest(judge)
    group = inputs / case.get("group", "dialogue")
    settings = {
        f"{role}.{name}": value
        for role in ("rubricator", "verifier", "teacher")
        for name, value in (("base_url", URL), ("model", role))
    }
    settings |= {"cache_dir": str(folder / "cache")} | {k: v for k, v in case.items() if k not in ASIDE}
    if "judge.templates" in settings:
        settings["judge.templates"] = str(inputs / settings["judge.templates"])
    own = {name: value for name, value in os.environ.items() if not name.startswith(("ROPD_", "OPENAI_"))}
    own = {name: value for name, value in own.items() if not name.lower().endswith("_proxy")}
    with mock.patch.dict(os.environ, own | {"http_proxy": server.url.removesuffix("/v1")}, clear=True):
        found = KINDS[case.get("kind", "commands")](case, settings, group, folder)
        ropd("cache", "export", folder / "cache.jsonl", "--cache-dir", folder / "cache")
    entries = read(folder / "cache.jsonl")
    shutil.rmtree(folder)
    keys = [(entry["key"], entry["reply"]["text"]) for entry in entries]
    for role in ("teacher", "rubricator", "verifier"):
        requests = [seen for seen in judge.seen if seen.role == role]
        by_sha = {seen.sha: seen for seen in requests}
        lines = [by_sha[sha].line(key) for key, text in keys for sha in by_sha if sha in text]
        lines += [seen.line("not kept") for seen in requests if not any(seen.sha in line for line in lines)]
        if requests:
            found[f"{role} requests"] = sorted(lines)
    return found, judge.seen


def options(settings):
    return [part for name, value in settings.items() for part in ("--set", f"{name}={json.dumps(value)}")]


def by_commands(case, settings, group, folder):
    sets = options(settings)
    files = [group / "prompts.jsonl", "--index", group / "i.db", "--rollouts", group / "rollouts.jsonl", *sets]
    rubrics, verdicts = folder / "rubrics.jsonl", folder / "verdicts.jsonl"
    ropd("rubricate", *files, "--out", rubrics)
    ropd("verify", *files, "--out", verdicts, "--rubrics", rubrics, code=case.get("code", 0))
    rubrics, verdicts = read(rubrics), read(verdicts)
    found = {"rubrics": rubric_values(rubrics[0]) if rubrics else "failed"}
    found["verdicts"] = verdict_values(verdicts[0]) if verdicts else "failed"
    return found


def by_training(case, settings, group, folder):
    own = folder / "run"
    own.mkdir()
    for name in ("prompts.jsonl", "i.db"):
        (own / name).write_bytes((group / name).read_bytes())
    m = {"judge.m": settings.get("judge.m", 4)}  # the helper has a default of its own
    record = run_training_group(own, settings | m, f"u-{group.name}", GROUPS[group.name]["rollouts"])
    return {"rubrics": rubric_values(record["rubric"]), "verdicts": verdict_values(record["verdicts"])}


def by_teacher(case, settings, group, folder):
    system = ["--system-prompt", case["system"]] if "system" in case else []
    ropd("teacher-gen", group / "prompts.jsonl", "--out", folder / "t.jsonl", "--m", 2, *system, *options(settings))
    return {"template": read(folder / "t.jsonl")[0].get("template")}


KINDS = {"commands": by_commands, "training": by_training, "teacher": by_teacher}


def rubric_values(record):
    names = ("rubric_hash", "template_hash", "request_hash", "raw_prompt_hash", "cut", "mended", "repaired")
    return {name: record[name] for name in names if name in record}


def verdict_values(record):
    names = ("rubric_hash", "template_hash", "request_hash", "coverage", "agreement", "cut")
    found = {name: record[name] for name in names if name in record}
    found["rewards"] = str([rounded(reward) for reward in record["rewards"]])
    found["answers"] = [
        " ".join((f"{a['source'][0]}{a['index']}", *whose_rubric(a), marks(a["judgement"]), str(rounded(a["score"]))))
        for a in record["answers"]
    ]
    parts = {name: str([rounded(value) for value in part]) for name, part in record.get("parts", {}).items()}
    return found | ({"parts": parts} if set(parts) - {"rubric"} else {})


def whose_rubric(answer):
    return [f"by {answer['rubric_of']}"] if answer.get("rubric_of") is not None else []


def marks(judgement):
    return "".join({True: "1", False: "0", None: "?"}[value] for value in judgement) or "-"


def rounded(value):
    return value if value is None else round(value, 9)


def texts_of(name, seen):
    """Bodies in full, each text as a list of its lines; of a repair what is added to the request for a rubric."""

    def split(value):
        if isinstance(value, str) and "\n" in value:
            return value.split("\n")
        if isinstance(value, dict):
            return {name: split(each) for name, each in value.items()}
        return [split(each) for each in value] if isinstance(value, list) else value

    if name == "repair":
        return [split(each.messages[-2:]) for each in seen if each.messages[-2]["role"] == "assistant"]
    return [split(each.body) for each in seen]


def other_values():
    """Hashes that need no request."""
    blocks = {}
    for name, limit in BLOCK_CASES.items():
        group = GROUPS[name.removesuffix("-cut")]
        prompt = group["prompt"]
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        blocks[name] = list(hashes_of_group(messages, group["teacher"], group["rollouts"], limit))
    templates = {name: template_hashes(**settings) for name, settings in TEMPLATE_CASES.items()}
    return {"blocks": blocks, "templates": templates}


@pytest.fixture(scope="module")
def place():
    with workplace() as made:
        yield made


@pytest.fixture(scope="module")
def golden():
    return json.loads(DATA.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", GROUP_CASES)
def test_a_case_asks_what_it_asked(name, place, golden):
    found, seen = run(name, place)
    assert found == golden["cases"][name]
    if name in FULL_TEXTS:
        assert texts_of(name, seen) == golden["texts"][name]


def test_hashes_of_blocks_and_templates(golden):
    assert other_values() == golden["others"]


def test_no_case_is_left_over(golden):
    assert list(golden["cases"]) == list(GROUP_CASES) and set(golden["texts"]) == set(FULL_TEXTS)


def write():
    """Write the golden values anew."""
    cases, texts = {}, {}
    with workplace() as place:
        for name in GROUP_CASES:
            cases[name], seen = run(name, place)
            if name in FULL_TEXTS:
                texts[name] = texts_of(name, seen)
    document = {"others": other_values(), "cases": cases, "texts": texts}
    DATA.parent.mkdir(exist_ok=True)
    DATA.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python tests/unit/test_golden.py --write")
    write()
