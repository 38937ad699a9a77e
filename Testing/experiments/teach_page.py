"""The tables of `promise bench teach` in docs/teach.md, and the plot of Dice against labelled patients.

    python Testing/experiments/teach_page.py Testing/experiments/measured/teach/cells --report docs/teach.md \\
        --plot docs/pictures/few.svg

Figures of targets: mean over the held-out volumes ± standard deviation over them, averaged over seeds; *mean*: over the
targets, ± standard deviation over seeds where there are several. A lead is of a pair of cells: same patients, minutes
and seed.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from os.path import relpath
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import plots
import sections

from ProMISeCore.errors import InputError

WAYS = {
    "teach": "taught",
    "unet": "MONAI U-Net",
    "teach-wrong": "taught, one volume's labels wrong",
    "teach-default": "taught, a case held out and learned from at last",
    "teach-judge-only": "taught, a case held out and never learned from",
    "published": "the published way",
}
_NAME = re.compile(
    r"(?P<data>[a-z]+)-(?P<patients>\d+)-(?P<minutes>[\d.]+)-(?P<seed>\d+)-(?P<way>[a-z-]+?)(-(?P<side>\d+))?"
)
_LEAD = (
    "Its lead in mean Dice, same patients, minutes and seed (where several seeds were measured: the mean, the smallest "
    "to the largest; how many):"
)
_NAMED = "Cases of the data's own labels that were named as suspicious, and not learned from any more, seed by seed:"
_PLOTTED = {"teach": "taught", "unet": "MONAI U-Net"}


class Group(NamedTuple):
    """What cells of several seeds have in common. side: "" for the usual one."""

    data: str
    minutes: float
    patients: int
    way: str
    side: str


Found = dict[Group, list[Mapping[str, Any]]]


def collected(folder: Path) -> Found:
    """Every group's cells, in the order of the tables. Raises InputError where there are none, or of another name."""
    found: Found = {}
    for path in sorted(folder.glob("*.json")):
        parts = _NAME.fullmatch(path.stem)
        if parts is None or parts["way"] not in WAYS:
            raise InputError(f"{path} is no cell of promise bench teach; leave only such in {folder}")
        group = Group(parts["data"], float(parts["minutes"]), int(parts["patients"]), parts["way"], parts["side"] or "")
        cell = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(group, []).append({"seed": int(parts["seed"]), **cell})
    if not found:
        raise InputError(f"{folder} holds no cells; measure some with promise bench teach")
    order = list(WAYS)
    return dict(sorted(found.items(), key=lambda item: (*item[0][:3], order.index(item[0].way), item[0].side)))


def report(found: Found, plot: str | None) -> str:
    """The section: a table for each set, the leads, and which cases were named as suspicious."""
    sets = dict.fromkeys(group.data for group in found)
    parts = [sections.table(_rows({group: cells for group, cells in found.items() if group.data == name}))
             for name in sets]  # fmt: skip
    parts += [f"![Dice and number of patients]({plot})"] if plot else []
    leads = _leads(found)
    if leads:
        all_leads = [lead for several in leads.values() for lead in several]
        ahead = sum(lead > 0 for lead in all_leads)
        parts += [f"Taught is ahead of the U-Net in {ahead} of {len(all_leads)} pairs of cells. {_LEAD}"]
        parts += [sections.table(_by_patients(leads, _told_lead))]
    parts += [_NAMED, sections.table(_by_patients(_named(found), _told_named))]
    return "\n\n".join(parts)


def _leads(found: Found) -> dict[tuple[str, float, int], list[float]]:
    """Set, minutes and patients → taught's lead in mean Dice, for each seed that both have."""
    leads: dict[tuple[str, float, int], list[float]] = {}
    for group, cells in found.items():
        rivals = [found[other] for other in found if group.way == "teach" and _is_rival(other, group)]
        theirs = dict(zip([cell["seed"] for cell in rivals[0]], means(rivals[0]), strict=True)) if rivals else {}
        for cell, mean in zip(cells, means(cells), strict=True):
            if cell["seed"] in theirs:
                leads.setdefault(group[:3], []).append(mean - theirs[cell["seed"]])
    return leads


def _named(found: Found) -> dict[tuple[str, float, int], list[int]]:
    """Set, minutes and patients → how many cases with the data's own labels were named, for each seed."""
    return {
        group[:3]: [len(cell["suspicious"]) for cell in cells]
        for group, cells in found.items()
        if group.way == "teach" and not group.side
    }


def _by_patients(values: Mapping[tuple[str, float, int], list], told: Callable[[list], str]) -> list[list[str]]:
    """A row for each number of patients, a column for each set and number of minutes."""
    columns = list(dict.fromkeys((data, minutes) for data, minutes, _ in values))
    numbers = sorted({patients for _, _, patients in values})
    rows = [["labelled patients", *(f"{data}, {minutes:g} min" for data, minutes in columns)]]
    for patients in numbers:
        rows.append([str(patients), *(told(values.get((*column, patients), [])) for column in columns)])
    return rows


def _told_lead(leads: Sequence[float]) -> str:
    if len(leads) < 2:
        return f"{leads[0]:.3f}" if leads else "–"
    return f"{np.mean(leads):.3f} ({min(leads):.3f} to {max(leads):.3f}; {len(leads)})"


def _told_named(counts: Sequence[int]) -> str:
    return ", ".join(map(str, counts)) or "–"


def _rows(found: Found) -> list[list[str]]:
    """Of one set; the better of taught and U-Net is bold."""
    targets = list(next(iter(found.values()))[0]["mean"])
    rows = [[next(iter(found)).data, "patients (volumes)", "way", "seeds", "steps", *targets, "mean"]]
    for group, cells in found.items():
        volumes = len(cells[0]["cases"])
        way = WAYS[group.way] + (f", `--side {group.side}`" if group.side else "")
        steps = f"{np.mean([cell['steps'] for cell in cells]):.0f}"
        each = [
            " ± ".join(f"{np.mean([cell[key][name] for cell in cells]):.3f}" for key in ("mean", "sd"))
            for name in targets
        ]
        mean = _spread(means(cells))
        rivals = [means(found[other]) for other in found if _is_rival(other, group)]
        mean = f"**{mean}**" if rivals and np.mean(means(cells)) > np.mean(rivals[0]) else mean
        minutes = f"{group.minutes:g} minute{'s' * (group.minutes != 1)}"
        rows.append([minutes, f"{group.patients} ({volumes})", way, str(len(cells)), steps, *each, mean])
    return rows


def _is_rival(other: Group, group: Group) -> bool:
    """Whether taught is compared with a U-Net of the same cases and minutes, or the reverse."""
    return other[:3] == group[:3] and {other.way, group.way} == {"teach", "unet"} and other.side == group.side == ""


def means(cells: Sequence[Mapping[str, Any]]) -> list[float]:
    """Mean over the targets, per seed."""
    return [float(np.mean(list(cell["mean"].values()))) for cell in cells]


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")


def draw(path: Path, found: Found, minutes: float) -> None:
    """Dice of taught and U-Net against the number of patients, a panel for each set."""
    panels: dict[str, dict[str, dict[float, list[float]]]] = {}
    for group, cells in found.items():
        if group.minutes == minutes and group.way in _PLOTTED and not group.side:
            line = panels.setdefault(f"{group.data}, {minutes:g} minutes", {}).setdefault(_PLOTTED[group.way], {})
            line[group.patients] = means(cells)
    plots.lines(path, panels, "labelled patients", "mean Dice", logarithmic=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path, help="folder that `promise bench teach --cells` has filled")
    parser.add_argument("--report", type=Path, help="page whose section `bench-teach` is written")
    parser.add_argument("--plot", type=Path, help="picture to draw (.svg or .png)")
    parser.add_argument("--minutes", type=float, default=5.0, help="whose cells are drawn")
    arguments = parser.parse_args()
    found = collected(arguments.cells)
    if arguments.plot:
        draw(arguments.plot, found, arguments.minutes)
    picture = arguments.plot and arguments.report and relpath(arguments.plot, arguments.report.parent)
    sections.publish(arguments.report, "bench-teach", report(found, picture))


if __name__ == "__main__":
    main()
