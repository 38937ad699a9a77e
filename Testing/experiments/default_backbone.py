"""Rebuilds the backbone that is shipped as ProMISeCore/weights/tiny.safetensors, then what packs begin from.

    python Testing/experiments/default_backbone.py --data ../shared/data --workspace DIR [--times 1]
    python Testing/experiments/default_packs.py --data ../shared/data --workspace DIR/third

Three trainings, each from the weights of the one before; what was cut off goes on where it was. On an accelerator a
minute holds many more steps: --times 0.5 --workers 12, and more for a better backbone. Without --out the weights stay
in DIR; DIR/third/shifts.safetensors is where each IPS starts.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from ProMISeCore.__main__ import main as promise

#: Name → minutes and other options; every stage but the first starts from the one before.
STAGES = {
    "first": (81, ["--coarse", "0.42"]),
    "second": (48, ["--coarse", "0", "--crops", "0.5", "--rate", "5e-4"]),
    "third": (72, ["--coarse", "0", "--crops", "0.3", "--rate", "5e-4", "--seed", "3"]),
}


def commands(arguments: argparse.Namespace) -> Iterator[list[str]]:
    """Of `promise`, one for each stage."""
    start = ["--init", str(arguments.data / "init" / "mobilenet_v2_imagenet.npz")]
    for name, (minutes, options) in STAGES.items():
        place = arguments.workspace / name
        is_last = name == list(STAGES)[-1]
        out = arguments.out if is_last and arguments.out else place / "tiny.safetensors"
        command = ["pretrain", "--data", str(arguments.data), "--workspace", str(place), "--out", str(out), *start]
        command += ["--minutes", f"{minutes * arguments.times:g}", *options]
        yield [*command, "--device", arguments.device, "--workers", str(arguments.workers)]
        start = ["--start", str(out)]


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, required=True)
    made.add_argument("--workspace", type=Path, required=True)
    made.add_argument("--out", type=Path, help="the weights to write; default: in the workspace")
    made.add_argument("--times", type=float, default=1.0, help="of the minutes that the shipped one was trained")
    made.add_argument("--device", default="auto")
    made.add_argument("--workers", type=int, default=1, help="processes that draw batches")
    return made


def main() -> None:
    arguments = parser().parse_args()
    for command in commands(arguments):
        Path(command[command.index("--workspace") + 1]).mkdir(parents=True, exist_ok=True)
        if promise(command):
            raise SystemExit(1)


if __name__ == "__main__":
    main()
