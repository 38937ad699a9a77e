"""Minimal stand-in for `slicer.parameterNodeWrapper`: what the module's parameter node needs, by Slicer's rules.

Members are annotated class attributes; values live as strings and node references in a vtkMRMLScriptedModuleNode;
a write outside its range raises ValueError; an equal value fires no event; widgets are bound by the dynamic property
SlicerParameterName and by their exact class. Slicer's own package replaces this one where it is given.
"""

from __future__ import annotations

import enum
import json
import typing
from dataclasses import dataclass

import qt
import slicer
import vtk

_RESERVED = {"allParameters", "default", "isCached", "dataType", "getValue", "setValue", "connectGui", "disconnectGui"}
_RESERVED |= {"connectParametersToGui", "StartModify", "EndModify", "AddObserver", "RemoveObserver", "Modified"}


@dataclass(frozen=True)
class WithinRange:
    minimum: float
    maximum: float

    def validate(self, value) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"value must be within [{self.minimum}, {self.maximum}], is {value}")


@dataclass(frozen=True)
class Choice:
    choices: list

    def validate(self, value) -> None:
        if value not in self.choices:
            raise ValueError(f"value must be one of {self.choices}, is {value!r}")


class _Member:
    """One parameter: its type, its checks and how it is kept."""

    def __init__(self, name: str, annotation, default) -> None:
        self.name, self.default = name, default
        self.type, *self.checks = typing.get_args(annotation) or (annotation,)
        self.isNode = isinstance(self.type, type) and issubclass(self.type, slicer.vtkMRMLNode)
        if default is None and not self.isNode:
            self.default = next(iter(self.type)) if issubclass(self.type, enum.Enum) else self.type()

    def __get__(self, wrapper, owner=None):
        if wrapper is None:
            return self
        node = wrapper.parameterNode
        if self.isNode:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        if text == "":
            return self.default
        return self.type[json.loads(text)] if issubclass(self.type, enum.Enum) else self.type(json.loads(text))

    def __set__(self, wrapper, value) -> None:
        if value is not None and not isinstance(value, self.type):
            raise TypeError(f"{self.name} takes {self.type.__name__}, not {value!r}")
        for check in self.checks:
            check.validate(value)
        node = wrapper.parameterNode
        if self.isNode:
            identity = value.GetID() if value else None
            if node.GetNodeReferenceID(self.name) != identity:
                node.SetNodeReferenceID(self.name, identity)
                node.Modified()
            return
        text = json.dumps(value.name if isinstance(value, enum.Enum) else value)
        if node.GetParameter(self.name) != text:
            node.SetParameter(self.name, text)


class _Binding:
    """One widget and one parameter, in both directions."""

    def __init__(self, wrapper, member: _Member, widget) -> None:
        self.wrapper, self.member, self.widget = wrapper, member, widget
        kind, made = type(widget), member.type
        if kind is slicer.qMRMLNodeComboBox and member.isNode:
            widget.nodeTypes = [made.__name__]
            self.signal, self.read, self.write = (
                "currentNodeChanged(vtkMRMLNode*)",
                widget.currentNode,
                widget.setCurrentNode,
            )
        elif kind is qt.QSpinBox and made is int:
            limits = next(check for check in member.checks if type(check) is WithinRange)
            widget.minimum, widget.maximum = limits.minimum, limits.maximum
            self.signal, self.read, self.write = "valueChanged(int)", lambda: widget.value, widget.setValue
        elif kind is qt.QComboBox and issubclass(made, enum.Enum):
            widget.clear()
            for each in made:
                widget.addItem(each.label() if hasattr(each, "label") else each.name)
            self.signal, self.read = "currentIndexChanged(int)", lambda: list(made)[widget.currentIndex]
            self.write = lambda value: widget.setCurrentIndex(list(made).index(value))
        else:
            raise RuntimeError(f"no connector from {made} to {kind.__name__}; bind it by hand")
        self.toWidget()
        widget.connect(self.signal, self.toNode)

    def toWidget(self, *_) -> None:
        value = self.member.__get__(self.wrapper)
        if value != self.read():
            self.write(value)

    def toNode(self, *_) -> None:
        self.member.__set__(self.wrapper, self.read())

    def disconnect(self) -> None:
        self.widget.disconnect(self.signal, self.toNode)


def parameterNodeWrapper(cls: type) -> type:
    """Class decorator."""
    hints = typing.get_type_hints(cls, include_extras=True)
    for name, annotation in hints.items():
        if name in _RESERVED:
            raise ValueError(f"'{name}' is reserved")
        setattr(cls, name, _Member(name, annotation, cls.__dict__.get(name)))
    members = list(hints)

    def construct(self, parameterNode) -> None:
        self.__dict__.update(parameterNode=parameterNode, _guis={})

    def set_known(self, name: str, value) -> None:
        if name not in hints:
            raise AttributeError(f"'{name}' is no member of {cls.__name__}: {', '.join(members)}")
        object.__setattr__(self, name, value)

    def connect(self, ui) -> int:
        widgets = [each for each in vars(ui).values() if hasattr(each, "SlicerParameterName")]
        for widget in widgets:
            if widget.SlicerParameterName not in hints:
                raise ValueError(f"SlicerParameterName '{widget.SlicerParameterName}' is no member")
        bindings = [_Binding(self, cls.__dict__[each.SlicerParameterName], each) for each in widgets]

        def follow(*_) -> None:
            for binding in bindings:
                binding.toWidget()

        tag = self.AddObserver(vtk.vtkCommand.ModifiedEvent, follow)
        self._guis[tag] = bindings
        return tag

    def disconnect(self, tag: int) -> None:
        for binding in self._guis.pop(tag, ()):
            binding.disconnect()
        self.RemoveObserver(tag)

    cls.__init__, cls.__setattr__, cls.connectGui, cls.disconnectGui = construct, set_known, connect, disconnect
    cls.AddObserver = lambda self, *arguments: self.parameterNode.AddObserver(*arguments)
    cls.RemoveObserver = lambda self, tag: self.parameterNode.RemoveObserver(tag)
    cls.Modified = lambda self: self.parameterNode.Modified()
    return cls
