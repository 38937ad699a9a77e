"""Which cases are drawn to be held out."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
from small_cases import events, volume, write

from ProMISeCore.__main__ import main
from ProMISeCore.case import Case, State
from ProMISeCore.held_out import drawn
from ProMISeCore.pairs import Pair

_shapes = count(1)


def case(name: str, labelled: str, label: str | None = None) -> Case:
    """Of the targets "a" and "b", those are segmented whose letters are given. label: its file, if it is another's."""
    states = {target: State("labelled" if target in labelled else "unknown") for target in "ab"}
    return Case(Pair(name, Path(name), Path(label or name)), shape=(1, 1, next(_shapes)), states=states)


@pytest.mark.parametrize("seed", range(20))
def test_cases_in_which_all_targets_are_segmented_come_first(seed: int) -> None:
    cases = [case("part 0", "a"), case("whole 0", "ab"), case("part 1", "b"), case("part 2", "a")]
    cases += [case("whole 1", "ab"), case("part 3", "b")]
    (chosen,) = drawn(cases, 2, frozenset(), None, seed)
    assert chosen.pair.name in ("whole 0", "whole 1")


@pytest.mark.parametrize("seed", range(6))
def test_contrasts_of_a_patient_are_held_out_together_and_never_all_there_is(seed: int) -> None:
    """Contrasts are images that share a segmentation: what one is taught would judge the other."""
    patients = [[case(f"{patient} {contrast}", "ab", patient) for contrast in ("T1", "T2")] for patient in "xyz"]
    chosen = drawn([each for patient in patients for each in patient], 2, frozenset(), None, seed)
    assert {each.pair.name for each in chosen} in [{f"{patient} T1", f"{patient} T2"} for patient in "xyz"]
    assert drawn(patients[0], 2, frozenset(), None, seed) == []


def test_of_many_images_that_show_the_same_no_more_are_held_out_than_asked_for_if_there_are_others() -> None:
    many, single = [case(f"x {n}", "ab", "x") for n in range(5)], [case(f"y {n}", "ab") for n in range(5)]
    for seed in range(6):
        (chosen,) = drawn([*many, *single], 2, frozenset(), None, seed)
        assert chosen in single
    pairs = [case(f"z {n}", "ab", "z") for n in range(2)]
    assert drawn([*many, *pairs], 2, frozenset(), None, 0) in (pairs, pairs[::-1]), "the smallest group"


def test_what_shows_the_same_by_way_of_another_is_held_out_with_it() -> None:
    """T1 and T2 share a segmentation, and T2 is there a second time with one of its own."""
    one, two, twice, other = case("T1", "ab", "p"), case("T2", "ab", "p"), case("R", "ab"), case("q", "ab")
    twice.shape, two.image_content, twice.image_content = two.shape, "same", "same"
    two.label_content, twice.label_content = "p", "R"
    for seed in range(8):
        names = {each.pair.name for each in drawn([one, twice, other, two], 2, frozenset(), 0.75, seed)}
        assert names in ({"T1", "T2", "R"}, {"q"})


def checked(arguments: list[str], capsys) -> tuple[list[str], list[str]]:
    """Names of the cases held out, and what is said of all together."""
    capsys.readouterr()
    assert main([*arguments, "--check", "--events"]) == 0
    report = events(capsys)[0]["report"]
    return report["proposal"]["held_out"], [one["what"] for one in report["problems"]]


def test_an_image_that_two_people_have_segmented_is_held_out_whole_or_told(tmp_path, command, capsys) -> None:
    for name, number in (("p", 0), ("p2", 0), ("q", 1)):
        voxels, mask = volume(number)
        write(tmp_path / "raters", name, voxels, {"Scheibe": mask})
    twice = "it is the same image as p: unless two people have segmented it, leave one of them out"
    for seed in range(4):
        held, told = checked(command(tmp_path / "raters", "--seed", str(seed)), capsys)
        assert sorted(held) in (["p", "p2"], ["q"]) and told == [twice]
    held, told = checked(command(tmp_path / "raters", "--held-out", "p"), capsys)
    assert held == ["p"] and told[1:] == [
        "what p shows is learned from, too, with another image or segmentation: hold out both or none, or scores will "
        "be too good"
    ]


def test_contrasts_that_share_a_file_of_labels_are_held_out_together(tmp_path, command, capsys) -> None:
    for patient in range(2):
        voxels, mask = volume(patient)
        for contrast in ("T1", "T2"):
            write(tmp_path / "each", f"p{patient} {contrast}", voxels + int(contrast[1]), {"Scheibe": mask})
            write(tmp_path / contrast, f"p{patient}", voxels + int(contrast[1]), {"Scheibe": mask})
        (tmp_path / "labels").mkdir(exist_ok=True)
        for contrast in ("T1", "T2"):
            (tmp_path / contrast / f"p{patient}.seg.nrrd").replace(tmp_path / "labels" / f"p{patient}.seg.nrrd")
    held, told = checked(command(tmp_path / "each"), capsys)
    assert sorted(held) in (["p0 T1", "p0 T2"], ["p1 T1", "p1 T2"]) and told == [], "each has a copy of the file"
    options = command(tmp_path / "T1", "--labels", str(tmp_path / "labels"))
    options.insert(options.index(str(tmp_path / "T1")) + 1, str(tmp_path / "T2"))
    held, told = checked(options, capsys)
    assert sorted(held) in (["T1/p0", "T2/p0"], ["T1/p1", "T2/p1"]) and told == []
    held, told = checked([*options, "--held-out", "T1/p0"], capsys)
    assert held == ["T1/p0"] and told == [
        "what T1/p0 shows is learned from, too, with another image or segmentation: hold out both or none, or scores "
        "will be too good"
    ]
