"""Answers on disk: the same results without a network, found only where everything they depend on is the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import segmenting
import torch

from ProMISeCore.cache import Cache
from ProMISeCore.segmenter import Segmenter, SliceResult
from ProMISeCore.volumes import Volume


def scan() -> Volume:
    return segmenting.volume((4, 20, 24))


def results(model, volume: Volume, folder: Path, **options) -> list[SliceResult]:
    return list(Segmenter(model, volume, "cpu", cache=Cache(folder), **options).segment_volume())


def silent(model, monkeypatch: pytest.MonkeyPatch):
    """The same model, unable to compute anything."""

    def refuse(*arguments, **options):
        raise AssertionError("computed although it is known")

    monkeypatch.setattr(model.sam, "decode", refuse)
    monkeypatch.setattr(model.sam, "encode", refuse)
    return model


def test_known_slices_are_read_and_the_same_to_the_last_bit(tiny_model, tmp_path: Path, monkeypatch) -> None:
    fresh = results(tiny_model(), scan(), tmp_path)
    read = results(silent(tiny_model(), monkeypatch), scan(), tmp_path)
    for one, other in zip(fresh, read, strict=True):
        assert (one.index, one.iou, one.presence) == (other.index, other.iou, other.presence)
        for part in ("masks", "logits", "points_rc", "labels"):
            mine, theirs = getattr(one, part), getattr(other, part)
            assert mine.keys() == theirs.keys() and mine
            for name in mine:
                np.testing.assert_array_equal(mine[name], theirs[name])
                assert mine[name].dtype == theirs[name].dtype


def test_what_is_decided_after_the_answer_needs_no_network(tiny_model, tmp_path: Path, monkeypatch) -> None:
    results(tiny_model(), scan(), tmp_path)
    changed = {"threshold": 0.9, "exclusive": False, "opening": 5}
    expected = results(tiny_model(**changed), scan(), tmp_path / "other")
    found = results(silent(tiny_model(**changed), monkeypatch), scan(), tmp_path)
    for one, other in zip(expected, found, strict=True):
        for name in one.masks:
            np.testing.assert_array_equal(one.masks[name], other.masks[name])


def test_the_same_anatomy_in_another_storage_order_is_known(tiny_model, tmp_path: Path, monkeypatch) -> None:
    volume = scan()
    turned = Volume(volume.voxels[:, ::-1].transpose(0, 2, 1), volume.affine @ _turn(20), "turned")
    results(tiny_model(), volume, tmp_path)
    assert len(results(silent(tiny_model(), monkeypatch), turned, tmp_path)) == 4


def _turn(rows: int) -> np.ndarray:
    """Indices of a volume whose last two axes were swapped after the second was reversed, to those of the original."""
    return np.array([[0, 1, 0, 0], [-1, 0, 0, rows - 1], [0, 0, 1, 0], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("what", ["voxels", "weights", "exact", "window", "padding", "spacing", "neighbour"])
def test_anything_they_depend_on_makes_them_unknown(what: str, tiny_model, tmp_path: Path) -> None:
    volume, options, model = scan(), {}, tiny_model(channels="neighbours")
    results(model, volume, tmp_path)
    if what == "weights":
        with torch.no_grad():
            next(iter(model.targets.values())).ips.lin2.bias[5] += 1e-3
    elif what == "exact":
        options = {"exact": True}
    elif what == "window":
        model = tiny_model(channels="neighbours", window={"mode": "fixed", "low": 0, "high": 900})
    elif what == "padding":
        model = tiny_model(channels="neighbours", padding="squeeze")
    elif what == "spacing":
        volume = replace(volume, affine=np.diag([-1.5, -3.0, 4.0, 1.0]))
    else:
        voxels = volume.voxels.copy()
        voxels[{"voxels": 1, "neighbour": 2}[what], 3, 3] += 1
        volume = replace(volume, voxels=voxels)
    segmenter = Segmenter(model, volume, "cpu", cache=Cache(tmp_path), **options)
    assert segmenter._answers.get(1) is None


def test_a_slice_far_from_the_change_stays_known(tiny_model, tmp_path: Path) -> None:
    volume = scan()
    model = tiny_model(channels="neighbours", window={"mode": "fixed", "low": 0, "high": 900})
    results(model, volume, tmp_path)
    voxels = volume.voxels.copy()
    voxels[3, 3, 3] += 1
    segmenter = Segmenter(model, replace(volume, voxels=voxels), "cpu", cache=Cache(tmp_path))
    assert [segmenter._answers.get(n) is not None for n in range(4)] == [True, True, False, False]


def test_the_estimate_counts_what_is_unknown(tiny_model, tmp_path: Path, monkeypatch) -> None:
    model, calls = tiny_model(), []
    next(Segmenter(model, scan(), "cpu", cache=Cache(tmp_path)).segment_volume(first=2))
    decode = model.sam.decode
    monkeypatch.setattr(model.sam, "decode", lambda *given, **named: calls.append(1) or decode(*given, **named))
    Segmenter(model, scan(), "cpu", cache=Cache(tmp_path)).estimate(first=2)
    assert len(calls) >= 2  # times the decoder although the first slice's answer is known
