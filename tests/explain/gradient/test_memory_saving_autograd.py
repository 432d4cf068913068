"""Forgetting what only weights' gradients need changes no value and saves memory."""

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

from seewhy.explain.budget import measure_peak_bytes
from seewhy.explain.gradient.memory_saving_autograd import MemorySavingMode


def gradient(module, image, *, lean):
    leaf = image.clone().requires_grad_()
    if lean:
        with MemorySavingMode():
            score = module(leaf)
    else:
        score = module(leaf)
    return torch.autograd.grad(score.square().sum(), leaf)[0]


def frozen(module):
    return module.eval().requires_grad_(False)


def measured(normalization):
    """Statistics and factors that are not those of a fresh layer."""
    for name in ("weight", "bias", "running_mean"):
        value = getattr(normalization, name)
        if value is not None:
            value.data.uniform_(-1, 1)
    normalization.running_var.uniform_(0.5, 2)
    return normalization


LAYERS = {
    "plain": (nn.Conv2d(4, 6, 3), (2, 4, 9, 8)),
    "strided": (nn.Conv2d(4, 6, 3, stride=(2, 1), padding=(1, 2), dilation=2), (2, 4, 9, 12)),
    "depthwise": (nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), (2, 4, 9, 8)),
    "same": (nn.Conv2d(4, 6, 3, padding="same"), (2, 4, 9, 8)),
    "reflected": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (2, 4, 9, 8)),
    "volume": (nn.Conv3d(2, 3, 3, stride=2, padding=1), (2, 2, 6, 7, 8)),
    "signal": (nn.Conv1d(2, 3, 3, stride=2), (2, 2, 11)),
    "normalised": (measured(nn.BatchNorm2d(4)), (2, 4, 5, 6)),
    "normalised volume": (measured(nn.BatchNorm3d(2)), (2, 2, 3, 4, 5)),
    "without factors": (measured(nn.BatchNorm2d(4, affine=False)), (2, 4, 5, 6)),
    "statistics of the batch": (nn.BatchNorm2d(4, track_running_stats=False), (2, 4, 5, 6)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_give_the_gradients_they_gave(name):
    module, shape = LAYERS[name]
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = gradient(frozen(module), image, lean=False)
    torch.testing.assert_close(gradient(module, image, lean=True), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["efficientnet_b0", "resnet18", "mobilenetv3_small_050", "convnext_atto"])
def test_networks_give_the_same_bits(name):
    torch.manual_seed(0)
    module = frozen(timm.create_model(name, num_classes=3))
    image = torch.randn(2, 3, 64, 64)
    assert torch.equal(gradient(module, image, lean=True), gradient(module, image, lean=False))


def test_what_learns_still_gets_its_gradient():
    layer = nn.Conv2d(1, 2, 3)
    with MemorySavingMode():
        layer(torch.ones(1, 1, 4, 4, requires_grad=True)).sum().backward()
    assert layer.weight.grad.eq(4).all()


def test_arguments_by_name_mean_the_same():
    image, weight = torch.randn(1, 2, 6, 6), torch.randn(3, 2, 3, 3)
    expected = functional.conv2d(image, weight, stride=2, padding=1)
    with MemorySavingMode():
        found = functional.conv2d(input=image.requires_grad_(), weight=weight, stride=[2], padding=(1, 1))
    torch.testing.assert_close(found.detach(), expected)


def test_the_inputs_of_convolutions_and_normalisations_are_not_kept():
    module = frozen(
        nn.Sequential(*[nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.SiLU()) for _ in range(8)])
    )
    image = torch.randn(1, 8, 64, 64)
    resident = [image, *module.parameters(), *module.buffers()]
    kept, lean = (measure_peak_bytes(lambda on=on: gradient(module, image, lean=on), resident) for on in (False, True))
    assert lean < 0.55 * kept  # of three tensors of each block only what SiLU needs is left
