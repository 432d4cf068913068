"""Captum's attributions by name: equal to Captum's own, one convention for everything, nothing left behind."""

import random

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn

from seewhy.errors import ConfigError, ExplanationError
from seewhy.explain import CaptumMethod, Explainable
from seewhy.explain.captum_method import list_captum_classes


def plain(net):
    """The network without in-place activations, as Captum wants it."""
    for part in net.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False
    return net.eval()


def summed(attribution):
    return attribution.detach().sum(dim=1)


@pytest.mark.parametrize("name", ["GuidedBackprop", "Deconvolution", "LRP", "InputXGradient"])
def test_maps_equal_captums_for_each_samples_target(nets, images, name):
    target = [2, 0, 1]
    peer = getattr(captum.attr, name)(plain(nets.Net(seed=2))).attribute(images.clone(), target=target)
    maps = CaptumMethod(attribution=name)(nets.Net(seed=2), images, target=target)
    torch.testing.assert_close(maps.maps["image"], summed(peer), rtol=1e-5, atol=1e-7)
    assert maps.maps["image"].abs().max() > 1e-5
    assert maps.target.tolist() == target


def test_a_layer_is_found_by_name_and_its_maps_are_enlarged(nets, images):
    peers = plain(nets.Net())
    guided = captum.attr.GuidedGradCam(peers, peers.features[3]).attribute(images.clone(), target=1)
    maps = CaptumMethod(attribution="GuidedGradCam", layer="features.3")(nets.Net(), images, target=1)
    torch.testing.assert_close(maps.maps["image"], summed(guided), rtol=1e-5, atol=1e-8)
    assert maps.layers == {"image": "features.3"}
    cam = captum.attr.LayerGradCam(peers, peers.features[3]).attribute(images.clone(), target=1)
    cam = nn.functional.interpolate(cam, size=(20, 28), mode="bilinear", align_corners=False)
    maps = CaptumMethod(attribution="LayerGradCam", layer="features.3")(nets.Net(), images, target=1)
    torch.testing.assert_close(maps.maps["image"], summed(cam), rtol=1e-5, atol=1e-8)


def test_several_inputs_go_in_together_or_each_with_its_layer(nets, three):
    peers = plain(nets.Branches())
    peer = captum.attr.GuidedBackprop(peers).attribute(tuple(three.values()), target=3)
    maps = CaptumMethod(attribution="GuidedBackprop")(nets.Branches(), three, target=3)
    for name, one in zip(three, peer, strict=True):
        torch.testing.assert_close(maps.maps[name], summed(one), rtol=1e-5, atol=1e-8)
    layers = [f"backbones.{place}.3" for place in range(3)]
    found = CaptumMethod(attribution="LayerGradCam", layer=layers)(nets.Branches(), three, target=3)
    cam = captum.attr.LayerGradCam(peers, peers.backbones[1][3]).attribute(tuple(three.values()), target=3)
    cam = nn.functional.interpolate(cam, size=(20, 28), mode="bilinear", align_corners=False)
    torch.testing.assert_close(found.maps["second"], summed(cam), rtol=1e-5, atol=1e-8)


def test_a_layer_that_runs_for_several_inputs_is_refused(nets, three):
    method = CaptumMethod(attribution="LayerGradCam", layer="backbones.0.3")
    with pytest.raises(ConfigError, match=r"backbones\.0\.3"):
        method(nets.Branches(shared=True), three, target=0)


class Masked(nn.Module):
    """Two images and which of them count; a single score."""

    def explainable(self):
        return Explainable(inputs=("left", "right"))

    def forward(self, image):
        sums = torch.stack([image["left"].flatten(1).sum(1), image["right"].flatten(1).sum(1)], dim=1)
        return (sums * image["present"]).sum(dim=1, keepdim=True)


@pytest.mark.parametrize("name", ["FeatureAblation", "ShapleyValueSampling", "KernelShap", "GradientShap"])
def test_constants_follow_their_samples_and_patches_add_up(name):
    left, right = torch.rand(3, 1, 4, 6), torch.rand(3, 1, 4, 4)
    present = torch.tensor([[True, True], [True, False], [False, True]])
    method = CaptumMethod(
        attribution=name,
        patch=None if name == "GradientShap" else 4,
        baseline="zero",
        arguments={"n_samples": 60} if name == "KernelShap" else {},
    )
    maps = method(Masked(), {"left": left, "right": right, "present": present}, target=[1, 1, 0])
    sign = torch.tensor([1, 1, -1])
    for place, (key, image) in enumerate((("left", left), ("right", right))):
        expected = sign * image.flatten(1).sum(1) * present[:, place]
        if method.patch:  # a patch has one value, which stands in each of its voxels
            first = image[:, 0, :, :4].sum(dim=(1, 2)) * sign * present[:, place]
            torch.testing.assert_close(maps.maps[key][:, 0, 0], first, rtol=1e-3, atol=1e-3)
            assert (maps.maps[key][:, :, :4] == maps.maps[key][:, :1, :1]).all()
        else:
            torch.testing.assert_close(maps.maps[key].sum(dim=(1, 2)), expected, rtol=1e-3, atol=1e-3)
    assert maps.baseline == "zero in the units of the normalised image"


@pytest.mark.parametrize("name", ["KernelShap", "GradientShap", "ShapleyValueSampling"])
def test_draws_depend_on_the_seed_alone_and_disturb_nobody(nets, images, name):
    options = {"attribution": name, "baseline": "minimum", "patch": None if name == "GradientShap" else 10}
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    batch = CaptumMethod(**options)(nets.Net(), images, target=[0, 1, 2])
    torch.manual_seed(77)
    alone = CaptumMethod(**options)(nets.Net(), images[1:2], target=1)
    torch.testing.assert_close(batch.maps["image"][1:2], alone.maps["image"], rtol=1e-5, atol=1e-7)
    other = CaptumMethod(**options, seed=1)(nets.Net(), images[1:2], target=1)
    assert not torch.allclose(other.maps["image"], alone.maps["image"])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert random.getstate() == states[2]


class Strange(nn.Module):
    """Has no rule for relevance, behind layers that have."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Bilinear(1, 1, 1)

    def forward(self, image):
        return self.relu(self.first(image)).mean(dim=(2, 3))


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def traces(module):
    """Attributes, whether in place, and numbers of hooks, of all parts."""
    parts = list(module.modules())
    return [
        (set(part.__dict__), getattr(part, "inplace", None), [len(getattr(part, h)) for h in HOOKS]) for part in parts
    ]


@pytest.mark.parametrize("name", ["LRP", "GuidedBackprop", "Deconvolution"])
def test_nothing_is_left_behind(nets, images, name):
    net = nets.Net()
    before, addresses = traces(net), [(one.data_ptr(), one.clone()) for one in net.parameters()]
    CaptumMethod(attribution=name)(net, images)
    with torch.inference_mode():
        CaptumMethod(attribution=name)(net, images)
    assert traces(net) == before
    assert net.training
    for parameter, (address, value) in zip(net.parameters(), addresses, strict=True):
        assert parameter.data_ptr() == address
        assert torch.equal(parameter, value)
        assert parameter.requires_grad
        assert parameter.grad is None


def test_a_refusal_is_in_words_and_leaves_nothing_behind_either(images):
    net = Strange()
    before = traces(net)
    with pytest.raises(ExplanationError, match=r"captum.attr.LRP.*Strange.*Bilinear"):
        CaptumMethod(attribution="LRP")(net, images, target=0)
    assert traces(net) == before
    calls = []

    def fail(*_):
        calls.append(1)
        if len(calls) == 6:  # the check of rows (2), scores, the budget, the look for ReLUs, then Captum
            raise RuntimeError("in the middle")

    handle = net.first.register_forward_hook(fail)
    before = traces(net)
    with pytest.raises(ExplanationError, match="in the middle"):
        CaptumMethod(attribution="GuidedBackprop")(net, images, target=0)
    assert traces(net) == before
    handle.remove()


def test_a_network_without_relus_has_nothing_to_guide(images):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ConfigError, match=r"Sequential.*nn.ReLU.*saliency"):
        CaptumMethod(attribution="GuidedBackprop")(net, images, target=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attribution": "GuidedBackprob"}, "nearest: 'GuidedBackprop'"),
        ({"attribution": "DeepLift"}, "use deep_lift"),
        ({"attribution": "NeuronGradient"}, "'NeuronGradient'"),
        ({"attribution": "KernelShap", "arguments": {"n_sample": 3}}, "'n_sample' .nearest: 'n_samples'"),
        ({"attribution": "LRP", "arguments": {"target": 3}}, "arguments of LRP: 'target'"),
        ({"attribution": "GuidedBackprop", "layer": "a", "patch": 3}, "GuidedBackprop: layer, patch"),
        ({"attribution": "KernelShap", "baseline": "minimun"}, "nearest: 'minimum'"),
        ({"attribution": "LRP", "reading": "negative"}, "reading='negative'"),
        ({"attribution": "KernelShap", "patch": 0}, "patch=0"),
    ],
)
def test_mistakes_are_said_in_words(options, message):
    with pytest.raises(ConfigError, match=message):
        CaptumMethod(**options)


def test_names():
    assert {"GuidedBackprop", "GuidedGradCam", "LRP", "KernelShap", "Lime"} < set(list_captum_classes())
    assert not {"DeepLift", "FeaturePermutation", "NeuronGradient", "NoiseTunnel", "Attribution"} & set(
        list_captum_classes()
    )
    methods = {name: CaptumMethod(attribution=name).method for name in ("InputXGradient", "LRP", "GuidedGradCam")}
    assert methods == {"InputXGradient": "input_x_gradient", "LRP": "lrp", "GuidedGradCam": "guided_grad_cam"}
    assert CaptumMethod(attribution="LRP", name="relevance").method == "relevance"
