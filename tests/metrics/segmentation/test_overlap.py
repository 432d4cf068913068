import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_hausdorff_distance
from torchmetrics.functional.classification import binary_average_precision

from seewhy.metrics.segmentation.overlap import average_precision, dice, hausdorff95_slices, iou, lesion_wise_dice


def square(top, left, size, *, shape=(1, 32, 32)):
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[:, top : top + size, left : left + size] = True
    return mask


def test_dice_and_iou_by_hand():
    prediction, mask = square(0, 0, 4), square(0, 2, 4)
    assert dice(prediction, mask) == 2 * 8 / 32
    assert iou(prediction, mask) == 8 / 24


def test_identical_disjoint_and_silent_predictions():
    mask = square(3, 3, 5)
    assert dice(mask, mask) == iou(mask, mask) == 1.0
    for other in (square(20, 20, 5), torch.zeros_like(mask)):
        assert dice(other, mask) == iou(other, mask) == 0.0


def test_nothing_to_find_has_no_overlap():
    empty = torch.zeros(2, 8, 8, dtype=torch.bool)
    for measure in (dice, iou, hausdorff95_slices):
        assert math.isnan(measure(torch.ones_like(empty), empty))
        assert math.isnan(measure(empty, empty))
    assert math.isnan(average_precision(torch.rand(2, 8, 8), empty))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(2, 300),
    levels=st.sampled_from([2, 5, 50, 100_000]),
    share=st.floats(0.02, 0.98),
)
def test_average_precision_is_that_of_torchmetrics(seed, size, levels, share):
    generator = np.random.default_rng(seed)
    score = torch.from_numpy(generator.integers(0, levels, size) / levels).float()
    mask = torch.from_numpy(generator.random(size) < share)
    mask[0] = True
    expected = float(binary_average_precision(score, mask.long()))
    assert average_precision(score, mask) == pytest.approx(expected, abs=1e-5)


def test_average_precision_of_a_constant_is_the_share_and_of_the_mask_one():
    mask = square(0, 0, 8)
    assert average_precision(torch.full((1, 32, 32), 0.3), mask) == pytest.approx(64 / 1024)
    assert average_precision(mask.float(), mask) == 1.0


def test_average_precision_knows_no_scale():
    score, mask = torch.randn(1, 32, 32), square(4, 9, 7)
    assert average_precision(score, mask) == average_precision(score * 7 - 3, mask)
    assert average_precision(score.half(), mask) == average_precision(score.half().float(), mask)


def test_hausdorff_of_a_shifted_square_is_the_shift():
    prediction, mask = square(10, 10, 6), square(10, 13, 6)
    assert hausdorff95_slices(prediction, mask) == 3.0
    assert hausdorff95_slices(prediction, mask, spacing=(1.0, 0.5)) == 1.5
    assert hausdorff95_slices(prediction, mask, spacing=(4.0, 2.0)) == 6.0


def test_hausdorff_is_the_mean_over_positive_slices_and_a_silent_one_costs_the_diagonal():
    mask = square(10, 10, 6, shape=(4, 30, 40))
    mask[3] = False
    prediction = mask.clone()
    prediction[1] = square(10, 12, 6, shape=(1, 30, 40))
    prediction[2] = False
    prediction[3] = True  # false positives have no distance
    assert hausdorff95_slices(prediction, mask) == pytest.approx((0 + 2 + 50) / 3)
    assert hausdorff95_slices(prediction, mask, spacing=(2.0, 2.0)) == pytest.approx((0 + 4 + 100) / 3)


def test_hausdorff_is_that_of_monai_slice_by_slice():
    generator = torch.Generator().manual_seed(0)
    blobs = torch.nn.functional.avg_pool2d(torch.rand(10, 1, 40, 40, generator=generator), 9, 1, 4)[:, 0]
    prediction, mask = blobs[:5] > 0.51, blobs[5:] > 0.51
    single = [
        float(compute_hausdorff_distance(p[None, None], m[None, None], include_background=True, percentile=95))
        for p, m in zip(prediction, mask, strict=True)
    ]
    assert hausdorff95_slices(prediction, mask) == pytest.approx(float(np.mean(single)), rel=1e-6)


def _boxes(*boxes):
    mask = torch.zeros(6, 40, 40, dtype=torch.bool)
    for plane, row, column, size in boxes:
        mask[plane, row : row + size, column : column + size] = True
    return mask


@pytest.mark.parametrize(
    ("prediction", "mask", "expected"),
    [
        ([], [], 1.0),  # a healthy patient left alone
        ([(2, 5, 5, 2)], [], 0.0),  # a healthy patient hit
        ([], [(2, 5, 5, 4)], 0.0),
        ([(2, 5, 5, 4)], [(2, 5, 5, 4), (2, 30, 30, 4)], 0.5),  # one of two lesions is missed
        ([(2, 5, 5, 4), (2, 30, 30, 1)], [(2, 5, 5, 4)], 0.5),  # one pixel far away costs as much as a lesion
        ([(2, 5, 5, 4)], [(2, 5, 5, 2), (2, 5, 9, 2)], 2 * 4 / (8 + 16)),  # parts that dilation joins are one lesion
        ([(2, 5, 5, 4), (2, 5, 12, 4)], [(2, 5, 5, 4)], 2 * 16 / (16 + 16 + 0) / 2),  # 3 pixels between: not touching
        ([(2, 5, 5, 4), (2, 5, 11, 4)], [(2, 5, 5, 4)], 2 * 16 / (16 + 32)),  # touches the dilated lesion
        ([(5, 36, 36, 4)], [(5, 36, 36, 4)], 1.0),  # in the corner of the volume
    ],
)
def test_lesion_wise_dice_by_hand(prediction, mask, expected):
    assert lesion_wise_dice(_boxes(*prediction), _boxes(*mask)) == pytest.approx(expected)
