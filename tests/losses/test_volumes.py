import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss
from torch.nn import functional as F

from seewhy.losses.volumes import DeepSupervision, DiceCrossEntropy, region_masks


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
