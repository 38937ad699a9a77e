"""A real volume to try: fetched only when the page is asked for it, and checked before it is read."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ProMISeSlicerLib.samples import HEAD_SHA256, HEAD_URL

from ProMISeCore import downloading, volumes
from ProMISeCore.errors import InputError

WHAT = "MRHead, T1 MRI of a head from Slicer's testing data (4 MB)"


def fetch(folder: Path):
    """The volume, through a file in the folder. Raises InputError or WeightsError that says what is wrong."""
    file = folder / "MRHead.nrrd"
    downloading.fetch(HEAD_URL, file, None)
    if hashlib.sha256(file.read_bytes()).hexdigest() != HEAD_SHA256:
        file.unlink()
        raise InputError(f"{HEAD_URL} is not what it was; it was thrown away. The generated heart needs no download")
    volume = volumes.read(file)
    file.unlink()
    return volume
