"""The loop of teaching: the simulated reader's every click, a sitting on the real segmenter, real lessons, the page."""

from __future__ import annotations

import json
from collections import Counter

import loop
import loop_page
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from lessons import Lessons
from reader import ACCEPT, ADD, DELETE, MOVE, REJECT, Point, Reader, deepest
from sitting import Plain, sit

from ProMISeCore import packs, volumes
from ProMISeCore.errors import InputError
from ProMISeCore.segmenter import Segmenter
from ProMISeCore.truth import UNKNOWN


def _square(top: int, left: int, side: int, extent: int = 12) -> np.ndarray:
    mask = np.zeros((extent, extent), bool)
    mask[top : top + side, left : left + side] = True
    return mask


TARGET, ASIDE, NOTHING = _square(1, 1, 5), _square(6, 6, 5), np.zeros((12, 12), bool)
CENTRE, CENTRE_ASIDE = (3, 3), (8, 8)


# One click


def test_the_reader_accepts_what_is_good_enough_and_empty_slices_that_are_empty():
    off = TARGET.copy()
    off[1, 1:4] = False  # Dice 2 · 22 / 47 = 0.936
    points = (Point(9, 9, True),)  # wrong, but nobody minds
    assert Reader(0.9).act(TARGET, off, points) == (ACCEPT, points)
    assert Reader(0.95).act(TARGET, off, ()).kind == ADD
    assert Reader(0.9).act(NOTHING, NOTHING, ()) == (ACCEPT, ())


def test_a_segment_where_the_target_is_not_is_rejected_with_its_points():
    assert Reader().act(NOTHING, TARGET, (Point(3, 3, True),)) == (REJECT, ())


@pytest.mark.parametrize(
    ("found", "place", "positive"),
    [
        (NOTHING, CENTRE, True),  # all of the target is missed
        (TARGET | _square(6, 6, 6), (8, 8), False),  # more than the target was found
        (_square(6, 6, 3), CENTRE, True),  # the larger error first
    ],
)
def test_a_point_goes_into_the_deepest_place_of_the_larger_error(found, place, positive):
    action = Reader().act(TARGET, found, ())
    assert action.kind == ADD
    (point,) = action.points
    assert (point.positive, point.own) == (positive, True)
    assert max(abs(point.row - place[0]), abs(point.column - place[1])) <= (0 if positive else 1)


def test_an_automatic_point_on_the_wrong_side_is_moved_to_where_such_a_point_is_missing():
    wrong, right = Point(8.2, 7.9, True), Point(3, 3, True)
    action = Reader().act(TARGET | _square(1, 6, 5), ASIDE | _square(1, 1, 5), (right, wrong))
    assert action == (MOVE, (right, Point(3, 8, True, own=True)))
    negative = Point(3, 3, False)
    assert Reader().act(TARGET, TARGET | ASIDE, (negative,)) == (MOVE, (Point(*CENTRE_ASIDE, False, own=True),))


def test_the_point_that_is_most_wrong_is_first_and_without_a_place_for_it_it_goes():
    near, far = Point(6, 3, True), Point(10, 10, True)
    assert Reader().act(TARGET, TARGET | ASIDE, (near, far)) == (DELETE, (near,))
    assert Reader().act(TARGET, TARGET | ASIDE, (near,)) == (DELETE, ())


def test_the_readers_own_points_and_those_beside_the_picture_stay():
    points = (Point(10, 10, True, own=True), Point(-3, 40, True))
    action = Reader().act(TARGET, TARGET | ASIDE, points)
    assert action.kind == ADD and action.points[:2] == points


def test_the_deepest_place_keeps_away_from_points_that_are_there():
    strip = np.zeros((5, 13), bool)
    strip[1:4, 1:12] = True
    first = Point(*deepest(strip), True)
    second = deepest(strip, (first,))
    assert first.row == second[0] == 2 and abs(second[1] - first.column) >= 2
    assert deepest(_square(0, 0, 3, 3)) == (1, 1), "the picture's edge is a border too"


def test_points_of_the_reader_are_always_on_the_right_side():
    rng = np.random.default_rng(0)
    for _ in range(50):
        truth, found = rng.random((2, 12, 12)) < rng.random((2, 1, 1))
        action = Reader(1.0).act(truth, found, [Point(*rng.uniform(-1, 12, 2), bool(rng.random() < 0.5))])
        for point in [point for point in action.points if point.own]:
            assert truth[point.row, point.column] == point.positive != found[point.row, point.column]


# One volume


@pytest.fixture
def volume() -> volumes.Volume:
    voxels = np.random.default_rng(0).integers(0, 200, (6, 40, 48)).astype(np.int16)
    return volumes.Volume(voxels, np.diag([1.5, 1.5, 8.0, 1.0]), "noise")


@pytest.fixture
def segmenter(tiny_model, volume) -> Segmenter:
    """Of random weights, that finds something on every slice, but not everything."""
    found = Segmenter(tiny_model(("a",), orientation="image", threshold=0.515), volume, "cpu")
    assert all(0.1 < result.masks["a"].mean() < 0.9 for result in found.segment_volume())
    return found


def test_a_result_that_is_right_costs_one_look_a_slice(segmenter):
    truth = segmenter.stack.canonical(segmenter.masks()["a"]).copy()
    sitting = sit(Reader(), segmenter, truth)
    assert sitting.clicks == Counter({ACCEPT: 6}) and sitting.before == sitting.after == 1.0
    assert sitting.untouched == 6 and (sitting.labels == truth).all()


def test_a_false_segment_costs_one_click_and_is_then_known_to_be_none(segmenter):
    sitting = sit(Reader(), segmenter, np.zeros((6, 40, 48), bool))
    assert sitting.clicks == Counter({REJECT: 6, ACCEPT: 6}) and (sitting.before, sitting.after) == (0.0, 1.0)
    assert not sitting.labels.any() and sitting.untouched == 0


def test_a_slice_that_never_is_right_is_given_up_and_stays_unknown(segmenter):
    truth = np.zeros((6, 40, 48), bool)
    truth[:, ::2, ::2] = True  # no mask of this resolution is like that
    sitting = sit(Reader(), segmenter, truth, every=2, most=3)
    assert np.flatnonzero(sitting.visited).tolist() == [0, 2, 4]
    assert sitting.clicks.total() == 9 and not sitting.clicks[ACCEPT]
    assert sitting.entries()["given_up"] == 3 and (sitting.labels == UNKNOWN).all()


def test_what_is_given_up_can_be_painted_by_hand_and_learned_from(segmenter):
    truth = np.zeros((6, 40, 48), bool)
    truth[:, ::2, ::2] = True
    sitting = sit(Reader(), segmenter, truth, every=2, most=1, paint=True)
    assert (sitting.labels[::2] == truth[::2]).all() and (sitting.labels[1::2] == UNKNOWN).all()
    assert sitting.entries()["given_up"] == 3 and sitting.after < 0.9, "that is not the clicks' merit"


class Recorder(Reader):
    """A reader of whom it is known what points a slice with a target had after each click."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self.seen: list[tuple[Point, ...]] = []

    def act(self, truth, found, points):
        if truth.any():
            self.seen.append(tuple(points))
        return super().act(truth, found, points)


def test_what_the_segmenter_says_of_the_readers_points_is_the_result(segmenter):
    truth = np.zeros((6, 40, 48), bool)
    truth[3, 10:20, 10:20] = True
    reader = Recorder()
    sitting = sit(reader, segmenter, truth, most=4)
    assert len(reader.seen) == 5 and len(reader.seen[0]) == 4, "the model's own four points come first"
    last = reader.seen[-1]
    assert {point.own for point in last} | {point.positive for point in last} == {True, False}
    as_listed = [point for sign in (True, False) for point in last if point.positive == sign]
    places, labels = [(point.row, point.column) for point in as_listed], [int(point.positive) for point in as_listed]
    fresh = Segmenter(segmenter.model, segmenter.volume, "cpu")
    result = fresh.segment_slice(3, "a", places, labels, own=[point.own for point in as_listed])
    assert (result.masks["a"] == sitting.masks[3]).all()


def test_a_backbone_without_a_pack_starts_empty_and_answers_with_its_surest_mask(tiny_sam, volume):
    segmenter = Segmenter(Plain(tiny_sam, "a", "image"), volume, "cpu")
    assert not sit(Reader(0.0), segmenter, np.ones((6, 40, 48), bool)).masks.any()
    result = segmenter.segment_slice(2, "a", [(20, 20)], [1])
    image = segmenter.frame.image(segmenter._pictures[2])[None]
    with torch.inference_mode():
        point = torch.from_numpy(segmenter.frame.rc_to_xy(np.array([[20, 20]]))).float()[None]
        logits, iou = tiny_sam.decode(tiny_sam.encode(image), point, torch.ones(1, 1))
    surest = int(iou[0].argmax())
    assert result.iou["a"] == pytest.approx(float(iou[0, surest]), abs=1e-3)
    expected = segmenter.frame.logits(logits[0, surest]).numpy()
    assert np.allclose(result.logits["a"], expected, atol=0.02)


# Lessons


@pytest.fixture
def data(tmp_path):
    """Three patients of two volumes, as the heart's: a bright disc on a dark ground on slices 1 to 4 of 6."""
    folder = tmp_path / "data" / "volumes" / "heart" / "train"
    folder.mkdir(parents=True)
    rows, columns = np.mgrid[:40, :48]
    for number in range(3):
        for frame in ("01", "09"):
            label = np.zeros((6, 40, 48), np.uint8)
            label[1:5] = 3 * (np.hypot(rows - 18, columns - 20 - number) < 9)
            for kind, voxels in (("image", (40 + 50 * label).astype(np.int16)), ("label", label)):
                image = sitk.GetImageFromArray(voxels)
                image.SetSpacing((1.5, 1.5, 8))
                sitk.WriteImage(image, str(folder / f"patient{number}_frame{frame}_{kind}.nii.gz"))
    return tmp_path / "data"


@pytest.fixture
def backbone(tiny_sam, tmp_path):
    torch.save(tiny_sam.state_dict(), tmp_path / "b.pth")
    return str(tmp_path / "b.pth")


def test_lessons_learn_from_what_was_accepted_go_on_and_are_not_given_twice(data, backbone, tmp_path):
    lessons = Lessons(tmp_path / "l", "left ventricle", "axial", 0.005, 0, "heart", backbone, 64)
    cases = []
    for pair in loop.chosen(loop.SUBJECTS["left-ventricle"], data, "train", 2, seed=0):
        volume, label = volumes.read_pair(pair.image, pair.label)
        stack = volumes.Stack(volume, "axial")
        labels = (stack.canonical(label.voxels) == 3).astype(np.uint8)
        labels[2] = UNKNOWN
        kept = lessons.keep(pair, stack, labels)
        assert (stack.canonical(volumes.read_pair(*kept[1:])[1].voxels) == labels).all()
        cases.append(kept)
    first = lessons.teach(cases[:1], None)
    second = lessons.teach(cases, first)
    assert (first.notes["cases"], second.notes["cases"]) == (1, 2) and first.notes["steps"] > 0
    assert "continued from after-1" in packs.read_manifest(second.pack).description
    stamp = second.pack.stat().st_mtime_ns
    assert lessons.teach(cases, first) == second and second.pack.stat().st_mtime_ns == stamp
    assert not list(packs.folder().glob("*")), "nothing of it is installed for the user"


def test_one_volume_of_each_patient_in_an_order_that_the_seed_decides(data):
    about = loop.SUBJECTS["left-ventricle"]
    orders = {tuple(pair.name for pair in loop.chosen(about, data, "train", 3, seed)) for seed in range(6)}
    assert all(len({name.split("_")[0] for name in order}) == 3 for order in orders) and len(orders) > 1
    with pytest.raises(InputError, match="has 3 patients"):
        loop.chosen(about, data, "train", 4, 0)


def test_the_command_goes_all_ways_once_and_writes_the_section(data, backbone, tmp_path, monkeypatch, capsys):
    page, work = tmp_path / "page.md", tmp_path / "w"
    page.write_text("before\n<!-- loop -->\n<!-- /loop -->\n")
    command = ["loop.py", "--data", str(data), "--workspace", str(work), "--volumes", "3", "--minutes", "0.005"]
    command += ["--backbone", backbone, "--side", "64", "--most", "2", "--enough", "0.02", "--report", str(page)]
    monkeypatch.setattr("sys.argv", command)
    loop.main()
    cells = {path.stem: json.loads(path.read_text())["result"] for path in (work / "cells").glob("*.json")}
    assert set(cells) == {f"left-ventricle.{way}.seed0" for way in loop_page.WAYS}
    used = {key.split(".")[1]: [volume["lessons"] for volume in cell["volumes"]] for key, cell in cells.items()}
    assert used == {"teach": [0, 1, 2], "paint": [0, 1, 2], "once": [0, 1, 1], "plain": [0, 0, 0]}
    firsts = [cell["volumes"][0] for cell in cells.values()]
    assert all(first == firsts[0] for first in firsts), "all ways begin from nothing"
    assert "| left-ventricle | taught in between | 1 |" in page.read_text(encoding="utf-8")
    stamps = [path.stat().st_mtime_ns for path in sorted(work.rglob("*.json"))]
    loop.main()
    assert stamps == [path.stat().st_mtime_ns for path in sorted(work.rglob("*.json"))]


# The page


def _result(clicks: list[int], given_up: int = 0) -> dict:
    volume = {"case": "x", "lessons": 0, "slices": 4, "untouched": 1, "given_up": given_up, "before": 0.5, "after": 0.9}
    return {"volumes": [volume | {"clicks": {ADD: count, ACCEPT: 4}} for count in clicks], "lessons": []}


def test_the_page_counts_corrections_and_what_was_given_up():
    shared = {
        "volumes": 10, "split": "val", "every": 2, "enough": 0.9, "most": 10, "minutes": 0.5, "after": [1, 4],
        "backbone": "tiny", "fingerprint": "0" * 64, "side": 512, "torch": "2",
    }  # fmt: skip
    found = {"myocardium": {"plain": [_result([20] * 10)], "teach": [_result([20] + [6] * 9), _result([20] + [4] * 9)]}}
    text = loop_page.report(shared, found, None)
    assert "| myocardium | no pack: the backbone prompted | 1 | 20 (0) | 20 (0) | 20 (0) | 20 (0) |" in text
    row = "| myocardium | taught in between | 2 | 20.0 ± 0.0 (0) | 5.0 ± 1.4 (0) | 5.0 ± 1.4 (0) | 5.0 ± 1.4 (0) |"
    for table in text.split("\n\n")[1:4:2]:
        assert len({line.count("|") for line in table.splitlines()}) == 1, "a name for every column"
    assert row in text and "one slice of 2" in text and "after volumes 1, 4" in text
    short = loop_page.report(shared, {"myocardium": {"plain": [_result([21, 23], given_up=2)]}}, None)
    lessons = [{"steps": 40, "suspicious": ["a"]}, {"steps": 30, "suspicious": ["a", "b"]}]
    assert "| 90.0 | 70 | 2 |" in loop_page.report(
        shared, {"x": {"teach": [_result([7, 9]) | {"lessons": lessons}]}}, None
    )
    assert "| 21 (2) | 23 (2) | – | – | 23 (2.0) | 3.0 | 25% |" in short
