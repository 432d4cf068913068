import numpy as np
import pytest

from seewhy.metrics.translation.lesion import Lesion, measure_lesion


def scan(level=1.0):
    """Tissue of 0 and 0.1 by halves, and a cube of lesion in the middle that is `level`."""
    image = np.zeros((12, 24, 24))
    image[:, :, 12:] = 0.1
    mask = np.zeros(image.shape, np.uint8)
    mask[4:8, 9:15, 9:15] = 2
    image[mask > 0] = level
    return image, mask, np.ones(image.shape, bool)


def test_contrast_and_size_by_hand():
    image, mask, body = scan()
    lesion = Lesion.from_mask(mask, body, margin=2)
    look = measure_lesion(image, lesion)
    around = image[lesion.around]
    assert lesion.around.sum() > 0
    assert around.mean() == pytest.approx(0.05)  # half of each
    rest = image[mask == 0]
    assert look.contrast == pytest.approx((1.0 - 0.05) / rest.std())
    assert look.volume == (mask > 0).sum()
    assert look.dice == 1.0


def test_surroundings_are_near_in_the_tissue_and_not_the_lesion():
    _, mask, body = scan()
    body[:, :8] = False
    lesion = Lesion.from_mask(mask, body, margin=1)
    assert not (lesion.around & (mask > 0)).any()
    assert not (lesion.around & ~body).any()
    assert lesion.around[3, 10, 10]
    assert not lesion.around[2, 10, 10]  # two steps away
    assert not lesion.around[3, 8, 8]  # a corner is two steps away


def test_dark_lesions_count_on_their_own_side():
    image, mask, body = scan(level=-1.0)
    look = measure_lesion(image, Lesion.from_mask(mask, body, margin=2))
    assert look.contrast < 0
    assert look.dice == 1.0


def test_a_lesion_that_lost_half_of_itself_is_smaller():
    image, mask, body = scan()
    lesion = Lesion.from_mask(mask, body, margin=2)
    image[4:8, 9:15, 9:12] = 0.0
    look = measure_lesion(image, lesion)
    assert look.volume == pytest.approx((mask > 0).sum() / 2)
    assert look.dice == pytest.approx(2 / 3)


def test_contrast_does_not_depend_on_gain_or_offset():
    image, mask, body = scan()
    lesion = Lesion.from_mask(mask, body, margin=2)
    assert measure_lesion(3 * image - 5, lesion).contrast == pytest.approx(measure_lesion(image, lesion).contrast)


def test_too_little_of_a_lesion_gives_no_number():
    _, mask, body = scan()
    assert Lesion.from_mask(np.zeros_like(mask), body, margin=2) is None
    assert Lesion.from_mask(mask, mask > 0, margin=2) is None  # nothing around it
