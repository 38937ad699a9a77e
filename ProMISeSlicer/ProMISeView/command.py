"""`promise view`: its arguments, and what has to be there before the server starts."""

from __future__ import annotations

import argparse
import importlib.util
import os
import secrets
import socket
import tempfile
from pathlib import Path

from ProMISeCore.errors import InputError
from ProMISeCore.terminal import say

from . import rendering

_NEEDED = {"slicer_core": "slicer-core", "trame": "trame", "trame_rca": "trame-rca", "trame_vuetify": "trame-vuetify"}
_DEFAULT_PORT = 8080


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="VOLUME", nargs="?", type=Path, help="volume, series folder or picture")
    parser.add_argument("--pack", help="pack to begin with; one that suits the volume if not given")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    parser.add_argument("--port", type=int, help=f"{_DEFAULT_PORT} or the next free one if not given")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; others than this computer's own "
                        "ask for the token that is printed")  # fmt: skip
    parser.add_argument("--token", action="store_true", help="ask for a token also at this computer's own address, "
                        "where several people use the computer")  # fmt: skip
    parser.add_argument("--max-upload", type=float, default=2000, metavar="MB", help="largest file that the page may "
                        "send (default 2000)")  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Serve until Ctrl+C. Raises InputError for what is missing or cannot be used."""
    requireExtra()
    reason = rendering.whyNot()
    if reason:
        raise InputError(reason)
    volume = _volume(arguments.input)
    port = freePort(arguments.host, arguments.port)
    with tempfile.TemporaryDirectory(prefix="promise-view-") as folder:  # for this user only, gone at the end
        from . import guard, scene

        token = secrets.token_urlsafe(24) if arguments.token or not guard.isLoopback(arguments.host) else ""
        scene.start(folder)
        from . import app  # after the scene: it imports what needs one

        app.App(folder, arguments, volume, token).serve(arguments.host, port)


def requireExtra() -> None:
    """Raises InputError that says how to get the extra `view` where something of it is missing."""
    missing = [package for name, package in _NEEDED.items() if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"promise view needs {', '.join(missing)}; start it with `python3 promise.py view`, or install the extra: "
            'pip install -e ".[view]"'
        )


def freePort(host: str, wanted: int | None) -> int:
    """The port wanted, or a free one. Raises InputError for an address or a port that cannot be had."""
    try:
        family = socket.getaddrinfo(host, None)[0][0]
    except OSError as error:
        raise InputError(f"--host {host!r} is not an address of this computer ({error.strerror})") from error
    candidates = [wanted] if wanted is not None else [*range(_DEFAULT_PORT, _DEFAULT_PORT + 20), 0]
    for port in candidates:
        with socket.socket(family, socket.SOCK_STREAM) as attempt:
            if os.name != "nt":
                attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                attempt.bind((host, port))
            except (OSError, OverflowError) as error:
                reason = getattr(error, "strerror", None) or error
                continue
            return attempt.getsockname()[1]
    raise InputError(f"port {candidates[0]} of {host} cannot be used ({reason}); choose another one with --port")


def _volume(path: Path | None):
    if path is None:
        return None
    from ProMISeCore import volumes

    say(f"reading {path}")
    return volumes.read(path)
