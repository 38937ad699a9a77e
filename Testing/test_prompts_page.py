"""The table of prompts: backbones side by side, only if they were asked alike."""

from __future__ import annotations

import pytest
from prompts_page import report

from ProMISeCore.errors import InputError


def measured(name: str, place: int, box: float, clicks: int = 20) -> dict:
    scores = {"box": box, "click": 0.5, "clicks3": 0.625, "noc85": 1.0, "error": 0.125}
    settings = {"name": name, "about": f"about {name}", "place": place, "most": 12, "clicks": clicks}
    return {"settings": settings, "sets": {"blood_cells": {**scores, "objects": 30}, "medical sets": scores}}


def test_backbones_stand_side_by_side() -> None:
    *_, head, _, row, mean = report([measured("tiny", 0, 0.75), measured("edges", 2, 0.25)]).splitlines()
    assert head == (
        "| set | objects | tiny: box | tiny: 1 click | tiny: + 2 | tiny: NoC@85 | edges: box | edges: 1 click "
        "| edges: + 2 | edges: NoC@85 | error of predicted IoU |"
    )
    assert row == "| blood cells | 30 | 0.750 | 0.500 | 0.625 | 1.0 | 0.250 | 0.500 | 0.625 | 1.0 | 0.125 |"
    assert mean.startswith("| **medical sets** |  | **0.750** |")


def test_what_was_not_measured_alike_is_not_compared() -> None:
    with pytest.raises(InputError, match="were not measured alike"):
        report([measured("tiny", 0, 0.75), measured("edges", 2, 0.25, clicks=10)])
