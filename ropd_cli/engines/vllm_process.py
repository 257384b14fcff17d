"""``python -m ropd_cli.engines.vllm_process ENGINE FD``: the process that holds vLLM.

ENGINE is the engine's options as JSON. Reads one request a line from standard input, writes one JSON line an
answer to the file descriptor FD, as soon as it is finished; ends when standard input has ended and nothing is left
to do.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import traceback
from typing import Any, BinaryIO

import orjson

from ropd_cli.answers.thinking import with_opening


def main(engine: str, fd: str) -> int:
    """Exit code of the process."""
    options = orjson.loads(engine)
    requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, requests), daemon=True).start()
    with os.fdopen(int(fd), "wb", buffering=0) as out:
        try:
            import vllm  # noqa: F401
        except ImportError as fault:
            hint = "on a GPU machine: pip install 'ropd-cli[gpu]'; on a CPU: make env (docs/install.md)"
            _fail(out, None, "MissingPackage", f"sampling from a checkpoint needs vLLM ({fault})", hint)
            return 2
        try:
            model = load(options)
        except (
            OSError,
            ValueError,
            RuntimeError,
        ) as fault:  # not there, not a model, too large: vLLM and the hub say what
            said = " ".join(str(fault).split())[:300]
            _fail(
                out,
                None,
                "InputError",
                f"{options['model_path']}: vLLM can't load it ({said})",
                "check the path or hub name",
            )
            raise
        try:
            serve(model, options, requests, out)
        except Exception:
            traceback.print_exc()  # into the log before ``out`` is closed, at which the parent reads the log
            return 1
    return 0


def load(engine: dict[str, Any]) -> Any:
    """The model in vLLM."""
    from vllm import LLM

    options: dict[str, Any] = {
        "model": engine["model_path"],
        "dtype": engine["dtype"],
        "max_num_seqs": engine["max_num_seqs"],
    }
    if engine["max_model_len"]:
        options["max_model_len"] = engine["max_model_len"]
    if engine["device"] == "cpu":
        options["enforce_eager"] = True
        options["enable_chunked_prefill"] = False  # after a part of a prompt the CPU's seeded generators fail
    else:
        options["gpu_memory_utilization"] = engine["gpu_memory_utilization"]
        options["tensor_parallel_size"] = engine["tensor_parallel_size"]
    return LLM(**options)


def serve(llm: Any, engine: dict[str, Any], requests: queue.SimpleQueue[bytes | None], out: BinaryIO) -> None:
    """Sample what comes, with as many prompts in the engine as it holds."""
    template = {} if engine["enable_thinking"] is None else {"enable_thinking": engine["enable_thinking"]}
    core, listening = llm.llm_engine, True
    while listening or core.has_unfinished_requests():
        while listening and (not requests.empty() or not core.has_unfinished_requests()):
            line = requests.get()  # waits only where there is nothing to compute
            if line is None:
                listening = False
                break
            request = orjson.loads(line)
            try:
                _add(llm, request, template)
            except Exception as fault:  # vLLM's complaints about one prompt are of many kinds
                _fail(
                    out,
                    request["number"],
                    "PromptRefused",
                    f"vLLM does not take the prompt: {fault}",
                    "shorten or leave it out",
                )
        for done in core.step() if core.has_unfinished_requests() else ():
            if done.finished:
                number, index = map(int, done.request_id.split("."))
                answer = _answer(done, llm.get_tokenizer())
                _say(out, {"number": number, "index": index, "answer": answer})


def _add(llm: Any, request: dict[str, Any], template: dict[str, Any]) -> None:
    """Hand over a request."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    ids = llm.get_tokenizer().apply_chat_template(
        request["messages"], tokenize=True, add_generation_prompt=True, return_dict=False, **template
    )
    names = ("temperature", "top_p", "max_tokens")
    same = {name: request[name] for name in names} | {"output_kind": RequestOutputKind.FINAL_ONLY}
    for index in request["indices"]:  # what vLLM makes of n, but each is handed over when it is finished itself
        seed = None if request["seed"] is None else request["seed"] + index
        prompt = {"prompt_token_ids": list(ids)}
        llm.llm_engine.add_request(f"{request['number']}.{index}", prompt, SamplingParams(seed=seed, **same))


def _listen(source: BinaryIO, requests: queue.SimpleQueue[bytes | None]) -> None:
    for line in source:
        requests.put(line)
    requests.put(None)


def _answer(done: Any, tokenizer: Any) -> dict[str, Any]:
    one = done.outputs[0]
    return {
        "text": with_opening(one.text, done.prompt_token_ids, tokenizer),
        "finish_reason": one.finish_reason or "stop",
        "prompt_tokens": len(done.prompt_token_ids),
        "completion_tokens": len(one.token_ids),
    }


def _fail(out: BinaryIO, number: int | None, kind: str, message: str, hint: str) -> None:
    _say(out, {"number": number, "error": {"kind": kind, "message": message, "hint": hint}})


def _say(out: BinaryIO, record: dict[str, Any]) -> None:
    out.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
