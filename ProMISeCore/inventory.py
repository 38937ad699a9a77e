"""What is installed: `promise packs`, `backbones`, `import` and `cache`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ProMISeCore import backbones, cards, packs, versions
from ProMISeCore.cache import Cache
from ProMISeCore.errors import InputError
from ProMISeCore.manifest import Manifest
from ProMISeCore.terminal import amount, say, table


def add_packs_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `promise packs`."""
    parser.add_argument("--install", type=Path, metavar="FILE", help="check a pack and copy it to the others")
    parser.add_argument("--export", nargs=2, metavar=("NAME", "FILE"), help="copy a pack to a file")
    parser.add_argument("--remove", metavar="NAME", help="remove an installed pack and all its versions")
    parser.add_argument("--versions", metavar="NAME", help="list the versions of a pack of yours")
    parser.add_argument("--roll-back", nargs=2, metavar=("NAME", "VERSION"), help="go back to a version")
    parser.add_argument("--json", action="store_true", help="with --versions: as JSON")
    parser.add_argument("--card", metavar="NAME", help="print a pack's model card, Markdown")
    parser.add_argument("--report", type=Path, metavar="FILE", help="of promise evaluate --json: where the pack fails")


def run_packs(arguments: argparse.Namespace) -> None:
    """Describe, install, export, remove, roll back, or list."""
    if arguments.card is not None:
        print(cards.card(packs.read(packs.find(arguments.card)), read_report(arguments.report)), end="")
    elif arguments.install is not None:
        print(f"installed {install_pack(arguments.install)}")
    elif arguments.export is not None:
        print(f"exported {versions.export(arguments.export[0], Path(arguments.export[1]))}")
    elif arguments.remove is not None:
        print(f"removed {remove_pack(arguments.remove)}")
        left = packs.workspaces() / versions.present(arguments.remove).stem
        if left.is_dir():
            print(f"what it was taught from is still in {left}, encoded and as pictures; delete that, too, if you like")
    elif arguments.roll_back is not None:
        name, number = arguments.roll_back
        if not number.isdecimal():
            raise InputError(f"--roll-back got the version {number!r}; give its number, see --versions {name}")
        print(f"version {number} is present again: {versions.roll_back(name, int(number))}")
    elif arguments.versions is not None:
        print(_versions_json(arguments.versions) if arguments.json else _versions_table(arguments.versions))
    else:
        print(_packs_table())


def read_report(file: Path | None) -> dict[str, Any] | None:
    """What `promise evaluate --json` wrote; None for none. Raises InputError."""
    if file is None:
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as JSON ({error}); give what promise evaluate --json wrote") from error
    return found


def install_pack(file: Path) -> Path:
    """Check a pack and copy it to `packs.folder()`, where it is found by its file's name. Raises WeightsError.

    A pack of yours of that name stays as a version.
    """
    return versions.adopt(file.name.removesuffix(packs.SUFFIX), file)


def remove_pack(name: str) -> Path:
    """Delete an installed pack with its versions; embedded ones and files elsewhere stay. Raises WeightsError."""
    path = versions.present(name)
    versions.remove(name)
    return path


def _versions_json(name: str) -> str:
    entries = [
        {
            "number": version.number,
            "path": str(version.path.resolve()),
            "present": version.present,
            "scores": list(version.manifest.scores),
            "training": dict(version.manifest.training),
        }
        for version in versions.listing(name)
    ]
    return json.dumps(entries, ensure_ascii=False)


def _versions_table(name: str) -> str:
    rows = [["version", "date", "held-out Dice", "cases", ""]]
    for version in versions.listing(name):
        date = time.strftime("%Y-%m-%d %H:%M", time.localtime(version.path.stat().st_mtime))
        cases = str(version.manifest.training["cases"])
        rows.append([str(version.number), date, _dice(version.manifest), cases, "present" if version.present else ""])
    return table(rows)


def _dice(manifest: Manifest) -> str:
    return ", ".join(f"{score['target']} {score['dice']:.3f}" for score in manifest.scores) or "–"


def _packs_table() -> str:
    rows = [["pack", "targets", "modality", "backbone", "held-out Dice", "licence", "size", "where"]]
    for pack in packs.installed():
        manifest = pack.manifest
        rows.append(
            [
                pack.path.stem,
                ", ".join(target.name for target in manifest.targets),
                f"{manifest.modality}, {manifest.orientation}",
                manifest.backbone.name,
                _dice(manifest),
                manifest.licence,
                amount(pack.path.stat().st_size),
                "embedded" if pack.path.parent == packs.EMBEDDED else str(pack.path.parent),
            ]
        )
    return table(rows) if len(rows) > 1 else "no packs are installed; make one with promise train or promise import"


def add_backbones_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `promise backbones`."""
    parser.add_argument("--download", metavar="NAME", help="fetch a backbone, verify and keep it")
    parser.add_argument("--install", nargs=2, metavar=("NAME", "FILE"), help="verify a file you have and copy it")
    parser.add_argument("--remove", metavar="NAME", help="delete a downloaded or installed backbone")


def run_backbones(arguments: argparse.Namespace) -> None:
    """Download, install, remove, or list."""
    if arguments.download is not None:
        print(f"downloaded {backbones.download(arguments.download, _download_progress())}")
    elif arguments.install is not None:
        print(f"installed {backbones.install(*arguments.install)}")
    elif arguments.remove is not None:
        print(f"removed {arguments.remove}, {amount(backbones.remove(arguments.remove))} freed")
    else:
        print(_backbones_table())


def _backbones_table() -> str:
    rows = [["backbone", "size", "licence", "frame", "installed", "what"]]
    for backbone in backbones.TABLE.values():
        path = backbones.location(backbone)
        size = path.stat().st_size if path.is_file() else backbone.size
        there = "yes" if path.is_file() else "no, --download" if backbone.url else "no, --install a file"
        rows.append(
            [
                backbone.name,
                amount(size) if size else "?",
                backbone.licence,
                str(backbone.side),
                there,
                backbone.summary,
            ]
        )
    return table(rows)


def _download_progress() -> Callable[[int, int | None], None] | None:
    """A bar on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        return None
    from tqdm import tqdm

    bar = tqdm(unit="B", unit_scale=True, file=sys.stderr)

    def advance(done: int, total: int | None) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return advance


def add_import_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `promise import`."""
    parser.add_argument("checkpoint", type=Path, help="the authors' checkpoint (.pt, .pth)")
    parser.add_argument("--backbone", metavar="NAME", help="name or file of the SAM it was trained on")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="pack to write (.safetensors)")


def run_import(arguments: argparse.Namespace) -> None:
    """Write the pack and say what is in it."""
    from ProMISeCore import reference

    reference.import_checkpoint(arguments.checkpoint, arguments.backbone, arguments.out)
    manifest = packs.read_manifest(arguments.out)
    say(f"{manifest.name}: {', '.join(target.name for target in manifest.targets)} on {manifest.backbone.name}")
    print(arguments.out)


def add_cache_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `promise cache`."""
    parser.add_argument("--clear", action="store_true", help="remove every cached embedding and answer")


def run_cache(arguments: argparse.Namespace) -> None:
    """Show folder, size and count; clear when asked to."""
    cache = Cache()
    size, count = cache.size()
    if arguments.clear:
        print(f"removed {cache.clear()} files, {amount(size)}, from {cache.folder}")
    else:
        print(f"{cache.folder}: {count} files, {amount(size)} of at most {amount(cache.cap_bytes)}")
