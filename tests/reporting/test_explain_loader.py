"""`explain_loader`: any module, any loader, records with arrays."""

import json

import numpy as np
import pytest
import torch
from blank_figures import blank_figures
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import seewhy
from seewhy.errors import ConfigError, ExplanationError
from seewhy.explain import GradCAM, Saliency
from seewhy.models.classification.amd import AMDGrading


class Two(nn.Module):
    """Two named images; the second counts twice."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.arange(48.0).reshape(3, 16) / 48)

    def forward(self, left, right):
        return left.flatten(1) @ self.weight.T + 2 * right.flatten(1) @ self.weight.T


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(64, 3))


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(1)
    return TensorDataset(torch.rand(7, 1, 4, 4, generator=generator), torch.tensor([0, 1, 2, 0, 1, 2, 0]))


def test_maps_are_those_of_the_explainer_and_the_module_is_left_as_it_was(network, data):
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    records = seewhy.explain_loader(network, DataLoader(data, batch_size=3), 5, methods="saliency", target=1)
    assert [record.id for record in records] == [f"sample_{number:06d}" for number in range(5)]
    assert [record.label for record in records] == [0, 1, 2, 0, 1]
    maps = Saliency()(network, data.tensors[0], target=1)
    for row, record in enumerate(records):
        np.testing.assert_allclose(record.maps["image"], maps.maps["image"][row], atol=1e-7)
        np.testing.assert_allclose(record.heatmaps["image"], maps.evidence()["image"][row], atol=1e-7)
        assert record.scores == pytest.approx(maps.scores[row].tolist(), abs=1e-6)
        assert record.target == 1
        assert record.predicted == int(maps.scores[row].argmax())
        assert record.files == []
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


def test_named_and_positional_images_reach_the_module_by_name():
    left, right, label = torch.rand(3, 1, 4, 4), torch.rand(3, 1, 4, 4), torch.tensor([0, 1, 2])
    by_name = [{"right": right, "left": left, "y": label, "sample_id": ["a", "b", "c"]}]
    by_position = [(left, right, label)]
    first, second = (seewhy.explain_loader(Two(), loader, 0, methods="saliency") for loader in (by_name, by_position))
    assert [record.id for record in first] == ["a", "b", "c"]
    for one, other in zip(first, second, strict=True):
        assert (one.label, one.scores) == (other.label, other.scores)
        np.testing.assert_allclose(one.maps["right"], 2 * one.maps["left"], rtol=1e-5)
        np.testing.assert_array_equal(one.maps["right"], other.maps["right"])
        assert one.shares["right"] == pytest.approx(2 / 3, abs=1e-6)


def test_a_model_of_seewhy_is_explained_like_in_its_own_call_and_saved(tmp_path):
    torch.manual_seed(0)
    model = AMDGrading(
        optimizer={"name": "adamw", "lr": 1e-3}, scheduler={"name": "constant"}, inputs=["mnv", "ga"],
        backbone={"name": "test_efficientnet"}, head={"hidden": 8},
    ).eval()  # fmt: skip
    images = {name: torch.rand(3, 1, 64, 64) for name in ("mnv", "ga")}
    loader = [{**images, "label": torch.tensor([0, 3, 1]), "id": ["P1", "P2", "P3"]}]
    with blank_figures():
        records = seewhy.explain_loader(model, loader, 2, tmp_path, methods=[GradCAM()], samples=["P2", "P3"])
    answer = model.explain(**{name: image[1:] for name, image in images.items()})
    assert [(record.id, record.label) for record in records] == [("P2", 3), ("P3", 1)]
    for row, record in enumerate(records):
        for name in images:
            np.testing.assert_allclose(record.heatmaps[name], answer["heatmaps"][name][row], atol=1e-6)
        assert record.confidence == pytest.approx(answer["confidence"][row], abs=1e-6)
        assert record.predicted == answer["predicted_class"][row]
        assert all(path.is_file() for path in record.files)
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")}
    assert {"grad_cam/P2_gradcam_visualization.png", "grad_cam/P2_heatmaps/P2_mnv.png"} <= names
    assert len(json.loads((tmp_path / "explanations.json").read_text())["explanations"]) == 2


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield torch.rand(1, 4, 4)


def test_the_choice_of_samples(network, data):
    loader = DataLoader(data, batch_size=2)
    spread = seewhy.explain_loader(network, loader, 3, methods="saliency", samples="spread")
    assert [record.id for record in spread] == ["sample_000000", "sample_000003", "sample_000006"]
    every = seewhy.explain_loader(network, loader, 0, methods="saliency", target="all")
    assert len(every) == 3 * 7
    assert len({(record.id, record.target) for record in every}) == 21
    endless = DataLoader(Endless(), batch_size=4)
    assert len(seewhy.explain_loader(network, endless, 6, methods="saliency")) == 6
    for options, message in (
        ({"samples": "spread"}, "how many samples"),
        ({"samples": "worst"}, "needs predictions"),
        ({"methods": "salency"}, "nearest: 'saliency'"),
        ({"judge": "all"}, "save_dir"),
    ):
        with pytest.raises(ConfigError, match=message):
            seewhy.explain_loader(network, endless, 2, **{"methods": "saliency", **options})
    with pytest.raises(ConfigError, match="'sample_9'"):
        seewhy.explain_loader(network, loader, methods="saliency", samples=["sample_9"])
    with pytest.raises(ConfigError, match="expected images"):
        seewhy.explain_loader(network, [(torch.zeros(3, 5), torch.zeros(3))], methods="saliency")


def test_a_method_that_refuses_everything_is_an_error(network):
    broken = [torch.full((1, 1, 4, 4), torch.nan)]
    with pytest.raises(ExplanationError, match="not finite"):
        seewhy.explain_loader(network, broken, methods="saliency")
