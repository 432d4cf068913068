"""Distances of sets: on a line exactly, over directions with known means, and of patches."""

import pytest
import torch
from scipy.stats import wasserstein_distance

from seewhy.metrics.translation.sliced_wasserstein import (
    TranslationDistance,
    draw_patches,
    random_directions,
    sliced_wasserstein,
    wasserstein,
)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (7, 7), (7, 11), (12, 8), (1, 5), (64, 3)])
def test_on_a_line_it_is_the_exact_distance(n, m):
    random = torch.Generator().manual_seed(n * 100 + m)
    first, second = torch.randn(3, n, generator=random), torch.randn(3, m, generator=random) * 2 + 1
    expected = [wasserstein_distance(a.double(), b.double()) for a, b in zip(first, second, strict=True)]
    torch.testing.assert_close(wasserstein(first, second).double(), torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_it_is_a_distance():
    random = torch.Generator().manual_seed(0)
    a, b, c = (torch.randn(40, 6, generator=random) * scale for scale in (1, 2, 3))
    assert sliced_wasserstein(a, a) == 0.0
    assert sliced_wasserstein(a, a[torch.randperm(40)]) == pytest.approx(0.0, abs=1e-6)
    assert sliced_wasserstein(a, b) == sliced_wasserstein(b, a)
    assert sliced_wasserstein(a, c) <= sliced_wasserstein(a, b) + sliced_wasserstein(b, c)


def test_a_shift_counts_by_its_projections():
    """Of a shifted set, the distance along a direction is the shift's component, whose mean is known."""
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    shift = torch.tensor([3.0, 0.0, 4.0])
    ways = random_directions(3, 256)
    assert sliced_wasserstein(x, x + shift) == pytest.approx(float((shift @ ways).abs().mean()), rel=1e-4)
    # mean |cos| over the sphere is 1/2
    assert sliced_wasserstein(x, x + shift, projections=20_000) == pytest.approx(5 / 2, rel=0.02)
    torch.testing.assert_close(ways.norm(dim=0), torch.ones(256))


def test_patches_are_cut_around_voxels_of_tissue():
    image = torch.arange(2 * 3 * 16 * 16, dtype=torch.float32).reshape(2, 3, 16, 16)
    body = torch.zeros(2, 16, 16, dtype=torch.bool)
    body[1, 0, 5] = True
    fine, coarse = draw_patches(image, body, count=4, side=3, levels=2)
    assert fine.shape == coarse.shape == (4, 27)
    around = torch.full((3, 3, 3), -1.0)  # beyond the border is background
    around[:, 1:] = image[1, :, 0:2, 4:7]
    assert all(torch.equal(patch, around.flatten()) for patch in fine)
    halved = image[1].unflatten(1, (8, 2)).unflatten(3, (8, 2)).mean((2, 4))
    assert torch.equal(coarse[0].view(3, 3, 3)[:, 1, 1], halved[:, 0, 2])
    assert [len(patches) for patches in draw_patches(image, body & False)] == [0, 0, 0]


def test_places_depend_on_tissue_and_seed_alone():
    image, body = torch.rand(2, 4, 12, 12), torch.rand(2, 12, 12) > 0.3
    one, other = (draw_patches(value, body, count=32) for value in (image, image * 2))
    for a, b in zip(one, other, strict=True):
        inside = b != -1
        torch.testing.assert_close((a * 2)[inside], b[inside])
    assert not torch.equal(draw_patches(image, body, count=32, seed=1)[0], one[0])


def scan(number, *, gain=1.0):
    random = torch.Generator().manual_seed(number)
    return torch.rand(3, 4, 24, 24, generator=random) * gain - 1, torch.ones(3, 24, 24, dtype=torch.bool)


def test_the_share_is_1_for_the_identity_and_small_for_what_is_right():
    distance = TranslationDistance()
    for number in range(2):
        bright, body = scan(number)
        dark, _ = scan(number + 10, gain=0.5)
        distance.update(bright, (bright + 1) * 0.5 - 1, body, domain="a", subject=f"A{number}")
        distance.update(dark, dark, body, domain="b", subject=f"B{number}")
        distance.update(dark, None, body, domain="b", subject=f"B{number}")  # comes twice, counts once
    found = distance.compute()
    assert set(found) == {"a2b"}
    assert found["a2b"] < 0.1
    distance.update(dark, dark, body, domain="b", subject="B1")
    assert distance.compute()["b2a"] == 1.0
    distance.reset()
    assert distance.compute() == {}
    distance.update(bright, bright, body, domain="a", subject="A")
    assert distance.compute() == {}  # nothing real of b
