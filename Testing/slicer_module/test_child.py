"""A child process behind a launcher, as in Slicer: what is ended is the Python that computes."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

LAUNCHER = (sys.executable, str(Path(__file__).with_name("stand_in_launcher.py")))
#: Say their number, then compute for a minute: one listens to commands while it does.
OBEDIENT = """
import os, time
from ProMISeCore.commands import Commands
commands, end = Commands(0), time.monotonic() + 60
print(os.getpid(), flush=True)
while time.monotonic() < end:
    sum(range(1000))
"""
DEAF = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)"


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Started:
    """A child that has said its number; what it says and how it ends."""

    def __init__(self, code: str, settle: Callable) -> None:
        from ProMISeSlicerLib.child import Child

        self.lines, self.ends, self.settle = [], [], settle
        self.child = Child(self.lines.append, lambda *how: self.ends.append(how), (*LAUNCHER, "-c", code))
        self.child.start(["rank"])
        self.settle(lambda: bool(self.lines))
        self.pid = int(self.lines[0])


@pytest.fixture
def start(panel) -> Callable[[str], Started]:
    if sys.platform == "win32":
        pytest.skip("Windows has no question whether a process runs that leaves it running")
    return lambda code: Started(code, panel.settle)


def test_ending_a_child_ends_the_python_behind_the_launcher(start) -> None:
    import time

    started = start(OBEDIENT)
    began = time.monotonic()
    started.child.kill()
    started.child.kill()
    assert time.monotonic() - began < 0.5, "the window waits for nothing"
    started.settle(lambda: bool(started.ends))
    assert not runs(started.pid) and not started.child.isRunning
    assert started.ends == [(None, "")], "it was killed, once"


def test_a_launcher_whose_python_does_not_listen_is_killed_later(start) -> None:
    started = start(DEAF)
    started.child.kill()
    started.settle(lambda: bool(started.ends))
    assert started.ends[0][0] is None and not started.child.isRunning
    os.kill(started.pid, signal.SIGKILL)


def test_letting_go_after_a_kill_waits_for_the_end(start) -> None:
    started = start(OBEDIENT)
    started.child.kill()
    started.child.letGo()
    assert not runs(started.pid)


@pytest.fixture
def ranking(school, monkeypatch, tmp_path):
    """The panel while the real core, behind a launcher, looks at a volume; its copies are in a folder of the test."""
    from scene_cases import add_volume

    (tmp_path / "copies").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "copies"))
    panel = school()
    panel.widget.teach.command = (*LAUNCHER, "-m", "ProMISeCore")
    add_volume("ohne", 3)
    panel.choose("atrium")
    panel.click("rankButton")
    panel.settle(lambda: not panel.widget.rank._timer.active)
    return panel


def test_cancelling_the_comparison_ends_it_and_then_deletes_the_copies(ranking, tmp_path) -> None:
    (folder,) = (tmp_path / "copies").iterdir()
    ranking.click("rankStopButton")
    assert folder.is_dir(), "the child may still read them"
    ranking.settle(lambda: not ranking.widget.rank.isRunning)
    assert not folder.exists() and ranking.status.startswith("Cancelled")
    assert ranking.ui.rankButton.enabled


def test_copies_that_could_not_be_deleted_are_told(ranking, monkeypatch, tmp_path) -> None:
    (folder,) = (tmp_path / "copies").iterdir()

    def refuse(path) -> None:
        raise PermissionError(13, "in use by another process", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        ranking.click("rankStopButton")
        ranking.settle(lambda: not ranking.widget.rank.isRunning)
    assert "Copies of the volumes could not be removed" in ranking.status and str(folder) in ranking.status
