"""Stability of maps whose answer to noise and mirrors is known."""

import pytest
import torch
from torch import nn

from seewhy.errors import ConfigError, ExplanationError
from seewhy.explain.base import Attribution, TargetwiseExplainer
from seewhy.explain.judging.controls import IntensityControl
from seewhy.explain.judging.stability import measure_stability


class Ramp(TargetwiseExplainer):
    """Falls from left to right whatever the image."""

    method = "ramp"

    def attribute(self, subject, target, scores):
        images = subject.inputs.items()
        return Attribution(maps={name: torch.arange(x.shape[-1], 0, -1.0).expand(x[:, 0].shape) for name, x in images})


class Mean(nn.Module):
    """Two scores of the mean."""

    def forward(self, x):
        mean = x.flatten(1).mean(dim=1)
        return torch.stack([mean, -mean], dim=1)


IMAGE = torch.randn(3, 1, 12, 14, generator=torch.Generator().manual_seed(0))


def test_a_map_that_moves_with_the_image_is_stable_under_mirrors():
    explainer = IntensityControl()
    found = measure_stability(explainer, Mean(), IMAGE, explainer(Mean(), IMAGE))
    assert list(found.flip) == ["width", "height"]
    assert found.flip["width"] == pytest.approx(torch.ones(3))
    assert found.flip["height"] == pytest.approx(torch.ones(3))


def test_a_map_that_stays_is_the_opposite_mirrored_back():
    explainer = Ramp()
    found = measure_stability(explainer, Mean(), IMAGE, explainer(Mean(), IMAGE))
    assert found.noise == pytest.approx(torch.ones(3))
    assert found.flip["width"] == pytest.approx(-torch.ones(3))
    assert found.flip["height"] == pytest.approx(torch.ones(3))


def test_more_noise_less_likeness_and_none_without():
    explainer = IntensityControl()
    maps = explainer(Mean(), IMAGE)
    noise = [
        measure_stability(explainer, Mean(), IMAGE, maps, noise=size).noise.mean() for size in (0.0, 0.05, 0.5, 5.0)
    ]
    assert noise[0] == pytest.approx(1.0)
    assert noise[0] > noise[1] > 0.98 > noise[2] > noise[3]
    assert abs(noise[3]) < 0.4


def test_noise_is_a_share_of_each_images_own_deviation_and_the_same_in_any_batch():
    explainer = IntensityControl()
    image = IMAGE[:1] * torch.tensor([1.0, 100.0]).reshape(2, 1, 1, 1)
    found = measure_stability(explainer, Mean(), image, explainer(Mean(), image), noise=0.5).noise
    assert float(found[0]) == pytest.approx(float(found[1]), abs=1e-6)


def test_volumes_are_mirrored_in_depth_too():
    explainer = IntensityControl()
    volume = torch.randn(2, 1, 3, 5, 6)
    assert list(measure_stability(explainer, Mean(), volume, explainer(Mean(), volume)).flip) == [
        "width",
        "height",
        "depth",
    ]


def test_several_inputs_keep_their_form():
    class Sum(nn.Module):
        def forward(self, a, b):
            return torch.stack([a.flatten(1).sum(1), b.flatten(1).sum(1)], dim=1)

    explainer = IntensityControl()
    named = {"a": IMAGE, "b": IMAGE[:, :, :5]}
    for inputs in (named, tuple(named.values())):
        found = measure_stability(explainer, Sum(), inputs, explainer(Sum(), inputs))
        assert found.flip["height"] == pytest.approx(torch.ones(3))


class Particular(IntensityControl):
    """Explains images without negative values only."""

    def attribute(self, subject, target, scores):
        if (subject.inputs["image"] < 0).any():
            raise ExplanationError("not this one")
        return super().attribute(subject, target, scores)


def test_a_refused_copy_has_no_likeness():
    explainer, image = Particular(), IMAGE.abs()
    found = measure_stability(explainer, Mean(), image, explainer(Mean(), image))
    assert found.noise.isnan().all()
    assert found.flip["width"] == pytest.approx(torch.ones(3))


def test_bad_options():
    with pytest.raises(ConfigError, match="draw"):
        measure_stability(Ramp(), Mean(), IMAGE, Ramp()(Mean(), IMAGE), draws=0)
