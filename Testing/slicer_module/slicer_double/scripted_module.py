"""Minimal stand-ins for `slicer.ScriptedLoadableModule` and `slicer.i18n`; Slicer's own replace them where given."""

from __future__ import annotations

import os
import unittest

import qt
import slicer

__all__ = [
    "ScriptedLoadableModule",
    "ScriptedLoadableModuleWidget",
    "ScriptedLoadableModuleLogic",
    "ScriptedLoadableModuleTest",
]


class ScriptedLoadableModule:
    def __init__(self, parent) -> None:
        self.parent, self.moduleName = parent, type(self).__name__

    def resourcePath(self, name: str) -> str:
        return os.path.join(os.path.dirname(self.parent.path), "Resources", name)


class ScriptedLoadableModuleWidget:
    """With a parent given, the application calls `setup`; without one the constructor does."""

    def __init__(self, parent=None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        self.parent = parent
        if parent is None:
            self.parent = slicer.qMRMLWidget()
            self.parent.setLayout(qt.QVBoxLayout())
            self.parent.setMRMLScene(slicer.mrmlScene)
        self.layout = self.parent.layout()
        if parent is None:
            self.setup()

    def resourcePath(self, name: str) -> str:
        path = getattr(slicer.modules, self.moduleName.lower()).path
        return os.path.join(os.path.dirname(path), "Resources", name)

    def setup(self) -> None:
        """The real one adds Reload and Test in developer mode."""

    def cleanup(self) -> None:
        """Called when the module is unloaded or reloaded."""

    def onReload(self) -> None:
        slicer.util.reloadScriptedModule(self.moduleName)


class ScriptedLoadableModuleLogic:
    def __init__(self, parent=None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self):
        """The module's one vtkMRMLScriptedModuleNode in the scene, made when missing."""
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            node.UnRegister(None)
            node.SetSingletonTag(self.moduleName)
            node.SetName(self.moduleName)
            node = slicer.mrmlScene.AddNode(node)
        node.SetAttribute("ModuleName", self.moduleName)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    def runTest(self) -> None:
        """What Reload and Test calls: every test of the class, in this process."""
        loaded = unittest.defaultTestLoader.getTestCaseNames(type(self))
        result = unittest.TestResult()
        unittest.TestSuite(type(self)(name) for name in loaded).run(result)
        for _, trace in result.errors + result.failures:
            raise AssertionError(trace)

    def delayDisplay(self, message: str, *_, **__) -> None:
        """Shown to people who watch; here nobody does."""
