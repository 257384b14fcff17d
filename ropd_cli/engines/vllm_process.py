"""``python -m ropd_cli.engines.vllm_process FD``: the process that holds vLLM.

FD is its end of a pipe. The first that comes through it are the engine's options, then requests (number, messages,
sampling, indices). Each answer is sent as (number, index, answer) as soon as it is finished, an error in its place
where there is none; without a number it is the end of all. Ends when the pipe is closed and nothing is left to do.
"""

from __future__ import annotations

import queue
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from ropd_cli.answers.thinking import Tags, sampled
from ropd_cli.engines.vllm_sampling import EngineOptions, SamplingOptions
from ropd_cli.errors import INSTALL_STACK, InputError, MissingPackage, PromptRefused
from ropd_cli.records.schemas import Answer, Message, Usage

Request = tuple[int, tuple[Message, ...], SamplingOptions, list[int]]


def main(fd: str) -> int:
    """Exit code of the process."""
    pipe = Connection(int(fd))
    engine: EngineOptions = pipe.recv()
    requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, requests), daemon=True).start()
    try:
        import vllm  # noqa: F401
    except ImportError as fault:
        pipe.send((None, 0, MissingPackage(f"sampling from a checkpoint needs vLLM ({fault})", INSTALL_STACK)))
        return 2
    try:
        model = load(engine)
    except (OSError, ValueError, RuntimeError) as fault:  # no model, or too large: vLLM and the hub say what
        said = " ".join(str(fault).split())[:300]
        message = f"{engine.model_path}: vLLM can't load it ({said})"
        pipe.send((None, 0, InputError(message, "check the path or hub name")))
        raise
    serve(model, engine, requests, pipe)
    return 0


def load(engine: EngineOptions) -> Any:
    """The model in vLLM."""
    from vllm import LLM

    options: dict[str, Any] = {
        "model": engine.model_path,
        "dtype": engine.dtype,
        "max_num_seqs": engine.max_num_seqs,
    }
    if engine.max_model_len:
        options["max_model_len"] = engine.max_model_len
    if engine.device == "cpu":
        options["enforce_eager"] = True
        options["enable_chunked_prefill"] = False  # after a part of a prompt the CPU's seeded generators fail
    else:
        options["gpu_memory_utilization"] = engine.gpu_memory_utilization
        options["tensor_parallel_size"] = engine.tensor_parallel_size
    return LLM(**options)


def serve(llm: Any, engine: EngineOptions, requests: queue.SimpleQueue[Request | None], pipe: Connection) -> None:
    """Sample what comes, with as many prompts in the engine as it holds."""
    template = {} if engine.enable_thinking is None else {"enable_thinking": engine.enable_thinking}
    core, listening = llm.llm_engine, True
    while listening or core.has_unfinished_requests():
        while listening and (not requests.empty() or not core.has_unfinished_requests()):
            request = requests.get()  # waits only where there is nothing to compute
            if request is None:
                listening = False
                break
            try:
                _add(llm, request, template)
            except Exception as fault:  # vLLM's complaints about one prompt are of many kinds
                refused = PromptRefused(f"vLLM does not take the prompt: {fault}", "shorten or leave it out")
                pipe.send((request[0], 0, refused))
        for done in core.step() if core.has_unfinished_requests() else ():
            if done.finished:
                number, index = map(int, done.request_id.split("."))
                pipe.send((number, index, _answer(done, llm.get_tokenizer(), engine.thinking_tags)))


def _add(llm: Any, request: Request, template: dict[str, Any]) -> None:
    """Hand over a request."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    number, messages, sampling, indices = request
    ids = llm.get_tokenizer().apply_chat_template(
        [message.model_dump(mode="json") for message in messages],
        tokenize=True,
        add_generation_prompt=True,
        return_dict=False,
        **template,
    )
    for index in indices:  # what vLLM makes of n, but each is handed over when it is finished itself
        parameters = SamplingParams(
            seed=None if sampling.seed is None else sampling.seed + index,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        llm.llm_engine.add_request(f"{number}.{index}", {"prompt_token_ids": list(ids)}, parameters)


def _listen(pipe: Connection, requests: queue.SimpleQueue[Request | None]) -> None:
    try:
        while True:
            requests.put(pipe.recv())
    except (EOFError, ConnectionError):
        requests.put(None)


def _answer(done: Any, tokenizer: Any, tags: Tags | None) -> Answer:
    one = done.outputs[0]
    return Answer(
        text=sampled(one.text, one.token_ids, done.prompt_token_ids, tokenizer, tags),
        finish_reason=one.finish_reason or "stop",
        usage=Usage(prompt_tokens=len(done.prompt_token_ids), completion_tokens=len(one.token_ids)),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
