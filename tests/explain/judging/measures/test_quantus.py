"""Values of Quantus 0.6.0 for the same maps, recorded by quantus_answers.py."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.explain.judging.measures.quantus_answers import ANSWERS, CASES, make_case
from torch import nn

from seewhy.explain import Maps, Saliency, judging

KNOWN = json.loads(Path(ANSWERS).read_text())


def prepare(name, *, signed=False):
    net, image, values, mask, target = make_case(*CASES[name])
    given = torch.from_numpy(values)
    with torch.no_grad():
        scores = net(torch.from_numpy(image))
    maps = Maps(method="given", maps={"image": given if signed else given.abs()}, target=torch.from_numpy(target),
                probability=torch.ones(4), scores=scores)  # fmt: skip
    return net, torch.from_numpy(image), maps, torch.from_numpy(mask)


def same(found, name, key, *, rtol=1e-5):
    np.testing.assert_allclose(np.asarray(found), np.asarray(KNOWN[name][key]), rtol=rtol, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_curves(name):
    net, image, maps, _ = prepare(name)
    same(judging.measure_region_perturbation(net, image, maps, patch=4, most=5), name, "region_perturbation")
    same(judging.measure_selectivity(net, image, maps, patch=4), name, "selectivity")


@pytest.mark.parametrize("name", CASES)
def test_maps_alone(name):
    _, _, maps, mask = prepare(name)
    same(judging.compute_sparseness(maps), name, "sparseness")
    same(judging.compute_complexity(maps), name, "complexity")
    same(judging.compute_effective_complexity(maps, eps=0.3), name, "effective_complexity")
    same(judging.compute_sufficiency(maps, threshold=0.9), name, "sufficiency")
    same(judging.compute_top_k_intersection(maps, mask, k=20), name, "top_k_intersection")
    same(judging.compute_relevance_rank_accuracy(maps, mask), name, "relevance_rank_accuracy")
    same(judging.compute_relevance_mass_accuracy(maps, mask), name, "relevance_mass_accuracy")


def test_infidelity_and_sensitivity_n():
    net, image, maps, _ = prepare("even", signed=True)
    same(judging.measure_infidelity(net, image, maps, patch=4), "even", "infidelity")
    found = judging.measure_sensitivity_n_over_batch(net, image, maps, features_in_step=4)
    same(found, "even", "sensitivity_n")


def test_monotonicity_of_quantus_is_constant():
    """It replaces pixels of the filled image by the fill, so ours, which restores pixels, must differ."""
    net, image, maps, _ = prepare("even")
    assert KNOWN["even"]["monotonicity"] == [True] * 4
    assert judging.measure_monotonicity(net, image, maps, features_in_step=4).tolist() == [False] * 4


def test_measures_that_explain_again():
    net, image, _, _, target = make_case(*CASES["even"])
    image, target, method = torch.from_numpy(image), torch.from_numpy(target), Saliency()
    maps = method(net, image, target)
    others = torch.tensor(KNOWN["explained"]["others"])
    same(judging.measure_random_logit(method, net, image, maps, others=others), "explained", "random_logit", rtol=1e-4)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()
    for parameter in linear.parameters():
        parameter.data = torch.from_numpy(np.random.RandomState(3).randn(*parameter.shape).astype(np.float32))
    maps = method(linear, image, target)
    # Quantus seeds each layer with seed + 1; of a single layer that gives the same weights.
    same(judging.measure_efficient_mprt(method, linear, image, maps, seed=7), "explained", "efficient_mprt")
    same(judging.measure_smooth_mprt(method, linear, image, maps, samples=1, seed=7), "explained", "smooth_mprt")


class Replay(Saliency):
    """The gradient at an image with the next given noise."""

    def __init__(self, image, noise):
        super().__init__()
        self.image, self.noise = image, iter(noise)

    def __call__(self, module, inputs, target=None):
        return super().__call__(module, self.image + next(self.noise), target)


def test_max_sensitivity():
    net, image, _, _, target = make_case(*CASES["even"])
    image, target = torch.from_numpy(image), torch.from_numpy(target)
    noise = np.random.RandomState(5).uniform(-0.1, 0.1, (3, *image.shape)).astype(np.float32)
    maps = Saliency()(net, image, target)
    found = judging.measure_max_sensitivity(Replay(image, torch.from_numpy(noise)), net, image, maps, draws=3)
    same(found, "explained", "max_sensitivity")
