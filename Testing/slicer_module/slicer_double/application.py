"""The part of a running Slicer around a module: scene, application object, module logics, Sample Data, installers."""

from __future__ import annotations

import importlib
import os
import re
import sys
import tempfile
import types
from pathlib import Path

import slicer
import slicer.util
import vtk  # noqa: F401  the module under test imports it

from slicer_double import pythonqt

_LOGICS = {
    "volumes": "vtkSlicerVolumesLogic",
    "markups": "vtkSlicerMarkupsLogic",
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "subjecthierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
}
#: Names that a library of Slicer has there, and another here.
_ALIASES = {"MRMLCorePython": "MRMLCore", "vtkSegmentationCorePython": "vtkSegmentationCore"}


class Signals:
    """An application object's `connect("signal()", f)`; tests fire the signals themselves."""

    def __init__(self) -> None:
        self.slots: dict[str, list] = {}

    def connect(self, signal: str, slot) -> bool:
        self.slots.setdefault(signal, []).append(slot)
        return True

    def disconnect(self, signal: str, slot) -> bool:
        self.slots[signal] = [each for each in self.slots.get(signal, []) if each != slot]
        return True

    def fire(self, signal: str, *arguments) -> None:
        for slot in list(self.slots.get(signal, ())):
            slot(*arguments)


class Application(Signals):
    """`slicer.app`: no main window, testing mode on; no layout manager unless a test puts one into `layout`."""

    layout = io = None

    applicationName = mainApplicationName = "SlicerDouble"
    temporaryPath = cachePath = tempfile.gettempdir()

    def __init__(self, logic) -> None:
        super().__init__()
        self._logic, self._modules = logic, Signals()

    def applicationLogic(self):
        return self._logic

    def moduleManager(self) -> Signals:
        return self._modules

    def mrmlScene(self):
        return slicer.mrmlScene

    def testingEnabled(self) -> bool:
        return True

    def layoutManager(self):
        return self.layout

    def processEvents(self) -> None:
        pythonqt.application().processEvents()

    def settings(self):
        return sys.modules["qt"].QSettings()

    userSettings = settings

    def translate(self, context: str, text: str) -> str:
        return text

    def setOverrideCursor(self, cursor) -> None: ...

    def restoreOverrideCursor(self) -> None: ...

    def pauseRender(self) -> None: ...

    def resumeRender(self) -> None: ...


class LayoutManager(Signals):
    """What shows slice and 3D views: plain widgets here."""

    threeDViewCount = 1

    def __init__(self, widget: type, names: tuple[str, ...] = ("Red",)) -> None:
        super().__init__()
        self._slices = {name: widget() for name in names}
        self._threeD = widget()

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self._slices)

    def sliceWidget(self, name: str):
        return self._slices[name]

    def mrmlSliceLogics(self):
        return slicer.app.applicationLogic().GetSliceLogics()

    def threeDWidget(self, index: int):
        return self._threeD


class Module:
    """`slicer.modules.<name>`."""

    def __init__(self, name: str, logic=None, path: str = "") -> None:
        self.name, self._logic, self.path = name, logic, path

    def logic(self):
        return self._logic


class SampleDataLogic:
    """Records what is registered, under Slicer's signatures (5.12; the category call is absent from 5.10)."""

    sources: list[dict] = []
    categories: dict[str, str] = {}

    @staticmethod
    def registerCustomSampleDataCategory(category, title) -> None:
        SampleDataLogic.categories[category] = title

    @staticmethod
    def registerCustomSampleDataSource(
        category="Custom", sampleName=None, uris=None, fileNames=None, nodeNames=None, customDownloader=None,
        thumbnailFileName=None, loadFileTypes=None, loadFiles=None, loadFileProperties=None, checksums=None,
        loadFileType=None,
    ) -> None:  # fmt: skip
        SampleDataLogic.sources.append({key: value for key, value in locals().items() if value is not None})


class _Absent:
    """A widget class that Slicer's sources mention and the double does not have."""

    def __init__(self, *_) -> None:
        raise NotImplementedError(f"the test double has no {type(self).__name__}")


def _name_absent_widgets(package: Path) -> None:
    """Slicer's connectors name every widget class they know when they are imported."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in package.glob("*.py"))
    for owner, name in re.findall(r"\b(ctk|slicer)\.((?:ctk|qMRML)\w+)", text):
        module = sys.modules[owner]
        if not hasattr(module, name):
            setattr(module, name, type(name, (_Absent,), {}))


def install_libraries() -> None:
    """Modules that scripts import: Slicer's own from $SLICER_SRC where that is set, else the stand-ins."""
    source = os.environ.get("SLICER_SRC")
    for alias, real in _ALIASES.items():
        sys.modules.setdefault(alias, importlib.import_module(f"slicer_core.{real}"))
    sys.modules.setdefault("SampleData", types.ModuleType("SampleData")).SampleDataLogic = SampleDataLogic
    if source:
        package = Path(source, "Base", "Python", "slicer")
        slicer.__path__.append(str(package))
        _name_absent_widgets(package / "parameterNodeWrapper")
        return
    i18n = types.ModuleType("slicer.i18n")
    i18n.tr = lambda text, context=None: text
    i18n.translate = lambda context, text: text
    sys.modules["slicer.i18n"] = slicer.i18n = i18n
    for name, own in (("ScriptedLoadableModule", "scripted_module"), ("parameterNodeWrapper", "parameter_node")):
        module = importlib.import_module(f"slicer_double.{own}")
        sys.modules[f"slicer.{name}"] = module
        setattr(slicer, name, module)


def _start_io(logic, scene) -> tuple:
    """What reading and writing .mrb files needs, their folder with it; to be kept as long as the scene."""
    remote, data = slicer.vtkMRMLRemoteIOLogic(), slicer.vtkDataIOManagerLogic()
    remote.SetMRMLApplicationLogic(logic)
    remote.SetMRMLScene(scene)
    cache = tempfile.TemporaryDirectory(prefix="promise-scene")
    remote.GetCacheManager().SetRemoteCacheDirectory(cache.name)
    data.SetMRMLApplicationLogic(logic)
    data.SetAndObserveDataIOManager(remote.GetDataIOManager())
    remote.AddDataIOToScene()
    logic.SetTemporaryPath(tempfile.gettempdir())
    return remote, data, cache


def start_scene() -> None:
    """A fresh scene with its application logic and module logics, as `slicer.mrmlScene`, `.app` and `.modules`."""
    scene = slicer.mrmlScene = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerApplicationLogic()
    logic.SetMRMLScene(scene)
    logic.GetColorLogic().SetMRMLScene(scene)
    logic.GetColorLogic().AddDefaultColorNodes()
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    slicer.app = Application(logic)
    slicer.modules = types.ModuleType("slicer.modules")
    for name, class_name in _LOGICS.items():
        module_logic = getattr(slicer, class_name)()
        if hasattr(module_logic, "SetMRMLApplicationLogic"):
            module_logic.SetMRMLApplicationLogic(logic)
        module_logic.SetMRMLScene(scene)
        logic.SetModuleLogic({"subjecthierarchy": "SubjectHierarchy"}.get(name, name.capitalize()), module_logic)
        setattr(slicer.modules, name, Module(name.capitalize(), module_logic))
    slicer.app.io = _start_io(logic, scene)
    red = scene.CreateNodeByClass("vtkMRMLSliceNode")
    red.UnRegister(None)
    red.SetName("Red")
    red.SetLayoutName("Red")
    red.SetSingletonTag("Red")
    scene.AddNode(red)
    red.SetOrientation("Axial")
    composite = scene.CreateNodeByClass("vtkMRMLSliceCompositeNode")
    composite.UnRegister(None)
    composite.SetLayoutName("Red")
    scene.AddNode(composite)
