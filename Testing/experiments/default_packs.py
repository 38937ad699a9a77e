"""Rebuilds the packs that are shipped in ProMISeCore/weights, and scores them on `val`.

    python Testing/experiments/default_packs.py --data ../shared/data --workspace DIR [--only heart polyp]

The backbone comes first: `default_backbone.py`, whose last stage leaves shifts.safetensors behind in its workspace, the
DIR of this command: where each IPS starts.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ProMISeCore import terminology
from ProMISeCore.__main__ import main as promise
from ProMISeCore.backbones import NON_COMMERCIAL

WEIGHTS = Path(__file__).resolve().parents[2] / "ProMISeCore" / "weights"
INTENDED = "Research use only, not for clinical use. A first automatic result to be corrected by a person."
ENDOSCOPY = ("kvasir", "clinicdb", "polypgen")
REFINERS = ("--refine", "1", "--refiner", "8")
PICTURE = ("--orientation", "image", "--window", "bytes")

RECIPES = {
    "heart": {
        "images": ["volumes/heart/{split}"],
        "targets": ["right ventricle=1", "myocardium=2", "left ventricle=3"],
        "options": ["--orientation", "axial", "--modality", "MR", "--slices", "8", "--views", "3", "--steps", "400"],
        "shifts": "heart",
        "then": [
            ["--side", "768", "--views", "2", "--steps", "240", "--rate", "6e-4"],
            ["--side", "768", "--views", "2", "--slices", "10", "--steps", "350", *REFINERS],
        ],
        "card": {
            "title": "Heart, cine MRI short axis",
            "version": "5",
            "description": "Both ventricles and the left myocardium on short-axis cine MRI.",
            "licence": NON_COMMERCIAL,
            "data": "ACDC, 52 patients",
            "largest_component": True,
            "colors": {
                "right ventricle": [0.35, 0.55, 0.95],
                "myocardium": [0.3, 0.8, 0.35],
                "left ventricle": [0.9, 0.25, 0.2],
            },
        },
    },
    "hippocampus": {
        "images": ["volumes/hippocampus/{split}"],
        "targets": ["anterior hippocampus=1", "posterior hippocampus=2"],
        "options": ["--orientation", "sagittal", "--modality", "MR", "--slices", "5", "--views", "2", "--steps", "480"],
        "shifts": "hippocampus",
        "then": [["--slices", "12", "--views", "3", "--steps", "600", *REFINERS]],
        "card": {
            "title": "Hippocampus, T1 MRI",
            "version": "5",
            "description": "Anterior and posterior hippocampus on T1 MRI cropped around one hippocampus.",
            "licence": NON_COMMERCIAL,
            "data": "Medical Segmentation Decathlon task 4, 193 volumes",
            "largest_component": True,
            "smoothing_mm": 1.0,
            "colors": {"anterior hippocampus": [0.95, 0.7, 0.2], "posterior hippocampus": [0.3, 0.75, 0.8]},
        },
    },
    "polyp": {
        "images": [f"images/{name}/{{split}}" for name in ENDOSCOPY],
        "targets": ["polyp=1"],
        "options": [*PICTURE, "--modality", "RGB", "--views", "1", "--steps", "450"],
        "shifts": "kvasir",
        "card": {
            "title": "Polyp, colonoscopy",
            "description": "Polyps on colonoscopy frames; about 8 % of PolypGen's frames have none.",
            "licence": NON_COMMERCIAL,
            "data": "Kvasir-SEG 800, CVC-ClinicDB 550, PolypGen 1422 frames",
            "colors": {"polyp": [0.2, 0.85, 0.35]},
        },
    },
    "atrium": {
        "images": ["volumes/atrium/{split}"],
        "targets": ["left atrium=1"],
        "options": ["--orientation", "axial", "--modality", "MR", "--slices", "32", "--views", "3", "--steps", "350"],
        "shifts": "atrium",
        "then": [["--steps", "700", *REFINERS]],
        "card": {
            "title": "Left atrium, late-enhancement MRI",
            "version": "5",
            "description": "Cavity of the left atrium on late gadolinium enhancement MRI cropped around the heart.",
            "licence": NON_COMMERCIAL,
            "data": "2018 Left Atrium Segmentation Challenge, 12 volumes",
            "largest_component": True,
            "smoothing_mm": 1.0,
            "colors": {"left atrium": [0.9, 0.45, 0.5]},
        },
    },
    "skin": {
        "images": ["images/isic/{split}"],
        "targets": ["skin lesion=1"],
        "options": [*PICTURE, "--modality", "RGB", "--views", "2", "--steps", "240"],
        "shifts": "isic",
        "card": {
            "title": "Skin lesion, dermoscopy",
            "description": "The pigmented lesion on a dermoscopic picture.",
            "licence": NON_COMMERCIAL,
            "data": "ISIC, 827 pictures",
            "colors": {"skin lesion": [0.95, 0.6, 0.25]},
        },
    },
    "fetal-head": {
        "images": ["images/fetal_head/{split}"],
        "targets": ["fetal head=1"],
        "options": [*PICTURE, "--modality", "US", "--views", "1", "--steps", "240"],
        "shifts": "fetal_head",
        "card": {
            "title": "Fetal head, ultrasound",
            "description": "The fetal head, filled, on standard-plane ultrasound.",
            "licence": NON_COMMERCIAL,
            "data": "HC18, 831 pictures",
            "largest_component": True,
            "colors": {"fetal head": [0.95, 0.8, 0.35]},
        },
    },
    "chest-xray": {
        "images": ["images/chest_xray/{split}"],
        "targets": ["left lung=1", "right lung=2", "heart and mediastinum=3"],
        "options": [*PICTURE, "--modality", "CR", "--views", "8", "--steps", "240", "--upright"],
        "shifts": "chest_xray",
        "then": [["--steps", "400", *REFINERS]],
        "card": {
            "title": "Lungs and heart, chest X-ray",
            "version": "4",
            "description": "Both lungs, heart and mediastinum on frontal chest X-rays.",
            "licence": NON_COMMERCIAL,
            "data": "75 public chest X-rays",
            "colors": {
                "left lung": [0.45, 0.7, 0.95],
                "right lung": [0.25, 0.5, 0.85],
                "heart and mediastinum": [0.9, 0.35, 0.3],
            },
        },
    },
    "brain-tumour": {
        "images": ["images/brain_tumour/{split}"],
        "targets": ["brain tumour=1"],
        "options": [*PICTURE, "--modality", "MR", "--views", "1", "--steps", "400"],
        "shifts": "brain_tumour",
        "then": [["--views", "3", "--steps", "900", *REFINERS]],
        "card": {
            "title": "Brain tumour, MRI slices",
            "version": "4",
            "description": "Lower-grade glioma on MRI slices stored as colours (pre-contrast, FLAIR, post-contrast).",
            "licence": NON_COMMERCIAL,
            "data": "LGG, 1392 slices",
            "colors": {"brain tumour": [0.75, 0.3, 0.8]},
        },
    },
    "foot-ulcer": {
        "images": ["images/foot_ulcer/{split}"],
        "targets": ["wound=1"],
        "options": [*PICTURE, "--modality", "RGB", "--views", "2", "--steps", "400"],
        "shifts": "foot_ulcer",
        "card": {
            "title": "Foot ulcer, photograph",
            "description": "Wounds on photographs of feet; often small.",
            "licence": NON_COMMERCIAL,
            "data": "FUSeg, 745 pictures",
            "colors": {"wound": [0.85, 0.15, 0.35]},
        },
    },
}


def places(recipe: dict, data: Path, split: str) -> list[str]:
    """The recipe's folders of a split, those that exist."""
    folders = [data / image.format(split=split) for image in recipe["images"]]
    return [str(folder) for folder in folders if folder.is_dir()]


def train(name: str, recipe: dict, data: Path, workspace: Path) -> None:
    """The pack, begun with what pretraining learned; some go on from there, *then* with other options, once or more."""
    card = {"intended_use": INTENDED, "version": "3"} | recipe["card"]
    names = [target.split("=")[0] for target in recipe["targets"]]
    card["terminology"] = {target: terminology.KNOWN.get(target, terminology.GENERIC) for target in names}
    start = ["--shifts", f"{workspace / 'shifts.safetensors'}:{recipe['shifts']}"]
    for number, options in enumerate(recipe.get("then", [])):
        before = workspace / f"{name}-{number}.safetensors"
        _train(recipe, data, card, workspace / f"{name}-{number}", before, start)
        start = [*options, "--base", str(before)]
    _train(recipe, data, card, workspace / name, WEIGHTS / f"{name}.safetensors", start)


def _train(recipe: dict, data: Path, card: dict, place: Path, out: Path, start: list[str]) -> None:
    place.mkdir(parents=True, exist_ok=True)
    (place / "card.json").write_text(json.dumps(card), encoding="utf-8")
    command = ["train", "--images", *places(recipe, data, "train"), "--targets", *recipe["targets"], *recipe["options"]]
    command += ["--out", str(out), "--workspace", str(place), "--card", str(place / "card.json"), *start]
    if promise(command):
        raise SystemExit(1)


def evaluate(name: str, recipe: dict, data: Path, workspace: Path) -> None:
    folders = places(recipe, data, "val")
    command = [
        "evaluate",
        "--pack",
        name,
        "--images",
        *folders,
        "--json",
        str(workspace / name / "val.json"),
        "--no-cache",
    ]
    command += ["--worst", str(workspace / name / "worst")]
    sets = ", ".join(Path(folder).parent.name for folder in folders)
    if promise([*command, "--record", f"{sets} val"]):
        raise SystemExit(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=sorted(RECIPES), default=list(RECIPES))
    arguments = parser.parse_args()
    for name in arguments.only:
        train(name, RECIPES[name], arguments.data, arguments.workspace)
        evaluate(name, RECIPES[name], arguments.data, arguments.workspace)


if __name__ == "__main__":
    main()
