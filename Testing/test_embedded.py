"""The embedded weights do their job on the phantom, without any data."""

from __future__ import annotations

from pathlib import Path

from ProMISeCore import packs, phantom, scores


def test_every_embedded_pack_loads() -> None:
    import ProMISeCore

    found = packs.installed()
    assert "heart" in [pack.path.stem for pack in found]
    for pack in found:
        assert ProMISeCore.load(pack.path).manifest == pack.manifest


def test_the_phantom_s_heart_is_found() -> None:
    import ProMISeCore
    from ProMISeCore.segmenter import Segmenter

    segmenter = Segmenter(ProMISeCore.load("heart"), phantom.heart(), "cpu")
    for _ in segmenter.segment_volume():
        pass
    found, truth = segmenter.masks(), phantom.heart_masks()
    everything = [sum(masks.values()) > 0 for masks in (found, truth)]
    assert scores.dice(*everything) > 0.7


def test_embedded_weights_are_small() -> None:
    assert sum(path.stat().st_size for path in Path(packs.EMBEDDED).glob("*.safetensors")) < 40e6
