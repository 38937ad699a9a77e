"""Cases of the scene as files for a child process, in the private folder of a teaching. No Qt; no node is changed."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import cases, environment, mrml
from .cases import Case

_GREY = (0.5, 0.5, 0.5)  # of segments that say what is unknown
_LABELS = "labels-"  # begins the names of folders, one for each content, so that labels are never written over


class Exported(NamedTuple):
    """A case as files. name: neutral, as the files' is; shown: the volume's; problem: why there are none, or ""."""

    name: str
    shown: str
    files: tuple[Path, ...] = ()
    problem: str = ""


class Exporter:
    """folder: made when it is needed. Where a file lies tells its content: what is there already is left alone, with
    its date, and what has changed is another file, so that whoever learns from the former one still finds it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, chosen: Sequence[Case], targets: Sequence[str], shown: Sequence[str] = ()) -> Iterator[Exported]:
        """shown: how the user knows the cases, unless as their volumes are called.

        Case by case, so that whoever asks can do other things in between. Raises InputError on a full disk, and
        where a node has left the scene meanwhile: with it went its transform, and whose slices are.

        A case that cannot be used comes with its problem; the others are still written.
        """
        seen: dict[str, str] = {}
        for case, called in zip(chosen, shown or cases.shownNames(chosen), strict=True):
            if None in (case.volumeNode.GetScene(), case.segmentationNode.GetScene()):
                raise environment.core("errors").InputError(
                    f"{called!r} left the scene before it was written; nothing was taught: load it again, then teach"
                )
            try:
                volume = _storable(_upright(cases.voxels(case)))
                name = cases.fileName(volume)
                if name in seen:
                    raise mrml.GeometryError(
                        f"the volumes {seen[name]!r} and {case.name!r} hold the same voxels; teach with one of them"
                    )
                files = (self._image(name, volume), self._labels(name, case, volume, list(targets)))
            except mrml.GeometryError as error:
                yield Exported("", called, problem=str(error))
                continue
            seen[name] = case.name
            yield Exported(name, called, files)

    def writeVolume(self, volumeNode) -> Exported:
        """A volume without labels."""
        try:
            volume = _storable(_upright(cases.voxels(Case(volumeNode, None))))
        except mrml.GeometryError as error:
            return Exported("", volumeNode.GetName(), problem=str(error))
        name = cases.fileName(volume)
        return Exported(name, volumeNode.GetName(), (self._image(name, volume),))

    def _image(self, name: str, volume) -> Path:
        """The name tells the content: what is there already needs not be written, if it is whole.

        Of a disk that is full at the last bytes ITK says nothing.
        """
        import SimpleITK as sitk

        path = self.folder / (name + (".png" if volume.picture else ".nrrd"))
        image = _picture(volume) if volume.picture else environment.core("exports").on_grid(volume.voxels, volume)
        if not _holds(path, image):
            with environment.core("whole_file").replacing(path) as part:
                sitk.WriteImage(image, str(part))
                if not _holds(part, image):
                    raise OSError(errno.EIO, "a part of it is missing, as where the disk is full")
            self.folder.chmod(0o700)  # for this user's eyes only, where the system knows such things
        return path

    def _labels(self, name: str, case: Case, volume, targets: list[str]) -> Path:
        masks = cases.masks(case, targets, volume)
        if not masks:
            raise mrml.GeometryError(f"the segmentation of {case.name!r} has none of the segments {', '.join(targets)}")
        colours = case.colours()
        path = self.folder / (_LABELS + _digest(masks, colours)) / f"{name}.seg.nrrd"
        if not path.is_file():
            described = [{"name": each, "color": colours.get(each, _GREY)} for each in masks]
            environment.core("exports").write_segmentation(path, masks, volume, described)
        return path

    def keepOnly(self, files: Iterable[str]) -> None:
        """Remove what is none of these, here or, where the folder was moved, elsewhere. OSError where that fails."""
        kept = {Path(file).parts[-2:] for file in files}
        for path in sorted(self.folder.rglob("*"), reverse=True):  # what is in a folder before the folder
            if path.is_dir():
                removeEmpty(path)
            elif path.parts[-2:] not in kept:
                path.unlink()
        removeEmpty(self.folder)


def removeEmpty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _upright(volume):
    """Under a shearing transform the axes are not perpendicular, which files cannot say: the nearest that are.

    A picture file says nothing of its place; its labels lie where such files are read to.
    """
    if volume.picture:
        return replace(volume, affine=np.diag([-1.0, -1.0, 1.0, 1.0]))
    spacing = volume.spacing
    left, _, right = np.linalg.svd(volume.affine[:3, :3] / spacing)
    if np.allclose(left @ right, volume.affine[:3, :3] / spacing, atol=1e-6):
        return volume
    affine = np.array(volume.affine)
    affine[:3, :3] = left @ right * spacing
    return replace(volume, affine=affine)


def _storable(volume):
    """Colours as the core reads them from files, in 8 or 16 bits: whole numbers stay what they are, a picture of others
    becomes what a pack for pictures sees of it, in bytes. Raises GeometryError for a volume of others.
    """
    voxels = volume.voxels
    if voxels.ndim == 3 or voxels.dtype in (np.uint8, np.uint16):
        return volume
    if voxels.dtype.kind in "iu" and voxels.min() >= 0 and voxels.max() < 2**16:
        return replace(volume, voxels=voxels.astype(np.uint16))
    if not volume.picture:
        raise mrml.GeometryError(
            f"the colours of the volume {volume.name!r} are {voxels.dtype}, whole numbers from 0 to 65535 can be used; "
            "make a grey volume of it in the module Vector to Scalar Volume"
        )
    window = environment.core("volumes").Window.of({"mode": "bytes"}, voxels)
    return replace(volume, voxels=np.rint(window.apply(voxels)).astype(np.uint8))


def _picture(volume):
    """A colour picture as SimpleITK has it."""
    import SimpleITK as sitk

    return sitk.GetImageFromArray(volume.voxels[0], isVector=True)


def _holds(path: Path, image) -> bool:
    """Whether there is such a file, with all of the image's voxels."""
    import SimpleITK as sitk

    try:
        found = sitk.ReadImage(str(path)) if path.is_file() else None
    except RuntimeError:  # it cannot be read
        return False
    return found is not None and np.array_equal(*map(sitk.GetArrayViewFromImage, (found, image)))


def _digest(masks: dict[str, np.ndarray], colours: dict[str, tuple[float, ...]]) -> str:
    seen = hashlib.sha256()
    for name, mask in masks.items():
        seen.update(f"{name}\n{mask.shape}\n{colours.get(name)}\n".encode())
        seen.update(np.packbits(mask).data)
    return seen.hexdigest()[:16]
