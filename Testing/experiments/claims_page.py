"""The section about the paper's claims in docs/results.md: table of variants, verdicts, plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plots
import sections
from learners import AUTO
from variants import COUNT, COUNTS, SCORED, VARIANTS
from verdicts import FAR, LEAST, SEEDS, Results, claims, judge, points_of


def report(shared: Mapping[str, Any], found: Mapping[str, Results], plot: str | None) -> str:
    """The section of docs/results.md."""
    seeds = {len(cells) for results in found.values() for counts in results.values() for cells in counts.values()}
    spread = f"{min(seeds)}" if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    whole = SEEDS * sum(len(variant.counts) for variant in VARIANTS.values())
    done = ", ".join(f"{sum(1 for _ in _cells(results))} of {whole} for {about}" for about, results in found.items())
    text = [
        f"Backbone `{shared['backbone']}` (fingerprint {shared['fingerprint'][:12]}…) at frame side {shared['side']}, "
        f"frames squeezed to a square as in the paper, at most {shared['most']} training cases per subject in "
        f"{shared['views']} views, {shared['steps']} steps of 16 with AdamW at 1e-3, after {shared['lead']} in which "
        "the automatic points learn good places without the decoder (ours; the paper trains by the mask alone, 200 "
        "epochs long); a tenth of the cases is held out to choose the state. "
        f"Scored on {_names(found)}, on the pictures' own grid. Mean Dice × 100 over the cases ± standard deviation "
        f"over {spread} seeds; cells finished, of {SEEDS} seeds: {done}. All of SAM is "
        "frozen, but for the decoder in the row that names it.",
        sections.table(_rows(found)),
        sections.table(_verdicts(found)),
        f"Rule: a difference is taken seed by seed. A claim holds where it is positive in every seed and at least "
        f"{LEAST} points on average ({FAR:g} for *far above*), is *the reverse* where it is negative in every seed and "
        f"at most −{LEAST}, and is *open* otherwise. Numbers: mean ± standard deviation in points of Dice.",
        "Two claims are not differences of Dice. *Prompts stay interpretable*: *points right* are the shares of "
        "positive points inside the target and of negative ones outside. *Nothing of SAM is touched*: "
        "`Testing/test_claims.py` and `Testing/test_training.py` check that not one bit of the backbone changes.",
    ]
    return "\n\n".join([*text, *([f"![Dice and number of points]({plot})"] if plot else [])])


def _names(found: Mapping[str, Results]) -> str:
    sizes = {about: len(next(_cells(results))["dice"]) for about, results in found.items()}
    return ", ".join(f"{SCORED[about]} `val` ({size} pictures)" for about, size in sizes.items())


def _cells(results: Results) -> Iterator[Mapping[str, Any]]:
    return (cell for counts in results.values() for seeds in counts.values() for cell in seeds.values())


def _rows(found: Mapping[str, Results]) -> list[list[str]]:
    """Variants and numbers of points, and what each subject got, with its own points, with ground-truth points, after
    a corrective click; parameters that were trained; shares of points on the right side."""
    head = ["variant", "points", "trained"]
    rows = [[*head, *(f"{about}{what}" for about in found for what in ("", ": + 1 click", ": points right"))]]
    for name, variant in VARIANTS.items():
        for count in variant.counts:
            seeds = [list(results.get(name, {}).get(count, {}).values()) for results in found.values()]
            if not any(seeds):
                continue
            trained = next(cells for cells in seeds if cells)[0]["parameters"]
            rows.append([variant.title, str(count), f"{trained:,}", *_scores(seeds, None)])
            if variant.design.points == AUTO and count == COUNT:
                rows.append(["⤷ evaluated with ground-truth points", str(count), "", *_scores(seeds, "with_truth")])
    return rows


def _scores(seeds: Sequence[Sequence[Mapping[str, Any]]], part: str | None) -> list[str]:
    found = []
    for cells in seeds:
        chosen = [cell if part is None else cell[part] for cell in cells]
        found += [_spread([100 * np.mean(cell[key]) for cell in chosen]) for key in ("dice", "corrected")]
        found.append(_right([cell["points_right"] for cell in chosen]))
    return found


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


def _right(shares: Sequence[Sequence[float | None]]) -> str:
    """Of positive and of negative points, per cent."""
    columns = [[share for share in column if share is not None] for column in zip(*shares, strict=True)]
    return " / ".join(f"{100 * np.mean(column):.0f} %" if column else "–" for column in columns) or "–"


def _verdicts(found: Mapping[str, Results]) -> list[list[str]]:
    rows = [["claim", *found]]
    for claim in claims(COUNT, COUNTS):
        row = [claim.text]
        for results in found.values():
            try:
                row.append(str(judge(claim, results)))
            except KeyError:
                row.append("not measured yet")
        rows.append(row)
    return rows


def draw(path: Path, found: Mapping[str, Results]) -> None:
    """Dice against the number of points, a panel for each subject."""
    shown = ("sam-truth", "apm", "apm-ips")
    panels = {
        about: {
            VARIANTS[name].title: {n: list(points_of(results, name, n).values()) for n in results[name]}
            for name in shown if name in results
        }
        for about, results in found.items()
    }  # fmt: skip
    plots.lines(path, panels, "points", "mean Dice × 100", logarithmic=True)
