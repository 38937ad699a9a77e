"""The page in a real browser with a real mouse, on real MRML and the embedded pack."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from browsing import Desk, Server, differing
from dicom import dicomZip
from PIL import Image

TARGET = "left ventricle"


def begin(desk: Desk) -> dict:
    """The phantom, segmented, slice 6 on screen and the left ventricle chosen."""
    found = desk.open().example().segment()
    assert found["masks"]
    return aim(desk)


def aim(desk: Desk) -> dict:
    """Choose the left ventricle; until that is done, the mouse takes another target's points."""
    desk.page.click(f"button:has-text('{TARGET}')")
    desk.until(lambda found: found["target"] == TARGET, "another target is still chosen")
    return desk.settle()


@contextmanager
def freshDesk(chrome, folder: Path) -> Iterator[Desk]:
    """A page of a server that was started just now; in the end it has not complained."""
    server = Server(folder)
    try:
        context = chrome.new_context(viewport={"width": 1280, "height": 720})
        desk = Desk(server, context.new_page())
        yield desk
        context.close()
        assert desk.errors == []
    finally:
        server.close()


def pointOn(found: dict, positive: bool = True) -> list:
    return next(point for point in found["points"][TARGET] if point[0] == positive and point[5] == found["slice"])


def test_first_view_tells_what_to_do(desk: Desk) -> None:
    desk.open()
    assert "Open a NIfTI" in desk.page.inner_text("#empty")
    assert desk.page.is_disabled("#segment") and "not for clinical use" in desk.page.inner_text("body").lower()
    desk.example()
    before = desk.pixels()
    assert before.max() > 150, "the volume is on screen"
    assert not desk.page.is_visible("#empty") and "Heart" in desk.page.inner_text(".v-select")


def test_drag_a_point_and_only_its_slice_follows(desk: Desk) -> None:
    before = begin(desk)
    seen = desk.pixels()
    start = desk.place(pointOn(before)[2:5])
    end = (start[0] - 24, start[1] + 18)
    desk.drag(start, end)
    after = desk.until(lambda found: differing(before, found)[TARGET], "the mask did not change")
    after = desk.settle()
    changed = differing(before, after)  # the other targets give way there, as the pack asks
    assert changed[TARGET] == [before["slice"]] and set().union(*changed.values()) == {before["slice"]}
    assert (np.abs(desk.pixels() - seen).max(axis=2) > 25).sum() > 100, "the overlay has changed on screen"
    moved = next(point for point in after["points"][TARGET] if point[1])
    assert np.abs(np.subtract(desk.place(moved[2:5]), end)).max() <= 0.5, "it lies where the mouse let go"
    desk.page.click("#undo")
    assert desk.until(lambda found: found["masks"] == before["masks"], "undo did not bring the mask back")


def test_placed_points_lie_under_the_mouse(desk: Desk) -> None:
    begin(desk)
    left, top, height = desk.corner()
    random = np.random.default_rng(5)
    for number in range(8):
        desk.page.keyboard.press("n" if number % 2 else "p")
        desk.until(lambda found: found["tool"] in ("positive", "negative"), "no tool")
        count = sum(point[1] for point in desk.facts()["points"][TARGET])
        x, y = left + 150.5 + random.integers(0, 150), top + 60.5 + random.integers(0, int(height) - 120)
        desk.page.mouse.move(x - 9, y - 9)
        desk.page.mouse.move(x, y, steps=3)
        desk.page.mouse.down()
        desk.page.mouse.up()
        found = desk.until(lambda f, n=count: sum(p[1] for p in f["points"][TARGET]) > n, "no point was placed")
        places = [desk.place(point[2:5]) for point in found["points"][TARGET] if point[1]]
        assert min(np.abs(np.subtract(place, (x, y))).max() for place in places) <= 0.5
        desk.page.keyboard.press("Escape")
        desk.settle()


def test_negative_point_delete_undo_redo(desk: Desk) -> None:
    before = begin(desk)
    x, y = desk.place(pointOn(before)[2:5])
    desk.page.click("#tool-negative")
    desk.until(lambda found: found["tool"] == "negative", "no tool")
    desk.page.mouse.move(x - 20, y)
    desk.page.mouse.move(x + 14, y, steps=3)
    desk.page.mouse.down()
    desk.page.mouse.up()
    after = desk.until(lambda found: differing(before, found)[TARGET], "the negative point did nothing")
    desk.page.keyboard.press("Escape")
    after = desk.settle()
    assert (
        differing(before, after)[TARGET] == [before["slice"]]
        and [p[:2] for p in after["points"][TARGET]].count([False, True]) == 1
    )
    desk.page.click("#delete")
    gone = desk.until(lambda found: [False, True] not in [p[:2] for p in found["points"][TARGET]], "it is still there")
    desk.page.click("#undo")
    desk.until(lambda found: found["masks"] == after["masks"], "undo did not bring the point's mask back")
    desk.page.click("#redo")
    desk.until(lambda found: len(found["points"][TARGET]) == len(gone["points"][TARGET]), "redo did nothing")


def test_delete_key_deletes_the_point_under_the_mouse(desk: Desk) -> None:
    before = begin(desk)
    desk.page.mouse.move(*desk.place(pointOn(before)[2:5]))
    desk.page.wait_for_timeout(300)
    desk.page.keyboard.press("Delete")
    after = desk.until(lambda f: len(f["points"][TARGET]) == len(before["points"][TARGET]) - 1, "nothing was deleted")
    assert {n for name, slices in differing(before, after).items() for n in slices} <= {before["slice"]}


def test_cancel_keeps_what_is_done(desk: Desk) -> None:
    desk.open().example()
    desk.page.click("#segment")
    desk.until(lambda f: any(len(set(m)) > 1 for m in f["masks"].values()), "no slice came")
    desk.page.click("#cancel", force=True)
    found = desk.settle()
    filled = [len(set(masks)) > 1 for masks in found["masks"].values()]
    assert any(filled) and not desk.page.is_disabled("#segment")


def test_propagate_lock_and_the_next_worst_slice(desk: Desk) -> None:
    before = begin(desk)
    desk.page.fill("#propagate-count", "1")
    desk.page.click("#propagate")
    after = desk.until(lambda found: differing(before, found)[TARGET], "nothing was propagated")
    after = desk.settle()
    n = before["slice"]
    assert set(differing(before, after)[TARGET]) <= {n - 1, n + 1}
    desk.page.wait_for_function("document.querySelector('#strip .promise-cells').innerText.includes('P')")
    desk.page.click("#lock")
    desk.page.wait_for_function("document.querySelector('#strip .promise-cells').innerText.includes('L')")
    desk.page.click("#worst")
    desk.until(lambda found: found["slice"] != n, "it is the same slice")


def test_scroll_window_box_and_segment_list(desk: Desk) -> None:
    before = begin(desk)
    left, top, height = desk.corner()
    desk.page.mouse.move(left + 200, top + 100)
    desk.page.mouse.wheel(0, -100)
    desk.until(lambda found: found["slice"] != before["slice"], "the wheel did nothing")
    desk.page.keyboard.press("ArrowDown")
    desk.until(lambda found: found["slice"] == before["slice"], "the arrow did nothing")
    desk.page.keyboard.press("x")
    desk.until(lambda found: found["tool"] == "window", "no tool")
    desk.drag((left + 60, top + 60), (left + 60, top + 110))
    desk.until(lambda found: found["level"] != before["level"], "the level did not change")
    desk.page.keyboard.press("b")
    assert desk.until(lambda found: found["tool"] == "box", "no box")["roi"][2][0] > 0
    seen = desk.pixels()
    for box in desk.page.locator("[data-segment] input[type=checkbox]").all():
        box.click()
    assert (np.abs(desk.pixels() - seen).max(axis=2) > 25).sum() > 100, "segments are hidden"
    assert desk.page.locator("[data-segment]").count() == 3 and " ml" in desk.page.inner_text("[data-segment] >> nth=2")
    flat = desk.pixels("Red")
    desk.page.click("#show3d")
    desk.page.wait_for_function("document.querySelector('#show3d').innerText === 'Hide 3D'")
    assert flat.shape


def test_save_and_go_on_in_a_fresh_process(desk: Desk, chrome, tmp_path) -> None:
    before = begin(desk)
    x, y = desk.place(pointOn(before)[2:5])
    desk.drag((x, y), (x - 20, y))
    desk.until(lambda found: differing(before, found)[TARGET], "the mask did not change")
    before = desk.settle()
    saved = {name: desk.save(name, tmp_path) for name in ("scene", "segmentation", "labelmap", "prompts")}
    endings = ["mrb", "seg.nrrd", "label.nii.gz", "mrk.json"]
    assert [path.name for path in saved.values()] == [f"heart-phantom.{ending}" for ending in endings]
    assert min(path.stat().st_size for path in saved.values()) > 500
    with freshDesk(chrome, tmp_path) as other:
        other.open()
        other.page.set_input_files("#promise-file", str(saved["scene"]))
        after = other.until(lambda found: found["masks"], "the scene was not opened")
        assert after["masks"] == before["masks"]
        assert np.allclose(after["points"][TARGET], before["points"][TARGET], atol=1e-3)
        point = pointOn(aim(other))
        x, y = other.place(point[2:5])
        other.drag((x, y), (x + 25, y + 5))
        other.until(lambda found: differing(after, found)[TARGET], "it does not go on")
        other.settle()
        other.page.set_input_files("#promise-file", str(saved["segmentation"]))
        other.until(lambda found: found["masks"] == after["masks"], "the segmentation was not loaded back")


def test_prompts_and_label_map_are_loaded_back_in_a_fresh_process(desk: Desk, chrome, tmp_path) -> None:
    before = begin(desk)
    x, y = desk.place(pointOn(before)[2:5])
    desk.drag((x, y), (x - 20, y))
    desk.until(lambda found: differing(before, found)[TARGET], "the mask did not change")
    desk.page.keyboard.press("b")
    center, axes, size = map(np.array, desk.settle()["roi"])
    start = desk.place(center - axes[:, 0] * size[0] / 2)
    desk.drag(start, (start[0] + 12 * np.sign(desk.place(center)[0] - start[0]), start[1]))
    desk.until(lambda found: found["roiIsUsers"], "the box was not changed")
    before = desk.settle()
    assert before["roi"][2][0] < size[0] - 0.5
    saved = {name: desk.save(name, tmp_path) for name in ("prompts", "labelmap")}
    with freshDesk(chrome, tmp_path) as other:
        automatic = begin(other)
        assert not automatic["roiIsUsers"] and not any(point[1] for point in automatic["points"][TARGET])
        other.page.set_input_files("#promise-file", str(saved["prompts"]))
        other.until(lambda found: found["roiIsUsers"] and not found["busy"], "the box did not come back")
        after = other.settle()
        assert np.allclose(after["roi"][0], before["roi"][0], atol=1e-3)
        assert np.allclose(after["roi"][2], before["roi"][2], atol=1e-3)
        placed = [[point[2:5] for point in facts["points"][TARGET] if point[1]] for facts in (before, after)]
        assert len(placed[0]) == 1 and np.allclose(*placed, atol=1e-3)
        assert before["slice"] in differing(automatic, after)[TARGET]
        other.page.set_input_files("#promise-file", str(saved["labelmap"]))
        other.until(lambda found: found["masks"] == before["masks"], "the label map was not loaded back")


def test_a_zip_of_dicom_files_is_opened(desk: Desk, tmp_path) -> None:
    desk.open()
    desk.page.set_input_files("#promise-file", str(dicomZip(tmp_path)))
    desk.page.wait_for_selector("#volume-name")
    assert "26 × 22 × 9 voxels" in desk.page.inner_text("body") and "1 × 1 × 3 mm" in desk.page.inner_text("body")
    assert desk.pixels().max() > 150
    assert "Secret" not in desk.page.content() + desk.server.log, "no name of a patient is shown or logged"


def test_a_colour_picture_is_segmented(desk: Desk, tmp_path) -> None:
    rows, columns = np.indices((120, 160))
    picture = np.stack([200 - rows, 60 + columns // 2, 0 * rows + 90], axis=2).astype(np.uint8)
    picture[(rows - 60) ** 2 + (columns - 70) ** 2 < 30**2] = (120, 40, 30)
    Image.fromarray(picture).save(tmp_path / "skin spot.png")
    desk.open()
    desk.page.set_input_files("#promise-file", str(tmp_path / "skin spot.png"))
    desk.page.wait_for_selector("#volume-name")
    assert "160 × 120 pixels, colour" in desk.page.inner_text("body")
    desk.page.evaluate("window.trame.trigger('do', ['pack', 'skin'])")
    desk.page.wait_for_function("document.querySelector('.v-select').innerText.includes('Skin')")
    found = desk.segment(least=1)
    shown = desk.pixels()
    colours = shown[shown.max(axis=2) > 40]
    assert (np.ptp(colours, axis=1) > 40).mean() > 0.5, "it is shown in colour"
    (target,) = found["masks"]
    desk.page.click("#tool-positive")
    desk.until(lambda facts: facts["tool"] == "positive", "no tool")
    left, top, height = desk.corner()  # the pack finds the spot's lower part only: its middle is missed
    middle = (left + desk.facts()["size"][0] / 2, top + height / 2)
    desk.page.mouse.move(middle[0] - 9, middle[1])
    desk.page.mouse.move(*middle, steps=3)
    desk.page.mouse.down()
    desk.page.mouse.up()
    desk.until(lambda facts: differing(found, facts)[target], "the point did nothing")


def test_a_lost_page_finds_its_study_again(desk: Desk) -> None:
    before = begin(desk)
    desk.page.reload()
    desk.page.wait_for_selector("#strip")
    assert desk.facts()["masks"] == before["masks"] and desk.pixels().max() > 150
    other = desk.page.context.browser.new_context().new_page()
    answer = other.goto(desk.server.url)
    assert answer.status == 409 and "Another browser has this study open" in other.inner_text("main")
    other.click("text=Take over here")
    other.wait_for_selector("#strip")
    desk.page.wait_for_selector(".promise-lost.shown", timeout=20_000)
    desk.errors[:] = [error for error in desk.errors if "409" not in error and "ERR_" not in error]
    other.context.close()


def test_what_cannot_be_opened_is_explained(desk: Desk, tmp_path) -> None:
    desk.open()
    for name, content, words in (
        ("scan.exe", b"MZ", "cannot be opened here"),
        ("scan.nii.gz", b"no image at all", "scan.nii.gz is not in a format"),
        ("scan.zip", b"PK no zip", "damaged"),
        ("scan.nrrd", b"", "scan.nrrd is empty"),
    ):
        (tmp_path / name).write_bytes(content)
        desk.page.set_input_files("#promise-file", str(tmp_path / name))
        said = "(words) => document.querySelector('#message').innerText.includes(words)"
        desk.page.wait_for_function(said, arg=words, timeout=15_000)
        assert str(tmp_path) not in desk.message
    (tmp_path / "large.nrrd").write_bytes(bytes(51_000_000))
    desk.page.set_input_files("#promise-file", str(tmp_path / "large.nrrd"))
    desk.page.wait_for_function("document.querySelector('#message').innerText.includes('more than 50 MB')")
    assert desk.page.is_visible("#empty")


class Monkey:
    """Random clicks, drags and keys; always the same for a seed."""

    PROMPTS = ("p", "n", "b", "m", "x", "d", "g", "w", "Escape", "Delete", "ArrowUp", "?")
    REST = ("u", "Shift+U", "l", "Shift+L", "s")

    def __init__(self, desk: Desk, seed: int, keys: tuple[str, ...]) -> None:
        self.desk, self.random, self.keys = desk, np.random.default_rng(seed), keys

    def act(self) -> None:
        page, area = self.desk.page, self.desk.page.locator("[data-view='Red']").bounding_box()
        x, y = (area[at] + self.random.uniform(0.3, 0.7) * area[size] for at, size in (("x", "width"), ("y", "height")))
        choice = self.random.random()
        if choice < 0.45:
            page.keyboard.press(str(self.random.choice(self.keys)))
            if page.locator("[role=dialog]").count():
                page.keyboard.press("Escape")
        elif choice < 0.7:
            page.mouse.click(x, y)
        elif choice < 0.9:
            self.desk.drag((x, y), (x + self.random.uniform(-40, 40), y + self.random.uniform(-40, 40)), steps=3)
        else:
            page.mouse.move(x, y)
            page.mouse.wheel(0, float(self.random.choice([-100, 100])))
        page.wait_for_timeout(25)


def romp(desk: Desk, keys: tuple[str, ...]) -> tuple[dict, dict]:
    """Facts before and after 200 actions, of which nothing but prompts and masks is left; answers are not awaited."""
    before = begin(desk)
    monkey = Monkey(desk, 11, keys)
    for _ in range(200):
        monkey.act()
    desk.page.keyboard.press("Escape")
    last = desk.settle()
    assert (last["nodes"], last["observers"]) == (before["nodes"], before["observers"])
    assert differing(before, last)[TARGET], "it did something"
    return before, last


def test_200_random_actions_leave_nothing_behind(desk: Desk) -> None:
    romp(desk, Monkey.PROMPTS + Monkey.REST)


def test_undo_leads_back_from_200_random_prompts_and_redo_to_their_end(desk: Desk) -> None:
    before, last = romp(desk, Monkey.PROMPTS)
    for key, part, there in (("u", "undo", before), ("Shift+U", "redo", last)):
        for _ in range(150):
            if not desk.settle()[part]:
                break
            desk.page.keyboard.press(key)
            desk.page.wait_for_timeout(40)
        assert desk.settle()["masks"] == there["masks"]
