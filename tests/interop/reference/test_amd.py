"""Checkpoints of the AMD reference, made here from torchvision and its published layout."""

import argparse
import pathlib

import pytest
import torch
import torchvision
from lightning.fabric.utilities.data import AttributeDict
from spread_zeros import spread_zeros
from torch import nn

from seewhy.errors import CheckpointError
from seewhy.interop.reference.checkpoints import read_reference
from seewhy.models.classification.amd import AMDGrading

INPUTS = ("mnv", "fluid", "ga", "drusen")


class Published(nn.Module):
    """The published grader, said again with torchvision: one 1 x 1 convolution, four backbones, one head."""

    def __init__(self, name="efficientnet_b0", width=1280):
        super().__init__()
        self.to3 = nn.Conv2d(1, 3, 1)
        for number in range(1, 5):
            self.add_module(f"backbone{number}", torchvision.models.get_model(name, weights=None).features)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(4 * width, 512), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Linear(512, 4)
        )

    def forward(self, *images):
        backbones = (self.backbone1, self.backbone2, self.backbone3, self.backbone4)
        pooled = [self.pool(net(self.to3(x))).flatten(1) for net, x in zip(backbones, images, strict=True)]
        return self.classifier(torch.cat(pooled, dim=1))


CONFIG = {
    "NetModule": AttributeDict(model_name="efficientnet_b5", lr=1e-3),
    "DataModule": {"data_path": pathlib.Path("/data/amd"), "image_shape": [304, 304, 1]},
    "options": argparse.Namespace(k_fold=5),
}


def content(model, **extra):
    """What Lightning writes: weights below the attribute `out`, and the configuration as an argument."""
    state = {f"out.{name}": tensor for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return {
        "epoch": 11,
        "global_step": 100,
        "pytorch-lightning_version": "2.0.0",
        "state_dict": state,
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [{"best": torch.tensor(0.5), "patience": 3}],
        "callbacks": {"EarlyStopping{'monitor': 'val_loss'}": {"best_score": torch.tensor(0.5), "wait_count": 0}},
        "hparams_name": "kwargs",
        "hyper_parameters": {"config": CONFIG, **extra},
    }


@pytest.fixture(scope="module")
def published():
    torch.manual_seed(0)
    model = Published()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the statistics of one batch, so that features vary as in a trained network
    with torch.no_grad():
        model(*torch.rand(4, 4, 1, 64, 64))
    return model.eval()


@pytest.fixture(scope="module")
def file(published, tmp_path_factory):
    path = tmp_path_factory.mktemp("reference") / "model-fold=5-epoch=11-val_loss=0.50.ckpt"
    torch.save(content(published), path)
    return path


def test_imported_model_gives_the_published_models_output(published, file):
    checkpoint = read_reference("amd", file)
    assert (checkpoint.network, checkpoint.sizes["hidden"], checkpoint.sizes["outputs"], checkpoint.epoch) == (
        "efficientnet_b0",
        512,
        4,
        11,
    )
    model = AMDGrading(
        optimizer={"name": "adamw", "lr": 1e-4},
        scheduler={"name": "constant"},
        backbone={"name": checkpoint.network, "library": "torchvision"},
        stem="conv1x1",
    ).eval()
    weights = {name for name in model.state_dict() if name.startswith("net.")}
    assert weights == set(checkpoint.state_dict)
    model.load_state_dict(checkpoint.state_dict, strict=False)
    images = torch.rand(4, 2, 1, 64, 96)
    with torch.no_grad():
        expected = published(*images)
        assert torch.allclose(model(dict(zip(INPUTS, images, strict=True))), expected, atol=1e-6)
        swapped = model(dict(zip(("fluid", "mnv", "ga", "drusen"), images, strict=True)))
    assert not torch.allclose(swapped, expected, atol=1e-3)


def test_the_name_in_its_configuration_is_not_believed(file):
    checkpoint = read_reference("amd", file)
    assert checkpoint.record["NetModule"] == {"model_name": "efficientnet_b5", "lr": 1e-3}
    assert checkpoint.record["options"] == {"k_fold": 5}
    assert checkpoint.record["DataModule"]["data_path"] == "/data/amd"
    assert checkpoint.network == "efficientnet_b0"


@pytest.mark.parametrize(("name", "width"), [("efficientnet_b3", 1536), ("efficientnet_b7", 2560)])
def test_other_sizes_are_told_by_their_shapes(monkeypatch, name, width):
    with torch.device("meta"):
        record = content(Published(name, width))
    record["state_dict"] = spread_zeros(record["state_dict"])
    monkeypatch.setattr("seewhy.interop.reference.checkpoints.read_file", lambda path: record)
    assert read_reference("amd", "model.ckpt").network == name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda s: s.pop("out.backbone3.2.0.block.0.0.weight"),
            "1 not in the file: out.backbone3.2.0.block.0.0.weight",
        ),
        (lambda s: s.update(more=torch.zeros(1)), "1 only in the file: more"),
        (
            lambda s: s.update({"out.classifier.3.bias": torch.zeros(9)}),
            "out.classifier.3.bias: .9. in the file, .4. here",
        ),
        (lambda s: s.pop("out.to3.weight"), "no out.to3.weight among"),
        (lambda s: s.update({"out.classifier.0.weight": torch.zeros(3)}), "other shapes: out.classifier.0.weight .3."),
    ],
)
def test_strict(published, tmp_path, change, words):
    record = content(published)
    change(record["state_dict"])
    torch.save({"state_dict": record["state_dict"]}, tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=words):
        read_reference("amd", tmp_path / "model.ckpt")


def test_the_3d_twin_is_recognised_and_refused(tmp_path):
    state = {"out.backbone._conv_stem.weight": torch.zeros(2, 1, 3, 3, 3), "out.classifier.0.weight": torch.zeros(2, 2)}
    torch.save({"state_dict": state}, tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match="3D model, which is not imported"):
        read_reference("amd", tmp_path / "model.ckpt")


def test_another_number_of_inputs_is_refused(file):
    with pytest.raises(CheckpointError, match="with 3 inputs"):
        read_reference("amd", file, inputs=("mnv", "fluid", "ga"))


class Tool:
    """An object of a user's own in the hyperparameters; making one would be seen."""

    made = 0

    def __setstate__(self, state):
        Tool.made += 1


def test_objects_are_named_and_never_made(published, tmp_path):
    tool = Tool()
    tool.kept = 1
    torch.save(content(published, tool=tool), tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=r"holds objects of \S*Tool\. .* save its state dict alone"):
        read_reference("amd", tmp_path / "model.ckpt")
    assert Tool.made == 0
