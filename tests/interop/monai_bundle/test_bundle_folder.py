"""MONAI bundles that are read: networks and preprocessing as data, no expression run, weights read safely."""

import json
import math
import os

import monai.bundle
import numpy as np
import pytest
import torch
from monai import transforms
from monai.networks.nets import DynUNet, SegResNet, UNet

from seewhy.errors import CheckpointError
from seewhy.interop.monai_bundle.config import BundleConfig, Preprocessing, read_preprocessing
from seewhy.interop.monai_bundle.folder import read_bundle
from seewhy_run.steps.volumes import _bind

UNET = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}
LOAD = [{"_target_": "LoadImaged", "keys": "image"}, {"_target_": "EnsureChannelFirstd", "keys": "image"}]


def config(**changes):
    return {
        "imports": ["$import os"],
        "patch_size": [8, 16, 24],
        "network_def": {"_target_": "UNet", **UNET},
        "preprocessing": {"_target_": "Compose", "transforms": LOAD},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": "@patch_size", "overlap": 0.5},
        **changes,
    }  # fmt: skip


def write(folder, content, network=None, metadata=None):
    for name in ("configs", "models"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "configs" / "inference.json").write_text(json.dumps(content, indent=4))
    if metadata is not None:
        (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    torch.manual_seed(0)
    network = UNet(**UNET) if network is None else network
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return network.eval()


def test_a_bundle_that_monai_itself_begins_is_read_and_its_axes_are_turned(tmp_path):
    folder = tmp_path / "begun"
    torch.manual_seed(1)
    network = UNet(**UNET).eval()
    monai.bundle.init_bundle(str(folder), network=network)
    file = folder / "configs" / "inference.json"
    begun = json.loads(file.read_text())
    begun["network_def"] = {"_target_": "UNet", **UNET}
    begun["preprocessing"] = {"_target_": "Compose", "transforms": LOAD}
    begun["inferer"] = {"_target_": "SlidingWindowInferer", "roi_size": [8, 16, 24]}
    file.write_text(json.dumps(begun))
    loaded = read_bundle(folder)
    assert loaded.patch == (24, 16, 8)
    image = torch.rand(1, 1, 24, 16, 8)
    with torch.no_grad():
        ours, theirs = loaded.network(image), network(image.permute(0, 1, 4, 3, 2))
    torch.testing.assert_close(ours, theirs.permute(0, 1, 4, 3, 2), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments", "network"),
    [
        ("monai.networks.nets.SegResNet", {"spatial_dims": 3, "init_filters": 8, "out_channels": 2}, SegResNet),
        (
            "monai.networks.nets.dynunet.DynUNet",
            {
                "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "kernel_size": [3, 3, 3], "strides": [1, 2, 2],
                "upsample_kernel_size": [2, 2], "filters": [4, 8, 8], "norm_name": ["INSTANCE", {"affine": True}],
            },
            DynUNet,
        ),
    ],
)  # fmt: skip
def test_networks_are_built_from_plain_arguments_and_looked_up_values(tmp_path, name, arguments, network):
    built = write(
        tmp_path,
        config(network_def={"_target_": name, **arguments, "out_channels": "@heads"}, heads=2),
        network(**arguments),
    )
    image = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        expected = built(image.permute(0, 1, 4, 3, 2)).permute(0, 1, 4, 3, 2)
        torch.testing.assert_close(read_bundle(tmp_path).network(image), expected)


DENSE = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2}
SPY = "$open('opened', 'w').write('x')"


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"network_def": {"_target_": "UNet", **UNET, "in_channels": "$1 + 0"}}, ["network_def#in_channels", "line 1"]),
        ({"network_def": {"_target_": "UNet", **UNET, "channels": SPY}}, ["network_def#channels", "never evaluated"]),
        ({"network_def": SPY}, ["network_def", "not a network"]),
        ({"network_def": {"_target_": "UNet", **UNET, "in_channels": "%other.json#n"}}, ["in_channels", "macro"]),
        ({"network_def": {"_target_": "UNet", **UNET, "in_channels": "@n + 1"}, "n": 0}, ["calculation"]),
        ({"network_def": {"_target_": "UNet", **UNET, "in_channels": "@n"}}, ["in_channels", "names no value"]),
        ({"network_def": {"_target_": "UNet", **UNET, "in_channels": "@n"}, "n": "@m", "m": "@n"}, ["itself"]),
        ({"network_def": {"_target_": "UNet", **UNET, "in_channels": "@n"}, "n": SPY}, ["n = ", "never evaluated"]),
        ({"network_def": {"_target_": "os.system", "command": "touch opened"}}, ["os.system", "nearest"]),
        ({"network_def": {"_target_": "monai.networks.nets.Unet", **UNET}}, ["'UNet'"]),
        ({"network_def": {"_target_": "evil.UNet", **UNET}}, ["evil.UNet"]),
        ({"network_def": {"_target_": "UNet", **UNET, "chanels": [4]}}, ["chanels", "nearest: 'channels'"]),
        ({"network_def": {"_target_": "UNet", **UNET, "act": {"_target_": "os.getcwd"}}}, ["network_def#act"]),
        ({"network_def": {"_target_": "UNet", **UNET, "channels": [4, "x"]}}, ["cannot be built"]),
        ({"network_def": {"_target_": "UNet", **UNET, "_mode_": "debug"}}, ["_mode_"]),
        ({"network_def": {"_target_": "DenseNet121", **DENSE}}, ["no volumes"]),
    ],
)  # fmt: skip
def test_nothing_is_evaluated_and_what_is_refused_is_named(tmp_path, monkeypatch, changes, facts):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "bundle", config(imports=[SPY], initialize=[SPY], **changes))
    with pytest.raises(CheckpointError) as error:
        read_bundle(tmp_path / "bundle")
    assert all(fact in str(error.value) for fact in facts), str(error.value)
    assert os.listdir(tmp_path) == ["bundle"]


def test_an_error_names_the_line_of_the_file(tmp_path):
    write(tmp_path, config(network_def={"_target_": "UNet", **UNET, "out_channels": "$2"}))
    lines = (tmp_path / "configs" / "inference.json").read_text().splitlines()
    number = next(i for i, line in enumerate(lines, start=1) if "$2" in line)
    with pytest.raises(CheckpointError, match=f"line {number}: network_def#out_channels"):
        read_bundle(tmp_path)


def test_weights_are_read_safely_and_programs_are_not_loaded(tmp_path):
    network = write(tmp_path, config())
    weights = tmp_path / "models" / "model.pt"
    torch.save({"model": network.state_dict()}, weights)  # as MONAI's CheckpointSaver writes them
    assert read_bundle(tmp_path).channels == 1
    torch.save(UNet(**{**UNET, "channels": [8, 8]}).state_dict(), weights)
    with pytest.raises(CheckpointError, match="another network"):
        read_bundle(tmp_path)
    torch.save(network, weights)  # pickles the class
    with pytest.raises(CheckpointError):
        read_bundle(tmp_path)
    weights.rename(weights.with_suffix(".ts"))
    with pytest.raises(CheckpointError, match=r"model\.ts is a program"):
        read_bundle(tmp_path)


VOLUME = np.random.default_rng(0).normal(40, 200, (1, 6, 7, 8)).astype(np.float32)
KNOWN = [
    {"_target_": "ScaleIntensityRanged", "a_min": -175, "a_max": 250, "b_min": 0.0, "b_max": 1.0, "clip": True},
    {"_target_": "ScaleIntensityRanged", "a_min": -100, "a_max": 300, "b_min": -2.0, "b_max": 3.0, "clip": True},
    {"_target_": "ScaleIntensityRanged", "a_min": 0, "a_max": 255, "b_min": 0, "b_max": 1},
    {"_target_": "NormalizeIntensityd"},
    {"_target_": "NormalizeIntensityd", "nonzero": True, "channel_wise": True},
    {"_target_": "ScaleIntensityd", "minv": 0.0, "maxv": 1.0},
    {"_target_": "ScaleIntensityRangePercentilesd", "lower": 1, "upper": 99, "b_min": 0, "b_max": 1, "clip": True},
]


@pytest.mark.parametrize("transform", KNOWN, ids=lambda node: "-".join(map(str, node.values())))
def test_normalisations_give_what_the_transforms_of_monai_give(tmp_path, transform):
    image = VOLUME.copy()
    image[:, :2] = 0
    write(tmp_path, config(preprocessing={"transforms": [*LOAD, {**transform, "keys": "image"}]}))
    read = read_preprocessing(BundleConfig(tmp_path / "configs" / "inference.json", {}), channels=1)
    assert isinstance(read, Preprocessing), read
    options = {key: value for key, value in transform.items() if key != "_target_"}
    expected = getattr(transforms, transform["_target_"])(keys="image", **options)({"image": torch.tensor(image)})
    found = normalize(read.normalization, image)
    np.testing.assert_allclose(found, expected["image"].numpy(), atol=2e-5)


def normalize(scheme, image):
    return _bind(dict(scheme), image, 0)(image, 0)[None]


@pytest.mark.parametrize(
    "transform",
    [
        {"_target_": "CropForegroundd"},
        {"_target_": "Resized", "spatial_size": [8, 8, 8]},
        {"_target_": "ScaleIntensityRanged", "a_min": 5, "a_max": 250, "b_min": 0.0, "b_max": 1.0},
        {"_target_": "NormalizeIntensityd", "subtrahend": 3.0},
        {"_target_": "Lambdad", "func": SPY},
    ],
)
def test_other_preprocessing_is_named_and_leaves_the_network_usable(tmp_path, transform):
    write(tmp_path, config(preprocessing={"transforms": [*LOAD, {**transform, "keys": "image"}]}))
    loaded = read_bundle(tmp_path)
    assert loaded.normalization is None
    assert transform["_target_"] in loaded.problem


def test_voxel_sizes_and_orientation_are_those_of_the_transforms(tmp_path):
    steps = [{"_target_": "Orientationd", "axcodes": "RAS"}, {"_target_": "Spacingd", "pixdim": [0.7, 0.8, -1]}]
    channels = {"0": "background", "1": "spleen"}
    metadata = {"network_data_format": {"outputs": {"pred": {"channel_def": channels}}}}
    write(tmp_path, config(preprocessing={"transforms": [*LOAD, *steps]}), metadata=metadata)
    loaded = read_bundle(tmp_path)
    z, y, x = loaded.spacing
    assert (y, x) == (0.8, 0.7)
    assert math.isnan(z)
    assert loaded.orientation == "RAS"
    assert loaded.classes == ("background", "spleen")
    assert loaded.normalization == [{"scheme": "none"}]


def test_a_yaml_configuration_is_read_without_aliases(tmp_path):
    write(tmp_path, config())
    file = tmp_path / "configs" / "inference.json"
    arguments = "spatial_dims: 3, in_channels: 1, out_channels: 2, channels: [4, 8], strides: [2]"
    text = f"network_def: {{_target_: UNet, {arguments}}}\n"
    file.with_suffix(".yaml").write_text(text)
    file.unlink()
    assert read_bundle(tmp_path).patch is None
    file.with_suffix(".yaml").write_text("a: &a [1]\nb: *a\n" + text)
    with pytest.raises(CheckpointError, match="aliases"):
        read_bundle(tmp_path)
