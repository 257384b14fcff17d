"""Train on the teacher's answers themselves: ``python -m ropd_cli.training.verl.supervised RUN_DIR PARENT``.

Supervised fine-tuning by verl's own SFT trainer, without Ray and vLLM: the loss of a step is the mean negative
log-probability of its answers' tokens. With several devices the process becomes ``torchrun``, which starts one process
of this module for each.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch.utils.data import Dataset
from verl.trainer.sft_trainer import SFTTrainer
from verl.utils import tensordict_utils
from verl.utils.checkpoint import CheckpointHandler
from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

from ropd_cli.config import RopdConfig
from ropd_cli.index import TeacherIndex
from ropd_cli.methods.sft import answers_per_prompt
from ropd_cli.records.schemas import load_prompts, with_system
from ropd_cli.training.dataset import check_lengths, load_checked_prompts
from ropd_cli.training.heartbeat import Heartbeat, Phase
from ropd_cli.training.run_dir import RunDir
from ropd_cli.training.verl.program import main
from ropd_cli.training.verl.saved_model import finish_folder
from ropd_cli.util.yaml_text import load_yaml

ALONE = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
"""What torchrun would set in the environment of a lone process; the port is any that is free."""


class TeacherAnswers(Dataset):
    """The rows of a whole run in the order in which they are trained on.

    A row is a prompt, in the tokens that verl's agent loop makes of it for a rollout, and one of the teacher's answers
    with the end of the turn. An epoch holds ``k = min(rollout.n, judge.m)`` answers of each prompt, drawn as for the
    other methods (``index.selection``, ``judge.rotate_answers``), in an order that ``seed`` and the epoch decide. The
    arguments are those that verl gives to a ``data.custom_cls``; ``parquet_files`` lies in the run directory,
    ``max_samples`` is the count of rows.
    """

    def __init__(
        self, parquet_files: str, tokenizer: Any, config: Any, processor: Any = None, max_samples: int = -1
    ) -> None:
        from transformers import AutoConfig

        run = RunDir(Path(parquet_files).parent)
        self._config = RopdConfig.model_validate(load_yaml(run.config.read_text(encoding="utf-8")))
        self._prompts = load_checked_prompts(self._config, run.skipped_before(1)).prompts
        self._index = TeacherIndex.open(Path(str(self._config.data.index)))
        self._k = answers_per_prompt(self._config)
        self._rows = max_samples
        self._tokenizer = tokenizer
        self._builder = create_continuous_token_builder(
            tokenizer,
            hf_model_type=AutoConfig.from_pretrained(self._config.student.model_path).model_type,
            chat_template_kwargs=config.apply_chat_template_kwargs,
            processor=processor,
        )

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        """One row: ``input_ids``, ``position_ids`` and ``loss_mask`` (1 on each token of the answer), each of shape
        (prompt + answer,)."""
        seed, per_epoch = self._config.seed, len(self._prompts) * self._k
        epoch, place = divmod(row, per_epoch)
        if self._config.data.shuffle:
            place = epoch_order(per_epoch, seed, epoch)[place]
        prompt, which = self._prompts[place // self._k], place % self._k
        turn = epoch if self._config.judge.rotate_answers else 0
        text = self._index.answers(prompt.uid, prompt.raw_prompt_hash, self._k, seed=seed, epoch=turn)[which]
        messages = with_system(prompt.messages, self._config.student.system_prompt)
        prompt_ids = self._builder.build_initial_tokens([m.model_dump(mode="json") for m in messages])
        answer_ids = [*self._tokenizer(text, add_special_tokens=False).input_ids, self._tokenizer.eos_token_id]
        answer_ids = answer_ids[: self._config.data.max_response_tokens]  # as a rollout is cut: without its end
        ids = [*prompt_ids, *answer_ids]
        return {
            "input_ids": torch.tensor(ids),
            "position_ids": torch.arange(len(ids)),
            "loss_mask": torch.tensor([0] * len(prompt_ids) + [1] * len(answer_ids)),
        }


@lru_cache(maxsize=2)
def epoch_order(rows: int, seed: int, epoch: int) -> list[int]:
    """Return the order of the rows of an epoch, shape (rows,)."""
    order = list(range(rows))
    random.Random(f"{seed} {epoch}").shuffle(order)
    return order


class FinishedCheckpoints(CheckpointHandler):
    """verl's checkpoints, whose model folder is made one that loads everywhere. The state of the data loader is the
    same in all processes, and is kept once."""

    def __init__(self, finish: Callable[[Path], None], **settings: Any) -> None:
        super().__init__(**settings)
        self._finish = finish
        self.is_mp_src_rank_with_outputs, self.dp_rank = self.rank == 0, 0  # who writes it, and whose all read

    def save_checkpoint(self, step: int) -> None:
        super().save_checkpoint(step)
        if self.rank == 0:
            self._finish(Path(self.default_local_dir) / f"global_step_{step}" / "huggingface")


class SupervisedTrainer(SFTTrainer):
    """verl's, with the dataset's own order of the rows, signs of life, and the figures of a step."""

    def _build_dataloader(self) -> None:
        super()._build_dataloader()
        self.train_sampler.shuffle = False  # it would shuffle the same way for every seed

    def _build_ckpt_handler(self) -> None:
        model, trainer = self.config.model, self.config.trainer
        self.ckpt_handler = FinishedCheckpoints(
            partial(finish_folder, dtype=self.config.ropd.dtype, rank=model.lora_rank, alpha=model.lora_alpha),
            engine=self.engine,
            train_dataloader=self.train_dataloader,
            default_local_dir=trainer.default_local_dir,
            default_hdfs_dir=trainer.default_hdfs_dir,
            max_ckpt_to_keep=trainer.max_ckpt_to_keep,
            resume_mode=trainer.resume_mode,
            resume_from_path=trainer.resume_from_path,
            lora_train_meta=self._get_lora_train_meta(),
        )

    def _build_engine(self) -> None:
        super()._build_engine()
        self._heartbeat = Heartbeat(RunDir(Path(self.config.ropd.run_dir)).heartbeat)
        self._train_batch = self.training_client.train_batch
        self.training_client.train_batch = self._step

    def _step(self, data: Any) -> Any:
        """One optimizer step, with its figures among verl's."""
        began = time.monotonic()
        if self.rank == 0:
            self._heartbeat.enter(Phase.UPDATE)
        ids, mask = data["input_ids"], data["loss_mask"]
        ended = ids.values()[ids.offsets()[1:] - 1] == self.model_config.tokenizer.eos_token_id
        counts = torch.stack([torch.tensor(len(ended)), mask.values().sum(), (~ended).sum()]).to(self.device_name)
        torch.distributed.all_reduce(counts, group=self.engine.get_data_parallel_group())
        output = self._train_batch(data=data)
        if self.engine.is_mp_src_rank_with_outputs():
            answers, tokens, cut = counts.tolist()
            tensordict_utils.get(output, "metrics").update(
                {
                    "answers/trained": answers,
                    "answers/tokens_mean": tokens / answers,
                    "answers/too_long": cut,
                    "timing_s/step": time.monotonic() - began,
                }
            )
        return output


def start(run: RunDir) -> None:
    """Train to the last step, in this process or, with several devices, in those that torchrun starts for them."""
    from omegaconf import OmegaConf

    ours = RopdConfig.model_validate(load_yaml(run.config.read_text(encoding="utf-8")))
    check_lengths(load_prompts(str(ours.data.prompts)), ours)
    devices = OmegaConf.load(run.verl_config).trainer.n_gpus_per_node
    if devices > 1:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={devices}"]
        one = ["-m", "ropd_cli.training.verl.supervised", str(run.path), str(os.getpid()), "one-of-them"]
        os.execv(sys.executable, [*torchrun, *one])
    os.environ.update(ALONE)
    train(run)


def train(run: RunDir) -> None:
    """Train to the last step, as one of the processes that torchrun has started."""
    from omegaconf import OmegaConf
    from verl.utils.distributed import destroy_global_process_group, initialize_global_process_group

    config = OmegaConf.load(run.verl_config)
    if config.trainer.device == "cpu":
        from ropd_cli.training.verl.cpu.platform import require_cpu_platform

        require_cpu_platform()
    torch.manual_seed(config.ropd.seed)  # an adapter's first weights
    initialize_global_process_group()
    SupervisedTrainer(config).fit()
    destroy_global_process_group()


if __name__ == "__main__":
    directory, parent, *others = sys.argv[1:]
    sys.exit(main(train if others else start, directory, parent))
