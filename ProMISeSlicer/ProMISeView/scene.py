"""A scene of real MRML outside Slicer's application: the logics, lists and readers that the library expects."""

from __future__ import annotations

import sys
import tempfile
import types

import slicer
import slicer.util
import vtk

_LOGICS = {
    "Volumes": "vtkSlicerVolumesLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
}


class Application:
    """What slicer.util and the library ask of slicer.app."""

    def __init__(self, logic, folder: str) -> None:
        self._logic, self.temporaryPath = logic, folder

    def applicationLogic(self):
        return self._logic

    def mrmlScene(self):
        return slicer.mrmlScene

    def pauseRender(self) -> None:
        """Views are drawn when the page has time; nothing has to be held back."""

    def resumeRender(self) -> None:
        """As `pauseRender`."""


def _speakEnglish() -> None:
    """Slicer's translations come with Qt; here texts stay as they are written."""
    module = types.ModuleType("slicer.i18n")
    module.tr = lambda text: text
    module.translate = lambda context, text: text
    slicer.i18n = sys.modules.setdefault("slicer.i18n", module)


def start(folder: str):
    """A fresh scene, also known as slicer.mrmlScene. folder: for what reading and writing need meanwhile."""
    _speakEnglish()
    scene = slicer.mrmlScene = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerApplicationLogic()
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetCrosshairName("default")
    scene.AddNode(crosshair)
    logic.SetMRMLScene(scene)  # adds the selection and interaction nodes
    logic.SetTemporaryPath(folder)
    logic.SetSliceLogics(vtk.vtkCollection())
    logic.SetViewLogics(vtk.vtkCollection())
    _addLogics(scene, logic)
    logic.GetColorLogic().SetMRMLScene(scene)
    logic.GetColorLogic().AddDefaultColorNodes()
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    slicer.app = Application(logic, folder)
    slicer.app.kept = (_readers(scene, logic, folder), _links(scene, logic))
    return scene


def _addLogics(scene, logic) -> None:
    slicer.modules = types.SimpleNamespace()
    for name, className in _LOGICS.items():
        module = getattr(slicer, className)()
        module.SetMRMLScene(scene)
        if hasattr(module, "SetMRMLApplicationLogic"):
            module.SetMRMLApplicationLogic(logic)
        logic.SetModuleLogic(name, module)  # where displayable managers look for it
        setattr(slicer.modules, name.lower(), types.SimpleNamespace(logic=lambda module=module: module))


def _readers(scene, logic, folder: str) -> tuple:
    """What a scene needs to be read from a bundle (.mrb); nothing is ever fetched from a network."""
    remote, data = slicer.vtkMRMLRemoteIOLogic(), slicer.vtkDataIOManagerLogic()
    remote.SetMRMLApplicationLogic(logic)
    remote.SetMRMLScene(scene)
    cache = tempfile.mkdtemp(prefix="cache-", dir=folder)  # of its own: VTK warns of caches among other files
    remote.GetCacheManager().SetRemoteCacheDirectory(cache)
    data.SetMRMLApplicationLogic(logic)
    data.SetAndObserveDataIOManager(remote.GetDataIOManager())
    remote.AddDataIOToScene()
    return remote, data


def _links(scene, logic):
    """Zoom and what is shown go from one linked slice view to the others."""
    link = slicer.vtkMRMLSliceLinkLogic()
    link.SetMRMLApplicationLogic(logic)
    link.SetMRMLScene(scene)
    return link
