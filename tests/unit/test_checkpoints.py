"""Which checkpoint a resumed run goes on from, what is pruned, and that nothing is deleted that a run has made."""

import json

import pytest

from ropd_cli.errors import InputError
from ropd_cli.records.files import write_records
from ropd_cli.training.run_dir import RunDir


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path)


def save(run, step, *, ranks=1, without=(), marker=True):
    """A checkpoint as verl leaves it, but for files whose names hold a word of ``without``."""
    folder = run.saved.folder(step)
    names = [
        f"actor/{kind}_world_size_{ranks}_rank_{rank}.pt"
        for kind in ("model", "optim", "extra_state")
        for rank in range(ranks)
    ]
    for name in (*names, "actor/huggingface/config.json", "data.pt"):
        if not any(word in name for word in without):
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("{}")
    if marker:
        run.saved.marker.write_text(str(step))


def save_of_sft(run, step, *, without=()):
    """As ``save``, in the layout of verl's SFT trainer."""
    save(run, step, ranks=2, without=["data.pt"], marker=False)
    folder = run.saved.folder(step)
    for file in (folder / "actor").iterdir():
        file.rename(folder / file.name)
    (folder / "actor").rmdir()
    (folder / "data_0.pt").write_text("{}")
    for name in without:
        (folder / name).unlink()


DAMAGE = {
    "the marker is empty": lambda run: run.saved.marker.write_text(""),
    "the marker is gone": lambda run: run.saved.marker.unlink(),
    "the marker is no number": lambda run: run.saved.marker.write_text("20\n30"),
    "the marker names none": lambda run: run.saved.marker.write_text("99"),
    "the newest is an empty folder": lambda run: run.saved.folder(30).mkdir(),
    "the newest was cut short": lambda run: save(run, 30, without=["data.pt"], marker=False),
    "the newest lacks a shard": lambda run: save(run, 30, ranks=2, without=["optim_world_size_2_rank_1"]),
    "the newest lacks its model": lambda run: save(run, 30, without=["config.json"]),
    "the newest has lost its actor": lambda run: save(run, 30, without=["actor"]),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_run_goes_on_from_the_newest_whole_checkpoint(run, damage):
    save(run, 10)
    save(run, 20, ranks=2)
    damage(run)
    assert run.saved.settle() == 20
    assert run.saved.marker.read_text() == "20"


@pytest.mark.parametrize(
    "lost", ["data_0.pt", "optim_world_size_2_rank_1.pt", "huggingface/config.json", "model_world_size_2_rank_0.pt"]
)
def test_checkpoints_of_sft_have_a_layout_of_their_own(run, lost):
    save_of_sft(run, 10)
    save_of_sft(run, 20)
    save_of_sft(run, 30, without=[lost])
    run.saved.marker.write_text("20")
    assert run.saved.settle() == 20
    assert run.huggingface(20) == run.saved.folder(20) / "huggingface"
    run.saved.prune(1)
    assert run.saved.steps() == [20, 30]


def test_of_a_finished_run_the_last_model_can_be_kept_alone(run):
    save(run, 10)
    save(run, 20)
    run.saved.marker.write_text("20")
    run.saved.keep_last_model()
    assert run.saved.steps() == [20] and not list(run.saved.path.glob("**/*.pt"))
    assert (run.huggingface(20) / "config.json").is_file()


def test_a_shard_without_bytes_is_none(run):
    save(run, 10)
    save(run, 20)
    (run.saved.folder(20) / "actor" / "optim_world_size_1_rank_0.pt").write_bytes(b"")
    assert run.saved.settle() == 10


def test_a_run_without_a_checkpoint_begins_anew(run):
    assert run.saved.settle() == 0
    save(run, 10, without=["data.pt"], marker=False)  # killed in its first save
    assert run.saved.settle() == 0


def test_a_run_whose_checkpoints_are_all_damaged_is_not_thrown_away(run):
    save(run, 10, without=["model_"])
    save(run, 20, without=["data.pt"])
    with pytest.raises(InputError, match="no checkpoint there is whole"):
        run.saved.settle()


def test_later_steps_are_moved_aside(run):
    for step in (1, 2, 3):
        write_records(run.group_file(step), [{"step": step}])
    write_records(run.metrics, [{"step": step, "reward/mean": 0.5} for step in (1, 2, 3)])
    aside = run.set_aside_after(1)
    assert [row["step"] for row in run.metric_rows()] == [1]
    assert sorted(file.name for file in run.groups.iterdir()) == ["step-1.jsonl.zst"]
    assert sorted(file.name for file in (aside / "groups").iterdir()) == ["step-2.jsonl.zst", "step-3.jsonl.zst"]
    assert [json.loads(line)["step"] for line in (aside / "metrics.jsonl").read_text().splitlines()] == [2, 3]
    assert run.set_aside_after(1) is None


def test_pruning_keeps_the_newest_whole_ones(run):
    for step in (10, 20, 30):
        save(run, step)
    run.saved.folder(5).mkdir()
    save(run, 40, without=["data.pt"], marker=False)  # is being written
    run.saved.prune(2)
    assert run.saved.steps() == [20, 30, 40]
    run.saved.marker.write_text("")
    run.saved.prune(1)
    assert run.saved.steps() == [20, 30, 40]
