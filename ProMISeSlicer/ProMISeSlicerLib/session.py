"""One volume, one pack, its prompts and its segmentation: the state machine behind the panel, without any Qt.

Whoever owns a session calls `pump` while `isBusy` (or after `onActivity` was called): it takes changed prompts to the
worker and finished slices to the segmentation. All that the user sees is in the scene; `Session.fromScene` goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import slicer
import vtk

from . import mrml, packfile
from .anchor import Anchor
from .engine import CoreEngine, Engine
from .failing import SessionError, explained, teaching
from .heritage import ofKept
from .jobs import Jobs, tidied
from .pace import Pace, Progress
from .planes import Planes
from .prompts import Watcher
from .propagation import Propagation, ways
from .review import cells, nextWorst
from .segments import Segments
from .sliceGrid import SliceGrid
from .source import ResizedError, Source, checkedVolume
from .state import SceneState, findSession, nextTurn, stateFor, volumeIn
from .steps import Steps
from .succession import takeAlong
from .target import Target
from .targets import Targets
from .turning import turnToVolume
from .worker import Report

_PASS, _PROPAGATION, _TIDY = "pass", "propagation", ("tidy",)  # keys of jobs that no target's name can equal
_SHARE = 0.04  # seconds of one pump for finished slices


class Session:
    """See the module. pack: a pack's name or file, a Pack, or a manifest; axis: None for the manifest's orientation.

    segmentationNode: where segments are made or, if a session of the same pack has worked in it, taken up again.
    engine: what computes, ProMISeCore unless given. Raises SessionError for nodes and packs that cannot be used.
    """

    def __init__(self, volumeNode, pack, segmentationNode=None, engine: Engine | None = None, axis: str | None = None):
        self.onActivity: Callable[[], None] | None = None
        self.onClosed: Callable[[SessionError], None] | None = None  # told why, where it closes itself
        self.hint = ""  # for the user, about what was done last
        self.questions = self.answers = 0  # prompt steps until now, and what has come of them and of passes
        self.currentSlice: int | None = None  # the one on screen, previewed while an ROI is dragged
        self._closed = False
        self.volumeNode = checkedVolume(volumeNode)
        self._scene = volumeNode.GetScene()
        found = packfile.packFile(pack)
        self.manifest, self.sha256, self.axis = found.manifest, found.sha256, axis
        self.source = Source(volumeNode, self.manifest, axis)
        segmentationNode = segmentationNode or mrml.createSegmentation(volumeNode, f"{volumeNode.GetName()} ProMISe")
        with teaching():
            mrml.prepare(segmentationNode, volumeNode)
            turnToVolume(segmentationNode, volumeNode)
            self.segments = Segments(segmentationNode, volumeNode, self.source.grid)
            madeOn = volumeIn(segmentationNode)
            self._elsewhere = "" if madeOn in (None, volumeNode) else madeOn.GetName()
            self._state = stateFor(volumeNode, segmentationNode, self.targets)
            takeAlong(self._state, self.manifest.name, self.targets, self.segments)
        self.engine = engine or CoreEngine(found.path or packfile.find(self.manifest.name), sha256=found.sha256)
        self._setUp(found)

    @classmethod
    def fromScene(cls, node=None, engine: Engine | None = None, pack=None) -> Session:
        """Go on with a session of this scene. node: its node, a (wrapped) parameter node, a volume or segmentation.

        pack: a pack's file, where the one recorded is not installed. Raises SessionError for what is missing.
        """
        found = findSession(node)
        if found is None:
            raise SessionError("this scene holds no ProMISe session for that node; choose a volume and press Segment")
        with teaching():
            state = SceneState(found)
        volumeNode, segmentationNode = state.referred("volume"), state.referred("segmentation")
        if volumeNode is None or segmentationNode is None:
            lacking = "volume" if volumeNode is None else "segmentation"
            raise SessionError(f"the {lacking} of {found.GetName()!r} is no longer in the scene; start a new session")
        pack = packfile.recordedPack(state.data["pack"], found.GetName(), pack, findable=engine is None)
        return cls(volumeNode, pack, segmentationNode, engine, state.data.get("axis"))

    # What there is

    @property
    def targets(self) -> list[str]:
        return [target.name for target in self.manifest.targets]

    @property
    def grid(self) -> SliceGrid:
        return self.source.grid

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
        return not self._closed and (bool(self._dirty) or self._jobs.busy)

    @property
    def isInPass(self) -> bool:
        """Whether slices of a pass or a propagation are still to come."""
        return not self._closed and self._pace.isUnderWay

    @property
    def progress(self) -> Progress:
        return self._pace.progress

    def target(self, name: str) -> Target:
        """A target's own state. Raises SessionError for a name that the pack does not have."""
        if name not in self._targets:
            raise SessionError(f"the pack has no target {name!r}; it has {', '.join(self._targets)}")
        return self._targets[name]

    def promptNodes(self, target: str) -> tuple:
        """Positive and negative control points, ROI."""
        return self.target(target).prompts.nodes

    def segmentId(self, target: str) -> str:
        return self.target(target).segmentId

    @property
    def planes(self) -> Planes:
        """The slices as planes in the world, as the volume lies now."""
        return Planes(self.source)

    def sliceCenter(self, n: int) -> tuple[float, float, float]:
        """World mm of the middle of slice n, to jump to."""
        _, height, width = self.grid.shape
        return tuple(self.source.world([[self.source.slice(n), (height - 1) / 2, (width - 1) / 2]])[0])

    # Passes

    def segment(self, firstSlice: int | None = None) -> None:
        """Start the automatic pass, firstSlice first. Slices that are the user's, or edited by hand, are kept."""
        self._needOpen()
        first = None if firstSlice is None else self.source.slice(firstSlice)
        self.cancel()
        with teaching():
            self.engine.check()
        self._mend()
        self._refresh()
        self._flush()
        kept = sum(target.keepHandEdits() for target in self._targets.values())
        self.hint, self._found, self._elsewhere = ofKept(kept, self._found, self._elsewhere), 0, ""
        self._pace.begin(len(self.source))
        stop, engine = self._stop, self.engine
        self._jobs.stream(_PASS, lambda: engine.segmentVolume(first, lambda: bool(stop)))
        self._active()

    def cancel(self) -> None:
        """Stop the pass or propagation; what is done stays."""
        if self._closed:
            return
        self._stop.append(True)
        self._stop = []
        self._collect()
        self._jobs.drop(_PASS)
        self._jobs.drop(_PROPAGATION)
        self._endPass()

    def pump(self, wait: float = 0.02) -> Progress:
        """Changed prompts to the worker, finished slices to the segmentation; lends the worker up to `wait` seconds.

        Raises SessionError for what went wrong in the worker, once; the session can be used on.
        """
        if self._closed:
            return Progress(0, 0, None)
        self._mend()
        self._flush()
        if self._jobs.busy:
            self._jobs.wait(wait)
        self._collect(_SHARE)
        return self.progress if not self._closed else Progress(0, 0, None)

    def propagate(self, target: str, slice: int, count: int | None = None, direction: int = 0) -> None:
        """Take a slice's mask as prompt to its neighbours: mask, box and a point, then theirs to the next.

        count: slices per direction, None until confidence falls; direction: +1, −1, or 0 for both. Ends at slices that
        are the user's, also those that become so meanwhile; those it reaches are kept from automatic passes until they
        are released. One undo step.
        """
        self._needOpen()
        self._mend()
        self._flush()
        n, known = self.source.slice(slice), self.target(target)
        mask = known.mask(n)
        if not mask.any():
            raise SessionError(f"slice {n + 1} of {target!r} is empty: there is nothing to take to its neighbours")
        self.cancel()
        self._refresh()
        found = ways(n, len(self.source), count, direction, known.isUsers)
        chain, engine = Propagation(target, mask, found, count is None), self.engine
        self._pace.begin(len(chain))
        self._steps.beginChain(chain)
        self._jobs.stream(_PROPAGATION, lambda: chain.results(engine))
        self._active()

    # Prompts

    def addPoint(self, target: str, ras, positive: bool) -> int | None:
        """Place a user's point at world mm; returns the slice it went to, None outside the volume (see `hint`)."""
        self._needOpen()
        prompts = self.target(target).prompts
        with self._watcher.quiet():
            prompts.add(ras, positive, user=True)
        self._dirty[target] = False
        self._active()
        nrc = self.source.nrc([ras])[0]
        self._flush()
        return round(nrc[0]) if self.source.isInside(nrc) else None

    def lock(self, slice: int, target: str | None = None) -> None:
        """Keep a slice from automatic passes, for one target or all."""
        for each in self._each(target):
            each.record(self.source.slice(slice))["locked"] = True
        self._save()

    def release(self, slice: int, target: str | None = None) -> None:
        """Give a slice back to automatic passes, also one that the user has touched, propagated to or edited.

        Mask and points stay until the next pass; the points look automatic from now on, as that pass replaces them.
        """
        for each in self._each(target):
            each.release(self.source.slice(slice))
        self._save()

    @property
    def canUndo(self) -> bool:
        return not self._closed and self._steps.history.canUndo

    @property
    def canRedo(self) -> bool:
        return not self._closed and self._steps.history.canRedo

    def undo(self) -> None:
        """Take back one prompt step, or what a propagation under way has done so far; later hand edits stay."""
        self._needOpen()
        self._mend()
        self._flush()
        if not self.canUndo:
            raise SessionError("there is no prompt step to undo")
        self._refresh()
        chain = self._steps.newestChain
        if chain is not None:
            self.cancel()
        if chain is None or chain.cells:
            self._steps.undo()
        self._settled()

    def redo(self) -> None:
        self._needOpen()
        self._mend()
        self._flush()
        if not self.canRedo:
            raise SessionError("there is no prompt step to redo")
        self._refresh()
        self._steps.redo()
        self._settled()

    # Review

    def sliceStates(self, target: str) -> list[dict]:
        """Per slice, as `review.cells` says."""
        return cells(self.target(target), len(self.source))

    def nextWorstSlice(self, target: str) -> int | None:
        """The slice nobody has looked at yet to look at next, worst first, then around again; None where none is."""
        return nextWorst(self.sliceStates(target), self._seen.setdefault(target, set()))

    def close(self, seconds: float = 5.0) -> bool:
        """End the thread and all observers; the nodes stay in the scene, the prompts hidden until a session goes on.

        False where the thread was still at a step after `seconds`: call it again, which lends it the interpreter.
        """
        if not self._closed:
            self._closed = True
            self._stop.append(True)
            self._watcher.close()
            self.onActivity = self.onClosed = None
            for target in self._targets.values():
                target.prompts.hide()
        return self._jobs.close(seconds)

    # Setting up

    def _setUp(self, found: packfile.PackFile) -> None:
        self._watcher = Watcher(self._changed)
        self._jobs = Jobs(self.engine, self.source)
        self._anchor = Anchor(self.volumeNode)
        self._stop: list[bool] = []
        self._dirty: dict[str, bool] = {}
        self._held: dict[str, bool] = {}  # as `_dirty`, of voxels that cannot be used now
        self._pace = Pace()
        self._seen: dict[str, set[int]] = {}
        self._targets = Targets(self.manifest.targets, self._state, self.segments, self.source, self._watcher.quiet)
        heritage = self._targets.make(range(len(self.manifest.targets)))
        self._found = heritage.found  # slices that were there before, until that is told
        self._steps = Steps(self._targets, self.source, self._jobs, self.manifest.rivals)
        self._state.refer("volume", self.volumeNode)
        self._state.refer("segmentation", self.segmentationNode)
        self._state.data.update(pack=found.entries(), axis=self.axis, settings=self.engine.settings())
        self._state.data.update(grid=self.grid.plain(), turn=nextTurn(self._state))
        self._steps.awaitAgain(heritage.awaited)
        self._save()
        self._watch()

    def _watch(self) -> None:
        for name, target in self._targets.items():
            self._watcher.watch(name, target.prompts)

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def removed(caller, event, node=None):
            if node in (self.volumeNode, self.segmentationNode, self.node):
                self._giveUp(SessionError(f"{node.GetName()} was removed, so segmenting has ended."))

        ended = SessionError("The scene was closed, so segmenting has ended.")
        self._watcher.observe(self._scene, slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, removed)
        self._watcher.observe(self._scene, slicer.vtkMRMLScene.StartCloseEvent, lambda *_: self._giveUp(ended))
        moved = slicer.vtkMRMLTransformableNode.TransformModifiedEvent
        self._watcher.observe(self.volumeNode, moved, lambda *_: self._follow())

    def _giveUp(self, why: SessionError) -> None:
        """Close without waiting for the thread, as what it works on has gone."""
        told = self.onClosed
        self.close(0)
        if told is not None:
            told(why)

    def _follow(self) -> None:
        """Prompts and segmentation stay with the volume: under its parent transform, and hardened with it."""
        with self._watcher.quiet():
            hardened = self._anchor.follow((self.segmentationNode, *self._targets.promptNodes))
        if hardened is not None:
            self.segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(self.volumeNode)
            self._steps.harden(hardened)

    def _mend(self) -> None:
        """Make prompt nodes and segments again that were removed from the scene."""
        lost = self._targets.lost()
        if lost:
            self._watcher.close()
            self._found += self._targets.makeAgain(lost).found
            self._save()
            self._watch()

    # Prompts → worker → segmentation

    def _changed(self, target: str, dragging: bool) -> None:
        if not self._closed:
            self._dirty[target] = dragging
            self._active()

    def _active(self) -> None:
        if self.onActivity is not None:
            self.onActivity()

    def _flush(self) -> None:
        while self._dirty:
            target, dragging = self._dirty.popitem()
            try:
                self._refresh()
            except SessionError:
                self._held[target] = dragging  # until its voxels can be used
                raise
            hint = self._steps.solve(target, dragging, self.currentSlice)
            if hint is not None:
                self.hint = hint
                self._settled()

    def _settled(self) -> None:
        self.questions += 1
        self._save()
        self._active()

    def _refresh(self) -> None:
        """Take the voxels anew where they have changed, as with the frames of a sequence; those that cannot be used, as
        of an empty frame, are an error until others come."""
        try:
            changed = self.source.refresh()
        except ResizedError as error:
            self._giveUp(error)
            raise
        if changed:
            self.segments.grid = self.grid
            self._jobs.reopen()
        self._dirty.update(self._held)
        self._held.clear()

    def _collect(self, seconds: float | None = None) -> None:
        """Take in what the worker has finished, for about `seconds`."""
        if not self._jobs.hasReports:
            return
        failures: list[Exception] = []
        with slicer.util.RenderBlocker() if hasattr(slicer, "app") else nullcontext():
            automatic: dict[str, list] = {}
            for report in self._jobs.reports(seconds):
                self.answers += 1
                if report.kind == "error":
                    failures.append(report.value)
                if report.key in (_PASS, _PROPAGATION):
                    self._fromPass(report, automatic)
                elif report.kind != "error" and report.key[0] == _TIDY:
                    self._steps.tidied(report.key[1], report.value)
                    self._placeRois()
                elif report.kind != "error":
                    target, n = report.key
                    self._steps.found(target, n, report.value.masks[target], report.value.iou.get(target))
            for target, results in automatic.items():
                self._targets[target].placeAutomatic(results)
        self._save()
        while self.engine.notices:
            self.hint = self.engine.notices.pop(0)
        if failures:
            raise SessionError(explained(failures[0])) from failures[0]

    def _fromPass(self, report: Report, automatic: dict[str, list]) -> None:
        if report.kind == "value":
            self._pace.step()
            write = self._steps.automatic if report.key == _PASS else self._steps.propagate
            for target in write(report.value):
                automatic.setdefault(target, []).append(report.value)
            return
        if report.kind == "done" and report.key == _PASS and self.manifest.largest_component:
            for name, target in self._targets.items():
                kept = np.array([target.isKept(n) for n in range(len(self.source))])
                self._jobs.submit((_TIDY, name), tidied(self.engine, target.masks(), kept))
        self._endPass()

    def _endPass(self) -> None:
        if self._pace.isUnderWay:
            self._pace.end()
            self._placeRois()
        self._steps.endChain()

    def _placeRois(self) -> None:
        for name, target in self._targets.items():
            if name not in self._dirty:
                target.placeRoi()

    # Small things

    def _save(self) -> None:
        self._state.data.update(self._targets.plain(), awaited=self._jobs.waiting)
        self._state.save()

    def _each(self, target: str | None) -> list[Target]:
        return list(self._targets.values()) if target is None else [self.target(target)]

    def _needOpen(self) -> None:
        if self._closed:
            raise SessionError("this session has ended (its volume, segmentation or scene was closed); start a new one")
