"""Files as users bring them, by kind: what each is to be read as, or why it is refused.

A case is (name of the file, its bytes, what is wanted, what the summary says besides). Wanted is a list of (prompt,
answer), the prompt a text or a list of (role, content); or a pattern of the refusal, in which FILE stands for the name.
"""

from __future__ import annotations

import datetime
import decimal
import gzip
import io
import json
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

Q, A = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
S = {"role": "system", "content": "s"}
CHAT = [Q, A, {"role": "user", "content": "q2"}]
TURNS = [("user", "q"), ("assistant", "a"), ("user", "q2")]
SHAREGPT = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
BIG = 2**64 + 1
BOM = b"\xef\xbb\xbf"
CUT = "prompts whose last messages, replies, were cut off"


class Case(NamedTuple):
    name: str
    content: bytes
    want: Any
    says: str = ""


def jsonl(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def rows(*some: Any) -> bytes:
    return json.dumps(some).encode()


def parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def csv(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def chat(*messages: Any, column: str = "messages") -> Case:
    """A case without what is wanted."""
    return Case("a.jsonl", jsonl({column: list(messages)}), None)


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


MANY = jsonl(*({"prompt": f"What is {n * 7919} + {n**3}?", "answer": str(n)} for n in range(3000)))

TEXT = {  # how the text of a file is written
    "lines": Case("a.jsonl", jsonl({"prompt": "q", "answer": "5"}), [("q", "5")]),
    "a byte-order mark before lines": Case("a.jsonl", BOM + jsonl({"prompt": "q", "answer": "5"}), [("q", "5")]),
    "a byte-order mark before a list": Case("a.json", BOM + rows({"prompt": "q", "answer": "5"}), [("q", "5")]),
    "a byte-order mark in frames": Case("a.jsonl.zst", zstandard.compress(BOM + jsonl({"prompt": "q"})), [("q", None)]),
    "a byte-order mark before CSV": Case("a.csv", BOM + csv("prompt,answer", "q,5"), [("q", "5")]),
    "UTF-16 lines": Case("a.jsonl", '{"prompt": "q"}\n'.encode("utf-16"), r"FILE:1: .*UTF-16"),
    "UTF-16 CSV": Case("a.csv", "prompt,answer\nq,5\n".encode("utf-16"), r"FILE:1: .*UTF-8"),
    "Latin-1 lines": Case("a.jsonl", b'{"prompt": "q"}\n{"prompt": "caf\xe9"}\n', r"FILE:2: .*UTF-8"),
    "Latin-1 CSV": Case("a.csv", b"prompt\nq\ncaf\xe9\n", r"FILE:\d: not UTF-8"),
    "line ends of Windows": Case("a.jsonl", b'{"prompt": "q"}\r\n\r\n{"prompt": "r"}\r\n', [("q", None), ("r", None)]),
    "a last line without an end": Case("a.jsonl", b'{"prompt": "q"}\n{"prompt": "r"}', [("q", None), ("r", None)]),
    "a list over many lines": Case("a.json", json.dumps([{"prompt": "q"}], indent=2).encode(), [("q", None)]),
    "an object over many lines": Case("a.json", json.dumps({"prompt": "q"}, indent=2).encode(), [("q", None)]),
    "lines under .json": Case("a.json", jsonl({"prompt": "q"}, {"prompt": "r"}), [("q", None), ("r", None)]),
    "half a surrogate pair": Case("a.jsonl", rb'{"prompt": "q\ud83d"}' + b"\n", [("q\ufffd", None)]),
    "a trailing comma in a list": Case("a.json", b'[\n{"prompt": "q"},\n]\n', r"FILE:2: not valid JSON"),
    "a comma too many in a list": Case("a.json", b'[\n{"prompt": "q"},,\n{"prompt": "r"}]', r"FILE:2: not valid JSON"),
    "a trailing comma in a row": Case("a.jsonl", b'{"prompt": "q"}\n{"prompt": "r",}\n', r"FILE:2: not valid JSON"),
    "lines with commas between": Case("a.jsonl", b'{"prompt": "q"},\n{"prompt": "r"}\n', r"FILE:1: not valid JSON"),
    "Python's dicts as lines": Case("a.jsonl", b"{'prompt': 'q'}\n", r"FILE:1: not valid JSON"),
    "a comment": Case("a.jsonl", b'// made by hand\n{"prompt": "q"}\n', r"FILE:1: not valid JSON"),
    "a list under .jsonl": Case("a.jsonl", rows({"prompt": "q"}), r"FILE:1: .*list"),
    "a list over lines under .jsonl": Case("a.jsonl", json.dumps([{"prompt": "q"}], indent=2).encode(), r"FILE:1: "),
    "texts as rows": Case("a.jsonl", jsonl("q", "r"), r"FILE:1: expected a JSON object, found str"),
    "texts in a list": Case("a.json", rows({"prompt": "q"}, "r"), r"FILE:2: .*not a JSON object"),
    "rows inside an object": Case("a.json", b'{"version": 1, "data": [{"prompt": "q"}]}', r"FILE:1: .*version, data"),
    "an empty file": Case("a.jsonl", b"", r"FILE: no prompts in it"),
    "an empty list": Case("a.json", b"[]", r"FILE: no prompts in it"),
    "a header alone": Case("a.csv", csv("prompt,answer"), r"FILE: no prompts in it"),
    "other ends of lines inside a text": Case(
        "a.jsonl", '{"prompt": "a\u2028b\u0085c"}\n'.encode(), [("a\u2028b\u0085c", None)]
    ),
    "a byte-order mark inside": Case(
        "a.jsonl", jsonl({"prompt": "q"}) + BOM + jsonl({"prompt": "r"}), r"FILE:2: not valid"
    ),
    "Latin-1 list": Case("a.json", b'[{"prompt": "q"},\n{"prompt": "caf\xe9"}]', r"FILE:2: not UTF-8"),
    "an empty .json": Case("a.json", b" \n", r"FILE: no prompts in it"),
    "a text alone": Case("a.json", b'"q"', r"FILE:1: not a JSON object"),
    "lists as rows": Case("a.json", rows([{"from": "human", "value": "q"}]), r"FILE:1: not a JSON object"),
    "columns of pandas": Case("a.json", b'{"prompt":{"0":"q"},"answer":{"0":"5"}}', r"FILE:1: 'prompt' is dict"),
    "a spreadsheet": Case("a.xlsx", b"PK\x03\x04", r"FILE: not a kind of file"),
}

CUTS = {  # files that end too early, or are of another kind than their names say
    "a line cut off": Case(
        "a.jsonl", jsonl({"prompt": "q"}, {"prompt": "r"})[:-4], r"FILE:2: the last line is cut off"
    ),
    "a line that ends in a comma": Case("a.jsonl", b'{"prompt": "q"}\n{"prompt": "r",', r"FILE:2: .*cut off"),
    "a comma behind the last row": Case("a.jsonl", b'{"prompt": "q"}\n{"prompt": "r"},', r"FILE:2: not valid JSON"),
    "a list cut off": Case("a.json", b'[{"prompt": "q"},\n {"prompt": "r"', r"FILE:2: .*cut off"),
    "a list without its end": Case("a.json", b'[{"prompt": "q"},\n {"prompt": "r"}', r"FILE:2: .*cut off"),
    "half of a zst": Case("a.jsonl.zst", half(zstandard.compress(MANY)), r"FILE: frame 1 .*ends inside this frame"),
    "a zst but for its last byte": Case("a.jsonl.zst", zstandard.compress(MANY)[:-1], r"FILE: frame 1 .*ends inside"),
    "half of a gz": Case("a.jsonl.gz", half(gzip.compress(MANY)), r"FILE: .*decompress"),
    "a whole gz": Case("a.jsonl.gz", gzip.compress(MANY), r"FILE: .*decompress"),
    "half of a Parquet file": Case("a.parquet", half(parquet(prompt=["q"])), r"FILE: not a readable Parquet file"),
    "a gz under another name": Case("a.jsonl", gzip.compress(MANY), r"FILE:1: .*gzip"),
    "a zst under another name": Case("a.jsonl", zstandard.compress(MANY), r"FILE:1: .*zstandard"),
    "Parquet under another name": Case("a.jsonl", parquet(prompt=["q"]), r"FILE:1: .*Parquet"),
    "lines named Parquet": Case("a.parquet", jsonl({"prompt": "q"}), r"FILE: not a readable Parquet file"),
    "a CSV row cut off": Case("a.csv", b"prompt,answer\nq,5\nr", r"FILE:3: fewer values \(1\) than the 2 columns"),
    "a CSV text cut off": Case("a.csv", b'prompt,answer\nq,5\n"r', r"FILE:3: .*end of data"),
    "a TSV row cut off": Case("a.tsv", b"prompt\tanswer\nq\t5\nr", r"FILE:3: fewer values \(1\) than the 2 columns"),
}

NUMBERS = {  # digits, and what is no number
    "more than 64 bits": Case("a.jsonl", jsonl({"prompt": "q", "answer": BIG}), [("q", str(BIG))]),
    "more than 64 bits in a list": Case("a.json", rows({"prompt": "q", "answer": BIG}), [("q", str(BIG))]),
    "less than zero": Case("a.jsonl", jsonl({"prompt": "q", "answer": -(10**30)}), [("q", "-1" + "0" * 30)]),
    "the largest of 64 bits": Case("a.jsonl", jsonl({"prompt": "q", "answer": 2**64 - 1}), [("q", str(2**64 - 1))]),
    "verl's, more than 64 bits": Case(
        "a.jsonl", jsonl({"prompt": "q", "reward_model": {"ground_truth": BIG}}), [("q", str(BIG))]
    ),
    "another column, more than 64 bits": Case("a.jsonl", jsonl({"prompt": "q", "seed": BIG}), [("q", None)]),
    "a long decimal": Case(
        "a.jsonl", b'{"prompt": "q", "answer": 3.14159265358979323846}\n', [("q", "3.14159265358979323846")]
    ),
    "a number too large for a float": Case("a.jsonl", b'{"prompt": "q", "answer": 1e400}\n', [("q", "1e400")]),
    "a plain decimal": Case("a.jsonl", b'{"prompt": "q", "answer": 2.5}\n', [("q", "2.5")]),
    "zero": Case("a.jsonl", jsonl({"prompt": "q", "answer": 0}), [("q", "0")]),
    "leading zeros": Case("a.csv", csv("prompt,answer", "q,007"), [("q", "007")]),
    "many digits in CSV": Case("a.csv", csv("prompt,answer", f"q,{BIG}"), [("q", str(BIG))]),
    "NaN": Case(
        "a.jsonl", b'{"prompt": "q", "answer": NaN}\n{"prompt": "r", "answer": "5"}\n', [("q", None), ("r", "5")]
    ),
    "NaN in a list": Case("a.json", b'[{"prompt": "q", "answer": NaN, "x": [NaN]}]', [("q", None)]),
    "NaN as the prompt": Case("a.jsonl", b'{"prompt": "q"}\n{"prompt": NaN}\n', r"FILE:2: 'prompt' is empty"),
    "infinity": Case("a.jsonl", b'{"prompt": "q", "answer": "5", "x": -Infinity}\n', [("q", "5")]),
    "NaN inside a text": Case("a.jsonl", b'{"prompt": "Is NaN, 1?", "x": NaN}\n', [("Is NaN, 1?", None)]),
    "whole numbers with a gap in Parquet": Case(
        "a.parquet", parquet(prompt=["q", "r"], answer=[12.0, None]), [("q", "12"), ("r", None)]
    ),
    "NaN in Parquet": Case(
        "a.parquet", parquet(prompt=["q", "r"], answer=[2.5, float("nan")]), [("q", "2.5"), ("r", None)]
    ),
    "decimals in Parquet": Case("a.parquet", parquet(prompt=["q"], answer=[decimal.Decimal("3.10")]), [("q", "3.10")]),
    "uid NaN": Case("a.parquet", parquet(prompt=["q", "r"], uid=[float("nan")] * 2), [("q", None), ("r", None)]),
    "a list of one answer": Case("a.jsonl", jsonl({"prompt": "q", "answer": ["34"]}), [("q", "34")]),
    "a list of one number": Case(
        "a.parquet", parquet(prompt=["q"], reward_model=[{"ground_truth": [34]}]), [("q", "34")]
    ),
    "a list of answers": Case(
        "a.jsonl", jsonl({"prompt": "q", "answer": ["4", "four"]}), [("q", '["4","four"]')], "answers that are lists"
    ),
    "an answer of blanks": Case("a.jsonl", jsonl({"prompt": "q", "answer": "  "}), [("q", None)]),
    "a worked answer": Case("a.jsonl", jsonl({"prompt": "q", "answer": "3 + 4 = 7\n#### 7"}), [("q", "7")]),
    "headings in an answer": Case(
        "a.jsonl", jsonl({"prompt": "q", "answer": "#### Setup\nx = 7\ny = 8"}), [("q", "#### Setup\nx = 7\ny = 8")]
    ),
    "another answer than verl's": Case(
        "a.jsonl",
        jsonl({"prompt": "q", "answer": "5", "reward_model": {"ground_truth": "6"}}),
        [("q", "5")],
        "answers other than reward_model.ground_truth",
    ),
    "short floats in Parquet": Case(
        "a.parquet", parquet(prompt=["q", "r"], answer=pa.array([0.1, 12.0], pa.float32())), [("q", "0.1"), ("r", "12")]
    ),
    "a list of one answer as text": Case(
        "a.jsonl", jsonl({"prompt": [Q], "reward_model": {"ground_truth": '["72"]'}}), [("q", "72")]
    ),
    "a list in a list": Case("a.jsonl", jsonl({"prompt": "q", "answer": [["5"]]}), [("q", "5")]),
    "an interval": Case("a.jsonl", jsonl({"prompt": "q", "answer": "[72]"}), [("q", "[72]")]),
    "true": Case("a.jsonl", jsonl({"prompt": "q", "answer": True}), [("q", "True")]),
}

LONG = "x" * 140_000
PANDAS = "[{'content': 'q', 'role': 'user'}\n {'content': 'a', 'role': 'assistant'}]"
TABLES = {  # CSV and TSV
    "headers with blanks": Case("a.csv", csv(" prompt , answer", "q,5"), [("q", "5")]),
    "headers in capitals": Case("a.csv", csv("Question,Answer", "q,5"), [("q", "5")]),
    "a text of 140,000 characters": Case("a.csv", csv("prompt,answer", f"{LONG},5"), [(LONG, "5")]),
    "an unnamed first column": Case("a.csv", csv(",prompt,answer", "0,q,5"), [("q", "5")]),
    "a column twice": Case("a.csv", csv("prompt,answer,prompt", "q,5,r"), r"FILE:1: .*'prompt' twice"),
    "more values": Case("a.csv", csv("prompt,answer", "q,5", "What is 1,5 + 1?,2.5"), r"FILE:3: .*more values"),
    "fewer values": Case(
        "a.csv", csv("prompt,answer", "What is", "2 + 2?,4"), r"FILE:2: fewer values \(1\) than the 2 columns"
    ),
    "a text over two lines": Case("a.csv", csv("prompt,answer", '"What is', '2 + 2?",4'), [("What is\n2 + 2?", "4")]),
    "an empty line": Case("a.csv", csv("prompt,answer", "q,5", "", "r,6"), [("q", "5"), ("r", "6")]),
    "semicolons": Case("a.csv", csv("prompt;answer", "What is 1,5 + 1?;2,5"), [("What is 1,5 + 1?", "2,5")]),
    "tabs under .csv": Case("a.csv", csv("prompt\tanswer", "q\t5"), [("q", "5")]),
    "a stray quote in CSV": Case("a.csv", csv("prompt,answer", '"Hi" she said,5'), r"FILE:2: not readable as CSV"),
    "quotes inside a TSV text": Case("a.tsv", csv("prompt\tanswer", 'Say "hi".\t5'), [('Say "hi".', "5")]),
    "quotes first in a TSV text": Case(
        "a.tsv", csv("prompt\tanswer", '"Hi," he said, "you".\t5', "r\t6"), [('"Hi," he said, "you".', "5"), ("r", "6")]
    ),
    "one quote in a TSV": Case(
        "a.tsv",
        csv("prompt\tanswer", '"Hi\t5', "q\t6", 'r\t7"', "t\t8"),
        [('"Hi', "5"), ("q", "6"), ("r", '7"'), ("t", "8")],
    ),
    "quoted TSV": Case("a.tsv", csv('"prompt"\t"answer"', '"say ""hi"""\t"5"'), [('say "hi"', "5")]),
    "a tab in a quoted TSV text": Case("a.tsv", csv("prompt\tanswer", '"a\tb"\t5'), [("a\tb", "5")]),
    "a tab too many in TSV": Case("a.tsv", csv("prompt\tanswer", "q\t5", "a\tb\t6"), r"FILE:3: .*more values"),
    "messages as JSON": Case(
        "a.csv", csv("messages", cell(json.dumps([S, *CHAT]))), [([("system", "s"), *TURNS], None)]
    ),
    "messages as JSON over lines": Case("a.csv", csv("prompt", cell(json.dumps(CHAT, indent=1))), [(TURNS, None)]),
    "messages as Python prints them": Case("a.csv", csv("prompt", cell(str(CHAT))), [(TURNS, None)]),
    "messages as NumPy prints them": Case("a.csv", csv("prompt", cell(PANDAS)), r"FILE:\d: .*messages"),
    "messages as JSON cut off": Case("a.csv", csv("prompt", cell(json.dumps(CHAT)[:-9])), r"FILE:\d: .*messages"),
    "ShareGPT as JSON": Case("a.csv", csv("conversations", cell(json.dumps(SHAREGPT))), [("q", None)], CUT),
    "ShareGPT as Python prints it": Case("a.csv", csv("conversations", cell(str(SHAREGPT))), [("q", None)], CUT),
    "messages as JSON in lines": Case("a.jsonl", jsonl({"messages": json.dumps(CHAT)}), [(TURNS, None)]),
    "a text in brackets": Case("a.csv", csv("prompt", "[1] What is 2 + 2?"), [("[1] What is 2 + 2?", None)]),
    "reward_model as JSON": Case(
        "a.csv", csv("prompt,reward_model", "q," + cell('{"style": "rule", "ground_truth": "7"}')), [("q", "7")]
    ),
    "reward_model as Python prints it": Case(
        "a.csv", csv("prompt,reward_model", "q," + cell("{'ground_truth': '7', 'style': 'rule'}")), [("q", "7")]
    ),
    "reward_model as JSON in lines": Case(
        "a.jsonl", jsonl({"prompt": "q", "reward_model": '{"ground_truth": 7}'}), [("q", "7")]
    ),
    "reward_model that is no object": Case("a.csv", csv("prompt,reward_model", "q,{oops"), r"FILE:2: .*reward_model"),
    "all of verl's columns as text": Case(
        "a.csv",
        csv("prompt,reward_model,extra_info", ",".join(map(cell, (str([Q]), "{'ground_truth': '7'}", "{'index': 3}")))),
        [("q", "7")],
    ),
    "commas behind all columns": Case("a.csv", csv("prompt,answer,,", "q,5,,"), [("q", "5")]),
    "line ends of Windows": Case("a.csv", b'prompt,answer\r\n"a\r\nb",5\r\n', [("a\r\nb", "5")]),
    "line ends of an old Mac": Case("a.csv", b"prompt,answer\rq,5\rr,6\r", [("q", "5"), ("r", "6")]),
    "bare quotes and line ends of Windows": Case("a.tsv", b'prompt\tanswer\r\n"Hi" you\t5\r\n', [('"Hi" you', "5")]),
    "other ends of lines inside": Case("a.csv", "prompt,answer\na\u2028b\x0bc,5\n".encode(), [("a\u2028b\x0bc", "5")]),
    "quotes behind backslashes": Case("a.csv", csv("prompt,answer", r'"a \", b",5'), r"FILE:2: more values"),
    "an inch": Case("a.csv", csv("prompt,answer", 'A 5" pipe,3'), [('A 5" pipe', "3")]),
    "a line for Excel first": Case("a.csv", csv("sep=;", "prompt;answer", "q;5"), r"FILE:2: no field with a prompt"),
    "an empty line first": Case("a.csv", csv("", "prompt,answer", "q,5"), r"FILE:2: more values"),
    "no header": Case(
        "a.csv", csv("What is 2 + 2?,4", "What is 3 + 3?,6"), r"FILE:2: no field with a prompt among What"
    ),
    "a row of empty values": Case("a.csv", csv("prompt,answer", "q,5", ","), r"FILE:3: 'prompt' is empty"),
    "a row of blanks": Case("a.csv", csv("prompt,answer", "q,5", "   "), r"FILE:3: fewer values"),
    "Alpaca as CSV": Case("a.csv", csv("instruction,input,output", 'Add.,"2, 3",5'), [("Add.\n\n2, 3", None)]),
    "a backslash in Python's print": Case(
        "a.csv", csv("prompt", cell(r"[{'role': 'user', 'content': 'Find \(x\)'}]")), [(r"Find \(x\)", None)]
    ),
    "a list that is the question": Case(
        "a.jsonl", jsonl({"prompt": '[{"role": "admin"}] Is x?'}), [('[{"role": "admin"}] Is x?', None)]
    ),
    "drawings": Case(
        "a.jsonl", jsonl({"prompt": "[asy] draw((0,0)); [/asy] q"}), [("[asy] draw((0,0)); [/asy] q", None)]
    ),
    "brackets without end": Case("a.csv", csv("prompt", "[" * 5000), [("[" * 5000, None)]),
    "many digits inside JSON": Case(
        "a.csv", csv("prompt,reward_model", "q," + cell(f'{{"ground_truth": {BIG}}}')), [("q", str(BIG))]
    ),
    "many digits as Python prints them": Case(
        "a.csv", csv("prompt,extra_info", "q," + cell(f"{{'seed': {BIG}}}")), [("q", None)]
    ),
    "what JSON has no word for": Case("a.csv", csv("prompt,extra_info", "q,\"{'a': {1, 2}}\""), r"FILE:2: extra_info"),
}

COLUMNS = {  # which column is what
    "a null answer first": Case(
        "a.jsonl",
        jsonl({"prompt": "q", "answer": None, "solution": "so 5"}, {"prompt": "r", "answer": "6", "solution": "so 6"}),
        [("q", None), ("r", "6")],
        "answer",
    ),
    "an absent answer first": Case(
        "a.jsonl", jsonl({"prompt": "q"}, {"prompt": "r", "answer": "6"}), [("q", None), ("r", "6")]
    ),
    "an answer in few rows": Case(
        "a.jsonl",
        jsonl({"prompt": "q", "answer": "x", "target": "5"}, *({"prompt": f"r{n}", "target": "6"} for n in range(3))),
        [("q", "5"), *((f"r{n}", "6") for n in range(3))],
        "target",
    ),
    "a null prompt first": Case(
        "a.jsonl", jsonl({"prompt": None, "text": "t"}, {"prompt": "r"}), r"FILE:1: 'prompt' is empty"
    ),
    "an empty prompt column": Case(
        "a.jsonl", jsonl({"prompt": "", "question": "q"}, {"prompt": "", "question": "r"}), [("q", None), ("r", None)]
    ),
    "two sets in one": Case(
        "a.jsonl", jsonl({"question": "q"}, {"question": "q2"}, {"problem": "r"}), r"FILE:3: .*'question'"
    ),
    "capitals": Case("a.jsonl", jsonl({"Problem": "q", "Answer": "5"}), [("q", "5")]),
    "none that is known": Case("a.jsonl", jsonl({"text": "q", "gold": "5"}), r"FILE:1: .*text, gold"),
    "verl's alone": Case("a.jsonl", jsonl({"prompt": [Q], "reward_model": {"ground_truth": "7"}}), [("q", "7")]),
    "verl's and a worked solution": Case(
        "a.jsonl", jsonl({"prompt": [Q], "solution": "so", "reward_model": {"ground_truth": "7"}}), [("q", "7")]
    ),
    "Alpaca": Case(
        "a.json", rows({"instruction": "Add.", "input": "2, 3", "output": "5"}), [("Add.\n\n2, 3", None)], "input"
    ),
    "Alpaca without input": Case(
        "a.json", rows({"instruction": "Sing.", "input": "", "output": "la"}), [("Sing.", None)]
    ),
    "Alpaca, one instruction for all": Case(
        "a.json",
        rows(*({"instruction": "Add.", "input": each, "output": "x"} for each in ("2, 3", "4, 5"))),
        [("Add.\n\n2, 3", None), ("Add.\n\n4, 5", None)],
    ),
    "Alpaca without input at first": Case(
        "a.json",
        rows({"instruction": "Sing.", "input": ""}, {"instruction": "Add.", "input": "2, 3"}),
        [("Sing.", None), ("Add.\n\n2, 3", None)],
    ),
    "Alpaca with system and history": Case(
        "a.json",
        rows({"instruction": "q2", "input": "", "output": "x", "system": "s", "history": [["q", "a"]]}),
        [([("system", "s"), *TURNS], None)],
    ),
    "Dolly": Case(
        "a.jsonl",
        jsonl({"instruction": "Who?", "context": "Ada wrote.", "response": "Ada"}),
        [("Who?\n\nAda wrote.", None)],
    ),
    "OpenOrca": Case(
        "a.jsonl",
        jsonl({"system_prompt": "s", "question": "q", "response": "a"}),
        [([("system", "s"), ("user", "q")], None)],
    ),
    "ShareGPT with its system column": Case(
        "a.json", rows({"system": "s", "conversations": SHAREGPT}), [([("system", "s"), ("user", "q")], None)]
    ),
    "a null system first": Case(
        "a.jsonl",
        jsonl({"system": None, "prompt": "q"}, {"system": "s", "prompt": "r"}),
        [("q", None), ([("system", "s"), ("user", "r")], None)],
    ),
    "LMSYS": Case("a.jsonl", jsonl({"conversation": [Q, A], "model": "m"}), [("q", None)], CUT),
    "a number as the prompt": Case("a.jsonl", jsonl({"prompt": 5}), r"FILE:1: 'prompt' is int"),
    "true as the prompt": Case("a.jsonl", jsonl({"prompt": True}), r"FILE:1: 'prompt' is bool"),
    "an object as the prompt": Case("a.jsonl", jsonl({"prompt": {"text": "q"}}), r"FILE:1: 'prompt' is dict"),
    "a list of texts as the prompt": Case("a.jsonl", jsonl({"prompt": ["q", "a"]}), r"FILE:1: .*message 1 is str"),
    "blanks as the prompt": Case("a.jsonl", jsonl({"prompt": "q"}, {"prompt": " \n"}), r"FILE:2: 'prompt' is empty"),
    "columns of a message": Case(
        "a.jsonl", jsonl({"messages": {"role": ["user", "assistant"], "content": ["q", "a"]}}), [("q", None)], CUT
    ),
    "the same prompt twice": Case(
        "a.jsonl", jsonl({"prompt": "q", "answer": "5"}, {"prompt": "q", "answer": "6"}), [("q", "5")], "duplicate"
    ),
    "blanks in a key": Case("a.jsonl", jsonl({"Prompt ": "q", " answer": "5"}), [("q", "5")]),
    "MetaMath": Case("a.jsonl", jsonl({"query": "q", "response": "r", "type": "t"}), [("q", None)], "response, type"),
    "NuminaMath": Case(
        "a.jsonl", jsonl({"problem": "q", "solution": "so 4", "messages": [Q, A]}), [("q", "so 4")], CUT
    ),
    "preferences": Case("a.jsonl", jsonl({"prompt": "q", "chosen": [Q, A], "rejected": [Q, A]}), [("q", None)]),
    "LIMA": Case("a.jsonl", jsonl({"conversations": ["q", "a"]}), r"FILE:1: .*message 1 is str"),
    "one message": Case("a.jsonl", jsonl({"messages": Q}), r"FILE:1: 'prompt' is dict"),
    "columns of a message, unequal": Case(
        "a.jsonl", jsonl({"messages": {"role": ["user", "assistant"], "content": ["q"]}}), r"FILE:1: 'prompt' is dict"
    ),
    "Alpaca with its question in input": Case(
        "a.json", rows({"instruction": "", "input": "q"}, {"instruction": "r"}), [("q", None), ("r", None)]
    ),
    "expected_answer": Case("a.jsonl", jsonl({"problem": "q", "expected_answer": "5"}), [("q", "5")]),
    "an object as the system prompt": Case(
        "a.jsonl", jsonl({"prompt": "q", "system": {"os": "x"}}), r"FILE:1: the system prompt is dict"
    ),
    "Alpaca with a list": Case(
        "a.json", rows({"instruction": "Add.", "input": ["2", "3"]}), r"FILE:1: 'input' is list"
    ),
    "bytes as the prompt": Case("a.parquet", parquet(prompt=[b"q"]), r"FILE:1: 'prompt' is bytes"),
    "a column of pictures": Case(
        "a.parquet", parquet(prompt=["q"], picture=[{"bytes": b"\xff"}]), r"FILE:1: a value can't be"
    ),
    "a column of dates": Case("a.parquet", parquet(prompt=["q"], day=[datetime.date(2024, 1, 1)]), [("q", None)]),
}


def with_(case: Case, want: Any, says: str = "") -> Case:
    return case._replace(want=want, says=says)


def said(*turns: tuple[Any, Any]) -> Case:
    """A ShareGPT chat."""
    return Case("a.jsonl", jsonl({"conversations": [{"from": who, "value": what} for who, what in turns]}), None)


TOOL_CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLS = [Q, {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]}, {"role": "tool", "content": "4"}]
CHATS = {  # messages
    "ShareGPT": with_(
        said(("system", "s"), ("human", "q"), ("gpt", "a")), [([("system", "s"), ("user", "q")], None)], CUT
    ),
    "ShareGPT in capitals": with_(said(("Human", "q"), ("GPT", "a"), ("HUMAN", "q2")), [(TURNS, None)]),
    "roles in capitals": with_(chat(Q | {"role": "User"}, A | {"role": "ASSISTANT"}), [("q", None)], CUT),
    "a bot": with_(said(("user", "q"), ("bot", "a"), ("user", "q2")), [(TURNS, None)]),
    "a model": with_(chat(Q, A | {"role": "model"}), [("q", None)], CUT),
    "a prompter": with_(chat(Q | {"role": "prompter"}, A), [("q", None)], CUT),
    "an unknown role": with_(chat(Q | {"role": "narrator"}), r"FILE:1: .*message 1 .*'narrator'"),
    "an unknown speaker": with_(said(("human", "q"), ("alice", "a")), r"FILE:1: .*message 2 .*'alice'"),
    "a call of a tool": with_(
        said(("human", "q"), ("function_call", "{}"), ("observation", "4"), ("gpt", "a")), r"FILE:1: .*'function_call'"
    ),
    "an observation": with_(said(("human", "q"), ("observation", "4")), r"FILE:1: .*'observation'"),
    "OpenAI's calls of tools": with_(
        chat(*CALLS, A, Q),
        [([("user", "q"), ("assistant", None), ("tool", "4"), ("assistant", "a"), ("user", "q")], None)],
    ),
    "a tool's result at the end": with_(chat(*CALLS), r"FILE:1: .*last message is the tool's"),
    "a developer": with_(chat({"role": "developer", "content": "s"}, Q), [([("developer", "s"), ("user", "q")], None)]),
    "an empty question": with_(chat(S, Q | {"content": ""}), r"FILE:1: .*message 2 .*empty"),
    "a question of blanks": with_(chat(Q | {"content": " \n"}), r"FILE:1: .*message 1 .*empty"),
    "an empty turn in the middle": with_(chat(Q, A | {"content": ""}, Q), r"FILE:1: .*message 2 .*empty"),
    "an empty system message": with_(chat(S | {"content": ""}, Q), r"FILE:1: .*message 1 .*empty"),
    "a null content": with_(chat(Q | {"content": None}), r"FILE:1: .*message 1 .*content"),
    "no content": with_(chat({"role": "user"}), r"FILE:1: .*message 1 .*content"),
    "no parts": with_(chat(Q | {"content": []}), r"FILE:1: .*message 1 .*empty"),
    "parts without text": with_(chat(Q | {"content": [{"type": "text", "text": ""}]}), r"FILE:1: .*message 1 .*empty"),
    "a number as content": with_(chat(Q | {"content": 5}), r"FILE:1: .*message 1 .*int"),
    "an object as content": with_(chat(Q | {"content": {"parts": ["q"]}}), r"FILE:1: .*message 1 .*dict"),
    "no role": with_(chat({"content": "q"}), r"FILE:1: .*message 1 .*role"),
    "a null role": with_(chat({"role": None, "content": "q"}), r"FILE:1: .*message 1 .*role"),
    "a number as role": with_(chat({"role": 1, "content": "q"}), r"FILE:1: .*message 1 .*role"),
    "role and value": with_(chat({"role": "user", "value": "q"}), r"FILE:1: .*message 1 .*content"),
    "lists as messages": with_(chat(["user", "q"]), r"FILE:1: .*message 1 is list"),
    "no messages": with_(chat(), r"FILE:1: 'prompt' is empty"),
    "a system message alone": with_(chat(S), r"FILE:1: .*last message is the system's"),
    "a system message at the end": with_(chat(Q, S), r"FILE:1: .*last message is the system's"),
    "a system message and a reply": with_(chat(S, A), r"FILE:1: .*last message is the system's"),
    "a reply alone": with_(chat(A), r"FILE:1: .*no question"),
    "a reply at the end": with_(chat(Q, A), [("q", None)], CUT),
    "a reply at the end of prompt": with_(chat(Q, A, column="prompt"), [("q", None)], CUT),
    "two replies at the end": with_(chat(*CHAT, A, A), [(TURNS, None)], CUT),
    "an empty reply at the end": with_(chat(Q, A | {"content": ""}), [("q", None)], CUT),
    "a greeting first": with_(chat(A, Q), [([("assistant", "a"), ("user", "q")], None)]),
    "an image": with_(
        chat(Q | {"content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}),
        [([("user", [{"type": "image_url", "image_url": {"url": "data:,"}}])], None)],
    ),
    "nulls of Parquet's columns": Case(
        "a.parquet",
        parquet(messages=[[Q, A | {"name": "n"}], [S, Q]]),
        [("q", None), ([("system", "s"), ("user", "q")], None)],
        CUT,
    ),
    "ShareGPT in Parquet": Case("a.parquet", parquet(conversations=[SHAREGPT]), [("q", None)], CUT),
    "an empty question in Parquet": Case(
        "a.parquet", parquet(messages=[[Q], [Q | {"content": None}]]), r"FILE:2: .*message 1 "
    ),
    "blanks around a role": with_(chat(Q | {"role": " User "}), [("q", None)]),
    "Gemini's parts": with_(chat({"role": "user", "parts": [{"text": "q"}]}), r"FILE:1: .*message 1 has no content"),
    "a time in a message": Case(
        "a.parquet", parquet(conversation=[[Q | {"timestamp": datetime.datetime(2024, 1, 1)}]]), r"FILE:1: .*datetime"
    ),
    "a map as message": Case(
        "a.parquet",
        parquet(messages=pa.array([[[("role", "user")]]], pa.list_(pa.map_(pa.string(), pa.string())))),
        r"FILE:1: .*message 1 is list",
    ),
}

PREPARED = TEXT | CUTS | NUMBERS | TABLES | COLUMNS | CHATS
"""Files for ``ropd data prepare``."""

PROMPTS = {  # prompts files, which teacher-gen, rollout and train read
    "lines": Case("p.jsonl", jsonl({"prompt": "q", "answer": "5"}), [("q", "5")]),
    "a byte-order mark": Case("p.jsonl", BOM + jsonl({"prompt": "q"}), [("q", None)]),
    "NaN": Case("p.jsonl", b'{"prompt": "q", "answer": NaN}\n', [("q", None)]),
    "more than 64 bits": Case("p.jsonl", jsonl({"prompt": "q", "answer": BIG}), [("q", str(BIG))]),
    "verl's, more than 64 bits": Case(
        "p.jsonl", jsonl({"prompt": "q", "reward_model": {"ground_truth": BIG}}), [("q", str(BIG))]
    ),
    "a list of one answer": Case("p.jsonl", jsonl({"prompt": "q", "answer": ["34"]}), [("q", "34")]),
    "a list of answers": Case("p.jsonl", jsonl({"prompt": "q", "answer": ["4", "four"]}), [("q", '["4","four"]')]),
    "NaN in Parquet": Case("p.parquet", parquet(prompt=["q"], answer=[float("nan")]), [("q", None)]),
    "whole numbers with a gap in Parquet": Case(
        "p.parquet", parquet(prompt=["q", "r"], answer=[12.0, None]), [("q", "12"), ("r", None)]
    ),
    "reward_model as text": Case(
        "p.jsonl", jsonl({"prompt": "q", "reward_model": '{"ground_truth": "7"}'}), [("q", "7")]
    ),
    "verl's": Case(
        "p.jsonl",
        jsonl({"prompt": [S, Q], "reward_model": {"ground_truth": "7"}}),
        [([("system", "s"), ("user", "q")], "7")],
    ),
    "a number": Case("p.jsonl", jsonl({"prompt": 5}), r"FILE:1: 'prompt' is int"),
    "true": Case("p.jsonl", jsonl({"prompt": True}), r"FILE:1: 'prompt' is bool"),
    "an object": Case("p.jsonl", jsonl({"prompt": {"a": 1}}), r"FILE:1: 'prompt' is dict"),
    "null": Case("p.jsonl", jsonl({"prompt": "q"}, {"prompt": None}), r"FILE:2: 'prompt' is empty"),
    "blanks": Case("p.jsonl", jsonl({"prompt": "  "}), r"FILE:1: 'prompt' is empty"),
    "no prompt": Case("p.jsonl", jsonl({"question": "q"}), r"FILE:1: no field 'prompt'"),
    "a list of texts": Case("p.jsonl", jsonl({"prompt": ["q"]}), r"FILE:1: .*message 1 is str"),
    "ShareGPT": Case("p.jsonl", jsonl({"prompt": SHAREGPT}), r"FILE:1: .*message 1 .*role"),
    "messages as text": Case("p.jsonl", jsonl({"prompt": json.dumps([Q])}), r"FILE:1: .*messages"),
    "messages as Python prints them": Case("p.jsonl", jsonl({"prompt": str([Q])}), r"FILE:1: .*messages"),
    "roles in capitals": Case("p.jsonl", jsonl({"prompt": [Q | {"role": "User"}]}), r"FILE:1: .*'User'"),
    "an empty question": Case("p.jsonl", jsonl({"prompt": [Q | {"content": ""}]}), r"FILE:1: .*message 1 .*empty"),
    "a null content": Case("p.jsonl", jsonl({"prompt": [Q | {"content": None}]}), r"FILE:1: .*message 1 .*content"),
    "a reply at the end": Case("p.jsonl", jsonl({"prompt": [Q, A]}), r"FILE:1: .*last message is the assistant's"),
    "a system message alone": Case("p.jsonl", jsonl({"prompt": [S]}), r"FILE:1: .*last message is the system's"),
    "a line cut off": Case(
        "p.jsonl", jsonl({"prompt": "q"}, {"prompt": "r"})[:-5], r"FILE:2: the last line is cut off"
    ),
    "CSV": Case("p.csv", csv("prompt,answer", "q,5"), r"FILE:1: .*JSON"),
    "a list": Case("p.json", rows({"prompt": "q"}), r"FILE:1: .*list"),
    "a uid twice": Case("p.jsonl", jsonl({"uid": 1, "prompt": "q"}, {"uid": "1", "prompt": "r"}), r"FILE:2: uid '1'"),
    "the same prompt twice": Case("p.jsonl", jsonl({"prompt": "q"}, {"prompt": "q"}), r"FILE:2: uid "),
    "an empty answer and verl's": Case(
        "p.jsonl", jsonl({"prompt": "q", "answer": "", "reward_model": {"ground_truth": "7"}}), [("q", "7")]
    ),
    "an empty reward_model": Case("p.jsonl", jsonl({"prompt": "q", "reward_model": ""}), [("q", None)]),
    "a time in a message": Case(
        "p.parquet", parquet(uid=["u"], prompt=[[Q | {"at": datetime.date(2024, 1, 1)}]]), r"FILE:1: .*date"
    ),
    "an empty uid": Case("p.jsonl", jsonl({"uid": "", "prompt": "q"}), [("q", None)]),
    "an object as uid": Case("p.jsonl", jsonl({"uid": {"$oid": "1"}, "prompt": "q"}), [("q", None)]),
}

HASH = "0" * 64
ROW = {"schema_version": "ropd.teacher_index.v2", "uid": "u", "raw_prompt_hash": HASH, "teacher_answers": ["x"]}
INDEX = {  # files for ropd index import; wanted is what the command says
    "lines": Case("i.jsonl", jsonl(ROW), ["1 answer to 1 new prompt"]),
    "a byte-order mark": Case("i.jsonl", BOM + jsonl(ROW), ["1 answer to 1 new prompt"]),
    "NaN in a fingerprint": Case(
        "i.jsonl", jsonl(ROW | {"teacher_fingerprint": {"top_p": float("nan")}}), ["1 answer to 1 new prompt"]
    ),
    "an empty answer": Case(
        "i.jsonl", jsonl(ROW | {"teacher_answers": ["x", " "]}), ["1 answer to 1 new", "1 left out"]
    ),
    "thoughts alone": Case("i.jsonl", jsonl(ROW | {"teacher_answers": ["<think>x"]}), ["0 answers to", "1 left out"]),
    "no answers": Case("i.jsonl", jsonl(ROW | {"teacher_answers": []}), ["0 answers to 1 new prompt "]),
    "a null answer": Case("i.jsonl", jsonl(ROW | {"teacher_answers": [None]}), r"FILE:1: teacher_answers"),
    "an answer as a number": Case("i.jsonl", jsonl(ROW | {"teacher_answers": [5]}), r"FILE:1: teacher_answers"),
    "a text for the list": Case("i.jsonl", jsonl(ROW | {"teacher_answers": "x"}), r"FILE:1: teacher_answers"),
    "a line cut off": Case("i.jsonl", jsonl(ROW, ROW | {"uid": "v"})[:-7], r"FILE:2: the last line is cut off"),
    "half of a zst": Case("i.jsonl.zst", half(zstandard.compress(jsonl(ROW) * 99)), r"FILE: frame 1 "),
    "CSV": Case("i.csv", csv("uid,teacher_answer", "u,x"), r"FILE: no column of prompts"),
    "a list": Case("i.json", rows(ROW), r"FILE:1: .*list"),
}

EVAL = {  # files for ropd eval --data NAME=FILE
    "lines": Case("e.jsonl", jsonl({"problem": "q", "answer": "5"}), [("q", "5")]),
    "a byte-order mark": Case("e.jsonl", BOM + jsonl({"problem": "q", "answer": "5"}), [("q", "5")]),
    "more than 64 bits": Case("e.jsonl", jsonl({"problem": "q", "answer": BIG}), [("q", str(BIG))]),
    "NaN": Case(
        "e.jsonl", b'{"problem": "q", "answer": NaN}\n{"problem": "r", "answer": 5}\n', [("q", None), ("r", "5")]
    ),
    "whole numbers with a gap in Parquet": Case(
        "e.parquet", parquet(problem=["q", "r"], answer=[12.0, float("nan")]), [("q", "12"), ("r", None)]
    ),
    "a list of one answer": Case("e.jsonl", jsonl({"problem": "q", "answer": ["34"]}), [("q", "34")]),
    "a null answer first": Case(
        "e.jsonl", jsonl({"problem": "q", "answer": None}, {"problem": "r", "answer": "6"}), [("q", None), ("r", "6")]
    ),
    "messages as text": Case(
        "e.csv", csv("prompt,answer", cell(json.dumps([S, Q])) + ",5"), [([("system", "s"), ("user", "q")], "5")]
    ),
    "ShareGPT": Case("e.jsonl", jsonl({"prompt": SHAREGPT[:1], "answer": "5"}), [([("user", "q")], "5")]),
    "roles in capitals": Case("e.jsonl", jsonl({"prompt": [Q | {"role": "User"}]}), [([("user", "q")], None)]),
    "an unknown role": Case("e.jsonl", jsonl({"prompt": [Q | {"role": "narrator"}]}), r"FILE:1: .*'narrator'"),
    "a reply at the end": Case("e.jsonl", jsonl({"prompt": [Q, A]}), r"FILE:1: .*last message is the assistant's"),
    "a system message alone": Case("e.jsonl", jsonl({"prompt": [S]}), r"FILE:1: .*last message is the system's"),
    "an empty question": Case("e.jsonl", jsonl({"prompt": [Q | {"content": ""}]}), r"FILE:1: .*message 1 .*empty"),
    "a number as the question": Case("e.jsonl", jsonl({"problem": 5}), r"FILE:1: .*int"),
    "no question": Case("e.jsonl", jsonl({"problem": "q"}, {"text": "r"}), r"FILE:2: no question"),
    "verl's": Case("e.jsonl", jsonl({"prompt": [Q], "reward_model": {"ground_truth": "7"}}), [([("user", "q")], "7")]),
    "reward_model as text": Case(
        "e.csv", csv("prompt,reward_model", "q," + cell("{'ground_truth': '7'}")), [("q", "7")]
    ),
    "a worked answer": Case("e.jsonl", jsonl({"question": "q", "answer": "so\n#### 7"}), [("q", "7")]),
    "a CSV text of 140,000 characters": Case("e.csv", csv("problem,answer", f"{LONG},5"), [(LONG, "5")]),
    "a CSV row cut off": Case("e.csv", b"problem,answer\nq,5\nr", r"FILE:3: "),
    "half of a zst": Case("e.jsonl.zst", half(zstandard.compress(MANY)), r"FILE: frame 1 "),
    "a gz": Case("e.jsonl.gz", gzip.compress(MANY), r"FILE: .*decompress"),
}

BENCHMARKS = {  # the same, of which the command has to tell what grades them
    "a null answer first": Case(
        "e.jsonl",
        jsonl({"problem": "q", "answer": None}, {"problem": "r", "answer": "6"}),
        r"FILE: .*question 1: no answer",
    ),
    "choices in one row": Case(
        "e.jsonl",
        jsonl({"problem": "q", "answer": "5", "choices": ["5"]}, *({"problem": f"r{n}"} for n in range(2))),
        r"FILE: .*question 2: no answer",
    ),
    "an id twice": Case(
        "e.jsonl",
        jsonl(*({"id": "a", "problem": q, "answer": "5"} for q in "qr")),
        r"FILE: .*two questions have the id a",
    ),
    "no answers": Case("e.jsonl", jsonl({"problem": "q"}), r"FILE: benchmark mine: its questions have no answer"),
}

JUDGED = {  # files for ropd inspect-rubrics
    "CSV": Case("r.csv", csv("uid,rubric", "u,x"), r"FILE:1: .*JSON"),
    "a list": Case("r.json", rows({"uid": "u", "rubric": {}}), r"FILE:1: .*list"),
    "no rubric": Case("r.jsonl", jsonl({"uid": "u"}), r"FILE:1: neither a rubric nor verdicts"),
    "an empty file": Case("r.jsonl", b"", r"FILE: no groups"),
    "a line of another program cut off": Case("r.jsonl", b'{"uid": "u"}\n{"uid": "v', r"FILE:2: .*cut off"),
    "a gz": Case("r.jsonl", gzip.compress(MANY), r"FILE:1: .*gzip"),
}
