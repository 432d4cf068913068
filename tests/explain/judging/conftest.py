"""A small network trained to tell a ring from a disk anywhere in a textured body, and explainers of known behaviour."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seewhy.explain.base import Attribution, TargetwiseExplainer
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.maps import Maps

SIZE = 32


class Images(NamedTuple):
    """Images [N, 1, H, W], classes [N], and where the lesion is [N, H, W]."""

    image: Tensor
    label: Tensor
    mask: Tensor


def rings_and_disks(count: int, *, seed: int) -> Images:
    """Class 1 has a ring, class 0 a disk, anywhere in a body of random place and texture."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    label = torch.randint(0, 2, (count,), generator=generator)
    images, masks = [], []
    for one in label:
        centre = SIZE // 2 + torch.randint(-2, 3, (2,), generator=generator)
        radius = torch.randint(11, 15, (2,), generator=generator)
        body = ((rows - centre[0]) / radius[0]) ** 2 + ((columns - centre[1]) / radius[1]) ** 2 < 1
        texture = F.avg_pool2d(torch.randn(1, 1, SIZE, SIZE, generator=generator), 5, 1, 2)[0, 0]
        place = centre + torch.randint(-5, 6, (2,), generator=generator)
        distance = ((rows - place[0]) ** 2 + (columns - place[1]) ** 2).float().sqrt()
        lesion = (distance < 4.5) & ((distance > 2.5) if one else True)
        noise = 0.05 * torch.randn(SIZE, SIZE, generator=generator)
        images.append((0.5 + texture) * body + 1.5 * lesion + noise)
        masks.append(distance < 4.5)
    return Images(torch.stack(images)[:, None], label, torch.stack(masks))


class SmallNet(nn.Module):
    """Three convolutions with batch normalisation, mean, linear."""

    def __init__(self) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for before, after in ((1, 8), (8, 16), (16, 32)):
            parts += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
            parts += [nn.MaxPool2d(2)] if after < 32 else []
        self.features = nn.Sequential(*parts)
        self.head = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 2]."""
        return self.head(self.features(x).mean(dim=(2, 3)))


class PathGradients(TargetwiseExplainer):
    """Integrated gradients by the midpoint rule, from 0."""

    method = "path_gradients"

    def attribute(self, subject: ExplainedModel, target: Tensor, scores: Tensor) -> Attribution:
        """Σ over steps."""
        total = {name: torch.zeros_like(image) for name, image in subject.inputs.items()}
        for step in range(8):
            scaled = {name: (image * (step + 0.5) / 8).requires_grad_() for name, image in subject.inputs.items()}
            score = subject.target_scores(subject.scores(scaled), target).sum()
            gradients = torch.autograd.grad(score, list(scaled.values()))
            total = {name: total[name] + one / 8 for name, one in zip(scaled, gradients, strict=True)}
        return Attribution(maps={name: (image * total[name]).sum(dim=1) for name, image in subject.inputs.items()})


@pytest.fixture(scope="session")
def path_gradients() -> TargetwiseExplainer:
    """An attribution that is exact on linear modules."""
    return PathGradients()


@pytest.fixture(scope="session")
def trained() -> SmallNet:
    """The network, right on at least 9 of 10 new images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net, images = SmallNet(), rings_and_disks(512, seed=1)
        optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
        for _ in range(6):
            for rows in torch.randperm(512).split(32):
                optimizer.zero_grad(set_to_none=True)
                F.cross_entropy(net(images.image[rows]), images.label[rows]).backward()
                optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    net.eval()
    new = rings_and_disks(128, seed=2)
    with torch.no_grad():
        assert (net(new.image).argmax(dim=1) == new.label).float().mean() >= 0.9
    return net


@pytest.fixture(scope="session")
def cases() -> Images:
    """Eight new images."""
    return rings_and_disks(8, seed=3)


@pytest.fixture
def maps_of() -> Callable[..., Maps]:
    """Maps of given values, with scores of no interest."""

    def make(*, target: Tensor | None = None, **values: Tensor) -> Maps:
        count = len(next(iter(values.values())))
        target = torch.zeros(count, dtype=torch.long) if target is None else target
        return Maps(
            method="given",
            maps={name: one.float() for name, one in values.items()},
            target=target,
            probability=torch.full((count,), 0.5),
            scores=torch.zeros(count, 2),
        )

    return make
