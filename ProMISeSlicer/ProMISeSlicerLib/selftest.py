"""What ProMISeSlicerTest checks, in Slicer and in the test double alike; `test` is the running unittest.TestCase."""

from __future__ import annotations

import time

import numpy as np
import slicer

from . import catalogue, environment


def _volume():
    """8 axial slices of 32 × 32 with a disc of value 100, which the fake engine takes for its first target."""
    rows, columns = np.mgrid[:32, :32]
    disc = np.where(np.hypot(rows - 16, columns - 16) < 6, 100, 0).astype(np.int16)
    return slicer.util.addVolumeFromArray(np.repeat(disc[None], 8, 0), name="self-test")


def _manifest():
    manifests = environment.core("manifest")
    return manifests.Manifest(
        name="selftest",
        backbone=manifests.BackboneInfo("tiny", "0" * 64, 64),
        targets=(manifests.TargetInfo("disc"),),
        modality="MR",
        orientation="axial",
        window={"mode": "percentile", "low": 0.5, "high": 99.5},
    )


def _finish(test, session, seconds: float) -> None:
    end = time.monotonic() + seconds
    while session.isBusy:
        session.pump()
        test.assertLess(time.monotonic(), end, "the session does not come to an end")


def packsAreDescribed(test) -> None:
    for pack in environment.core("packs").installed():
        test.assertIn(pack.manifest.modality, catalogue.title(pack.manifest))
        test.assertIn(pack.manifest.targets[0].name, catalogue.details(pack.manifest))


def segmentCorrectUndoAndCancel(test) -> None:
    """A pass, a point, its undo, and a pass that is cancelled, with the fake engine."""
    from .fakeEngine import FakeEngine
    from .session import Session

    session = Session(_volume(), _manifest(), engine=FakeEngine())
    try:
        session.segment(3)
        _finish(test, session, 30)
        automatic = session.segments.read(session.segmentId("disc"), 5)
        test.assertGreater(automatic.sum(), 50)
        session.addPoint("disc", session.sliceCenter(5), True)
        _finish(test, session, 30)
        corrected = session.segments.read(session.segmentId("disc"), 5)
        test.assertFalse(np.array_equal(automatic, corrected))
        test.assertEqual(session.sliceStates("disc")[5]["state"], "user")
        session.undo()
        _finish(test, session, 30)
        test.assertTrue(np.array_equal(automatic, session.segments.read(session.segmentId("disc"), 5)))
        session.segment()
        session.cancel()
        _finish(test, session, 30)
    finally:
        session.close()


def segmentThePhantom(test) -> None:
    """The generated heart with an embedded pack and the embedded backbone: what is bright is found."""
    from .engine import CoreEngine
    from .session import Session

    pack = next((each for each in environment.core("packs").installed() if each.manifest.name == "heart"), None)
    if environment.missing() or pack is None:
        test.skipTest("PyTorch, another package or the embedded pack is not there")
    phantom = environment.core("phantom")
    volume = phantom.heart()
    node = slicer.util.addVolumeFromArray(volume.voxels, ijkToRAS=volume.affine, name="phantom")
    session = Session(node, pack.path, engine=CoreEngine(pack.path, "cpu"))
    try:
        session.segment()
        _finish(test, session, 300)
        for name, truth in phantom.heart_masks().items():
            if name in session.targets:
                found = slicer.util.arrayFromSegmentBinaryLabelmap(
                    session.segmentationNode, session.segmentId(name), node
                )
                overlap = 2 * (found.astype(bool) & truth.astype(bool)).sum() / (found.sum() + truth.sum())
                test.assertGreater(overlap, 0.5, name)
    finally:
        session.close()
