"""What was encoded once serves teachings of more and of fewer views, and of more cases."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_cases import NAME, tensors, volume, workspace, write

from ProMISeCore import dataset, versions
from ProMISeCore.__main__ import main
from ProMISeCore.augment import Augment
from ProMISeCore.case_encoder import _Encoding
from ProMISeCore.dataset import Encoder, Plan, Task
from ProMISeCore.errors import InputError
from ProMISeCore.pairs import find


@pytest.fixture
def encoded(tiny_sam, cases, tmp_path):
    """`encoded(views, folder="work")`: three slices of a case in so many views, view after view."""
    task = Task({"Scheibe": None}, "axial", {"mode": "fixed", "low": 0, "high": 255}, "repeat", "corner")

    def encode(views: int, folder: str = "work") -> dataset.Views:
        rows = [(0, n, view) for view in range(views) for n in (1, 2, 4)]
        plan = Plan(find([str(cases)])[:1], task, rows, seed=3, named=3)
        return Encoder(tiny_sam, (), Augment(), tmp_path / folder).views(plan, lambda steps, total: steps)

    return encode


@pytest.fixture
def stored(monkeypatch) -> list[int]:
    """How many views each batch that is encoded has."""
    sizes, store = [], Encoder._store

    def counted(self, arrays, rows, *given) -> None:
        sizes.append(rows.stop - rows.start)
        store(self, arrays, rows, *given)

    monkeypatch.setattr(Encoder, "_store", counted)
    return sizes


def test_more_views_are_encoded_beside_those_that_are_there_and_fewer_are_the_first_of_them(encoded, stored) -> None:
    first = encoded(2).filed()
    more = encoded(5).filed()
    assert stored == [6, 8, 1], "six, and of fifteen the nine that follow"
    fewer, alone = encoded(1).filed(), encoded(5, "elsewhere").filed()
    assert sum(stored) == 6 + 9 + 15
    for found, count in ((first, 6), (more, 15), (fewer, 3)):
        assert np.array_equal(found.masks[:], alone.masks[:count]) and np.array_equal(
            found.known[:], alone.known[:count]
        )
        # of another batch, so that last digits may differ
        assert np.allclose(found.embedding[:].astype(float), alone.embedding[:count].astype(float), atol=4e-3)
    assert [views.key.rpartition(".")[2] for views in (first, more, fewer)] == ["6", "15", "3"]
    assert len({views.key.partition(".")[0] for views in (first, more, fewer, alone)}) == 1
    assert fewer.plain.tolist() == [True] * 3 and more.slice.tolist() == [1, 2, 4] * 5


def test_a_file_that_was_not_made_longer_yet_costs_no_view(encoded, stored, tmp_path) -> None:
    whole = encoded(2).embedding[:].copy()
    make = dataset._make

    def killed(path: Path, *given) -> None:
        make(path, *given)
        raise KeyboardInterrupt  # after one file of three

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(dataset, "_make", killed)
        encoded(4)
    assert np.array_equal(encoded(4).embedding[:6], whole) and stored == [6, 6]


def test_more_views_without_room_leave_those_that_are_there(encoded, stored, monkeypatch, tmp_path) -> None:
    """The first rows are copied: a disk that fills up meanwhile would kill the process."""
    whole = encoded(2).embedding[:].copy()

    def full(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (folder,) = (tmp_path / "work").glob("views-*")
    (folder / ".promise-left.npy").write_bytes(b"of a kill")
    with monkeypatch.context() as patch, pytest.raises(InputError, match="the views of the cases take"):
        patch.setattr(dataset.os, "posix_fallocate", full, raising=False)
        patch.setattr(dataset, "_CAN_RESERVE", True)
        encoded(4)
    row = 256 * 4 * 4 * 2 + 2 * 16 * 16
    free = 6 * row + 6 * (256 * 4 * 4 * 2)
    monkeypatch.setattr(dataset.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free - 1))
    with pytest.raises(InputError, match="the views of the cases take"):
        encoded(4)
    assert not list(folder.glob(".promise-*"))
    monkeypatch.setattr(dataset.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    assert np.array_equal(encoded(4).embedding[:6], whole) and stored == [6, 6]


def test_a_new_case_with_which_slices_get_fewer_views_leaves_the_others_alone(cases, command, stored) -> None:
    assert main(command(cases, "--views", "4", "--held-out", "none")) == 0
    voxels, mask = volume(8)
    write(cases, "neu", voxels, {"Scheibe": mask})
    stored.clear()
    again = command(cases, "--views", "3", "--held-out", "none", "--base", NAME)
    assert main(again) == 0
    assert stored == [8, 8, 2], "the new case's six slices in three views"
    assert len(list(workspace().glob("views-*"))) == 5
    taught = tensors()
    versions.roll_back(NAME, 1)
    assert main([*again, "--workspace", str(workspace().with_name("elsewhere"))]) == 0
    assert all(torch.equal(value, taught[key]) for key, value in tensors().items()), "as in a new workspace"


def test_pauses_and_sleep_are_no_time_that_encoding_took() -> None:
    now = [0.0]
    encoding = _Encoding(40, 8, lambda: now[0])

    def steps(seconds: list[float]):
        for each in seconds:
            now[0] += each
            yield

    encoding.begin(32)
    for _ in encoding.counted(steps([1, 1, 36_000, 1]), 4):
        now[0] += 500  # paused, while that was told
    encoding.begin(8)
    for _ in encoding.counted(steps([2.0]), 1):
        assert encoding.entries() == {"done": 40, "total": 40, "seconds_left": 0.0}
    assert encoding.seconds == 6.0
