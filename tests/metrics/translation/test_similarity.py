import math

import numpy as np
import pytest
import torch

from seewhy.metrics.translation.similarity import METRICS, similarity, slice_similarity

S, M, H, W = 3, 4, 32, 40


def images(seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(S, M, H, W, generator=generator) * 2 - 1
    target = (image + 0.3 * torch.randn(S, M, H, W, generator=generator)).clamp(-1, 1)
    return image, target


def interior(margin=5):
    body = torch.zeros(S, H, W, dtype=torch.bool)
    body[:, margin:-margin, margin:-margin] = True
    return body


def test_parity_with_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    image, target = images()
    # Both pad differently, so only windows inside the image are compared.
    found = slice_similarity(image, target, interior())
    for s in range(S):
        for m in range(M):
            one, other = ((values[s, m].double().numpy() + 1) / 2 for values in (image, target))
            expected, _ = metrics.structural_similarity(
                one, other, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
            )
            assert float(found["ssim"][s, m]) == pytest.approx(expected, abs=1e-5)
            inner = (slice(5, -5), slice(5, -5))
            psnr = metrics.peak_signal_noise_ratio(one[inner], other[inner], data_range=1)
            assert float(found["psnr"][s, m]) == pytest.approx(psnr, abs=1e-4)


def test_errors_by_hand():
    image, target = torch.full((1, 1, 8, 8), -1.0), torch.full((1, 1, 8, 8), -1.0)
    target[0, 0, 2, 2:4] = torch.tensor([0.0, 1.0])  # 0.5 and 1 on the scale of errors
    body = torch.zeros(1, 8, 8, dtype=torch.bool)
    body[0, 2, 0:4] = True
    found = slice_similarity(image, target, body)
    assert float(found["mae"]) == pytest.approx(1.5 / 4)
    assert float(found["mse"]) == pytest.approx(1.25 / 4)
    assert float(found["psnr"]) == pytest.approx(10 * math.log10(4 / 1.25))


def test_equal_images():
    image, _ = images()
    found = slice_similarity(image, image.clone(), interior())
    assert torch.allclose(found["ssim"], torch.ones(S, M))
    assert found["psnr"].isposinf().all()
    assert found["mae"].abs().max() == 0


def test_background_does_not_count():
    image, target = images()
    body = interior(12)
    changed = torch.where(interior(4)[:, None], target, torch.rand(S, M, H, W))  # beyond any window
    before, after = slice_similarity(image, target, body), slice_similarity(image, changed, body)
    for name in METRICS:
        assert torch.allclose(before[name], after[name], atol=1e-6), name


def test_slices_without_tissue_are_nan_and_weigh_nothing():
    image, target = images()
    body = interior()
    body[1] = False
    slices, volume = similarity(image, target, body)
    kept = torch.tensor([0, 2])
    assert all(slices[name][1].isnan().all() and not slices[name][kept].isnan().any() for name in METRICS)
    _, without = similarity(image[kept], target[kept], body[kept])
    assert all(torch.allclose(volume[name], without[name]) for name in METRICS)


def test_volume_weighs_voxels_not_slices():
    image, target = images()
    body = interior()
    body[0, 16:] = False
    slices, volume = similarity(image, target, body)
    weights = body.sum((1, 2)).double()[:, None] / body.sum()
    for name in ("ssim", "mae", "mse"):
        assert torch.allclose(volume[name], (slices[name] * weights).sum(0).float(), atol=1e-6)
    assert torch.allclose(volume["psnr"], -10 * volume["mse"].log10(), atol=1e-4)


def test_many_slices_are_measured_as_few():
    image, target = (values.repeat(12, 1, 1, 1) for values in images())
    body = interior().repeat(12, 1, 1)
    found = slice_similarity(image, target, body)
    once = slice_similarity(*images(), interior())
    for name in METRICS:
        expected = once[name].expand(12, S, M).numpy()
        np.testing.assert_allclose(found[name].reshape(12, S, M).numpy(), expected, rtol=1e-5)


def test_other_shapes_are_refused():
    image, target = images()
    with pytest.raises(ValueError, match="same voxels"):
        slice_similarity(image, target[:2], interior())
