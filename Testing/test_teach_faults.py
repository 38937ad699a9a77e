"""`promise teach` where something goes wrong: it is told, nothing is lost, and the pack before is still there."""

from __future__ import annotations

import errno
import os
import unicodedata
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from small_cases import NAME, events, spoken, tensors, volume, wait_for, workspace, write

from ProMISeCore import dataset, packs, versions
from ProMISeCore.__main__ import main
from ProMISeCore.lock import alone
from ProMISeCore.training import Training


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
    (cases / "elsewhere.seg.nrrd").rename(cases / "third.seg.nrrd")
    (cases / "elsewhere.nrrd").rename(cases / "third.nrrd")
    assert main(command(cases, "--targets", "Scheibe", "Knochen", "--check")) == 0
    told = [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if ": " in line]
    assert told[:4] == ["blank is left out", "nan is left out", "other is left out", "all"], "warnings come after"


@pytest.mark.parametrize(("options", "message"), [
    (["--targets", "Nase"], "none of the targets (Nase); the cases hold: Scheibe"),
    (["--held-out", "Fall 7"], "the cases are Fall 0"),
    (["--held-out", "1.5"], "share between 0 and 1"),
    (["--held-out", "001"], "--held-out names 001; the cases are Fall 0"),
    (["--minutes", "0"], "more than 0 minutes"),
    (["--seed", "-1"], "from 0 to 4294967295"),
    (["--window", "fixed:5:1"], "lower limit first"),
    (["--window", "fixed:nan:1"], "lower limit first"),
    (["--window", "percentile:0.5:101"], "lower limit first"),
    (["--targets", "a=0"], "LV=3"),
    (["--name", "a/b"], "cannot be called"),
    (["--base", "nothing"], "there is no pack"),
    (["--backbone", "sam_vit_b"], "the backbone sam_vit_b is not installed"),
    (["--backbone", "nothing", "--check"], "there is no backbone or file 'nothing'"),
    (["--side", "100", "--check"], "the frame side is 100; expected a multiple of 16"),
    (["--side", "4112", "--check"], "the frame side is 4112; expected a multiple of 16 from 64 to 4096"),
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
    said = capsys.readouterr().err
    assert "none of 2 labelled cases can be used" in said and "nothing is segmented in it yet (Scheibe: empty)" in said


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


def test_labels_edited_between_a_kill_and_the_rerun_are_told(cases, command, home, capsys) -> None:
    assert main(command(cases, steps=15)) == 0
    child = spoken(command(cases, steps=15), home)
    wait_for(child, "look")
    child.kill()
    child.communicate()
    (left,) = workspace().glob("training-*.pt")
    voxels, mask = volume(0)
    write(cases, "Fall 0", voxels, {"Scheibe": ~mask})
    capsys.readouterr()
    assert main(command(cases, steps=15)) == 0
    told = "the training that was interrupted here was of other cases, labels, options or another base"
    assert told in capsys.readouterr().err and left.exists()
    assert main(command(cases, steps=12)) == 0
    assert told not in capsys.readouterr().err, "a pack was made since"


def test_other_options_after_a_stop_are_told_to_begin_anew(cases, command, home, capsys) -> None:
    child = spoken(command(cases, steps=100_000), home)
    wait_for(child, "look")
    child.stdin.write(b"stop\n")
    child.stdin.flush()
    assert wait_for(child, "done")["stopped"] and child.wait(60) == 0
    (left,) = workspace().glob("training-*.pt")
    told = "the training that was interrupted here was of other cases, labels, options or another base"
    assert main(command(cases, steps=12)) == 0
    assert told in capsys.readouterr().err and left.exists()
    assert main(command(cases, steps=9)) == 0
    assert told not in capsys.readouterr().err, "a pack was made since"


def test_two_at_once_are_refused(cases, command, capsys) -> None:
    with alone(workspace(), ""):
        assert main(command(cases)) == 2
    said = capsys.readouterr().err
    assert f"in use by another process ({os.getpid()})" in said and "--workspace" in said
    assert main(command(cases)) == 0


def test_a_file_where_versions_should_be_is_told_before_anything_is_encoded(cases, command, capsys, home) -> None:
    taken = home / "packs" / f"{NAME}.versions"
    taken.parent.mkdir()
    taken.write_bytes(b"")
    assert main(command(cases)) == 2
    assert f"{taken} cannot be written (File exists)" in capsys.readouterr().err
    assert not list(workspace().glob("views-*"))
    taken.unlink()
    assert main(command(cases)) == 0


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(cases, command, capsys, monkeypatch) -> None:
    assert main(command(cases, steps=15)) == 0
    whole, before, save = tensors(), packs.find(NAME).read_bytes(), torch.save
    stored = []

    def full(state, path):
        if len(stored) == 2:
            raise RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")
        stored.append(state["progress"]["step"])
        save(state, path)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        assert main(command(cases, steps=15)) == 2
    assert stored == [3, 6] and "cannot be written" in capsys.readouterr().err
    assert packs.find(NAME).read_bytes() == before and not list(workspace().glob(".promise-*"))
    assert main(command(cases, steps=15)) == 0
    assert "going on from step 6" in capsys.readouterr().err
    assert all(torch.equal(value, whole[key]) for key, value in tensors().items())


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


NO_MEMORY = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"


@pytest.mark.parametrize(("place", "step"), [
    ("training.Training.step", "train"),
    ("dataset.Encoder._store", "encode"),
])  # fmt: skip
@pytest.mark.parametrize("error", [RuntimeError(NO_MEMORY), MemoryError()], ids=["torch", "python"])
def test_memory_that_runs_out_is_told(cases, command, capsys, monkeypatch, place, step, error) -> None:
    def no_memory(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(f"ProMISeCore.{place}", no_memory)
        assert main(command(cases)) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"not enough memory to {step}" in said and "--backbone" in said
    assert main(command(cases)) == 0


def test_memory_that_runs_out_while_the_cases_are_looked_at_is_told(cases, command, capsys, monkeypatch) -> None:
    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr("ProMISeCore.survey.volumes.read", no_memory)
    assert main(command(cases)) == 2
    assert "not enough memory" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".nrrd", ".png"])
def test_empty_label_maps_are_refused(tmp_path, command, capsys, suffix) -> None:
    for number in range(2):
        voxels, mask = volume(number)
        voxels = voxels if suffix == ".nrrd" else voxels[0].astype(np.uint8)
        image = tmp_path / f"c{number}{'.nrrd' if suffix == '.nrrd' else '.jpg'}"
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(image))
        name = f"c{number}{'_label' if suffix == '.nrrd' else ''}{suffix}"
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros(voxels.shape, np.uint8)), str(tmp_path / name))
    assert main(command(tmp_path)) == 2
    said = capsys.readouterr().err
    assert "segment" in said and "Traceback" not in said and len(said.splitlines()) == 1


def test_an_image_in_place_of_labels_is_told(tmp_path, command, capsys) -> None:
    for number in range(3):
        voxels, mask = volume(number)
        write(tmp_path, f"c{number}", voxels, {"Scheibe": mask})
    (tmp_path / "c1.seg.nrrd").unlink()
    sitk.WriteImage(
        sitk.GetImageFromArray(np.arange(voxels.size).reshape(voxels.shape)), str(tmp_path / "c1_label.nrrd")
    )
    assert main(command(tmp_path, "--check")) == 0
    assert "at most 64 can be taught: is it an image" in capsys.readouterr().out


def test_slices_that_are_too_thin_are_left_out(cases, command, capsys) -> None:
    voxels, mask = volume(7)
    write(cases, "thin", voxels[:, 14:17], {"Scheibe": mask[:, 14:17]})
    assert main(command(cases, "--check")) == 0
    assert "thin is left out: 'thin' has axial slices of only 3 × 40 pixels" in capsys.readouterr().out


def test_held_out_labels_that_go_meanwhile_cost_the_trial_of_smoothing_alone(
    cases, command, capsys, monkeypatch
) -> None:
    own = Training.run

    def run(self, *arguments):
        reached = own(self, *arguments)
        (cases / "Fall 0.seg.nrrd").unlink(missing_ok=True)
        return reached

    monkeypatch.setattr(Training, "run", run)
    assert main(command(cases, "--held-out", "Fall 0")) == 0
    said = capsys.readouterr().err
    assert "was not tried" in said and "the labels of Fall 0 cannot be read any more" in said
    assert packs.read_manifest(packs.find(NAME)).smoothing_mm == 0


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("encoded.txt", lambda path: path.write_bytes(b" ")),
        ("masks.npy", lambda path: path.write_bytes(b"")),
        ("embedding.npy", lambda path: path.write_bytes(path.read_bytes()[:-4000])),
        ("known.npy", lambda path: path.unlink()),
    ],
)
def test_damaged_views_are_encoded_anew(cases, command, name, spoil) -> None:
    assert main(command(cases, steps=4)) == 0
    whole = tensors()
    for folder in workspace().glob("views-*"):
        spoil(folder / name)
    assert main(command(cases, steps=4)) == 0
    assert all(torch.equal(value, whole[key]) for key, value in tensors().items())


def test_a_disk_that_others_fill_is_told_before_anything_is_encoded(cases, command, capsys, monkeypatch) -> None:
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(dataset.os, "posix_fallocate", full, raising=False)
    assert main(command(cases)) == 2
    assert "the views of the cases take" in capsys.readouterr().err


def test_a_disk_that_is_too_small_is_told_at_once_and_what_is_encoded_counts(cases, command, capsys, monkeypatch):
    free = 20_000_000  # as much as checkpoints and the pack take: nothing is left for views
    monkeypatch.setattr("ProMISeCore.estimate.shutil.disk_usage", lambda folder: SimpleNamespace(free=free))
    assert main(command(cases)) == 2
    assert "of disk, 20.0 MB are free in" in capsys.readouterr().err and not list(workspace().glob("views-*"))
    (workspace() / "more").write_bytes(bytes(10**7))
    assert main(command(cases)) == 2, "that is no view"
    (workspace() / "views-0").mkdir()
    (workspace() / "more").rename(workspace() / "views-0" / "more")
    assert main(command(cases)) == 0


def test_a_name_that_looks_like_a_value_or_an_option_and_spaces_around_it(tmp_path, command) -> None:
    names = ("T=1", "-x", "LV")
    for number in range(2):
        voxels, mask = volume(number)
        write(tmp_path / "names", f"c{number}", voxels, dict.fromkeys(names, mask))
    assert main(command(tmp_path / "names", "--targets", "T=1=", " -x", "LV ")) == 0
    assert tuple(target.name for target in packs.read_manifest(packs.find(NAME)).targets) == names


def test_a_name_and_its_value_in_label_maps_are_one_target(tmp_path, command, capsys) -> None:
    voxels, mask = volume(0)
    write(tmp_path, "a", voxels, {"linke Scheibe": mask})
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "a.nrrd")), str(tmp_path / "b.nrrd"))
    labels = sitk.GetImageFromArray(mask.astype(np.uint8))
    labels.CopyInformation(sitk.ReadImage(str(tmp_path / "a.nrrd")))
    sitk.WriteImage(labels, str(tmp_path / "b-label.nrrd"))
    for named in (["linke Scheibe", "linke Scheibe=1"], ["linke Scheibe=1", "linke Scheibe"]):
        assert main(command(tmp_path, "--targets", *named, "--check", "--events")) == 0
        (target,) = events(capsys)[0]["report"]["targets"]
        assert (target["name"], target["value"], target["cases"]) == ("linke Scheibe", 1, 2)
    for named in (["a", "a"], ["a=1", "a=2"]):
        assert main(command(tmp_path, "--targets", *named, "--check")) == 2


def test_targets_may_be_called_as_the_report_calls_them(tmp_path, command, capsys) -> None:
    for number in range(2):
        voxels, mask = volume(number)
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / f"c{number}.nrrd"))
        sitk.WriteImage(sitk.GetImageFromArray(3 * mask.astype(np.uint8)), str(tmp_path / f"c{number}_label.nrrd"))
    assert main(command(tmp_path, "--targets", "label 3", "--check", "--events")) == 0
    (target,) = events(capsys)[0]["report"]["targets"]
    assert (target["name"], target["value"], target["cases"]) == ("label 3", 3, 2)


def test_views_that_were_to_be_encoded_anew_when_the_disk_was_full_are_not_taken_for_whole(
    cases, command, monkeypatch
) -> None:
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    assert main(command(cases, steps=4)) == 0
    whole = tensors()
    for folder in workspace().glob("views-*"):
        path = folder / "embedding.npy"
        path.write_bytes(path.read_bytes()[:-4000])
    with monkeypatch.context() as patch:
        patch.setattr(dataset.os, "posix_fallocate", full)
        assert main(command(cases, steps=4)) == 2
    assert main(command(cases, steps=4)) == 0
    assert all(torch.equal(value, whole[key]) for key, value in tensors().items())


def test_where_targets_are_named_label_maps_may_hold_anything_else(tmp_path, command, capsys) -> None:
    for number in range(3):
        voxels, mask = volume(number)
        labels = 100 + np.arange(voxels.size).reshape(voxels.shape) % (90 if number else 10)
        labels[mask] = 1 if number else 100
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / f"c{number}.nrrd"))
        sitk.WriteImage(sitk.GetImageFromArray(labels.astype(np.int16)), str(tmp_path / f"c{number}_label.nrrd"))
    assert main(command(tmp_path, "--targets", "spleen=1", "--check", "--events")) == 0
    report = events(capsys)[0]["report"]
    assert [case["use"] == "left out" for case in report["cases"]] == [True, False, False]
    assert [problem["case"] for problem in report["problems"] if problem["severity"] == "error"] == ["c0"]


def test_an_empty_segment_that_nobody_asked_for_is_left_out(cases, command, capsys) -> None:
    voxels, mask = volume(9)
    write(cases, "rest", voxels, {"Scheibe": mask, "Rest": mask & False})
    assert main(command(cases, "--check")) == 0
    assert "'Rest' is not labelled in any case, so that it is left out" in capsys.readouterr().out
    assert main(command(cases, "--check", "--targets", "Scheibe", "Rest")) == 2
    told = capsys.readouterr().err
    assert "the target 'Rest' is not labelled in any case" in told and "not known in" not in told, "errors alone"


def test_a_label_map_that_is_empty_and_a_case_that_is_left_out_are_called_so(cases, command, capsys) -> None:
    voxels, mask = volume(9)
    write(cases, "blank", voxels, {"Scheibe": mask})
    (cases / "blank.seg.nrrd").unlink()
    empty = sitk.GetImageFromArray(np.zeros(mask.shape, np.uint8))
    empty.CopyInformation(sitk.ReadImage(str(cases / "blank.nrrd")))
    sitk.WriteImage(empty, str(cases / "blank-label.nrrd"))
    why = "its segmentation is empty; segment a slice, or leave it out"
    assert main(command(cases, "--check")) == 0
    assert f"blank is left out: {why}" in capsys.readouterr().out
    assert main(command(cases, "--held-out", "blank")) == 2
    assert f"--held-out names blank, which is left out: {why}" in capsys.readouterr().err


def test_files_that_do_not_pair_are_told_how_to_be_named(tmp_path, command, capsys) -> None:
    voxels, mask = volume(0)
    for name in "ab":
        write(tmp_path / "odd", name, voxels, {"Scheibe": mask})
        (tmp_path / "odd" / f"{name}.seg.nrrd").rename(tmp_path / "odd" / f"Segmentation {name}.seg.nrrd")
    assert main(command(tmp_path / "odd")) == 2
    assert "none of 2 images has a segmentation of its name; name them X.jpg" in capsys.readouterr().err


def test_a_block_of_slices_amid_a_volume_and_an_image_that_is_there_twice_are_told(tmp_path, command, capsys) -> None:
    voxels, mask = volume(0, 10)
    block = np.isin(np.arange(10), [4, 5, 6])[:, None, None]
    write(tmp_path / "block", "cut off", voxels, {"Scheibe": mask & block})
    write(tmp_path / "block", "twice", voxels, {"Scheibe": mask})
    options = ["--held-out", "none", "--check"]
    assert main(command(tmp_path / "block", *options)) == 0
    told = capsys.readouterr().out
    assert "abruptly, or is missing in between, in 1 of 2 cases (cut off): the slices beyond" in told
    assert "twice: it is the same image as cut off: unless two people have segmented it" in told
    for rule in ("unknown", "background"):
        assert main(command(tmp_path / "block", *options, "--unlabelled-slices", rule)) == 0
        assert "abruptly" not in capsys.readouterr().out
    write(tmp_path / "block", "cut off", voxels, {"Scheibe": mask & block, "ProMISe unknown": mask & False})
    assert main(command(tmp_path / "block", *options)) == 0
    assert "abruptly" not in capsys.readouterr().out, "the file says itself what is unknown"


def test_the_check_warns_of_a_backbone_that_is_not_installed(cases, command, capsys) -> None:
    assert main(command(cases, "--backbone", "sam_vit_b", "--check")) == 0
    assert "the backbone sam_vit_b is not installed" in capsys.readouterr().out


def test_removing_a_pack_tells_where_its_cases_still_are(cases, command, capsys) -> None:
    assert main(command(cases)) == 0
    capsys.readouterr()
    assert main(["packs", "--remove", unicodedata.normalize("NFD", NAME)]) == 0
    assert f"what it was taught from is still in {workspace()}" in capsys.readouterr().out
