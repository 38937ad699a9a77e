"""Model cards of the shipped packs and of the backbone, into docs/cards.

    python Testing/experiments/model_cards.py --data ../shared/data --workspace DIR [--only heart polyp]

A pack's report of `promise evaluate` and pictures of its five worst cases are taken from DIR/NAME, where
`default_packs.py` leaves them, or made there. Pictures go into the page only where the data's licence lets them be
passed on; of the others the page tells the failures in words, and the command that draws them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from os.path import relpath
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import worst_prompts
from default_packs import RECIPES, places

from ProMISeCore import backbones, cards, licences, packs
from ProMISeCore.__main__ import main as promise
from ProMISeCore.errors import InputError
from ProMISeCore.whole_file import replacing

CARDS = Path(__file__).resolve().parents[2] / "docs" / "cards"
_PROMPTS = Path(__file__).resolve().parent / "measured" / "prompts" / "cells" / "tiny.json"
#: Packs whose `val` pictures may be shown, with whom to name.
SHOWN = {
    "skin": "ISIC, CC0",
    "fetal-head": "HC18, CC BY 4.0",
    "hippocampus": "Medical Segmentation Decathlon task 4, CC BY-SA 4.0",
    "heart": "ACDC, CC BY-NC-SA",
    "brain-tumour": "LGG, CC BY-NC-SA",
}
_QUALITY = 80  # of JPEG, 0 to 100
_GAP = 6  # pixels between pictures
_PICTURES, _SHEETS = (5, 320), (3, 400)  # columns and pixels of width: of single pictures, of sheets of slices
#: What `tiny` learned from: set, training cases, what it shows, terms; in the order of the data's README.
_LEARNED = (
    ("ACDC", 104, "cine MRI of the heart", "CC BY-NC-SA"),
    ("Medical Segmentation Decathlon task 4", 193, "MRI of the hippocampus", "CC BY-SA 4.0"),
    ("2018 Left Atrium Segmentation Challenge", 12, "late-enhancement MRI", "research"),
    ("Kvasir-SEG", 800, "endoscopy, polyps", "research and education"),
    ("CVC-ClinicDB", 550, "endoscopy, polyps", "research and education"),
    ("PolypGen", 1422, "endoscopy, polyps", "treated as non-commercial"),
    ("ISIC", 827, "dermoscopy", "CC0"),
    ("FUSeg", 745, "photographs of foot ulcers", "research"),
    ("HC18", 831, "ultrasound, fetal head", "CC BY 4.0"),
    ("LGG", 1392, "MRI slices, brain tumours", "CC BY-NC-SA"),
    ("chest X-rays", 75, "lungs, heart, airways", "CC BY 4.0, terms of each picture"),
    ("blood cells", 366, "microscopy", "to be cited"),
    ("nuclei", 549, "microscopy", "CC0"),
    ("saliency", 931, "photographs, main object", "research"),
    ("regions", 454, "photographs, regions drawn by people", "non-commercial research"),
    ("clothing", 926, "photographs", "**not stated**"),
    ("street", 650, "frames of driving", "CC BY-NC"),
    ("spacecraft", 1120, "rendered pictures", "**not stated**"),
    ("tile defects", 364, "industrial photographs", "to be cited"),
)


def reported(name: str, data: Path | None, place: Path) -> dict[str, Any]:
    """The report on a pack's `val` cases, made now unless it is there. Raises InputError where that cannot be."""
    file = place / "val.json"
    if not file.exists():
        if data is None:
            raise InputError(f"{file} is not there; give --data to make it")
        place.mkdir(parents=True, exist_ok=True)
        command = ["evaluate", "--pack", name, "--images", *places(RECIPES[name], data, "val"), "--no-cache"]
        if promise([*command, "--json", str(file), "--worst", str(place / "worst")]):
            raise SystemExit(1)
    return json.loads(file.read_text(encoding="utf-8"))


def arranged(pictures: Sequence[np.ndarray], columns: int, width: int) -> np.ndarray:
    """Pictures (H, W, 3) uint8 in rows, each brought to the same width, on one dark ground."""
    small = [_resized(picture, width) for picture in pictures]
    rows = [small[first : first + columns] for first in range(0, len(small), columns)]
    return np.concatenate([_row(pictures, columns, width) for pictures in rows])


def _row(pictures: Sequence[np.ndarray], columns: int, width: int) -> np.ndarray:
    height = max(len(picture) for picture in pictures)
    out = np.full((height, columns * (width + _GAP) - _GAP, 3), 18, np.uint8)
    for number, picture in enumerate(pictures):
        left = number * (width + _GAP)
        out[: len(picture), left : left + width] = picture
    return out


def _resized(picture: np.ndarray, width: int) -> np.ndarray:
    image = sitk.GetImageFromArray(picture, isVector=True)
    scale = image.GetWidth() / width
    size = [width, max(1, round(image.GetHeight() / scale))]
    smooth = sitk.SmoothingRecursiveGaussian(image, 0.4 * scale) if scale > 1 else image
    grid = sitk.Resample(smooth, size, sitk.Transform(), sitk.sitkLinear, [scale / 2 - 0.5] * 2, [scale] * 2)
    return sitk.GetArrayFromImage(sitk.Cast(grid, sitk.sitkVectorUInt8))


def write_pack_card(name: str, report: Mapping[str, Any], worst: Path, folder: Path) -> Path:
    """One pack's page, with a row of its worst cases where they may be shown."""
    text = cards.card(packs.read(packs.EMBEDDED / f"{name}.safetensors"), report)
    if name in SHOWN:
        files = sorted(worst.glob("worst-*.png"))
        if not files:
            raise InputError(f"{worst} holds no pictures of {name}; remove its val.json to make both again")
        picture = folder / "pictures" / f"{name}-worst.jpg"
        layout = _PICTURES if "image" in RECIPES[name]["options"] else _SHEETS
        _write_picture(picture, arranged([sitk.GetArrayFromImage(sitk.ReadImage(str(f))) for f in files], *layout))
        text += f"\n![The five worst cases]({relpath(picture, folder)})\n\n"
        text += f"*Worst first; white: the truth. {SHOWN[name]}.*\n"
    return _write(folder / f"{name}.md", text)


def write_backbone_card(folder: Path, name: str = "tiny") -> Path:
    """The page of the embedded backbone."""
    from ProMISeCore import sam

    about, model = backbones.TABLE[name], sam.load(name)
    measured = json.loads(_PROMPTS.read_text(encoding="utf-8"))
    size = sum(p.numel() for p in model.parameters())
    text = f"""# {name}: {about.summary}

The frozen backbone that every embedded pack stands on: image encoder, prompt encoder and mask decoder, as in SAM.
Research use only, not for clinical use.

**Licence: {about.licence}.** {licences.terms(about.licence)}

| | |
|---|---|
| weights | {size / 1e6:.1f} M, frame side {model.side} |
| fingerprint | `{model.fingerprint()}` |
| intended use | embeddings for packs; boxes and clicks of a person on medical pictures, whose masks are corrected |
| not for | diagnosis, measurements without review, small objects (see below) |

## What it learned from

{_learned()}

Its encoder started from MobileNetV2's ImageNet weights (Apache-2.0). Trained 81, then 48, then 72 minutes on two shared
CPU cores; recipe: [results.md](../results.md), log: `Testing/experiments/tiny.log.jsonl`.

## How good it is, and where it fails

{_answers(measured)}
"""
    return _write(folder / f"{name}.md", text)


def _learned() -> str:
    rows = [("set", "training cases", "what", "terms"), ("---",) * 4]
    rows += [(name, f"{count:,}", what, terms) for name, count, what, terms in _LEARNED]
    total = sum(count for _, count, _, _ in _LEARNED)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + f"\n\n{total:,} volumes and pictures in all."


def _answers(measured: Mapping[str, Any]) -> str:
    """Scores of `prompts.py`, and its picture of the worst answers to boxes."""
    mean, kinds = measured["sets"]["medical sets"], {"box": "a box", "click": "one click", "clicks3": "three clicks"}
    scores = ", ".join(f"{mean[key]:.3f} with {kind}" for key, kind in kinds.items())
    worst = ", ".join(f"{one['set'].replace('_', ' ')} {one['iou']:.2f}" for one in measured["worst"])
    credit = "; ".join(worst_prompts.SHOWN[one["set"]] for one in measured["worst"])
    told, error = measured["settings"], f"{mean['error']:.3f}"
    return f"""Mean IoU on the medical `val` sets (at most {told["most"]} pictures of each): {scores}.
Clicks to an IoU of 0.85: {mean["noc85"]:.1f} of at most {told["clicks"]}. The IoU that it predicts for a box's mask
is off by {error}. Set by set, beside two baselines: "The backbone's prompts" in [results.md](../results.md).

Small objects with clear borders (nuclei, blood cells, parts of things) are its weak side; there a watershed is better.
A box around a ring (the myocardium) is answered with what the ring encloses.

![The worst answers to boxes](pictures/tiny-worst.jpg)

*The worst answer to a box of each of five sets whose pictures may be shown (IoU: {worst}).
White: the truth, yellow: the box given, orange: the answer. {credit}.
Drawn by `Testing/experiments/prompts.py --worst`.*"""


def _write(path: Path, text: str) -> Path:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def _write_picture(path: Path, picture: np.ndarray) -> None:
    with replacing(path) as part:
        sitk.WriteImage(sitk.GetImageFromArray(picture, isVector=True), str(part), True, _QUALITY)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the shared data; needed where a report is not there yet")
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=sorted(RECIPES), default=list(RECIPES))
    parser.add_argument("--out", type=Path, default=CARDS)
    arguments = parser.parse_args()
    for name in arguments.only:
        place = arguments.workspace / name
        print(write_pack_card(name, reported(name, arguments.data, place), place / "worst", arguments.out))
    print(write_backbone_card(arguments.out))


if __name__ == "__main__":
    main()
