"""Checkpoints are read without unpickling, and fit or are refused by name."""

import os

import pytest
import torch
from torch import nn

from seewhy.errors import CheckpointError
from seewhy.interop.tensors import read_tensors
from seewhy.run.loaded.saved_run import load_state, read_checkpoint


class Payload:
    """What an attacker would put into a checkpoint."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_payload_is_refused_and_not_run(tmp_path):
    torch.save({"state_dict": {}, "x": Payload(tmp_path / "ran")}, tmp_path / "bad.ckpt")
    with pytest.raises(CheckpointError, match="could run code; refused"):
        read_checkpoint(tmp_path / "bad.ckpt")
    assert not (tmp_path / "ran").exists()


def test_missing_damaged_and_bare_files_are_told_apart(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        read_checkpoint(tmp_path / "none.ckpt")
    torch.save({"state_dict": {"w": torch.zeros(1000)}}, tmp_path / "cut.ckpt")
    content = (tmp_path / "cut.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(tmp_path / "cut.ckpt")
    torch.save({"w": torch.zeros(1)}, tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match=r"bare\.pth .*weights=…"):
        read_checkpoint(tmp_path / "bare.pth")


def test_weights_fit_or_the_first_of_each_difference_is_named(tmp_path):
    path = tmp_path / "a.ckpt"
    source = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    torch.save({"state_dict": source.state_dict()}, path)
    target = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    load_state(target, path)
    assert torch.equal(target[0].weight, source[0].weight)
    other = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1), nn.Linear(1, 1))
    with pytest.raises(CheckpointError, match=r"another model than Sequential: 2 missing \(first: 2.weight\), .*shape"):
        load_state(other, path)


@pytest.mark.parametrize(
    "content",
    [
        5,
        [torch.zeros(1)],
        {"state_dict": 5},
        {"state_dict": [torch.zeros(1)]},
        {"state_dict": {0: torch.zeros(1)}},
        {"state_dict": {"w": 5}},
        {"state_dict": {"w": {"x": torch.zeros(1)}}},
        {"state_dict": {}},
        {"state_dict": {"weight": torch.zeros(3, 2), "bias": torch.zeros(3, dtype=torch.complex64)}},
    ],
)
def test_other_layouts_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.ckpt")
    try:
        load_state(nn.Linear(2, 3), tmp_path / "other.ckpt")
    except CheckpointError as error:
        assert "other.ckpt" in str(error)  # noqa: PT017
    else:
        assert isinstance(content, dict)
        assert content["state_dict"]["bias"].is_complex()  # PyTorch copies the real part


@pytest.mark.parametrize("name", ["a.ckpt", "a.pth", "a.safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"\x80\x02}q\x00.", b"\x08" + bytes(7) + b"{broken}", b"x" * 64]
)
def test_garbled_files_are_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    for read in (read_checkpoint, read_tensors):
        with pytest.raises(CheckpointError, match=name):
            read(tmp_path / name)


@pytest.mark.parametrize("read", [read_checkpoint, read_tensors])
def test_a_pipe_is_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="pipe"):
        read(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": {"w": torch.zeros(2, 2).to_sparse()}},
        {"state_dict": {"w": torch.zeros(2, device="meta")}},
        {"state_dict": {"w": torch.zeros(2, dtype=torch.complex64)}},
        {"state_dict": {}, "pytorch-lightning_version": 5},
        {"state_dict": {}, "loops": 5},
        {"state_dict": {}, "callbacks": [1]},
        {"state_dict": {}, "epoch": "x"},
    ],
)
def test_entries_of_other_kinds_are_named(tmp_path, content):
    torch.save(content, tmp_path / "bad.ckpt")
    with pytest.raises(CheckpointError, match=r"bad\.ckpt .*(w|version|loops|callbacks|epoch) is "):
        read_checkpoint(tmp_path / "bad.ckpt")
    torch.save({"state_dict": {"w": torch.zeros(2)}, "epoch": 3, "loops": {}}, tmp_path / "good.ckpt")
    assert read_checkpoint(tmp_path / "good.ckpt")["epoch"] == 3
