"""What may stand beside tensors in a file, under the names of old and new libraries, and what may not."""

import argparse
import json
import pathlib
import pickle
import zipfile

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.data import AttributeDict

from seewhy.errors import CheckpointError
from seewhy.interop.tensors import check_finite_weights, read_file, read_tensors, to_plain_data

RECORD = {
    "numbers": [np.float64(0.5), np.float32(0.25), np.int64(3), np.bool_(True)],
    "array": np.arange(3.0),
    "paths": [pathlib.Path("/data"), pathlib.PurePosixPath("a/b")],
    "options": AttributeDict(lr=0.1),
    "arguments": argparse.Namespace(folds=5),
}


def with_bytes_replaced(source, target, old, new):
    """A copy of a PyTorch file whose pickle says `new` where it said `old` (of equal length or not)."""
    with zipfile.ZipFile(source) as read, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as write:
        for entry in read.infolist():
            content = read.read(entry)
            write.writestr(
                entry.filename, content.replace(old, new) if entry.filename.endswith("data.pkl") else content
            )


@pytest.mark.parametrize("module", [b"numpy._core.multiarray", b"numpy.core.multiarray"])
def test_numbers_of_both_numpys_and_paths_are_read(tmp_path, module):
    torch.save(RECORD, tmp_path / "a.pth")
    own = b"numpy._core.multiarray" if hasattr(np, "_core") else b"numpy.core.multiarray"
    with_bytes_replaced(tmp_path / "a.pth", tmp_path / "b.pth", own, module)
    found = read_file(tmp_path / "b.pth")
    assert found["numbers"] == RECORD["numbers"]
    assert np.array_equal(found["array"], RECORD["array"])
    assert [str(path) for path in found["paths"]] == ["/data", "a/b"]
    assert found["options"] == {"lr": 0.1}
    assert type(found["options"]) is dict
    assert found["arguments"].folds == 5


def test_lightnings_older_package_and_other_systems_paths(tmp_path):
    torch.save({"options": AttributeDict(lr=0.1), "path": pathlib.PurePosixPath("a")}, tmp_path / "a.pth")
    name, old = b"lightning.fabric.utilities.data", b"pytorch_lightning.utilities.parsing"
    with_bytes_replaced(tmp_path / "a.pth", tmp_path / "b.pth", name, old)
    with_bytes_replaced(tmp_path / "b.pth", tmp_path / "c.pth", b"PurePosixPath", b"WindowsPath")
    found = read_file(tmp_path / "c.pth")
    assert found["options"] == {"lr": 0.1}
    assert found["path"] == pathlib.PureWindowsPath("a")


def test_plain_data_is_json():
    record = to_plain_data({**RECORD, 1: (float("nan"), torch.zeros(2, 3)), "none": None, "type": int})
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["numbers"] == [0.5, 0.25, 3, True]
    assert record["arguments"] == {"folds": 5}
    assert record["1"] == ["nan", "array of shape (2, 3)"]


class Evil:
    """Would leave a file behind if it were ever unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_code_is_never_run_and_its_name_is_told(tmp_path):
    target = tmp_path / "made"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "extra": Evil(target)}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match=r"holds objects of \S*open\."):
        read_tensors(tmp_path / "evil.ckpt")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Evil(target), protocol=2))
    with pytest.raises(CheckpointError, match="not loaded"):
        read_tensors(tmp_path / "plain.pkl")
    assert not target.exists()


@pytest.mark.parametrize("content", [b"\x95\x00", b"\x80\x02\x00.", b"\x80\x02}q\x00", b"\xff" * 40])
def test_pickles_with_other_instructions_are_refused(tmp_path, content):
    torch.save({"a": torch.zeros(2)}, tmp_path / "good.pth")
    with zipfile.ZipFile(tmp_path / "good.pth") as read, zipfile.ZipFile(tmp_path / "bad.pth", "w") as write:
        for entry in read.infolist():
            write.writestr(entry, content if entry.filename.endswith("data.pkl") else read.read(entry))
    with pytest.raises(CheckpointError, match=r"bad\.pth"):
        read_file(tmp_path / "bad.pth")


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.to_sparse(),
        lambda values: values.to("meta"),
        lambda values: values.to(torch.complex64),
        lambda values: torch.quantize_per_tensor(values, 0.1, 0, torch.qint8),
    ],
    ids=["sparse", "meta", "complex", "quantized"],
)
def test_tensors_that_are_no_plain_weights_are_refused(tmp_path, change):
    torch.save({"state_dict": {"a": torch.ones(2), "b": change(torch.ones(2))}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth.*b is a torch\."):
        read_tensors(tmp_path / "a.pth")


def test_weights_as_integers_are_refused_but_integer_buffers_are_not():
    network = torch.nn.BatchNorm1d(2)
    check_finite_weights(network, network.state_dict(), "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth.*weight, torch\.int8"):
        check_finite_weights(network, {**network.state_dict(), "weight": torch.ones(2, dtype=torch.int8)}, "a.pth")


def test_a_buffer_that_is_no_number_is_refused_where_the_networks_own_is_one():
    network = torch.nn.Linear(1, 1)
    network.register_buffer("temperature", torch.ones(()))
    network.register_buffer("unknown", torch.tensor(float("nan")))
    check_finite_weights(network, network.state_dict(), "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth.*temperature"):
        check_finite_weights(network, {**network.state_dict(), "temperature": torch.tensor(float("nan"))}, "a.pth")
