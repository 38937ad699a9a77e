"""What ProMISeSlicerTest checks, in Slicer and in the test double alike; `test` is the running unittest.TestCase."""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path

import numpy as np
import slicer

from . import catalogue, environment, folders

_LEAST_DICE = 0.5  # on the drawn heart, by a network that has seen only real ones
_LONGEST_S = 300


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


def _finish(test, session) -> None:
    end = time.monotonic() + _LONGEST_S
    while session.isBusy:
        session.pump()
        test.assertLess(time.monotonic(), end, "the session does not come to an end")


def _mask(session, target: str, n: int) -> np.ndarray:
    return session.segments.read(session.segmentId(target), n)


def _promptAndUndo(test, session, target: str, n: int, ras) -> None:
    """A positive point changes its slice and no other, and undo brings the slice back."""
    before = {m: _mask(session, target, m) for m in (n - 1, n, n + 1)}
    session.addPoint(target, ras, True)
    _finish(test, session)
    for m, mask in before.items():
        same = np.array_equal(mask, _mask(session, target, m))
        test.assertEqual(same, m != n, f"slice {m} after a point on slice {n}")
    test.assertEqual(session.sliceStates(target)[n]["state"], "user")
    session.undo()
    _finish(test, session)
    test.assertTrue(np.array_equal(before[n], _mask(session, target, n)), "undo")


def packsAreDescribed(test) -> None:
    for pack in folders.packs():
        card = catalogue.card(pack.manifest)
        for words in (pack.manifest.modality, pack.manifest.licence, pack.manifest.targets[0].name):
            test.assertIn(words, card + catalogue.name(pack.manifest) + " ".join(t.name for t in pack.manifest.targets))


def segmentCorrectUndoAndCancel(test) -> None:
    """A pass, a point, its undo, and a pass that is cancelled, with the fake engine."""
    from .fakeEngine import FakeEngine
    from .session import Session

    session = Session(_volume(), _manifest(), engine=FakeEngine(0.02))
    try:
        session.segment(3)
        _finish(test, session)
        test.assertGreater(_mask(session, "disc", 5).sum(), 50)
        _promptAndUndo(test, session, "disc", 5, session.sliceCenter(5) + np.array([8.0, 0.0, 0.0]))
        _cancelAndGoOn(test, session, "disc")
    finally:
        session.close()


def _cancelAndGoOn(test, session, target: str) -> None:
    """A cancelled pass loses nothing, and the next one ends with the same masks."""
    before = [_mask(session, target, n) for n in range(len(session.grid))]
    session.segment()
    while session.isBusy and session.progress.done < 2:
        session.pump()
    session.cancel()
    _finish(test, session)
    test.assertGreaterEqual(session.progress.done, 2)
    for n, mask in enumerate(before):
        test.assertEqual(mask.any(), _mask(session, target, n).any(), f"slice {n} after cancelling")
    session.segment()
    _finish(test, session)
    test.assertEqual(session.progress.done, len(session.grid))
    for n, mask in enumerate(before):
        test.assertTrue(np.array_equal(mask, _mask(session, target, n)), f"slice {n} after another pass")


def segmentThePhantom(test) -> dict[str, float]:
    """The generated heart with the embedded pack and backbone: found, corrected, undone, cancelled, saved, reopened.

    Returns the Dice of every target, which is also logged.
    """
    from .engine import CoreEngine
    from .session import Session

    pack = next((each for each in folders.packs() if each.manifest.name == "heart"), None)
    if environment.missing() or pack is None:
        test.skipTest("PyTorch, another package or the embedded pack is not there")
    volume = environment.core("phantom").heart()
    node = slicer.util.addVolumeFromArray(volume.voxels, ijkToRAS=volume.affine, name="phantom")
    with tempfile.TemporaryDirectory() as cache:
        session = Session(node, pack, engine=CoreEngine(pack.path, "cpu", cache))
        try:
            session.segment()
            _finish(test, session)
            found = _overlaps(session, node)
            logging.info("ProMISe self-test, Dice on the heart phantom: %s", found)
            for name, dice in found.items():
                test.assertGreater(dice, _LEAST_DICE, name)
            point = session.sliceCenter(5) + np.array([30.0, 20.0, 0.0])
            _promptAndUndo(test, session, "left ventricle", 5, point)
            _cancelAndGoOn(test, session, "left ventricle")
        finally:
            session.close()
        _saveAndReopen(test, pack, cache, point)
    return found


def _overlaps(session, node) -> dict[str, float]:
    """Dice of every target with the phantom's true masks."""
    found = {}
    for name, truth in environment.core("phantom").heart_masks().items():
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(session.segmentationNode, session.segmentId(name), node) > 0
        found[name] = round(float(2 * (mask & truth).sum() / (mask.sum() + truth.sum())), 3)
    return found


def _saveAndReopen(test, pack, cache: str, point) -> None:
    """A scene saved as .mrb and read again: the segment is there, and a new point re-solves its slice."""
    from .engine import CoreEngine
    from .session import Session

    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "scene.mrb")
        test.assertTrue(slicer.mrmlScene.WriteToMRB(file))
        slicer.mrmlScene.Clear(False)
        test.assertTrue(slicer.mrmlScene.ReadFromMRB(file))
    session = Session.fromScene(engine=CoreEngine(pack.path, "cpu", cache), pack=pack)
    try:
        test.assertGreater(_mask(session, "left ventricle", 5).sum(), 0)
        _promptAndUndo(test, session, "left ventricle", 5, point)
    finally:
        session.close()
