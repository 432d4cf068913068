"""Checkpoints of the MRI reference, made here from torchvision and its published layout."""

import json

import numpy as np
import pytest
import torch
import torchvision
from spread_zeros import spread_zeros
from torch import nn

from seewhy.errors import CheckpointError
from seewhy.interop.reference.checkpoints import EFFICIENTNETS, closest_efficientnet, read_parameters, read_reference
from seewhy.models.classification.mri import MRIClassification


class Published(nn.Module):
    """The published classifier, said again with torchvision: slices are channels, one logit."""

    def __init__(self, size, slices=115):
        super().__init__()
        self.backbone = torchvision.models.get_model(f"efficientnet_v2_{size}", weights=None)
        stem = self.backbone.features[0][0]
        self.backbone.features[0][0] = nn.Conv2d(slices, stem.out_channels, 3, 2, 1, bias=False)
        self.backbone.classifier = nn.Sequential(nn.Dropout(0.4, inplace=True), nn.Linear(1280, 1))

    def forward(self, slices):
        return self.backbone(slices), None


@pytest.fixture(scope="module")
def published():
    torch.manual_seed(0)
    model = Published("s", slices=12)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the statistics of one batch, so that features vary as in a trained network
    with torch.no_grad():
        model(torch.randn(4, 12, 64, 64))
    return model.eval()


def content(model, **extra):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    metrics = {"auc_roc": np.float64(0.75), "accuracy": np.float32(0.5), "n": np.int64(3), "ok": np.bool_(True)}
    return {
        "epoch": 7,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "metrics": {**metrics, "loss": float("nan"), "curve": np.zeros(3)},
        **extra,
    }


@pytest.fixture(scope="module")
def file(published, tmp_path_factory):
    path = tmp_path_factory.mktemp("reference") / "best_model.pth"
    torch.save(content(published), path)
    return path


def test_imported_model_gives_the_published_models_output(published, file):
    checkpoint = read_reference("mri", file)
    assert (checkpoint.network, checkpoint.sizes["depth"], checkpoint.sizes["outputs"], checkpoint.epoch) == (
        "efficientnet_v2_s",
        12,
        1,
        7,
    )
    model = MRIClassification(
        optimizer={"name": "adamw", "lr": 1e-4},
        scheduler={"name": "constant"},
        backbone={"name": checkpoint.network, "library": "torchvision"},
        depth=checkpoint.sizes["depth"],
        loss={"name": "binary"},
    ).eval()
    weights = {name for name in model.state_dict() if name.startswith("net.")}
    assert weights == set(checkpoint.state_dict)
    model.load_state_dict(checkpoint.state_dict, strict=False)
    volume = torch.randn(2, 1, 12, 64, 64)
    with torch.no_grad():
        expected, _ = published(volume[:, 0])
        assert torch.allclose(model(volume), expected, atol=1e-6)
        probability = model.predict_step({"image": volume, "id": ["a", "b"]})["probability"]
    assert torch.allclose(probability[:, 1:], expected.sigmoid(), atol=1e-6)


def test_metrics_become_plain_numbers(file):
    metrics = read_reference("mri", file).record
    expected = {"auc_roc": 0.75, "accuracy": 0.5, "n": 3, "ok": True, "loss": "nan", "curve": "array of shape (3,)"}
    assert metrics == expected
    assert {type(value) for value in metrics.values()} == {float, int, bool, str}
    json.dumps(metrics, allow_nan=False)


@pytest.mark.parametrize("name", EFFICIENTNETS)
def test_every_efficientnet_is_told_by_its_shapes(name):
    with torch.device("meta"):
        features = torchvision.models.get_model(name, weights=None).features
        features[0][0] = nn.Conv2d(115, features[0][0].out_channels, 3, 2, 1, bias=False)
    assert closest_efficientnet(features.state_dict()) == name


def test_the_published_size_has_the_tensors_we_expect(monkeypatch):
    with torch.device("meta"):
        state = spread_zeros(Published("l").state_dict())
    monkeypatch.setattr("seewhy.interop.reference.checkpoints.read_file", lambda path: {"model_state_dict": state})
    checkpoint = read_reference("mri", "best_model.pth")
    assert (checkpoint.network, checkpoint.sizes["depth"], checkpoint.sizes["outputs"]) == ("efficientnet_v2_l", 115, 1)
    assert len(checkpoint.state_dict) == len(state)
    assert checkpoint.state_dict["net.encoder.net.features.0.0.weight"].shape == (32, 115, 3, 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("backbone.features.1.0.block.0.0.weight"), "1 not in the file: backbone.features.1.0.block"),
        (
            lambda s: [s.pop(f"backbone.features.7.{k}") for k in ("0.weight", "1.weight", "1.bias", "1.running_var")],
            "4 not in the file: .*7.0.weight, .*7.1.weight, .*7.1.bias, .*7.1.running_var",
        ),
        (lambda s: s.update(extra=torch.zeros(1)), "1 only in the file: extra"),
        (
            lambda s: s.update({"backbone.classifier.1.bias": torch.zeros(2)}),
            "backbone.classifier.1.bias: .2. in the file, .1. here",
        ),
        (
            lambda s: s.pop("backbone.classifier.1.weight"),
            "not a checkpoint of the MRI reference: no backbone.classifier.1.weight among",
        ),
        (
            lambda s: s.update({"backbone.classifier.1.weight": torch.zeros(3)}),
            "other shapes: backbone.classifier.1.weight .3.",
        ),
    ],
)
def test_strict(published, monkeypatch, change, words):
    state = dict(published.state_dict())
    change(state)
    monkeypatch.setattr("seewhy.interop.reference.checkpoints.read_file", lambda path: {"model_state_dict": state})
    with pytest.raises(CheckpointError, match=words):
        read_reference("mri", "best_model.pth")


def test_objects_are_named_and_never_made(published, tmp_path):
    torch.save(content(published, layer=nn.Linear(2, 2)), tmp_path / "best_model.pth")
    with pytest.raises(CheckpointError, match=r"holds objects of torch.nn.modules.linear.Linear"):
        read_reference("mri", tmp_path / "best_model.pth")


def test_parameters(tmp_path):
    path = tmp_path / "parameters.json"
    path.write_text('{"dropout_rate": 0.4, "test_csv": "val.csv"}')
    assert read_parameters(path) == {"dropout_rate": 0.4, "test_csv": "val.csv"}
    for text, words in (("[1]", "should be a valid dictionary"), ("{", "not valid JSON")):
        path.write_text(text)
        with pytest.raises(CheckpointError, match=words):
            read_parameters(path)
    with pytest.raises(CheckpointError, match="does not exist"):
        read_parameters(tmp_path / "absent.json")
