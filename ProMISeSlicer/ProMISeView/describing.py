"""What the page shows of packs, views and segments, as plain values; and the segment list's own switches."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from ProMISeSlicerLib import catalogue
from ProMISeSlicerLib.failing import explained
from vtk.util.numpy_support import vtk_to_numpy

_log = logging.getLogger(__name__)
_SURFACE = "Closed surface"

#: The page's state before anything is open.
BEGINNING = {
    "volume": None,
    "pack": "",
    "card": "",
    "misfit": "",
    "hasSession": False,
    "targets": [],
    "target": "",
    "tool": "move",
    "busy": False,
    "progress": {"done": 0, "total": 0},
    "message": {"text": "", "kind": "info"},
    "canUndo": False,
    "canRedo": False,
    "strip": [],
    "slice": -1,
    "segments": [],
    "shown3D": False,
    "propagateCount": 3,
    "propagateWay": 0,
    "large": "",
    "theme": "dark",
    "helpShown": False,
    "uploading": -1,
    "unsaved": False,
}


class Reporting:
    """Within it, what goes wrong is said and does not end the server; what does not explain itself is logged too."""

    def __init__(self, say: Callable[[str, str], None], known: tuple) -> None:
        self._say, self._known = say, known

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, trace) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        isKnown = isinstance(error, self._known)
        if not isKnown:
            _log.error("an action of the page failed", exc_info=error)
        self._say(str(error) if isKnown else explained(error), "error")
        return True


def pack(name: str, found) -> dict:
    """A pack in the list."""
    manifest = found.manifest
    dice = catalogue.figure(catalogue.meanDice(manifest))
    targets = ", ".join(target.name for target in manifest.targets)
    return {
        "name": name,
        "title": catalogue.name(manifest),
        "what": f"{catalogue.image(manifest)} · {targets} · Dice {dice}",
    }


def sliceView(window, volumeNode) -> dict:
    """A slice view's slider, letters and title."""
    first, last, step = window.range()
    offset = window.logic.GetSliceOffset()
    count = max(1, round((last - first) / step) + 1) if volumeNode is not None else 1
    return {
        "title": window.orientation,
        "first": first,
        "last": last,
        "step": step,
        "offset": offset,
        "number": min(max(round((offset - first) / step) + 1, 1), count),
        "count": count,
        **window.sides(),
    }


def strip(session, target: str) -> list[dict]:
    """Per slice of the target: its mark (one letter), how far it can be trusted (0…1) and words for it."""
    words = {"auto": "automatic", "user": "yours", "locked": "locked", "todo": "not done"}
    letters = {"auto": "", "user": "U", "locked": "L", "todo": "·"}
    found = []
    for cell in session.sliceStates(target):
        values = [cell[key] for key in ("iou", "agreement") if cell[key] is not None]
        trust = float(np.prod(values)) if values else None
        state = "propagated" if cell["propagated"] else words[cell["state"]]
        tip = f"Slice {cell['slice'] + 1}: {state}"
        if cell["state"] != "todo" and cell["matters"] and trust is not None:
            tip += f", confidence {trust:.2f}"
        shown = cell["matters"] and cell["state"] != "todo" and trust is not None
        letter = "P" if cell["propagated"] else letters[cell["state"]]
        found.append({"n": cell["slice"], "letter": letter, "trust": round(trust, 3) if shown else None, "tip": tip})
    return found


# Segments


def segments(session) -> list[dict]:
    """Every segment: name, colour, whether it is shown, opacity, volume in ml."""
    if session is None or session.isClosed:
        return []
    segmentation, display = session.segmentationNode.GetSegmentation(), session.segmentationNode.GetDisplayNode()
    found = []
    for segmentId in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(segmentId)
        found.append(
            {
                "id": segmentId,
                "name": segment.GetName(),
                "colour": "#{:02x}{:02x}{:02x}".format(*(round(255 * value) for value in segment.GetColor())),
                "shown": bool(display.GetSegmentVisibility(segmentId)),
                "opacity": display.GetSegmentOpacity2DFill(segmentId),
                "ml": f"{millilitres(segment):.1f} ml",
            }
        )
    return found


def millilitres(segment) -> float:
    """Voxels of a segment times their volume."""
    image = segment.GetRepresentation("Binary labelmap")
    if image is None or not image.GetNumberOfPoints() or image.GetPointData().GetScalars() is None:
        return 0.0
    count = np.count_nonzero(vtk_to_numpy(image.GetPointData().GetScalars()) == segment.GetLabelValue())
    return float(count * np.prod(image.GetSpacing()) / 1000)


def show(session, segmentId: str, shown: bool) -> None:
    session.segmentationNode.GetDisplayNode().SetSegmentVisibility(segmentId, bool(shown))


def opacity(session, segmentId: str, value: float) -> None:
    """Of the fill, 0…1; the outline stays."""
    session.segmentationNode.GetDisplayNode().SetSegmentOpacity2DFill(segmentId, min(max(value, 0.0), 1.0))


def colour(session, segmentId: str, text: str) -> None:
    """text: #rrggbb. Of the segment and its positive control points."""
    segment = session.segmentationNode.GetSegmentation().GetSegment(segmentId)
    if segment is None or len(text) != 7 or text[0] != "#":
        return
    segment.SetColor(*(int(text[at : at + 2], 16) / 255 for at in (1, 3, 5)))


def isShown3D(session) -> bool:
    return bool(session and session.segmentationNode.GetSegmentation().ContainsRepresentation(_SURFACE))
