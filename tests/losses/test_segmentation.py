import math

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss
from torch.nn import functional as F

from seewhy.errors import ConfigError
from seewhy.losses.segmentation import (
    AffinityLoss,
    BalancedCrossEntropy,
    DeepSupervision,
    DiceCrossEntropy,
    MultiLabelLoss,
    affinity_loss,
    balanced_cross_entropy,
    region_masks,
)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 6, 5, 7, generator=generator)
    return logits, torch.randint(0, 4, (2, 6, 5, 7), generator=generator)


@pytest.mark.parametrize("include_background", [False, True])
@pytest.mark.parametrize("batch_dice", [False, True])
def test_of_classes_it_is_monais_dice_and_cross_entropy(include_background, batch_dice, batch):
    logits, mask = batch
    ours = DiceCrossEntropy(
        include_background=include_background, batch_dice=batch_dice, dice_weight=0.7, cross_entropy_weight=1.3
    )
    theirs = DiceCELoss(
        include_background=include_background,
        to_onehot_y=True,
        softmax=True,
        batch=batch_dice,
        lambda_dice=0.7,
        lambda_ce=1.3,
    )
    torch.testing.assert_close(ours(logits, mask), theirs(logits, mask[:, None]))


def test_of_regions_it_is_dice_and_binary_cross_entropy_of_each_sigmoid(batch):
    logits, mask = batch
    regions = [[1, 2, 3], [2]]
    target = torch.stack([mask > 0, mask == 2], dim=1).float()
    assert torch.equal(region_masks(mask, regions).float(), target)
    expected = DiceLoss(sigmoid=True, batch=True)(logits[:, :2], target) + F.binary_cross_entropy_with_logits(
        logits[:, :2], target
    )
    torch.testing.assert_close(DiceCrossEntropy(regions=regions)(logits[:, :2], mask), expected)


@pytest.mark.parametrize("regions", [None, [[1, 2, 3], [2]]])
def test_ignored_voxels_change_neither_loss_nor_gradient(regions, batch):
    logits, mask = batch
    logits = logits[:, : 2 if regions else 4].clone().requires_grad_()
    mask = mask.to(torch.uint8).clone()
    mask[:, :3] = 255
    loss = DiceCrossEntropy(regions=regions, ignore_label=255)
    value = loss(logits, mask)
    value.backward()
    assert not logits.grad[:, :, :3].any()
    assert logits.grad[:, :, 3:].abs().min() > 0
    kept = DiceCrossEntropy(regions=regions)(logits[:, :, 3:], mask[:, 3:])  # the same as if they were cut off
    torch.testing.assert_close(value, kept)
    mask[:] = 255
    assert torch.isfinite(loss(logits, mask))


def test_outputs_weigh_halves_of_each_other_at_their_own_size(batch):
    logits, mask = batch
    single = DiceCrossEntropy()
    coarse = F.interpolate(logits, size=(3, 3, 4))
    labels = F.interpolate(mask[:, None].float(), size=(3, 3, 4), mode="nearest-exact")[:, 0].long()
    expected = (4 * single(logits, mask) + 2 * single(coarse, labels) + single(logits, mask)) / 7
    torch.testing.assert_close(DeepSupervision(single)([logits, coarse, logits], mask), expected)
    torch.testing.assert_close(DeepSupervision(single)([logits], mask), single(logits, mask))


def test_a_perfect_answer_costs_nothing_and_half_precision_is_summed_in_float(batch):
    _, mask = batch
    logits = 30 * F.one_hot(mask, 4).movedim(-1, 1).float()
    assert DiceCrossEntropy()(logits, mask) < 1e-4
    assert DiceCrossEntropy()(logits.bfloat16(), mask).dtype == torch.float32


def test_affinity_loss_of_perfect_and_opposite_affinities():
    target = torch.tensor([[1, 0], [0, 1]]).expand(500, 2, 2)  # 1000 pairs of each kind
    right = target.float()
    assert affinity_loss(right, target) == 0
    torch.testing.assert_close(affinity_loss(1 - right, target), torch.tensor(1000 / 1001))
    torch.testing.assert_close(affinity_loss(torch.full_like(right, 0.5), target), torch.tensor(500 / 1001))


def test_affinity_loss_parts_weigh_half_each_and_may_be_missing():
    affinity = torch.full((1, 3, 3), 0.25)
    alike = torch.ones(1, 3, 3, dtype=torch.long)
    torch.testing.assert_close(affinity_loss(affinity, alike), torch.tensor(0.5 * 9 * 0.75 / 10))
    torch.testing.assert_close(affinity_loss(affinity, 0 * alike), torch.tensor(0.5 * 9 * 0.25 / 10))
    assert affinity_loss(affinity, 255 * alike) == 0


def test_affinity_loss_ignores_unknown_pairs_in_the_gradient():
    logits = torch.randn(1, 4, 4, requires_grad=True)
    target = torch.full((1, 4, 4), 255)
    target[0, 0, 1], target[0, 2, 3] = 1, 0
    AffinityLoss()(logits, target).backward()
    known = target != 255
    assert (logits.grad[~known] == 0).all()
    assert logits.grad[0, 0, 1] < 0 < logits.grad[0, 2, 3]


def test_segmentation_loss_by_hand():
    logits = torch.zeros(1, 2, 1, 4)
    logits[0, 1, 0, 0] = 2.0
    target = torch.tensor([[[1, 0, 0, 255]]])
    foreground = math.log(1 + math.exp(-2))
    expected = 0.5 * math.log(2) + 0.5 * foreground
    torch.testing.assert_close(balanced_cross_entropy(logits, target), torch.tensor(expected))


def test_segmentation_loss_equals_two_cross_entropies():
    logits, target = torch.randn(3, 4, 9, 9), torch.randint(0, 4, (3, 9, 9))
    target[torch.rand(target.shape) < 0.2] = 255
    background = F.cross_entropy(logits, target.masked_fill(target > 0, 255), ignore_index=255)
    foreground = F.cross_entropy(logits, target.masked_fill(target == 0, 255), ignore_index=255)
    torch.testing.assert_close(BalancedCrossEntropy()(logits, target), (background + foreground) / 2)


@pytest.mark.parametrize("value", [0, 1, 255])
def test_segmentation_loss_is_finite_whatever_is_missing(value):
    logits = torch.randn(2, 2, 4, 4, requires_grad=True)
    target = torch.full((2, 8, 8), value)
    loss = balanced_cross_entropy(logits, target)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    if value == 255:
        assert loss == 0
        assert (logits.grad == 0).all()
    else:
        full = F.cross_entropy(F.interpolate(logits.detach(), scale_factor=2, mode="bilinear"), target)
        torch.testing.assert_close(loss.detach(), full / 2)
        assert (logits.grad[:, value] < 0).all()  # more of the labelled class


def test_segmentation_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    logits = torch.randn(1, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[[0, 1, 255], [2, 0, 0]]])
    loss = balanced_cross_entropy(logits, target)
    (gradient,) = torch.autograd.grad(loss, logits)
    step = torch.zeros_like(logits)
    step[0, 1, 0, 1] = 1e-2
    with torch.no_grad():
        slope = (balanced_cross_entropy(logits + step, target) - balanced_cross_entropy(logits - step, target)) / 2e-2
    torch.testing.assert_close(gradient[0, 1, 0, 1].float(), slope, atol=1e-4, rtol=1e-3)
    assert (gradient[0, :, 0, 2] == 0).all()


def test_multi_label_loss_is_the_soft_margin_loss():
    logits, label = torch.randn(5, 3), torch.randint(0, 2, (5, 3)).float()
    torch.testing.assert_close(MultiLabelLoss()(logits, label), F.multilabel_soft_margin_loss(logits, label))


def test_positive_weight_and_smoothing_by_hand():
    logits, label = torch.zeros(2, 1), torch.tensor([[1.0], [0.0]])
    weighted = MultiLabelLoss(positive_weight=[3.0])(logits, label)
    torch.testing.assert_close(weighted, torch.tensor((3 + 1) / 2 * math.log(2)))
    smooth = MultiLabelLoss(smoothing=0.2)(torch.tensor([[2.0]]), torch.tensor([[1.0]]))
    hit, miss = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    torch.testing.assert_close(smooth, torch.tensor(0.9 * hit + 0.1 * miss))
    with pytest.raises(ConfigError, match="smoothing"):
        MultiLabelLoss(smoothing=1.0)
