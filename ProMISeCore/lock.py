"""One process at a time in a folder. The operating system holds the lock, so it ends with its process, however."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ProMISeCore.errors import InputError

_FILE = "lock"


@contextmanager
def alone(folder: Path, remedy: str) -> Iterator[None]:
    """Hold the folder's lock, making the folder; InputError naming the holder's process if another has it.

    The lock's file stays: removing it would let a third process lock a new file of that name beside a second one.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / _FILE, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}); {remedy}") from error
    try:
        try:
            free = _take(descriptor)
        except OSError as error:
            raise InputError(f"{folder} is where files cannot be locked ({error.strerror}); {remedy}") from error
        os.lseek(descriptor, _HELD_BYTES, os.SEEK_SET)
        if not free:
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
            raise InputError(f"{folder} is in use by another process ({holder}); wait until it has ended, or {remedy}")
        try:
            os.write(descriptor, f"{os.getpid():<20}".encode("ascii"))
        except OSError as error:  # the disk is full
            raise InputError(f"{folder} cannot be written ({error.strerror}); {remedy}") from error
        yield
    finally:
        os.close(descriptor)  # and with it the lock


def was_held(folder: Path) -> bool:
    """Whether a process has ever held the folder's lock, so that the folder is ours."""
    file = folder / _FILE
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        opened.seek(_HELD_BYTES)
        return re.fullmatch(rb"(\d+ *)?", opened.read(40)) is not None


def check_free(folder: Path, remedy: str) -> None:
    """Raise InputError as `alone` where another process has the folder now; what is not there is free."""
    if (folder / _FILE).is_file():
        with alone(folder, remedy):
            pass


if sys.platform == "win32":
    import msvcrt

    _HELD_BYTES = 1  # Windows lets nobody read what is locked: the holder's number stands after it

    def _take(descriptor: int) -> bool:
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, _HELD_BYTES)
        except OSError:
            return False
        return True

else:
    import fcntl

    _HELD_BYTES = 1

    def _take(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
