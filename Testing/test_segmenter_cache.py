"""The segmenter and what it has encoded before: on disk, in memory, damaged, or not to be written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from segmenting import count_encoded, run, volume

from ProMISeCore import embedder as embedder_module
from ProMISeCore.cache import Cache
from ProMISeCore.segmenter import Segmenter


def test_warm_equals_cold_and_encodes_nothing(tiny_model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    batches = count_encoded(model, monkeypatch)
    cold = run(Segmenter(model, volume(), "cpu", cache=Cache(tmp_path)))
    assert sum(batches) == 5
    warm = run(Segmenter(model, volume(), "cpu", cache=Cache(tmp_path)))
    assert sum(batches) == 5
    without = run(Segmenter(model, volume(), "cpu"))
    for name in ("a", "b"):
        np.testing.assert_array_equal(cold.masks()[name], warm.masks()[name])
        np.testing.assert_array_equal(cold.masks()[name], without.masks()[name])


def test_another_pack_on_the_backbone_encodes_nothing(tiny_model, tmp_path: Path, monkeypatch) -> None:
    run(Segmenter(tiny_model(), volume(), "cpu", cache=Cache(tmp_path)))
    other = tiny_model(("c",))
    batches = count_encoded(other, monkeypatch)
    run(Segmenter(other, volume(), "cpu", cache=Cache(tmp_path)))
    assert batches == []


def test_a_stopped_run_goes_on_from_the_cache(tiny_model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    batches = count_encoded(model, monkeypatch)
    stopped = Segmenter(model, volume(), "cpu", cache=Cache(tmp_path), batch=1).segment_volume()
    next(stopped), next(stopped)
    stopped.close()
    run(Segmenter(model, volume(), "cpu", cache=Cache(tmp_path)))
    assert sum(batches) == 5


def test_changed_voxels_are_encoded_anew(tiny_model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, scan = tiny_model(window={"mode": "fixed", "low": 0, "high": 1000}), volume()
    run(Segmenter(model, scan, "cpu", cache=Cache(tmp_path)))
    batches = count_encoded(model, monkeypatch)
    changed = scan.voxels.copy()
    changed[2, 3, 4] += 300
    run(Segmenter(model, volume(voxels=changed), "cpu", cache=Cache(tmp_path)))
    assert sum(batches) == 1


def test_damaged_cache_files_do_not_show(tiny_model, tmp_path: Path) -> None:
    model = tiny_model()
    expected = run(Segmenter(model, volume(), "cpu", cache=Cache(tmp_path))).masks()["a"]
    for path in tmp_path.rglob("*.slice"):
        path.write_bytes(path.read_bytes()[:-7])
    np.testing.assert_array_equal(run(Segmenter(model, volume(), "cpu", cache=Cache(tmp_path))).masks()["a"], expected)


def test_an_unwritable_cache_is_one_notice(tiny_model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    notices: list[str] = []
    cache = Cache(tmp_path / "file" / "cache", notice=notices.append)
    found = run(Segmenter(tiny_model(), volume(), "cpu", cache=cache)).masks()["a"]
    np.testing.assert_array_equal(found, run(Segmenter(tiny_model(), volume(), "cpu")).masks()["a"])
    assert len(notices) == 1


def test_memory_without_a_cache_is_bounded(tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    monkeypatch.setattr(embedder_module, "RECENT_BYTES", 2 * 256 * 4 * 4 * 2 + 1)  # two embeddings of frame side 64
    batches = count_encoded(model, monkeypatch)
    segmenter = run(Segmenter(model, volume(), "cpu"), first=0)
    segmenter.segment_slice(4, points_rc=[[5, 5]], labels=[1])
    assert sum(batches) == 5
    segmenter.segment_slice(0, points_rc=[[5, 5]], labels=[1])
    assert sum(batches) == 6


def test_batches_change_nothing(tiny_model) -> None:
    one, three = (run(Segmenter(tiny_model(), volume(), "cpu", batch=batch)) for batch in (1, 3))
    for name, mask in one.masks().items():
        np.testing.assert_array_equal(mask, three.masks()[name])
