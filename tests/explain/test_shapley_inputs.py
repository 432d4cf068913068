"""Shapley values of inputs and channels on modules whose values are known."""

from itertools import permutations

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from seewhy.errors import ConfigError
from seewhy.explain import InputXGradient, ShapleyInputs, leave_one_out
from seewhy.explain.explained_model import Explainable
from seewhy.models.classification.amd import AMDGrading
from seewhy.phantoms.amd import EYE, draw_eye
from seewhy.run.build import build
from seewhy.run.folder import conf_dir

NAMES = ("mnv", "fluid", "ga", "drusen")


class Count(nn.Module):
    """Counts forwards; a random network of four inputs that is told which are missing."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        self.rows = 0

    def explainable(self) -> Explainable:
        return Explainable(inputs=NAMES)

    def forward(self, image: dict[str, Tensor]) -> Tensor:
        self.rows += len(image["present"])
        means = torch.stack([image[name].mean(dim=(1, 2, 3)) for name in NAMES], dim=1)
        return self.net(means * image["present"])


def draw_images(count=2):
    generator = torch.Generator().manual_seed(1)
    images = {name: torch.rand(count, 1, 5, 6, generator=generator) + place for place, name in enumerate(NAMES)}
    return {**images, "present": torch.tensor([[True] * 4, [True, False, True, True]][:count])}


def value_by_orders(module, images, row, target):
    """Mean change of the score over all orders in which the inputs arrive."""
    sums = dict.fromkeys(NAMES, 0.0)
    for order in permutations(NAMES):
        present = torch.zeros(1, 4, dtype=torch.bool)
        part = {name: images[name][row : row + 1] for name in NAMES}
        last = module({**part, "present": present})[0, target].item()
        for name in order:
            present[0, NAMES.index(name)] = images["present"][row, NAMES.index(name)]
            score = module({**part, "present": present})[0, target].item()
            sums[name] += (score - last) / 24
            last = score
    return sums


def test_values_are_the_mean_over_all_orders_and_sum_to_the_difference_of_scores():
    module, images = Count().eval(), draw_images()
    explainer = ShapleyInputs()
    explainer(module, images)  # the first call measures the memory of a row
    module.rows = 0
    maps = explainer(module, images, target=[2, 1])
    assert module.rows == 16 * 2
    found = maps.contributions
    for row, target in enumerate((2, 1)):
        expected = value_by_orders(module, images, row, target)
        assert {name: one[row].item() for name, one in found.values.items()} == pytest.approx(expected, abs=1e-5)
        nothing = module({**images, "present": torch.zeros(2, 4, dtype=torch.bool)})[row, target]
        difference = (maps.scores[row, target] - nothing).item()
        assert sum(one[row].item() for one in found.values.values()) == pytest.approx(difference, abs=1e-5)
        assert sum(one[row].sum().item() for one in maps.maps.values()) == pytest.approx(difference, abs=1e-5)
    assert (maps.completeness < 1e-5).all()
    assert found.removal == "absent"
    assert found.values["fluid"][1].item() == pytest.approx(0, abs=1e-7)  # it was missing
    assert sum(share[0] for share in found.shares().values()) == pytest.approx(1, abs=1e-5)
    leave = leave_one_out(module, images, maps)
    for name in NAMES:
        assert found.left_out[name][0].item() == pytest.approx(leave.score[name][0].item(), abs=1e-5)


def test_chunks_and_several_targets_change_nothing():
    module, images = Count().eval(), draw_images()
    whole = ShapleyInputs()(module, images, target=1).contributions.values
    first, second = ShapleyInputs(memory_budget=1).for_targets(module, images, [0, 1])
    assert torch.allclose(second.contributions.values["ga"], whole["ga"], atol=1e-6)
    contrast = ShapleyInputs()(module, images, target="1-0").contributions.values["ga"]
    assert torch.allclose(contrast, (second.contributions.values["ga"] - first.contributions.values["ga"]), atol=1e-6)


class Stripes(nn.Module):
    """Class 1 if the brightest place of either image is brighter than tissue: both carry the grade."""

    def forward(self, fluid: Tensor, drusen: Tensor, ga: Tensor) -> Tensor:
        lesions = [image.flatten(1).amax(dim=1) > 0.9 for image in (fluid, drusen)]
        score = 3.0 * (lesions[0] | lesions[1]).float() + 0 * ga.mean()
        return torch.stack([-score, score], dim=1)


def redundant_eyes():
    """Phantom eyes of grade 3 whose lesions are in two images; no other place is brighter than .9."""
    eyes = []
    for number in range(3):
        images, masks = draw_eye(EYE, grade=3, carriers=["fluid"], size=48, seed=4, number=number)
        tissue = {name: 0.5 * torch.from_numpy(image / 255.0).float() for name, image in images.items()}
        lesion = torch.from_numpy(masks["fluid"]).bool()
        eyes.append([torch.where(lesion, 1.0, tissue[name]) for name in ("fluid", "drusen")] + [tissue["ga"]])
    return [torch.stack([eye[place] for eye in eyes])[:, None] for place in range(3)]


def test_redundant_images_of_a_phantom_share_the_grade_where_leaving_one_out_shows_nothing():
    images = dict(zip(("fluid", "drusen", "ga"), redundant_eyes(), strict=True))
    maps = ShapleyInputs()(Stripes(), images, target=1)
    found = maps.contributions
    assert {name: one.tolist() for name, one in found.shares().items()} == {
        "fluid": pytest.approx([0.5] * 3),
        "drusen": pytest.approx([0.5] * 3),
        "ga": pytest.approx([0.0] * 3),
    }
    assert all((fall == 0).all() for fall in found.left_out.values())
    assert all((fall == 0).all() for fall in leave_one_out(Stripes(), images, maps).score.values())
    assert found.interactions["fluid x drusen"].tolist() == pytest.approx([-3.0] * 3)
    assert found.interactions["fluid x ga"].tolist() == pytest.approx([0.0] * 3)


def test_channels_of_one_input_likewise():
    class Either(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            first, second, third = image.amax(dim=(2, 3)).unbind(dim=1)
            return (torch.maximum(first, second) + 2 * third)[:, None]

    image = torch.zeros(2, 3, 4, 4)
    image[:, :, 1, 1] = 1
    maps = ShapleyInputs(absent="minimum")(Either(), image, target=1)
    values = {name: one.tolist() for name, one in maps.contributions.values.items()}
    assert values == {
        "image 0": pytest.approx([0.5, 0.5]),
        "image 1": pytest.approx([0.5, 0.5]),
        "image 2": pytest.approx([2.0, 2.0]),
    }
    assert maps.maps["image"].sum(dim=(1, 2)).tolist() == pytest.approx([3.0, 3.0])
    volume = image[:, :, None].repeat(1, 1, 2, 1, 1)
    deep = nn.Sequential(nn.MaxPool3d((2, 1, 1)), nn.Flatten(2), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(3, 2))
    assert ShapleyInputs()(deep, volume).maps["image"].shape == (2, 2, 4, 4)


def test_a_grading_network_uses_its_own_missing_mask():
    model = AMDGrading(
        optimizer={"name": "adamw", "lr": 1e-3}, scheduler={"name": "constant"}, inputs=["mnv", "ga"],
        backbone={"name": "test_efficientnet"}, head={"hidden": 8},
    ).eval()  # fmt: skip
    images = {name: torch.rand(2, 1, 32, 32) for name in ("mnv", "ga")} | {"present": torch.ones(2, 2).bool()}
    found = ShapleyInputs()(model, images).contributions
    assert found.removal == "absent"
    assert (found.values["mnv"] + found.values["ga"]).tolist() == pytest.approx(found.total.tolist(), abs=1e-5)


def test_problems_are_reported_in_one_line():
    class Many(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image.mean(dim=(2, 3))

    with pytest.raises(ConfigError, match=r"11 channels.*at most 10"):
        ShapleyInputs()(Many(), torch.rand(1, 11, 4, 4))
    with pytest.raises(ConfigError, match="one input"):
        ShapleyInputs(players="channels")(Stripes(), redundant_eyes())
    with pytest.raises(ConfigError, match="unknown baseline"):
        ShapleyInputs(absent="nothing")


def test_file_and_class_agree():
    node = OmegaConf.load(conf_dir() / "explainer" / "shapley_inputs.yaml")
    explainer = build(node, "explainer.shapley_inputs")
    assert (explainer.players, explainer.absent) == (ShapleyInputs().players, ShapleyInputs().absent)
    assert InputXGradient()(Stripes(), redundant_eyes()).contributions is None
