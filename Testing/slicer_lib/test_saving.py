"""A scene saved and loaded, as Slicer does it: whatever is asked next has the same answer as if it had not been."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from desks import Desk
from test_base import edited, propagated
from test_interaction import drag
from test_monkey import Monkey
from test_undo import different, everything


def throughMrb(scene, folder: Path) -> None:
    assert scene.WriteToMRB(str(folder / "scene.mrb"), None)
    scene.Clear(0)
    assert scene.ReadFromMRB(str(folder / "scene.mrb"), True)


def throughMrml(scene, folder: Path) -> None:
    """Every node in a file of its own, beside the scene's."""
    import slicer

    for number, node in enumerate(slicer.util.getNodesByClass("vtkMRMLStorableNode")):
        if node.GetSaveWithScene() and node.AddDefaultStorageNode():
            storage = node.GetStorageNode()
            extension = storage.GetDefaultWriteFileExtension()
            storage.SetFileName(str(folder / f"{number}.{extension}"))
            assert storage.WriteData(node)
    scene.SetURL(str(folder / "scene.mrml"))
    assert scene.Commit()
    scene.Clear(0)
    scene.SetURL(str(folder / "scene.mrml"))
    assert scene.Connect()


WAYS = {"mrb": throughMrb, "mrml": throughMrml}


def reopened(d: Desk, scene, folder: Path, way: str = "mrb") -> Desk:
    from ProMISeSlicerLib.fakeEngine import FakeEngine
    from ProMISeSlicerLib.session import Session

    WAYS[way](scene, folder)
    assert d.session.isClosed
    engine = FakeEngine()
    return Desk(Session.fromScene(None, engine), engine)


def question(d: Desk, act: Callable[[Desk], None]) -> list[tuple]:
    """All that the engine is asked as somebody acts, to the last bit, and what the slices are then."""
    asked, solve = [], d.engine.segmentSlice
    d.engine.segmentSlice = lambda *args: asked.append(tuple(map(_bits, args))) or solve(*args)
    act(d)
    d.settle()
    d.engine.segmentSlice = solve
    assert asked
    return [*sorted(asked, key=repr), *((name, mask.tobytes()) for name, mask in d.everything().items())]


def _bits(value: object) -> object:
    return value.tobytes() if isinstance(value, np.ndarray) else value


def placed(d: Desk, n: int, target: str = "bar") -> list[str]:
    """The user's points on a slice in their order, as sign and column."""
    return [f"{'+' if m.positive else '-'}{round(m.nrc[2])}" for m in d.session.target(target).marks(n) if m.user]


def place(d: Desk, *points: str, n: int = 5) -> None:
    """Points one after another, as `placed` says them."""
    for point in points:
        d.session.addPoint("bar", d.world(n, 26.3, float(point[1:]) + 0.2), point[0] == "+")
        d.settle()


def find(d: Desk, n: int, point: str) -> tuple:
    """The node and index of a point as `placed` says it."""
    node = d.session.promptNodes("bar")[0 if point[0] == "+" else 1]
    (index,) = [i for i, nrc in enumerate(d.controlPoints(positive=point[0] == "+"))
                if round(nrc[0]) == n and round(nrc[2]) == int(point[1:]) and abs(nrc[1] - 26.3) < 0.1]  # fmt: skip
    return node, index


def remove(d: Desk, n: int, point: str) -> None:
    node, index = find(d, n, point)
    node.RemoveNthControlPoint(index)
    d.settle()


def move(d: Desk, n: int, point: str, to: int, column: float) -> None:
    node, index = find(d, n, point)
    drag(d, node, index, [d.world(to, 26.3, column + 0.2)])


def again(d: Desk) -> None:
    place(d, "-33")


def reopenedAlike(d: Desk, scene, folder, way: str) -> Desk:
    """The session from the file, after a look that it has the same points and asks the same next question."""
    before, asked = placed(d, 5), question(d, again)
    d.session.undo()
    d.settle()
    loaded = reopened(d, scene, folder, way)
    assert placed(loaded, 5) == before
    assert question(loaded, again) == asked
    return loaded


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("geometry", ["plain", "oblique", "transformed", "sheared", "flipped"])
def test_points_are_asked_with_as_they_were_placed(desk, scene, tmp_path, geometry: str, way: str) -> None:
    d = desk(geometry)
    place(d, "-10", "+20", "-30", "+35", "-15")
    expected = placed(d, 5)
    assert expected == ["-10", "+20", "-30", "+35", "-15"]
    loaded = reopenedAlike(d, scene, tmp_path, way)
    loaded.session.close()


@pytest.mark.parametrize("way", [None, *WAYS])
def test_the_points_placed_last_are_deleted_first_whichever_list_they_are_in(desk, scene, tmp_path, way) -> None:
    d = desk()
    place(d, "-10", "+20", "-30", "+35")
    place(d, "+12", n=4)
    if way is not None:
        d = reopened(d, scene, tmp_path, way)
    left = []
    while d.session.target("bar").deleteLast(5):
        d.settle()
        left.append(placed(d, 5))
    assert left == [["-10", "+20", "-30"], ["-10", "+20"], ["-10"], []]
    assert placed(d, 4) == ["+12"] and d.session.canUndo
    d.session.close()


def undoneAndRedone(d: Desk) -> list[str]:
    place(d, "-10", "+20", "-30", "+35")
    for action in (d.session.undo, d.session.undo, d.session.undo, d.session.redo, d.session.redo):
        action()
        d.settle()
    place(d, "-15")
    return ["-10", "+20", "-30", "-15"]


def deleted(d: Desk) -> list[str]:
    place(d, "-10", "+20", "-30", "+35")
    remove(d, 5, "+20")
    remove(d, 5, "-10")
    d.session.undo()
    d.settle()
    place(d, "+15")
    return ["-10", "-30", "+35", "+15"]


def movedThere(d: Desk) -> list[str]:
    """Points of other slices keep their place among those that they come to."""
    place(d, "-10", "+20")
    place(d, "+12", n=6)
    place(d, "-30")
    place(d, "-14", n=4)
    place(d, "+35")
    move(d, 6, "+12", 5, 17)
    move(d, 4, "-14", 5, 24)
    return ["-10", "+20", "+17", "-30", "-24", "+35"]


def movedThereAndBack(d: Desk) -> list[str]:
    expected = movedThere(d)
    move(d, 5, "+20", 6, 20)
    move(d, 6, "+20", 5, 22)
    d.session.undo()
    d.session.undo()
    d.settle()
    return expected


def addedInSlicer(d: Desk) -> list[str]:
    """With the Markups module, or a script."""
    place(d, "+20")
    for point in ("-10", "+30"):
        node = d.session.promptNodes("bar")[0 if point[0] == "+" else 1]
        node.AddControlPointWorld(*d.world(5, 26.3, float(point[1:]) + 0.2))
        d.settle()
    return ["+20", "-10", "+30"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("history", [undoneAndRedone, deleted, movedThere, movedThereAndBack, addedInSlicer])
def test_the_order_outlives_what_was_done_and_the_file(desk, scene, tmp_path, history: Callable, way: str) -> None:
    d = desk("oblique")
    expected = history(d)
    assert placed(d, 5) == expected
    loaded = reopenedAlike(d, scene, tmp_path, way)
    place(loaded, "+14")
    remove(loaded, 5, "-33")
    twice = reopened(loaded, scene, tmp_path, way)
    assert placed(twice, 5) == [*expected, "+14"]
    twice.session.close()


def test_a_volume_put_under_a_transform_later(desk, scene, tmp_path) -> None:
    from desks import rotation
    from ProMISeSlicerLib import mrml

    d = desk("oblique")
    place(d, "-10", "+20")
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation(-10, 10, -20), [40, 50, 60]
    transform.SetMatrixTransformToParent(mrml.matrixFromArray(matrix))
    d.session.volumeNode.SetAndObserveTransformNodeID(transform.GetID())
    place(d, "-30", "+35")
    asked = question(d, again)
    d.session.undo()
    d.settle()
    loaded = reopened(d, scene, tmp_path)
    assert question(loaded, again) == asked
    loaded.session.close()


def test_points_moved_deleted_and_added_while_no_session_is_open(desk, scene, tmp_path) -> None:
    d = desk()
    place(d, "-10", "+20", "-30", "+35")
    d.session.close()
    node, index = find(d, 5, "-10")
    node.SetNthControlPointPositionWorld(index, *d.world(5, 26.3, 12.2))
    remove(d, 5, "+20")
    d.session.promptNodes("bar")[0].AddControlPointWorld(*d.world(5, 26.3, 17.2))
    loaded = reopened(d, scene, tmp_path)
    assert placed(loaded, 5) == ["-12", "-30", "+35", "+17"], "what nobody knows of is last"
    loaded.session.close()


def test_undo_leaves_a_point_its_place_among_those_of_other_slices(desk) -> None:
    d = desk()
    place(d, "-10", n=4)
    place(d, "+20")
    place(d, "-30", n=4)
    d.session.undo()
    d.settle()
    move(d, 4, "-10", 5, 10)
    assert placed(d, 5) == ["-10", "+20"]


@pytest.mark.parametrize("entry", [None, [], ["+77", "-78"]])
def test_scenes_that_hold_no_order_still_load(desk, scene, tmp_path, entry: list | None) -> None:
    d = desk()
    place(d, "-10", "+20", "-30", "+35")
    d.session.close()
    data = json.loads(d.session.node.GetParameter("state"))
    for target in data["targets"]:
        assert len(target["points"]) == len(d.session.target(target["name"]).table)
        del target["points"]
        if entry is not None:
            target["points"] = entry
    d.session.node.SetParameter("state", json.dumps(data))
    loaded = reopened(d, scene, tmp_path)
    assert placed(loaded, 5) == ["+20", "+35", "-10", "-30"]
    place(loaded, "-33", "+14")
    twice = reopened(loaded, scene, tmp_path)
    assert placed(twice, 5) == ["+20", "+35", "-10", "-30", "-33", "+14"]
    twice.session.close()


def test_a_scene_imported_into_another_keeps_the_order(desk, scene, tmp_path) -> None:
    from desks import addVolume
    from ProMISeSlicerLib.session import Session

    d = desk()
    place(d, "-10", "+20", "-30", "+35")
    assert scene.WriteToMRB(str(tmp_path / "scene.mrb"), None)
    scene.Clear(0)
    other = desk(volume=addVolume("oblique", "other"))
    place(other, "+11")
    assert scene.ReadFromMRB(str(tmp_path / "scene.mrb"), False)
    import slicer

    loaded = Desk(Session.fromScene(slicer.util.getNode("scan ProMISe"), d.engine), d.engine)
    assert placed(loaded, 5) == ["-10", "+20", "-30", "+35"] and placed(other, 5) == ["+11"]
    loaded.session.close()


def boxedAsWell(d: Desk) -> np.ndarray:
    mask = edited(d)
    roi = d.session.promptNodes("bar")[2]
    roi.SetSize(*(np.array(roi.GetSize()) * (0.4, 0.4, 1)))
    d.settle()
    return mask


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("before", [propagated, edited, boxedAsWell])
def test_what_clicks_correct_is_in_the_scene(desk, scene, tmp_path, before: Callable, way: str) -> None:
    d = desk()
    before(d)
    found = d.masks()[5].copy()
    place(d, "-10", "+20", "-22", "+35")
    asked = question(d, again)
    d.session.undo()
    d.settle()
    loaded = reopened(d, scene, tmp_path, way)
    assert question(loaded, again) == asked
    for point in ("-33", "-10", "+20", "-22", "+35"):
        remove(loaded, 5, point)
    assert np.array_equal(loaded.masks()[5], found)
    loaded.session.close()


@pytest.mark.parametrize("damage", [{"mask": "x"}, {"mask": ""}, {"mask": 5}, {"earlier": None}, {"box": 7}, None])
def test_where_what_clicks_correct_is_damaged_the_mask_found_is_corrected(desk, scene, tmp_path, damage) -> None:
    d = desk()
    edited(d)
    place(d, "-10")
    found = d.masks()[5].copy()
    d.session.close()
    data = json.loads(d.session.node.GetParameter("state"))
    (entry,) = [record for record in data["slices"]["bar"].values() if "corrects" in record]
    entry["corrects"] = {} if damage is None else entry["corrects"] | damage
    d.session.node.SetParameter("state", json.dumps(data))
    loaded = reopened(d, scene, tmp_path)
    place(loaded, "+20")
    remove(loaded, 5, "+20")
    assert np.array_equal(loaded.masks()[5], found)
    loaded.session.close()


def test_clicks_dealt_with_in_an_edit_by_hand_stay_so(desk, scene, tmp_path) -> None:
    d = desk()
    place(d, "+20")
    mask = d.masks()[5].copy()
    mask[24:29, 18:23] = False
    d.session.segments.write(d.session.segmentId("bar"), 5, mask)
    place(d, "+30")
    loaded = reopened(d, scene, tmp_path)
    remove(loaded, 5, "+30")
    assert np.array_equal(loaded.masks()[5], mask)
    remove(loaded, 5, "+20")
    assert np.array_equal(loaded.masks()[5], mask)
    loaded.session.close()


def withoutMasks(data: dict) -> None:
    for records in data["slices"].values():
        for record in records.values():
            record.pop("corrects", None)


def withMasksOfOtherSlices(data: dict) -> None:
    for records in data["slices"].values():
        for record in records.values():
            if "corrects" in record:
                record["corrects"]["grid"][0] += 1


@pytest.mark.parametrize("older", [withoutMasks, withMasksOfOtherSlices])
def test_in_scenes_without_it_the_mask_found_is_what_clicks_correct(desk, scene, tmp_path, older: Callable) -> None:
    d = desk()
    propagated(d)
    place(d, "+20")
    mask = d.masks()[5].copy()
    d.session.close()
    data = json.loads(d.session.node.GetParameter("state"))
    assert [n for n, record in data["slices"]["bar"].items() if "corrects" in record] == ["5"]
    older(data)
    d.session.node.SetParameter("state", json.dumps(data))
    loaded = reopened(d, scene, tmp_path)
    place(loaded, "+30")
    assert not np.array_equal(loaded.masks()[5], mask)
    remove(loaded, 5, "+30")
    assert np.array_equal(loaded.masks()[5], mask)
    loaded.session.close()


def test_a_volume_turned_later_has_other_slices_and_what_is_found_on_them_is_corrected(desk, scene, tmp_path) -> None:
    from desks import rotation
    from ProMISeSlicerLib import mrml

    d = desk()
    edited(d)
    place(d, "+20")
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(0, 0, 90)  # rows become columns
    transform.SetMatrixTransformToParent(mrml.matrixFromArray(matrix))
    d.session.volumeNode.SetAndObserveTransformNodeID(transform.GetID())
    d.session.pump(0)
    loaded = reopened(d, scene, tmp_path)
    assert loaded.session.grid.shape == (10, 40, 32) and d.session.grid.shape == (10, 32, 40)
    mask = loaded.masks()[5].copy()
    loaded.session.addPoint("bar", loaded.world(5, 3, 3), True)
    loaded.settle()
    assert loaded.masks()[5][3, 3] and not (mask & ~loaded.masks()[5]).any()
    loaded.session.close()


def test_a_mask_on_its_way_to_json_and_back() -> None:
    from ProMISeSlicerLib.history import Bits

    for shape in ((3, 5), (1, 8), (512, 512)):
        mask = np.random.default_rng(0).random(shape) < 0.5
        bits = Bits.ofText(json.loads(json.dumps(Bits(mask).text)), shape)
        assert np.array_equal(bits.mask(), mask) and bits.shape == shape
    rows, columns = np.indices((512, 512))
    assert len(Bits(np.hypot(rows - 250, columns - 200) < 120).text) < 2000


@pytest.mark.parametrize("seed", range(8))
def test_who_saves_and_loads_gets_what_others_get(desk, scene, tmp_path, seed: int) -> None:
    """The same random session twice, the second time with a scene saved and loaded again and again."""
    actions = (*Monkey.PROMPTS, "box", "edit", "release", "lock", "add", "add", "move")
    last = []
    for isSaved in (False, True):
        d = desk("oblique")
        monkey = Monkey(d, seed)
        for count in range(40):
            monkey.act(actions)
            d.settle()
            if isSaved and count % 8 == 7:
                d.session = reopened(d, scene, tmp_path, ("mrb", "mrml")[count % 16 > 8]).session
                d.engine = d.session.engine
        d.settle()
        last.append(everything(d))
        d.session.close()
        scene.Clear(0)
    assert different(*last) == []
