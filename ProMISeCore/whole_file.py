"""Files that exist whole or not at all: written under a temporary name in the same folder, then renamed."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ProMISeCore.errors import InputError

_FULL = 2**16  # bytes left on a disk, beside a file that is half written
_PREFIX = ".promise-"  # of temporary names
_STALE = 24 * 3600  # seconds since a temporary file was written to, after which nobody goes on writing


@contextmanager
def replacing(path) -> Iterator[Path]:
    """Yield a temporary path with the same suffix to write to; it becomes `path` at the end, or is removed on failure.

    Raises InputError where the folder cannot be written or the disk is full.
    """
    path = Path(path)
    suffix = "".join(path.suffixes[-2:]) if path.suffix.lower() in (".gz", ".json", ".nrrd") else path.suffix
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(suffix=suffix, prefix=_PREFIX, dir=path.parent)
        temporary = Path(name)
        os.close(handle)
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # last: some writers (safetensors) replace the file by a private one
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or _reason(error, path.parent)
        raise InputError(f"{path} cannot be written: {reason}; check the folder's rights and the free space") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def clear_stale(folder: Path, seconds: float = _STALE) -> None:
    """Remove what killed processes have left of files that they were writing; others may be writing now.

    seconds: since it was written to.
    """
    for path in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it is gone, or not ours to remove
            if path.stat().st_mtime < time.time() - seconds:
                path.unlink()


def check_folder(folder: Path, remedy: str = "another folder with --out") -> None:
    """Make the folder and see that it can be written, before anything is computed. InputError if not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}); choose {remedy}") from error


def _reason(error: Exception, folder: Path) -> str:
    """Of writers that do not say why they failed (torch, ITK)."""
    if shutil.disk_usage(folder).free < _FULL:
        return os.strerror(errno.ENOSPC)
    return str(error).strip().splitlines()[-1]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
