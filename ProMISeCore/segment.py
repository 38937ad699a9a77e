"""`promise segment` and `promise demo`: one scan in, a segmentation, its prompts and a contact sheet out."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from ProMISeCore import exports, markups, pairs, truth, volumes
from ProMISeCore.cache import Cache
from ProMISeCore.errors import InputError
from ProMISeCore.terminal import amount, duration, progress, say
from ProMISeCore.whole_file import check_folder, replacing

if TYPE_CHECKING:
    from ProMISeCore.segmenter import Segmenter

FORMATS = {"seg.nrrd": ".seg.nrrd", "nii.gz": "_seg.nii.gz"}  # → how its files end
DISCLAIMER = "Research use only, not for clinical use."


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """What every command that runs a pack on images takes."""
    parser.add_argument("--backbone", metavar="NAME", help="backbone's name or file (default: the pack's own)")
    parser.add_argument("--axis", choices=volumes.AXES, help="orientation of the slices (default: the pack's own)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    parser.add_argument("--exact", action="store_true", help="float32 and SAM's own order of operations; slower")
    parser.add_argument("--no-cache", action="store_true", help="neither read nor write embeddings on disk")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `promise segment`."""
    parser.add_argument("input", type=Path, help="NIfTI, NRRD, MHA, DICOM series folder, PNG or JPEG")
    parser.add_argument("--pack", required=True, metavar="NAME", help="pack's name (see promise packs) or file")
    add_model_arguments(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the results (default: beside the input)")
    parser.add_argument("--format", choices=FORMATS, default="seg.nrrd", help="segmentation's format (%(default)s)")
    parser.add_argument("--first", type=int, metavar="N", help="slice to begin with, counted from 0 (default: middle)")


def add_demo_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `promise demo`."""
    parser.add_argument("--out", type=Path, default=Path("promise-demo"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--pack", default="heart", metavar="NAME", help="default: %(default)s")
    add_model_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Segment `arguments.input`, write the results, print a summary."""
    volume = volumes.read(arguments.input)
    beside = Path(os.path.abspath(arguments.input)).parent  # of a link, not of the file that it leads to
    folder = arguments.out if arguments.out is not None else beside
    paths = outputs(arguments.input, volume, folder, FORMATS[arguments.format])
    check_folder(folder)
    segmenter = prepare(volume, arguments)
    warn_of_modality(arguments.input, segmenter.model.manifest)
    seconds = go(segmenter, arguments.first)
    masks = segmenter.masks()
    write(segmenter, masks, paths)
    print(summary(segmenter, masks, seconds))
    for path in paths.values():
        print(path)
    print(DISCLAIMER)


def run_demo(arguments: argparse.Namespace) -> None:
    """Write the phantom and segment it."""
    from ProMISeCore import packs, phantom

    packs.find(arguments.pack)
    volume = phantom.heart()
    check_folder(arguments.out)
    path = arguments.out / "phantom.nii.gz"
    with replacing(path) as part:
        sitk.WriteImage(exports.on_grid(volume.voxels, volume), str(part), useCompression=True)
    say(f"wrote a generated heart, {path}")
    run(argparse.Namespace(**vars(arguments) | {"input": path, "format": "seg.nrrd", "first": None}))


def outputs(source: Path, volume: volumes.Volume, folder: Path, ending: str) -> dict[str, Path]:
    """Where the results go: name.seg.nrrd (or name_seg.nii.gz), name.prompts.mrk.json, name.sheet.png.

    InputError if that is the input itself, a folder, or what somebody else has made or corrected.
    """
    paths = {
        "segmentation": folder / f"{volume.name}{ending}",
        "prompts": folder / f"{volume.name}.prompts.mrk.json",
        "sheet": folder / f"{volume.name}{pairs.SHEET}",
    }
    for path in paths.values():
        if path.exists() and path.samefile(source):
            raise InputError(f"{path} is the input and would be overwritten; choose another folder (--out) or --format")
        if path.is_dir():
            raise InputError(f"{path} is a folder, where a result is to be written; choose another folder (--out)")
    _check_unclaimed(paths)
    return paths


def _check_unclaimed(paths: Mapping[str, Path]) -> None:
    """Raise InputError where somebody's work would be overwritten."""
    segmentation, prompts = paths["segmentation"], paths["prompts"]
    if segmentation.exists() and not truth.is_automatic(segmentation):
        raise InputError(
            f"{segmentation} is there already, and is not what promise segment has written, or was saved by another "
            "program since; move it, or choose another folder (--out)"
        )
    if prompts.exists() and not markups.is_automatic(prompts):
        raise InputError(
            f"{prompts} is there already, and holds points or boxes that somebody has placed; move it, or choose "
            "another folder (--out)"
        )


def prepare(volume: volumes.Volume, arguments: argparse.Namespace) -> Segmenter:
    """The pack of the arguments at work on a volume."""
    import ProMISeCore
    from ProMISeCore.segmenter import Segmenter

    model = ProMISeCore.load(pack=arguments.pack, backbone=arguments.backbone, device="cpu")
    cache = None if arguments.no_cache else Cache(notice=say)
    return Segmenter(model, volume, arguments.device, arguments.axis, cache, notice=say, exact=arguments.exact)


def go(segmenter: Segmenter, first: int | None = None) -> float:
    """Segment all slices with an estimate and progress on stderr; returns seconds."""
    start = time.perf_counter()
    estimate = segmenter.estimate(first)
    disk = f", {amount(estimate.disk_bytes)} of disk for the cache" if estimate.disk_bytes else ""
    say(
        f"{_slices(estimate.slices)} on {segmenter.device}, {estimate.encode} to encode: about "
        f"{duration(estimate.seconds)}, {amount(estimate.memory_bytes)} of memory{disk}"
    )
    for _ in progress(segmenter.segment_volume(first), len(segmenter), segmenter.volume.name):
        pass
    return time.perf_counter() - start


def write(segmenter: Segmenter, masks: Mapping[str, np.ndarray], paths: Mapping[str, Path]) -> None:
    """Write all results or none: into a folder of their own beside their places, then moved there.

    InputError where somebody has saved something there meanwhile.
    """
    _check_unclaimed(paths)
    targets = [asdict(target) for target in segmenter.model.manifest.targets]
    volume, prompts = segmenter.volume, segmenter.prompts()
    write_masks: Callable = exports.write_labelmap
    if paths["segmentation"].name.endswith(".seg.nrrd"):
        write_masks = exports.write_segmentation
    else:
        _say_shared(masks)
    with _all_or_none(paths) as parts:
        write_masks(parts["segmentation"], masks, volume, targets, automatic=True)
        exports.write_prompts(parts["prompts"], prompts, volume, masks, targets)
        exports.write_contact_sheet(parts["sheet"], segmenter.stack, segmenter.window, masks, targets, prompts)


def _say_shared(masks: Mapping[str, np.ndarray]) -> None:
    """What a label map cannot hold."""
    shared = int((sum(mask.astype(np.uint8) for mask in masks.values()) > 1).sum())
    if shared:
        say(
            f"{shared} voxels are of several targets; a label map holds one of them, the later of "
            f"{', '.join(masks)}: .seg.nrrd (without --format) holds all"
        )


@contextmanager
def _all_or_none(paths: Mapping[str, Path]):
    """Yield a path to write for each of `paths` (in one folder), put in place together at the end."""
    folder = next(iter(paths.values())).parent
    part = None
    try:
        part = Path(tempfile.mkdtemp(prefix=".promise-", dir=folder))
        yield {name: part / path.name for name, path in paths.items()}
        for path in paths.values():
            os.replace(part / path.name, path)
    except InputError as error:
        raise InputError(str(error).replace(str(part), str(folder))) from error
    except OSError as error:
        raise InputError(f"the results cannot be written to {folder}: {error.strerror}; free space there") from error
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)


def summary(segmenter: Segmenter, masks: Mapping[str, np.ndarray], seconds: float) -> str:
    """A few lines: what was done, and per target its size and on how many slices it was found."""
    count, volume, manifest = len(segmenter), segmenter.volume, segmenter.model.manifest
    what = "picture" if volume.picture else _slices(count, segmenter.stack.axis)
    lines = [
        f"{volume.name}: {what} with {manifest.title or manifest.name} on {segmenter.device} in {duration(seconds)}, "
        f"{segmenter.encoded} encoded, {count - segmenter.encoded} from the cache"
    ]
    millilitres = abs(np.linalg.det(volume.affine[:3, :3])) / 1000
    width = max(map(len, masks))
    for name, mask in masks.items():
        slices = int(segmenter.stack.canonical(mask).any(axis=(1, 2)).sum())
        size = f"{mask.mean():8.1%} of the picture" if volume.picture else f"{mask.sum() * millilitres:8.1f} ml"
        lines.append(f"  {name:<{width}} {size}" + ("" if volume.picture else f" on {_slices(slices)}"))
    return "\n".join(lines)


def _slices(count: int, axis: str = "") -> str:
    return f"{count} {axis} slice".replace("  ", " ") + "s" * (count != 1)


def warn_of_modality(source: Path, manifest) -> None:
    """Say so where a DICOM file's modality is not the pack's."""
    given = dicom_modality(source)
    if given and given != manifest.modality:
        say(f"{source} is {given}, the pack {manifest.name!r} was trained on {manifest.modality}: expect poor results")


def dicom_modality(source: Path) -> str | None:
    """The modality of a DICOM file, or of the first one in a folder ("MR", "CT", …); None for anything else."""
    candidates = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    for path in candidates[:20]:
        reader.SetFileName(str(path))
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            continue
        if reader.HasMetaDataKey("0008|0060"):
            return reader.GetMetaData("0008|0060").strip()
    return None
