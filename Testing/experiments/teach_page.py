"""The tables of `promise bench teach` in docs/teach.md, and the plot of Dice against labelled patients.

    python Testing/experiments/teach_page.py Testing/experiments/measured/teach/cells --report docs/teach.md \\
        --plot docs/pictures/few.svg

Figures of targets: mean over the held-out volumes ± standard deviation over them, averaged over seeds; *mean*: over the
targets, ± standard deviation over seeds where there are several.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
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
_NAME = re.compile(r"(?P<data>[a-z]+)-(?P<patients>\d+)-(?P<minutes>[\d.]+)-\d+-(?P<way>[a-z-]+?)(-(?P<side>\d+))?")
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
        found.setdefault(group, []).append(json.loads(path.read_text(encoding="utf-8")))
    if not found:
        raise InputError(f"{folder} holds no cells; measure some with promise bench teach")
    order = list(WAYS)
    return dict(sorted(found.items(), key=lambda item: (*item[0][:3], order.index(item[0].way), item[0].side)))


def report(found: Found, plot: str | None) -> str:
    """The section: a table for each set."""
    sets = dict.fromkeys(group.data for group in found)
    parts = [sections.table(_rows({group: cells for group, cells in found.items() if group.data == name}))
             for name in sets]  # fmt: skip
    return "\n\n".join([*parts, *([f"![Dice and number of patients]({plot})"] if plot else [])])


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
