from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.networks.nets import UNet
from safetensors.torch import save_file
from torch import nn

from seewhy.errors import CheckpointError
from seewhy.interop.weights import load_network


def net(seed: int, **more: object) -> nn.Module:
    torch.manual_seed(seed)
    options = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": (4, 8), "strides": (2,), **more}
    return UNet(**options)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "net.", "network._orig_mod."])
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "misnamed.pth", "lightning.ckpt"])
def test_all_ways_to_save_weights(tmp_path: Path, prefix: str, name: str):
    state = {prefix + key: tensor.clone() for key, tensor in net(0).state_dict().items()}
    if name in ("a.safetensors", "misnamed.pth"):
        save_file(state, tmp_path / name)
    else:
        torch.save({"state_dict": state, "epoch": 3} if name.endswith("ckpt") else state, tmp_path / name)
    network = net(1)
    load_network(network, tmp_path / name)
    for key, tensor in net(0).state_dict().items():
        torch.testing.assert_close(network.state_dict()[key], tensor, rtol=0, atol=0)


def test_loading_is_strict(tmp_path: Path):
    state = net(0).state_dict()
    first = next(iter(state))
    for change, message in [
        ({key: tensor for key, tensor in state.items() if key != first}, "1 not in the file"),
        ({**state, "extra": torch.ones(1)}, "1 only in the file: extra"),
        (net(0, out_channels=3).state_dict(), "of another shape"),
        ({f"other.{key}": tensor for key, tensor in state.items()}, "only in the file"),
    ]:
        torch.save(change, tmp_path / "a.pth")
        network = net(1)
        before = network.state_dict()[first].clone()
        with pytest.raises(CheckpointError, match=message) as caught:
            load_network(network, tmp_path / "a.pth")
        assert "\n" not in str(caught.value)
        torch.testing.assert_close(network.state_dict()[first], before, rtol=0, atol=0)


def test_damaged_safetensors(tmp_path: Path):
    save_file({"a": torch.ones(100)}, tmp_path / "a.pth")
    (tmp_path / "a.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="cannot be read as a safetensors file"):
        load_network(net(0), tmp_path / "a.pth")
