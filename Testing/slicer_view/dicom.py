"""A small DICOM series, made here."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk


def dicomZip(folder: Path) -> Path:
    """Nine axial slices of 22 rows and 26 columns, 1 × 1 × 3 mm, of a bright ball; in a zip with a folder in it."""
    places = np.indices((9, 22, 26)) - np.array([4, 11, 13])[:, None, None, None]
    voxels = np.where((places[0] * 3) ** 2 + places[1] ** 2 + places[2] ** 2 < 64, 900, 100).astype(np.int16)
    path = folder / "series.zip"
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    with zipfile.ZipFile(path, "w") as archive:
        for n, slice_ in enumerate(voxels):
            image = sitk.GetImageFromArray(slice_[None])
            image.SetSpacing((1, 1, 3))
            for tag, value in {
                "0008|0060": "MR",
                "0010|0010": "Somebody^Secret",
                "0020|000d": "1.2.826.0.1.3680043.2.1125.1",
                "0020|000e": "1.2.826.0.1.3680043.2.1125.2",
                "0008|0018": f"1.2.826.0.1.3680043.2.1125.3.{n + 1}",
                "0020|0013": str(n + 1),
                "0020|0032": f"0\\0\\{3 * n}",
                "0020|0037": "1\\0\\0\\0\\1\\0",
                "0018|0050": "3",
            }.items():
                image.SetMetaData(tag, value)
            writer.SetFileName(str(folder / f"{n}.dcm"))
            writer.Execute(image)
            archive.write(folder / f"{n}.dcm", f"series/IM{n:04}")
    return path
