"""Signs of a map that follows no lesion: known numbers, invariances, and what each doubt answers to."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from seewhy.errors import DataError
from seewhy.metrics.segmentation.plausibility import Plausibility, measure_plausibility

SLICES, SIZE = 6, 40


@pytest.fixture
def head() -> Tensor:
    """An egg-shaped head off the array's centre: symmetric across columns (i and 36 - i), not across rows."""
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    width = 7.0 + 0.3 * (rows - 5)
    body = (((rows - 20) / 15.0) ** 2 + ((columns - 18) / width) ** 2) <= 1
    return body.expand(SLICES, -1, -1).clone()


def _block(rows: slice, columns: slice, value: float = 1.0) -> Tensor:
    values = torch.zeros(SLICES, SIZE, SIZE)
    values[:, rows, columns] = value
    return values


SURE = torch.ones(SLICES)


def test_one_sided_block_has_known_numbers_and_no_doubt(head: Tensor) -> None:
    values = _block(slice(16, 24), slice(22, 28))
    found = measure_plausibility(values, head, SURE)
    assert (found.peak, found.overlap) == (1.0, 0.0)
    assert found.cover == pytest.approx(48 / int(head[0].sum()), rel=1e-6)
    assert found.doubts() == []


def test_map_on_both_sides_overlaps_wholly(head: Tensor) -> None:
    values = _block(slice(16, 24), slice(22, 26)) + _block(slice(16, 24), slice(11, 15))  # columns i and 36 - i
    found = measure_plausibility(values, head, SURE)
    assert found.overlap == 1.0
    assert len(found.doubts()) == 1
    assert "mirror" in found.doubts()[0]


def test_half_strength_on_the_other_side_is_half_of_the_larger(head: Tensor) -> None:
    values = _block(slice(16, 24), slice(22, 26)) + _block(slice(16, 24), slice(11, 15), 0.5)
    assert measure_plausibility(values, head, SURE).overlap == pytest.approx(1.0 / 1.5)


def test_map_of_all_tissue_is_wide_and_symmetric(head: Tensor) -> None:
    found = measure_plausibility(head.float() * 0.9, head, SURE)
    assert (found.peak, found.cover, found.overlap) == pytest.approx((0.9, 1.0, 1.0))
    assert len(found.doubts()) == 2


def test_weak_map_is_doubted_for_its_peak_alone(head: Tensor) -> None:
    found = measure_plausibility(_block(slice(16, 24), slice(22, 28), 0.3), head, SURE)
    assert found.peak == pytest.approx(0.3)
    assert [doubt for doubt in found.doubts() if "peaks" in doubt] == found.doubts() != []


@pytest.mark.parametrize("change", [lambda t: t.transpose(1, 2), lambda t: t.flip(2), lambda t: t.roll((2, 3), (1, 2))])
def test_mirror_plane_is_found_in_any_orientation_and_place(head: Tensor, change: Callable[[Tensor], Tensor]) -> None:
    values = _block(slice(16, 24), slice(22, 26)) + _block(slice(16, 24), slice(11, 15), 0.25)
    expected = measure_plausibility(values, head, SURE)
    moved = measure_plausibility(change(values), change(head), SURE)
    assert (moved.peak, moved.cover, moved.overlap) == pytest.approx((expected.peak, expected.cover, expected.overlap))


def test_only_positive_slices_count(head: Tensor) -> None:
    values = _block(slice(16, 24), slice(22, 28))
    values[5] = head[5].float()
    probability = torch.tensor([0.9, 0.8, 0.7, 0.9, 0.6, 0.2])
    assert measure_plausibility(values, head, probability).overlap == 0.0
    assert measure_plausibility(values, head, SURE).overlap > 0.3


def test_most_probable_slices_stand_in_where_few_are_positive(head: Tensor) -> None:
    values = _block(slice(16, 24), slice(22, 28))
    values[2] = 1.0
    probability = torch.tensor([0.3, 0.3, 0.1, 0.3, 0.3, 0.3])
    assert measure_plausibility(values, head, probability).cover == pytest.approx(48 / int(head[0].sum()), rel=1e-6)


def test_values_outside_the_body_are_not_read(head: Tensor) -> None:
    values = _block(slice(16, 24), slice(22, 28))
    assert measure_plausibility(values.where(head, 1.0), head, SURE) == measure_plausibility(values, head, SURE)


def test_overlap_is_unknown_where_the_outline_is_not_symmetric(head: Tensor) -> None:
    values = _block(slice(16, 24), slice(22, 28))
    lopsided = head.clone()
    lopsided[:, 20:, :18] = False
    assert math.isnan(measure_plausibility(values, lopsided, SURE).overlap)
    assert Plausibility(1.0, 0.1, math.nan).doubts() == []


def test_empty_map_is_doubted_and_finite(head: Tensor) -> None:
    found = measure_plausibility(torch.zeros(SLICES, SIZE, SIZE), head, SURE)
    assert (found.peak, found.cover) == (0.0, 0.0)
    assert len(found.doubts()) == 1


def test_wrong_shapes_and_missing_body_are_refused(head: Tensor) -> None:
    values = torch.zeros(SLICES, SIZE, SIZE)
    with pytest.raises(DataError, match=r"expected \[S, H, W\]"):
        measure_plausibility(values, head, SURE[:3])
    with pytest.raises(DataError, match="`body`"):
        measure_plausibility(values, torch.zeros_like(head), SURE)


def test_probabilities_that_follow_the_area_of_slices_raise_a_doubt():
    body = torch.zeros(10, 20, 20, dtype=torch.bool)
    for i, plane in enumerate(body):
        plane[: 2 + i, 4:16] = True
    area = body.flatten(1).sum(dim=1).float()
    follows = measure_plausibility(torch.rand(10, 20, 20), body, area / 300)
    assert follows.area_correlation == pytest.approx(1.0)
    assert any("area of tissue" in text for text in follows.doubts())
    other = measure_plausibility(torch.rand(10, 20, 20), body, torch.tensor([0.9, 0.1] * 5))
    assert abs(other.area_correlation) < 0.5
    assert not any("area of tissue" in text for text in other.doubts())


def test_few_or_equal_slices_have_no_correlation_with_area():
    body = torch.ones(10, 20, 20, dtype=torch.bool)
    assert measure_plausibility(torch.rand(10, 20, 20), body, torch.rand(10)).area_correlation is None
    assert measure_plausibility(torch.rand(4, 20, 20), body[:4], torch.rand(4)).area_correlation is None
