"""A tiny random model, and the ``ropd`` command in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ropd_cli.engines.small_student import fetch_small_student
from ropd_cli.errors import RopdError
from ropd_cli.llm.cache import default_cache_dir

# "<think>" is one of them: a rollout that opens its thinking and never closes it has no answer.
# 58 words and 6 special tokens are the model's vocabulary of 64: tokens without a word would have a probability in
# the actor and none in vLLM
WORDS = [*(f"w{number}" for number in range(57)), "<think>"]
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] + ' ' + m['content'] + ' <|turn|> ' }}{% endfor %}"
    "{% if enable_thinking is defined and enable_thinking %}{{ 'w56 ' }}{% endif %}"
    "{% if add_generation_prompt %}{{ 'assistant ' }}{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A random Llama of 100,000 weights; each of its tokens is a word, so text and tokens are one."""
    torch = pytest.importorskip("torch", reason="needs the CPU stack: make env")
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny") / "model"
    special = ["<|end|>", "<|turn|>", "<|unk|>"]
    vocabulary = {word: number for number, word in enumerate([*special, "user", "assistant", "system", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unk|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|turn|>", pad_token="<|end|>", unk_token="<|unk|>"
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=256, tie_word_embeddings=True, initializer_range=0.1,
        bos_token_id=None, eos_token_id=1, pad_token_id=0, dtype="float32",
    )  # fmt: skip
    LlamaForCausalLM(config).float().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def small_model():
    """The quickstart's student, a real model of 135M weights: from ROPD_TEST_MODELS or the user's cache, else fetched
    once into it."""
    pytest.importorskip("torch", reason="needs the CPU stack: make env")
    models = os.environ.get("ROPD_TEST_MODELS") or default_cache_dir() / "models"
    try:
        return fetch_small_student(Path(models))
    except RopdError as fault:
        pytest.skip(f"the small model can't be fetched: {fault.message}")


class Shell:
    """A folder, and the ``ropd`` command in it."""

    def __init__(self, folder):
        self.folder = folder
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith(("ROPD_", "OPENAI_"))}
        self.environ["ROPD_CACHE_DIR"] = str(folder / "cache")

    def ropd(self, *arguments, code=0, timeout_s=900):
        """Run to the end with this exit code; (stdout, stderr)."""
        command = [sys.executable, "-m", "ropd_cli", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=timeout_s
        )
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout, done.stderr

    def json(self, *arguments, code=0):
        return json.loads(self.ropd(*arguments, "--json", code=code)[0])


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    return Shell(tmp_path_factory.mktemp("shell"))
