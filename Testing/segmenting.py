"""A scan of random voxels, a run over all of it, and what was encoded meanwhile; for tests of the segmenter."""

from __future__ import annotations

import numpy as np
import pytest

from ProMISeCore.segmenter import Segmenter
from ProMISeCore.volumes import Volume

AFFINE = np.diag([-1.5, -1.5, 4.0, 1.0])


def volume(shape=(5, 20, 24), **changes) -> Volume:
    voxels = np.random.default_rng(0).integers(0, 1000, shape).astype(np.int16)
    return Volume(**{"voxels": voxels, "affine": AFFINE, "name": "scan"} | changes)


def run(segmenter: Segmenter, **options) -> Segmenter:
    for _ in segmenter.segment_volume(**options):
        pass
    return segmenter


def balanced(tiny_model, scan: Volume, **changes):
    """A model whose threshold puts about half of the scan's pixels into target "a"."""
    results = list(Segmenter(tiny_model(), scan, "cpu").segment_volume())
    middle = np.median([result.logits["a"] for result in results])
    return tiny_model(threshold=float(1 / (1 + np.exp(-middle))), **changes)


def count_encoded(model, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by the batch size at every call of the encoder."""
    batches: list[int] = []
    encode = model.sam.encode
    monkeypatch.setattr(model.sam, "encode", lambda images: batches.append(len(images)) or encode(images))
    return batches
