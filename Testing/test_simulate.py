"""Simulated prompts on masks small enough to check by eye."""

import pytest
import torch

from ProMISeCore import simulate


def _mask(*rows: str) -> torch.Tensor:
    return torch.tensor([[c == "#" for c in row] for row in rows])


SQUARE = _mask(
    "........",
    ".####...",
    ".####...",
    ".####...",
    ".####...",
    "........",
    "........",
    "........",
)


def test_box_is_tight_in_frame_pixels():
    box = simulate.boxes(SQUARE[None], 0.0, torch.Generator())
    # columns 1–4 and rows 1–4 of 4 frame pixels each: edges at 4 and 20, half a pixel off because SAM adds 0.5
    assert box.tolist() == [[3.5, 3.5, 19.5, 19.5]]


def test_jitter_moves_edges_by_at_most_its_share():
    generator = torch.Generator().manual_seed(3)
    boxes = simulate.boxes(SQUARE[None].repeat(200, 1, 1), 0.1, generator)
    gap = (boxes - torch.tensor([3.5, 3.5, 19.5, 19.5])).abs()
    assert 0.5 < gap.max() <= 1.6


def test_deepest_point_of_a_square_is_one_of_its_middle_pixels():
    (x, y), *_ = simulate.deepest_point(SQUARE[None])[0].tolist()
    assert {x, y} <= {9.5, 13.5}  # pixels 2 and 3: 2.5 · 4 − 0.5, 3.5 · 4 − 0.5


@pytest.mark.parametrize("region", [SQUARE, ~SQUARE])
def test_random_points_stay_in_their_region(region):
    points = simulate.random_points(region[None], 50, torch.Generator().manual_seed(0))[0]
    columns, rows = ((points + 0.5) / 4).floor().long().T
    assert region[rows, columns].all()
    assert len({tuple(p) for p in points.tolist()}) > 5


def test_correction_clicks_what_was_missed_then_what_is_too_much():
    nothing, everything = torch.zeros(1, 8, 8).bool(), torch.ones(1, 8, 8).bool()
    point, label = simulate.correction(SQUARE[None], nothing)
    assert label.tolist() == [[1]] and SQUARE[tuple(((point[0, 0] + 0.5) / 4).long().flip(0))]
    point, label = simulate.correction(SQUARE[None], everything)
    assert label.tolist() == [[0]] and not SQUARE[tuple(((point[0, 0] + 0.5) / 4).long().flip(0))]
    assert simulate.correction(SQUARE[None], SQUARE[None])[1].tolist() == [[-1]]


def test_correction_clicks_the_larger_of_what_was_missed_and_what_is_too_much():
    masks, found = torch.zeros(1, 8, 8).bool(), torch.zeros(1, 8, 8).bool()
    masks[0, 1, 1:3] = True
    found[0, 4:7, 4:7] = True
    point, label = simulate.correction(masks, found)
    assert label.tolist() == [[0]] and point.tolist() == [[[21.5, 21.5]]]  # pixel 5: 5.5 · 4 − 0.5


def test_places_spread_positive_points_inside_and_negative_ones_outside():
    side = 32
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    disc = (rows - 15.5) ** 2 + (columns - 15.5) ** 2 < 8**2
    places = simulate.places(disc, [1, 1, 1, 1, 0, 0, 0, 0])
    pixels = (places * side).long()
    inside = disc[pixels[:, 1], pixels[:, 0]]
    assert inside.tolist() == [True] * 4 + [False] * 4
    quadrants = {(bool(x > 0.5), bool(y > 0.5)) for x, y in places[:4]}
    assert len(quadrants) == 4


def test_places_of_an_empty_mask_are_nowhere():
    assert simulate.places(torch.zeros(8, 8).bool(), [1, 0]).isnan().all()


def test_first_prompts_cover_all_kinds_and_fit_the_batch():
    kinds = set()
    for seed in range(40):
        prompts = simulate.first_prompts(SQUARE[None].repeat(3, 1, 1), torch.Generator().manual_seed(seed))
        assert prompts.points.shape[:2] == prompts.labels.shape and len(prompts.points) == 3
        kinds.add((prompts.box is not None, prompts.mask is not None, prompts.points.shape[1] > 1))
    assert kinds == {(True, False, False), (False, False, False), (False, False, True), (False, True, False)}
