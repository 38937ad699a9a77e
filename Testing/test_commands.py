"""What a program tells a command on stdin, in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from ProMISeCore.commands import KILLED, Commands

ROOT = Path(__file__).resolve().parents[1]
BUSY = """
from ProMISeCore.commands import Commands
Commands(0)
print("begun", flush=True)
while True:
    sum(range(1000))
"""


def started(*arguments: str) -> subprocess.Popen:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, *arguments], cwd=ROOT, **pipes)


def test_kill_ends_a_process_in_the_middle_of_its_work() -> None:
    with started("-c", BUSY) as process:
        assert process.stdout.readline().strip() == b"begun"
        process.stdin.write(b"pause\nkill\n")
        process.stdin.flush()
        assert process.wait(30) == KILLED


def test_ctrl_c_waits_for_the_end_of_a_step_and_a_second_one_does_not(obeys_ctrl_c) -> None:
    commands = Commands(None)
    with commands.between_steps():
        signal.raise_signal(signal.SIGINT)
        assert commands.stop() and commands.gone
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_end_of_stdin_takes_nothing_back_of_what_ctrl_c_has_said(obeys_ctrl_c) -> None:
    """Where both come at once, as Ctrl-C reaches the asking program, too."""
    reading, writing = os.pipe()
    os.close(writing)
    commands = Commands(None)
    with commands.between_steps():
        signal.raise_signal(signal.SIGINT)
        commands._listen(reading)
        assert commands.stop() and commands.gone
    os.close(reading)


def test_ctrl_c_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        commands = Commands(None)
        with commands.between_steps():
            signal.raise_signal(signal.SIGINT)
        assert not commands.stop()
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture
def ranking(tmp_path, weights) -> list[str]:
    voxels = np.random.default_rng(0).integers(0, 255, (3, 20, 24)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / "a.nrrd"))
    command = ["rank", "--images", str(tmp_path / "a.nrrd"), *weights(), "--no-cache", "--json"]
    return ["-m", "ProMISeCore", *command]


@pytest.mark.parametrize("said", [b"", b"stop\n"])
def test_ranking_ends_where_the_program_that_asked_has_gone_or_wants_it_to(ranking, said: bytes) -> None:
    with started(*ranking, "--listen") as process:
        out, errors = process.communicate(said, timeout=120)
    assert process.returncode == 130 and out == b"" and b"stopped" in errors


def test_ranking_reads_no_stdin_unless_it_is_told_to(ranking) -> None:
    with started(*ranking) as process:
        out, _ = process.communicate(b"kill\n", timeout=120)
    assert process.returncode == 0 and out.startswith(b"[{")
