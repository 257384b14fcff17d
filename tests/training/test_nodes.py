"""A training over two Ray nodes on this machine, and what the trackers keep of it.

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
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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

    def processes(self, number):
        """The processes of a node by their ids."""
        return {each.pid: each for each in psutil.Process(self.nodes[number].pid).children(recursive=True)}

    def end(self):
        for node in reversed(self.nodes):
            with contextlib.suppress(psutil.NoSuchProcess):
                its = psutil.Process(node.pid).children(recursive=True)
                node.send_signal(signal.SIGTERM)
                _, left = psutil.wait_procs(its, timeout=20)
                for process in left:
                    process.kill()
            node.wait()


class Judge:
    """The judge of ``tiny_runs``, which looks once at who asks."""

    def __init__(self, server):
        self.server, self.cluster, self.seen = server, None, None
        self.keys = set()

    def __call__(self, request):
        self.keys.add(request.headers.get("authorization"))
        if self.seen is None:
            self.seen = self.look()
        return reply_of(read(request.body))

    def look(self):
        """The clients' ids, and by node the ids, titles, and whether the key was in the environment they began with."""
        with self.server._lock:
            ports = {each.getpeername()[1] for each in self.server._connections}
        here = self.server._port
        clients = {
            c.pid for c in psutil.net_connections("tcp") if c.raddr and c.raddr.port == here and c.laddr.port in ports
        }
        nodes = []
        for number in (0, 1):
            rows = {}
            for pid, process in self.cluster.processes(number).items():
                with contextlib.suppress(psutil.Error):
                    rows[pid] = (" ".join(process.cmdline()), KEY in process.environ().values())
            nodes.append(rows)
        return clients, nodes


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
    clients, (head, second) = trained
    assert clients and clients <= head.keys()
    assert judge.keys == {f"Bearer {KEY}"}
    titles = [[title for title, _ in rows.values()] for rows in (head, second)]
    for actor in ("RopdTaskRunner", "_Owner"):
        assert sum(actor in title for title in titles[0]) == 1 and not any(actor in title for title in titles[1])
    for node in titles:
        assert any("WorkerDict" in title for title in node)  # each trains a shard


def test_the_key_is_in_no_environment_of_a_node_and_in_no_file(files, cluster, trained):
    assert not [title for rows in trained[1] for title, has_key in rows.values() if has_key]
    places = (cluster.folder, files.folder / "run", files.folder / "cache")
    read_through = [file for place in places for file in place.rglob("*") if file.is_file()]
    assert any(file.name.startswith("gcs_server") for file in read_through)
    assert not [file for file in read_through if KEY.encode() in file.read_bytes()]


def test_nothing_of_the_run_is_left_on_a_node(cluster, trained):
    left = {}
    for number in (0, 1):
        left |= {pid: " ".join(each.cmdline()) for pid, each in cluster.processes(number).items()}
    assert not {pid: title for pid, title in left.items() if re.search(r"ray::(?!IDLE)|VLLM", title)}
