"""Which cases are drawn to be held out."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from small_cases import NAME, events, volume, write, write_disc

from ProMISeCore import packs
from ProMISeCore.__main__ import main
from ProMISeCore.case import Case, State
from ProMISeCore.dataset import Encoder
from ProMISeCore.held_out import divisible, drawn
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


Encoded = dict[str, list[set[int]]]  # case → slices learned from, held out, and learned from at last


@pytest.fixture
def encoded(monkeypatch) -> Encoded:
    found: Encoded = {}
    views = Encoder.views

    def listed(encoder: Encoder, plan, watched):
        found.setdefault(plan.pairs[0].name, []).append({n for _, n, _ in plan.rows})
        return views(encoder, plan, watched)

    monkeypatch.setattr(Encoder, "views", listed)
    return found


def spread(folder: Path, there: dict[str, np.ndarray], wrong: tuple[int, ...] = ()) -> None:
    """Contrasts of a volume of twelve slices, with the disc on some; on wrong ones it is where nothing is."""
    voxels, mask = volume(0, slices=12)
    mask = np.stack([np.roll(one, (12, -16), (0, 1)) if n in wrong else one for n, one in enumerate(mask)])
    for number, (name, slices) in enumerate(there.items()):
        write(folder, name, voxels + number, {"Scheibe": mask & np.isin(np.arange(12), slices)[:, None, None]})


SAME = "no case can be held out, because all show the same image or segmentation: "
NEEDED = "no case can be held out, because each is needed for some target: "
ONE_IN_FOUR = "one slice in four is held out, and scores say little of other cases; add others"


@pytest.mark.parametrize("seed", range(3))
def test_of_one_patient_the_same_slices_of_all_contrasts_are_held_out(tmp_path, command, capsys, encoded, seed) -> None:
    spread(tmp_path / "one", {"T1": np.arange(12), "T2": np.arange(12)})
    assert main(command(tmp_path / "one", "--seed", str(seed))) == 0
    assert SAME + ONE_IN_FOUR in capsys.readouterr().err
    learned, held, at_last = (set().union(*parts) for parts in zip(*encoded.values(), strict=True))
    assert len(held) == 3 and len(learned) == 9 and not held & learned and at_last == held
    (score,) = packs.read_manifest(packs.find(NAME)).scores
    assert score["data"] == "slices held out of the cases learned from, before they were learned from, too"


def test_of_an_image_read_twice_what_one_reader_is_taught_does_not_judge_the_other(
    tmp_path, command, capsys, encoded
) -> None:
    spread(tmp_path / "one", {"first": np.arange(12)})
    spread(tmp_path / "one", {"second": np.arange(3, 9)})
    assert main(command(tmp_path / "one", "--slices", "5")) == 0
    assert SAME + ONE_IN_FOUR in capsys.readouterr().err
    learned, held, _ = (set().union(*parts) for parts in zip(*encoded.values(), strict=True))
    assert held and not held & learned
    assert all(len(of_learned | of_held) == 5 for of_learned, of_held, _ in encoded.values()), "--slices of each"


def test_contrasts_in_which_slices_of_a_number_show_other_places_are_not_divided(tmp_path, command, capsys) -> None:
    spread(tmp_path / "one", {"T1": np.arange(12), "T2": np.arange(12)})
    for name, origin in (("T1", (0, 0, 0)), ("T2", (0, 0, 8))):  # two slices higher
        image = sitk.ReadImage(str(tmp_path / "one" / f"{name}.nrrd"))
        image.SetOrigin(origin)
        (tmp_path / name).mkdir()
        sitk.WriteImage(image, str(tmp_path / name / "p.nrrd"))
    (tmp_path / "labels").mkdir()
    (tmp_path / "one" / "T1.seg.nrrd").rename(tmp_path / "labels" / "p.seg.nrrd")
    words = command(tmp_path / "T1", "--labels", str(tmp_path / "labels"))
    words.insert(words.index(str(tmp_path / "T1")) + 1, str(tmp_path / "T2"))
    held, told = checked(words, capsys)
    assert held == [] and told[-1] == SAME + "nothing is scored; add others"


def test_wrong_labels_of_slices_that_judge_leave_the_others_to_learn_from(tmp_path, command, capsys, encoded) -> None:
    spread(tmp_path / "one", {f"T{number}": np.arange(12) for number in range(4)}, wrong=(1, 5, 9))
    assert main(command(tmp_path / "one", "--every", "15", steps=60)) == 0
    told = capsys.readouterr().err
    assert all(f"as segmented in T{number} agrees with what is taught by a Dice of only" in told for number in range(4))
    assert "what was held out is learned from now, too" in told and "have judged is kept" not in told
    assert {frozenset(held) for _, held, *_ in encoded.values()} == {frozenset({1, 5, 9})}


def test_cases_with_a_target_each_are_scored_by_slices_of_them(tmp_path, command, capsys, encoded) -> None:
    for number, name in enumerate(("Scheibe", "Rand")):
        voxels, mask = volume(number)
        write(tmp_path / "one each", name, voxels, {name: mask})
    assert main(command(tmp_path / "one each")) == 0
    assert NEEDED + ONE_IN_FOUR in capsys.readouterr().err
    assert all(held and not held & learned for learned, held, _ in encoded.values())
    assert {score["target"] for score in packs.read_manifest(packs.find(NAME)).scores} == {"Scheibe", "Rand"}


def test_a_target_on_one_slice_has_no_score_where_slices_are_held_out(tmp_path, command, capsys) -> None:
    spread(tmp_path / "one", {"T1": np.arange(12), "T2": np.arange(12)})
    voxels, mask = volume(1)
    write(tmp_path / "one", "flat", voxels, {"Rand": mask & (np.arange(6) == 2)[:, None, None]})
    held, told = checked(command(tmp_path / "one"), capsys)
    assert held == ["T1", "T2"] and told[-2:] == [
        NEEDED + ONE_IN_FOUR.replace("four", "four of T1, T2"),
        "no held-out slice holds 'Rand': it is taught without a score, and its last state is kept; segment more slices "
        "of it to judge it",
    ]


def test_a_target_that_only_shares_the_one_slices_of_others_is_told_to_have_no_score(tmp_path, command, capsys) -> None:
    voxels, mask = volume(0)
    on = {n: (np.arange(6) == n)[:, None, None] for n in (2, 3)}
    write(tmp_path / "one", "p", voxels, {"a": mask & on[2], "b": mask & on[3], "c": mask & (on[2] | on[3])})
    assert main(command(tmp_path / "one")) == 0
    told = capsys.readouterr().err
    assert "no held-out slice holds 'a'" in told and "no held-out slice holds 'b'" in told
    assert "each slice with 'c' holds another target that has no other slice to learn from: 'c' is taught" in told
    assert packs.read_manifest(packs.find(NAME)).scores == ()


def test_pictures_none_of_which_can_be_spared_are_learned_from_without_a_score(tmp_path, command, capsys) -> None:
    (tmp_path / "two").mkdir()
    rows, columns = np.mgrid[:64, :64]
    for number, value in enumerate((1, 2)):
        write_disc(tmp_path / "two", f"p{number}", value * (np.hypot(rows - 30, columns - 30) < 12), number)
    assert main(command(tmp_path / "two", "--targets", "a=1", "b=2")) == 0
    assert NEEDED + "nothing is scored; add others" in capsys.readouterr().err
    assert packs.read_manifest(packs.find(NAME)).scores == ()


def test_slices_are_held_out_where_what_shows_the_same_has_the_same_ones() -> None:
    one, other, thicker, flat = case("T1", "ab", "p"), case("T2", "ab", "p"), case("T3", "ab", "p"), case("q", "ab")
    for each in (one, other, thicker):
        each.shape, each.states["a"].slices = (4, 8, 8), 3
        each.image_content, each.label_content = each.pair.name, "p"
        each.affine = tuple(map(tuple, np.eye(4).tolist()))
    assert divisible([one, other, flat]) == [one, other]
    thicker.affine = tuple(map(tuple, np.diag([1.0, 1, 2, 1]).tolist()))
    assert divisible([one, other, thicker]) == []
