"""One volume, one pack and the session on them, with what the page's buttons do. Real MRML; no server, no browser."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import slicer
from ProMISeSlicerLib import mrml, resuming, views
from ProMISeSlicerLib.failing import SessionError
from ProMISeSlicerLib.session import Session

from .windows import SliceWindow, VolumeWindow

#: Name of the slice node → orientation, as in Slicer.
SLICES = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}
_SOLVE_SECONDS = 5.0  # for prompts of a moment ago
TOOLS = ("move", "window", "positive", "negative", "box")


class Study:
    """packs: of `ProMISeCore.packs`; makeEngine(pack): what computes.

    onNews: called when the session has something to do, or buttons and lists are no longer what they say.
    """

    def __init__(self, packs: list, makeEngine: Callable) -> None:
        self.packs = {pack.path.stem: pack for pack in packs}
        self._makeEngine = makeEngine
        self.onNews: Callable[[], None] = lambda: None
        self.volumeNode = self.session = None
        self.isInPass = False  # whether slices of a pass or a propagation come in
        self.pack, self.target, self._chosen = next(iter(self.packs), ""), "", "move"
        self.slices = {name: SliceWindow(name, orientation) for name, orientation in SLICES.items()}
        self.volume = VolumeWindow()
        self._observeTools()

    @property
    def windows(self) -> dict:
        """Every view by the name of its node."""
        return {**self.slices, "3D": self.volume}

    def close(self) -> None:
        """End the session and the views."""
        self._end()
        for window in self.windows.values():
            window.close()

    # The volume

    def open(self, volume) -> None:
        """Show a `ProMISeCore.volumes.Volume`; what was open before is closed, with its results."""
        self.clear()
        self._show(addVolume(volume))
        self._choosePack()

    def clear(self) -> None:
        """An empty scene."""
        self.use("move")
        self._end()
        self.volumeNode = None
        slicer.mrmlScene.Clear(0)
        self.onNews()

    def adopt(self) -> None:
        """Show what the scene holds now, as after reading it from a file; a session saved with it goes on.

        Raises SessionError without a volume, or without the session's pack.
        """
        volume = views.firstVolume() or _firstPicture()
        if volume is None:
            raise SessionError("that scene holds no volume; save one with the volume that was segmented")
        self._show(volume)
        node = resuming.saved(volume, resuming.segmentationOf(volume))
        if node is None:
            self._choosePack()
            return
        session, pack = resuming.resume(node, list(self.packs.values()), self._makeEngine)
        self.pack = pack.path.stem
        self._begin(session)

    def _show(self, volumeNode) -> None:
        self.volumeNode = volumeNode
        for window in self.slices.values():
            window.show(volumeNode)
            window.logic.GetSliceNode().SetSliceVisible(1)  # also in the 3D view
        self.volume.node.SetBoxVisible(0)
        self.volume.node.SetAxisLabelsVisible(0)
        self.volume.fit()

    def _choosePack(self) -> None:
        """A pack that suits the volume, the one chosen before if it does."""
        names = sorted(self.packs, key=lambda name: (bool(self.misfit(name)), name != self.pack))
        self.pack = names[0] if names else ""
        self.onNews()

    def misfit(self, name: str) -> str:
        """Why a pack may not suit the volume, or ""."""
        from ProMISeSlicerLib import catalogue  # its texts are translatable, which `scene.start` sees to

        return catalogue.misfit(self.packs[name].manifest, self.volumeNode)

    # The session

    def choose(self, name: str) -> None:
        """Another pack; the session of the one before ends, its segments and prompts go.

        Raises SessionError for a pack that is not installed.
        """
        if name not in self.packs:
            raise SessionError(f"there is no pack {name!r}; installed are: {', '.join(self.packs)}")
        if name != self.pack:
            self.pack = name
            self._discard()
            self.onNews()

    def segment(self) -> None:
        """Segment the volume, the slice on screen first. Raises SessionError where that cannot be."""
        if self.volumeNode is None:
            raise SessionError("there is no volume yet; open one, or try an example")
        if self.session is None:
            pack = self.packs[self.pack]
            self._begin(Session(self.volumeNode, pack, None, self._makeEngine(pack)))
        self.solve()
        self.session.segment(self.sliceOnScreen())
        self.isInPass = True

    def _begin(self, session: Session) -> None:
        self.session = session
        session.onActivity = self.onNews
        if self.target not in session.targets:
            self.target = session.targets[0]
        session.segmentationNode.GetDisplayNode().SetOpacity2DFill(0.3)
        self.emphasise()
        self.onNews()

    def _end(self) -> None:
        if self.session is not None:
            self.session.close()
            self.session, self.isInPass = None, False

    def _discard(self) -> None:
        """End the session and take its nodes out of the scene."""
        session = self.session
        if session is None:
            return
        self.use("move")
        nodes = [node for name in session.targets for node in session.promptNodes(name)]
        nodes += [session.segmentationNode, session.node]
        self._end()
        for node in nodes:
            slicer.mrmlScene.RemoveNode(node)

    def sliceOnScreen(self) -> int | None:
        """The session's slice that is shown; None without a session."""
        if self.session is None or self.session.isClosed:
            return None
        return views.nearestSlice(self.session.planes, self.volumeNode)

    def goTo(self, n: int) -> None:
        """Show a slice of the session in all views."""
        views.jump(self.needed().sliceCenter(self.session.source.slice(n)))

    def goToWorst(self) -> None:
        """Show the automatic slice that deserves a look most. Raises SessionError where none is left."""
        n = self.needed().nextWorstSlice(self.target)
        if n is None:
            raise SessionError("no slice is left to check: all are empty, or you have been there")
        self.goTo(n)

    def needed(self) -> Session:
        """The session. Raises SessionError where there is none yet."""
        if self.session is None:
            raise SessionError("nothing is segmented yet; press Segment first")
        return self.session

    # Prompts

    def aim(self, target: str) -> None:
        """Work on another target. Raises SessionError for one that the pack does not have."""
        self.needed().target(target)
        tool, self.target = self.tool, target
        self.use("move")
        self.emphasise()
        self.use(tool)
        self.onNews()

    def emphasise(self) -> None:
        """The prompts of the target are shown, others are out of the way."""
        for name in self.session.targets:
            *points, roi = self.session.promptNodes(name)
            for node in points:
                node.SetDisplayVisibility(name == self.target)
            roi.SetDisplayVisibility(name == self.target and self.tool == "box")

    def use(self, tool: str) -> None:
        """Take one of TOOLS into the hand: what the left mouse button does in the views."""
        if tool not in TOOLS:
            raise SessionError(f"there is no tool {tool!r}; there are {', '.join(TOOLS)}")
        if tool not in ("move", "window"):
            self.needed()
        self._chosen = tool
        views.stopPlacing()
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        mode = interaction.AdjustWindowLevel if tool == "window" else interaction.ViewTransform
        interaction.SetCurrentInteractionMode(mode)
        if tool in ("positive", "negative"):
            views.startPlacing(self.session.promptNodes(self.target)[tool == "negative"])
        if self.session is not None:
            self._useBox(tool == "box")
        self.onNews()

    def _useBox(self, chosen: bool) -> None:
        for name in self.session.targets:
            roi = self.session.promptNodes(name)[2]
            shown = chosen and name == self.target
            roi.SetDisplayVisibility(shown)
            roi.GetDisplayNode().SetHandlesInteractive(shown)
        if chosen and not self.session.target(self.target).prompts.hasRoi:
            slicer.modules.markups.logic().SetActiveList(self.session.promptNodes(self.target)[2])
            slicer.modules.markups.logic().StartPlaceMode(False)

    @property
    def tool(self) -> str:
        """The one of TOOLS in the hand: place mode, which is one of two, also ends by the Escape key."""
        isPlacing = self._chosen in ("positive", "negative")
        return "move" if isPlacing and views.placingNode() is None else self._chosen

    def _observeTools(self) -> None:
        """Place mode also ends by the Escape key, and once a box is drawn."""
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        interaction.AddObserver(interaction.InteractionModeChangedEvent, lambda *_: self.onNews())

    def deleteLast(self) -> None:
        """The user's last point of the target on the slice on screen. Raises SessionError where there is none."""
        self.needed()
        if not self.session.target(self.target).deleteLast(self.sliceOnScreen()):
            raise SessionError("you have placed no control point on this slice; point at another one and press Delete")

    def propagate(self, count: int, direction: int) -> None:
        """The slice on screen to `count` neighbours (0: until unsure) per direction: 1, −1, or 0 for both."""
        self.needed()
        self.solve()
        self.session.propagate(self.target, self.sliceOnScreen(), count or None, direction)
        self.isInPass = True

    def cancel(self) -> None:
        """Stop the pass or propagation; what is done stays."""
        if self.session is not None:
            self.session.cancel()
        self.isInPass = False

    def undo(self) -> None:
        self._takeBack(Session.undo)

    def redo(self) -> None:
        self._takeBack(Session.redo)

    def _takeBack(self, step: Callable) -> None:
        """Answers that have not come yet, and slices that are coming in, are the session's business."""
        step(self.needed())
        if self.tool == "box":  # with the box gone the next drag draws one, and with it back none
            self.use("box")

    def solve(self) -> None:
        """Let the session answer the prompts that were changed last; not while slices of a pass come in."""
        end = time.monotonic() + _SOLVE_SECONDS
        while self.session is not None and not self.isInPass and self.session.isBusy and time.monotonic() < end:
            self.session.pump()

    def show3D(self, shown: bool) -> None:
        """Surfaces in place of the slices, on demand: a changed slice drops them, they are slow to keep up to date."""
        node = self.needed().segmentationNode
        for window in self.slices.values():
            window.node.SetSliceVisible(not shown)
        if shown:
            node.CreateClosedSurfaceRepresentation()
            bounds = [0.0] * 6
            node.GetRASBounds(bounds)
            self.volume.fit(bounds if bounds[0] <= bounds[1] else None)
        else:
            node.RemoveClosedSurfaceRepresentation()
            self.volume.fit()

    def lock(self) -> None:
        self.needed().lock(self.sliceOnScreen(), self.target)
        self.onNews()

    def release(self) -> None:
        self.needed().release(self.sliceOnScreen(), self.target)
        self.onNews()


def addVolume(volume):
    """A volume node of a `ProMISeCore.volumes.Volume`, its voxels copied, window and level from their range."""
    voxels = np.array(volume.voxels)
    if voxels.dtype.kind in "iu" and voxels.dtype.itemsize == 8 or voxels.dtype == bool:
        voxels = voxels.astype(np.int32 if voxels.size and np.abs(voxels).max() >= 2**15 else np.int16)
    if voxels.dtype == np.float16:
        voxels = voxels.astype(np.float32)
    className = "vtkMRMLVectorVolumeNode" if voxels.ndim == 4 else "vtkMRMLScalarVolumeNode"
    name = slicer.mrmlScene.GetUniqueNameByString(volume.name or "volume")
    node = slicer.util.addVolumeFromArray(voxels, np.asarray(volume.affine, float), name, className)
    node.CreateDefaultDisplayNodes()
    if voxels.ndim == 3:
        low, high = np.percentile(voxels[:: max(1, len(voxels) // 20)], [0.5, 99.5])
        node.GetDisplayNode().SetAutoWindowLevel(False)
        node.GetDisplayNode().SetWindowLevelMinMax(float(low), float(max(high, low + 1e-6)))
    return node


def _firstPicture():
    return next(iter(slicer.util.getNodesByClass("vtkMRMLVectorVolumeNode")), None)


def describe(volumeNode) -> str:
    """Size and spacing of a volume in words."""
    size = " × ".join(map(str, volumeNode.GetImageData().GetDimensions()))
    if mrml.isPicture(volumeNode):
        return f"{size.rpartition(' × ')[0]} pixels, colour"
    spacing = " × ".join(f"{value:.2g}" for value in volumeNode.GetSpacing())
    return f"{size} voxels, {spacing} mm"
