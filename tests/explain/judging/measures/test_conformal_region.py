"""Regions that keep the prediction: known answers, and the coverage that they promise."""

import numpy as np
import pytest
import torch
from scipy import stats
from tests.explain.judging.conftest import rings_and_disks
from torch import nn

from seewhy.errors import ConfigError
from seewhy.explain import GradCAM, Maps
from seewhy.explain.judging import ConformalRegion, calibrate_region, make_controls, measure_sufficient_share


class Threshold(nn.Module):
    """Class 1 if the sum of the pixels is above a half."""

    def forward(self, *images):
        return sum(image.flatten(1).sum(dim=1) for image in images)[:, None] - 0.5


def given(**values):
    count = len(next(iter(values.values())))
    return Maps(method="given", maps=values, target=torch.ones(count, dtype=torch.long), probability=torch.ones(count),
                scores=torch.ones(count, 1))  # fmt: skip


@pytest.mark.parametrize("shape", [(4, 5), (2, 5, 4)])
def test_the_share_up_to_the_pixel_that_decides(shape):
    image = torch.zeros(2, 1, *shape)
    image.flatten(1)[0, 7] = image.flatten(1)[1, 3] = 1
    order = torch.arange(image[0].numel(), 0, -1.0).reshape(1, *shape).expand(2, *shape)
    shares = measure_sufficient_share(Threshold(), image, given(image=order), fill="zero", steps=image[0].numel())
    assert shares.tolist() == pytest.approx([8 / image[0].numel(), 4 / image[0].numel()])
    region = ConformalRegion(share=float(shares[0]), coverage=0.9, patients=9).select(given(image=order))
    assert region["image"].flatten(1).sum(dim=1).tolist() == [8, 8]
    assert bool(region["image"].flatten(1)[0, 7])


def test_a_share_counts_only_if_no_larger_one_loses_the_class():
    """One pixel gives the class, the second takes it away, the last two give it back."""
    image = torch.tensor([1.0, -2.0, 1.0, 1.0]).reshape(1, 1, 1, 4)
    maps = given(image=torch.tensor([4.0, 3.0, 2.0, 1.0]).reshape(1, 1, 4))
    assert measure_sufficient_share(Threshold(), image, maps, fill="zero", steps=4).tolist() == [1.0]


def test_pixels_of_several_inputs_share_one_order():
    first, second = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 1, 4)
    second[..., 1] = 1
    maps = given(input_0=torch.full((1, 2, 2), 0.1), input_1=torch.tensor([[[0.5, 0.9, 0.4, 0.3]]]))
    shares = measure_sufficient_share(Threshold(), (first, second), maps, fill="zero", steps=8)
    assert shares.tolist() == [1 / 8]


def test_the_rank_of_the_calibration():
    names = [str(number) for number in range(19)]
    shares = [number / 20 for number in range(1, 20)]
    assert calibrate_region(shares, names, alpha=0.1).share == pytest.approx(18 / 20)  # ⌈20 · 0.9⌉ of 19
    assert calibrate_region(shares[:8], names[:8], alpha=0.1).share == 1  # eight patients cannot promise 90 %
    assert calibrate_region([0.2, 0.9], ["a", "a"], alpha=0.5).share == 0.9
    for wrong in ({"alpha": 1.0}, {"alpha": 0.0}):
        with pytest.raises(ConfigError, match="alpha"):
            calibrate_region(shares, names, **wrong)


@pytest.mark.slow
def test_coverage_over_resplits_of_phantoms_and_size_beside_the_controls(trained):
    """200 splits of 200 phantoms: as often outside the interval of its distribution as it must be at most."""
    images = rings_and_disks(200, seed=11).image
    sizes, rng = {}, np.random.default_rng(0)
    for method in (GradCAM(layers="features"), *make_controls()):
        shares = measure_sufficient_share(trained, images, method(trained, images), steps=25).numpy()
        low = stats.betabinom(100, 91, 10).ppf(0.025)  # ⌈101 · 0.9⌉ = 91 of 100 calibration patients
        hits, chosen = [], []
        for _ in range(200):
            order = rng.permutation(200)
            region = calibrate_region(shares[order[:100]], [str(row) for row in order[:100]], alpha=0.1)
            hits.append(int((shares[order[100:]] <= region.share).sum()))
            chosen.append(region.share)
        assert np.mean(hits) / 100 >= 0.9
        assert np.mean(np.array(hits) < low) <= 0.05
        sizes[method.method] = float(np.mean(chosen))
    assert sizes["grad_cam"] < min(size for name, size in sizes.items() if name.startswith("control_")), sizes
