"""segment_anything's networks, imported without its package's `__init__`, which would import torchvision."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

_PACKAGE = "segment_anything"


def _modeling() -> ModuleType:
    """`segment_anything.modeling`; a stand-in for its parent package lives only while it is being imported."""
    if _PACKAGE in sys.modules:
        return importlib.import_module(f"{_PACKAGE}.modeling")
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("ProMISeCore needs the package segment-anything: run pip install segment-anything")
    parent = ModuleType(_PACKAGE)
    parent.__path__ = list(spec.submodule_search_locations)
    sys.modules[_PACKAGE] = parent
    try:
        return importlib.import_module(f"{_PACKAGE}.modeling")
    finally:
        del sys.modules[_PACKAGE]  # whoever wants the whole package later gets the real one


_parts = _modeling()
ImageEncoderViT = _parts.ImageEncoderViT
MaskDecoder = _parts.MaskDecoder
PromptEncoder = _parts.PromptEncoder
TwoWayTransformer = _parts.TwoWayTransformer
