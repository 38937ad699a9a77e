"""`promise teach` where the system gives no more: disks that fill up, few open files, files that may not be read."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_cases import NAME, limited, tensors, workspace, write_disc

from ProMISeCore import packs, teaching, versions
from ProMISeCore.__main__ import main
from ProMISeCore.training import Training

NEARLY_FULL = partial(limited, "RLIMIT_FSIZE", 20_000)  # bytes: the lock fits, a pack does not
ROOM = 30  # files that may be opened beside those that are open


@contextmanager
def full_for_the_pack() -> Iterator[None]:
    """The disk is full while a version is added, and at no other time."""
    add = versions.add

    def add_on_a_full_disk(*given):
        with NEARLY_FULL():
            return add(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(versions, "add", add_on_a_full_disk)
        yield


def test_a_disk_that_fills_while_the_pack_is_written_leaves_it_in_the_workspace(cases, command, capsys) -> None:
    with full_for_the_pack():
        assert main(command(cases)) == 2
    said, rescued = capsys.readouterr().err.splitlines()[-1], workspace() / f"{NAME}.safetensors"
    assert "cannot be written" in said and "File too large" in said
    assert f"the pack was taught and lies in {rescued}: promise packs --install it" in said
    assert not [path for path in packs.folder().rglob("*") if path.is_file() and path.name != "lock"]
    assert main(["packs", "--install", str(rescued)]) == 0
    taught = tensors()
    assert main(command(cases)) == 0, "and the same command still goes on"
    assert all(torch.equal(value, taught[key]) for key, value in tensors().items())


def test_a_disk_that_is_full_everywhere_leaves_the_pack_before(cases, command, capsys, monkeypatch) -> None:
    assert main(command(cases)) == 0
    before, add = packs.find(NAME).read_bytes(), versions.add
    with ExitStack() as full:

        def fill_and_add(*given):
            full.enter_context(NEARLY_FULL())
            return add(*given)

        monkeypatch.setattr(versions, "add", fill_and_add)
        assert main(command(cases)) == 2
    assert packs.find(NAME).read_bytes() == before
    assert "File too large" in capsys.readouterr().err
    assert [version.number for version in versions.listing(NAME)] == [1]


def test_many_cases_take_few_open_files(tmp_path, command) -> None:
    rows, columns = np.mgrid[:32, :40]
    for number in range(20):
        write_disc(tmp_path, f"p{number}", np.hypot(rows - 15, columns - 10 - number) < 8, number)
    lowest = os.dup(0)
    os.close(lowest)
    with limited("RLIMIT_NOFILE", lowest + ROOM):
        assert main(command(tmp_path, "--held-out", "p3", steps=4)) == 0
    assert len(list(workspace().glob("views-*/*.npy"))) > 2 * ROOM


def test_labels_that_cannot_be_read_at_the_end_cost_no_pack(cases, command, capsys, monkeypatch) -> None:
    run, content = Training.run, teaching.content

    def refused(path):
        if path.name == "Fall 2.seg.nrrd":
            raise PermissionError(13, "Permission denied", str(path))
        return content(path)

    def run_and_refuse(self, *given):
        reached = run(self, *given)
        monkeypatch.setattr(teaching, "content", refused)
        return reached

    monkeypatch.setattr(Training, "run", run_and_refuse)
    assert main(command(cases, "--held-out", "Fall 0")) == 0
    said = capsys.readouterr().err
    assert "the labels of Fall 2 cannot be read any more (Permission denied); the pack learned from what" in said
    assert packs.find(NAME).is_file() and not list(workspace().glob("training-*.pt"))


def test_a_pack_that_lies_in_the_workspace_is_known_to_have_learned_from_its_cases(cases, command, capsys) -> None:
    with full_for_the_pack():
        assert main(command(cases)) == 2
    assert main(["packs", "--install", str(workspace() / f"{NAME}.safetensors")]) == 0
    capsys.readouterr()
    assert main(command(cases, "--base", NAME, "--held-out", "Fall 1", "--check")) == 0
    assert "has learned from" in capsys.readouterr().out


def test_labels_that_are_gone_at_the_end_are_not_called_changed(cases, command, capsys, monkeypatch) -> None:
    run = Training.run

    def run_and_delete(self, *given):
        (cases / "Fall 2.seg.nrrd").unlink(missing_ok=True)
        return run(self, *given)

    monkeypatch.setattr(Training, "run", run_and_delete)
    assert main(command(cases, "--held-out", "none")) == 0
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "Fall 2" in line]
    assert "the labels of Fall 2 cannot be read any more (No such file or directory)" in said
    assert said.endswith("the pack learned from what they were at the start")


def test_memory_that_the_system_does_not_map_is_memory_that_runs_out(cases, command, capsys, monkeypatch) -> None:
    def refused(*_) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr("ProMISeCore.dataset._mapped", refused)
    assert main(command(cases)) == 2
    assert "there is not enough memory to encode; close other programs" in capsys.readouterr().err


def test_checkpoints_that_are_there_need_no_room_again(cases, command, capsys, monkeypatch) -> None:
    monkeypatch.setattr("ProMISeCore.estimate.shutil.disk_usage", lambda folder: SimpleNamespace(free=20_000_000))
    workspace().mkdir(parents=True)
    (workspace() / "lock").touch()
    assert main(command(cases)) == 2
    (workspace() / "training-0123456789ab.pt").write_bytes(bytes(10**7))
    assert main(command(cases)) == 0
