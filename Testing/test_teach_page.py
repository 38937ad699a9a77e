"""The tables of `promise bench teach`: who is ahead, over which seeds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from teach_page import collected, report

from ProMISeCore.errors import InputError


def cell(folder: Path, name: str, *dice: float, cases: int = 2) -> None:
    mean = dict(zip("ab", dice, strict=True))
    entries = {"cases": ["x"] * cases, "steps": 100, "mean": mean, "sd": dict.fromkeys(mean, 0.125), "suspicious": []}
    (folder / f"{name}.json").write_text(json.dumps(entries))


def test_seeds_are_averaged_and_the_better_of_two_is_bold(tmp_path: Path) -> None:
    cell(tmp_path, "heart-1-5-0-unet", 0.5, 0.25)
    cell(tmp_path, "heart-1-5-0-teach", 0.75, 0.5)
    cell(tmp_path, "heart-1-5-1-teach", 0.25, 0.75)
    cell(tmp_path, "heart-1-0.5-0-teach-judge-only", 0.5, 0.5)
    cell(tmp_path, "heart-1-5-0-teach-768", 0.875, 0.875)
    assert report(collected(tmp_path), None).split("\n\n")[0].splitlines() == [
        "| heart | patients (volumes) | way | seeds | steps | a | b | mean |",
        "|---|---|---|---|---|---|---|---|",
        "| 0.5 minutes | 1 (2) | taught, a case held out and never learned from | 1 | 100 "
        "| 0.500 ± 0.125 | 0.500 ± 0.125 | 0.500 |",
        "| 5 minutes | 1 (2) | taught | 2 | 100 | 0.500 ± 0.125 | 0.625 ± 0.125 | **0.562 ± 0.088** |",
        "| 5 minutes | 1 (2) | taught, `--side 768` | 1 | 100 | 0.875 ± 0.125 | 0.875 ± 0.125 | 0.875 |",
        "| 5 minutes | 1 (2) | MONAI U-Net | 1 | 100 | 0.500 ± 0.125 | 0.250 ± 0.125 | 0.375 |",
    ]


def test_each_set_has_a_table_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no cells"):
        collected(tmp_path)
    cell(tmp_path, "heart-1-5-0-unet", 0.5, 0.25)
    cell(tmp_path, "hippocampus-1-5-0-unet", 0.5, 0.25)
    heart, hippocampus, plot = report(collected(tmp_path), "few.svg").split("\n\n")[:3]
    assert heart.startswith("| heart |") and hippocampus.startswith("| hippocampus |")
    assert plot == "![Dice and number of patients](few.svg)"
    cell(tmp_path, "notes", 0.5, 0.25)
    with pytest.raises(InputError, match="is no cell"):
        collected(tmp_path)


def test_leads_are_of_the_same_seed_and_named_cases_are_counted(tmp_path: Path) -> None:
    for seed, taught, unet in ((0, 0.75, 0.5), (1, 0.5, 0.625)):
        cell(tmp_path, f"heart-1-5-{seed}-teach", taught, taught)
        cell(tmp_path, f"heart-1-5-{seed}-unet", unet, unet)
    cell(tmp_path, "heart-1-5-2-unet", 0.0, 0.0)  # without its pair
    cell(tmp_path, "heart-2-5-0-teach", 0.5, 0.5)
    cell(tmp_path, "knee-2-1-0-teach", 0.5, 0.5)
    cell(tmp_path, "knee-2-1-0-unet", 0.25, 0.25)
    named = tmp_path / "heart-1-5-1-teach.json"
    named.write_text(json.dumps(json.loads(named.read_text()) | {"suspicious": ["a", "b"]}))
    said, leads, _, suspicious = report(collected(tmp_path), None).split("\n\n")[-4:]
    assert said.startswith("Taught is ahead of the U-Net in 2 of 3 pairs of cells.")
    assert leads.splitlines() == [
        "| labelled patients | heart, 5 min | knee, 1 min |",
        "|---|---|---|",
        "| 1 | 0.062 (-0.125 to 0.250; 2) | – |",
        "| 2 | – | 0.250 |",
    ]
    assert suspicious.splitlines()[2:] == ["| 1 | 0, 2 | – |", "| 2 | 0 | 0 |"]
