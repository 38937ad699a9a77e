"""Another version of a pack, with other targets: the user's prompts go along, and back, and are moved and deleted."""

from __future__ import annotations

import numpy as np
import pytest
from test_base import P1, P2, disc, edited, include, propagated, remove
from test_saving import throughMrb
from test_whose import HALF_TURNS, again, turn

EXTRA = ("extra", "bar", "rod")


@pytest.mark.parametrize("make", [propagated, edited])
def test_points_placed_with_the_version_before_are_deleted_and_their_mask_is_back(desk, make) -> None:
    d = desk()
    mask = make(d)
    include(d, P1)
    wider = again(desk, d, EXTRA)
    assert wider.session.node is not d.session.node and wider.session.promptNodes("bar") == d.session.promptNodes("bar")
    assert np.array_equal(wider.masks()[5], mask | disc(wider, *P1))
    remove(wider, P1)
    assert np.array_equal(wider.masks()[5], mask)
    include(wider, P2)
    back = again(desk, wider)
    assert back.session.node is d.session.node
    assert np.array_equal(back.masks()[5], mask | disc(back, *P2))
    remove(back, P2)
    assert np.array_equal(back.masks()[5], mask)


def test_automatic_points_of_the_version_before_are_replaced_not_doubled(desk) -> None:
    d = desk()
    before = len(d.controlPoints())
    wider = again(desk, d, EXTRA, segmented=False)
    assert len(wider.controlPoints()) == before and not len(wider.controlPoints("extra"))
    wider.session.segment()
    wider.settle()
    assert {len(wider.onSlice(n)) for n in range(9)} == {len(d.onSlice(n)) for n in range(9)} == {1}


def test_a_target_that_one_version_does_not_have_keeps_its_points_for_the_next_that_has_it(desk, scene, tmp_path):
    import slicer

    d = desk()
    d.session.addPoint("rod", d.world(5, *P2), True)
    d.settle()
    rods = d.session.promptNodes("rod")
    narrower = again(desk, d, ("bar",))
    assert not any(node.GetDisplayVisibility() for node in rods)
    wider = again(desk, narrower, EXTRA)
    assert wider.session.promptNodes("rod") == rods and all(node.GetDisplayVisibility() for node in rods)
    assert [mark.user for mark in wider.session.target("rod").marks(5)].count(True) == 1
    count = len(wider.session.target("rod").table)
    again(desk, wider, ("bar",)).session.close()
    throughMrb(scene, tmp_path)
    volume, segmentation = slicer.util.getNode("scan"), slicer.util.getNode("scan ProMISe")
    loaded = desk(targets=EXTRA, volume=volume, segmentationNode=segmentation, segmented=False)
    assert len(loaded.session.target("rod").table) == count
    assert loaded.session.sliceStates("rod")[5]["state"] == "user"


def test_points_stay_with_the_pack_that_they_were_placed_in(desk) -> None:
    d = desk()
    include(d, P1)
    other = again(desk, d, EXTRA, pack="other")
    assert other.session.promptNodes("bar") != d.session.promptNodes("bar")
    assert other.session.sliceStates("bar")[5]["state"] == "user"


def test_on_slices_of_another_direction_points_are_others(desk) -> None:
    d = desk()
    include(d, P1)
    assert again(desk, d, EXTRA, axis="sagittal").session.promptNodes("bar") != d.session.promptNodes("bar")


def test_in_a_volume_turned_since_prompts_stay_and_whose_slices_are_goes_along(desk) -> None:
    d = desk()
    include(d, P1)
    turn(d, HALF_TURNS[0])
    wider = again(desk, d, EXTRA)
    assert wider.session.promptNodes("bar") != d.session.promptNodes("bar")
    assert [n for n, cell in enumerate(wider.session.sliceStates("bar")) if cell["state"] == "user"] == [4]


def test_where_each_version_has_points_of_its_own_both_keep_them(desk) -> None:
    """As in scenes that were saved before versions shared them."""
    from ProMISeSlicerLib.prompts import createNodes
    from ProMISeSlicerLib.state import SceneState, promptRoles

    d = desk()
    include(d, P1)
    d.session.close()
    wider = again(desk, d, EXTRA)
    wider.session.close()
    state = SceneState(wider.session.node)
    for role, node in zip(promptRoles(1), createNodes("bar", (1, 0, 0), d.session.volumeNode), strict=True):
        state.refer(role, node)
    theirs = again(desk, wider, EXTRA)
    include(theirs, P2)
    back = again(desk, theirs)
    assert back.session.promptNodes("bar") == d.session.promptNodes("bar") != theirs.session.promptNodes("bar")
    assert sum(mark.user for mark in back.session.target("bar").marks(5)) == 1
    assert np.array_equal(back.masks()[5], theirs.masks()[5]) and disc(back, *P2)[26, 32]
