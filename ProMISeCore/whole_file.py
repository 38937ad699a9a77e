"""Files that exist whole or not at all: written under a temporary name in the same folder, then renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ProMISeCore.errors import InputError


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
        handle, name = tempfile.mkstemp(suffix=suffix, prefix=".promise-", dir=path.parent)
        temporary = Path(name)
        os.close(handle)
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # last: some writers (safetensors) replace the file by a private one
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).strip().splitlines()[-1]
        raise InputError(f"{path} cannot be written: {reason}; check the folder's rights and the free space") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
