"""Embeddings and answers on disk, content-addressed: a file of each per slice, written whole or not at all.

What was unused longest goes first when the cap is reached.

A file is: magic (8 bytes), SHA-256 of all that follows (32), length of the header (4, little-endian), the header
(JSON: `[[name, shape], …]`), then the arrays' float16 bytes (little-endian, C order). Nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import re
import secrets
import shutil
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

_MAGIC = b"PROMISE1"
_DIGEST_BYTES = 32
_SUFFIX = ".slice"
_NAME = re.compile(r"[0-9a-f]{64}\.slice")
_TEMPORARY = re.compile(r"\.[0-9a-f]{64}\.\w+\.tmp")

#: Disk space that is left to others: results must still fit when the cache has filled the disk.
RESERVE_BYTES = 256 * 2**20
#: Age after which a temporary file is a dead process's (seconds).
_STALE_SECONDS = 3600
#: Files written between two looks at what other processes have written.
_RESCAN_EVERY = 256
#: Eviction goes down to this part of the cap, so that it does not run at every write.
_EVICT_TO = 0.9


def default_folder() -> Path:
    """`$PROMISE_HOME/cache`, or `~/.promise/cache`."""
    return Path(os.environ.get("PROMISE_HOME") or Path.home() / ".promise") / "cache"


def key(frame_bytes: bytes | memoryview, fingerprint: str, dtype: str, blocks: Sequence[int] = ()) -> str:
    """Name of one slice's embedding: SHA-256, 64 hex digits.

    frame_bytes: the image as the encoder sees it; fingerprint: the backbone's; dtype: the precision it was encoded in;
    blocks: the encoder blocks whose features are kept beside the embedding, in order.
    """
    digest = hashlib.sha256(f"{fingerprint}|{dtype}|{','.join(map(str, blocks))}|".encode())
    digest.update(frame_bytes)
    return digest.hexdigest()


class Cache:
    """Named float16 arrays under content keys. Several processes may share one folder.

    folder: `default_folder()` unless given, made on the first write; cap_bytes: total size kept, least recently used
    go first; notice: told once, in one sentence, when the cache has to be done without (default: a log warning).
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        cap_bytes: float = 10e9,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        self.folder = Path(folder) if folder is not None else default_folder()
        self.cap_bytes = int(cap_bytes)
        self.notice = notice or logging.getLogger(__name__).warning
        self.hits = self.misses = 0
        self._writable = True
        self._bytes: int | None = None  # of all files, as far as this process knows
        self._writes = 0

    def __contains__(self, key: str) -> bool:
        return self._path(key).is_file()

    def get(self, key: str) -> dict[str, np.ndarray] | None:
        """The float16 arrays stored under `key`, or None. A damaged file counts as absent and is removed."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except OSError:
            self.misses += 1
            return None
        try:
            arrays = _unpack(data)
        except (ValueError, TypeError):
            with contextlib.suppress(OSError):
                path.unlink()
            self.misses += 1
            return None
        with contextlib.suppress(OSError):  # a read-only cache still serves
            os.utime(path)
        self.hits += 1
        return arrays

    def put(self, key: str, arrays: Mapping[str, np.ndarray]) -> bool:
        """Store `arrays` as float16; True when done. No OSError: the first failure is a notice and the last try."""
        if not self._writable:
            return False
        data = _pack(arrays)
        if len(data) > self.cap_bytes:
            return self._give_up(f"one slice needs {len(data) / 1e6:.0f} MB, its cap is {self.cap_bytes / 1e6:.0f} MB")
        path = self._path(key)
        try:
            self._make_room(len(data))
            if not self._writable:
                return False
            replaced = path.stat().st_size if path.exists() else 0
            _write_whole(path, data)
        except OSError as error:
            return self._give_up(error.strerror or str(error))
        self._bytes = (self._bytes or 0) + len(data) - replaced
        return True

    def size(self) -> tuple[int, int]:
        """Bytes and number of files kept."""
        sizes = [size for _, size, _ in self._files()]
        return sum(sizes), len(sizes)

    def clear(self) -> int:
        """Remove every file (and leftovers of killed writes); returns how many. Foreign files stay."""
        removed = 0
        for path, _, _ in self._files():
            with contextlib.suppress(OSError):
                path.unlink()
                removed += 1
        self._remove_leftovers(0)
        for folder in self._folders():
            with contextlib.suppress(OSError):
                folder.rmdir()
        self._bytes, self._writable = None, True
        return removed

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}{_SUFFIX}"

    def _folders(self) -> list[Path]:
        try:
            return [path for path in self.folder.iterdir() if re.fullmatch(r"[0-9a-f]{2}", path.name)]
        except OSError:
            return []

    def _files(self) -> Iterator[tuple[Path, int, float]]:
        """Every slice: path, bytes, time of last use."""
        for entry in self._entries(_NAME):
            with contextlib.suppress(OSError):  # another process may have removed it
                status = entry.stat()
                yield Path(entry.path), status.st_size, status.st_mtime

    def _entries(self, name: re.Pattern[str]) -> Iterator[os.DirEntry[str]]:
        for folder in self._folders():
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                yield from [entry for entry in entries if name.fullmatch(entry.name)]

    def _remove_leftovers(self, older_than: float) -> None:
        for entry in self._entries(_TEMPORARY):
            with contextlib.suppress(OSError):
                if time.time() - entry.stat().st_mtime >= older_than:
                    os.unlink(entry.path)

    def _make_room(self, needed: int) -> None:
        """Evict down to the cap, and stop writing rather than fill the disk."""
        if self._bytes is None:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # slices of patients: for their user only
            self._remove_leftovers(_STALE_SECONDS)
        self._writes += 1
        if self._bytes is None or self._writes % _RESCAN_EVERY == 0 or self._bytes + needed > self.cap_bytes:
            self._bytes = self._evict(needed)
        free = shutil.disk_usage(self.folder).free
        if free < needed + RESERVE_BYTES:
            self._give_up(f"only {free / 1e6:.0f} MB are free on its disk")

    def _evict(self, needed: int) -> int:
        """Remove the least recently used files if `needed` more bytes exceed the cap; returns the bytes kept."""
        files = sorted(self._files(), key=lambda file: file[2])
        total = sum(size for _, size, _ in files)
        if total + needed <= self.cap_bytes:
            return total
        for path, size, _ in files:
            if total + needed <= self.cap_bytes * _EVICT_TO:
                break
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            total -= size
        return total

    def _give_up(self, reason: str) -> bool:
        self._writable = False
        self.notice(f"the embedding cache {self.folder} is not written any more: {reason}; the results are the same")
        return False


def _write_whole(path: Path, data: bytes) -> None:
    """Write to a temporary name in the same folder, then rename. Raises OSError and leaves nothing behind."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}_{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except BaseException:  # also Ctrl-C: no leftovers, then on with it
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    halves = {name: np.ascontiguousarray(array, dtype="<f2") for name, array in arrays.items()}
    header = json.dumps([[name, list(array.shape)] for name, array in halves.items()]).encode()
    body = b"".join([struct.pack("<I", len(header)), header, *[array.tobytes() for array in halves.values()]])
    return _MAGIC + hashlib.sha256(body).digest() + body


def _unpack(data: bytes) -> dict[str, np.ndarray]:
    """The inverse of `_pack`; the arrays are read-only. ValueError or TypeError for anything else."""
    start = len(_MAGIC) + _DIGEST_BYTES
    body = memoryview(data)[start:]
    if data[: len(_MAGIC)] != _MAGIC or hashlib.sha256(body).digest() != data[len(_MAGIC) : start]:
        raise ValueError("not a slice file, or damaged")
    if len(body) < 4:
        raise ValueError("no header")
    (length,) = struct.unpack("<I", body[:4])
    arrays, offset = {}, 4 + length
    for name, shape in json.loads(bytes(body[4:offset])):
        count = math.prod(shape)
        arrays[name] = np.frombuffer(body, "<f2", count, offset).reshape(shape)
        offset += 2 * count
    return arrays
