"""Run by an interpreter that has lm-eval (and NLTK's punkt data): reads cases as JSON lines, writes its verdicts.

The files of its task are loaded by themselves, since the package imports much more.
"""

import json
import sys

import langdetect

langdetect.DetectorFactory.seed = 0

from lm_eval.tasks.ifeval import utils  # noqa: E402

for line in sys.stdin:
    case = json.loads(line)
    example = utils.InputExample(
        key=case["key"], instruction_id_list=case["instruction_id_list"], prompt=case["prompt"], kwargs=case["kwargs"]
    )
    strict = utils.test_instruction_following_strict(example, case["response"]).follow_instruction_list
    loose = utils.test_instruction_following_loose(example, case["response"]).follow_instruction_list
    print(json.dumps([strict, loose]), flush=True)
