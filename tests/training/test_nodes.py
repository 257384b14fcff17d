"""A training over two Ray nodes on this machine, and the curves of it that the trackers keep.

Each node is a raylet of its own that declares one GPU. Both are started without any of the caller's environment, as
those of other machines are, so whatever a process of the run knows has been handed to it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from judges import read
from servers import FromRequest, ScriptedServer
from tiny_runs import PROMPTS_A_STEP, check_rewards, groups_of, reply_of, rows_of, write_inputs

pytestmark = [pytest.mark.training, pytest.mark.long, pytest.mark.timeout(900)]
pytest.importorskip("verl", reason="needs the CPU stack: make env")

KEY = f"key-{secrets.token_hex(16)}"
STEPS = 2
TRACKERS = [name for name in ("wandb", "mlflow") if importlib.util.find_spec(name)]
CURVES = ("reward/mean", "groups/judged", "actor/grad_norm", "response_length/mean")
AT_WORK = re.compile(r"ray::(?!IDLE|DashboardAgent|RuntimeEnvAgent)|VLLM::")
CONFIG = """
device: cpu
judge: {{m: 1}}
rubricator: &judge {{base_url: "{url}", model: judge, limits: {{timeout_s: 60}}}}
verifier: *judge
reward: {{length: 0.5, length_free_tokens: 0, length_max_tokens: 12, custom: 0.25, custom_function: "mine.py:variety"}}
student: {{model_path: "{model}", dtype: float32}}
data: {{prompts: prompts.jsonl, index: teacher.index, max_prompt_tokens: 16, max_response_tokens: 12, shuffle: false}}
rollout: {{n: 4, temperature: 1.0, kv_cache_gb: 1}}
train: {{steps: 2, prompts_per_step: 4, nodes: 2, lr: 1e-3, lr_schedule: constant, weight_decay: 0.0,
         trackers: {trackers}}}
"""


def free_port():
    with socket.socket() as its:
        its.bind(("127.0.0.1", 0))
        return its.getsockname()[1]


class Cluster:
    """Ray nodes, each a ``ray start`` that ends with this object."""

    def __init__(self, folder, environ):
        self.folder, self.environ, self.nodes = folder, environ, []
        self.address = f"127.0.0.1:{free_port()}"

    def start(self, *options, within=()):
        """Start a node, the first one as the head, and wait until it is there."""
        port = self.address.rpartition(":")[2]
        first = ["--address", self.address] if self.nodes else ["--head", "--port", port, "--include-dashboard=false"]
        command = [*within, sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *first, *options]
        command += ["--object-store-memory", "300000000"]
        if not self.nodes:
            command += ["--temp-dir", str(self.folder)]
        with open(self.folder / f"node-{len(self.nodes)}.log", "wb") as log:
            node = subprocess.Popen(command, env=self.environ, stdout=log, stderr=log, start_new_session=True)
        self.nodes.append(node)
        text, deadline = "", time.monotonic() + 90
        while "Ray runtime started" not in text:
            assert node.poll() is None and time.monotonic() < deadline, text
            time.sleep(0.2)
            text = Path(log.name).read_text()
        return node

    def titles(self):
        """Of the first two nodes the processes with their titles; Ray's workers are called after what they do."""
        nodes = []
        for node in self.nodes[:2]:
            titles = {}
            for process in psutil.Process(node.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    titles[process] = " ".join(process.cmdline()).strip()
            nodes.append(titles)
        return nodes

    def end(self):
        """End the node that was started last."""
        node = self.nodes.pop()
        with contextlib.suppress(psutil.NoSuchProcess):
            its = psutil.Process(node.pid).children(recursive=True)
            node.send_signal(signal.SIGTERM)
            _, left = psutil.wait_procs(its, timeout=20)
            for process in left:
                process.kill()
        node.wait()


class Look(NamedTuple):
    """What runs while the judge is asked: who asks, by id; the titles of either node's processes; those that began with
    the key in their environment."""

    clients: set[int]
    titles: list[dict[psutil.Process, str]]
    knowing: list[psutil.Process]

    @property
    def working(self):
        """The processes that are at work for the training."""
        return [process for titles in self.titles for process, title in titles.items() if AT_WORK.match(title)]


class Judge:
    """The judge of ``tiny_runs``, which looks once at who asks."""

    def __init__(self, server):
        self.server, self.cluster, self.seen = server, None, None
        self.keys, self.lock = set(), threading.Lock()

    def __call__(self, request):
        with self.lock:
            self.keys.add(request.headers.get("authorization"))
            self.seen = self.seen or self.look()
        return reply_of(read(request.body))

    def look(self):
        with self.server._lock:
            ports = {each.getpeername()[1] for each in self.server._connections}
        here = self.server._port
        clients = {
            each.pid
            for each in psutil.net_connections("tcp")
            if each.pid and each.raddr and each.raddr.port == here and each.laddr.port in ports
        }
        nodes = self.cluster.titles()
        knowing = []
        for process in (*nodes[0], *nodes[1]):
            with contextlib.suppress(psutil.Error):
                if KEY in process.environ().values():
                    knowing.append(process)
        return Look(clients, nodes, knowing)


@pytest.fixture(scope="module")
def cluster():
    folder = Path(tempfile.mkdtemp(prefix="ropd-nodes-"))  # short: a unix socket's path may have 107 bytes
    (folder / ".ray").mkdir()
    (folder / ".ray" / "auth_token").write_text(secrets.token_hex(32))
    environ = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    settings = {"HOME": str(folder), "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    nodes = Cluster(folder, environ | settings | {"RAY_worker_niceness": "0"})
    try:
        nodes.start("--num-cpus", "8", "--num-gpus", "1")
        yield nodes
    finally:
        while nodes.nodes:
            nodes.end()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def judge():
    with ScriptedServer() as server:
        judge = Judge(server)
        server.default = FromRequest(judge)
        yield judge


@pytest.fixture(scope="module")
def files(shell, tiny_model, cluster, judge):
    write_inputs(shell, STEPS * PROMPTS_A_STEP)
    text = CONFIG.format(url=judge.server.url, model=tiny_model, trackers=json.dumps(["tensorboard", *TRACKERS]))
    (shell.folder / "run.yaml").write_text(text)
    judge.cluster = cluster
    shell.environ |= {
        "HOME": str(cluster.folder),
        "RAY_ADDRESS": cluster.address,
        "RAY_AUTH_MODE": "token",
        "OPENAI_API_KEY": KEY,
        "WANDB_MODE": "offline",
        "MLFLOW_TRACKING_URI": f"file:{shell.folder}/mlruns",
        "MLFLOW_ALLOW_FILE_STORE": "true",
    }
    return shell


def refused(shell, *settings, **environ):
    """The error line of a training that does not start."""
    before = dict(shell.environ)
    shell.environ |= environ
    try:
        _, err = shell.ropd("train", "--config", "run.yaml", "--out", "refused", *settings, code=2)
    finally:
        shell.environ.clear()
        shell.environ |= before
        shutil.rmtree(shell.folder / "refused", ignore_errors=True)
    assert "Traceback" not in err
    return next(line for line in err.splitlines() if line.startswith("ropd: error:"))


def test_no_cluster_is_an_error_at_once(files):
    nowhere = f"127.0.0.1:{free_port()}"
    assert re.search(rf"no Ray cluster answers at \S+{nowhere[-6:]}", refused(files, RAY_ADDRESS=nowhere))
    assert "can't go through Ray's client" in refused(files, RAY_ADDRESS="ray://127.0.0.1:10001")


def test_a_cluster_that_is_too_small_is_an_error_that_lists_what_is_free(files):
    assert re.search(r"has room for [12] of these; free GPUs: 1 on ", refused(files, "--set", "train.nodes=4"))


def test_a_node_that_does_not_see_the_run_directory_is_an_error(files, cluster):
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("a node with a file system of its own needs root")
    hidden = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(files.folder)]
    cluster.start("--num-cpus", "1", "--num-gpus", "1", within=hidden)
    try:
        assert re.search(rf"node \S+ does not see {files.folder}/refused/config.yaml", refused(files))
    finally:
        cluster.end()


@pytest.fixture(scope="module")
def trained(files, cluster, judge):
    cluster.start("--num-cpus", "8", "--num-gpus", "1")
    files.ropd("train", "--config", "run.yaml", "--out", "run")
    assert judge.seen is not None
    return judge.seen


def test_a_training_over_two_nodes_has_everything_in_one_place(files, cluster, trained):
    rows = rows_of(files)
    assert [row["step"] for row in rows] == [1, 2] and all(row["groups/judged"] == PROMPTS_A_STEP for row in rows)
    for step in (1, 2):
        groups = groups_of(files, step)
        assert len(groups) == PROMPTS_A_STEP
        for group in groups.values():
            check_rewards(group)
    shards = (files.folder / "run" / "checkpoints" / "global_step_2" / "actor").glob("model_world_size_2_rank_*.pt")
    assert len(list(shards)) == 2
    assert (files.folder / "cache").is_dir() and not (cluster.folder / ".cache" / "ropd").exists()


def test_the_judge_is_asked_from_the_head_node_alone_and_with_the_key(judge, trained):
    head, second = ({process.pid: title for process, title in titles.items()} for titles in trained.titles)
    assert trained.clients and trained.clients <= head.keys()
    assert judge.keys == {f"Bearer {KEY}"}
    for actor in ("ray::_Owner", "ray::TaskRunnerV1"):
        assert sum(title.startswith(actor) for title in head.values()) == 1
        assert not any(title.startswith(actor) for title in second.values())
    for node in (head, second):  # each trains a shard, and samples
        assert {"ray::WorkerDict", "VLLM::EngineCore"} <= {title.partition(".")[0] for title in node.values()}


def test_the_key_is_in_no_environment_of_a_node_and_in_no_file(files, cluster, trained):
    # but in that of wandb's own service, which the task runner starts
    assert all("/wandb-" in trained.titles[0].get(process, "") for process in trained.knowing)
    read_through = [file for place in (cluster.folder, files.folder) for file in place.rglob("*") if file.is_file()]
    names = {file.name for file in read_through}
    assert {"dashboard.log", "train.log", "metrics.jsonl"} <= names and any("worker-" in name for name in names)
    assert not [file for file in read_through if KEY.encode() in file.read_bytes()]


def test_nothing_of_the_run_is_left_on_a_node(trained):
    assert len(trained.working) > 8 and not psutil.wait_procs(trained.working, timeout=30)[1]


def test_a_second_training_is_refused_and_a_killed_one_leaves_nothing(files, cluster, trained):
    command = [sys.executable, "-m", "ropd_cli", "train", "--config", "run.yaml", "--out", "killed"]
    command += ["--set", "train.steps=500"]  # it is not to end by itself
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=files.folder, env=files.environ, **silent) as training:
        try:
            deadline = time.monotonic() + 400
            while not all(any("VLLM::Worker" in title for title in titles.values()) for titles in cluster.titles()):
                assert training.poll() is None and time.monotonic() < deadline
                time.sleep(0.5)
            working = Look(set(), cluster.titles(), []).working  # before it can be over
            assert "another verl training runs in the Ray cluster at " in refused(files)
        finally:
            training.kill()
    assert len(working) > 8 and not psutil.wait_procs(working, timeout=60)[1]


def wandb_records(file):
    """The records of an offline run: 7 bytes, then blocks of 32 KiB of pieces, each with checksum, length and kind
    (whole, first, middle, last)."""
    internal = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    data, at, record = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        room = 32_768 - at % 32_768
        if room < 7:
            at += room
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield internal.Record.FromString(record)
            record = b""


def test_an_offline_run_of_wandb_lies_in_the_run_directory_and_holds_the_curves(files, trained):
    pytest.importorskip("wandb")
    (file,) = (files.folder / "run" / "wandb").glob("offline-run-*/*.wandb")
    steps = [
        {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
        for record in wandb_records(file)
        if record.WhichOneof("record_type") == "history"
    ]
    for name in CURVES:
        assert [float(step[name]) for step in steps] == pytest.approx([row[name] for row in rows_of(files)])


def test_a_file_store_of_mlflow_holds_the_curves(files, trained, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = mlflow.MlflowClient(f"file:{files.folder}/mlruns")
    runs = client.search_runs([client.get_experiment_by_name("ropd").experiment_id])
    (run,) = (each for each in runs if each.info.run_name == "run")  # not the one that was killed
    assert run.info.status == "FINISHED" and not (files.folder / "run" / "mlflow.db").exists()
    for name in CURVES:
        history = client.get_metric_history(run.info.run_id, name)
        assert [(each.step, each.value) for each in history] == [(row["step"], row[name]) for row in rows_of(files)]
