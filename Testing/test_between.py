"""What neighbouring slices say too: literal means, and the same whatever the order, the batches and the cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from segmenting import count_encoded, volume

from ProMISeCore.answers import Answer
from ProMISeCore.between import Between
from ProMISeCore.cache import Cache
from ProMISeCore.segmenter import Segmenter, SliceResult
from ProMISeCore.volumes import Volume

COUNT = 9


def scan(spacing: float = 1.0, count: int = COUNT) -> Volume:
    return volume((count, 20, 24), affine=np.diag([-1.5, -1.5, spacing, 1.0]))


def same(one: SliceResult, other: SliceResult) -> bool:
    """To the last bit."""
    parts = ("masks", "logits", "points_rc", "labels")
    return (one.index, one.iou, one.presence) == (other.index, other.iou, other.presence) and all(
        getattr(one, part).keys() == getattr(other, part).keys()
        and all(np.array_equal(values, getattr(other, part)[name]) for name, values in getattr(one, part).items())
        for part in parts
    )


def by_index(results) -> list[SliceResult]:
    return sorted(results, key=lambda result: result.index)


class Literal:
    """Answers that are written down: logits (n, s, s) per target, presence (n,); counts what is solved."""

    batch = 1  # as an Embedder's

    def __init__(self, logits: dict[str, np.ndarray], presence: np.ndarray | None = None) -> None:
        self.logits, self.presence, self.solved = logits, presence, []

    def get(self, n: int) -> None:
        return None

    def solve(self, ns: list[int]) -> list[dict[str, Answer]]:
        self.solved += ns
        return [
            {
                name: Answer(values[n].astype(np.float16), 0.1 * n, presence=self._presence(n))
                for name, values in self.logits.items()
            }
            for n in ns
        ]

    def _presence(self, n: int) -> float | None:
        return None if self.presence is None else float(self.presence[n])


def between(values: list[float], spacing: float = 1.0, cut: float = 0.0) -> list[float]:
    """With a sigma of 1 mm, the mean at every slice of a stack whose logits are these, all over each slice."""
    answers = Literal({"a": np.full((len(values), 2, 2), np.reshape(values, (-1, 1, 1)))})
    found = Between(answers, answers, len(values), spacing, 1.0, cut).get(range(len(values)))
    assert all(np.ptp(one["a"].logits) == 0 for one in found)
    return [float(one["a"].logits[0, 0]) for one in found]


@pytest.fixture
def literal(tiny_model) -> Callable:
    """`literal(logits, presence, batch, **changes)`: a segmenter whose network says just that of the scan's slices."""

    def make(logits: dict[str, np.ndarray], presence: np.ndarray | None = None, batch: int = 1, **changes) -> Segmenter:
        segmenter = Segmenter(tiny_model(tuple(logits), **{"smoothing_mm": 1.0} | changes), scan(), "cpu", batch=batch)
        told = Literal(logits, presence)
        segmenter._answers._decode = lambda items: told.solve([n for n, _ in items])
        return segmenter

    return make


# The mean


@pytest.mark.parametrize(
    ("sigma", "spacing", "count", "reach"),
    [
        (0.0, 1.0, 9, 0),
        (1.0, 1.0, 9, 2),
        (1.0, 2.0, 9, 1),
        (1.0, 2.01, 9, 0),
        (1.0, 5.0, 9, 0),
        (0.3, 0.2, 9, 3),  # 2 · 0.3 / 0.2 is 2.9999999999999996
        (10.0, 0.5, 9, 8),
        (1.0, 1.0, 1, 0),
    ],
)
def test_slices_within_two_sigmas_have_a_say(sigma: float, spacing: float, count: int, reach: int) -> None:
    nothing = Literal({})
    assert Between(nothing, nothing, count, spacing, sigma, 0.0).reach == reach


def test_weights_are_a_gaussians_and_sum_to_one_at_the_ends_too() -> None:
    middle = [0, 0, 0.0545, 0.2442, 0.4026, 0.2442, 0.0545, 0, 0]
    np.testing.assert_allclose(between([0, 0, 0, 0, 1, 0, 0, 0, 0]), middle, atol=6e-5)
    np.testing.assert_allclose(between([1, 0, 0, 0]), [0.5741, 0.2583, 0.0576, 0], atol=6e-5)
    np.testing.assert_allclose(between([3.5] * 7), [3.5] * 7, rtol=1e-6)
    np.testing.assert_allclose(between([0, 0, 1, 0, 0], spacing=2.0), [0, 0.1065, 0.7870, 0.1065, 0], atol=6e-5)


@pytest.mark.parametrize("cut", [0.0, 10.0])
def test_one_very_sure_slice_does_not_outvote_all_others(cut: float) -> None:
    found = between([cut - 8, cut - 8, cut + 500, cut - 8, cut - 8], cut=cut)
    np.testing.assert_allclose(found[2], cut + 8 * (2 * 0.4026 - 1), atol=2e-3)


def test_without_a_reach_answers_are_handed_on_as_they_are() -> None:
    assert between([500.0, 0.1, -500.0], spacing=5.0) == [500.0, float(np.float16(0.1)), -500.0]


# What comes of it


def test_a_hole_and_a_flicker_on_one_slice_go_and_a_real_end_stays(literal) -> None:
    logits = np.full((COUNT, 16, 16), -4.0)
    logits[2:7, 2:8, 2:8] = 4.0  # an organ on slices 2 to 6
    logits[4, 4:6, 4:6] = -3.0  # a hole in it on one of them
    logits[4, 2:4, 9:10] = 3.0  # something beside it on that one only
    alone, together = (
        [result.masks["a"] for result in by_index(literal({"a": logits}, smoothing_mm=mm).segment_volume())]
        for mm in (0.0, 1.0)
    )
    assert (_pieces(alone[4]), _pieces(~alone[4])) == (2, 2)
    assert (_pieces(together[4]), _pieces(~together[4])) == (1, 1)
    assert [mask.any() for mask in together] == [mask.any() for mask in alone] == [2 <= n <= 6 for n in range(COUNT)]


def _pieces(mask: np.ndarray) -> int:
    return ndimage.label(mask)[1]


def test_a_slice_without_the_target_stays_empty_and_numbers_stay_its_own(literal) -> None:
    logits, presence = {"a": np.full((COUNT, 16, 16), 4.0)}, np.full(COUNT, 0.9)
    presence[4] = 0.2
    results = by_index(literal(logits, presence, presence_threshold=0.5).segment_volume())
    assert [result.masks["a"].any() for result in results] == [n != 4 for n in range(COUNT)]
    assert [result.presence["a"] for result in results] == presence.tolist()
    assert [result.iou["a"] for result in results] == [0.1 * n for n in range(COUNT)]


def test_of_exclusive_targets_the_higher_mean_wins(literal) -> None:
    a, b = np.full((COUNT, 16, 16), 1.0), np.full((COUNT, 16, 16), 2.0)
    b[4] = 0.5  # lower than a here, on the mean 2 − 0.4026 · 1.5 = 1.396 still higher
    for result in literal({"a": a, "b": b}, exclusive=True).segment_volume():
        assert result.masks["b"].all() and not result.masks["a"].any()


def test_points_stay_those_of_the_slice(tiny_model) -> None:
    plain = by_index(Segmenter(tiny_model(), scan(), "cpu").segment_volume())
    smooth = by_index(Segmenter(tiny_model(smoothing_mm=1.0), scan(), "cpu").segment_volume())
    for one, other in zip(plain, smooth, strict=True):
        assert (one.iou, one.presence) == (other.iou, other.presence)
        assert all(np.array_equal(one.points_rc[name], other.points_rc[name]) for name in ("a", "b"))
        assert not np.array_equal(one.logits["a"], other.logits["a"])


@pytest.mark.parametrize("volume", [scan(4.0), scan(count=1)], ids=["thick", "single"])
def test_thick_slices_and_single_ones_are_as_without_to_the_last_bit(tiny_model, volume: Volume) -> None:
    plain = Segmenter(tiny_model(), volume, "cpu").segment_volume()
    smooth = Segmenter(tiny_model(smoothing_mm=1.0), volume, "cpu").segment_volume()
    assert all(same(one, other) for one, other in zip(plain, smooth, strict=True))


# The same in any order


@pytest.mark.parametrize("first", [None, 0, 7])
@pytest.mark.parametrize("cached", [True, False])
def test_a_pass_gives_what_each_slice_alone_gives(first: int | None, cached: bool, tiny_model, tmp_path: Path) -> None:
    model = tiny_model(exclusive=True, smoothing_mm=1.0, opening=3)
    alone = {n: Segmenter(model, scan(), "cpu").segment_slice(n) for n in (0, 3, 4, 8)}
    for _ in range(1 + cached):  # the second time from the disk
        segmenter = Segmenter(model, scan(), "cpu", cache=Cache(tmp_path) if cached else None)
        found = list(segmenter.segment_volume(first))
        assert [result.index for result in found] == segmenter.order(first)
        assert all(same(by_index(found)[n], one) for n, one in alone.items())
        assert all(same(segmenter.segment_slice(n), one) for n, one in alone.items())


@pytest.mark.parametrize("batch", [2, 3, 64])
@pytest.mark.parametrize("first", [None, 0, 7])
def test_batches_change_nothing(batch: int, first: int | None, literal) -> None:
    logits = {"a": np.random.default_rng(1).normal(0, 5, (COUNT, 16, 16))}
    expected = by_index(literal(logits).segment_volume())
    found = by_index(literal(logits, batch=batch).segment_volume(first))
    assert all(same(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("first", [None, 1])
@pytest.mark.parametrize("millimetres", [0.0, 1.0, 3.0])
def test_a_pass_solves_every_slice_once(batch: int, first: int | None, millimetres: float, tiny_model, monkeypatch):
    model, decoded = tiny_model(("a",), smoothing_mm=millimetres), []
    encoded, decode = count_encoded(model, monkeypatch), model.sam.decode
    counted = lambda embedding, *rest: decoded.append(len(embedding)) or decode(embedding, *rest)  # noqa: E731
    monkeypatch.setattr(model.sam, "decode", counted)
    segmenter = Segmenter(model, scan(count=13), "cpu", batch=batch)
    assert len(list(segmenter.segment_volume(first))) == 13
    assert sum(encoded) == sum(decoded) == 13 and max(decoded) <= batch
    assert len(segmenter._between._recent) <= segmenter._between.held <= 13


def test_the_first_slice_needs_no_more_than_its_neighbours(tiny_model, monkeypatch) -> None:
    model = tiny_model(smoothing_mm=1.0)
    encoded = count_encoded(model, monkeypatch)
    assert next(Segmenter(model, scan(), "cpu").segment_volume(4)).index == 4
    assert encoded == [1] * 5


def test_answers_kept_without_smoothing_are_read_with_it(tiny_model, tmp_path: Path, monkeypatch) -> None:
    smooth = tiny_model(smoothing_mm=1.0)
    expected = list(Segmenter(smooth, scan(), "cpu").segment_volume())
    list(Segmenter(tiny_model(), scan(), "cpu", cache=Cache(tmp_path)).segment_volume())
    encoded = count_encoded(smooth, monkeypatch)
    monkeypatch.setattr(smooth.sam, "decode", None)  # unable to compute anything
    found = list(Segmenter(smooth, scan(), "cpu", cache=Cache(tmp_path)).segment_volume())
    assert all(same(one, other) for one, other in zip(found, expected, strict=True)) and encoded == []


def test_the_estimate_times_a_slice_without_solving_its_neighbours(tiny_model, monkeypatch) -> None:
    plain, smooth = tiny_model(("a",)), tiny_model(("a",), smoothing_mm=3.0)
    without = Segmenter(plain, scan(), "cpu").estimate()
    encoded, averaged = count_encoded(smooth, monkeypatch), []
    monkeypatch.setattr(Between, "averaged", lambda self, n, known: averaged.append(list(known)))
    found = Segmenter(smooth, scan(), "cpu").estimate()
    assert averaged == [list(range(COUNT))] * 2 and sum(encoded) <= 2
    assert (found.slices, found.encode) == (without.slices, without.encode) == (COUNT, COUNT)
    assert found.memory_bytes == without.memory_bytes + COUNT * 16 * 16 * 2  # all logits are kept, of 16 bits


# Stopped, and gone on with


def test_cancel_is_heard_while_the_first_slices_neighbours_are_solved(tiny_model, monkeypatch) -> None:
    model = tiny_model(smoothing_mm=1.0)
    encoded = count_encoded(model, monkeypatch)
    segmenter = Segmenter(model, scan(), "cpu")
    assert list(segmenter.segment_volume(4, cancel=lambda: len(encoded) == 3)) == []
    assert encoded == [1] * 3 and not segmenter.masks()["a"].any()
    assert len(list(segmenter.segment_volume(4))) == COUNT and sum(encoded) == COUNT


def test_a_cancelled_pass_goes_on_to_the_same(tiny_model) -> None:
    model, done = tiny_model(smoothing_mm=1.0), []
    expected = by_index(Segmenter(model, scan(), "cpu").segment_volume())
    segmenter = Segmenter(model, scan(), "cpu")
    done += segmenter.segment_volume(6, cancel=lambda: len(done) == 3)
    for result in segmenter.segment_volume(6, cancel=lambda: len(done) == 3):
        done.append(result)
    assert [result.index for result in done] == [6, 7, 5]
    for found in (done, list(segmenter.segment_volume(1))):
        assert all(same(result, expected[result.index]) for result in found)


# A person's prompts


def test_when_ones_own_point_is_deleted_the_automatic_mask_is_back(tiny_model) -> None:
    segmenter = Segmenter(tiny_model(("a",), smoothing_mm=1.0), scan(), "cpu")
    shown = segmenter.segment_slice(4)
    points, labels, mask = shown.points_rc["a"].tolist(), shown.labels["a"].tolist(), shown.masks["a"].copy()
    place = np.argwhere(mask)[0].tolist()
    clicked = segmenter.segment_slice(4, "a", [*points, place], [*labels, 0], own=[False] * 4 + [True])
    assert not clicked.masks["a"][tuple(place)]
    found = segmenter.segment_slice(4, "a", points, labels, own=[False] * 4)
    np.testing.assert_array_equal(found.masks["a"], mask)
    alone = Segmenter(tiny_model(("a",)), scan(), "cpu").segment_slice(4, "a", points, labels, own=[False] * 4)
    assert not np.array_equal(alone.masks["a"], mask), "the decoder's own answer is another"


def test_points_as_placed_on_a_slice_that_came_out_empty_ask_the_decoder(tiny_model) -> None:
    segmenter = Segmenter(tiny_model(("a",), smoothing_mm=1.0, presence_threshold=1.0), scan(), "cpu")
    empty = segmenter.segment_slice(4)
    assert not empty.masks["a"].any()
    found = segmenter.segment_slice(4, "a", empty.points_rc["a"], empty.labels["a"], own=[False] * 4)
    assert found.masks["a"].any()


def test_prompted_slices_have_no_say_in_what_is_automatic(tiny_model) -> None:
    model = tiny_model(smoothing_mm=1.0)
    expected = by_index(Segmenter(model, scan(), "cpu").segment_volume())
    segmenter = Segmenter(model, scan(), "cpu")
    segmenter.segment_slice(4, "a", mask=np.ones((20, 24), bool))
    found = by_index(segmenter.segment_volume())
    assert "a" not in found[4].masks
    assert all(same(found[n], expected[n]) for n in range(COUNT) if n != 4)
    assert same(segmenter.segment_slice(4), expected[4])
