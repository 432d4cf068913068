import torch

from seewhy.metrics.segmentation.floors import ONE_SIGMA, centre_prior, slice_floors


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
