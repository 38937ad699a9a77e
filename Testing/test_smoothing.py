"""Whether neighbouring slices get a say is decided by held-out volumes, and trying it leaves the model as it was."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import segmenting as scans
import SimpleITK as sitk
from small_cases import NAME, volume, write

from ProMISeCore import packs, smoothing, truth
from ProMISeCore.__main__ import main
from ProMISeCore.dataset import Task
from ProMISeCore.errors import Cancelled, InputError
from ProMISeCore.pairs import Pair
from ProMISeCore.segmenter import Segmenter
from ProMISeCore.survey import Survey
from ProMISeCore.wish import Wish

TASK = Task({"a": 1}, "axial", {"mode": "percentile", "low": 0.5, "high": 99.5}, "repeat", "corner")


def case(folder: Path, name: str, slices: int = 5, spacing: float = 2.5) -> Pair:
    voxels = np.random.default_rng(0).integers(0, 255, (slices, 30, 40)).astype(np.int16)
    paths = []
    for what, values in (("image", voxels), ("label", (voxels > 200).astype(np.uint8))):
        image = sitk.GetImageFromArray(values)
        image.SetSpacing((1.0, 1.0, spacing))
        paths.append(folder / f"{name}_{what}.nii.gz")
        sitk.WriteImage(image, str(paths[-1]))
    return Pair(name, *paths)


@pytest.mark.parametrize(("with_it", "chosen"), [(0.83, 2.5), (0.801, 0.0), (0.7, 0.0)])
def test_it_has_to_raise_the_dice(tiny_model: Callable, tmp_path: Path, monkeypatch, with_it, chosen) -> None:
    asked = []

    def dice(model, volume, labels, sigma, device, stop):
        asked.append((volume.name, sigma))
        return with_it if sigma else 0.8

    monkeypatch.setattr(smoothing, "_dice", dice)
    pairs = [case(tmp_path, "p"), case(tmp_path, "q")]
    assert smoothing.best_sigma(tiny_model(("a",)), pairs, TASK, "cpu") == chosen
    assert [sigma for _, sigma in asked] == [2.5, 2.5, 0.0, 0.0]


@pytest.mark.parametrize(("slices", "spacing", "expected"), [(121, 1.0, None), (5, 11.0, 0.0)])
def test_long_volumes_and_thick_slices_are_not_tried(
    tiny_model, tmp_path, monkeypatch, slices, spacing, expected
) -> None:
    monkeypatch.setattr(smoothing, "_dice", lambda *_: pytest.fail("tried"))
    assert smoothing.best_sigma(tiny_model(("a",)), [case(tmp_path, "p", slices, spacing)], TASK, "cpu") == expected
    assert smoothing.best_sigma(tiny_model(("a",)), [], TASK, "cpu") is None


def test_a_stop_ends_the_trial_before_the_next_batch(tiny_model: Callable, tmp_path: Path) -> None:
    model, pair, asked = tiny_model(("a",)), case(tmp_path, "p", slices=40), []
    before = model.manifest

    def stop() -> bool:
        asked.append(None)
        return len(asked) > 3

    with pytest.raises(Cancelled, match="stopped while smoothing was tried"):
        smoothing.best_sigma(model, [pair], TASK, "cpu", stop)
    assert len(asked) == 5 and model.manifest == before, "a yes to the fourth, and to whether it was that"


@pytest.mark.parametrize(("fails", "tried"), [(False, [2.5, 0.0]), (True, [2.5])])
def test_trying_leaves_the_manifest_as_it_was(tiny_model: Callable, tmp_path: Path, monkeypatch, fails, tried) -> None:
    model, pair, found = tiny_model(("a",)), case(tmp_path, "p"), []
    before, segment = model.manifest, Segmenter.segment_volume

    def watched(self, **options):
        found.append(self.model.manifest.smoothing_mm)
        if fails:
            raise InputError("no memory")
        return segment(self, **options)

    monkeypatch.setattr(Segmenter, "segment_volume", watched)
    with pytest.raises(InputError) if fails else nullcontext():
        smoothing.best_sigma(model, [pair], TASK, "cpu")
    assert found == tried and model.manifest == before


def test_what_is_tried_is_segmented_with_that_sigma_and_scored_where_something_is_known(tiny_model: Callable) -> None:
    scan, found = scans.volume(), {}
    for sigma in (0.0, 4.0):
        segmenter = Segmenter(scans.balanced(tiny_model, scan, smoothing_mm=sigma), scan, "cpu")
        found[sigma] = [mask.astype(np.uint8) for mask in scans.run(segmenter).masks().values()]
        for labels in found[sigma]:
            labels[:, :7] = truth.UNKNOWN
    model = scans.balanced(tiny_model, scan)
    assert all(smoothing._dice(model, scan, labels, sigma, "cpu") == 1.0 for sigma, labels in found.items())
    assert smoothing._dice(model, scan, found[4.0], 0.0, "cpu") < 1.0


@pytest.mark.parametrize(
    ("spacings", "expected"), [((1.4,), 1.4), ((1.0, 1.3, 1.2), 1.2), ((1.6,), 0.0), ((1.0, 5.0), 0.0), ((), 0.0)]
)
def test_thin_slices_are_smoothed_where_nothing_is_held_out(tmp_path: Path, spacings, expected) -> None:
    cases = [case(tmp_path, f"p{number}", 5, spacing) for number, spacing in enumerate(spacings)]
    found = Survey([str(tmp_path)], None, Wish("a", orientation="axial")).usable if cases else []
    assert [each.pair for each in found] == cases and smoothing.usual_sigma(found, TASK) == expected


@pytest.mark.parametrize(("thickness", "expected"), [(1.2, 1.2), (4.0, 0.0)])
def test_a_pack_taught_without_held_out_cases_says_what_is_usual(tmp_path, command, thickness, expected) -> None:
    for number in range(2):
        voxels, mask = volume(number)
        write(tmp_path / "thin", f"c{number}", voxels, {"Scheibe": mask}, thickness)
    assert main(command(tmp_path / "thin", "--held-out", "none", steps=2)) == 0
    assert packs.read_manifest(packs.find(NAME)).smoothing_mm == expected
