"""Model cards say what the manifest says, licences in plain words, and where a report shows failures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from ProMISeCore import cards, failures, licences, packs
from ProMISeCore.__main__ import main
from ProMISeCore.errors import InputError


@pytest.mark.parametrize(
    ("found", "true", "both", "kind"),
    [
        (0, 0, 0, None),
        (10, 10, 7, None),  # Dice 0.7
        (10, 10, 6, failures.LARGE),
        (0, 10, 0, failures.MISSED),
        (10, 0, 0, failures.INVENTED),
        (10, 10, 0, failures.ELSEWHERE),
        (2, 10, 2, failures.SMALL),
        (30, 10, 10, failures.LARGE),
    ],
)
def test_a_failure_is_told_from_three_counts(found, true, both, kind):
    assert failures.kind({"found": found, "true": true, "both": both}) == kind


def test_counts_are_of_voxels():
    mask, truth = np.zeros((2, 3, 4), bool), np.zeros((2, 3, 4), bool)
    mask[0], truth[:, 0] = True, True
    assert failures.counts(mask, truth) == {"found": 12, "true": 8, "both": 4}


def _case(dice, voxels):
    return {"name": "SECRET^PATIENT", "targets": {"a": {"dice": dice}}, "voxels": {"a": voxels}}


@pytest.fixture
def report():
    good = _case(0.9, {"found": 10, "true": 10, "both": 9})
    return {"pack": "p", "cases": [good, _case(0.0, {"found": 0, "true": 5, "both": 0}), good]}


@pytest.fixture
def pack(tiny_model, tmp_path):
    model = tiny_model(
        ("a",), name="p", title="A thing", licence="CC-BY-NC-SA-4.0", intended_use="Research use only.",
        scores=({"data": "set val", "cases": 3, "target": "a", "dice": 0.6, "iou": 0.5},),
    )  # fmt: skip
    packs.save(tmp_path / "p.safetensors", model.manifest, model.tensors())
    return packs.read(tmp_path / "p.safetensors")


def test_a_card_says_what_the_manifest_says(pack):
    text = cards.card(pack)
    assert text.startswith("# p: A thing\n") and "Research use only." in text
    assert "**Licence: CC-BY-NC-SA-4.0.** Non-commercial use only" in text
    assert "| set val | 3 | a | 0.600 | 0.500 |" in text and "APM lite with 4 points, IPS with PaE, presence" in text
    assert "Not described." in text


def test_a_card_tells_failures_and_no_names_of_cases(pack, report):
    text = cards.card(pack, report)
    assert "- a: 1 of 3 cases below Dice 0.7 (1 missed)." in text
    assert "- Worst five, Dice: 0.00 (missed); 0.90; 0.90." in text
    assert "SECRET" not in text


def test_a_report_of_another_pack_or_version_is_refused(pack, report):
    with pytest.raises(InputError, match="of the pack 'q'"):
        cards.card(pack, report | {"pack": "q"})
    del report["cases"][0]["voxels"]
    with pytest.raises(InputError, match="no report"):
        cards.card(pack, report)


@pytest.mark.parametrize(
    ("licence", "says"),
    [
        ("CC-BY-NC-SA-4.0", "Non-commercial"),
        ("non-commercial research", "Non-commercial"),
        ("CC-BY-4.0", "strictest"),
        ("unstated", "has not said"),
        ("", "has not said"),
        ("CONCORDIA-1", "strictest"),
    ],
)
def test_a_licence_is_told_in_plain_words(licence, says):
    assert says in licences.terms(licence)


def test_evaluate_counts_voxels_and_draws_the_worst_with_the_truth_in_white(tiny_sam, pack, tmp_path, capsys):
    torch.save(tiny_sam.state_dict(), tmp_path / "b.pth")
    (tmp_path / "cases").mkdir()
    rows, columns = np.mgrid[:40, :40]
    for number in range(6):
        disc = (np.hypot(rows - 20, columns - 15 - number) < 9).astype(np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(50 + 100 * disc), str(tmp_path / "cases" / f"{number}.jpg"))
        sitk.WriteImage(sitk.GetImageFromArray(disc), str(tmp_path / "cases" / f"{number}.png"))
    command = ["evaluate", "--pack", str(pack.path), "--backbone", str(tmp_path / "b.pth"), "--no-cache"]
    command += ["--images", str(tmp_path / "cases"), "--json", str(tmp_path / "r.json"), "--device", "cpu"]
    assert main([*command, "--worst", str(tmp_path / "worst")]) == 0
    found = json.loads((tmp_path / "r.json").read_text())
    assert [case["voxels"]["a"]["true"] for case in found["cases"]] == [249] * 6
    drawn = sorted(path.name for path in (tmp_path / "worst").iterdir())
    assert drawn == [f"worst-{rank}.png" for rank in range(1, 6)]
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "worst" / "worst-1.png")))
    assert (picture == 255).all(-1).sum() > 200  # the truth's outline
    capsys.readouterr()
    assert main(["packs", "--card", str(pack.path), "--report", str(tmp_path / "r.json")]) == 0
    assert "of 6 cases below Dice 0.7" in capsys.readouterr().out
    assert main(["packs", "--card", str(pack.path), "--report", str(tmp_path / "no.json")]) == 2


def test_the_cards_command_names_a_pack_as_it_is_installed(pack, tmp_path):
    own = tmp_path / "Grün 1.safetensors"
    packs.save(own, packs.read_manifest(pack.path), packs.tensors(pack.path))
    assert "promise evaluate --pack 'Grün 1' --images" in cards.card(packs.read(own))
