"""The review strip, clicked in the test double."""

from __future__ import annotations


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
