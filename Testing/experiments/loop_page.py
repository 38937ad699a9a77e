"""The section about the loop of teaching in docs/teach.md: clicks per volume, what they were, and the plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plots
import sections
from cells import Cells
from reader import ACCEPT, ACTIONS

WAYS = {
    "teach": "taught in between",
    "paint": "taught in between, given-up slices painted by hand and learned from",
    "once": "no teaching in between: the pack taught after the 1st",
    "plain": "no pack: the backbone prompted",
}
SHOWN = (1, 2, 5, 10)
_WHAT = (
    "What the clicks were, per volume after the first, and pooled Dice before and after them; steps of all lessons "
    "together, and how many volumes they named as suspicious, though the reader's masks were right:"
)

Result = Mapping[str, Any]
#: Subject → way → one result per seed.
Found = dict[str, dict[str, list[Result]]]


def collected(folder: Path) -> tuple[dict[str, Any], Found]:
    """Settings and results. Raises InputError for none."""
    shared, cells = Cells.all(folder)
    found: Found = {}
    for key, result in cells.items():
        subject, way, _ = key.split(".")
        found.setdefault(subject, {}).setdefault(way, []).append(result)
    return shared, found


def corrections(volume: Result) -> int:
    """Clicks that changed something."""
    return sum(count for kind, count in volume["clicks"].items() if kind != ACCEPT)


def report(shared: Mapping[str, Any], found: Found, plot: str | None) -> str:
    """The section of docs/teach.md."""
    parts = [_setting(shared), sections.table(_rows(found, shared["most"])), _WHAT, sections.table(_details(found))]
    return "\n\n".join([*parts, *([f"![Clicks per volume]({plot})"] if plot else [])])


def _setting(shared: Mapping[str, Any]) -> str:
    every = "every slice" if shared["every"] == 1 else f"one slice of {shared['every']}"
    often = "every volume" if len(shared["after"]) == shared["volumes"] - 1 else f"volumes {_listed(shared['after'])}"
    return (
        f"A simulated reader corrects {shared['volumes']} volumes from `{shared['split']}`, one per patient, "
        f"{every} until its Dice is {shared['enough']:g}, with at most {shared['most']} corrections; then the slice is "
        f"given up, and is unknown to teaching unless it is painted. Backbone `{shared['backbone']}` (fingerprint "
        f"{shared['fingerprint'][:12]}…) at frame side {shared['side']}. Lessons of {shared['minutes']:g} minutes of "
        f"processor time after {often}, each going on from the one before, from what the reader has made, not from the "
        "truth; the first begins from the embedded packs but the one trained on this set. PyTorch "
        f"{shared['torch']}, CPU."
    )


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _rows(found: Found, most: int) -> list[list[str]]:
    """Corrections per volume, slices given up, after `most` each, in brackets; and of all volumes after the first."""
    means = ("mean after the 1st", "on accepted slices", "accepted at once")
    rows = [["subject", "way", "seeds", *(f"volume {number}" for number in SHOWN), *means]]
    for subject, way, results in _each(found):
        cells = [_volume(results, number) for number in SHOWN]
        each = [np.mean([corrections(volume) for volume in result["volumes"][1:]]) for result in results]
        later = _later(results)
        lost = np.mean([volume["given_up"] for volume in later])
        slices, untouched = (sum(volume[key] for volume in later) for key in ("slices", "untouched"))
        kept = np.mean([corrections(volume) for volume in later]) - most * lost
        figures = [f"{_spread(each)} ({lost:.1f})", f"{kept:.1f}", f"{untouched / slices:.0%}"]
        rows.append([subject, WAYS[way], str(len(results)), *cells, *figures])
    return rows


def _later(results: Sequence[Result]) -> list[Result]:
    """All volumes but the first of each."""
    return [volume for result in results for volume in result["volumes"][1:]]


def _each(found: Found) -> Iterator[tuple[str, str, list[Result]]]:
    return ((subject, way, ways[way]) for subject, ways in found.items() for way in WAYS if way in ways)


def _volume(results: Sequence[Result], number: int) -> str:
    there = [result["volumes"][number - 1] for result in results if len(result["volumes"]) >= number]
    if not there:
        return "–"
    lost = np.mean([volume["given_up"] for volume in there])
    return f"{_spread([corrections(volume) for volume in there])} ({lost:.3g})"


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else f"{np.mean(values):.3g}"


def _details(found: Found) -> list[list[str]]:
    rows = [["subject", "way", "slices", *ACTIONS, "Dice before", "Dice after", "lessons: steps", "wrongly suspected"]]
    for subject, way, results in _each(found):
        later = _later(results)
        kinds = [f"{np.mean([v['clicks'].get(kind, 0) for v in later]):.1f}" for kind in ACTIONS]
        dice = [f"{100 * np.mean([volume[key] for volume in later]):.1f}" for key in ("before", "after")]
        steps = np.mean([sum(lesson["steps"] for lesson in result["lessons"]) for result in results])
        doubted = np.mean(
            [len({c for lesson in result["lessons"] for c in lesson["suspicious"]}) for result in results]
        )
        lessons = [f"{steps:.0f}", f"{doubted:.3g}"] if steps else ["–", "–"]
        slices = f"{np.mean([volume['slices'] for volume in later]):.1f}"
        rows.append([subject, WAYS[way], slices, *kinds, *dice, *lessons])
    return rows


def _doubted(result: Result) -> set[str]:
    return {case for lesson in result["lessons"] for case in lesson["suspicious"]}


def draw(path: Path, found: Found) -> None:
    """Corrections of all volumes so far against the number of the volume, a panel for each subject: one volume differs
    from the next by more than the ways do."""
    panels = {
        subject: {
            WAYS[way]: {
                number: [sum(map(corrections, result["volumes"][:number])) for result in ways[way]]
                for number in range(1, 1 + min(len(result["volumes"]) for result in ways[way]))
            }
            for way in WAYS if way in ways
        }
        for subject, ways in found.items()
    }  # fmt: skip
    plots.lines(path, panels, "volume", "corrections so far")
