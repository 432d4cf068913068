"""Reference checkpoints as run folders: what they are configured to do, and that they compute what they did."""

import json
import re

import numpy as np
import pytest
import torch
import torchvision
from omegaconf import OmegaConf
from torch import nn

from seewhy.cli.compose import compose_train
from seewhy.cli.main import main
from seewhy.errors import CheckpointError, ConfigError
from seewhy.interop.reference.checkpoints import REFERENCES, read_reference
from seewhy.models.classification.amd import AMDGrading
from seewhy.models.classification.mri import MRIClassification
from seewhy.run.importing import import_checkpoint


@pytest.fixture(scope="module")
def mri_file(tmp_path_factory):
    """`best_model.pth` of the MRI reference, at the small size, with the number it published for its slices."""
    torch.manual_seed(0)
    net = torchvision.models.efficientnet_v2_s(weights=None)
    net.features[0][0] = nn.Conv2d(115, 24, 3, 2, 1, bias=False)
    net.classifier = nn.Sequential(nn.Dropout(0.4), nn.Linear(1280, 1))
    folder = tmp_path_factory.mktemp("mri")
    state = {f"backbone.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"epoch": 3, "model_state_dict": state, "metrics": {"auc": np.float64(0.8)}}, folder / "best_model.pth")
    parameters = {"dropout_rate": 0.25, "learning_rate": 3e-5, "batch_size": 4, "random_seed": 7, "test_csv": "val.csv"}
    (folder / "parameters.json").write_text(json.dumps(parameters))
    return folder / "best_model.pth", net.eval()


@pytest.fixture(scope="module")
def amd_file(tmp_path_factory):
    """A `.ckpt` of the AMD reference."""
    torch.manual_seed(0)
    net = nn.ModuleDict(
        {f"backbone{k}": torchvision.models.efficientnet_b0(weights=None).features for k in range(1, 5)}
    )
    net["to3"] = nn.Conv2d(1, 3, 1)
    net["classifier"] = nn.Sequential(nn.Linear(5120, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 4))
    state = {f"out.{name}": tensor for name, tensor in net.state_dict().items()}
    config = {"NetModule": {"model_name": "efficientnet_b5"}}
    path = tmp_path_factory.mktemp("amd") / "model.ckpt"
    torch.save({"state_dict": state, "epoch": 1, "hyper_parameters": {"config": config}}, path)
    return path


def mri_config():
    return compose_train("data=mri", "model=mri")


def amd_config():
    return compose_train("data=amd", "model=amd")


def settings_of(folder):
    return OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))["config"]


def test_mri_run_sees_what_the_reference_saw(mri_file, tmp_path):
    file, net = mri_file
    parameters = file.with_name("parameters.json")
    options = {"classes": ["HC", "TLE"], "root": None, "overwrite": False}
    told = import_checkpoint("mri", file, tmp_path, mri_config(), parameters=parameters, **options)
    assert told.startswith("efficientnet_v2_s, 115 slices, one logit → ")
    settings = settings_of(tmp_path)
    data = settings["data"]
    assert (data["axis"], data["slices"], data["depth"]) == (1, [10, 125], None)
    assert (data["size"], data["pad"], data["normalize"], data["batch_size"]) == (112, 8, "zscore", 4)
    assert (settings["seed"], settings["model"]["dropout"]) == (7, 0.25)
    assert settings["model"]["optimizer"]["lr"] == 3e-5
    record = json.loads((tmp_path / "imported.json").read_text())
    assert record["their_metrics"] == {"auc": 0.8}
    assert record["their_parameters"]["test_csv"] == "val.csv"
    assert len(record["sha256"]) == 64
    model = MRIClassification.load_from_checkpoint(tmp_path / "checkpoints" / "best.ckpt", weights_only=True).eval()
    volume = torch.randn(1, 1, 115, 128, 128)
    with torch.no_grad():
        assert torch.allclose(model(volume), net(volume[:, 0]), atol=1e-6)
    with pytest.raises(ConfigError, match="already holds a run"):
        import_checkpoint("mri", file, tmp_path, mri_config(), parameters=None, **options)


def test_amd_run_has_the_networks_that_are_in_the_file(amd_file, tmp_path):
    told = import_checkpoint(
        "amd",
        amd_file,
        tmp_path,
        amd_config(),
        inputs=["mnv", "fluid", "ga", "drusen"],
        classes=["normal", "early", "intermediate", "advanced"],
        normalize="bio",
        root="/data/amd",
        overwrite=False,
    )
    assert told.startswith("efficientnet_b0 (its configuration calls it efficientnet_b5), 4 inputs, 4 classes → ")
    settings = settings_of(tmp_path)
    assert settings["model"]["backbone"] == {"name": "efficientnet_b0", "library": "torchvision"}
    assert (settings["model"]["head"]["hidden"], settings["model"]["stem"]) == (64, "conv1x1")
    assert (settings["data"]["normalize"], settings["data"]["image_size"]) == ("bio", None)
    assert settings["data"]["root"] == "/data/amd"
    model = AMDGrading.load_from_checkpoint(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    theirs = torch.load(amd_file, weights_only=True)["state_dict"]
    ours = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("net.")}
    assert len(ours) == len(theirs)
    for name in ("2.0.block.0.0.weight", "8.1.running_var"):
        assert torch.equal(ours[f"net.branches.ga.net.features.{name}"], theirs[f"out.backbone3.{name}"])


@pytest.mark.parametrize("classes", [["HC"], ["HC", "left", "right"]])
def test_names_must_be_as_many_as_classes(mri_file, tmp_path, classes):
    with pytest.raises(CheckpointError, match=f"has 2 classes, but {len(classes)} names.*--classes"):
        import_checkpoint(
            "mri", mri_file[0], tmp_path, mri_config(), parameters=None, classes=classes, root=None, overwrite=False
        )
    assert not (tmp_path / "config.yaml").exists()


def test_records_that_are_no_mappings_are_left_out(amd_file, tmp_path):
    content = torch.load(amd_file, weights_only=True)
    deep = []
    for _ in range(200):
        deep = [deep]
    for config in (5, [1], {"deep": deep, "NetModule": [1]}):
        torch.save({**content, "hyper_parameters": {"config": config}}, tmp_path / "model.ckpt")
        record = read_reference("amd", tmp_path / "model.ckpt").record
        assert set(record) == ({"deep", "NetModule"} if isinstance(config, dict) else set())
        assert len(json.dumps(record)) < 500


@pytest.mark.parametrize(
    ("experiment", "fact"),
    [("brat", "nearest: 'brats'"), ("../data/brats", "unknown"), ("a b=c", "unknown"), ("volume", "VolumesDataModule")],
)
def test_experiments_without_slices_are_refused(tmp_path, capsys, experiment, fact):
    sizes = {"network": "mit_b0", "num_classes": 2, "in_channels": 3, "attention_blocks": 2, "decoder_dim": 256}
    torch.save(nn.ModuleDict(REFERENCES["afa"].build(sizes)).state_dict(), tmp_path / "best.pth")
    with pytest.raises(SystemExit, match="1"):
        main(["import", "afa", str(tmp_path / "best.pth"), str(tmp_path / "out"), f"--experiment={experiment}"])
    assert re.fullmatch(rf"error: [^\n]*{fact}[^\n]*\n", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("parameters", "classes", "fact"),
    [
        ({"batch_size": 0}, ["HC", "TLE"], "data.batch_size=0"),
        ({"random_seed": 1e30}, ["HC", "TLE"], r"random_seed=1e\+30"),
        ({}, ["", "TLE"], "not empty"),
        ({}, ["TLE", "TLE"], "different names"),
    ],
)
def test_impossible_parameters_and_names_of_classes_are_refused(mri_file, tmp_path, parameters, classes, fact):
    (tmp_path / "parameters.json").write_text(json.dumps(parameters))
    with pytest.raises((CheckpointError, ConfigError), match=fact):
        import_checkpoint(
            "mri", mri_file[0], tmp_path / "out", mri_config(), parameters=tmp_path / "parameters.json", classes=classes
        )
    assert not (tmp_path / "out").exists()
