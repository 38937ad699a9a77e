"""One volume, one pack, its prompts and its segmentation: the state machine behind the panel, without any Qt.

Whoever owns a session calls `pump` while `isBusy` (or after `onActivity` was called): it takes changed prompts to the
worker and finished slices to the segmentation. All that the user sees is in the scene; `Session.fromScene` goes on.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import slicer
import vtk

from . import environment, mrml
from .engine import CoreEngine, Engine
from .history import Bits, History, Moment, Step, checksum, revert
from .prompts import SOURCE, USER, TargetPrompts, Watcher, createNodes, crossing
from .review import Agreement, worst
from .state import FormatError, SceneState, findSession, sessionNodes
from .worker import Report, Worker

_PASS, _PROPAGATION, _TIDY = "pass", "propagation", ("tidy",)  # keys of jobs that no target's name can equal
_MOVED = 1e-3  # pixels; less is rounding
_LEAST_IOU = 0.5  # predicted; a propagation ends below
_LEAST_PIXELS = 4
_SHARE = 0.04  # seconds of one pump for finished slices


class SessionError(Exception):
    """Something cannot be done; the message says what was given, what was expected and what to do."""


class Progress(NamedTuple):
    """Of the pass or propagation: slices done and in all, seconds left where that can be told."""

    done: int
    total: int
    secondsLeft: float | None


class _Mark(NamedTuple):
    """A control point as last dealt with: nrc (slice, row, column)."""

    positive: bool
    user: bool
    nrc: tuple[float, float, float]

    @property
    def slice(self) -> int:
        return round(self.nrc[0])


class _Roi(NamedTuple):
    """An ROI as last dealt with: corners (8, 3) nrc; boxes by slice, only where it is the user's; what restores it."""

    corners: np.ndarray | None
    boxes: dict[int, tuple]
    state: tuple | None


class Session:
    """See the module. pack: a pack's name or file, a Pack, or a manifest; axis: None for the manifest's orientation.

    segmentationNode: where segments are made or, if a session of the same pack has worked in it, taken up again.
    engine: what computes, ProMISeCore unless given. Raises SessionError for nodes and packs that cannot be used.
    """

    def __init__(self, volumeNode, pack, segmentationNode=None, engine: Engine | None = None, axis: str | None = None):
        self.onActivity: Callable[[], None] | None = None
        self.hint = ""  # for the user, about what was done last
        self.currentSlice: int | None = None  # the one on screen, previewed while an ROI is dragged
        self._closed, self._writing = False, False
        self.volumeNode = volumeNode
        self._scene = _checkedScene(volumeNode)
        self.manifest, self._packPath, packHash = _manifest(pack)
        self.axis = axis
        self._readVolume()
        self._state = _stateFor(volumeNode, segmentationNode, self.manifest)
        segmentationNode = segmentationNode or mrml.createSegmentation(volumeNode, f"{volumeNode.GetName()} ProMISe")
        with _teaching():
            self.segments = mrml.Segments(segmentationNode, volumeNode, self.grid)
        self.engine = engine if engine is not None else CoreEngine(self._packPath or _find(self.manifest.name))
        self._setUp(packHash)

    @classmethod
    def fromScene(cls, node=None, engine: Engine | None = None, pack=None) -> Session:
        """Go on with a session of this scene. node: its node, a (wrapped) parameter node, a volume or segmentation.

        pack: a pack's file, where the one recorded is not installed. Raises SessionError for what is missing.
        """
        found = findSession(node)
        if found is None:
            raise SessionError("this scene holds no ProMISe session for that node; choose a volume and press Segment")
        with _teaching():
            state = SceneState(found)
        volumeNode, segmentationNode = state.referred("volume"), state.referred("segmentation")
        if volumeNode is None or segmentationNode is None:
            lacking = "volume" if volumeNode is None else "segmentation"
            raise SessionError(f"the {lacking} of {found.GetName()!r} is no longer in the scene; start a new session")
        recorded = state.data["pack"]
        if pack is None and engine is not None:
            pack = environment.core("manifest").Manifest.of(recorded["manifest"], found.GetName())
        elif pack is None:
            pack = _find(recorded["manifest"]["name"])
        _, _, packHash = _manifest(pack)
        if None not in (packHash, recorded["sha256"]) and packHash != recorded["sha256"]:
            raise SessionError(
                f"the pack {recorded['manifest']['name']!r} is another version than the one this scene was made with "
                f"(SHA-256 {packHash[:12]}…, recorded {recorded['sha256'][:12]}…); install that one, or start anew"
            )
        return cls(volumeNode, pack, segmentationNode, engine, state.data.get("axis"))

    # What there is

    @property
    def targets(self) -> list[str]:
        return [target.name for target in self.manifest.targets]

    @property
    def segmentationNode(self):
        return self.segments.node

    @property
    def node(self):
        """The scripted module node that holds this session's memory."""
        return self._state.node

    @property
    def isClosed(self) -> bool:
        return self._closed

    @property
    def isBusy(self) -> bool:
        return not self._closed and (bool(self._dirty) or self._worker.busy)

    @property
    def progress(self) -> Progress:
        if self._pass is None:
            return Progress(*self._lastPass, None)
        done, total, start = self._pass
        left = (time.monotonic() - start) / done * (total - done) if done else None
        return Progress(done, total, left)

    def promptNodes(self, target: str) -> tuple:
        """Positive and negative control points, ROI."""
        return self._promptsOf(target).nodes

    def segmentId(self, target: str) -> str:
        return self._ids[self._known(target)]

    def sliceAt(self, ras) -> int:
        """The stack's slice nearest to a world point, 0…n−1."""
        return int(np.clip(round(self._nrc([ras])[0][0]), 0, len(self.grid) - 1))

    def sliceCenter(self, n: int) -> tuple[float, float, float]:
        """World mm of the middle of slice n, to jump to."""
        _, height, width = self.grid.shape
        return tuple(self._world([[self._slice(n), (height - 1) / 2, (width - 1) / 2]])[0])

    # Passes

    def segment(self, firstSlice: int | None = None) -> None:
        """Start the automatic pass, firstSlice first. Slices that are the user's, or edited by hand, are kept."""
        self._needOpen()
        first = None if firstSlice is None else self._slice(firstSlice)
        self.cancel()
        self._checkEngine()
        self._refresh()
        self._keepHandEdits()
        self._setPass(len(self.grid))
        stop, engine = self._stop, self.engine
        self._streamJob(_PASS, lambda: engine.segmentVolume(first, lambda: bool(stop)))

    def cancel(self) -> None:
        """Stop the pass or propagation; what is done stays."""
        if self._closed:
            return
        self._stop.append(True)
        self._stop = []
        self._worker.cancel(_PASS)
        self._worker.cancel(_PROPAGATION)
        self._collect()
        self._endPass()

    def pump(self, wait: float = 0.02) -> Progress:
        """Changed prompts to the worker, finished slices to the segmentation; lends the worker up to `wait` seconds.

        Raises SessionError for what went wrong in the worker, once; the session can be used on.
        """
        if self._closed:
            return Progress(0, 0, None)
        self._mend()
        self._flush()
        if self._worker.busy:
            self._worker.wait(wait)
        self._collect(_SHARE)
        return self.progress if not self._closed else Progress(0, 0, None)

    def propagate(self, target: str, slice: int, count: int | None = None, direction: int = 0) -> None:
        """Take a slice's mask as prompt to its neighbours: mask, box and a point, then theirs to the next.

        count: slices per direction, None until confidence falls; direction: +1, −1, or 0 for both. Ends at slices that
        are the user's. One undo step.
        """
        self._needOpen()
        n, known = self._slice(slice), self._known(target)
        mask = self.segments.read(self._ids[known], n)
        if not mask.any():
            raise SessionError(f"slice {n} of {target!r} is empty: there is nothing to take to its neighbours")
        self.cancel()
        self._refresh()
        ways = []
        for way in (1, -1) if direction == 0 else (int(np.sign(direction)),):
            ways.append([])
            for m in range(n + way, len(self.grid) if way > 0 else -1, way):
                if self._isUsers(known, m) or (count is not None and len(ways[-1]) >= count):
                    break
                ways[-1].append(m)
        self._setPass(sum(map(len, ways)))
        self._chain = Step(known, Moment(roi=self._rois[known].state))
        engine = self.engine
        self._streamJob(_PROPAGATION, lambda: _propagated(engine, known, mask, ways, count is None))

    # Prompts

    def addPoint(self, target: str, ras, positive: bool) -> int | None:
        """Place a user's point at world mm; returns the slice it went to, None outside the volume (see `hint`)."""
        self._needOpen()
        prompts = self._promptsOf(target)
        self._writing = True
        try:
            prompts.add(ras, positive, user=True)
        finally:
            self._writing = False
        self._dirty[target] = False
        self._active()
        n = round(self._nrc([ras])[0][0])
        self._flush()
        return n if self._isInside(self._nrc([ras])[0]) else None

    def lock(self, slice: int, target: str | None = None) -> None:
        """Keep a slice from automatic passes, for one target or all."""
        for name in self._each(target):
            self._record(name, self._slice(slice))["locked"] = True
        self._save()

    def release(self, slice: int, target: str | None = None) -> None:
        """Give a slice back to automatic passes, also one that the user has touched or edited."""
        n = self._slice(slice)
        for name in self._each(target):
            record = self._records[name].get(n)
            if record is not None:
                record.update(locked=False, state="auto", crc=checksum(self.segments.read(self._ids[name], n)))
        self._save()

    @property
    def canUndo(self) -> bool:
        return not self._closed and self._history.canUndo

    @property
    def canRedo(self) -> bool:
        return not self._closed and self._history.canRedo

    def undo(self) -> None:
        """Take back one prompt step: points and masks of the slices it touched; later hand edits stay."""
        self._needOpen()
        self._flush()
        if not self._history.canUndo:
            raise SessionError("there is no prompt step to undo")
        step = self._history.undo()
        self._go(step.target, step.after, step.before)

    def redo(self) -> None:
        self._needOpen()
        self._flush()
        if not self._history.canRedo:
            raise SessionError("there is no prompt step to redo")
        step = self._history.redo()
        self._go(step.target, step.before, step.after)

    # Review

    def sliceStates(self, target: str) -> list[dict]:
        """Per slice: slice, state (auto, user, locked, todo), iou (predicted, or None), agreement, matters (bool)."""
        name, cells = self._known(target), []
        agreement = self._agreement[name]
        for n in range(len(self.grid)):
            record = self._records[name].get(n)
            state = "todo" if record is None else "locked" if record.get("locked") else record["state"]
            done = record is not None
            around = range(max(n - 1, 0), min(n + 2, len(self.grid)))
            cells.append(
                {
                    "slice": n,
                    "state": state,
                    "iou": record.get("iou") if done else None,
                    "agreement": agreement.of(n) if done else None,
                    "matters": any(agreement.filled(m) for m in around),
                }
            )
        return cells

    def nextWorstSlice(self, target: str) -> int | None:
        """The automatic slice to look at next, worst first, then around again; None where there is none."""
        cells, seen = self.sliceStates(target), self._seen.setdefault(target, set())
        found = worst(cells, seen)
        if found is None and seen:
            seen.clear()
            found = worst(cells, seen)
        if found is not None:
            seen.add(found)
        return found

    def close(self) -> None:
        """End the thread and all observers; the nodes stay in the scene. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._stop.append(True)
        self._watcher.close()
        self._worker.close()
        self.engine.close()
        self.onActivity = None

    # Setting up

    def _readVolume(self) -> None:
        with _teaching():
            voxels = mrml.voxelsOf(self.volumeNode)
            volumes = environment.core("volumes")
            picture = mrml.isPicture(self.volumeNode) or (voxels.shape[0] == 1 and self.manifest.orientation == "image")
            volume = volumes.Volume(voxels, mrml.affineOf(self.volumeNode), self.volumeNode.GetName(), picture)
            stack = volumes.Stack(volume, self.axis or self.manifest.orientation)
        if min(stack.shape[1:]) < _LEAST_PIXELS:
            raise SessionError(
                f"{volume.name!r} has {stack.axis} slices of only {stack.shape[1]} × {stack.shape[2]} pixels; "
                "choose a pack for another orientation, or another axis"
            )
        if voxels.min() == voxels.max():
            raise SessionError(f"the volume {volume.name!r} is constant ({voxels.flat[0]}): it shows nothing")
        self._volume, self.grid = volume, mrml.SliceGrid.of(stack)
        self._voxelTime = self._voxelsChanged()
        self._opening: list[bool] = []  # filled by the worker once the engine is open for these voxels

    def _setUp(self, packHash: str | None) -> None:
        self._worker, self._history, self._watcher = Worker(), History(), Watcher(self._changed)
        self._stop: list[bool] = []
        self._dirty: dict[str, bool] = {}
        self._latest: dict[tuple[str, int], int] = {}
        self._open: dict[str, Step] = {}  # steps under way, while dragging
        self._chain: Step | None = None
        self._pass: tuple[int, int, float] | None = None
        self._lastPass = (0, 0)
        self._seen: dict[str, set[int]] = {}
        self._ids: dict[str, str] = {}
        self._prompts: dict[str, TargetPrompts] = {}
        self._records: dict[str, dict[int, dict]] = {}
        self._tables: dict[str, dict[str, _Mark]] = {}
        self._rois: dict[str, _Roi] = {}
        self._agreement: dict[str, Agreement] = {}
        for number, target in enumerate(self.manifest.targets):
            self._setUpTarget(number, target)
        self._state.refer("volume", self.volumeNode)
        self._state.refer("segmentation", self.segmentationNode)
        self._state.data.update(pack={"manifest": self.manifest.entries(), "sha256": packHash}, axis=self.axis)
        self._save()
        self._watch()

    def _setUpTarget(self, number: int, target) -> None:
        data = self._state.data
        name, color, terminology = mrml.describe(target)
        known = data["targets"][number]["segment"] if number < len(data["targets"]) else ""
        self._ids[name] = self.segments.ensure(known, name, color, terminology)
        roles = [f"{role}.{number}" for role in ("positive", "negative", "roi")]
        nodes = [self._state.referred(role) for role in roles]
        if None in nodes:
            made = createNodes(name, color, self.volumeNode)
            for index, node in enumerate(nodes):
                if node is not None:
                    self._scene.RemoveNode(made[index])
            nodes = [node or new for node, new in zip(nodes, made, strict=True)]
        for role, node in zip(roles, nodes, strict=True):
            self._state.refer(role, node)
        self._prompts[name] = TargetPrompts(*nodes)
        self._records[name] = {int(n): dict(record) for n, record in data["slices"].get(name, {}).items()}
        self._tables[name], self._rois[name] = self._table(name), self._roi(name)
        self._agreement[name] = Agreement(len(self.grid), lambda n, name=name: self.segments.read(self._ids[name], n))

    def _watch(self) -> None:
        for name, prompts in self._prompts.items():
            self._watcher.watch(name, prompts)

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def removed(caller, event, node=None):
            if node in (self.volumeNode, self.segmentationNode, self.node):
                self.close()

        self._watcher.observe(self._scene, slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, removed)
        self._watcher.observe(self._scene, slicer.vtkMRMLScene.StartCloseEvent, lambda *_: self.close())
        moved = slicer.vtkMRMLTransformableNode.TransformModifiedEvent
        self._watcher.observe(self.volumeNode, moved, lambda *_: self._follow())

    def _follow(self) -> None:
        """Prompts and segmentation stay under the volume's parent transform."""
        for node in (self.segmentationNode, *[node for prompts in self._prompts.values() for node in prompts.nodes]):
            mrml.follow(node, self.volumeNode)

    def _mend(self) -> None:
        """Make prompt nodes and segments again that were removed from the scene."""
        lost = [
            number
            for number, name in enumerate(self.targets)
            if any(node.GetScene() is None for node in self._prompts[name].nodes)
            or self.segmentationNode.GetSegmentation().GetSegment(self._ids[name]) is None
        ]
        if lost:
            self._watcher.close()
            for number in lost:
                target = self.manifest.targets[number]
                if self.segmentationNode.GetSegmentation().GetSegment(self._ids[target.name]) is None:
                    self._state.data["slices"].pop(target.name, None)
                self._setUpTarget(number, target)
            self._save()
            self._watch()

    # Prompts → worker

    def _changed(self, target: str, dragging: bool) -> None:
        if not self._writing and not self._closed:
            self._dirty[target] = dragging
            self._active()

    def _active(self) -> None:
        if self.onActivity is not None:
            self.onActivity()

    def _flush(self) -> None:
        while self._dirty:
            target, dragging = self._dirty.popitem()
            self._resolve(target, dragging)

    def _resolve(self, target: str, dragging: bool) -> None:
        """Find out which slices' prompts have changed and decode them, for show while dragging, else for good."""
        table, roi = self._table(target), self._roi(target)
        moved, roiMoved = _differences(self._tables[target], table), _differ(self._rois[target].corners, roi.corners)
        if not moved and not roiMoved and target not in self._open:
            return
        roi = self._roi(target, edited=True) if roiMoved else roi
        touched = {n for slices in moved.values() for n in slices if 0 <= n < len(self.grid)}
        crossed = set(roi.boxes) | set(self._rois[target].boxes) if roiMoved else set()
        touched |= {n for n in crossed if not self._records[target].get(n, {}).get("locked")}
        step = self._open.setdefault(target, Step(target, Moment(roi=self._rois[target].state)))
        if dragging and roiMoved:
            touched &= {self.currentSlice}
        self._begin(step, touched)
        if not dragging:
            self._commit(step, touched, set(moved) & set(table), roiMoved)
            return
        for n in touched:
            self._decode(target, n, table, roi.boxes)

    def _commit(self, step: Step, touched: set[int], ids: set[str], roiMoved: bool) -> None:
        """Make the step the user's: points claimed and brought onto their slice, other slices of a drag put back."""
        target = step.target
        self._open.pop(target, None)
        self._claim(target, ids)
        if roiMoved:
            self._prompts[target].roi.SetAttribute(SOURCE, USER)
        self._tables[target], self._rois[target] = self._table(target), self._roi(target)
        for n in set(step.slices) - touched:  # passed through while dragging
            self._restore(target, n, step.before)
            for part in (step.before.masks, step.before.records, step.before.points):
                part.pop(n)
        for n in touched:
            self._record(target, n)["state"] = USER
        step.after = self._moment(target, touched)
        step.after.masks = {}
        if touched or roiMoved:
            self._history.push(step)
        for n in touched:
            self._decode(target, n, self._tables[target], self._rois[target].boxes)
        self._save()

    def _claim(self, target: str, ids: set[str]) -> None:
        prompts, self.hint = self._prompts[target], ""
        marks = self._table(target)
        self._writing = True
        try:
            for point in prompts.points():
                if point.id not in ids:
                    continue
                nrc = np.array(marks[point.id].nrc)
                if not self._isInside(nrc):
                    self.hint = f"a point of {target!r} lies outside the volume and is not used"
                    prompts.claim(point)
                    continue
                onSlice = np.array([round(nrc[0]), nrc[1], nrc[2]])
                away = abs(nrc[0] - onSlice[0])
                ras = self._world([onSlice])[0] if away > _MOVED else None
                prompts.claim(point, ras)
                if ras is not None:
                    millimetres = float(np.linalg.norm(ras - np.array(point.ras)))
                    self.hint = f"the point went to the nearest slice, {int(onSlice[0])}, {millimetres:.1f} mm away"
        finally:
            self._writing = False

    def _decode(self, target: str, n: int, table: dict[str, _Mark], boxes: dict[int, tuple]) -> None:
        marks = [mark for mark in table.values() if mark.slice == n and self._isInside(mark.nrc)]
        box = boxes.get(n)
        if box is None and not any(mark.positive for mark in marks):
            self._latest.pop((target, n), None)
            self._worker.cancel((target, n))
            self._fromPrompt(target, n, np.zeros(self.grid.shape[1:], bool), None)
            return
        points = np.array([mark.nrc[1:] for mark in marks], float).reshape(-1, 2)
        labels = np.array([int(mark.positive) for mark in marks], int)
        self._refresh()
        engine = self.engine
        given = (points, labels) if len(points) else (None, None)
        work = self._afterOpening(lambda: engine.segmentSlice(n, target, *given, box, None))
        self._latest[target, n] = self._worker.submit((target, n), work)
        self._active()

    def _afterOpening(self, work: Callable) -> Callable:
        """`work`, in the worker's thread, after the engine has been opened there for the voxels of now."""
        engine, volume, manifest, axis = self.engine, self._volume, self.manifest, self.axis
        done = self._opening

        def opened():
            if not done:
                engine.open(volume, manifest, axis)
                done.append(True)
            return work()

        return opened

    def _streamJob(self, key: str, work: Callable[[], Iterator]) -> None:
        ready = self._afterOpening(work)

        def steps() -> Iterator:
            yield from ready()

        self._latest[key, -1] = self._worker.stream(key, steps)
        self._active()

    def _refresh(self) -> None:
        """Take the voxels anew where they have changed, as with the frames of a sequence."""
        if self._voxelTime != self._voxelsChanged():
            shape = self.grid.shape
            self._readVolume()
            if self.grid.shape != shape:
                self.close()
                raise SessionError("the volume has another size now; start a new session on it")
            self.segments.grid = self.grid

    def _voxelsChanged(self) -> tuple:
        scalars = self.volumeNode.GetImageData().GetPointData().GetScalars()
        return scalars.GetAddressAsString(""), scalars.GetMTime()

    def _checkEngine(self) -> None:
        with _teaching():
            self.engine.check()

    # Worker → segmentation

    def _collect(self, seconds: float | None = None) -> None:
        """Take in what the worker has finished, for about `seconds`."""
        if not self._worker.hasReports:
            return
        failures: list[Exception] = []
        with slicer.util.RenderBlocker() if hasattr(slicer, "app") else nullcontext():
            found: dict[str, list] = {}
            for report in self._worker.reports(seconds):
                if report.key in (_PASS, _PROPAGATION):
                    if report.number == self._latest.get((report.key, -1)):
                        self._fromPass(report, failures, found)
                elif report.number == self._latest.get(report.key):
                    self._latest.pop(report.key)
                    if report.kind == "error":
                        failures.append(report.value)
                    elif report.key[0] == _TIDY:
                        self._tidied(report.key[1], report.value)
                    else:
                        target, n = report.key
                        self._fromPrompt(target, n, report.value.masks[target], report.value.iou.get(target))
            for target, results in found.items():
                self._placeAutomatic(target, results)
        self._save()
        if failures:
            raise SessionError(_explained(failures[0])) from failures[0]

    def _fromPass(self, report: Report, failures: list, found: dict[str, list]) -> None:
        if report.kind == "value":
            if self._pass is not None:
                self._pass = (self._pass[0] + 1, *self._pass[1:])
            for target, mask in report.value.masks.items():
                if self._isUsers(target, report.value.index):
                    continue
                if report.key == _PROPAGATION:
                    self._begin(self._chain, {report.value.index})
                self._put(target, report.value.index, mask, report.value.iou.get(target))
                self._record(target, report.value.index)["state"] = "auto"
                found.setdefault(target, []).append(report.value)
            return
        if report.kind == "error":
            failures.append(report.value)
        elif report.key == _PASS and self.manifest.largest_component:
            self._tidy()
        self._endPass()

    def _tidy(self) -> None:
        """After a whole pass: have pieces beside the largest found, as the pack asks for; the user's slices count."""
        engine = self.engine
        for name, id_ in self._ids.items():
            mask = self.segments.readAll(id_)
            users = np.array([self._isUsers(name, n) for n in range(len(self.grid))])
            work = lambda mask=mask, users=users: engine.tidy(mask, users)  # noqa: E731
            self._latest[_TIDY, name] = self._worker.submit((_TIDY, name), work)

    def _tidied(self, target: str, mask: np.ndarray) -> None:
        current, cleared = self.segments.readAll(self._ids[target]), set()
        for n in np.flatnonzero((current != mask).any(axis=(1, 2))).tolist():
            if not self._isUsers(target, n):
                self._put(target, n, mask[n], self._record(target, n)["iou"])
                if not mask[n].any():
                    cleared.add(n)
        self._replacePoints(target, cleared, [])
        self._placeRois()

    def _fromPrompt(self, target: str, n: int, mask: np.ndarray, iou: float | None) -> None:
        self._put(target, n, mask, iou)
        if target not in self._open:
            self._history.learn(target, n, mask)

    def _put(self, target: str, n: int, mask: np.ndarray, iou: float | None) -> None:
        self.segments.write(self._ids[target], n, mask)
        record = self._record(target, n)
        record.update(crc=checksum(mask), iou=None if iou is None else round(float(iou), 4))
        self._agreement[target].changed(n)

    def _placeAutomatic(self, target: str, results: list) -> None:
        """The points of new automatic slices, in place of those that were there; none on empty slices."""
        slices = {result.index for result in results}
        marks = []
        for result in results:
            if target in result.points_rc and self._record(target, result.index)["crc"]:  # not empty, also now
                points = np.asarray(result.points_rc[target], float).reshape(-1, 2).tolist()
                labels = result.labels[target]
                marks += [
                    _Mark(bool(label), False, (float(result.index), *point))
                    for point, label in zip(points, labels, strict=True)
                ]
        self._replacePoints(target, slices, marks)

    def _replacePoints(self, target: str, slices: set[int], marks: list[_Mark]) -> None:
        """All points of these slices by others, as settled ones: nothing is decoded for it."""
        table = self._tables[target]
        gone = [id_ for id_, mark in table.items() if mark.slice in slices]
        if not gone and not marks:
            return
        places = self._world([mark.nrc for mark in marks]) if marks else []
        points = [(ras, mark.positive, mark.user) for ras, mark in zip(places, marks, strict=True)]
        self._writing = True
        try:
            ids = self._prompts[target].replace(gone, points)
        finally:
            self._writing = False
        for id_ in gone:
            del table[id_]
        table.update(zip(ids, marks, strict=True))

    def _setPass(self, total: int) -> None:
        self._pass = (0, total, time.monotonic())

    def _endPass(self) -> None:
        if self._pass is not None:
            self._lastPass, self._pass = self._pass[:2], None
            self._placeRois()
        if self._chain is not None:
            step, self._chain = self._chain, None
            if step.slices:
                step.after = self._moment(step.target, set(step.slices))
                self._history.push(step)

    def _placeRois(self) -> None:
        for name, prompts in self._prompts.items():
            if prompts.roiIsUsers or name in self._dirty:
                continue
            mask = self.segments.readAll(self._ids[name])
            flat = mask.any(axis=0)
            cells = [np.flatnonzero(line) for line in (mask.any(axis=(1, 2)), flat.any(axis=1), flat.any(axis=0))]
            if not len(cells[0]):
                continue
            ijk = self.grid.toIjk([[line[0] for line in cells], [line[-1] for line in cells]])
            low, high = ijk.min(axis=0) - 0.5, ijk.max(axis=0) + 0.5
            affine = mrml.ijkToRas(self.volumeNode)
            spacing = np.linalg.norm(affine[:3, :3], axis=0)
            matrix = np.eye(4)
            matrix[:3, :3] = affine[:3, :3] / spacing
            matrix[:3, 3] = affine[:3, :3] @ ((low + high) / 2) + affine[:3, 3]
            self._writing = True
            try:
                prompts.placeRoi(matrix, (high - low) * spacing)
            finally:
                self._writing = False
            self._rois[name] = self._roi(name)

    # Undo

    def _begin(self, step: Step, slices: set[int]) -> None:
        """Keep what a slice is like before the step touches it."""
        for n in slices - set(step.before.masks):
            moment = self._moment(step.target, {n})
            waiting = (step.target, n) in self._latest
            step.before.masks[n] = None if waiting else moment.masks[n]
            step.before.records[n], step.before.points[n] = moment.records[n], moment.points[n]

    def _moment(self, target: str, slices: set[int]) -> Moment:
        moment = Moment(roi=self._rois[target].state)
        for n in slices:
            record = self._records[target].get(n)
            moment.masks[n] = Bits(self.segments.read(self._ids[target], n))
            moment.records[n] = None if record is None else dict(record)
            moment.points[n] = [mark for mark in self._tables[target].values() if mark.slice == n]
        return moment

    def _go(self, target: str, here: Moment, there: Moment) -> None:
        """From one side of a step to the other."""
        slices = set(there.points)
        self._replacePoints(target, slices, [mark for n in slices for mark in there.points[n]])
        if here.roi is not there.roi:
            self._writing = True
            try:
                self._prompts[target].restoreRoi(there.roi)
            finally:
                self._writing = False
            self._rois[target] = self._roi(target)
        for n in slices:
            self._restore(target, n, there, here)
        self._save()

    def _restore(self, target: str, n: int, there: Moment, here: Moment | None = None) -> None:
        self._latest.pop((target, n), None)
        self._worker.cancel((target, n))
        known, record = there.masks.get(n), there.records.get(n)
        if record is None:
            self._records[target].pop(n, None)
        else:
            self._records[target][n] = dict(record)
        if known is None:
            self._decode(target, n, self._tables[target], self._rois[target].boxes)
            return
        current = self.segments.read(self._ids[target], n)
        mask = revert(current, here.masks.get(n) if here is not None else None, known)
        self.segments.write(self._ids[target], n, mask)
        self._agreement[target].changed(n)

    # Small things

    def _keepHandEdits(self) -> None:
        """Slices whose masks are not what was written last are the user's from now on."""
        kept = 0
        for name, id_ in self._ids.items():
            slices = self.segments.readAll(id_)
            for n in range(len(self.grid)):
                record = self._records[name].get(n)
                if checksum(slices[n]) != (record or {}).get("crc", 0):
                    self._record(name, n).update(state=USER, crc=checksum(slices[n]))
                    kept += 1
            self._agreement[name].forget()
        self.hint = f"{kept} slices were edited by hand and are kept; release them to replace them" if kept else ""

    def _isUsers(self, target: str, n: int) -> bool:
        """Whether automatic results must leave it alone; an edit by hand, made at any time, counts too."""
        record = self._records[target].get(n)
        if record is not None and (record.get("locked") or record["state"] == USER):
            return True
        edited = checksum(self.segments.read(self._ids[target], n)) != (record or {}).get("crc", 0)
        if edited:
            self._record(target, n)["state"] = USER
        return edited

    def _record(self, target: str, n: int) -> dict:
        return self._records[target].setdefault(n, {"state": "auto", "iou": None, "crc": 0})

    def _save(self) -> None:
        data = self._state.data
        data["targets"] = [{"name": name, "segment": self._ids[name]} for name in self.targets]
        data["slices"] = {name: {str(n): r for n, r in records.items()} for name, records in self._records.items()}
        self._state.save()

    def _table(self, target: str) -> dict[str, _Mark]:
        points = self._prompts[target].points()
        places = self._nrc([point.ras for point in points]) if points else []
        return {
            point.id: _Mark(point.positive, point.user, tuple(map(float, nrc)))
            for point, nrc in zip(points, places, strict=True)
        }

    def _roi(self, target: str, edited: bool = False) -> _Roi:
        """The ROI as it is now; `edited`: it counts as the user's."""
        prompts = self._prompts[target]
        corners = prompts.roiCorners()
        if corners is None:
            return _Roi(None, {}, None)
        nrc = self._nrc(corners)
        isUsers = edited or prompts.roiIsUsers
        return _Roi(nrc, crossing(nrc, len(self.grid)) if isUsers else {}, prompts.roiState())

    def _nrc(self, ras) -> np.ndarray:
        return self.grid.fromIjk(mrml.worldToIjk(self.volumeNode, ras))

    def _world(self, nrc) -> np.ndarray:
        return mrml.ijkToWorld(self.volumeNode, self.grid.toIjk(nrc))

    def _isInside(self, nrc) -> bool:
        return all(-0.5 <= value < size - 0.5 for value, size in zip(nrc, self.grid.shape, strict=True))

    def _slice(self, n: int) -> int:
        if not 0 <= int(n) < len(self.grid):
            raise SessionError(f"there is no slice {n}; the volume has slices 0 to {len(self.grid) - 1}")
        return int(n)

    def _known(self, target: str) -> str:
        if target not in self._ids:
            raise SessionError(f"the pack has no target {target!r}; it has {', '.join(self._ids)}")
        return target

    def _each(self, target: str | None) -> list[str]:
        return self.targets if target is None else [self._known(target)]

    def _promptsOf(self, target: str) -> TargetPrompts:
        return self._prompts[self._known(target)]

    def _needOpen(self) -> None:
        if self._closed:
            raise SessionError("this session has ended (its volume, segmentation or scene was closed); start a new one")


# What a session is made of


def _checkedScene(volumeNode):
    if volumeNode is None or not volumeNode.IsA("vtkMRMLVolumeNode"):
        given = "nothing" if volumeNode is None else f"{volumeNode.GetName()!r}, a {volumeNode.GetClassName()},"
        raise SessionError(f"{given} was given as the volume; choose a volume")
    if volumeNode.GetScene() is None:
        raise SessionError(f"the volume {volumeNode.GetName()!r} is not in the scene; choose one that is")
    return volumeNode.GetScene()


def _manifest(pack) -> tuple:
    """The manifest, the pack's file and its SHA-256; the latter two None for a manifest alone."""
    if hasattr(pack, "targets"):
        return pack, None, None
    if hasattr(pack, "manifest"):  # a `ProMISeCore.packs.Pack`
        path = Path(pack.path)
        return pack.manifest, path, hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    with _teaching():
        path = Path(environment.core("packs").find(pack))
        return environment.core("packs").read_manifest(path), path, hashlib.sha256(path.read_bytes()).hexdigest()


def _find(name: str) -> Path:
    with _teaching():
        return Path(environment.core("packs").find(name))


def _stateFor(volumeNode, segmentationNode, manifest) -> SceneState:
    """The memory of the session that worked on these nodes with this pack, or a new one."""
    names = [target.name for target in manifest.targets]
    for node in reversed(sessionNodes()):
        if segmentationNode is not None and node.GetNodeReference("segmentation") is segmentationNode:
            with _teaching():
                state = SceneState(node)
            known = [target["name"] for target in state.data["targets"]]
            if node.GetNodeReference("volume") is volumeNode and known == names:
                return state
    return SceneState.create(f"{volumeNode.GetName()} ProMISe session")


@contextmanager
def _teaching():
    """Errors that explain themselves become SessionErrors."""
    try:
        yield
    except Exception as error:
        if not _explains(error):
            raise
        raise SessionError(str(error)) from error


def _explains(error: Exception) -> bool:
    if isinstance(error, (SessionError, mrml.GeometryError, environment.MissingError, FormatError)):
        return True
    return isinstance(error, environment.core("errors").PromiseError)


def _explained(error: Exception) -> str:
    if _explains(error):
        return str(error)
    return f"segmenting failed ({type(error).__name__}: {error}); the error log says where"


# Prompts


def _differences(old: dict[str, _Mark], new: dict[str, _Mark]) -> dict[str, set[int]]:
    """Control points that came, went or moved → the slices where they were and are."""
    found = {}
    for id_ in old.keys() | new.keys():
        was, now = old.get(id_), new.get(id_)
        if None in (was, now) or was.positive != now.positive or np.abs(np.subtract(was.nrc, now.nrc)).max() > _MOVED:
            found[id_] = {mark.slice for mark in (was, now) if mark is not None}
    return found


def _differ(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    if a is None or b is None:
        return a is not b
    return bool(np.abs(a - b).max() > _MOVED)


def _propagated(engine: Engine, target: str, mask: np.ndarray, ways: list[list[int]], untilUnsure: bool) -> Iterator:
    """Results of neighbour after neighbour along each way, each prompted by the one before; runs in the worker."""
    for way in ways:
        current = mask
        for n in way:
            rows, columns = np.nonzero(current)
            box = (rows.min(), columns.min(), rows.max(), columns.max())
            result = engine.segmentSlice(n, target, [_inmost(current)], [1], box, current)
            found = np.asarray(result.masks[target], bool)
            if not found.any() or (untilUnsure and result.iou.get(target, 1.0) < _LEAST_IOU):
                break
            yield result
            current = found


def _inmost(mask: np.ndarray) -> tuple[int, int]:
    """(row, column) of a pixel deep inside a mask: one of those that erosion takes last."""
    left = np.pad(mask, 1)
    while True:
        smaller = left.copy()
        for axis in (0, 1):
            for step in (1, -1):
                smaller &= np.roll(left, step, axis)
        if not smaller.any():
            rows, columns = np.nonzero(left)
            return int(rows[len(rows) // 2]) - 1, int(columns[len(columns) // 2]) - 1
        left = smaller
