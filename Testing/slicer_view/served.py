"""`promise view` with a window into it for tests, in a process of its own: GET /facts tells what the scene holds.

python served.py PORT [VOLUME]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "ProMISeSlicer")]

from ProMISeView import rendering  # noqa: E402

rendering.prepare()


def facts(app) -> dict:
    """Points, masks, views and counts, as plain values."""
    import resource

    import slicer

    study, session = app.study, app.study.session
    known = {
        "nodes": slicer.mrmlScene.GetNumberOfNodes(),
        "red": slicer.util.arrayFromVTKMatrix(study.slices["Red"].node.GetXYToRAS()).tolist(),
        "size": list(study.slices["Red"].size),
        "frames": {name: stream.frames for name, stream in app.streams.items()},
        "busy": bool(session and session.isBusy),
        "tool": study.tool,
        "target": study.target,
        "peakMB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "level": study.volumeNode.GetDisplayNode().GetLevel() if study.volumeNode else None,
    }
    if session is None:
        return known | {"points": {}, "masks": {}, "observers": 0}
    points, masks = {}, {}
    for name in session.targets:
        placed = session.target(name).prompts.points()
        slices = session.source.nrc([point.ras for point in placed])[:, 0].round() if placed else []
        points[name] = [[p.positive, p.user, *p.ras, int(n)] for p, n in zip(placed, slices, strict=True)]
        masks[name] = [zlib.crc32(session.target(name).mask(n).tobytes()) for n in range(len(session.source))]
    return known | {
        "points": points,
        "masks": masks,
        "observers": session._watcher.count,
        "slice": study.sliceOnScreen(),
        "undo": session.canUndo,
        "redo": session.canRedo,
        "roi": [each.tolist() for each in session.target(study.target).prompts.drawnRoi()],
        "roiIsUsers": session.target(study.target).prompts.roiIsUsers,
    }


def main() -> None:
    arguments = argparse.Namespace(device="cpu", host="127.0.0.1", max_upload=50.0, pack=None)
    with tempfile.TemporaryDirectory() as folder:
        from aiohttp import web
        from ProMISeView import scene

        scene.start(folder)
        from ProMISeView.app import App

        from ProMISeCore import volumes

        app = App(folder, arguments, volumes.read(sys.argv[2]) if len(sys.argv) > 2 else None)

        async def tell(request):
            return web.json_response(facts(app))

        app.server.controller.on_server_bind.add(lambda server: server.app.router.add_get("/facts", tell))
        app.serve("127.0.0.1", int(sys.argv[1]))


if __name__ == "__main__":
    main()
