"""Deletion and insertion on modules whose curves are known."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError
from seewhy.explain import GradCAM
from seewhy.explain.budget import MemoryBudget
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.judging.faithfulness import measure_faithfulness
from seewhy.explain.judging.perturbation import fill_image


class Weighted(nn.Module):
    """One score: the weighted sum of all pixels of all inputs."""

    def __init__(self, *weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.ParameterList(weights)

    def forward(self, *images: Tensor) -> Tensor:
        """[B, 1]."""
        return sum((w * x).flatten(1).sum(dim=1) for w, x in zip(self.weights, images, strict=True))[:, None]


def curve_by_hand(contributions: np.ndarray, evidence: np.ndarray, steps: int) -> np.ndarray:
    """Probabilities of class 1 while the pixels of highest evidence are set to 0."""
    order = np.argsort(-evidence)
    gone = [order[: round(len(order) * step / steps)] for step in range(steps + 1)]
    return np.array([1 / (1 + np.exp(-np.delete(contributions, rows).sum())) for rows in gone])


@pytest.fixture
def weights():
    return torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(0)) * 0.3


@pytest.fixture
def image():
    return torch.rand(3, 1, 6, 8, generator=torch.Generator().manual_seed(1)) + 0.5


@pytest.mark.parametrize("steps", [1, 2, 7, 10])
def test_curves_are_those_made_by_hand(maps_of, weights, image, steps):
    evidence = torch.rand(3, 6, 8, generator=torch.Generator().manual_seed(2))
    maps = maps_of(image=evidence, target=torch.ones(3, dtype=torch.long))
    found = measure_faithfulness(Weighted(weights), image, maps, steps=steps, fill="zero")
    for row in range(3):
        parts, order = (image[row] * weights).flatten().double().numpy(), evidence[row].flatten().numpy()
        curve = curve_by_hand(parts, order, steps)
        assert found.deletion_curve[row].numpy() == pytest.approx(curve, abs=1e-5)
        assert float(found.deletion[row]) == pytest.approx(np.trapezoid(curve, dx=1 / steps), abs=1e-5)
        back = curve_by_hand(parts, -order, steps)[::-1]
        assert found.insertion_curve[row].numpy() == pytest.approx(back, abs=1e-5)
    assert found.fill == "zero"


def test_the_true_map_beats_chance_and_its_inverse_loses(maps_of, weights, image):
    true = image[:, 0] * weights
    target = torch.ones(3, dtype=torch.long)
    module = Weighted(weights)
    shifted = true - true.min()  # the whole order counts, not the positive part alone
    good = measure_faithfulness(module, image, maps_of(image=shifted, target=target), fill="zero").gaps()
    bad = measure_faithfulness(module, image, maps_of(image=shifted.max() - shifted, target=target), fill="zero").gaps()
    for name in good:
        assert (good[name] > 0).all(), name
        assert (bad[name] < 0).all(), name


def test_no_order_of_the_pixels_beats_the_true_one(maps_of, weights, image):
    target = torch.ones(3, dtype=torch.long)
    true = image[:, 0] * weights
    best = measure_faithfulness(Weighted(weights), image, maps_of(image=true - true.min(), target=target), fill="zero")
    for seed in range(5):
        other = torch.rand(true.shape, generator=torch.Generator().manual_seed(seed))
        found = measure_faithfulness(
            Weighted(weights), image, maps_of(image=other, target=target), fill="zero", draws=1
        )
        assert (found.deletion >= best.deletion).all()
        assert (found.insertion <= best.insertion).all()


def test_random_maps_are_at_the_level_of_chance(maps_of, weights):
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(64, 1, 6, 8, generator=generator) + 0.5
    maps = maps_of(image=torch.rand(64, 6, 8, generator=generator), target=torch.ones(64, dtype=torch.long))
    gaps = measure_faithfulness(Weighted(weights), images, maps, draws=20, fill="zero").gaps()
    for name in ("deletion_gap", "insertion_gap"):
        error = float(gaps[name].std()) / 8
        assert abs(float(gaps[name].mean())) < 4 * error, name


def test_chunks_and_batches_change_nothing(trained, cases):
    maps = GradCAM(layers="features.10")(trained, cases.image)
    whole = measure_faithfulness(trained, cases.image, maps, budget=MemoryBudget("1GiB"))
    assert MemoryBudget("300KiB").forward_rows(ExplainedModel(trained, cases.image)) in (2, 3, 4, 5)
    small = measure_faithfulness(trained, cases.image, maps, budget=MemoryBudget("300KiB"))
    single = measure_faithfulness(trained, cases.image[2:3], maps[2])
    for name in ("deletion", "insertion", "random", "blurred"):
        assert getattr(small, name) == pytest.approx(getattr(whole, name), abs=1e-5)
        assert float(getattr(single, name)[0]) == pytest.approx(float(getattr(whole, name)[2]), abs=1e-5)


def test_a_trained_networks_map_beats_both_levels(trained, cases):
    maps = GradCAM(layers="features.10")(trained, cases.image)
    gaps = measure_faithfulness(trained, cases.image, maps).gaps()
    assert gaps["insertion_gap"].mean() > 0.05
    assert gaps["insertion_gap_blurred"].mean() > 0.05


def test_inputs_share_one_order(maps_of):
    # The second input's pixels count ten times as much; a map that knows goes there first.
    a, b = torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 6)
    module = Weighted(torch.full((1, 2, 2), 0.05), torch.full((1, 2, 6), 0.5))
    maps = maps_of(input_0=torch.full((1, 2, 2), 0.05), input_1=torch.full((1, 2, 6), 0.5), target=torch.tensor([1]))
    noisy = (a + 0.001 * torch.rand(a.shape), b + 0.001 * torch.rand(b.shape))
    found = measure_faithfulness(module, noisy, maps, steps=16, fill="zero")
    expected = torch.tensor([0.2 + 0.5 * left for left in (12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)]).sigmoid()
    assert found.deletion_curve[0, :13] == pytest.approx(expected, abs=1e-2)


def test_missing_inputs_neither_help_nor_harm(maps_of, weights, image):
    target = torch.ones(3, dtype=torch.long)
    module = Weighted(weights, torch.ones(1, 6, 8))
    evidence = torch.rand(3, 6, 8, generator=torch.Generator().manual_seed(2))
    maps = maps_of(input_0=evidence, input_1=torch.full((3, 6, 8), 9.0), target=target)
    found = measure_faithfulness(module, (image, torch.zeros(3, 1, 6, 8)), maps, fill="zero", steps=12)
    alone = measure_faithfulness(Weighted(weights), image, maps_of(image=evidence, target=target), fill="zero", steps=6)
    # Twice the pixels, the second half of them without effect.
    assert found.deletion_curve[:, :7] == pytest.approx(alone.deletion_curve, abs=1e-6)
    assert found.deletion_curve[:, 7:] == pytest.approx(alone.deletion_curve[:, 6:].expand(-1, 6), abs=1e-6)


def test_volumes(maps_of):
    weights = torch.rand(1, 3, 4, 5)
    image = torch.rand(2, 1, 3, 4, 5) + 0.1
    maps = maps_of(image=image[:, 0] * weights, target=torch.ones(2, dtype=torch.long))
    flat = maps_of(image=(image[:, 0] * weights).flatten(1)[:, None], target=torch.ones(2, dtype=torch.long))
    found = measure_faithfulness(Weighted(weights), image, maps, fill="zero")
    planar = measure_faithfulness(Weighted(weights.reshape(1, 1, 60)), image.reshape(2, 1, 1, 60), flat, fill="zero")
    assert torch.equal(found.deletion, planar.deletion)
    assert torch.equal(found.random, planar.random)


def test_fills():
    image = torch.rand(2, 3, 9, 10)
    assert fill_image(image, "zero").abs().max() == 0
    mean = fill_image(image, "mean")
    assert mean.shape == image.shape
    assert mean[1, 2].unique() == pytest.approx(image[1, 2].mean().item())
    blur = fill_image(image, "blur")
    assert blur.mean(dim=(2, 3)) == pytest.approx(image.mean(dim=(2, 3)), abs=1e-5)
    assert blur.std() < image.std() / 2


def test_bad_options_are_told(maps_of, weights, image):
    maps = maps_of(image=image[:, 0])
    with pytest.raises(ConfigError, match="nearest: 'blur'"):
        measure_faithfulness(Weighted(weights), image, maps, fill="blurr")
    with pytest.raises(ConfigError, match="steps=0"):
        measure_faithfulness(Weighted(weights), image, maps, steps=0)
