"""A strict test double of the part of 3D Slicer that a scripted module's panel meets. It is not Slicer.

Real: MRML scene, nodes and logics, `slicer.util` (wheel `slicer-core`), Qt widgets (PySide6). Doubled: PythonQt's
rules (`pythonqt`), CTK and qMRML widgets (`widgets`), the application object (`application`), and, unless $SLICER_SRC
names a checkout of Slicer's sources, `ScriptedLoadableModule` and `parameterNodeWrapper`. What the double does not
know is an error. It shows nothing about rendering, mouse handling in views, the Extensions Manager, or installers.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_REPLACED = ("app", "mrmlScene", "modules")


@contextmanager
def running(moduleFile: Path, settings: Path) -> Iterator:
    """Slicer with one scripted module registered; yields that module's Python module, loaded as Slicer loads it.

    settings: folder for QSettings, so that the user's are neither read nor written.
    """
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from slicer_double import pythonqt

    pythonqt.application()
    qt = pythonqt.install()
    import slicer

    from slicer_double import application, widgets

    if "slicer.ScriptedLoadableModule" not in sys.modules:
        widgets.install(slicer)
        application.install_libraries()
    qt.QSettings.setDefaultFormat(qt.QSettings.IniFormat)
    qt.QSettings.setPath(qt.QSettings.IniFormat, qt.QSettings.UserScope, str(settings))
    before = {name: getattr(slicer, name, None) for name in _REPLACED}
    application.start_scene()
    try:
        yield load(moduleFile)
    finally:
        widgets.detach()
        slicer.mrmlScene.Clear(True)
        for name, value in before.items():
            setattr(slicer, name, value)


def load(moduleFile: Path):
    """Execute a module's main file under its own name, with its folder on the path, and register it."""
    import slicer

    from slicer_double.application import Module

    name = moduleFile.stem
    if str(moduleFile.parent) not in sys.path:
        sys.path.append(str(moduleFile.parent))
    setattr(slicer.modules, name.lower(), Module(name, path=str(moduleFile)))
    spec = importlib.util.spec_from_file_location(name, moduleFile)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
