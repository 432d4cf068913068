import numpy as np
import pytest
from scipy import ndimage

from seewhy_run.arrays.midline import Midline, mirror_slices


@pytest.mark.parametrize("shape", [(3, 17, 23), (1, 1, 9), (2, 8, 1), (12, 48, 48)])
@pytest.mark.parametrize(("degrees", "offset"), [(0, 8.0), (7.3, 4.25), (90, 11.5), (-83.1, 3.0), (31, 100.0)])
def test_the_mirror_image_equals_scipys_affine_transform(shape, degrees, offset):
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    normal = np.array([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))])
    matrix = np.eye(2) - 2 * np.outer(normal, normal)
    expected = [ndimage.affine_transform(plane, matrix, 2 * offset * normal, order=1, cval=-3.0) for plane in images]
    mirrored = mirror_slices(images, Midline((normal[0], normal[1]), offset), fill=-3.0)
    np.testing.assert_array_equal(mirrored, np.array(expected))
