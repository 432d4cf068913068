"""Maps gathered over noisy copies."""

import pytest
import torch

from seewhy.explain import GradCAM, IntegratedGradients, NoiseTunnel, Saliency
from seewhy.explain.gradient.base import draw_step_noise


@pytest.fixture
def single(nets, images):
    """Signed saliency of six noisy copies, one at a time [6, 3, 20, 28]."""
    net = nets.Net()
    copies = [images + draw_step_noise({"image": images}, 4, [step] * 3, 0.3)["image"] for step in range(6)]
    return net, torch.stack([Saliency()(net, copy, target=1).maps["image"] for copy in copies])


@pytest.mark.parametrize(
    ("gather", "of"),
    [
        ("smooth", lambda maps: maps.mean(dim=0)),
        ("square", lambda maps: maps.square().mean(dim=0)),
        ("variance", lambda maps: maps.var(dim=0, correction=0)),
    ],
)
def test_what_is_gathered_is_what_it_says(single, images, gather, of):
    net, maps = single
    tunnel = NoiseTunnel(explainer=Saliency(), gather=gather, samples=6, noise=0.3, seed=4)
    found = tunnel(net, images, target=1)
    torch.testing.assert_close(found.maps["image"], of(maps), rtol=1e-4, atol=1e-7)
    read = found.maps["image"].abs() if gather == "smooth" else found.maps["image"]
    assert torch.equal(found.evidence()["image"], read)


def test_without_noise_it_is_the_explainer(nets, images):
    net = nets.Net()
    inner = GradCAM(layers="features")
    found = NoiseTunnel(explainer=inner, samples=3, noise=0)(net, images)
    plain = inner(net, images)
    torch.testing.assert_close(found.maps, plain.maps)
    torch.testing.assert_close(found.evidence(), plain.evidence())
    assert found.layers == {"image": "features"}
    swings = NoiseTunnel(explainer=inner, gather="variance", samples=3, noise=0)(net, images)
    assert swings.maps["image"].max() < 1e-12


def test_predicted_classes_are_those_of_the_image_not_of_its_noise(nets, images):
    net = nets.Net()
    found = NoiseTunnel(explainer=Saliency(), noise=5.0)(net, images)
    assert torch.equal(found.target, Saliency()(net, images).target)


def test_noise_has_the_images_range_for_its_scale():
    images = torch.linspace(0, 1, 400).reshape(1, 1, 20, 20) * torch.tensor([1.0, 50.0]).reshape(2, 1, 1, 1)
    noise = torch.cat([draw_step_noise({"image": images}, 0, [step] * 2, 0.15)["image"] for step in range(40)])
    torch.testing.assert_close(noise[::2].std(), torch.tensor(0.15), rtol=0.03, atol=0)
    torch.testing.assert_close(noise[1::2], 50 * noise[::2])


def test_names_seeds_and_baselines_are_told(nets, images):
    inner = IntegratedGradients(steps=2)
    tunnel = NoiseTunnel(explainer=inner, samples=2, seed=8)
    found = tunnel(nets.Net(), images)
    assert (found.method, found.seed, found.baseline) == ("smooth_integrated_gradients", 8, inner.baseline)
    assert NoiseTunnel(explainer=inner, name="noise_tunnel_ig").method == "noise_tunnel_ig"
    other = NoiseTunnel(explainer=inner, samples=2, seed=9)(nets.Net(), images)
    assert not torch.allclose(found.maps["image"], other.maps["image"])
