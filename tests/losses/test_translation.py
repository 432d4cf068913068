"""Losses of unpaired translation: known values, and that each weight counts."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchmetrics.functional.image import structural_similarity_index_measure

from seewhy.errors import ConfigError
from seewhy.losses.translation import (
    TERMS,
    AdversarialLoss,
    PatchNCELoss,
    TranslationLoss,
    absolute_difference,
    foreground_mean,
    gradient_difference,
    structural_dissimilarity,
)


def test_adversarial_losses_by_hand():
    real, fake = (
        [torch.tensor([[[[2.0, 0.5]]]]), torch.tensor([[[[1.0]]]])],
        [torch.zeros(1, 1, 1, 2), -torch.ones(1, 1, 1, 1)],
    )
    lsgan, hinge = AdversarialLoss("lsgan"), AdversarialLoss("hinge")
    assert lsgan.generator(fake) == pytest.approx((1 + 4) / 2)
    assert lsgan.discriminator(real, fake) == pytest.approx(((1 + 0.25) / 2 + 0 + (0 + 1)) / 2)
    assert hinge.generator(fake) == pytest.approx((0 + 1) / 2)
    assert hinge.discriminator(real, fake) == pytest.approx((0.25 + 1 + 0 + 0) / 2)
    with pytest.raises(ConfigError, match="adversarial='lsgans' is unknown; nearest: 'lsgan'"):
        AdversarialLoss("lsgans")


def test_every_scale_counts_the_same():
    fine, coarse = torch.zeros(1, 1, 30, 30), torch.full((1, 1, 2, 2), 3.0)
    assert AdversarialLoss().generator([fine, coarse]) == pytest.approx((1 + 4) / 2)


@pytest.fixture
def pair():
    random = torch.Generator().manual_seed(4)
    return torch.rand(2, 3, 20, 24, generator=random) * 2 - 1, torch.rand(2, 3, 20, 24, generator=random) * 2 - 1


@pytest.fixture
def foreground():
    mask = torch.zeros(2, 1, 20, 24, dtype=torch.bool)
    mask[0, :, 5:15, 6:18] = True
    mask[1, :, 8:9, 3:4] = True
    return mask


def test_only_the_foreground_counts(pair, foreground):
    image, target = pair
    by_hand = (image - target).abs()[foreground.expand_as(image)].mean()
    assert absolute_difference(image, target, foreground) == pytest.approx(by_hand.item())
    assert absolute_difference(image, target) == pytest.approx((image - target).abs().mean().item())
    spoiled = torch.where(foreground, image, torch.nan)
    assert absolute_difference(spoiled, target, foreground) == pytest.approx(by_hand.item())
    nothing = torch.zeros_like(foreground)
    for loss in (absolute_difference, structural_dissimilarity, gradient_difference):
        image.requires_grad_().grad = None
        value = loss(image, target, nothing)
        value.backward()
        assert value == 0
        assert not image.grad.any()


def test_ssim_by_its_formula(pair):
    """In numpy, of values counted from the darkest one; away from edges, which are padded."""
    image, target = pair
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2
    x, y = (one[0, 0].double().numpy() + 1 for one in pair)
    x, y = (one[4:15, 7:18] for one in (x, y))  # the window around pixel (9, 12)
    mean_x, mean_y = (window * x).sum(), (window * y).sum()
    var_x, var_y = (window * (x - mean_x) ** 2).sum(), (window * (y - mean_y) ** 2).sum()
    cov = (window * (x - mean_x) * (y - mean_y)).sum()
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    expected = (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    here = torch.zeros(2, 1, 20, 24, dtype=torch.bool)
    here[0, 0, 9, 12] = True
    found = structural_dissimilarity(image[:, :1], target[:, :1], here)
    assert found.item() == pytest.approx(1 - expected, abs=1e-5)
    whole = 1 - structural_similarity_index_measure(image + 1, target + 1, data_range=2.0)
    assert structural_dissimilarity(image, target).item() == pytest.approx(whole.item(), abs=1e-6)


def test_ssim_does_not_depend_on_where_values_begin(pair):
    image, target = ((one + 1) / 2 for one in pair)
    found = structural_dissimilarity(image, target, value_range=(0.0, 1.0))
    assert found.item() == pytest.approx(structural_dissimilarity(*pair).item(), abs=1e-5)
    assert structural_dissimilarity(image, image, value_range=(0.0, 1.0)).item() == pytest.approx(0, abs=1e-6)


def test_slopes_of_a_ramp():
    rows, columns = torch.meshgrid(torch.arange(10.0), torch.arange(12.0), indexing="ij")
    ramp = (3 * rows + 0.5 * columns).expand(1, 2, 10, 12)
    inner = torch.zeros(1, 1, 10, 12, dtype=torch.bool)
    inner[..., 1:-1, 1:-1] = True
    flat = torch.full_like(ramp, 7.0)
    assert gradient_difference(ramp, flat, inner).item() == pytest.approx((3 + 0.5) / 2)
    assert gradient_difference(ramp, ramp + 4) == 0  # a shift has no slope
    assert foreground_mean(ramp, inner).item() == pytest.approx(3 * 4.5 + 0.5 * 5.5)


def test_slopes_are_sobels():
    torch.manual_seed(2)
    image, target = torch.randn(2, 3, 7, 9), torch.randn(2, 3, 7, 9)
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    padded = F.pad(image - target, (1, 1, 1, 1), mode="replicate").flatten(0, 1)[:, None]
    expected = F.conv2d(padded, torch.stack([across, across.T])[:, None]).abs().mean()
    torch.testing.assert_close(gradient_difference(image, target), expected)


def test_patch_nce_by_hand():
    eye = torch.eye(4)[None]
    low = PatchNCELoss(temperature=0.5)([eye], [eye])
    assert low.item() == pytest.approx(math.log(math.exp(2) + 3) - 2)
    swapped = PatchNCELoss(temperature=0.5)([eye, eye], [eye, eye.flip(1)])
    assert swapped.item() == pytest.approx((low.item() + math.log(math.exp(2) + 3)) / 2)
    query, key = (torch.randn(2, 5, 3, requires_grad=True) for _ in range(2))
    PatchNCELoss()([query], [key]).backward()
    assert key.grad is None
    assert query.grad.abs().sum() > 0
    with pytest.raises(ConfigError, match="temperature=0 must be above 0"):
        PatchNCELoss(temperature=0)


def parts():
    random = torch.Generator().manual_seed(2)
    images = {name: torch.rand(1, 2, 16, 16, generator=random) for name in ("real", "reconstruction", "identity")}
    vectors = [torch.nn.functional.normalize(torch.randn(1, 6, 4, generator=random), dim=2) for _ in range(2)]
    scores = [torch.randn(1, 1, 3, 3, generator=random)]
    return {**images, "scores": scores, "patches": ([vectors[0]], [vectors[1]])}


@pytest.mark.parametrize("name", TERMS)
def test_each_weight_is_used(name):
    given = parts()
    everything = TranslationLoss(weights=dict.fromkeys(TERMS, 1.0))
    terms = everything(**given)
    assert tuple(terms) == TERMS
    assert everything.total(terms).item() == pytest.approx(sum(term.item() for term in terms.values()), rel=1e-6)
    doubled = TranslationLoss(weights={**dict.fromkeys(TERMS, 1.0), name: 3.0})
    more = doubled.total(doubled(**given)) - everything.total(terms)
    assert more.item() == pytest.approx(2 * terms[name].item(), rel=1e-4, abs=1e-5)
    assert abs(terms[name].item()) > 1e-3
    alone = TranslationLoss(weights={name: 2.0})
    assert alone.needs(name)
    assert not alone.needs(*(other for other in TERMS if other != name))
    needed = {"adversarial": "scores", "identity": "identity", "nce": "patches"}.get(name, "reconstruction")
    only = {"real": given["real"], needed: given[needed]}
    assert alone.total(alone(**only)).item() == pytest.approx(2 * terms[name].item(), rel=1e-5)
    with pytest.raises(ConfigError, match=f"model.losses.weights.{name}=0"):
        alone(real=given["real"])


@pytest.mark.parametrize("name", ["cycle", "identity", "ssim", "gradient"])
def test_the_mask_reaches_each_likeness(name):
    given = parts()
    foreground = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    foreground[..., 4:9, 4:9] = True
    loss = TranslationLoss(weights={name: 1.0})
    assert loss(**given, foreground=foreground)[name] != loss(**given)[name]


def test_adversarial_kind_and_range_are_used():
    given = parts()
    kinds = [TranslationLoss(weights={"adversarial": 1}, adversarial=kind)(**given) for kind in ("lsgan", "hinge")]
    assert kinds[0]["adversarial"] != kinds[1]["adversarial"]
    ranges = [TranslationLoss(weights={"ssim": 1}, value_range=one)(**given) for one in ([-1, 1], [0, 1])]
    assert ranges[0]["ssim"] != ranges[1]["ssim"]
    warm = [TranslationLoss(weights={"nce": 1}, temperature=one)(**given) for one in (0.07, 1.0)]
    assert warm[0]["nce"] != warm[1]["nce"]


def test_mistakes_are_named_all_at_once():
    with pytest.raises(ConfigError) as caught:
        TranslationLoss(weights={"cycel": 10, "ssim": -1}, value_range=(1, 0))
    for words in ("weights.cycel; nearest: 'cycle'", "weights.ssim=-1 must be 0 or more", r"[1, 0]"):
        assert words in str(caught.value)
    with pytest.raises(ConfigError, match="all 0: there is nothing to learn"):
        TranslationLoss(weights={"cycle": 0})
    with pytest.raises(ConfigError, match="'tumour'"):
        TranslationLoss(weights={"cycle": 1}).needs("tumour")


def test_losses_are_full_precision_under_autocast():
    given = {
        name: value.bfloat16().float() if name in ("real", "reconstruction", "identity") else value
        for name, value in parts().items()
    }
    loss = TranslationLoss(weights=dict.fromkeys(TERMS, 1.0))
    expected = loss(**given)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(**given)
    for name in TERMS:
        assert found[name].dtype == torch.float32
        assert found[name].item() == pytest.approx(expected[name].item(), rel=1e-6)
