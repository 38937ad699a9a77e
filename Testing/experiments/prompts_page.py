"""The table of `prompts.py`: backbones and baselines side by side.

    python Testing/experiments/prompts_page.py FILE FILE … [--report docs/results.md]

Embedded backbones come first; the error of the predicted IoU is the first one's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sections

from ProMISeCore.errors import InputError

_SCORES = {"box": "box", "click": "1 click", "clicks3": "+ 2", "noc85": "NoC@85"}
_SHARED = ("most", "clicks")


def report(found: Sequence[Mapping[str, Any]]) -> str:
    """The section of docs/results.md. Raises InputError where files were not measured alike."""
    first = found[0]["settings"]
    for one in found[1:]:
        if any(one["settings"][key] != first[key] for key in _SHARED):
            raise InputError(f"{one['settings']} and {first} were not measured alike; measure one of them again")
    text = (
        f"At most {first['most']} pictures of every `val` set, up to four objects each; mean IoU of the mask with the "
        "highest predicted IoU with a box, one click, and two corrective clicks more; NoC@85: clicks to an IoU of "
        f"0.85, at most {first['clicks']}. {_ways(found)}"
    )
    return f"{text}\n\n{sections.table(_rows(found))}"


def _ways(found: Sequence[Mapping[str, Any]]) -> str:
    said = [f"*{one['settings']['name']}*: {one['settings']['about']}" for one in found]
    return "; ".join(said) + "."


def _rows(found: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    titles = [f"{one['settings']['name']}: {title}" for one in found for title in _SCORES.values()]
    rows = [["set", "objects", *titles, "error of predicted IoU"]]
    for name, scores in found[0]["sets"].items():
        shown = [_shown(key, one["sets"][name][key]) for one in found for key in _SCORES]
        objects = f"{scores['objects']:.0f}" if "objects" in scores else ""
        row = [name.replace("_", " "), objects, *shown, f"{scores['error']:.3f}"]
        rows.append(row if objects else [f"**{cell}**" if cell else "" for cell in row])
    return rows


def _shown(key: str, value: float) -> str:
    return f"{value:.1f}" if key == "noc85" else f"{value:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="as `prompts.py --json` writes them")
    parser.add_argument("--report", type=Path, help="page whose section `prompts` is written")
    arguments = parser.parse_args()
    found = [json.loads(path.read_text(encoding="utf-8")) for path in arguments.files]
    sections.publish(arguments.report, "prompts", report(sorted(found, key=lambda one: one["settings"]["place"])))


if __name__ == "__main__":
    main()
