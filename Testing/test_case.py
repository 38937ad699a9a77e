"""What a case's labels say of themselves."""

from __future__ import annotations

import numpy as np
import pytest

from ProMISeCore.case import State
from ProMISeCore.truth import UNKNOWN
from ProMISeCore.volumes import Stack, Volume


def test_what_is_unknown_of_a_target_is_in_the_report() -> None:
    labels = np.zeros((4, 8, 8), np.uint8)
    labels[1, 2:6, 2:6], labels[2:], labels[0, :4] = 1, UNKNOWN, UNKNOWN
    volume = Volume(np.ones(labels.shape, np.int16), np.eye(4), "v")
    entry = State.of(Stack(volume, "axial"), volume, labels).entry()
    assert entry == {"state": "labelled", "voxels": 16, "slices": 1, "unknown_slices": 2, "unknown_share": 0.625}


@pytest.mark.parametrize(
    ("sides", "abrupt"),
    [
        ([0, 0, 6, 6, 0, 0, 0, 0], True),  # two slices of full size amid a volume
        ([0, 0, 3, 3, 0, 0, 0, 0], False),  # something small
        ([0, 0, 6, 6, 6, 0, 0, 0], True),
        ([0, 2, 5, 6, 5, 2, 0, 0], False),  # an organ that ends
        ([6, 6, 0, 0, 0, 0, 0, 0], False),  # beyond the volume's edge it may go on
        ([0, 6, 6, 6, 6, 4, 2, 0], False),  # large at one end only, as a ventricle
        ([2, 6, 6, 0, 0, 6, 6, 2], True),  # missing in between
        ([2, 6, 6, 2, 0, 2, 6, 2], False),  # two pieces
        ([0, 6, 6, None, None, 6, 6, 0], True),  # the gap is unknown, the ends are not
        ([2, 6, 6, None, None, 6, 6, 2], False),
        ([None, 6, 6, None, None, None, None, None], False),
    ],
)
def test_where_a_target_begins_and_ends_abruptly(sides, abrupt) -> None:
    labels = np.zeros((len(sides), 8, 8), np.uint8)
    for n, side in enumerate(sides):
        if side is None:
            labels[n] = UNKNOWN
        else:
            labels[n, :side, :side] = 1
    volume = Volume(np.ones(labels.shape, np.int16), np.eye(4), "v")
    assert State.of(Stack(volume, "axial"), volume, labels).abrupt is abrupt
