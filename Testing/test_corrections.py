"""Clicks on a mask: obeyed always, felt only where they belong, and a matter of the prompts alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from segmenting import balanced, volume

import ProMISeCore
from ProMISeCore import masks, phantom
from ProMISeCore.corrections import Chain, Click, agreeing, clicks, corrected, without
from ProMISeCore.errors import InputError
from ProMISeCore.given import Given
from ProMISeCore.segmenter import Segmenter

SHAPE = (48, 56)
ROWS, COLUMNS = np.mgrid[: SHAPE[0], : SHAPE[1]]
FLAT = np.full((*SHAPE, 1), 100.0, np.float32)


def disc(row: float, column: float, radius: float) -> np.ndarray:
    return np.hypot(ROWS - row, COLUMNS - column) <= radius


def blobs(generator: np.random.Generator) -> np.ndarray:
    """A random mask: empty, full, or of a few smooth pieces."""
    level = generator.choice([-np.inf, np.inf, 0.0, 0.0, 0.0, 0.05])
    return ndimage.gaussian_filter(generator.normal(size=SHAPE), 3) > level


def follow(mask: np.ndarray, row: list[Click], answer: np.ndarray, picture: np.ndarray = FLAT) -> np.ndarray:
    return Chain().follow("here", row, lambda: mask, lambda _: answer, picture)


# Obeyed


@pytest.mark.parametrize("seed", range(40))
def test_every_click_is_obeyed(seed: int) -> None:
    generator = np.random.default_rng(seed)
    picture = generator.uniform(0, 255, (*SHAPE, 3)).astype(np.float32)
    spread = generator.choice([2, 5, 20])  # conflicting clicks close together, too
    places = np.clip(generator.normal((24, 28), spread, (10, 2)).round(), 0, np.array(SHAPE) - 1)
    row = clicks(places, generator.integers(0, 2, 10))
    answers = [blobs(generator) for _ in row]
    found = Chain().follow("here", row, lambda: blobs(generator), lambda count: answers[count - 1], picture)
    for click in {click.pixel: click for click in row}.values():  # of those on one pixel, the last
        assert found[click.pixel] == click.positive, click


@pytest.mark.parametrize("positive", [True, False])
def test_a_click_moves_more_than_its_pixel_and_nothing_far_away(positive: bool) -> None:
    mask = disc(24, 20, 12) if positive else disc(24, 20, 18)
    click = Click(24, 36, True) if positive else Click(24, 34, False)
    changed = corrected(mask, click, [], mask, FLAT) != mask
    assert changed[click.pixel] and changed.sum() > 20
    assert not changed[~disc(24, 35, 12)].any()
    assert ndimage.label(changed)[1] == 1


def test_the_mask_is_bent_without_needles_or_holes() -> None:
    bent = corrected(disc(24, 20, 12), Click(24, 37, True), [], disc(24, 20, 12), FLAT)
    assert ndimage.label(bent)[1] == 1 and ndimage.label(~bent)[1] == 1
    opened = ndimage.binary_opening(bent, np.ones((3, 3)))
    assert (bent & ~opened).sum() < 0.01 * bent.sum()


def test_a_bend_stops_at_an_edge_of_the_picture() -> None:
    mask, click = disc(24, 20, 12), Click(24, 37, True)
    edged = np.where(COLUMNS[..., None] <= 38, 100.0, 200.0).astype(np.float32)
    plain, stopped = (corrected(mask, click, [], mask, picture) for picture in (FLAT, edged))
    assert plain[:, 40:].sum() > 5
    assert not stopped[:, 40:].any() and stopped[24, 38]
    assert stopped[:, :39].sum() > 0.9 * plain[:, :39].sum()


def test_a_bend_reaches_no_further_than_three_times_the_way_from_the_border_to_the_click() -> None:
    """40 pixels here; beside a border that is straight, the bend would go on along it."""
    rows, columns = np.mgrid[:400, :400]
    mask, click = columns < 200, Click(200, 239, True)
    changed = corrected(mask, click, [], mask, np.full((400, 400, 1), 100.0, np.float32)) != mask
    assert changed[click.pixel] and 110 < np.hypot(rows - 200, columns - 239)[changed].max() <= 3 * 40


# Taken over from the decoder


def test_of_the_decoders_answer_only_the_piece_with_the_click_is_taken_over() -> None:
    mask = disc(24, 20, 8)
    answer = disc(24, 26, 8) | disc(10, 50, 4)
    found = corrected(mask, Click(24, 33, True), [], answer, FLAT)
    np.testing.assert_array_equal(found, mask | disc(24, 26, 8))  # neither the far piece, nor what was taken away


@pytest.mark.parametrize("positive", [True, False])
def test_crumbs_beside_a_change_go_with_it_unless_somebody_asked_for_them(positive: bool) -> None:
    mask = disc(24, 20, 10) | ((np.abs(ROWS - 24) <= 1) & (COLUMNS >= 20) & (COLUMNS < 49))  # with a thin arm
    answer = mask & ((COLUMNS < 31) | (COLUMNS > 46))
    mask, answer = (mask, answer) if not positive else (~mask, ~answer)  # of which a crumb is left, or a hole
    click = Click(24, 38, positive)
    found = corrected(mask, click, [], answer, FLAT)
    np.testing.assert_array_equal(found[:, 33:], np.full((48, 23), positive))
    np.testing.assert_array_equal(found[:, :32], mask[:, :32])
    kept = corrected(mask, click, [Click(24, 48, not positive)], answer, FLAT)
    assert kept[24, 48] != positive and kept[24, 38] == positive


def test_a_click_that_is_true_already_changes_nothing() -> None:
    mask = disc(24, 20, 8)
    for click in (Click(24, 20, True), Click(2, 2, False)):
        np.testing.assert_array_equal(corrected(mask, click, [], ~mask, FLAT), mask)


def test_the_decoder_does_not_take_an_earlier_click_back() -> None:
    mask, earlier = disc(24, 20, 8), [Click(24, 36, False)]
    found = corrected(mask, Click(24, 32, True), earlier, np.ones(SHAPE, bool), FLAT)
    assert found[24, 32] and not found[24, 36]


def test_clicks_beside_the_slice_do_nothing() -> None:
    mask = disc(24, 20, 8)
    np.testing.assert_array_equal(follow(mask, clicks(np.array([[-3, 5], [24, 99]]), np.ones(2)), ~mask), mask)


# A matter of the prompts alone


def test_undone_moved_and_repeated_clicks_lead_to_the_same_as_new_ones() -> None:
    generator = np.random.default_rng(3)
    mask, answers = blobs(generator), [blobs(generator) for _ in range(8)]
    row = clicks(generator.integers(0, 48, (8, 2)), generator.integers(0, 2, 8))
    moved = [row[0], Click(5, 5, True), *row[2:]]
    chain, asked = Chain(), []

    def answer(count: int) -> np.ndarray:
        asked.append(count)
        return answers[count - 1]

    for wanted in (row[:3], row, row[:5], moved, row, row):
        fresh = Chain().follow("here", wanted, lambda: mask, lambda count: answers[count - 1], FLAT)
        np.testing.assert_array_equal(chain.follow("here", wanted, lambda: mask, answer, FLAT), fresh)
    asked.clear()
    chain.follow("here", row, lambda: mask, answer, FLAT)
    assert asked == [], "what is known is not computed again"
    elsewhere = chain.follow("elsewhere", [], lambda: ~mask, answer, FLAT)
    np.testing.assert_array_equal(elsewhere, ~mask)


def test_logits_agree_with_the_mask() -> None:
    logits = np.array([[-2.0, 3.0], [1.0, -1.0]], np.float32)
    mask = np.array([[True, False], [True, True]])
    np.testing.assert_array_equal(agreeing(logits, logits > 0, 0.0), logits)
    found = agreeing(logits, mask, 1.0)  # a logit of just the cut is outside, and mirrored is still there
    np.testing.assert_array_equal(found > 1.0, mask)
    np.testing.assert_array_equal(found[0], [4.0, -1.0])


# On a slice


@pytest.fixture
def segmenter(tiny_model) -> Segmenter:
    return Segmenter(tiny_model(exclusive=True), volume((3, 40, 48)), "cpu")


def test_own_points_are_obeyed_on_the_automatic_mask(segmenter: Segmenter) -> None:
    first = segmenter.segment_slice(1, "a")
    mask, points, labels = first.masks["a"], first.points_rc["a"], first.labels["a"]
    generator = np.random.default_rng(1)
    own = generator.integers(0, 40, (6, 2))
    signs = (~mask[tuple(own.T)]).astype(int)
    is_own = [False] * len(points) + [True] * 6
    found = segmenter.segment_slice(1, "a", [*points, *own], [*labels, *signs], own=is_own)
    for place, sign in zip(own, signs, strict=True):
        assert found.masks["a"][tuple(place)] == sign
    np.testing.assert_array_equal(found.logits["a"] > 0, found.masks["a"])
    true = segmenter.segment_slice(1, "a", [*points, own[0]], [*labels, 1 - signs[0]], own=is_own[: len(points) + 1])
    np.testing.assert_array_equal(true.masks["a"], mask, "a click that is true already")


def test_without_own_points_the_decoders_answer_is_the_result(segmenter: Segmenter) -> None:
    points = [[10, 12], [30, 30]]
    plain = segmenter.segment_slice(1, "b", points, [1, 0], own=[False, False])
    output = segmenter.model.solve(
        segmenter.model.encode(segmenter.frame.image(segmenter._pictures[1])[None]),
        "b",
        **Given.of(points, [1, 0]).tensors(segmenter.frame),
    )
    expected = segmenter.frame.logits(output.logits[0, 0]).detach().numpy()
    np.testing.assert_allclose(plain.logits["b"], expected, atol=0.02)
    np.testing.assert_array_equal(plain.masks["b"], plain.logits["b"] > 0)


def test_a_given_mask_is_what_own_points_correct(segmenter: Segmenter) -> None:
    given = np.zeros((40, 48), bool)
    given[10:30, 10:30] = True
    for mask in (given, given.astype(np.uint8), np.where(given, 3.0, -3.0)):
        found = segmenter.segment_slice(0, "a", [[20, 20]], [0], mask=mask).masks["a"]
        assert not found[20, 20] and not (found & ~given).any() and found[given].any()


def test_a_box_of_the_person_is_what_own_points_correct(segmenter: Segmenter) -> None:
    box = [5, 5, 30, 30]
    given = np.zeros((40, 48), bool)
    given[10:30, 10:30] = True
    for mask in (None, given):
        boxed = segmenter.segment_slice(2, "a", box_rc=box, mask=mask).masks["a"]
        assert mask is None or (boxed != mask).any(), "the box is a new question"
        beside = np.argwhere(boxed)[0].tolist()
        true = segmenter.segment_slice(2, "a", [beside], [1], box_rc=box, mask=mask).masks["a"]
        np.testing.assert_array_equal(true, boxed, "a click that is true already")
        place = np.argwhere(~boxed)[-1].tolist()
        found = segmenter.segment_slice(2, "a", [beside, place], [1, 1], box_rc=box, mask=mask).masks["a"]
        assert found[tuple(place)] and not (boxed & ~found).any()


def test_clicks_correct_a_box_and_a_mask_one_after_another(heart: Segmenter) -> None:
    target = "left ventricle"
    mask = heart.segment_slice(5, target).masks[target]
    rows, columns = np.nonzero(mask)
    box = [rows.min(), columns.min(), rows.max(), columns.max() - 8]
    boxed = heart.segment_slice(5, target, box_rc=box, mask=mask).masks[target]
    assert boxed.any() and (boxed != mask).any()
    first, second = np.argwhere(boxed)[10], np.argwhere(boxed)[-10]
    found = {}
    for name, order in (("one", [first]), ("both", [first, second]), ("back", [first])):
        signs = [0] * len(order)
        found[name] = heart.segment_slice(5, target, order, signs, box, mask, [True] * len(order)).masks[target]
    assert not found["one"][tuple(first)] and (found["one"] != boxed).sum() < boxed.sum() / 2
    assert not found["both"][tuple(first)] and not found["both"][tuple(second)]
    np.testing.assert_array_equal(found["back"], found["one"])


@pytest.fixture(scope="module")
def heart() -> Segmenter:
    """The embedded pack on the phantom: points that lie where they should, unlike random weights'."""
    return Segmenter(ProMISeCore.load("heart"), phantom.heart(), "cpu")


@pytest.mark.parametrize("target", ["left ventricle", "right ventricle"])
def test_taking_all_include_points_away_takes_the_pieces_that_held_them(heart: Segmenter, target: str) -> None:
    automatic = heart.segment_slice(5, target)
    points, labels, before = automatic.points_rc[target], automatic.labels[target], automatic.masks[target]
    pieces, _ = ndimage.label(before)
    held = np.unique([pieces[click.pixel] for click in clicks(points, labels) if click.positive])
    assert held.any(), "no include point lies in the mask"
    rest = points[labels == 0]
    found = heart.segment_slice(5, target, rest, np.zeros(len(rest), int), own=[False] * len(rest)).masks[target]
    assert not (found & np.isin(pieces, held[held > 0])).any() and not (found & ~before).any()


def test_the_automatic_points_as_they_are_change_nothing(segmenter: Segmenter) -> None:
    automatic = segmenter.segment_slice(1, "a")
    points, labels = automatic.points_rc["a"], automatic.labels["a"]
    inside = np.argwhere(automatic.masks["a"])[0].tolist()
    found = segmenter.segment_slice(1, "a", [*points, inside], [*labels, 1], own=[False] * len(points) + [True])
    np.testing.assert_array_equal(found.masks["a"], automatic.masks["a"])


@pytest.mark.parametrize(
    ("points", "labels", "expected"),
    [
        ([[1, 2], [3, 4]], [1, 0], [False, False]),
        ([[3, 4.01]], [0], [True, False]),
        ([[3, 4]], [1], None),  # the other sign: another point
        ([[1, 2], [9, 9]], [1, 0], None),
    ],
)
def test_what_is_gone_of_other_points(points: list, labels: list, expected: list | None) -> None:
    gone = Given.of(points, labels).gone(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1, 0]))
    assert gone is None if expected is None else gone.tolist() == expected


@pytest.mark.parametrize(("inner", "outer"), [(5, 9), (8, 14), (10, 20)])
@pytest.mark.parametrize("half", [True, False])
def test_a_cavity_is_no_crumb(inner: int, outer: int, half: bool) -> None:
    ring = disc(24, 28, outer) & ~disc(24, 28, inner)
    mask = ring & (COLUMNS < 28) & half  # half of a ring, or nothing yet
    found = corrected(mask, Click(24, 28 + (inner + outer) // 2, True), [], ring, FLAT)
    np.testing.assert_array_equal(found, ring)


def test_a_piece_is_kept_by_a_point_of_ones_own_in_it() -> None:
    mask = disc(24, 28, 12)
    answer = mask & (COLUMNS < 28)
    assert np.array_equal(without(mask, [Click(24, 34, True)], answer, [Click(24, 36, True)]), mask)  # moved a little
    assert np.array_equal(without(mask, [Click(24, 34, True)], answer, [Click(24, 36, False)]), answer)
    assert np.array_equal(without(mask, [Click(24, 34, True)], answer, [Click(24, 22, True)]), answer)


@pytest.mark.parametrize("target", ["left ventricle", "right ventricle"])
def test_moving_an_automatic_point_by_a_fraction_of_a_pixel_changes_nothing(heart: Segmenter, target: str) -> None:
    automatic = heart.segment_slice(5, target)
    points, labels, before = automatic.points_rc[target], automatic.labels[target], automatic.masks[target]
    obeyed = [n for n, click in enumerate(clicks(points, labels)) if before[click.pixel] == click.positive]
    assert len(obeyed) >= 6, "the automatic points say what the mask does"
    for number in obeyed:
        moved = points.copy()
        moved[number] = np.rint(points[number]) + 0.4 * np.sign(np.rint(points[number]) - points[number] + 1e-9)
        own = np.arange(len(points)) == number
        np.testing.assert_array_equal(heart.segment_slice(5, target, moved, labels, own=own).masks[target], before)


def test_what_one_makes_of_automatic_points_says_what_an_own_click_corrects(segmenter: Segmenter) -> None:
    automatic = segmenter.segment_slice(1, "a")
    inside = np.argwhere(automatic.masks["a"])[0].tolist()
    # All automatic points taken away, one of one's own inside: it keeps its piece and nothing is decoded anew.
    kept = segmenter.segment_slice(1, "a", [inside], [1], own=[True]).masks["a"]
    assert kept[tuple(inside)] and not (kept & ~automatic.masks["a"]).any()
    # Nobody said whose the point is: it is the first question to the decoder.
    asked = segmenter.segment_slice(1, "a", [inside], [1])
    assert asked.masks["a"][tuple(inside)]


def test_of_single_organs_nothing_comes_back_that_no_point_asks_for(tiny_model) -> None:
    """As on a slice whose pieces were dropped, being no part of the volume's largest one: its points are gone."""

    def clicked(place: list[int], **changes) -> np.ndarray:
        segmenter = Segmenter(balanced(tiny_model, volume(), **changes), volume(), "cpu")
        return segmenter.segment_slice(2, "a", [place], [1], own=[True]).masks["a"]

    automatic = Segmenter(balanced(tiny_model, volume()), volume(), "cpu").segment_slice(2, "a").masks["a"]
    outside = np.argwhere(ndimage.distance_transform_edt(~automatic) >= 2)[0].tolist()
    assert ndimage.label(clicked(outside))[1] > 1, "there are pieces that could come back"
    found = clicked(outside, largest_component=True)
    assert found[tuple(outside)] and ndimage.label(found)[1] == 1
    inside = np.argwhere(clicked(outside) & automatic)[0].tolist()  # in a piece that no automatic point had held
    kept = clicked(inside, largest_component=True)
    pieces, _ = ndimage.label(automatic)
    np.testing.assert_array_equal(kept, pieces == pieces[tuple(inside)])


def test_of_single_organs_a_true_click_leaves_parts_without_points(tiny_model) -> None:
    """As of an atrium on a slice where its veins are apart: the volume's largest piece holds them."""
    segmenter = Segmenter(balanced(tiny_model, volume(), largest_component=True), volume(), "cpu")
    shown = segmenter.segment_slice(2, "a")
    points, labels, mask = shown.points_rc["a"].tolist(), shown.labels["a"].tolist(), shown.masks["a"].copy()
    held = masks.prompted_pieces(mask, shown.points_rc["a"], shown.labels["a"])
    parts, _ = ndimage.label(mask & ~held)
    sizes = np.bincount(parts.ravel())[1:]
    assert sizes.max() >= 0.01 * held.sum(), "there are parts that no point holds"
    inside = np.argwhere(held)[0].tolist()
    found = segmenter.segment_slice(2, "a", [*points, inside], [*labels, 1], own=[False] * len(points) + [True])
    large = 1 + np.flatnonzero(sizes >= 0.01 * held.sum())
    np.testing.assert_array_equal(found.masks["a"], held | np.isin(parts, large))


@pytest.mark.parametrize("target", ["left ventricle", "right ventricle"])
def test_when_ones_own_point_is_deleted_the_automatic_mask_is_back(heart: Segmenter, target: str) -> None:
    shown = heart.segment_slice(5, target)
    points, labels, mask = shown.points_rc[target].tolist(), shown.labels[target].tolist(), shown.masks[target].copy()
    beside = np.argwhere(ndimage.binary_dilation(mask, iterations=3) & ~mask)[0].tolist()
    clicked = heart.segment_slice(5, target, [*points, beside], [*labels, 1], own=[False] * len(points) + [True])
    assert clicked.masks[target][tuple(beside)]
    found = heart.segment_slice(5, target, points, labels, own=[False] * len(points)).masks[target]
    np.testing.assert_array_equal(found, mask)


def test_masks_handed_out_are_the_callers(segmenter: Segmenter) -> None:
    inside = np.argwhere(segmenter.segment_slice(1, "a").masks["a"])[0].tolist()
    first = segmenter.segment_slice(1, "a", [inside], [1], own=[True]).masks["a"]
    expected = first.copy()
    first[:] = False
    np.testing.assert_array_equal(segmenter.segment_slice(1, "a", [inside], [1], own=[True]).masks["a"], expected)


def test_places_within_one_pixel_are_told_apart() -> None:
    asked: list[int] = []

    def answer(count: int) -> np.ndarray:
        asked.append(count)
        return disc(24, 28, 9)

    chain = Chain()
    for column in (27.6, 28.4, 28.4):  # the decoder takes the exact place, so a new one is a new question
        chain.follow("here", clicks(np.array([[24.0, column]]), np.array([1])), lambda: disc(9, 9, 3), answer, FLAT)
    assert asked == [1, 1]


def test_points_of_somebody_are_checked() -> None:
    with pytest.raises(InputError, match=r"own has \[True\]; expected True or False for each of 2 points"):
        Given.of([[1, 2], [3, 4]], own=[True])


def test_a_point_taken_away_takes_the_piece_that_the_decoder_gives_up_and_nothing_else() -> None:
    mask = np.zeros((6, 12), bool)
    mask[1:4, 1:4] = mask[1:4, 7:10] = True
    answer = np.zeros_like(mask)
    answer[1:4, 2:4] = True  # gives up a rim of the left piece too, where no point was
    answer[5, 0] = True  # and finds something new
    left = without(mask, [Click(2, 8, True)], answer)
    expected = np.zeros_like(mask)
    expected[1:4, 1:4] = True
    assert np.array_equal(left, expected)


def test_a_background_point_taken_away_gives_back_what_it_kept_out() -> None:
    mask = np.zeros((5, 9), bool)
    mask[1:4, 1:4] = True
    answer = mask.copy()
    answer[1:4, 4:6] = True
    answer[2, 8] = True
    left = without(mask, [Click(2, 5, False)], answer)
    expected = np.zeros_like(mask)
    expected[1:4, 1:6] = True
    assert np.array_equal(left, expected)


@pytest.mark.parametrize("click", [Click(2, 2, True), Click(2, 8, False), Click(-1, 2, True), Click(0, 0, True)])
def test_points_that_the_decoder_still_agrees_with_or_that_did_nothing_change_nothing(click: Click) -> None:
    mask = np.zeros((5, 9), bool)
    mask[1:4, 1:4] = True
    assert np.array_equal(without(mask, [click], mask.copy()), mask)
