"""`promise teach`, end to end on tiny data: what comes out, and that nothing is lost whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from ProMISeCore import exports, packs, versions
from ProMISeCore.__main__ import main
from ProMISeCore.lock import alone
from ProMISeCore.volumes import Volume

NAME = "Knöchel 2"
ROOT = Path(__file__).resolve().parent.parent


def volume(seed: int, slices: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc on every slice of (slices, 32, 40), and its mask."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :40]
    mask = np.stack([np.hypot(rows - 15 - n % 3, columns - generator.integers(14, 26)) < 8 for n in range(slices)])
    return (50 + 150 * mask + generator.integers(0, 20, mask.shape)).astype(np.int16), mask


def write(folder: Path, name: str, voxels: np.ndarray, masks: dict[str, np.ndarray]) -> None:
    folder.mkdir(exist_ok=True)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((1, 1, 4))
    sitk.WriteImage(image, str(folder / f"{name}.nrrd"))
    affine = np.diag([-1.0, -1, 4, 1])
    exports.write_segmentation(
        folder / f"{name}.seg.nrrd", masks, Volume(voxels, affine, name), [{"name": n} for n in masks]
    )


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """Four volumes with the segment "Scheibe"."""
    folder = tmp_path / "Fälle"
    for number in range(4):
        voxels, mask = volume(number)
        write(folder, f"Fall {number}", voxels, {"Scheibe": mask})
    return folder


@pytest.fixture
def command(tiny_sam, tmp_path: Path):
    """`command(folder, "--option", …)`: the arguments of a short teaching."""
    torch.save(tiny_sam.state_dict(), tmp_path / "b.pth")

    def make(folder: Path, *options: str, steps: int = 6) -> list[str]:
        common = ["teach", "--images", str(folder), "--name", NAME, "--backbone", str(tmp_path / "b.pth")]
        common += ["--side", "64", "--device", "cpu", "--views", "2", "--batch", "4", "--every", "3"]
        return [*common, "--steps", str(steps), "--start", "none", *options]

    return make


def events(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def spoken(arguments: list[str], home: Path) -> subprocess.Popen:
    """The command as a child process that is spoken to."""
    variables = os.environ | {"PROMISE_HOME": str(home), "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-m", "ProMISeCore", *arguments, "--events"], env=variables, **pipes)


def wait_for(child: subprocess.Popen, event: str) -> dict:
    for line in child.stdout:
        told = json.loads(line)
        if told["event"] == event:
            return told
    raise AssertionError(f"no {event}: {child.stderr.read().decode()}")


def workspace() -> Path:
    return packs.folder().parent / "teach" / NAME


def tensors() -> dict[str, torch.Tensor]:
    return packs.tensors(packs.find(NAME))


def test_a_pack_comes_out_with_a_card_and_images_are_not_touched(cases, command, capsys) -> None:
    before = {path: path.read_bytes() for path in cases.iterdir()}
    assert main(command(cases)) == 0
    out = capsys.readouterr().out
    assert "before" in out and "version 1, 6 steps" in out
    assert {path: path.read_bytes() for path in cases.iterdir()} == before
    manifest = packs.read_manifest(packs.find(NAME))
    assert manifest.title == NAME and manifest.version == "1" and manifest.modality == "MR"
    assert [target.name for target in manifest.targets] == ["Scheibe"]
    assert manifest.training["cases"] == 4 and manifest.training["command"] == "promise teach --seed 0 --steps 6"
    assert manifest.licence.startswith("the user's own data")
    assert manifest.scores[0]["cases"] == 1 and manifest.largest_component
    assert "Fall" not in json.dumps(manifest.entries()), "names of patients have no place in a pack"


def test_the_same_seed_gives_the_same_pack(cases, command) -> None:
    assert main(command(cases)) == 0
    first = tensors()
    assert main(command(cases)) == 0
    assert all(torch.equal(value, first[key]) for key, value in tensors().items())
    assert [version.number for version in versions.listing(NAME)] == [1, 2]


def test_check_tells_and_writes_nothing(cases, command, capsys) -> None:
    assert main(command(cases, "--check", "--events")) == 0
    (checked,) = events(capsys)
    report = checked["report"]
    assert report["ready"] and report["targets"] == [
        {"name": "Scheibe", "value": None, "cases": 4, "slices": 24, "voxels": report["targets"][0]["voxels"],
         "missing": [], "empty": []}
    ]  # fmt: skip
    assert report["cases"][0]["shape"] == [6, 32, 40] and report["cases"][0]["spacing_mm"] == [1, 1, 4]
    assert [case["use"] for case in report["cases"]].count("held-out") == 1
    assert report["proposal"]["orientation"] == "axial" and report["estimate"]["disk_bytes"] > 0
    assert not workspace().exists() and not packs.folder().exists()


def test_what_is_wrong_is_told_and_left_out(cases, command, capsys) -> None:
    voxels, mask = volume(9)
    write(cases, "blank", np.full_like(voxels, 7), {"Scheibe": mask})
    write(cases, "other", voxels[:, :30], {"Scheibe": mask[:, :30]})
    (cases / "other.nrrd").unlink()
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(cases / "other.nrrd"))
    nan = sitk.GetImageFromArray(np.where(mask, np.nan, 1).astype(np.float32))
    sitk.WriteImage(nan, str(cases / "nan.nrrd"))
    write(cases, "nan2", voxels, {"Scheibe": mask})
    (cases / "nan2.seg.nrrd").rename(cases / "nan.seg.nrrd")
    (cases / "nan2.nrrd").unlink()
    write(cases, "elsewhere", voxels, {"Knochen": mask})
    assert main(command(cases, "--targets", "Scheibe", "--check", "--events")) == 0
    report = events(capsys)[0]["report"]
    found = {problem["case"]: problem["what"] for problem in report["problems"] if problem["severity"] == "error"}
    assert set(found) == {"blank", "other", "nan", "elsewhere"}
    assert "constant" in found["blank"] and "another grid" in found["other"] and "not numbers" in found["nan"]
    assert {case["case"] for case in report["cases"] if case["use"] == "left out"} == set(found)


@pytest.mark.parametrize(("options", "message"), [
    (["--targets", "Nase"], "none of the targets (Nase); the cases hold: Scheibe"),
    (["--held-out", "Fall 7"], "the cases are Fall 0"),
    (["--held-out", "1.5"], "share between 0 and 1"),
    (["--minutes", "0"], "more than 0 minutes"),
    (["--targets", "a=0"], "LV=3"),
    (["--name", "a/b"], "cannot be called"),
    (["--base", "nothing"], "there is no pack"),
])  # fmt: skip
def test_mistakes_are_told_in_one_line(cases, command, capsys, options, message) -> None:
    assert main(command(cases, *options)) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1


def test_empty_labels_are_refused(tmp_path, command, capsys) -> None:
    for number in range(2):
        voxels, mask = volume(number)
        write(tmp_path / "empty", f"c{number}", voxels, {"Scheibe": mask & False})
    assert main(command(tmp_path / "empty")) == 2
    assert "none of 2 labelled cases can be used" in capsys.readouterr().err


def test_one_volume_is_split_by_slices_and_one_slice_is_refused(tmp_path, command, capsys) -> None:
    voxels, mask = volume(0)
    write(tmp_path / "one", "only", voxels, {"Scheibe": mask})
    assert main(command(tmp_path / "one", "--events")) == 130  # stdin of the tests has ended
    assert main(command(tmp_path / "one")) == 0
    assert "it is the only case" in capsys.readouterr().err
    assert packs.read_manifest(packs.find(NAME)).scores[0]["data"] == "slices of the only case"
    write(tmp_path / "slice", "flat", voxels[:1], {"Scheibe": mask[:1]})
    assert main(command(tmp_path / "slice")) == 2
    assert "segment at least two" in capsys.readouterr().err


def test_several_volumes_of_one_slice_are_fine(tmp_path, command) -> None:
    for number in range(3):
        voxels, mask = volume(number)
        write(tmp_path / "flat", f"c{number}", voxels[:1], {"Scheibe": mask[:1]})
    assert main(command(tmp_path / "flat")) == 0


def test_colour_pictures_with_several_targets(tmp_path, command) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        voxels, mask = volume(number, 2)
        colour = np.stack([voxels[0], voxels[1], voxels[0]], -1).clip(0, 255).astype(np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(colour, isVector=True), str(folder / f"p{number}.jpg"))
        sitk.WriteImage(sitk.GetImageFromArray((mask[0] + 2 * (mask[1] & ~mask[0])).astype(np.uint8)),
                        str(folder / f"p{number}.png"))  # fmt: skip
    assert main(command(folder, "--targets", "a=1", "b=2")) == 0
    manifest = packs.read_manifest(packs.find(NAME))
    assert (manifest.orientation, manifest.window, manifest.modality) == ("image", {"mode": "bytes"}, "RGB")
    assert [target.name for target in manifest.targets] == ["a", "b"]


def test_a_program_sees_looks_and_pictures_and_can_stop(cases, command, home) -> None:
    child = spoken(command(cases, steps=100_000), home)
    try:
        assert wait_for(child, "checked")["report"]["ready"]
        look, picture = wait_for(child, "look"), wait_for(child, "picture")
        assert look["step"] == 3 and 0 <= look["dice"]["Scheibe"] <= 1 and look["seconds_left"] > 0
        shown = sitk.GetArrayFromImage(sitk.ReadImage(picture["path"]))
        grey = (shown == shown[..., :1]).all(-1)
        assert shown.shape[2] == 3 and 0.8 < grey.mean() < 1, (
            "a grey slice, not its neighbours as colours, and outlines"
        )
        child.stdin.write(b"pause\n")
        child.stdin.flush()
        paused = wait_for(child, "paused")
        child.stdin.write(b"resume\nstop\n")
        child.stdin.flush()
        assert wait_for(child, "resumed")["seconds"] >= paused["seconds"]
        done = wait_for(child, "done")
        assert done["stopped"] and done["version"] == 1 and Path(done["pack"]) == packs.find(NAME).resolve()
        assert done["table"][0]["target"] == "Scheibe" and done["table"][0]["after"] >= done["table"][0]["before"]
        assert child.wait(60) == 0
    finally:
        child.kill()
        child.communicate()


def test_the_end_of_stdin_leaves_a_checkpoint_and_a_rerun_equals_an_uninterrupted_one(cases, command, home) -> None:
    assert main(command(cases, steps=15)) == 0
    whole = tensors()
    child = spoken(command(cases, steps=15), home)
    try:
        wait_for(child, "look")
        child.stdin.close()
        child.stdin = None
        child.communicate()
        assert child.returncode == 130
    finally:
        child.kill()
        child.wait()
    assert len(versions.listing(NAME)) == 1, "nobody is there to take a pack"
    assert len(list(workspace().glob("training-*.pt"))) == 1
    assert main(command(cases, steps=15)) == 0
    assert all(torch.equal(value, whole[key]) for key, value in tensors().items())
    assert not list(workspace().glob("training-*.pt"))


def test_a_kill_loses_nothing(cases, command, home) -> None:
    assert main(command(cases, steps=15)) == 0
    whole, before = tensors(), packs.find(NAME).read_bytes()
    child = spoken(command(cases, steps=15), home)
    wait_for(child, "look")
    child.kill()
    child.communicate()
    assert packs.find(NAME).read_bytes() == before
    assert main(command(cases, steps=15)) == 0
    assert all(torch.equal(value, whole[key]) for key, value in tensors().items())


def test_two_at_once_are_refused(cases, command, capsys) -> None:
    with alone(workspace(), ""):
        assert main(command(cases)) == 2
    said = capsys.readouterr().err
    assert f"in use by another process ({os.getpid()})" in said and "--workspace" in said
    assert main(command(cases)) == 0


def test_a_pack_that_cannot_be_kept_is_rescued(cases, command, capsys, monkeypatch) -> None:
    assert main(command(cases)) == 0
    before = packs.find(NAME).read_bytes()

    def full(path, *_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("ProMISeCore.versions._become", full)
        patch.setattr("ProMISeCore.versions.packs.save", lambda *a, **k: full(a))
        assert main(command(cases)) == 2
    assert packs.find(NAME).read_bytes() == before
    assert "No space left" in capsys.readouterr().err


def test_a_folder_of_packs_that_cannot_be_written_is_told_first(cases, command, capsys, home) -> None:
    (home / "packs").write_bytes(b"a file where the folder should be")
    assert main(command(cases)) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert not list(workspace().glob("views-*"))


def test_labels_edited_meanwhile_are_told(cases, command, capsys, monkeypatch) -> None:
    from ProMISeCore import teaching

    train = teaching.Teaching._train

    def edit_meanwhile(self, *given):
        train(self, *given)
        voxels, mask = volume(0)
        write(cases, "Fall 0", voxels, {"Scheibe": ~mask})

    monkeypatch.setattr(teaching.Teaching, "_train", edit_meanwhile)
    assert main(command(cases)) == 0
    assert "the labels of Fall 0 were changed meanwhile" in capsys.readouterr().err


def test_continuing_starts_from_the_base_and_encodes_only_what_is_new(cases, command, monkeypatch, capsys) -> None:
    from ProMISeCore import dataset

    assert main(command(cases, "--held-out", "Fall 3", steps=30)) == 0
    after = packs.read_manifest(packs.find(NAME)).scores[0]["dice"]
    voxels, mask = volume(8)
    write(cases, "neu", voxels, {"Scheibe": mask})
    stored, store = [], dataset.Encoder._store
    monkeypatch.setattr(dataset.Encoder, "_store", lambda self, *given: (stored.append(1), store(self, *given))[1])
    assert main(command(cases, "--held-out", "Fall 3", "--base", NAME, steps=30)) == 0
    assert len(stored) == 2, "12 views of the new case in batches of 8"
    manifest = packs.read_manifest(packs.find(NAME))
    assert manifest.scores[0]["dice"] >= after
    assert manifest.training["data"] == f"5 cases of the user's own, continued from {NAME} version 1"


def test_memory_that_runs_out_is_told(cases, command, capsys, monkeypatch) -> None:
    from ProMISeCore.training import Training

    def no_memory(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(Training, "_step", no_memory)
    assert main(command(cases)) == 2
    assert "not enough memory to train" in capsys.readouterr().err


def test_the_picture_is_grey_where_the_slices_are(tmp_path: Path, tiny_model) -> None:
    """A volume whose three neighbouring slices differ: the picture shows the one in the middle, not all as colours."""
    from ProMISeCore.dataset import LabelledStack, Task, Views
    from ProMISeCore.pairs import Pair
    from ProMISeCore.snapshot import Snapshot

    ramp = np.broadcast_to(np.array([0, 100, 200], np.int16)[:, None, None], (3, 16, 16)).copy()
    for name, voxels in (("a_image", ramp), ("a_label", np.zeros((3, 16, 16), np.uint8))):
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / f"{name}.nrrd"))
    task = Task({"x": 1}, "axial", {"mode": "fixed", "low": 0, "high": 200}, "neighbours", "corner")
    stack = LabelledStack(Pair("a", tmp_path / "a_image.nrrd", tmp_path / "a_label.nrrd"), task, 64)
    rows = {"embedding": np.zeros((1, 256, 4, 4)), "features": {}, "masks": np.zeros((1, 1, 16, 16), bool)}
    picture = Snapshot(Views(**rows, case=np.zeros(1), slice=np.array([1])), 0, stack)._picture
    assert np.ptp(picture, axis=2).max() < 1e-3 and abs(picture[2, 2, 0] - 127.5) < 1
