"""What stands for "absent"."""

import pytest
import torch
from scipy.ndimage import gaussian_filter

from seewhy.errors import ConfigError
from seewhy.explain.baseline import DESCRIPTIONS, check_baseline, describe_baseline, make_baseline


@pytest.fixture
def image():
    return torch.randn(2, 3, 10, 16, generator=torch.Generator().manual_seed(0))


def test_each_has_the_images_shape_and_words(image):
    for name in [*DESCRIPTIONS, 0.25]:
        assert make_baseline(image, check_baseline(name)).shape == image.shape
        assert describe_baseline(name)
    assert torch.equal(make_baseline(image, "zero"), torch.zeros_like(image))
    assert torch.equal(make_baseline(image, -1), torch.full_like(image, -1))
    assert torch.equal(make_baseline(image, "mean")[1, 2], image[1, 2].mean().expand(10, 16))
    assert torch.equal(make_baseline(image, "minimum")[1, 2], image[1, 2].min().expand(10, 16))


@pytest.mark.parametrize("shape", [(10, 16), (7, 10, 16), (1, 10, 16)])
def test_blur_is_scipys(shape):
    image = torch.randn(1, 1, *shape)
    sigmas = [side / 10 for side in shape]
    peer = gaussian_filter(
        image[0, 0].double().numpy(), sigmas, mode="nearest", radius=[max(round(3 * s), 1) for s in sigmas]
    )
    torch.testing.assert_close(make_baseline(image, "blur")[0, 0], torch.from_numpy(peer).float(), rtol=1e-4, atol=1e-5)


def test_an_unknown_one_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"'blurr'.*nearest: 'blur'"):
        check_baseline("blurr")
