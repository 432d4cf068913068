"""Gradient methods against Captum, and what must not change them."""

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn

import seewhy.explain as explain
from seewhy.errors import ConfigError

CLASSES = ["Saliency", "InputXGradient", "IntegratedGradients", "GradientSHAP", "DeepLift", "Occlusion", "NoiseTunnel"]


def build(name, **options):
    if name == "NoiseTunnel":
        options = {"explainer": explain.Saliency(), "noise": 0.2, "samples": 5, **options}
    if name == "Occlusion":
        options = {"window": 9, **options}
    if name == "GradientSHAP":
        options = {"samples": 7, "noise": 0.1, **options}
    return getattr(explain, name)(**options)


def random_state():
    return np.random.get_state()[1].copy()  # noqa: NPY002


def summed(attribution):
    return attribution.detach().sum(dim=1)


@pytest.mark.parametrize("axes", [2, 3])
def test_maps_equal_captums(nets, axes):
    net = nets.Net(axes, channels=2).eval()
    image = torch.randn(3, 2, *[12] * axes)
    target = [2, 0, 1]
    peers = {
        "Saliency": captum.attr.Saliency(net).attribute(image, target=target, abs=False),
        "InputXGradient": captum.attr.InputXGradient(net).attribute(image, target=target),
        "IntegratedGradients": captum.attr.IntegratedGradients(net).attribute(image, 0.5, target=target, n_steps=20),
    }
    options = {"IntegratedGradients": {"steps": 20, "baseline": 0.5}}
    for name, peer in peers.items():
        ours = build(name, **options.get(name, {}))(net, image, target=target)
        torch.testing.assert_close(ours.maps["image"], summed(peer), rtol=1e-5, atol=1e-6)
        assert ours.maps["image"].abs().max() > 1e-3
    strength = build("Saliency")(net, image, target=target).evidence()["image"]
    torch.testing.assert_close(strength, peers["Saliency"].abs().amax(dim=1), rtol=1e-5, atol=1e-6)


def test_several_inputs_in_one_pass_equal_captums(nets, three):
    net = nets.Branches().eval()
    lowest = tuple(one.amin(dim=(2, 3), keepdim=True).expand_as(one) for one in three.values())
    peer = captum.attr.IntegratedGradients(net).attribute(tuple(three.values()), lowest, 3, n_steps=9)
    ours = explain.IntegratedGradients(steps=9)(net, three, target=3)
    for name, one in zip(three, peer, strict=True):
        torch.testing.assert_close(ours.maps[name], summed(one), rtol=1e-5, atol=1e-6)
    assert ours.baseline == "the lowest value of each image and channel"


def test_gradient_shap_is_the_mean_of_captums_integrated_gradients_from_each_baseline(nets, images):
    net = nets.Net().eval()
    peer = captum.attr.IntegratedGradients(net)
    every = [
        peer.attribute(images, torch.full_like(images, value), target=1, n_steps=steps)
        for value, steps in ((0.2, 6), (0.7, 5))
    ]
    ours = explain.GradientSHAP(samples=11, baselines=[0.2, 0.7])(net, images, target=1)
    torch.testing.assert_close(ours.maps["image"], summed(sum(every) / 2), rtol=1e-5, atol=1e-6)
    with pytest.raises(ConfigError, match="samples=1 for 2 baselines"):
        explain.GradientSHAP(samples=1, baselines=[0.2, 0.7])


def test_gradient_shap_is_complete_or_says_how_many_points_it_needs(nets, images):
    net = nets.Net().eval()
    few = explain.GradientSHAP(samples=3)(net, 20 * images, target=0)
    assert few.completeness.max() > 0.05
    worst = float(few.completeness.max())
    needed = int(few.notes[0].split("samples=")[1].split()[0])
    assert 3 * worst / 0.05 <= needed < 6 * worst / 0.05
    many = explain.GradientSHAP(samples=96)(net, images, target=0)
    assert many.completeness.max() < 0.05
    assert many.notes == ()


def test_noise_of_gradient_shap_is_its_own_at_each_point(nets, images):
    net = nets.Net().eval()
    plain, noisy, again = (
        explain.GradientSHAP(samples=6, noise=noise)(net, images, target=1).maps["image"] for noise in (0, 0.2, 0.2)
    )
    assert torch.equal(noisy, again)
    assert not torch.allclose(noisy, plain, rtol=1e-2)


@pytest.mark.parametrize("most", [0, 1e9])
def test_sums_at_the_first_convolution_equal_those_at_the_image(most, monkeypatch):
    """An image that is read by two convolutions, and directly: every part of its gradient counts."""
    from seewhy.explain.gradient import base

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.first = nn.Conv2d(1, 3, 3, stride=2, padding=1)
            self.second = nn.Conv2d(1, 2, 5, padding=2, bias=False)

        def forward(self, image):
            first = nn.functional.relu(self.first(image), inplace=True)
            second = self.second(image).tanh() * image
            return torch.cat([first.mean((2, 3)), second.square().sum((2, 3))], dim=1)

    used = []
    real = base.DeferringMode
    monkeypatch.setattr(base, "DeferringMode", lambda leaves, **_: used.append(real(leaves, most=most)) or used[-1])
    net, image = Net().eval(), torch.rand(3, 1, 9, 8)
    target = [0, 3, 4]
    ours = explain.IntegratedGradients(steps=7, baseline=0.0)(net, image, target=target)
    peer = captum.attr.IntegratedGradients(net).attribute(image, target=target, n_steps=7)
    torch.testing.assert_close(ours.maps["image"], summed(peer), rtol=1e-5, atol=1e-6)
    assert [len(mode.stems) for mode in used] == [2 if most else 0]


def test_integrated_gradients_add_up_and_more_steps_do_so_better(nets, images):
    net = nets.Net()
    few = explain.IntegratedGradients(steps=2)(net, images, target=0)
    some = explain.IntegratedGradients(steps=2, stop_below=0.005)(net, images, target=0)
    with torch.no_grad():
        gain = net.eval()(images)[:, 0] - net(images.amin(dim=(2, 3), keepdim=True).expand_as(images))[:, 0]
    missed = (few.maps["image"].sum(dim=(1, 2)) - gain).abs() / gain.abs()
    torch.testing.assert_close(few.completeness, missed, rtol=1e-3, atol=1e-5)
    assert few.completeness.max() > 0.005 > some.completeness.max()
    assert some.notes[0].endswith("steps")
    capped = explain.IntegratedGradients(steps=2, stop_below=1e-9, max_steps=6)(net, images, target=0)
    assert capped.notes == ("6 steps",)


@pytest.mark.parametrize("name", CLASSES)
def test_chunks_change_nothing(nets, three, name):
    net = nets.Branches()
    whole = build(name)(net, three, target=[3, 0, 1])
    pieces = build(name, memory_budget=1)(net, three, target=[3, 0, 1])
    for key in three:
        torch.testing.assert_close(whole.maps[key], pieces.maps[key], rtol=1e-5, atol=1e-6)
        assert whole.maps[key].abs().max() > 0


@pytest.mark.parametrize("name", CLASSES)
def test_a_map_does_not_depend_on_the_rest_of_the_batch(nets, images, name):
    net = nets.Net()
    batch = build(name)(net, images, target=[2, 1, 0])
    alone = build(name)(net, images[1:2], target=1)
    torch.testing.assert_close(batch.maps["image"][1:2], alone.maps["image"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CLASSES)
def test_several_targets_equal_one_at_a_time(nets, images, name):
    net = nets.Net()
    both = build(name).for_targets(net, images, [0, [2, 1, 0]])
    for target, maps in zip([0, [2, 1, 0]], both, strict=True):
        single = build(name)(net, images, target=target)
        assert torch.equal(maps.target, single.target)
        torch.testing.assert_close(maps.maps["image"], single.maps["image"], rtol=1e-5, atol=1e-7)
    assert not torch.allclose(both[0].maps["image"], both[1].maps["image"])


@pytest.mark.parametrize("name", CLASSES)
def test_several_targets_share_their_forwards(nets, images, name):
    net = nets.Net()
    counts = []
    net.register_forward_pre_hook(lambda *_: counts.append(1))
    for targets in ([0], [0, 1, 2]):
        build(name).for_targets(net, images, targets)
        counts.append(0)
    first = counts.index(0)
    assert counts.count(1) == 2 * first


@pytest.mark.parametrize("name", CLASSES)
def test_runs_repeat_and_leave_nothing_behind(nets, images, name):
    net = nets.Net()
    before, numpys = torch.get_rng_state(), random_state()
    with torch.inference_mode():
        first = build(name)(net, images)
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    second = build(name)(net, images)
    assert first.maps["image"].numpy().tobytes() == second.maps["image"].numpy().tobytes()
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(random_state(), numpys)
    assert not any(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks for part in net.modules())
    assert net.training
    assert all(parameter.grad is None for parameter in net.parameters())
    assert first.maps["image"].shape == (3, 20, 28)
    assert first.method == ("smooth_saliency" if name == "NoiseTunnel" else first.method)


class Scaled(nn.Module):
    """A network that looks at constants, and at one of two images only."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def explainable(self):
        return explain.Explainable(inputs=("seen", "unseen"))

    def forward(self, image):
        return self.net(image["seen"]) * image["gain"][:, None]


@pytest.mark.parametrize("name", CLASSES)
def test_constants_follow_their_samples_and_unused_inputs_get_zeros(nets, images, name):
    net = Scaled(nets.Net())
    inputs = {"seen": images, "unseen": images + 1, "gain": torch.tensor([1.0, 2.0, -3.0])}
    maps = build(name, memory_budget="1MiB")(net, inputs, target=1)
    plain = build(name)(net.net, images, target=1).maps["image"]
    torch.testing.assert_close(maps.maps["seen"], plain * inputs["gain"][:, None, None], rtol=1e-4, atol=1e-6)
    assert not maps.maps["unseen"].any()


@pytest.mark.parametrize("name", CLASSES)
def test_one_logit_speaks_for_class_1_and_against_class_0(nets, images, name):
    net = nets.Net(classes=1)
    against, speaks = build(name).for_targets(net, images, [0, 1])
    torch.testing.assert_close(against.maps["image"], -speaks.maps["image"], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(against.probability, 1 - speaks.probability)


@pytest.mark.parametrize("name", CLASSES)
def test_a_volume_of_one_slice_equals_its_plane(nets, images, name):
    net = nets.Net().eval()
    plane = build(name)(net, images, target=0).maps["image"]
    volume = build(name)(nets.Slices(net), images[:, :, None], target=0).maps["image"]
    torch.testing.assert_close(volume[:, 0], plane, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("IntegratedGradients", {"baseline": "minimun"}, "nearest: 'minimum'"),
        ("IntegratedGradients", {"steps": 0}, "1 ≤ steps"),
        ("IntegratedGradients", {"stop_below": 0}, "stop_below=0"),
        ("GradientSHAP", {"baselines": []}, "baselines is empty"),
        ("GradientSHAP", {"samples": 0, "noise": -1}, "noise=-1.*samples=0"),
        ("NoiseTunnel", {"gather": "mean"}, "'mean'"),
        ("NoiseTunnel", {"seed": -1}, "seed=-1"),
        ("Occlusion", {"window": 0}, "window=0"),
        ("DeepLift", {"tolerance": 0}, "tolerance=0"),
        ("Saliency", {"memory_budget": "lots"}, "memory_budget='lots'"),
    ],
)
def test_options_out_of_range_are_refused(name, options, words):
    with pytest.raises(ConfigError, match=words):
        build(name, **options)
