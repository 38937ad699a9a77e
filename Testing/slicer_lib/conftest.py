"""A scene, and sessions on a fake engine; skipped where slicer-core is missing. What they are made of: desks.py."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from desks import Desk, addVolume, manifest, startScene


def pytest_collection_modifyitems(config, items) -> None:
    if importlib.util.find_spec("slicer_core") is None:
        skip = pytest.mark.skip(reason="slicer-core is not installed; pip install slicer-core")
        for item in items:
            if Path(item.fspath).parent == Path(__file__).parent and "scene" in getattr(item, "fixturenames", ()):
                item.add_marker(skip)


@pytest.fixture
def scene() -> Iterator:
    import slicer

    before = {name: getattr(slicer, name, None) for name in ("mrmlScene", "app", "modules")}
    made = startScene()
    yield made
    made.Clear(1)
    for name, value in before.items():
        if value is None:
            delattr(slicer, name)
        else:
            setattr(slicer, name, value)


@pytest.fixture
def desk(scene) -> Iterator[Callable[..., Desk]]:
    """`desk(geometry, …)`: a session on a phantom, segmented; closed at the end, leaving no thread."""
    from ProMISeSlicerLib.fakeEngine import FakeEngine
    from ProMISeSlicerLib.session import Session

    made = []

    def make(geometry="plain", targets=("bar", "rod"), segmented: bool = True, delay: float = 0.0, **more) -> Desk:
        settings = {"name": more.pop("pack", "fake"), "largest_component": more.pop("largest_component", False)}
        pack = manifest(targets, **settings)
        engine = FakeEngine(delay)
        volume = more.pop("volume", None) or addVolume(geometry)
        found = Desk(Session(volume, pack, engine=engine, **more), engine)
        made.append(found)
        if segmented:
            found.session.segment()
            found.settle()
        return found

    yield make
    for each in made:
        each.session.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ProMISe")]
