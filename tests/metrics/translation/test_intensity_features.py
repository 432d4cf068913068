import numpy as np
from scipy.ndimage import gaussian_filter

from seewhy.metrics.translation.feature_distances import FEATURES, QUANTILES, intensity_features


def head(seed=0):
    rng = np.random.default_rng(seed)
    body = np.zeros((1, 40, 40), bool)
    body[0, 6:34, 6:34] = True
    image = np.where(body[:, None], gaussian_filter(rng.normal(size=(1, 2, 40, 40)), (0, 0, 2, 2)), -1)
    return image.astype(np.float32), body


def test_brightness_is_seen_in_the_quantiles_alone():
    image, body = head()
    before = intensity_features(image, body)
    after = intensity_features(np.where(body[:, None], image + 0.25, -1), body)
    count = len(QUANTILES)
    assert before.shape == (1, 2, FEATURES)
    np.testing.assert_allclose(after[..., :count], before[..., :count] + 0.25, atol=1e-6)
    np.testing.assert_allclose(after[..., count:], before[..., count:], atol=1e-4)  # the rim is not looked at


def test_blur_is_seen_in_the_slopes():
    image, body = head()
    blurred = np.where(body[:, None], gaussian_filter(np.where(body[:, None], image, 0), (0, 0, 1.5, 1.5)), -1)
    assert (intensity_features(blurred, body)[..., -6:] < intensity_features(image, body)[..., -6:]).all()


def test_quantiles_are_of_the_tissue():
    image, body = head()
    found = intensity_features(image, body)[0, 1, : len(QUANTILES)]
    np.testing.assert_allclose(found, np.quantile(image[0, 1][body[0]], QUANTILES), rtol=1e-6)


def test_a_slice_too_small_for_slopes_inside_has_numbers():
    image, body = head()
    body[:] = False
    body[0, 10:12, 10:12] = True
    assert np.isfinite(intensity_features(image, body)).all()
