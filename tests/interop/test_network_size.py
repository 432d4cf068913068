"""Networks of files of data: those that their weights cannot fill are refused before memory is taken."""

import json
import resource

import pytest
import torch
from monai.networks import nets
from nnunet_folders import architecture, plans, write_folder

from seewhy.errors import CheckpointError
from seewhy.interop.monai_bundle.folder import read_bundle
from seewhy.interop.network_size import limit_network
from seewhy.interop.nnunet.folder import read_nnunet
from seewhy.interop.tensors import read_tensors

MOST = 300
"""Megabytes that a refusal may take: a network of 16 million weights, and the libraries that it imports."""
HUGE = {
    "channels": ("UNet", {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [10**6, 10**6],
                          "strides": [2]}),
    "depth": ("SegResNet", {"init_filters": 8, "blocks_down": [10**8]}),
    "units": ("DenseNet", {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "growth_rate": 1,
                           "block_config": [10**9]}),
    "window": ("SwinUNETR", {"in_channels": 1, "out_channels": 2, "feature_size": 12, "window_size": 900}),
    "image": ("UNETR", {"in_channels": 1, "out_channels": 2, "img_size": 960000, "hidden_size": 12, "num_heads": 2,
                        "mlp_dim": 12}),
    "outputs": ("VNet", {"out_channels": 10**9}),
}  # fmt: skip


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_bundle(folder, name, arguments, network=None):
    for part in ("configs", "models"):
        (folder / part).mkdir(parents=True)
    content = {"network_def": {"_target_": name, **arguments}}
    (folder / "configs" / "inference.json").write_text(json.dumps(content))
    state = {} if network is None else network.state_dict()
    torch.save({"weight": torch.zeros(3), **state}, folder / "models" / "model.pt")


@pytest.mark.parametrize("kind", sorted(HUGE))
def test_huge_networks_of_bundles_are_refused(tmp_path, kind):
    write_bundle(tmp_path, *HUGE[kind])
    before = peak()
    with pytest.raises(CheckpointError, match=r"inference\.json names a network (with|of) more than") as refused:
        read_bundle(tmp_path)
    assert "\n" not in str(refused.value)
    assert peak() - before < MOST


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("UNet", {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}),
        ("SwinUNETR", {"in_channels": 1, "out_channels": 2, "feature_size": 12}),
        ("SegResNet", {"init_filters": 8, "out_channels": 2}),
    ],
)
def test_networks_that_fit_are_built_as_without_a_limit(tmp_path, name, arguments):
    path = tmp_path / "weights.pt"
    torch.manual_seed(0)
    plain = getattr(nets, name)(**arguments)
    torch.save(plain.state_dict(), path)
    torch.manual_seed(0)
    with limit_network(path, where="config.json"):
        limited = getattr(nets, name)(**arguments)
    assert limited.state_dict().keys() == plain.state_dict().keys()
    for key, value in plain.state_dict().items():
        assert torch.equal(limited.state_dict()[key], value), key


def test_the_limit_is_the_size_of_the_file(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"0" * (1 << 25))
    with limit_network(path, where="config.json"):
        torch.nn.Linear(1 << 13, 1 << 12, bias=False)
    with limit_network(path, where="config.json"):
        torch.nn.Sequential(*[torch.nn.Linear(1 << 10, 1 << 10) for _ in range(20)])
    message = rf"more than {1 << 25} weights, but .*weights\.pt has {1 << 25} bytes"
    with limit_network(path, where="config.json"), pytest.raises(CheckpointError, match=message):
        torch.nn.Sequential(*[torch.nn.Linear(1 << 12, 1 << 11) for _ in range(5)])  # each fits
    torch.nn.Linear(1 << 13, 1 << 13)  # no limit any more


def test_huge_plans_of_nnunet_are_refused(tmp_path):
    pytest.importorskip("dynamic_network_architectures")
    write_folder(tmp_path / "m", plans(architecture=architecture("PlainConvUNet")), folds=("0",))
    content = json.loads((tmp_path / "m" / "plans.json").read_text())
    text = json.dumps(content)
    kwargs = next(iter(content["configurations"].values()))["architecture"]["arch_kwargs"]
    kwargs["features_per_stage"] = [2000] * len(kwargs["features_per_stage"])
    (tmp_path / "m" / "plans.json").write_text(json.dumps(content))
    before = peak()
    with pytest.raises(CheckpointError, match=r"plans\.json names a network with more than"):
        read_nnunet(tmp_path / "m")
    assert peak() - before < MOST
    (tmp_path / "m" / "plans.json").write_text(text)
    assert len(read_nnunet(tmp_path / "m").networks) == 1


def test_tensors_that_repeat_one_value_are_refused(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"weight": torch.zeros(1).expand(10**6, 10**6)}, path)
    assert path.stat().st_size < 5000
    with pytest.raises(CheckpointError, match=r"weight repeats values to the shape \(1000000, 1000000\)"):
        read_tensors(path)
    tied = torch.zeros(4, 4)
    torch.save({"a": tied, "b": tied, "c": tied[1:3, ::2], "d": tied.T, "e": torch.zeros(0)}, path)
    assert len(read_tensors(path)) == 5
