"""Weights of patches."""

import itertools

import numpy as np
import pytest
import torch
from monai.data.utils import compute_importance_map
from scipy.ndimage import gaussian_filter

from seewhy.errors import ConfigError
from seewhy.volumes.geometry import WINDOWS, BlendingWindow, PatchGrid


@pytest.mark.parametrize("kind", sorted(WINDOWS))
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5, 0.75])
def test_weights_sum_to_one_at_every_voxel(kind, overlap):
    grid = PatchGrid(shape=(41, 30, 9), patch=(16, 13, 12), overlap=overlap)
    window = BlendingWindow(grid, kind=kind)
    total = torch.zeros(41, 30, 12)  # the last axis is shorter than its patch
    for position in itertools.product(*(range(len(starts)) for starts in grid.starts)):
        z, y, _ = grid.box(position)
        total[z, y] += window.weights(position)
    assert (total - 1).abs().max() < 1e-6


@pytest.mark.parametrize("patch", [(16, 16, 16), (9, 12, 15)])
def test_profiles_are_those_of_monai_and_nnunet(patch):
    monai = compute_importance_map(patch, mode="gaussian", sigma_scale=0.125, dtype=torch.float32).numpy()
    ours = np.einsum("z,y,x->zyx", *(WINDOWS["gaussian"](size) for size in patch))
    above = ours > 2e-3  # MONAI lifts everything below 1e-3
    assert np.allclose(ours[above] / ours.max(), monai[above] / monai.max(), rtol=1e-5)

    impulse = np.zeros(patch)
    impulse[tuple(size // 2 for size in patch)] = 1
    nnunet = gaussian_filter(impulse, [size / 8 for size in patch], mode="constant", cval=0)
    ours = np.einsum("z,y,x->zyx", *(WINDOWS["nnunet"](size) for size in patch))
    assert np.allclose(ours[nnunet > 0], nnunet[nnunet > 0], rtol=1e-10)


def test_all_but_nnunet_are_symmetric():
    for kind, profile in WINDOWS.items():
        values = profile(16)
        assert np.allclose(values, values[::-1]) == (kind != "nnunet")


def test_unknown_window_names_the_nearest():
    grid = PatchGrid(shape=(4, 4, 4), patch=(4, 4, 4))
    with pytest.raises(ConfigError, match="'gaussian'"):
        BlendingWindow(grid, kind="gausian")
