"""`promise teach --base`: what the new version has from the pack that it goes on from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from small_cases import NAME, spoken, tensors, volume, wait_for, write

from ProMISeCore import exclusion, packs, teach, versions
from ProMISeCore.__main__ import main
from ProMISeCore.refiner import Refiner
from ProMISeCore.survey import Survey
from ProMISeCore.wish import Wish


def test_targets_of_the_base_that_are_not_taught_stay_as_they_are(tmp_path, command) -> None:
    for number in range(3):
        voxels, mask = volume(number)
        write(tmp_path, f"c{number}", voxels, {"Scheibe": mask, "Rand": np.roll(mask, 9, 2)})
    assert main(command(tmp_path, "--rate", "0.01", "--held-out", "c1", steps=20)) == 0
    before, own = packs.read_manifest(packs.find(NAME)), tensors()
    assert [info["targets"] for info in before.refiners] == [["Scheibe", "Rand"]], "one for both"
    only = ("--base", NAME, "--targets", "Rand", "--rate", "0.01", "--held-out", "c1")
    assert main(command(tmp_path, *only, steps=20)) == 0
    after, now = packs.read_manifest(packs.find(NAME)), tensors()
    assert after.version == "2" and after.targets == before.targets
    theirs, kept = packs.part_of(own, "0."), packs.part_of(now, "0.")
    assert theirs.keys() == kept.keys() and all(torch.equal(value, kept[key]) for key, value in theirs.items())
    assert [info["targets"] for info in after.refiners] == [["Rand"], ["Scheibe"]]
    picture, logits = torch.rand(2, 3, 32, 32), torch.randn(2, 1, 16, 16)
    was, is_now = Refiner(2), Refiner(1)
    was.load_state_dict(packs.part_of(own, "refiners.0."))
    is_now.load_state_dict(packs.part_of(now, "refiners.1."))
    torch.testing.assert_close(is_now.redrawn(picture, logits, 0), was.redrawn(picture, logits, 0))
    is_now.load_state_dict(packs.part_of(now, "refiners.0."))
    changed = (is_now.redrawn(picture, logits, 0) - was.redrawn(picture, logits, 1)).detach()
    assert float(changed.abs().max()) > 0.01, "Rand has learned"
    assert {score["target"] for score in after.scores} == {"Rand", "Scheibe"}
    assert after.scores[-1] == before.scores[0], "of the version that it is from"
    assert f"continued from {NAME} version 1; Scheibe as in {NAME} version 1 (3 cases" in after.description
    assert main(command(tmp_path, *only, "--drop", "Scheibe")) == 0
    assert [info.name for info in packs.read_manifest(packs.find(NAME)).targets] == ["Rand"]


def test_a_base_on_another_backbone_or_frame_side_is_refused(cases, command, capsys) -> None:
    assert main(command(cases)) == 0
    capsys.readouterr()
    assert main(command(cases, "--base", "heart", "--side", "768")) == 2
    assert "'heart' was made for the backbone tiny with fingerprint" in capsys.readouterr().err
    assert main([*command(cases, "--base", NAME), "--side", "128"]) == 2
    assert "the pack of --base was taught with frames of 64: leave it out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--drop", "Rand"], "give that as --base"),
        (["--base", NAME, "--drop", "Scheibe"], "'Scheibe' is to be taught and to be dropped"),
    ],
)
def test_what_cannot_be_dropped_is_told(cases, command, capsys, options, message) -> None:
    assert main(command(cases)) == 0
    assert main(command(cases, *options)) == 2
    assert message in capsys.readouterr().err
    assert packs.read_manifest(packs.find(NAME)).version == "1"


def test_more_targets_than_a_pack_holds_are_told_before_anything_is_encoded(tmp_path, command, capsys) -> None:
    _, mask = volume(0)
    for number in range(2):
        write(tmp_path / "cases", f"c{number}", volume(number)[0], {"Scheibe": mask})
        write(tmp_path / "other", f"c{number}", volume(number)[0], {"Rand": mask})
    assert main(command(tmp_path / "cases")) == 0
    path = packs.find(NAME)
    manifest, own = packs.read_manifest(path), tensors()
    many = [replace(manifest.targets[0], name=f"T{number}") for number in range(64)]
    parts = {f"{number}.{key}": value for number in range(64) for key, value in packs.part_of(own, "0.").items()}
    packs.save(path, replace(manifest, targets=many, refiners=(), scores=()), parts)
    capsys.readouterr()
    assert main(command(tmp_path / "other", "--base", NAME)) == 2
    assert "these would be 65 targets, a pack holds 64" in capsys.readouterr().err


def test_targets_of_the_base_that_are_not_taught_are_told(tmp_path, command, capsys) -> None:
    for number in range(2):
        voxels, mask = volume(number)
        write(tmp_path / "two", f"c{number}", voxels, {"Scheibe": mask, "Rand": ~mask})
        write(tmp_path / "other", f"c{number}", voxels, {"Scheibe 2": mask})
    assert main(command(tmp_path / "two")) == 0
    assert main(command(tmp_path / "two", "--base", NAME, "--targets", "Rand", "--check")) == 0
    assert "also knows Scheibe: the new version keeps that as it is" in capsys.readouterr().out
    assert main(command(tmp_path / "other", "--base", NAME)) == 0
    told = capsys.readouterr().err
    assert "none of the targets of the pack to go on from (Scheibe, Rand) is taught" in told
    assert "rename the segment, or name a label map's value with --targets 'Scheibe=1'" in told
    assert [info.name for info in packs.read_manifest(packs.find(NAME)).targets] == ["Scheibe", "Rand", "Scheibe 2"]
    assert "continued from" not in packs.read_manifest(packs.find(NAME)).description


def test_a_base_of_volumes_is_not_gone_on_with_from_pictures(cases, command, capsys, tmp_path) -> None:
    assert main(command(cases)) == 0
    voxels, mask = volume(5)
    for number in range(3):
        sitk.WriteImage(sitk.GetImageFromArray(voxels[number].astype(np.uint8)), str(tmp_path / f"p{number}.jpg"))
        sitk.WriteImage(sitk.GetImageFromArray(mask[number].astype(np.uint8)), str(tmp_path / f"p{number}.png"))
    assert main(command(tmp_path, "--base", NAME, "--targets", "Scheibe=1")) == 2
    assert "is one for axial slices, these are not; teach anew" in capsys.readouterr().err
    assert len(versions.listing(NAME)) == 1


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Three volumes with two targets that do not meet."""
    for number in range(3):
        voxels, mask = volume(number)
        write(tmp_path / "two", f"c{number}", voxels, {"Scheibe": mask, "Rand": np.roll(mask, 18, 2) & ~mask})
    return tmp_path / "two"


@pytest.fixture
def third(tmp_path: Path) -> Path:
    """Two volumes with another target, which lies on one of the others."""
    for number in range(2):
        voxels, mask = volume(number)
        write(tmp_path / "third", f"c{number}", voxels, {"Kern": mask & np.roll(mask, 5, 2)})
    return tmp_path / "third"


def test_the_order_of_targets_stays_and_new_ones_come_last(two, third, command) -> None:
    """A label map's values follow it."""
    assert main(command(two)) == 0
    assert main(command(two, "--base", NAME, "--targets", "Rand", "Scheibe")) == 0
    assert [info.name for info in packs.read_manifest(packs.find(NAME)).targets] == ["Scheibe", "Rand"]
    own = tensors()
    assert main(command(third, "--base", NAME)) == 0
    assert [info.name for info in packs.read_manifest(packs.find(NAME)).targets] == ["Scheibe", "Rand", "Kern"]
    kept = [key for key in own if key.startswith(("0.", "1."))]
    assert kept and all(torch.equal(own[key], tensors()[key]) for key in kept)


def test_targets_that_nobody_has_seen_together_may_overlap(two, third, command) -> None:
    assert main(command(two)) == 0
    first = packs.read_manifest(packs.find(NAME))
    assert first.exclusive and first.overlaps == () and first.rivals("Rand") == ("Scheibe",)
    assert main(command(third, "--base", NAME)) == 0
    second = packs.read_manifest(packs.find(NAME))
    assert second.overlaps == (("Scheibe", "Kern"), ("Rand", "Kern"))
    assert (second.rivals("Rand"), second.rivals("Kern")) == (("Scheibe",), ())
    assert main(command(third, "--base", NAME)) == 0
    assert packs.read_manifest(packs.find(NAME)).overlaps == second.overlaps, "still nobody has"


def test_what_cases_say_of_targets_together_counts(tmp_path: Path) -> None:
    voxels, mask = volume(0)
    write(tmp_path, "ab", voxels, {"a": mask, "b": np.roll(mask, 4, 2)})
    write(tmp_path, "ac", voxels, {"a": mask, "c": np.roll(mask, 18, 2) & ~mask})
    survey = Survey([str(tmp_path)], None, Wish("x"))
    assert [survey.are_apart(*pair) for pair in ("ab", "ac", "bc")] == [False, True, None]


@pytest.mark.parametrize(
    ("apart", "entries"),
    [
        ({"ab", "ac", "bc"}, {"exclusive": True, "overlaps": ()}),
        ({"ab"}, {"exclusive": True, "overlaps": (("a", "c"), ("b", "c"))}),
        (set(), {"exclusive": False, "overlaps": ()}),
    ],
)
def test_what_a_manifest_says_of_them(apart, entries) -> None:
    assert exclusion.entries("abc", lambda one, other: one + other in apart) == entries
    assert exclusion.entries("a", lambda one, other: False) == {"exclusive": True, "overlaps": ()}


def test_a_new_target_gets_a_colour_of_its_own(two, third, command) -> None:
    assert main(command(two, "--targets", "Scheibe")) == 0
    assert main(command(third, "--base", NAME)) == 0
    first, second = packs.read_manifest(packs.find(NAME)).targets
    assert first.color != second.color


def test_the_licence_does_not_grow(two, command) -> None:
    assert main(command(two)) == 0
    licence = packs.read_manifest(packs.find(NAME)).licence
    assert main(command(two, "--base", NAME)) == 0
    assert packs.read_manifest(packs.find(NAME)).licence == licence


def test_where_what_stays_comes_from_is_handed_on(two, third, command) -> None:
    assert main(command(two)) == 0
    assert main(command(third, "--base", NAME)) == 0
    data = packs.read_manifest(packs.find(NAME)).training["data"]
    assert data == f"2 cases of the user's own; Scheibe, Rand as in {NAME} version 1 (3 cases of the user's own)"
    assert main(command(two, "--base", NAME, "--targets", "Rand")) == 0
    again = packs.read_manifest(packs.find(NAME)).training["data"]
    stay = f"Scheibe, Kern as in {NAME} version 2 ({data})"
    assert again == f"3 cases of the user's own, continued from {NAME} version 2; {stay}"


def test_what_was_stopped_is_gone_on_with_though_it_has_dropped_and_learned(two, third, command, home, capsys) -> None:
    assert main(command(two)) == 0
    line = command(third, "--base", NAME, "--drop", "Rand", "--held-out", "none", steps=40)
    child = spoken(line, home)
    wait_for(child, "look")
    child.stdin.write(b"stop\n")
    child.stdin.flush()
    assert wait_for(child, "done")["stopped"] and child.wait(60) == 0
    capsys.readouterr()
    assert main(line) == 0
    assert "of a training that was interrupted" in capsys.readouterr().err
    went_on, resumed = packs.read_manifest(packs.find(NAME)), tensors()
    versions.roll_back(NAME, 1)
    assert main(line) == 0
    whole = packs.read_manifest(packs.find(NAME))
    assert [info.name for info in whole.targets] == ["Scheibe", "Kern"]
    assert all(torch.equal(value, resumed[key]) for key, value in tensors().items())
    took = replace(went_on, version="", training=went_on.training | {"seconds": 0})
    assert took == replace(whole, version="", training=whole.training | {"seconds": 0})


def test_a_name_that_reads_the_same_is_told(tmp_path, two, command, capsys) -> None:
    voxels, mask = volume(0)
    write(tmp_path / "other", "c", voxels, {"scheibe ": mask})
    assert main(command(two)) == 0
    assert main(command(tmp_path / "other", "--base", NAME, "--check")) == 0
    assert "'scheibe' and the pack's 'Scheibe' are two targets" in capsys.readouterr().out


def test_the_check_finds_what_the_base_rules_out(two, command, capsys, tmp_path) -> None:
    assert main(command(two)) == 0
    (tmp_path / "pictures").mkdir()
    for number in range(2):
        for name, value in ((f"p{number}_image.png", 90), (f"p{number}_label.png", 1)):
            pixels = np.full((40, 40), value, np.uint8)
            pixels[:8] = 0
            sitk.WriteImage(sitk.GetImageFromArray(pixels), str(tmp_path / "pictures" / name))
    capsys.readouterr()
    assert main(command(tmp_path / "pictures", "--base", NAME, "--check")) == 2
    assert "one for axial slices, these are not" in capsys.readouterr().err
    assert main(command(two, "--base", NAME, "--check", "--backbone", "tiny", "--side", "128")) == 2
    assert "--side is 128; the pack of --base was taught with frames of 64: leave it out" in capsys.readouterr().err
    assert main(command(two, "--base", "heart", "--check", "--backbone", "sam_vit_b", "--side", "768")) == 2
    assert "the backbone is sam_vit_b, the pack of --base was taught on tiny" in capsys.readouterr().err


def test_what_starts_are_there_does_not_follow_from_the_users_packs(two, command) -> None:
    assert main(command(two, "--name", "heart")) == 0
    assert packs.find("heart").parent == packs.folder()
    assert "heart" in [pack.path.stem for pack in packs.embedded()]
    assert [pack.path for pack in teach._starts("auto", "tiny")] == [pack.path for pack in packs.embedded()]
    assert all(pack.path.parent == packs.EMBEDDED for pack in packs.embedded())


def test_what_a_base_has_learned_from_is_known_under_another_name_too(two, command, capsys) -> None:
    assert main(command(two)) == 0
    assert main(command(two, "--base", NAME, "--name", "other", "--check", "--held-out", "c1")) == 0
    told = "the pack to go on from has learned from 1 of 1 held-out cases (c1): scores will be too good"
    assert told in capsys.readouterr().out
    version = packs.folder() / f"{NAME}.versions" / "1.safetensors"
    assert main(command(two, "--base", str(version), "--name", "other", "--check", "--held-out", "c1")) == 0
    assert told in capsys.readouterr().out


def test_what_a_base_lets_overlap_goes_on_to_and_stray_voxels_are_none(tmp_path, command) -> None:
    voxels, mask = volume(0)
    beside = np.roll(mask, 18, 2) & ~mask
    write(tmp_path / "nested", "c", voxels, {"a": mask, "b": mask & np.roll(mask, 3, 2)})
    write(tmp_path / "apart", "c", voxels, {"a": mask, "b": beside})
    stray = beside.copy()
    stray[tuple(np.argwhere(mask)[0])] = True
    write(tmp_path / "stray", "c", voxels, {"a": mask, "b": stray})
    assert main(command(tmp_path / "stray")) == 0
    assert packs.read_manifest(packs.find(NAME)).exclusive, "one voxel is no overlap"
    assert main(command(tmp_path / "nested", "--base", NAME)) == 0
    assert not packs.read_manifest(packs.find(NAME)).exclusive
    assert main(command(tmp_path / "apart", "--base", NAME)) == 0
    assert not packs.read_manifest(packs.find(NAME)).exclusive, "as the base"


def test_what_is_not_there_to_be_dropped_is_told_and_stops_nothing(two, command, capsys) -> None:
    assert main(command(two)) == 0
    line = command(two, "--base", NAME, "--targets", "Rand", "--drop", "Scheibe")
    assert main(line) == 0 and main(line) == 0
    assert "the pack to go on from has no Scheibe to drop; it has Rand" in capsys.readouterr().err
