"""`promise teach`, end to end on tiny data: what comes out of it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from small_cases import NAME, all_events, events, spoken, tensors, volume, wait_for, workspace, write

from ProMISeCore import packs, teach, versions
from ProMISeCore.__main__ import main
from ProMISeCore.case_encoder import held_slices
from ProMISeCore.commands import Commands
from ProMISeCore.errors import Cancelled, InputError
from ProMISeCore.estimate import Estimate
from ProMISeCore.survey import Survey
from ProMISeCore.teach import Words
from ProMISeCore.wish import Wish


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
        {"name": "Scheibe", "value": None, "color": [1.0, 0.6, 0.2], "cases": 4, "slices": 24,
         "voxels": report["targets"][0]["voxels"], "missing": [], "empty": []}
    ]  # fmt: skip
    assert report["cases"][0]["shape"] == [6, 32, 40] and report["cases"][0]["spacing_mm"] == [1, 1, 4]
    assert [case["use"] for case in report["cases"]].count("held-out") == 1
    assert report["proposal"]["orientation"] == "axial" and report["estimate"]["disk_bytes"] > 0
    assert not workspace().exists() and not packs.folder().exists()


def test_a_base_says_the_frame_side_that_the_check_counts_with(cases, command, capsys) -> None:
    assert main([*command(cases), "--side", "128"]) == 0
    capsys.readouterr()
    found = {}
    for side, more in ((64, ["--side", "64"]), (128, ["--side", "128"]), ("base", ["--base", NAME])):
        arguments = [word for word in command(cases) if word not in ("--side", "64")]
        assert main([*arguments, *more, "--check", "--events"]) == 0
        found[side] = events(capsys)[0]["report"]["estimate"]["disk_bytes"] - 20_000_000  # checkpoints and pack
    assert found["base"] == found[128] == 4 * found[64]


def test_how_far_reading_the_cases_is_is_told_from_the_first_one_on(cases, command, capsys, monkeypatch) -> None:
    monkeypatch.setattr(teach, "_TOLD_EVERY", 0.0)
    for targets, parts in ((["--targets", "Scheibe"], 2), ([], 3)):
        assert main([*command(cases), *targets, "--check", "--events"]) == 0
        *told, last = all_events(capsys)
        count = len(last["report"]["cases"])
        expected = [
            (what, done, count) for what in ("segments", "images", "segmentations")[-parts:] for done in range(count)
        ]
        assert [(each["what"], each["done"], each["total"]) for each in told] == expected
        assert {each["event"] for each in told} == {"checking"} and count > 1


def test_a_stop_is_obeyed_while_cases_are_read_and_the_end_of_stdin_by_a_teaching() -> None:
    """A script that checks without a stdin still gets its report."""
    commands, teller = Commands(None), SimpleNamespace(counted=lambda cases, what: iter(cases))
    check, teaching = (teach._counted(teller, commands, is_check, range(5), "images") for is_check in (True, False))
    assert next(check) == next(teaching) == 0
    commands.gone = commands.stopped = True
    assert next(check) == 1
    with pytest.raises(KeyboardInterrupt):
        next(teaching)
    commands.gone = False
    with pytest.raises(Cancelled, match="stopped while the cases were read"):
        next(check)


def test_what_a_target_begins_from_is_told(cases, command, capsys, monkeypatch) -> None:
    assert main(command(cases, steps=2)) == 0
    for least, which in ((-1.0, f"what is installed as {NAME}: Scheibe"), (2.0, "random numbers: nothing fits it yet")):
        monkeypatch.setattr("ProMISeCore.start._LEAST", least)
        assert main(command(cases, "--start", NAME, "--name", "another", steps=2)) == 0
        assert f"'Scheibe' begins from {which}" in capsys.readouterr().err


def test_a_start_on_another_backbone_is_refused() -> None:
    with pytest.raises(InputError, match="mobile_sam, the pack of --start was taught on tiny: choose that"):
        teach._starts("heart", "mobile_sam")
    assert [pack.path.stem for pack in teach._starts("heart", "tiny")] == ["heart"]


def test_few_slices_end_a_teaching_long_before_its_minutes(cases, command, capsys, monkeypatch) -> None:
    monkeypatch.setattr("ProMISeCore.budget._LEAST_STEPS", 4)
    words = command(cases, "--passes", "0.5", "--minutes", "60", "--held-out", "Fall 1")
    at = words.index("--steps")
    assert main([*words[:at], *words[at + 2 :]]) == 0
    told = capsys.readouterr().err
    assert told.index("is learned from now") < told.index("the slices of 4 cases were learned from 1 times each")
    steps = [int(step) for step in re.findall(r"step (\d+):", told)]
    judged = [int(step) for step in re.findall(r"step (\d+): held-out Dice Scheibe", told)]
    assert max(judged) == 4 + 9  # 18 slices in batches of 4: half of them need 2.25, refiners 8 × 2.25 in twos
    assert max(steps) == 13 + 4
    assert "held-out Dice none, 0.0 s left" in told
    assert packs.read_manifest(packs.find(NAME)).training["command"].endswith("--minutes 60 --passes 0.5")


def test_larger_frames_take_longer_and_fewer_of_them_are_proposed(cases) -> None:
    own, larger = (Survey([str(cases)], None, Wish("a", side=side, minutes=1.0)) for side in (512, 1024))
    for survey, seconds in ((own, 0.06), (larger, 0.24)):
        took = survey.estimate(cases)
        assert took["encode_seconds"] / took["views"] == pytest.approx(seconds, rel=0.02)
    assert larger.views < own.views


def test_the_estimate_counts_slices_that_are_held_out_of_cases_as_what_they_take(tmp_path, command, capsys) -> None:
    voxels, mask = volume(0, slices=20)
    for name in ("T1", "T2"):
        write(tmp_path / "one", name, voxels + int(name[1]), {"Scheibe": mask})
    words = command(tmp_path / "one", "--slices", "8", "--judge-only", "--events")
    assert main([*words, "--check"]) == 0
    assert events(capsys)[0]["report"]["estimate"]["views"] == 2 * 8 * 2 + 2 * 8 // 4
    survey = Survey([str(tmp_path / "one")], None, Wish("a", minutes=5.0, held_out=()))
    alone = Survey([str(tmp_path / "one" / "T1.nrrd")], None, Wish("a", minutes=5.0))
    assert (survey.slices, alone.slices) == (24, 48)


def test_memory_counts_the_last_training_beside_the_one_that_is_judged(cases) -> None:
    survey = Survey([str(cases)], None, Wish("a", slices=6, views=2))
    case = replace(survey.usable[0], use="both")
    alone, whole = (
        Estimate(survey.wish, False, 64, [case], rest, [case]).entries(cases, 2, 0) for rest in ([], [case])
    )
    assert alone["views"] == whole["views"]
    assert whole["memory_bytes"] - alone["memory_bytes"] == 3 * (2 * 6) * 2 * 16 * 16  # views, targets, pixels


def test_one_volume_is_split_by_slices_and_one_slice_is_refused(tmp_path, command, capsys) -> None:
    voxels, mask = volume(0)
    write(tmp_path / "one", "only", voxels, {"Scheibe": mask})
    assert main(command(tmp_path / "one", "--events")) == 130  # stdin of the tests has ended
    assert main(command(tmp_path / "one")) == 0
    assert "it is the only case" in capsys.readouterr().err
    assert packs.read_manifest(packs.find(NAME)).scores[0]["data"].startswith("slices held out of the cases learned")
    write(tmp_path / "slice", "flat", voxels[:1], {"Scheibe": mask[:1]})
    assert main(command(tmp_path / "slice")) == 2
    assert "segment at least two" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("holds", "held"),
    [
        ({2: [1], 3: [1], 5: [0]}, [3]),  # two slices with the target: one judges
        ({1: [0], 4: [1], 5: [1], 6: [1], 9: [0]}, [5, 9]),
        ({1: [1, 0], 2: [1, 1], 3: [1, 0], 4: [1, 0]}, [3]),  # the other target's only slice is learned from
        ({1: [1, 0], 2: [1, 0], 7: [0, 1], 8: [0, 1]}, [2, 8]),
        ({n: [1] for n in range(8)}, [1, 5]),
    ],
)
def test_slices_of_an_only_case_that_are_held_out(holds, held) -> None:
    assert held_slices(holds) == held


def test_a_base_says_how_slices_are_seen_in_a_check_too(cases, command, capsys) -> None:
    seen = ["--orientation", "coronal", "--window", "fixed:0:300", "--channels", "repeat"]
    assert main(command(cases, *seen)) == 0
    capsys.readouterr()
    assert main(command(cases, "--base", NAME, "--check", "--events")) == 0
    proposal = events(capsys)[0]["report"]["proposal"]
    assert (proposal["orientation"], proposal["channels"]) == ("coronal", "repeat")
    assert proposal["window"] == {"mode": "fixed", "low": 0, "high": 300}
    assert main(command(cases, "--base", NAME, "--orientation", "axial")) == 2
    assert "--orientation is axial; the pack of --base was taught with coronal" in capsys.readouterr().err


def test_ct_is_known_where_a_reader_gives_whole_numbers_as_floats(tmp_path) -> None:
    for kind, modality in ((np.float32, "CT"), (np.int16, "CT"), (None, "MR")):
        folder = tmp_path / str(kind)
        for number in range(2):
            voxels, mask = volume(number)
            voxels = (voxels - 1000.0) * (1 if kind else 1.01)
            write(folder, f"c{number}", voxels.astype(kind or np.float32), {"Scheibe": mask})
        assert Survey([str(folder)], None, Wish("a")).modality == modality


@pytest.mark.parametrize("resampled", [0, 1, 3])
def test_resampled_ct_is_ct(tmp_path, resampled) -> None:
    for number in range(3):
        voxels, mask = volume(number)
        voxels[:, 0], fractions = -1024, 0.37 * (number < resampled)
        write(tmp_path, f"c{number}", voxels + fractions * (voxels > 0).astype(np.float32), {"Scheibe": mask})
    survey = Survey([str(tmp_path)], None, Wish("a"))
    assert (survey.modality, survey.window["mode"], survey.problems) == ("CT", "fixed", [])


@pytest.mark.parametrize(("others", "modality", "mode"), [(1, "CT", "fixed"), (2, "MR", "percentile")])
def test_cases_that_are_no_ct_as_the_others_are_named(tmp_path, others, modality, mode) -> None:
    for number in range(3):
        voxels, mask = volume(number)
        if number >= others:
            voxels[:, 0] = -1024
        write(tmp_path, f"c{number}", voxels, {"Scheibe": mask})
    survey = Survey([str(tmp_path)], None, Wish("a"))
    assert (survey.modality, survey.window["mode"]) == (modality, mode)
    (told,) = [problem["what"] for problem in survey.problems]
    names = ("show no air of a CT, as the others do (c0)", "hold a CT's values, unlike the others (c2)")
    assert told.startswith(f"1 of 3 cases {names[others - 1]}")


@pytest.mark.parametrize("stored", ["RAS", "LPS", "IPR", "SAL"])
def test_slices_are_proposed_as_they_were_acquired_however_they_are_stored(tmp_path, stored) -> None:
    for number in range(2):
        voxels, mask = volume(number, 14)
        for what, values in (("image", voxels), ("label", mask.astype(np.uint8))):
            image = sitk.GetImageFromArray(values)  # slices along right to left
            image.SetSpacing((0.5, 0.5, 4.0))
            image.SetDirection((0, 0, 1, 1, 0, 0, 0, -1, 0))
            sitk.WriteImage(sitk.DICOMOrient(image, stored), str(tmp_path / f"p{number}_{what}.nii.gz"))
    survey = Survey([str(tmp_path)], None, Wish("a"))
    assert survey.orientation == "sagittal" and survey.ready


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


def test_encoding_is_told_from_its_first_batch_on_and_what_is_there_counts(cases, command, monkeypatch) -> None:
    told: list[dict] = []
    monkeypatch.setattr(
        Words, "tell", lambda self, event, **values: told.append(values) if event == "encoding" else None
    )
    assert main(command(cases, "--held-out", "none")) == 0
    assert [event["done"] for event in told] == [8, 12, 20, 24, 32, 36, 44, 48, 48]
    assert {event["total"] for event in told} == {48} and told[-1]["seconds_left"] == 0
    counts = sorted(workspace().glob("views-*/encoded.txt"))
    assert len(counts) == 4
    counts[0].write_text("8")
    told.clear()
    assert main(command(cases, "--held-out", "none")) == 0
    assert len(told) == 2 and told[0]["done"] % 12 == 0 and told[-1]["done"] == 48


def test_continuing_starts_from_the_base_and_encodes_only_what_is_new(cases, command, monkeypatch, capsys) -> None:
    from ProMISeCore import dataset

    judge = ("--held-out", "Fall 3", "--judge-only")
    assert main(command(cases, *judge, steps=30)) == 0
    path = packs.find(NAME)
    taught = packs.read_manifest(path)
    assert taught.smoothing_mm == 0, "teach does not look for it"
    after = taught.scores[0]["dice"]
    packs.save(path, replace(taught, smoothing_mm=1.5), packs.tensors(path), half=True)
    voxels, mask = volume(8)
    write(cases, "neu", voxels, {"Scheibe": mask})
    stored, store = [], dataset.Encoder._store
    monkeypatch.setattr(dataset.Encoder, "_store", lambda self, *given: (stored.append(1), store(self, *given))[1])
    assert main(command(cases, *judge, "--base", NAME, steps=30)) == 0
    assert len(stored) == 2, "12 views of the new case in batches of 8"
    manifest = packs.read_manifest(packs.find(NAME))
    assert manifest.scores[0]["dice"] >= after - 0.001, "a pack's numbers are kept in half precision"
    assert manifest.smoothing_mm == 1.5
    assert manifest.training["data"] == f"5 cases of the user's own, continued from {NAME} version 1"


def test_continuing_goes_on_with_the_refiner_and_a_new_target_gets_its_own(cases, command, monkeypatch) -> None:
    from ProMISeCore import teaching

    begun, begin = [], teaching.Teaching._begin

    def watched(self, training) -> None:
        begin(self, training)
        begun.append({key: value.clone() for key, value in training.model.tensors().items()})

    monkeypatch.setattr(teaching.Teaching, "_begin", watched)
    assert main(command(cases, "--rate", "0.01", "--held-out", "none", steps=20)) == 0
    taught, own = packs.read_manifest(packs.find(NAME)).refiners, tensors()
    assert taught == ({"width": 16, "patch": 1, "targets": ["Scheibe"]},)
    assert main(command(cases, "--base", NAME, "--held-out", "none")) == 0
    refiner = [key for key in own if key.startswith("refiners.")]
    assert refiner and all(torch.equal(begun[1][key], own[key]) for key in refiner)
    voxels, mask = volume(8)
    write(cases, "neu", voxels, {"Scheibe": mask, "Rand": np.roll(mask, 9, 2)})
    assert main(command(cases, "--base", NAME, "--held-out", "none")) == 0
    assert [info["targets"] for info in packs.read_manifest(packs.find(NAME)).refiners][0] == ["Scheibe"]
    now = {key: value for key, value in begun[2].items() if key.startswith("refiners.0.")}
    assert not all(torch.equal(value, own[key]) for key, value in now.items()), "of version 2"
    assert torch.equal(begun[2]["refiners.1.read.weight"], torch.zeros(1, 16, 1, 1)), "a new one, which adds nothing"


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
