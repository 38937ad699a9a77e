"""PySide6 made to obey PythonQt's rules, as far as scripted modules meet them. A test double, not PythonQt.

Rules (observed on a real PythonQt): Qt properties are attributes, not methods; an unknown attribute, a read-only
property or an overwritten signal raises AttributeError; `connect("signal(type)", f)` takes the normalised signature;
children and dynamic properties can be read by name; string lists are tuples. Where PythonQt only prints a warning
(an unknown signal, an unknown class in a .ui file), the double raises.
"""

from __future__ import annotations

import ctypes
import inspect
import sys
import types
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

QObject = QtCore.QObject
_MODULES = (QtCore, QtGui, QtWidgets, QtUiTools)
_getattribute = QObject.__getattribute__
#: Classes that stand for C++ ones: no new attributes on their objects.
_CPP: set[type] = set()


class _Property:
    """A Q_PROPERTY read and written as an attribute."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: QObject | None, owner: type | None = None):
        if instance is None:
            return self
        value = QObject.property(instance, self.name)
        return tuple(value) if isinstance(value, list) else value

    def __set__(self, instance: QObject, value) -> None:
        meta = instance.metaObject()
        found = meta.property(meta.indexOfProperty(self.name))
        if not found.isWritable():
            raise AttributeError(f"property '{self.name}' of {type(instance).__name__} is not writable")
        if not QObject.setProperty(instance, self.name, value):
            raise AttributeError(f"property '{self.name}' ({found.typeName()}) does not take {value!r}")


class _Connect:
    """`object.connect("signal(type)", callable)` and `disconnect` likewise."""

    def __init__(self, sender: QObject, action: str) -> None:
        self.sender, self.action = sender, action

    def __call__(self, signature: str, *receivers) -> bool:
        act = getattr(self._signal(signature), self.action)
        return bool(act(receivers[-1]) if receivers else act())

    def _signal(self, signature: str):
        python_signal = getattr(type(self.sender), "vtkSignals", {}).get(signature)
        if python_signal is not None:
            return getattr(self.sender, python_signal)
        meta = self.sender.metaObject()
        normal = bytes(QtCore.QMetaObject.normalizedSignature(signature)).decode()
        if meta.indexOfSignal(normal) < 0:
            raise RuntimeError(f"{meta.className()} has no signal '{signature}'; PythonQt would print this, not raise")
        name, _, arguments = normal.rstrip(")").partition("(")
        signal = getattr(self.sender, name)
        try:
            return signal[arguments] if arguments else signal
        except (KeyError, IndexError, TypeError):  # the only overload
            return signal


def _strict_getattribute(self: QObject, name: str):
    if name in ("connect", "disconnect"):
        return _Connect(self, name)
    return _getattribute(self, name)


def _by_name(self: QObject, name: str):
    """Dynamic properties, then children, by name; called for attributes that the class does not have."""
    if not name.startswith("__"):
        if name.encode() in [bytes(each) for each in QObject.dynamicPropertyNames(self)]:
            return QObject.property(self, name)
        for child in QObject.children(self):
            if QObject.property(child, "objectName") == name:
                return child
    raise AttributeError(f"'{name}' does not exist on {type(self).__name__}")


def _strict_setattr(self: QObject, name: str, value) -> None:
    if UiLoader.loading:  # PySide would make every child an attribute; PythonQt finds them by name
        return
    if name.startswith("__") or isinstance(value, QtCore.SignalInstance):  # kept by PySide itself
        self.__dict__[name] = value
        return
    found = next((cls.__dict__[name] for cls in type(self).__mro__ if name in cls.__dict__), None)
    if isinstance(found, QtCore.Property):
        if found.fset is None:
            raise AttributeError(f"property '{name}' of {type(self).__name__} is not writable")
        found.fset(self, value)
    elif isinstance(found, _Property):
        found.__set__(self, value)
    elif name.encode() in [bytes(each) for each in QObject.dynamicPropertyNames(self)]:
        QObject.setProperty(self, name, value)
    elif found is not None:
        raise AttributeError(f"'{name}' of {type(self).__name__} is a method or signal and cannot be replaced")
    elif type(self) in _CPP:
        raise AttributeError(f"'{name}' does not exist on {type(self).__name__}; PythonQt allows no new attributes")
    else:
        self.__dict__[name] = value


class UiLoader(QtUiTools.QUiLoader):
    """QUiLoader that raises for a class it does not know, and makes `vtk…` connections in Python."""

    registry: dict[str, type] = {}
    loading = False

    def createWidget(self, name: str, parent=None, object_name: str = ""):
        made = self.registry.get(name)
        if made is None:
            if name not in self.availableWidgets():
                raise RuntimeError(f"the .ui file uses '{name}', which the test double does not have")
            return super().createWidget(name, parent, object_name)
        widget = made(parent)
        QObject.setProperty(widget, "objectName", object_name)
        return widget

    def load(self, device: QtCore.QIODevice, parent=None):
        root = ElementTree.fromstring(bytes(device.readAll()).decode("utf-8"))
        connections, deferred = root.find("connections"), []
        for entry in list(connections if connections is not None else ()):
            if "vtk" in entry.findtext("signal") + entry.findtext("slot"):
                deferred.append([entry.findtext(key) for key in ("sender", "signal", "receiver", "slot")])
                connections.remove(entry)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.ReadOnly)
        UiLoader.loading = True
        try:
            widget = super().load(buffer, parent)
        finally:
            UiLoader.loading = False
        for sender, signal, receiver, slot in deferred:
            self._named(widget, sender).connect(signal, getattr(self._named(widget, receiver), slot.split("(")[0]))
        return widget

    @staticmethod
    def _named(top: QObject, name: str) -> QObject:
        found = top if QObject.property(top, "objectName") == name else top.findChild(QObject, name)
        if found is None:
            raise RuntimeError(f"a connection in the .ui file names '{name}', which is not there")
        return found


def stands_for_cpp(cls: type) -> type:
    """Class decorator: objects of it take no new attributes, and .ui files may name it."""
    _CPP.add(cls)
    cls.__setattr__ = _strict_setattr
    UiLoader.registry[cls.__name__] = cls
    return cls


def stored_property(kind: type | str, default, signal: str | None = None) -> QtCore.Property:
    """A Qt property that keeps its value and emits `signal` with it when it changes."""
    slot = f"_value_{id(default)}_{len(_COUNTER)}"
    _COUNTER.append(slot)

    def read(self):
        return self.__dict__.get(slot, default)

    def write(self, value) -> None:
        if read(self) != value:
            self.__dict__[slot] = value
            if signal is not None:
                getattr(self, signal).emit(value)

    return QtCore.Property(kind, read, write)


_COUNTER: list[str] = []


def _spare_references() -> None:
    """Each emit and disconnect of PySide 6.12 gives a reference to True or None away that it does not own (measured).

    Before Python 3.12 that ends the process after some thousand signals, so put references in store.
    """
    if sys.version_info < (3, 12):
        for value in (True, False, None):
            for _ in range(100_000):
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


def install() -> types.ModuleType:
    """Change PySide6's classes (once) and return the module `qt`, also found by `import qt`."""
    if "qt" in sys.modules:
        return sys.modules["qt"]
    _spare_references()
    for cls in _classes():
        _CPP.add(cls)
        meta = cls.staticMetaObject
        for index in range(meta.propertyOffset(), meta.propertyCount()):
            setattr(cls, meta.property(index).name(), _Property(meta.property(index).name()))
        cls.__setattr__ = _strict_setattr
        if cls is QtCore.QProcess:  # has one of its own, as classes with a second base do
            cls.__getattribute__ = _strict_getattribute
    QObject.name = _Property("objectName")
    QObject.className = lambda self: self.metaObject().className()
    QObject.__getattribute__ = _strict_getattribute
    QObject.__getattr__ = _by_name
    qt = types.ModuleType("qt")
    for module in _MODULES[:3]:
        vars(qt).update({name: value for name, value in vars(module).items() if not name.startswith("_")})
    qt.QUiLoader = UiLoader
    for name in ("getOpenFileName", "getSaveFileName"):
        setattr(qt.QFileDialog, name, staticmethod(_only_the_name(getattr(qt.QFileDialog, name))))
    sys.modules["qt"] = qt
    return qt


def _only_the_name(ask):
    """PythonQt gives the file's name, PySide6 also the chosen filter."""
    return lambda *arguments: ask(*arguments)[0]


def _classes() -> Iterator[type]:
    seen: set[type] = set()
    for module in _MODULES:
        for value in [getattr(module, name, None) for name in dir(module)]:
            if inspect.isclass(value) and issubclass(value, QObject) and value not in seen:
                seen.add(value)
                yield value


def application() -> QtWidgets.QApplication:
    """The process's one QApplication."""
    return QtWidgets.QApplication.instance() or QtWidgets.QApplication(["slicer-double"])
