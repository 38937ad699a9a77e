"""Plots of experiments: lines with their spread, as SVG whose bytes depend on nothing but the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ProMISeCore.errors import InputError
from ProMISeCore.whole_file import replacing

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#000000")  # Okabe and Ito's: for every eye
_MARKS = "osD^vx"

#: Line → x → values, one per seed.
Lines = Mapping[str, Mapping[float, Sequence[float]]]


def lines(path: Path, panels: Mapping[str, Lines], x_label: str, y_label: str, logarithmic: bool = False) -> None:
    """One panel beside the other, each line the mean with its standard deviation. Raises InputError without
    Matplotlib."""
    try:
        import matplotlib
    except ImportError as error:
        raise InputError('Matplotlib is not installed; add it with: pip install -e ".[experiments]"') from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    settings = {"svg.hashsalt": "promise", "svg.fonttype": "none", "font.size": 10, "axes.spines.top": False}
    with matplotlib.rc_context(settings | {"axes.spines.right": False}):
        figure, axes = pyplot.subplots(1, len(panels), figsize=(4.6 * len(panels), 3.6), squeeze=False)
        for axis, (title, found) in zip(axes[0], panels.items(), strict=True):
            _draw(axis, found)
            axis.set(title=title, xlabel=x_label, ylabel=y_label)
            if logarithmic:
                axis.set_xscale("log", base=2)
                axis.xaxis.set_major_formatter("{x:g}")
                axis.set_xticks(sorted({x for line in found.values() for x in line}), minor=False)
            axis.grid(alpha=0.25)
        axes[0, -1].legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.02, 0.5))
        with replacing(path) as part:
            figure.savefig(part, bbox_inches="tight", format=path.suffix[1:], metadata=_plain(path))
        pyplot.close(figure)


def _draw(axis, found: Lines) -> None:
    for number, (name, line) in enumerate(found.items()):
        x = sorted(line)
        spread = [float(np.std(line[at], ddof=1)) if len(line[at]) > 1 else 0.0 for at in x]
        style = {"color": _COLOURS[number % len(_COLOURS)], "marker": _MARKS[number % len(_MARKS)]}
        axis.errorbar(x, [float(np.mean(line[at])) for at in x], spread, label=name, markersize=4, capsize=2, **style)


def _plain(path: Path) -> dict[str, None] | None:
    """Nothing about when and with what it was made."""
    return {"Date": None, "Creator": None} if path.suffix == ".svg" else None
