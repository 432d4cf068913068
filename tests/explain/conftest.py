"""Small networks to be explained, as any third party would write them."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class Net(nn.Module):
    """Two convolutions with in-place ReLUs, a mean, a linear head; batch statistics that are not those of a start."""

    def __init__(self, axes=2, *, channels=1, classes=3, seed=0, strides=(2, 2)):
        super().__init__()
        torch.manual_seed(seed)
        conv, norm = CONV[axes], NORM[axes]
        self.features = nn.Sequential(
            conv(channels, 6, 3, strides[0], 1),
            norm(6),
            nn.ReLU(inplace=True),
            conv(6, 8, 3, strides[1], 1),
            nn.ReLU(inplace=True),
        )
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Sequential(nn.Linear(8, 5), nn.ReLU(inplace=True), nn.Linear(5, classes))
        nn.init.uniform_(self.features[1].running_mean, -0.3, 0.3)
        nn.init.uniform_(self.features[1].running_var, 0.2, 1)

    def vector(self, image):
        return self.features(image).flatten(2).mean(dim=2)

    def forward(self, image):
        return self.head(self.dropout(self.vector(image)))


class Branches(nn.Module):
    """Three images through a network each, or all through one; features joined."""

    def __init__(self, *, shared=False, classes=4):
        super().__init__()
        self.backbones = nn.ModuleList([Net(seed=seed).features for seed in range(1 if shared else 3)])
        torch.manual_seed(9)
        self.head = nn.Sequential(nn.Linear(24, 10), nn.ReLU(), nn.Linear(10, classes))

    def forward(self, first, second, third):
        images = [first, second, third]
        backbones = list(self.backbones) * (3 // len(self.backbones))
        vectors = [net(image).mean(dim=(2, 3)) for net, image in zip(backbones, images, strict=True)]
        return self.head(torch.cat(vectors, dim=1))


class Slices(nn.Module):
    """Each slice of a volume through one planar network; mean of their scores."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, volume):
        batch, _, depth = volume.shape[:3]
        return self.net(volume.transpose(1, 2).flatten(0, 1)).unflatten(0, (batch, depth)).mean(dim=1)


class AsChannels(nn.Module):
    """The slices of a volume as channels of one image."""

    def __init__(self, depth):
        super().__init__()
        self.net = Net(channels=depth)

    def forward(self, volume):
        return self.net(volume[:, 0])


@pytest.fixture(scope="session")
def nets():
    """Classes of networks, in training mode as they are built."""
    return SimpleNamespace(Net=Net, Branches=Branches, Slices=Slices, AsChannels=AsChannels)


@pytest.fixture
def images():
    """Three images [3, 1, 20, 28]."""
    return torch.randn(3, 1, 20, 28, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def three(images):
    """The inputs of `Branches`, by name."""
    return {"first": images, "second": images.flip(3) * 0.5, "third": images.roll(1, 0) + 0.3}
