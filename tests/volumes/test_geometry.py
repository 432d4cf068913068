"""Positions of patches: nnU-Net's, over the whole volume."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map
from scipy.ndimage import gaussian_filter

from seewhy.errors import ConfigError
from seewhy.volumes.geometry import WINDOWS, BlendingWindow, PatchGrid, clip, split, voxels


@pytest.mark.parametrize(
    ("length", "patch", "overlap", "starts"),
    [
        (160, 64, 0.5, (0, 32, 64, 96)),
        # By hand: ceil(86 / 32) + 1 = 4 positions, 86 / 3 = 28.67 apart.
        (150, 64, 0.5, (0, 29, 57, 86)),
        # 75 % of a patch between neighbours: ceil(86 / 48) + 1 = 3.
        (150, 64, 0.25, (0, 43, 86)),
        (64, 64, 0.5, (0,)),
        (128, 64, 0.0, (0, 64)),
        # 10 * (1 - 0.9) is a little below 1: the tolerance keeps that from adding a position.
        (12, 10, 0.9, (0, 1, 2)),
        # A patch of one voxel moves by one.
        (3, 1, 0.5, (0, 1, 2)),
        # A volume of 5 in a patch of 8 has 1 voxel of padding before it and 2 behind it.
        (5, 8, 0.5, (-1,)),
    ],
)
def test_known_positions(length, patch, overlap, starts):
    grid = PatchGrid(shape=(length, 9, 9), patch=(patch, 4, 4), overlap=overlap)
    assert grid.starts[0] == starts


@given(
    length=st.integers(1, 200),
    patch=st.integers(2, 40),
    overlap=st.floats(0, 0.9),
    low=st.integers(0, 199),
    extent=st.integers(1, 60),
)
def test_every_voxel_is_covered_and_found(length, patch, overlap, low, extent):
    grid = PatchGrid(shape=(length, 1, 1), patch=(patch, 2, 2), overlap=overlap)
    starts = grid.starts[0]
    covered = {voxel for start in starts for voxel in range(start, start + patch)}
    assert set(range(length)) <= covered
    assert all(b - a <= max(1, patch * (1 - grid.overlap)) + 1 for a, b in itertools.pairwise(starts))
    high = min(low + extent, length)
    if low < high:
        reached = [k for k, s in enumerate(starts) if set(range(s, s + patch)) & set(range(low, high))]
        assert list(grid.covering(0, low, high)) == reached


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"overlap": 1.0}, "overlap=1.0"),
        ({"overlap": -0.1}, "overlap=-0.1"),
        ({"patch": (4, 4)}, "three positive numbers"),
        ({"patch": (4, 0, 4)}, "three positive numbers"),
    ],
)
def test_bad_choices_are_refused(choices, words):
    with pytest.raises(ConfigError, match=words):
        PatchGrid(**({"shape": (20, 20, 20), "patch": (4, 4, 4)} | choices))


def test_boxes_split_on_a_grid_from_the_origin():
    box = (slice(3, 9), slice(0, 4), slice(5, 6))
    parts = list(split(box, (4, 8, 8)))
    assert [(part[0].start, part[0].stop) for part in parts] == [(3, 4), (4, 8), (8, 9)]
    assert sum(voxels(part) for part in parts) == voxels(box)
    assert clip((slice(-3, 2), slice(0, 99), slice(50, 60)), (10, 10, 10)) == (slice(0, 2), slice(0, 10), slice(10, 10))


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


@pytest.mark.parametrize("scale", [8.0, 4.0])
@pytest.mark.parametrize("patch", [(16, 16, 16), (9, 12, 15)])
def test_profiles_are_those_of_monai_and_nnunet(patch, scale):
    monai = compute_importance_map(patch, mode="gaussian", sigma_scale=1 / scale, dtype=torch.float32).numpy()
    ours = np.einsum("z,y,x->zyx", *(WINDOWS["gaussian"](size, scale) for size in patch))
    above = ours > 2e-3  # MONAI lifts everything below 1e-3
    assert np.allclose(ours[above] / ours.max(), monai[above] / monai.max(), rtol=1e-5)

    impulse = np.zeros(patch)
    impulse[tuple(size // 2 for size in patch)] = 1
    nnunet = gaussian_filter(impulse, [size / scale for size in patch], mode="constant", cval=0)
    ours = np.einsum("z,y,x->zyx", *(WINDOWS["nnunet"](size, scale) for size in patch))
    assert np.allclose(ours[nnunet > 0], nnunet[nnunet > 0], rtol=1e-10)


def test_all_but_nnunet_are_symmetric():
    for kind, profile in WINDOWS.items():
        values = profile(16)
        assert np.allclose(values, values[::-1]) == (kind != "nnunet")


def test_a_wider_gaussian_is_flatter_and_another_setting():
    grid = PatchGrid(shape=(24, 16, 16), patch=(16, 16, 16), overlap=0.5)
    usual, wide = (BlendingWindow(grid, sigma_scale=scale) for scale in (8.0, 4.0))
    assert usual.settings == "gaussian"
    assert wide.settings == "gaussian, sigma_scale 4"
    z = int(grid.starts[0][1])  # first voxel of the second patch, near the end of the first
    share = [float(window.weights((0, 0, 0))[z, 8, 8]) for window in (usual, wide)]
    offsets = np.array([z - 7.5, -7.5])
    for found, scale in zip(share, (8.0, 4.0), strict=True):
        profile = np.exp(-0.5 * (offsets / (16 / scale)) ** 2)
        assert found == pytest.approx(profile[0] / profile.sum(), abs=1e-6)
    for wrong in (0.0, -1.0, 1e3, float("nan")):
        with pytest.raises(ConfigError, match="sigma_scale"):
            BlendingWindow(grid, sigma_scale=wrong)


def test_unknown_window_names_the_nearest():
    grid = PatchGrid(shape=(4, 4, 4), patch=(4, 4, 4))
    with pytest.raises(ConfigError, match="'gaussian'"):
        BlendingWindow(grid, kind="gausian")
