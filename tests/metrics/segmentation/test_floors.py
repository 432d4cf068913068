import itertools

import numpy as np
import pytest
import torch

from seewhy.metrics.segmentation.floors import ONE_SIGMA, centre_prior, mirror_difference, otsu_thresholds, slice_floors
from seewhy.metrics.segmentation.overlap import dice


def phantom():
    image = torch.zeros(3, 1, 40, 50)
    body = torch.zeros(3, 40, 50, dtype=torch.bool)
    body[:, 10:30, 10:40] = True
    image[:, 0][body] = 1.0
    image[:, 0, 12:28, 12:20] = 2.0
    image[1, 0, 15:20, 25:30] = 3.0
    return image, body


def test_three_class_otsu_finds_the_brightest_of_three_tissues_and_two_class_less():
    image, body = phantom()
    found = slice_floors(image, body)
    assert torch.equal(found["floor_otsu3"].mask, image[:, 0] == 3.0)
    assert torch.equal(found["floor_otsu"].mask, image[:, 0] >= 2.0)


def test_nothing_outside_the_body_matters():
    image, body = phantom()
    loud = image.clone()
    loud[:, 0][~body] = 99.0
    before, after = slice_floors(image, body), slice_floors(loud, body)
    for name in ("floor_otsu", "floor_otsu3", "floor_centre"):
        assert torch.equal(before[name].mask, after[name].mask)
        assert not bool((after[name].mask & ~body).any())


def test_the_centre_prior_peaks_at_the_centroid_with_the_spread_of_the_body():
    _, body = phantom()
    prior = centre_prior(body)
    rows, columns = torch.arange(10, 30.0), torch.arange(10, 40.0)
    where = torch.tensor([[19.0, 24.0]])
    expected = torch.exp(
        -0.5
        * (
            (where[0, 0] - rows.mean()) ** 2 / rows.var(unbiased=False)
            + (where[0, 1] - columns.mean()) ** 2 / columns.var(unbiased=False)
        )
    )
    assert torch.allclose(prior[0, 19, 24], expected)
    flipped = centre_prior(body.flip(1, 2))
    assert torch.allclose(flipped.flip(1, 2), prior, atol=1e-5)
    mask = slice_floors(*phantom())["floor_centre"].mask
    assert bool((prior[mask] >= ONE_SIGMA).all())
    # An ellipse of one standard deviation of a rectangle covers pi / 12 of it.
    assert abs(float(mask.sum() / body.sum()) - torch.pi / 12) < 0.02


def test_slices_and_patients_without_body():
    image, body = phantom()
    body[2] = False
    assert float(centre_prior(body)[2].abs().sum()) == 0.0
    nothing = slice_floors(image, torch.zeros_like(body))
    assert not any(bool(guess.mask.any()) for guess in nothing.values() if guess.mask is not None)


def test_channels_that_repeat_the_slice_change_nothing():
    image, body = phantom()
    one, three = slice_floors(image, body), slice_floors(image.repeat(1, 3, 1, 1), body)
    assert torch.equal(one["floor_otsu3"].mask, three["floor_otsu3"].mask)
    assert torch.allclose(one["floor_intensity"].score, three["floor_intensity"].score)


def head(size=80, tilt=0.0, shift=0.0):
    """Two slices of an egg, narrow in front, with a symmetric pattern; turned by `tilt` degrees, moved by `shift`."""
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float64) - (size - 1) / 2
    columns = columns - shift
    angle = np.deg2rad(tilt)
    along, across = np.cos(angle) * rows + np.sin(angle) * columns, np.cos(angle) * columns - np.sin(angle) * rows
    body = (along / 34) ** 2 + (across / (26 + 0.25 * along)) ** 2 < 1
    image = 1 + 0.5 * np.cos(along / 6) + 0.4 * np.cos(np.abs(across) / 3)
    plane = torch.from_numpy(np.where(body, image, -4)).float()
    return torch.stack([plane, plane])[:, None], torch.from_numpy(np.stack([body, body]))


def test_a_symmetric_image_has_no_mirror_difference():
    image, body = head()
    difference = mirror_difference(image[:, 0], body)
    assert float(difference.abs().max()) < 1e-4
    constant = slice_floors(torch.where(body[:, None], 1.0, -4.0), body)["floor_mirror"]
    assert float(constant.score.abs().max()) == 0.0
    assert not bool(constant.mask.any())


@pytest.mark.parametrize(("tilt", "shift"), [(0, 0), (6, 0), (-5, 4)])
def test_the_mirror_floor_finds_a_blob_on_one_side_and_its_place_on_the_other(tilt, shift):
    image, body = head(tilt=tilt, shift=shift)
    blob = torch.zeros_like(body)
    blob[:, 34:50, 22:34] = True
    image[:, 0][blob] += 2.0
    guess = slice_floors(image, body)["floor_mirror"]
    # The difference is the same on both sides: half of what is found is the blob, Dice 2 / (2 + 1) before smoothing.
    assert dice(guess.mask, blob) == pytest.approx(2 / 3, abs=0.1)
    assert float(guess.score[body & ~blob].median()) < 0.1 * float(guess.score[blob].median())


def test_a_body_without_a_midline_has_no_mirror_floor():
    rows, columns = torch.meshgrid(torch.arange(60), torch.arange(60), indexing="ij")
    body = (rows > columns + 5)[None] & (columns > 5)[None] & (rows < 30 + columns // 4)[None]
    body[0, 40:58, 2:12] = True
    assert mirror_difference(torch.rand(1, 60, 60), body) is None
    assert "floor_mirror" not in slice_floors(torch.rand(1, 1, 60, 60), body)


def test_the_subtraction_floor_finds_what_takes_up_contrast():
    t1, body = head()
    uptake = torch.zeros_like(body)
    uptake[:, 30:40, 30:50] = True
    t1ce = t1.clone()
    t1ce[:, 0][uptake] += 3.0
    t1ce += 0.1 * torch.rand(t1ce.shape, generator=torch.Generator().manual_seed(0))
    channels = ("flair", "t1", "t1ce")
    floors = slice_floors(torch.cat([torch.rand_like(t1), t1, t1ce], dim=1), body, channels=channels, channel=2)
    guess = floors["floor_subtraction"]
    assert dice(guess.mask, uptake) == 1.0
    assert torch.equal(guess.score, (t1ce - t1)[:, 0])
    assert torch.equal(floors["floor_intensity"].score, t1ce[:, 0])  # of the named channel, not the mean
    assert "floor_subtraction" not in slice_floors(t1, body)
    same = slice_floors(torch.cat([t1, t1], dim=1), body, channels=("t1", "t1ce"))["floor_subtraction"]
    assert not bool(same.mask.any())


def between_variance(values, thresholds):
    """Otsu's criterion from its definition, over the values themselves."""
    member = np.digitize(values, thresholds, right=True)
    total = 0.0
    for k in range(len(thresholds) + 1):
        part = values[member == k]
        if part.size:
            total += part.size / values.size * (part.mean() - values.mean()) ** 2
    return total


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_no_other_cut_separates_better(classes, seed):
    generator = np.random.default_rng(seed)
    # Whole numbers, one histogram bin each, so that the histogram loses nothing.
    values = np.concatenate([generator.normal(c, 3, generator.integers(20, 200)) for c in (10, 22, 30)]).round()
    bins = int(values.max() - values.min()) + 1
    best = max(
        between_variance(values, cut)
        for cut in itertools.combinations(np.arange(values.min(), values.max()) + 0.5, classes - 1)
    )
    found = otsu_thresholds(values, classes=classes, bins=bins)
    assert between_variance(values, found) == pytest.approx(best, rel=1e-12)


def test_two_and_three_groups_come_apart():
    values = np.repeat([0.0, 10.0, 50.0], [500, 300, 40])
    low, high = otsu_thresholds(values, classes=3)
    assert 0 <= low < 10 <= high < 50
    (cut,) = otsu_thresholds(np.repeat([-3.0, 4.0], [100, 7]))
    assert -3 <= cut < 4


def test_a_value_on_an_edge_of_the_histogram_is_of_the_class_above():
    (cut,) = otsu_thresholds([0.0] * 10 + [1.0] * 5 + [2.0] * 5, bins=2)
    assert 0 < cut < 1.0


def test_thresholds_follow_a_change_of_scale():
    values = np.random.default_rng(1).gamma(2.0, 1.0, 4000)
    moved = otsu_thresholds(values * 8 + 16, classes=3)
    assert moved == pytest.approx([t * 8 + 16 for t in otsu_thresholds(values, classes=3)])


@pytest.mark.parametrize("values", [[5.0, 5.0, 5.0], [7.0]])
def test_one_value_leaves_nothing_above(values):
    for classes in (2, 3):
        assert not np.any(np.array(values)[:, None] > otsu_thresholds(values, classes=classes))


def test_too_few_distinct_values_leave_nothing_above():
    assert otsu_thresholds([0.0, 1.0], classes=3) == [1.0, 1.0]


def test_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="no values"):
        otsu_thresholds([])
    with pytest.raises(ValueError, match="classes=4"):
        otsu_thresholds([1.0, 2.0], classes=4)
