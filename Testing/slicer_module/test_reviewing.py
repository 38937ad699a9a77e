"""The review strip, clicked in the test double."""

from __future__ import annotations

import pytest


def test_clicking_the_strip_goes_to_the_slice(segmented) -> None:
    segmented.ui.sliceStrip.cellClicked.emit(0, 10)
    assert segmented.widget.sliceOnScreen() == 10
    assert segmented.ui.reviewLabel.text.startswith("Slice 11: predicted quality 0.80")


def test_next_worst_slice_is_the_one_of_least_quality(segmented) -> None:
    segmented.click("nextWorstButton")
    assert segmented.widget.sliceOnScreen() == 11
    segmented.click("nextWorstButton")
    assert segmented.widget.sliceOnScreen() == 10


def test_the_strip_tells_states_without_colour(segmented) -> None:
    segmented.widget.session.addPoint("disc", segmented.widget.session.sliceCenter(2), True)
    segmented.settle()
    letters = [segmented.ui.sliceStrip.item(3, n).text() for n in range(12)]
    assert letters == ["", "", "U"] + [""] * 9
    assert "corrected by you" in segmented.ui.sliceStrip.item(0, 2).toolTip()


def test_lock_and_release_the_slice_on_screen(segmented) -> None:
    segmented.show(7)
    segmented.click("lockButton")
    assert segmented.ui.sliceStrip.item(3, 7).text() == "L"
    segmented.click("releaseButton")
    assert segmented.ui.sliceStrip.item(3, 7).text() == ""


def test_lock_and_release_are_offered_where_they_do_something(segmented) -> None:
    segmented.show(7)
    assert segmented.ui.lockButton.enabled and not segmented.ui.releaseButton.enabled
    segmented.click("lockButton")
    assert not segmented.ui.lockButton.enabled and segmented.ui.releaseButton.enabled
    segmented.show(8)
    assert segmented.ui.lockButton.enabled and not segmented.ui.releaseButton.enabled


def test_the_strip_follows_the_slice_on_screen_while_the_module_is_open(segmented) -> None:
    def marked() -> list[int]:
        return [n for n in range(12) if segmented.ui.sliceStrip.item(0, n).text()]

    segmented.show(3)
    assert marked() == [3] and segmented.ui.reviewLabel.text.startswith("Slice 4: ")
    segmented.widget.exit()
    segmented.show(5)
    assert marked() == [3]
    segmented.widget.enter()
    assert marked() == [5]


def test_the_strip_is_filled_during_a_run(opened) -> None:
    panel = opened(delay=0.2)
    panel.click("segmentButton")
    panel.settle(lambda: any(state["state"] == "auto" for state in panel.widget.review.states))
    assert panel.widget.session.isBusy
    assert any(state["state"] == "todo" for state in panel.widget.review.states)
    panel.click("cancelButton")


def test_nothing_to_review_is_said(panel) -> None:
    assert panel.ui.reviewLabel.text == "Nothing is segmented yet."
    assert panel.ui.sliceStrip.columnCount == 0 and panel.ui.sliceStrip.isHidden()


def test_colours_tell_slices_of_one_volume_apart(module) -> None:
    """Also with a model that is never sure; small differences are not blown up; poor is darker than good."""
    from ProMISeSlicerLib.strip import colourOf, scaleOf

    unsure = [0.21, 0.30, 0.44, None]
    colours = [colourOf(value, scaleOf(unsure)) for value in unsure]
    assert sum(colours[0]) < sum(colours[1]) < sum(colours[2]) and colours[3] == (200, 200, 200)
    assert scaleOf([0.86, 0.88]) == pytest.approx((0.7, 0.9)) and scaleOf([None]) == (0.0, 1.0)


def test_slices_beside_the_target_are_grey_and_said_to_be_empty(module) -> None:
    from ProMISeSlicerLib.strip import describe

    text = describe(2, {"state": "auto", "iou": 0.1, "agreement": 1.0, "matters": False})
    assert text.startswith("Slice 3: empty") and "0.1" not in text
