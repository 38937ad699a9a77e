"""Pages of the shipped weights: one for each, true to the manifests, pictures only where they may be passed on."""

from __future__ import annotations

from pathlib import Path

import model_cards
import numpy as np
import pytest
import SimpleITK as sitk

from ProMISeCore import packs
from ProMISeCore.errors import InputError

CARDS = Path(__file__).resolve().parent.parent / "docs" / "cards"
SHIPPED = sorted(path for path in packs.EMBEDDED.glob("*.safetensors") if path.stem != "tiny")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_pack_has_a_page_with_its_scores_and_licence(path):
    text, manifest = (CARDS / f"{path.stem}.md").read_text(encoding="utf-8"), packs.read_manifest(path)
    made = "make the pages again: python Testing/experiments/model_cards.py"
    assert manifest.licence in text and manifest.backbone.fingerprint[:12] in text, made
    for score in manifest.scores:
        assert f"| {score['target']} | {score['dice']:.3f} | {score['iou']:.3f} |" in text, made
    assert "not for clinical use" in text and ("NC" not in manifest.licence or "Non-commercial use only" in text)


def test_the_backbone_has_a_page():
    text = (CARDS / "tiny.md").read_text(encoding="utf-8")
    assert packs.read_manifest(SHIPPED[0]).backbone.fingerprint in text and "Non-commercial use only" in text
    assert "| regions | 454 |" in text and "12,311 volumes and pictures in all" in text
    assert "0.672 with a box, 0.618 with one click, 0.696 with three clicks" in text


def test_pictures_are_only_of_sets_that_may_be_passed_on():
    assert {path.stem.removesuffix("-worst") for path in (CARDS / "pictures").iterdir()} == {
        "tiny",
        *model_cards.SHOWN,
    }


def test_pictures_stand_in_rows_at_one_width():
    white, grey = np.full((480, 480, 3), 255, np.uint8), np.full((120, 120, 3), 100, np.uint8)
    out = model_cards.arranged([white, grey, white[:240]], 3, 240)
    assert out.shape == (240, 3 * 240 + 2 * 6, 3)
    assert (out[:, :240] == 255).all() and (out[:, 240:246] == 18).all()
    assert (out[:, 246:486] == 100).all() and (out[120:, 492:] == 18).all()
    out = model_cards.arranged([white, grey, white[:240]], 2, 100)
    assert out.shape == (150, 206, 3) and (out[100:, :100] == 255).all() and (out[100:, 106:] == 18).all()


def test_a_report_is_taken_where_it_lies_and_asked_for_where_not(tmp_path):
    (tmp_path / "val.json").write_text('{"pack": "skin"}')
    assert model_cards.reported("skin", None, tmp_path) == {"pack": "skin"}
    with pytest.raises(InputError, match="--data"):
        model_cards.reported("skin", None, tmp_path / "other")


def test_a_card_that_shows_pictures_asks_for_them(tmp_path):
    case = {"targets": {"skin lesion": {"dice": 0.5}}, "voxels": {"skin lesion": {"found": 1, "true": 3, "both": 1}}}
    report = {"pack": "skin", "cases": [case]}
    with pytest.raises(InputError, match="no pictures of skin"):
        model_cards.write_pack_card("skin", report, tmp_path, tmp_path / "out")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((50, 60, 3), np.uint8), True), str(tmp_path / "worst-1.png"))
    page = model_cards.write_pack_card("skin", report, tmp_path, tmp_path / "out").read_text(encoding="utf-8")
    assert "1 of 1 cases below Dice 0.7 (1 too small)" in page and "](pictures/skin-worst.jpg)" in page
