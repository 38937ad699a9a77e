"""Rebuilds the packs that are shipped in ProMISeCore/weights, and scores them on `val`.

    python Testing/experiments/default_packs.py --data ../shared/data --workspace DIR [--only heart polyp]

The backbone comes first: `promise pretrain` with the same --workspace, --out ProMISeCore/weights/tiny.safetensors.
It leaves DIR/shifts.safetensors behind, where each IPS starts.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ProMISeCore import terminology
from ProMISeCore.__main__ import main as promise

WEIGHTS = Path(__file__).resolve().parents[2] / "ProMISeCore" / "weights"
INTENDED = "Research use only, not for clinical use. A first automatic result to be corrected by a person."
ENDOSCOPY = ("kvasir", "clinicdb", "polypgen")

RECIPES = {
    "heart": {
        "images": ["volumes/heart/{split}"],
        "targets": ["right ventricle=1", "myocardium=2", "left ventricle=3"],
        "options": ["--orientation", "axial", "--modality", "MR", "--slices", "8", "--views", "3", "--steps", "480"],
        "shifts": "heart",
        "card": {
            "title": "Heart, cine MRI short axis",
            "description": "Both ventricles and the left myocardium on short-axis cine MRI.",
            "licence": "CC-BY-NC-SA-4.0",
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
        "options": ["--orientation", "sagittal", "--modality", "MR", "--slices", "5", "--views", "2", "--steps", "300"],
        "shifts": "hippocampus",
        "card": {
            "title": "Hippocampus, T1 MRI",
            "description": "Anterior and posterior hippocampus on T1 MRI cropped around one hippocampus.",
            "licence": "CC-BY-NC-SA-4.0",
            "data": "Medical Segmentation Decathlon task 4, 193 volumes",
            "largest_component": True,
            "colors": {"anterior hippocampus": [0.95, 0.7, 0.2], "posterior hippocampus": [0.3, 0.75, 0.8]},
        },
    },
    "polyp": {
        "images": [f"images/{name}/{{split}}" for name in ENDOSCOPY],
        "targets": ["polyp=1"],
        "options": [
            "--orientation",
            "image",
            "--modality",
            "RGB",
            "--window",
            "bytes",
            "--views",
            "1",
            "--steps",
            "450",
        ],
        "shifts": "kvasir",
        "card": {
            "title": "Polyp, colonoscopy",
            "description": "Polyps on colonoscopy frames; about 8 % of PolypGen's frames have none.",
            "licence": "CC-BY-NC-SA-4.0",
            "data": "Kvasir-SEG 800, CVC-ClinicDB 550, PolypGen 1422 frames",
            "colors": {"polyp": [0.2, 0.85, 0.35]},
        },
    },
}


def places(recipe: dict, data: Path, split: str) -> list[str]:
    """The recipe's folders of a split, those that exist."""
    folders = [data / image.format(split=split) for image in recipe["images"]]
    return [str(folder) for folder in folders if folder.is_dir()]


def train(name: str, recipe: dict, data: Path, workspace: Path) -> None:
    card = recipe["card"] | {"intended_use": INTENDED, "version": "1"}
    names = [target.split("=")[0] for target in recipe["targets"]]
    card["terminology"] = {target: terminology.KNOWN.get(target, terminology.GENERIC) for target in names}
    place = workspace / name
    place.mkdir(parents=True, exist_ok=True)
    (place / "card.json").write_text(json.dumps(card), encoding="utf-8")
    command = ["train", "--images", *places(recipe, data, "train"), "--targets", *recipe["targets"], *recipe["options"]]
    command += [
        "--out",
        str(WEIGHTS / f"{name}.safetensors"),
        "--workspace",
        str(place),
        "--card",
        str(place / "card.json"),
    ]
    command += ["--shifts", f"{workspace / 'shifts.safetensors'}:{recipe['shifts']}"]
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
