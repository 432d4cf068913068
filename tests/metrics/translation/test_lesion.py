"""The lesion check finds lesions that turned dark, faded or were invented, and nothing in harmless translations."""

import numpy as np
import pytest

from seewhy.metrics.translation.lesion import (
    FAINT,
    Lesion,
    check_lesion,
    describe_problem,
    find_bright_region,
    locate_lesions,
    measure_lesion,
)


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


def head(seed=0):
    """Noisy tissue around 0 with a bright ball of 1; the tissue ends before the borders of the slice."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 0.1, (16, 32, 32))
    body = np.zeros(image.shape, bool)
    body[:, 3:29, 3:29] = True
    z, y, x = np.indices(image.shape)
    ball = (z - 8) ** 2 + (y - 14) ** 2 + (x - 18) ** 2 <= 16
    image[ball] += 1
    return np.where(body, image, -1), body, ball


def test_the_bright_region_is_the_ball():
    image, body, ball = head()
    region = find_bright_region(image, body)
    assert region.sum() > ball.sum() / 2
    assert not (region & ~ball).any()


def test_a_bright_rim_is_no_region():
    image, body, ball = head()
    image[:, 3, 3:29] = 5
    assert (find_bright_region(image, body) & ball).any()
    assert not find_bright_region(image, body)[:, :5].any()


def test_without_tissue_there_is_no_region():
    image, body, _ = head()
    assert not find_bright_region(image, np.zeros_like(body)).any()
    flat = np.where(body, 0.0, -1.0)
    assert not find_bright_region(flat, body).any()


def test_places_with_and_without_a_mask():
    image, body, ball = head()
    mask = ball.astype(np.uint8)
    assert set(locate_lesions(image, image, body, mask, margin=2)) == {"mask", "brightest after"}
    assert set(locate_lesions(image, image, body, None, margin=2)) == {"brightest before", "brightest after"}
    # A patient without a lesion has an empty mask: then bright regions are all there is.
    assert "brightest before" in locate_lesions(image, image, body, 0 * mask, margin=2)


def checked(after, truth=None, tolerance=0.5):
    image, body, ball = head()
    lesion = locate_lesions(image, image, body, ball.astype(np.uint8), margin=2)["mask"]
    return check_lesion(image, after(image), None if truth is None else truth(image), lesion, tolerance=tolerance)


def test_a_brighter_scan_has_no_problem():
    row = checked(lambda image: 2 * image + 3)
    assert row["problem"] == ""
    assert not row["sign_change"]
    assert row["contrast_after"] == pytest.approx(row["contrast_before"])
    assert row["contrast_truth"] is None


def test_an_increasing_map_keeps_the_order_of_all_pairs():
    row = checked(np.exp)
    assert row["brighter_after"] == row["brighter_before"] > 0.99


def test_a_dark_lesion_is_a_sign_change():
    row = checked(lambda image: -image)
    assert row["sign_change"]
    assert "changed its sign" in row["problem"]
    assert row["brighter_after"] == pytest.approx(1 - row["brighter_before"])
    assert not checked(lambda image: -image, truth=lambda image: -2 * image)["sign_change"]  # it is dark in truth


def test_a_faded_lesion_is_a_problem_unless_it_is_so_in_truth():
    def fade(image):
        return np.minimum(image, 0.05)

    assert "more than 50% apart" in checked(fade)["problem"]
    assert checked(fade, truth=fade)["problem"] == ""
    assert "in truth" in checked(lambda image: image, truth=fade)["problem"]


@pytest.mark.parametrize(
    ("before", "after", "truth", "wrong"),
    [
        (1.0, 1.49, None, False), (1.0, 1.51, None, True), (1.0, 0.49, None, True), (-2.0, -2.99, None, False),
        (0.0, FAINT / 2 - 0.01, None, False), (0.0, FAINT / 2 + 0.01, None, True), (5.0, 1.4, 1.0, False),
    ],
)  # fmt: skip
def test_the_tolerance(before, after, truth, wrong):
    assert bool(describe_problem(before, after, truth, sign_change=False, tolerance=0.5)) is wrong
