"""Which layer is proposed for maps of a module that names none."""

import pytest
import torch
from torch import nn
from torchvision.models import convnext_tiny, densenet121, efficientnet_b0, mobilenet_v3_small, resnet18, vgg11

from seewhy.explain import ExplainedModel, GradCAM
from seewhy.explain.capture.layers import find_last_map


class Block(nn.Module):
    """Two convolutions that share an activation, as in residual networks."""

    def __init__(self, channels):
        super().__init__()
        self.first, self.second = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.second(self.relu(self.first(x))) + x)


class Bare(nn.Module):
    """A shared activation with nothing around it."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.head = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.relu(self.relu(self.conv(x)) - 0.1).mean((2, 3)))


def test_a_layer_that_runs_twice_gives_way_to_the_block_around_it():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), Block(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    assert find_last_map(ExplainedModel(net, torch.randn(2, 1, 9, 9))) == "1"


def test_without_a_block_the_last_layer_that_runs_once_is_taken():
    assert find_last_map(ExplainedModel(Bare().eval(), torch.randn(2, 1, 9, 9))) == "conv"


@pytest.mark.parametrize("build", [resnet18, vgg11, mobilenet_v3_small, efficientnet_b0, densenet121, convnext_tiny])
def test_the_layer_of_usual_networks_can_be_explained(build):
    torch.manual_seed(0)
    net, image = build(weights=None, num_classes=3).eval(), torch.randn(1, 3, 64, 64)
    layer = find_last_map(ExplainedModel(net, image))
    maps = GradCAM(layers=layer)(net, image)
    assert maps.maps["image"].shape == (1, 64, 64)


def test_the_last_block_of_a_residual_network_is_found():
    assert find_last_map(ExplainedModel(resnet18(weights=None).eval(), torch.randn(1, 3, 64, 64))) == "layer4.1"
