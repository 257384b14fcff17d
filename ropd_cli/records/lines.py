"""Lines of plain and of zstandard files, with the parts that can't be read in their places.

A zstandard file is read frame by frame. The sizes in a frame's header and blocks tell where it ends; they are followed
here, since the library does not tell a file that ends inside a frame from one that is damaged, and can't go on behind
either. After a frame that can't be read the next one is looked for by its magic number.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import zstandard

log = logging.getLogger(__name__)

MAGIC = zstandard.FRAME_HEADER
SKIPPABLE = b"\x2a\x4d\x18"
"""Magic number of a frame that holds no content, after a first byte of 0x50 to 0x5f."""
LONGEST_HEADER = 18
LONGEST_BLOCK = 1 << 17
WHOLE_FRAME = 8 << 20
"""Bytes up to which a frame's content is in memory at once."""
CHUNK = 1 << 20
LONGEST_LINE = 256 << 20
_warned: set[tuple[str, str]] = set()


@dataclass(frozen=True)
class Damage:
    """A part of a file that can't be read."""

    where: str
    """``file:line``, or the file and its frame with the place of its first byte."""
    why: str
    hint: str = "restore the file"
    start: int = 0
    """Place of its first byte; of frames alone."""
    is_torn: bool = False
    """The file ends inside its last record, as it does where the writer of a journal was killed."""
    is_other: bool = False
    """Nothing is damaged: the file is of another format."""


class _Cut(Exception):
    """The file ends inside a frame."""


def warn_once(path: Path, kind: str, text: str) -> None:
    """Warn about a file, or a folder, once per process: a command reads most of its files twice."""
    if (str(path), kind) not in _warned:
        _warned.add((str(path), kind))
        log.warning("%s", text)


def lines(path: Path) -> Iterator[tuple[bytes, bool] | Damage]:
    """Yield the lines of a file without their ends, and whether an end was there; only the last line may lack it."""
    with open(path, "rb", buffering=1 << 18) as file:
        chunks = frames(file, path) if path.suffix == ".zst" else iter(lambda: file.read(CHUNK), b"")
        yield from _split(chunks, path)


def frames(file: BinaryIO, path: Path) -> Iterator[bytes | Damage]:
    """Yield the content of a file of frames, in chunks. Nothing of a frame is yielded before all of it was read and its
    checksum compared, but for a frame that the end of the file cuts off: of that what is there is yielded, then the
    damage, unless that is the torn last record of a journal."""
    size = file.seek(0, os.SEEK_END)
    position = number = 0
    lost: Damage | None = None
    in_journal = True
    decompress = zstandard.ZstdDecompressor().decompress
    while position < size:
        number += lost is None
        start = position
        try:
            position, content = _frame(file, start, size, path, decompress)
            for chunk in content:
                if lost is not None:
                    yield lost
                    lost = None
                in_journal = chunk.find(b"\n") == len(chunk) - 1  # a RecordWriter's frame holds one line
                yield chunk
        except (zstandard.ZstdError, _Cut) as fault:
            position = _next_magic(file, start + 1, size)
            if lost is None:
                torn = isinstance(fault, _Cut) and position == size
                lost = Damage(f"{path}: frame {number} (byte {start})", str(fault), start=start, is_torn=torn)
    if lost is not None and lost.is_torn and not (in_journal and _is_one_line(_begun(file, lost.start))):
        yield from _begun(file, lost.start)
        lost = replace(lost, is_torn=False)
    if lost is not None:
        yield lost


def _is_one_line(chunks: Iterable[bytes]) -> bool:
    has_ended = False
    for chunk in chunks:
        if has_ended or b"\n" in chunk[:-1]:
            return False
        has_ended = chunk.endswith(b"\n")
    return True


def _split(chunks: Iterable[bytes | Damage], path: Path) -> Iterator[tuple[bytes, bool] | Damage]:
    begun: list[bytes] = []  # the parts of a line that goes on in the next chunk
    length = number = 0
    for chunk in chunks:
        if isinstance(chunk, Damage):
            begun, length = [], 0
            yield chunk
            continue
        *ended, rest = chunk.split(b"\n")
        for line in ended:
            number += 1
            if length + len(line) > LONGEST_LINE:
                yield Damage(f"{path}:{number}", f"longer than {LONGEST_LINE >> 20} MB")
            else:
                yield b"".join([*begun, line]) if begun else line, True
            begun, length = [], 0
        length += len(rest)
        if rest and length <= LONGEST_LINE:
            begun.append(rest)
        elif rest:
            begun = []
    if length > LONGEST_LINE:
        yield Damage(f"{path}:{number + 1}", f"longer than {LONGEST_LINE >> 20} MB")
    elif begun:
        yield b"".join(begun), False


def _frame(
    file: BinaryIO, start: int, size: int, path: Path, decompress: Callable[[bytes], bytes]
) -> tuple[int, Iterable[bytes]]:
    """Return the end of a frame and its content. Raises _Cut where the file ends inside it, ZstdError where it is
    none."""
    file.seek(start)
    head = file.read(LONGEST_HEADER)
    if head[1:4] == SKIPPABLE and head[0] >> 4 == 5 and len(head) >= 8:
        end = start + 8 + int.from_bytes(head[4:8], "little")
        if end > size or _next_magic(file, start + 8, end) < end:  # its size is damaged: frames lie inside it
            raise zstandard.ZstdError("the size of a skippable frame is wrong")
        return end, ()
    if MAGIC.startswith(head):
        raise _Cut("the file ends inside this frame")
    if not head.startswith(MAGIC):
        looks = (
            " (it looks like gzip)" if head[:2] == b"\x1f\x8b" else " (it looks like text)" if head.isascii() else ""
        )
        raise zstandard.ZstdError(f"no zstandard frame begins here{looks}")
    try:
        position = start + zstandard.frame_header_size(head)
        parameters = zstandard.get_frame_parameters(head)
    except zstandard.ZstdError:
        if len(head) == LONGEST_HEADER:
            raise
        raise _Cut("the file ends inside this frame") from None
    if parameters.dict_id:
        raise zstandard.ZstdError("it needs a dictionary")
    is_last = 0
    while not is_last:
        file.seek(position)
        header = file.read(3)
        bits = int.from_bytes(header, "little")
        is_last, kind, length = bits & 1, bits >> 1 & 3, bits >> 3
        if length > LONGEST_BLOCK:
            raise zstandard.ZstdError("a block is too large")
        position += 3 + (1 if kind == 1 else length)  # a block of kind 1 repeats one byte
        if len(header) < 3 or position > size:
            raise _Cut("the file ends inside this frame")
    position += 4 * parameters.has_checksum
    if position > size:
        raise _Cut("the file ends inside this frame")
    if not parameters.has_checksum:
        warn_once(path.parent, "checksums", f"{path}: written without checksums, damage in it can go unseen")
    # of a frame that says to hold nothing the library reads the header alone
    if 0 < parameters.content_size <= WHOLE_FRAME and position - start <= 2 * WHOLE_FRAME:
        file.seek(start)
        return position, (decompress(file.read(position - start)),)
    return position, _checked(file, start, position)


def _checked(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    for _ in _stream(file, start, end):  # the checksum stands at the end
        pass
    yield from _stream(file, start, end)


def _stream(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    """Yield the content of a frame in chunks, however large it says to be."""
    file.seek(start)
    source: Any = SimpleNamespace(read=lambda size: file.read(min(size, end - file.tell())))
    stream = zstandard.ZstdDecompressor().stream_reader(source, closefd=False)
    yield from iter(lambda: stream.read(CHUNK), b"")


def _begun(file: BinaryIO, start: int) -> Iterator[bytes]:
    """Yield what can be read of a frame that is cut off."""
    try:
        yield from _stream(file, start, file.seek(0, os.SEEK_END))
    except zstandard.ZstdError:
        return


def _next_magic(file: BinaryIO, start: int, size: int) -> int:
    """Return where the next frame may begin; ``size`` where none does."""
    while start < size:
        file.seek(start)
        chunk = file.read(min(CHUNK, size - start))
        place = chunk.find(MAGIC)
        if place >= 0:
            return start + place
        start += max(1, len(chunk) - len(MAGIC) + 1)
    return size
