"""One file over HTTP into a .part file: goes on where the last attempt stopped, keeps what came when it fails."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from ProMISeCore.errors import WeightsError

_CHUNK = 1 << 20
_TIMEOUT_S = 30
_SPARE = 64 << 20  # bytes of disk to leave free
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def fetch(
    url: str,
    part: Path,
    size: int | None,
    progress: Callable[[int, int | None], None] | None = None,
    opener: Callable = urlopen,
) -> None:
    """Complete `part` from the url. size: bytes expected, None for what the server says.

    A server that ignores the request for the rest sends all again. progress(bytes so far, bytes in all or None).
    Raises WeightsError; what came stays in `part`, unless it is more than expected.
    """
    _check_scheme(url)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        have = part.stat().st_size if part.is_file() else 0
    except OSError as error:
        raise WeightsError(f"{part.parent} cannot be written: {error.strerror}; set PROMISE_HOME elsewhere") from error
    if size is not None and have > size:
        part.unlink()
        have = 0
    if size is not None and have == size:
        return
    try:
        with _open(url, have, opener) as response:
            _check_scheme(response.geturl())
            start, total = _extent(response, have)
            expected = total if size is None else size
            check_space(part.parent, 0 if expected is None else expected - start)
            _receive(response, part, start, expected, progress)
    except HTTPError as error:
        if error.code == 416 and (error.headers.get("Content-Range") or "").endswith(f"*/{have}"):
            return  # nothing was left to send
        _refused(error, url, part)
    except (URLError, HTTPException, OSError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise WeightsError(f"{url} did not arrive whole ({reason}); {_kept(part)}") from error


def check_space(folder: Path, needed: int) -> None:
    """Raise WeightsError where the disk of the folder has less than that many bytes and a little more."""
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE:
        raise WeightsError(
            f"{folder} has {free / 1e6:,.0f} MB of free space, {(needed + _SPARE) / 1e6:,.0f} MB are needed; "
            "make room or set PROMISE_HOME to a folder on another disk"
        )


def _check_scheme(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise WeightsError(f"{url} was refused: weights are only fetched over https")


def _open(url: str, have: int, opener: Callable):
    headers = {"User-Agent": "promise-slicer", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    return opener(Request(url, headers=headers), timeout=_TIMEOUT_S)


def _extent(response, have: int) -> tuple[int, int | None]:
    """(place of the first byte that comes, bytes in all or None): the place is 0 where the server sends all again."""
    if response.status == 206:
        place, _, total = (response.headers.get("Content-Range") or "").removeprefix("bytes ").partition("/")
        if place.split("-")[0] == str(have):
            return have, int(total) if total.isdigit() else None
        raise HTTPException(f"the server sent another part of the file than asked for: {place or 'unnamed'}")
    length = response.headers.get("Content-Length") or ""
    return 0, int(length) if length.isdigit() else None


def _receive(
    response, part: Path, start: int, expected: int | None, progress: Callable[[int, int | None], None] | None
) -> None:
    have = start
    with part.open("ab" if start else "wb") as file:
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            have += len(chunk)
            if expected is not None and have > expected:
                break
            if progress is not None:
                progress(have, expected)
    if expected is not None and have > expected:
        part.unlink()
        raise WeightsError(f"the server sent more than the {expected:,} bytes expected; the file was removed")
    if expected is not None and have < expected:
        raise HTTPException(f"the connection ended after {have:,} of {expected:,} bytes")


def _refused(error: HTTPError, url: str, part: Path) -> None:
    if error.code == 416:  # the .part is longer than the file: it belongs to something else
        part.unlink(missing_ok=True)
        raise WeightsError(
            f"{url} does not continue where the last download stopped; what was left of it was removed, try again"
        ) from error
    raise WeightsError(
        f"{url} answered {error.code} {error.reason}; try again later, or get the file elsewhere and install it "
        f"with promise backbones --install; {_kept(part)}"
    ) from error


def _kept(part: Path) -> str:
    if not part.is_file():
        return "nothing was kept"
    return f"{part.stat().st_size:,} bytes are kept in {part}, the next download goes on from there"
