"""From the mouse button's release to the new segment on screen, on a 512 × 512 × 200 volume.

    python Testing/benchmarks/interaction.py [--target "left ventricle"] [--moves 60] [--json FILE]

Needs slicer-core and PyTorch in one environment (`python3 promise.py test` makes one). Real parts: MRML, Slicer's slice
view with its markups and segmentation displays (offscreen, software rendering), the session, and the embedded `heart`
pack on the backbone `tiny`. Only the mouse is synthetic. Slices are encoded beforehand, as after a pass.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing" / "slicer_lib"), str(ROOT / "ProMISeSlicer")]

SHAPE = (200, 512, 512)  # slices, rows, columns


class Clock:
    """Milliseconds spent in each part, per move."""

    def __init__(self) -> None:
        self.parts: dict[str, list[float]] = {}

    @contextmanager
    def part(self, name: str):
        started = time.perf_counter()
        try:
            yield
        finally:
            self.parts.setdefault(name, []).append(1000 * (time.perf_counter() - started))

    def around(self, owner, method: str, name: str) -> None:
        """Also count what a method takes, wherever it is called from."""
        plain = getattr(owner, method)

        def timed(*arguments, **options):
            with self.part(name):
                return plain(*arguments, **options)

        setattr(owner, method, timed)

    def summary(self) -> dict[str, dict[str, float]]:
        return {
            name: {"median_ms": round(float(np.median(v)), 1), "p95_ms": round(float(np.percentile(v, 95)), 1)}
            for name, v in self.parts.items()
        }


def volume():
    """A volume node with the heart phantom's slices, enlarged, over and over."""
    import slicer
    from scipy import ndimage

    from ProMISeCore import phantom

    heart = phantom.heart()
    small = np.asarray(heart.voxels, np.float32)
    scale = [SHAPE[1] / small.shape[1], SHAPE[2] / small.shape[2]]
    large = np.stack([ndimage.zoom(slice_, scale, order=1) for slice_ in small]).astype(np.int16)
    voxels = large[np.linspace(0, len(large) - 1, SHAPE[0]).round().astype(int)]
    affine = np.diag([-0.7, -0.7, 1.0, 1.0])
    return slicer.util.addVolumeFromArray(voxels, affine, "benchmark")


def measure(target: str, moves: int, cacheFolder: str) -> dict:
    from desks import startScene
    from offscreen import SliceView
    from ProMISeSlicerLib.engine import CoreEngine
    from ProMISeSlicerLib.session import Session

    from ProMISeCore import packs

    startScene()
    node, pack, middle = volume(), packs.find("heart"), SHAPE[0] // 2
    session = Session(node, pack, engine=CoreEngine(pack, "cpu", cacheFolder))
    view, clock = SliceView(node, 512), Clock()

    def settle() -> None:
        session.pump(0)
        while session.isBusy:
            session.pump()

    view.show(session.sliceCenter(middle))
    started = time.perf_counter()
    place = session.source.world([[middle, SHAPE[1] / 2, SHAPE[2] / 2]])[0]
    session.addPoint(target, place, True)
    settle()
    first = time.perf_counter() - started
    points = session.promptNodes(target)[0]
    clock.around(session.engine, "segmentSlice", "decode")
    clock.around(session.segments, "write", "write")
    random = np.random.default_rng(0)
    for _ in range(moves):
        start = view.xy(points.GetNthControlPointPositionWorld(0))
        end = view.xy(session.source.world([[middle, *random.uniform(0.4, 0.6, 2) * SHAPE[1]]])[0])
        view.press(*start)
        view.move(*[(a + b) / 2 for a, b in zip(start, end, strict=True)])
        settle()
        view.move(*end)
        settle()
        for name in ("decode", "write"):
            clock.parts[name] = clock.parts.get(name, [])[: len(clock.parts.get("release to screen", []))]
        with clock.part("release to screen"):
            with clock.part("release to segment"):
                view.release(*end)
                settle()
            with clock.part("render"):
                view.window.Render()
    session.close()
    return {"first point, model loaded and slice encoded, s": round(first, 2), "moves": moves, **clock.summary()}


_LOAD = """
import importlib.util, pathlib, sys, tempfile, time
root = pathlib.Path(sys.argv[1])
sys.path[:0] = [str(root), str(root / "Testing" / "slicer_module")]
import slicer_double
file = root / "ProMISeSlicer" / "ProMISeSlicer.py"
with tempfile.TemporaryDirectory() as folder, slicer_double.running(file, pathlib.Path(folder)):
    for name in [name for name in sys.modules if name.startswith("ProMISe")]:
        del sys.modules[name]
    started = time.perf_counter()
    spec = importlib.util.spec_from_file_location("ProMISeSlicer", file)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    print(time.perf_counter() - started, "torch" in sys.modules)
"""


def moduleImport() -> tuple[float, bool]:
    """Seconds to load the module's file and its library on the test double, the best of five; whether torch came."""
    environment = dict(os.environ, QT_QPA_PLATFORM="offscreen")
    command = [sys.executable, "-c", _LOAD, str(ROOT)]
    runs = [subprocess.run(command, capture_output=True, text=True, env=environment, check=True) for _ in range(5)]
    words = [run.stdout.split()[-2:] for run in runs]
    return min(float(seconds) for seconds, _ in words), any(torch == "True" for _, torch in words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="left ventricle", help="of the pack; refiners may serve only some")
    parser.add_argument("--moves", type=int, default=60)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    import torch

    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments.target, arguments.moves, folder)
    seconds, bringsTorch = moduleImport()
    found["module import, ms"], found["module import loads torch"] = round(1000 * seconds, 1), bringsTorch
    found["machine"] = (
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    )
    found["threads"] = torch.get_num_threads()
    for name, value in found.items():
        print(f"{name:55} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
