"""A scene of real MRML (slicer-core, no Qt), phantoms in many geometries, and what a test does with a session."""

from __future__ import annotations

import os
import sys
import tempfile
import time
import types
from pathlib import Path

import numpy as np

os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")  # no display is looked for

ROOT = Path(__file__).resolve().parents[2]
LIB = str(ROOT / "ProMISeSlicer")
if LIB not in sys.path:
    sys.path.insert(0, LIB)

LOGICS = {
    "volumes": "vtkSlicerVolumesLogic",
    "markups": "vtkSlicerMarkupsLogic",
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "subjecthierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
}


class App:
    """What slicer.util and the library ask of slicer.app."""

    temporaryPath = tempfile.gettempdir()

    def __init__(self, logic) -> None:
        self._logic = logic

    def applicationLogic(self):
        return self._logic

    def mrmlScene(self):
        import slicer

        return slicer.mrmlScene

    def pauseRender(self) -> None: ...

    def resumeRender(self) -> None: ...


def startScene():
    """A fresh scene with what saving, markups and segmentations need."""
    import slicer
    import slicer.util

    scene = slicer.mrmlScene = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerApplicationLogic()
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetCrosshairName("default")
    scene.AddNode(crosshair)
    logic.SetMRMLScene(scene)
    logic.SetTemporaryPath(tempfile.gettempdir())
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    slicer.modules = types.SimpleNamespace()
    for name, className in LOGICS.items():
        module = getattr(slicer, className)()
        module.SetMRMLScene(scene)
        if hasattr(module, "SetMRMLApplicationLogic"):
            module.SetMRMLApplicationLogic(logic)
        logic.SetModuleLogic(name.capitalize(), module)  # where displayable managers look for it
        setattr(slicer.modules, name, types.SimpleNamespace(logic=lambda module=module: module))
    remote, data = slicer.vtkMRMLRemoteIOLogic(), slicer.vtkDataIOManagerLogic()
    remote.SetMRMLApplicationLogic(logic)
    remote.SetMRMLScene(scene)
    cache = tempfile.TemporaryDirectory(prefix="promise-scene")
    remote.GetCacheManager().SetRemoteCacheDirectory(cache.name)
    data.SetMRMLApplicationLogic(logic)
    data.SetAndObserveDataIOManager(remote.GetDataIOManager())
    remote.AddDataIOToScene()
    slicer.app = App(logic)
    slicer.app.keep = (remote, data, cache)  # the folder goes with the scene
    return scene


def rotation(x: float, y: float, z: float) -> np.ndarray:
    """(3, 3), degrees about the three axes in turn."""
    made = np.eye(3)
    for axis, degrees in enumerate((x, y, z)):
        a, b = [i for i in range(3) if i != axis]
        turn = np.eye(3)
        turn[[a, a, b, b], [a, b, a, b]] = np.array([1, -1, 1, 1]) * [
            np.cos(np.radians(degrees)), np.sin(np.radians(degrees)), np.sin(np.radians(degrees)),
            np.cos(np.radians(degrees)),
        ]  # fmt: skip
        made = made @ turn
    return made


#: name → (IJK → RAS directions, spacing, shape (K, J, I), parent transform)
SHEAR = np.array([[1, 0.15, 0.1], [0, 1, 0.2], [0.05, 0, 1.1]])
GEOMETRIES = {
    "plain": (np.diag([-1.0, -1, 1]), (1, 1, 3), (10, 32, 40), None),
    "oblique": (rotation(17, -9, 23) @ np.diag([-1.0, -1, 1]), (0.8, 0.9, 2.5), (10, 32, 40), None),
    "flipped": (np.diag([1.0, 1, -1]), (1, 1, 3), (10, 32, 40), None),
    "anisotropic": (np.diag([-1.0, -1, 1]), (0.4, 1.7, 9.0), (7, 24, 48), None),
    "sagittal": (np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), (1, 1.5, 2), (30, 12, 36), None),
    "transformed": (np.diag([-1.0, -1, 1]), (1, 1, 3), (10, 32, 40), rotation(20, 10, -15)),
    "sheared": (np.diag([-1.0, -1, 1]), (1, 1, 3), (10, 32, 40), SHEAR),
    "turned": (np.diag([-1.0, -1, 1]), (1, 1, 3), (24, 10, 40), rotation(90, 0, 0)),
    "single": (np.diag([-1.0, -1, 1]), (1, 1, 3), (1, 32, 40), None),
}


def phantom(stackShape: tuple[int, int, int]) -> np.ndarray:
    """(n, H, W) int16: a bar of value 100 across the slices, one of 200 beside it, both absent from the last."""
    count, height, width = stackShape
    rows, columns = np.mgrid[:height, :width]
    voxels = np.zeros(stackShape, np.int16)
    for n in range(max(1, count - 1)):
        voxels[n][(abs(rows - height / 2) <= 4) & (abs(columns - width / 3) <= 4 + n % 3)] = 100
        voxels[n][(abs(rows - height / 2) <= 3) & (abs(columns - 2 * width / 3) <= 4)] = 200
    return voxels


def addVolume(geometry: str = "plain", name: str = "scan"):
    """A volume node in one of GEOMETRIES that shows the phantom in its canonical axial slices."""
    import slicer
    from ProMISeSlicerLib import mrml

    from ProMISeCore.volumes import Stack, Volume

    directions, spacing, shape, parent = GEOMETRIES[geometry]
    affine = np.eye(4)
    affine[:3, :3] = directions * np.array(spacing)
    affine[:3, 3] = [11.5, -20.25, 33.0]
    node = slicer.util.addVolumeFromArray(np.zeros(shape, np.int16), affine, name)
    if parent is not None:
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "parent")
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = parent, [5, -7, 9]
        transform.SetMatrixTransformToParent(mrml.matrixFromArray(matrix))
        node.SetAndObserveTransformNodeID(transform.GetID())
    stack = Stack(Volume(np.zeros(shape), mrml.affineOf(node), name), "axial")
    slicer.util.arrayFromVolume(node)[:] = stack.join(phantom(stack.shape))
    slicer.util.arrayFromVolumeModified(node)
    return node


def manifest(targets: tuple[str, ...] = ("bar", "rod"), **changes):
    from ProMISeCore import packs

    settings = {
        "name": "fake",
        "backbone": packs.BackboneInfo("tiny", "0" * 64, 64),
        "targets": tuple(packs.TargetInfo(name, (1.0, 0.02 * i, 0.0)) for i, name in enumerate(targets)),
        "modality": "MR",
        "orientation": "axial",
        "window": {"mode": "percentile", "low": 0.5, "high": 99.5},
    }
    return packs.Manifest(**settings | changes).check()


class Desk:
    """A session and what a test does with it."""

    def __init__(self, session, engine) -> None:
        self.session, self.engine = session, engine

    def settle(self, seconds: float = 20.0) -> Desk:
        """Pump until nothing is left to do."""
        end = time.monotonic() + seconds
        self.session.pump(0)
        while self.session.isBusy:
            assert time.monotonic() < end, "still busy"
            self.session.pump()
        return self

    def masks(self, target: str = "bar") -> np.ndarray:
        return self.session.segments.readAll(self.session.segmentId(target))

    def everything(self) -> dict[str, np.ndarray]:
        return {name: self.masks(name) for name in self.session.targets}

    def world(self, n: float, row: float, column: float) -> np.ndarray:
        return self.session.source.world([[n, row, column]])[0]

    def controlPoints(self, target: str = "bar", positive: bool = True) -> np.ndarray:
        """(n, row, column) of each control point of a list."""
        node = self.session.promptNodes(target)[0 if positive else 1]
        world = [node.GetNthControlPointPositionWorld(i) for i in range(node.GetNumberOfControlPoints())]
        return self.session.source.nrc(np.reshape(world, (-1, 3)))

    def onSlice(self, n: int, target: str = "bar", positive: bool = True) -> list[int]:
        """Indices of the control points on a slice."""
        return np.flatnonzero(self.controlPoints(target, positive)[:, 0].round() == n).tolist()

    def move(self, n: int, row: float, column: float, target: str = "bar", positive: bool = True) -> None:
        node = self.session.promptNodes(target)[0 if positive else 1]
        node.SetNthControlPointPositionWorld(self.onSlice(n, target, positive)[0], *self.world(n, row, column))


def middle(d: Desk, target: str, n: int = 4) -> tuple[int, int]:
    """(row, column) in the middle of the target on a slice."""
    return tuple(int(np.flatnonzero(d.masks(target)[n].any(axis=axis)).mean()) for axis in (1, 0))


def changed(before: dict, after: dict) -> dict[str, list[int]]:
    """Target → slices that differ."""
    return {
        name: [n for n in range(len(before[name])) if not np.array_equal(before[name][n], after[name][n])]
        for name in before
    }
