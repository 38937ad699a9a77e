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
from default_packs import RECIPES, places

from ProMISeCore import backbones, cards, packs
from ProMISeCore.__main__ import main as promise
from ProMISeCore.errors import InputError
from ProMISeCore.whole_file import replacing

CARDS = Path(__file__).resolve().parents[2] / "docs" / "cards"
#: Packs whose `val` pictures may be shown, with whom to name.
SHOWN = {"skin": "ISIC, CC0", "fetal-head": "HC18, CC BY 4.0"}
_QUALITY = 85  # of JPEG, 0 to 100
_WIDTH, _GAP = 240, 6  # pixels of a picture in a row of five, and between them
_LEARNED = (
    "Public 2D sets of endoscopy, dermoscopy, ultrasound, X-ray, MRI, microscopy and photographs, slices of cardiac\n"
    "and brain MRI, and everyday pictures; its encoder started from MobileNetV2's ImageNet weights (Apache-2.0).\n"
    "Sets, recipe and log: [results.md](../results.md)."
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


def row(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures (H, W, 3) uint8 side by side, each brought to the same width, on one dark ground."""
    small = [_resized(picture) for picture in pictures]
    height = max(len(picture) for picture in small)
    out = np.full((height, len(small) * (_WIDTH + _GAP) - _GAP, 3), 18, np.uint8)
    for number, picture in enumerate(small):
        left = number * (_WIDTH + _GAP)
        out[: len(picture), left : left + _WIDTH] = picture
    return out


def _resized(picture: np.ndarray) -> np.ndarray:
    image = sitk.GetImageFromArray(picture, isVector=True)
    scale = image.GetWidth() / _WIDTH
    size = [_WIDTH, max(1, round(image.GetHeight() / scale))]
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
        _write_picture(picture, row([sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in files]))
        text += f"\n![The five worst cases]({relpath(picture, folder)})\n\n"
        text += f"*Worst first; white: the truth. {SHOWN[name]}.*\n"
    return _write(folder / f"{name}.md", text)


def write_backbone_card(folder: Path, name: str = "tiny") -> Path:
    """The page of the embedded backbone."""
    from ProMISeCore import sam

    about, model = backbones.TABLE[name], sam.load(name)
    size = sum(p.numel() for p in model.parameters())
    text = f"""# {name}: {about.summary}

The frozen backbone that every embedded pack stands on: image encoder, prompt encoder and mask decoder, as in SAM.
Research use only, not for clinical use.

**Licence: {about.licence}.** {cards.terms(about.licence)}

| | |
|---|---|
| weights | {size / 1e6:.1f} M, frame side {model.side} |
| fingerprint | `{model.fingerprint()}` |
| intended use | embeddings for packs; boxes and clicks of a person on medical pictures, whose masks are corrected |
| not for | diagnosis, measurements without review, small objects (see below) |

## What it learned from

{_LEARNED}

## How good it is, and where it fails

With a box, one click and three clicks, on every `val` set, beside an edge-following baseline: table "The backbone's
prompts" in [results.md](../results.md), made by `Testing/experiments/prompts.py`. Small objects with clear borders
(nuclei, blood cells, parts of things) are its weak side; there a watershed is better. A box around a ring (the
myocardium) is answered with what the ring encloses.
"""
    return _write(folder / f"{name}.md", text)


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
