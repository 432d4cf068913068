"""Effects of inputs on modules in which they are known."""

import math

import pytest
import torch
from torch import Tensor, nn

from seewhy.explain.explained_model import Explainable
from seewhy.explain.judging.input_effects import leave_one_out

WORTH = {"mnv": 3.0, "fluid": 1.0, "ga": 0.0, "drusen": -2.0}


class Worth(nn.Module):
    """Score of class 1: the sum of the inputs' means times their worth; told of missing inputs, it says so."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Tensor] = []

    def explainable(self) -> Explainable:
        return Explainable(inputs=tuple(WORTH))

    def forward(self, image: dict[str, Tensor]) -> Tensor:
        self.told.append(image["present"].clone())
        means = torch.stack([image[name].mean(dim=(1, 2, 3)) for name in WORTH], dim=1)
        score = (means * image["present"] * torch.tensor(list(WORTH.values()))).sum(dim=1)
        return torch.stack([torch.zeros_like(score), score], dim=1)


@pytest.fixture
def batch() -> dict[str, Tensor]:
    """Images of mean 1; the second sample has no fluid."""
    images = {name: torch.rand(2, 1, 4, 5) for name in WORTH}
    images = {name: one / one.mean(dim=(1, 2, 3), keepdim=True) for name, one in images.items()}
    images["fluid"][1] = 0
    return {**images, "present": torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1]]).bool()}


def maps_with_shares(maps_of, shares):
    values = {name: torch.full((2, 4, 5), share) for name, share in zip(WORTH, shares, strict=True)}
    return maps_of(target=torch.tensor([1, 1]), **values)


def test_a_module_that_knows_missing_inputs_is_told(maps_of, batch):
    module = Worth()
    found = leave_one_out(module, batch, maps_with_shares(maps_of, (4.0, 3.0, 2.0, 0.0)))
    assert found.removal == "absent"
    assert {name: one[0].item() for name, one in found.score.items()} == pytest.approx(WORTH, abs=1e-5)
    whole = 1 / (1 + math.exp(-2.0))
    assert found.probability["mnv"][0].item() == pytest.approx(whole - 1 / (1 + math.exp(1.0)), abs=1e-5)
    assert found.score["fluid"].isnan().tolist() == [False, True]
    assert found.agreement == pytest.approx([1.0, 1.0])
    assert [one.sum().item() for one in module.told] == [7, 5, 6, 5, 5]


def test_agreement_is_with_the_shares(maps_of, batch):
    opposite = leave_one_out(Worth(), batch, maps_with_shares(maps_of, (0.0, 1.0, 2.0, 3.0)))
    assert opposite.agreement == pytest.approx([-1.0, -1.0])
    even = leave_one_out(Worth(), batch, maps_with_shares(maps_of, (1.0, 1.0, 1.0, 1.0)))
    assert even.agreement.isnan().all()


def test_others_get_the_fill(maps_of):
    class Sum(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return (2 * a.sum(dim=(1, 2, 3)) - b.sum(dim=(1, 2, 3)))[:, None]

    a, b = torch.rand(2, 1, 3, 3), torch.rand(2, 1, 3, 3)
    maps = maps_of(input_0=torch.ones(2, 3, 3), input_1=torch.zeros(2, 3, 3), target=torch.tensor([1, 0]))
    found = leave_one_out(Sum(), (a, b), maps, fill="zero")
    assert found.removal == "zero"
    sign = torch.tensor([1.0, -1.0])
    assert found.score["input_0"] == pytest.approx(sign * 2 * a.sum(dim=(1, 2, 3)), abs=1e-5)
    assert found.score["input_1"] == pytest.approx(-sign * b.sum(dim=(1, 2, 3)), abs=1e-5)
    kept = leave_one_out(Sum(), (a, b), maps, fill="mean")
    assert kept.score["input_0"] == pytest.approx(torch.zeros(2), abs=1e-5)


def test_a_single_input_has_an_effect_but_no_agreement(trained, cases):
    from seewhy.explain import GradCAM

    maps = GradCAM(layers="features.10")(trained, cases.image)
    found = leave_one_out(trained, cases.image, maps, fill="zero")
    assert found.agreement.isnan().all()
    with torch.no_grad():
        nothing = trained(torch.zeros_like(cases.image)).softmax(dim=1).gather(1, maps.target[:, None])[:, 0]
    assert found.probability["image"] == pytest.approx(maps.probability - nothing, abs=1e-5)
