"""The comparison's bookkeeping: patients stay together, cells are measured once, the wrong label is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from ProMISeCore import bench_teach
from ProMISeCore.__main__ import main
from ProMISeCore.dataset import Task
from ProMISeCore.errors import InputError
from ProMISeCore.pairs import Pair
from ProMISeCore.volumes import read


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Five patients with two volumes each, as ACDC's are named."""
    folder = tmp_path / "volumes" / "heart" / "train"
    folder.mkdir(parents=True)
    for patient in range(5):
        for frame in (1, 9):
            for kind in ("image", "label"):
                (folder / f"patient{patient}_frame{frame:02}_{kind}.nii.gz").write_bytes(b"")
    return tmp_path


def test_both_volumes_of_a_patient_are_learned_from(data) -> None:
    cell = bench_teach._Cell("heart", 2, 1, 0, "teach")
    names = [pair.name for pair in bench_teach._chosen(cell, data)]
    assert len(names) == 4 and len({name.split("_")[0] for name in names}) == 2
    more = [pair.name for pair in bench_teach._chosen(bench_teach._Cell("heart", 3, 1, 0, "unet"), data)]
    assert set(names) < set(more), "more patients contain the fewer"


def test_all_patients_are_as_many_as_there_are(data, tmp_path, capsys, monkeypatch) -> None:
    asked = []

    def measured(cell, _):
        asked.append(cell.file)
        return {"mean": {"a": 0.5}, "steps": 1, "backbone": bench_teach._backbone()}

    monkeypatch.setattr(bench_teach, "measure", measured)
    command = ["bench", "teach", "--data", str(data), "--cells", str(tmp_path / "cells"), "--sets", "heart"]
    grid = ["--minutes", "5", "--seeds", "0", "--methods", "unet", "--patients", "2", "all", "5"]
    assert main([*command, *grid]) == 0
    assert asked == ["heart-2-5-0-unet.json", "heart-5-5-0-unet.json"]
    for wrong in ("0", "some"):
        with pytest.raises(SystemExit):
            main([*command, "--patients", wrong])
        assert "give 1, 2, … or all" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "held_out", "judge_only"),
    [("teach", (), False), ("teach-default", None, False), ("teach-judge-only", None, True)],
)
def test_which_cases_judge(data, monkeypatch, method, held_out, judge_only) -> None:
    wishes = []

    def surveyed(images, labels, wish):
        wishes.append(wish)
        raise InputError("that is enough")

    monkeypatch.setattr("ProMISeCore.survey.Survey", surveyed)
    with pytest.raises(InputError, match="that is enough"):
        bench_teach.measure(bench_teach._Cell("heart", 2, 1, 0, method), data)
    assert [(wish.held_out, wish.judge_only) for wish in wishes] == [(held_out, judge_only)]


def test_a_cell_that_was_measured_is_not_measured_again(data, tmp_path, capsys, monkeypatch) -> None:
    cells = tmp_path / "cells"
    cells.mkdir()
    for method, dice in (("teach", 0.75), ("unet", 0.5)):
        report = {"mean": {"a": dice, "b": dice}, "steps": 3, "backbone": bench_teach._backbone()}
        (cells / f"heart-1-5-0-{method}.json").write_text(json.dumps(report))
    monkeypatch.setattr(bench_teach, "measure", lambda *_: pytest.fail("measured again"))
    grid = ["--sets", "heart", "--patients", "1", "--minutes", "5", "--seeds", "0"]
    assert main(["bench", "teach", "--data", str(data), "--cells", str(cells), *grid]) == 0
    last = capsys.readouterr().out.splitlines()[-1].split()
    assert last[:5] == ["heart", "1", "5", "1", "0.750"] and "0.500" in last
    report = {"mean": {"a": 0.8}, "steps": 3, "backbone": bench_teach._backbone()}
    (cells / "heart-1-5-0-teach-768.json").write_text(json.dumps(report))
    assert main(["bench", "teach", "--data", str(data), "--cells", str(cells), *grid, "--side", "768"]) == 0
    last = capsys.readouterr().out.splitlines()[-1].split()
    assert last[4] == "0.800" and "0.500" in last, "the U-Net has a frame of its own"
    assert main(["bench", "teach"]) == 2
    report = {"mean": {"a": 0.75}, "steps": 3, "backbone": "0" * 64}
    (cells / "heart-1-5-0-teach.json").write_text(json.dumps(report))
    assert main(["bench", "teach", "--data", str(data), "--cells", str(cells), *grid]) == 2
    assert "was measured on another version of the backbone" in capsys.readouterr().err


def test_the_wrong_label_lies_a_quarter_aside_on_the_same_grid(tmp_path) -> None:
    voxels = np.zeros((2, 8, 8), np.uint8)
    voxels[:, 1, 2] = 3
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((2, 2, 5))
    sitk.WriteImage(image, str(tmp_path / "a_label.nrrd"))
    moved = read(bench_teach._misplaced(tmp_path / "a_label.nrrd", tmp_path / "wrong"))
    assert np.argwhere(moved.voxels).tolist() == [[0, 3, 4], [1, 3, 4]]
    assert moved.spacing.tolist() == [2, 2, 5]


def test_the_unet_learns_and_answers_on_the_volumes_grid(tmp_path) -> None:
    pytest.importorskip("monai", reason="MONAI, of the extra 'experiments', is not installed")
    from ProMISeCore.augment import Augment
    from ProMISeCore.unet import Unet

    voxels = np.random.default_rng(0).integers(0, 200, (3, 20, 24)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / "a.nrrd"))
    sitk.WriteImage(sitk.GetImageFromArray((voxels > 100).astype(np.uint8)), str(tmp_path / "a_label.nrrd"))
    task = Task({"x": 1}, "axial", {"mode": "percentile", "low": 0.5, "high": 99.5}, "neighbours", "corner")
    net = Unet(task, 32, Augment(), seed=0)
    times = iter(range(100))
    pair = Pair("a", tmp_path / "a.nrrd", tmp_path / "a_label.nrrd")
    assert net.train([pair], 0.05, lambda: next(times), batch=2) == 2
    found = net.segment(read(pair.image))
    assert list(found) == ["x"] and found["x"].shape == (3, 20, 24) and found["x"].dtype == bool
