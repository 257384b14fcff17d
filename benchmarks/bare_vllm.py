"""A bare vLLM loop, in a process of its own: ``python bare_vllm.py MODEL DEVICE MAX_NUM_SEQS MAX_MODEL_LEN``.

Each line of standard input is {"prompts": [[token id, …], …], "n", "max_tokens", "seeds": [int, …]}: ``LLM.generate``
over all of them, and a line {"seconds", "tokens"} to the file descriptor 3 when it is over.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main(model: str, device: str, max_num_seqs: str, max_model_len: str) -> None:
    """Load the model and answer lines."""
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import RequestOutputKind

    options = (
        {"enforce_eager": True, "enable_chunked_prefill": False}
        if device == "cpu"
        else {"gpu_memory_utilization": 0.45}
    )
    llm = LLM(model=model, dtype="auto", max_num_seqs=int(max_num_seqs), max_model_len=int(max_model_len), **options)
    with os.fdopen(3, "w") as out:
        print("{}", file=out, flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            prompts = [{"prompt_token_ids": ids} for ids in asked["prompts"]]
            params = [
                SamplingParams(
                    n=asked["n"],
                    temperature=1.0,
                    top_p=0.95,
                    max_tokens=asked["max_tokens"],
                    seed=seed,
                    output_kind=RequestOutputKind.FINAL_ONLY,
                )
                for seed in asked["seeds"]
            ]
            began = time.perf_counter()
            done = llm.generate(prompts, params, use_tqdm=False)
            seconds = time.perf_counter() - began
            tokens = sum(len(one.token_ids) for each in done for one in each.outputs)
            print(json.dumps({"seconds": seconds, "tokens": tokens}), file=out, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
