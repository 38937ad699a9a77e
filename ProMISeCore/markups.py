"""Prompts as a 3D Slicer markups file: per target one list of positive points, one of negative points, and an ROI."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ProMISeCore.bounds import Box, bounds, of_voxels
from ProMISeCore.errors import InputError
from ProMISeCore.volumes import Volume
from ProMISeCore.whole_file import replacing

# Slicer compares this id, it does not fetch it; "master" is what its own versions write.
_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
_TO_LPS = np.array([-1.0, -1.0, 1.0])


_MOST_BYTES, _MOST_POINTS = 20 << 20, 100_000  # of a file that is read


class Prompts(NamedTuple):
    """Of one target. points_ras (N, 3) mm, labels (N,) 1 or 0, user (N,) True where a person did it; box: if drawn."""

    points_ras: np.ndarray
    labels: np.ndarray
    user: np.ndarray | None = None
    box: Box | None = None


def write_prompts(
    path,
    prompts: Mapping[str, Sequence],
    volume: Volume,
    masks: Mapping[str, np.ndarray],
    targets: Sequence[Mapping[str, Any]],
) -> None:
    """Write one `.mrk.json` that Slicer loads as several nodes (LPS, mm; description "auto" or "user").

    prompts: target → Prompts, or a plain (points_ras, labels[, user]). masks: target → (K, J, I) bool, whose bounding
    box becomes the ROI (none for an empty mask) where a person has drawn none. targets: the manifest's entries; every
    one gets its two lists.
    """
    markups = []
    for target in targets:
        name, color = str(target["name"]), _color(target)
        points, labels, user, box = _checked(name, prompts.get(name))
        for kind, label in (("positive", 1), ("negative", 0)):
            chosen = labels == label
            markups.append(_points(f"{name} {kind}", label, color, points[chosen], user[chosen]))
        mask = masks.get(name)
        if box is not None:
            markups.append(_roi(f"{name} ROI", color, box, "user"))
        elif mask is not None and mask.any():
            markups.append(_roi(f"{name} ROI", color, _around(mask, np.asarray(volume.affine, float)), "auto"))
    text = json.dumps({"@schema": _SCHEMA, "markups": markups}, indent=1, ensure_ascii=False)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def is_automatic(path) -> bool:
    """Whether nobody has placed anything in a file of prompts; of another file nobody can tell: False."""
    try:
        lists = json.loads(Path(path).read_text(encoding="utf-8"))["markups"]
        return not any(point.get("description") == "user" for one in lists for point in one["controlPoints"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def read_prompts(path, targets: Sequence[str]) -> dict[str, Prompts]:
    """What a person has placed for these targets, in a file as `write_prompts` and Slicer write it.

    Raises InputError for other files, and where there is nothing of a person's.
    """
    try:
        if Path(path).stat().st_size > _MOST_BYTES:
            raise InputError("that file of control points is too large to be one")
        lists = json.loads(Path(path).read_text(encoding="utf-8"))["markups"]
        found = {target: _read(target, lists) for target in targets}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError("that is no file of control points as Slicer or ProMISe writes it") from error
    found = {target: prompts for target, prompts in found.items() if len(prompts.labels) or prompts.box is not None}
    if not found:
        raise InputError(f"that file holds no control points or boxes of yours for {', '.join(targets)}")
    count = sum(len(prompts.labels) for prompts in found.values())
    if count > _MOST_POINTS:
        raise InputError(f"that file holds {count} control points; at most {_MOST_POINTS} can be used")
    return found


def _read(target: str, lists: Sequence[Mapping[str, Any]]) -> Prompts:
    points, labels, box = [], [], None
    for entry in lists:
        by_user = [point for point in entry["controlPoints"] if point.get("description") == "user"]
        to_ras = _TO_LPS if entry.get("coordinateSystem", "LPS") == "LPS" else np.ones(3)
        for role, label in (("positive", 1), ("negative", 0)):
            if entry["type"] == "Fiducial" and entry["name"] == f"{target} {role}":
                points += [_finite(point["position"], 3) * to_ras for point in by_user]
                labels += [label] * len(by_user)
        if entry["type"] == "ROI" and entry["name"] == f"{target} ROI" and by_user:
            axes = to_ras[:, None] * _finite(entry["orientation"], 9).reshape(3, 3)
            box = Box(_finite(entry["center"], 3) * to_ras, axes, _finite(entry["size"], 3))
    return Prompts(np.array(points).reshape(-1, 3), np.array(labels, int), np.ones(len(labels), bool), box)


def _finite(numbers: Sequence[float], count: int) -> np.ndarray:
    """(count,) float. Raises ValueError for anything else."""
    found = np.array(numbers, float)
    if found.shape != (count,) or not np.isfinite(found).all():
        raise ValueError(f"{count} finite numbers were expected")
    return found


def _color(target: Mapping[str, Any]) -> list[float]:
    return [float(value) for value in target.get("color") or (1.0, 0.6, 0.2)]


def _checked(name: str, prompts: Sequence | None) -> Prompts:
    points, labels, user, box = Prompts(*prompts) if prompts is not None else Prompts(np.zeros((0, 3)), np.zeros(0))
    points, labels = np.asarray(points, float).reshape(-1, 3), np.asarray(labels).reshape(-1)
    user = np.zeros(len(points), bool) if user is None else np.asarray(user, bool).reshape(-1)
    if not len(points) == len(labels) == len(user):
        raise InputError(f"target {name!r} has {len(points)} points, {len(labels)} labels and {len(user)} user marks")
    if not np.isfinite(points).all():
        raise InputError(f"target {name!r} has a point that is not a finite position")
    return Prompts(points, labels, user, box)


def _points(name: str, label: int, color: list[float], points_ras: np.ndarray, user: np.ndarray) -> dict[str, Any]:
    control_points = [
        {
            "id": str(number),
            "label": f"{name}-{number}",
            "description": "user" if by_user else "auto",
            "associatedNodeID": "",
            "position": [float(value) for value in point * _TO_LPS],
            "orientation": [-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0],
            "selected": True,
            "locked": False,
            "visibility": True,
            "positionStatus": "defined",
        }
        for number, (point, by_user) in enumerate(zip(points_ras, user, strict=True), 1)
    ]
    glyph = "Sphere3D" if label else "ThickCross2D"
    return {
        "type": "Fiducial",
        "name": name,
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": False,
        "fixedNumberOfControlPoints": False,
        "labelFormat": "%N-%d",
        "lastUsedControlPointNumber": len(control_points),
        "controlPoints": control_points,
        "display": _display(color) | {"glyphType": glyph, "glyphScale": 1.5, "useGlyphScale": True},
    }


def _around(mask: np.ndarray, affine: np.ndarray) -> Box:
    """The box of a mask (K, J, I) along the volume's own axes."""
    box = bounds(mask)[::-1]
    return of_voxels(np.array([span.start for span in box]), np.array([span.stop - 1 for span in box]), affine)


def _roi(name: str, color: list[float], box: Box, source: str) -> dict[str, Any]:
    center, orientation = np.asarray(box.center_ras) * _TO_LPS, np.diag(_TO_LPS) @ box.axes_ras
    if np.linalg.det(orientation) < 0:  # Slicer's boxes are right-handed; a box is the same with an axis reversed
        orientation[:, 2] *= -1
    return {
        "type": "ROI",
        "name": name,
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": False,
        "roiType": "Box",
        "center": center.tolist(),
        "orientation": orientation.ravel().tolist(),
        "size": np.asarray(box.size_mm, float).tolist(),
        "insideOut": False,
        "controlPoints": [
            {"id": "1", "label": name, "description": source, "position": center.tolist(), "positionStatus": "defined"}
        ],
        "display": _display(color) | {"handlesInteractive": False},
    }


def _display(color: list[float]) -> dict[str, Any]:
    return {
        "visibility": True,
        "opacity": 1.0,
        "color": color,
        "selectedColor": color,
        "propertiesLabelVisibility": False,
        "pointLabelsVisibility": False,
    }
