"""Logits of a model that nnU-Net itself has trained, beside nnU-Net's own predictor in fp32."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from seewhy.interop.nnunet.folder import read_nnunet
from seewhy.io.zarr.mapped import ArraySource
from seewhy.io.zarr.opening import open_source
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.predictor import PatchPredictor, predict_array


class RawLogits(OutputFormat):
    """Stores what was blended, as it is."""

    dtype = np.dtype(np.float32)
    planes = 3

    def __call__(self, logits: Tensor) -> Tensor:
        return logits.clone()


@pytest.mark.slow
def test_logits_are_those_of_nnunets_predictor(tmp_path: Path):
    """CT and z-score normalisation, two folds, all mirrors, axes that nnU-Net transposes."""
    pytest.importorskip("nnunetv2")
    program = Path(__file__).with_name("train_nnunet.py")
    subprocess.run(
        [sys.executable, str(program), str(tmp_path)], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    compare(tmp_path)


def compare(folder: Path) -> float:
    """Largest difference of two logits at one voxel."""
    model = read_nnunet((folder / "model.txt").read_text())
    channels = [open_source(folder / "new" / f"case_{index:04d}.nii.gz") for index in range(2)]
    shape = channels[0].shape[1:]
    whole = tuple(slice(0, size) for size in shape)
    image = np.concatenate([channel.read(whole).astype(np.float32) for channel in channels])
    source = ArraySource(image, spacing=channels[0].spacing)
    assert model.transpose != (0, 1, 2)
    assert len(model.networks) == 2
    assert model.mirror_axes == (0, 1, 2)
    np.testing.assert_allclose(source.spacing, model.spacing)
    assert [scheme["scheme"] for scheme in model.normalization] == ["ct", "zscore"]
    predictor = PatchPredictor(model.networks, mirror_axes=model.mirror_axes)
    found = predict_array(
        source,
        predictor,
        patch=model.patch,
        output_format=RawLogits(mode="multiclass", channels=3),
        window="nnunet",
        normalization=model.normalization,
    )
    theirs = np.load(folder / "logits.npy")
    expected = theirs.transpose(0, *(1 + model.transpose.index(axis) for axis in range(3)))
    assert expected.std() > 0.1
    difference = float(np.abs(found - expected).max())
    assert difference < 1e-4
    torch.testing.assert_close(torch.from_numpy(found.argmax(0)), torch.from_numpy(expected.argmax(0)))
    return difference
