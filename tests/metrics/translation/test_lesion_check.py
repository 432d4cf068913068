"""The lesion check finds lesions that turned dark, faded or were invented, and nothing in harmless translations."""

import numpy as np
import pytest

from seewhy.metrics.translation.lesion_check import (
    FAINT,
    check_lesion,
    describe_problem,
    find_bright_region,
    locate_lesions,
)


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
