"""What `promise view` says before a page is there: missing extras, libraries, files and ports."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ProMISeView import command, rendering

from ProMISeCore import __main__ as command_line
from ProMISeCore.errors import InputError


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "trame_rca" else known(name))
    assert command_line.main(["view"]) == 2
    said = capsys.readouterr().err
    assert "trame-rca" in said and "python3 promise.py view" in said and said.count("\n") == 1


def test_a_page_that_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ProMISeView" else known(name))
    assert command_line.main(["view"]) == 2
    assert "no page for the browser" in capsys.readouterr().err


def test_help_needs_no_extra(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        command_line.main(["view", "--help"])
    assert stop.value.code == 0 and "--host" in capsys.readouterr().out


def test_the_page_needs_no_qt() -> None:
    """What it shares with the module in 3D Slicer is imported without the windows there."""
    folder, root = (str(Path(command.__file__).resolve().parents[up]) for up in (1, 2))
    code = f"import sys; sys.path[:0] = {[folder, root]!r}; sys.modules['qt'] = None; import ProMISeView.study"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr


def test_missing_gl_libraries_are_named() -> None:
    crash = (sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert "libegl1" in rendering.whyNot(crash) and "cannot draw" in rendering.whyNot(crash)
    assert rendering.whyNot((sys.executable, "-c", "")) == ""


def test_ports() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} .* --port"):
            command.freePort("127.0.0.1", port)
    assert command.freePort("127.0.0.1", port) == port
    with pytest.raises(InputError, match="no-such-host"):
        command.freePort("no-such-host.invalid", None)
    with pytest.raises(InputError, match="--port"):
        command.freePort("127.0.0.1", 70000)
