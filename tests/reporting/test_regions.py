"""Regions of a session: calibrated on validation patients, checked on others; exact where one pixel decides."""

import pytest
import torch
from torch import nn

from seewhy.errors import ConfigError, ExplanationError
from seewhy.explain.base import Attribution, TargetwiseExplainer
from seewhy.reporting.regions import Regions, check_patients, region_rows

PIXELS = 40


class Decided(nn.Module):
    """Class 1 if a pixel is above 0.8: a single pixel of value 1 decides, and none does once it is blurred."""

    def forward(self, image):
        return image.flatten(1).amax(dim=1)[:, None] - 0.8


class FirstPixels(TargetwiseExplainer):
    """The first pixel has the most evidence; refuses images whose deciding pixel has the value 3."""

    method = "first_pixels"

    def attribute(self, subject, target, scores):
        image = subject.inputs["image"]
        if bool((image == 3).any()):
            raise ExplanationError("three")
        order = torch.arange(PIXELS, 0, -1.0).reshape(1, 4, 10)
        return Attribution(maps={"image": order.expand(len(image), -1, -1).clone()})


def batch(positions, *, name, value=1.0):
    """A batch whose deciding pixels are at these positions."""
    image = torch.zeros(len(positions), 1, 4, 10)
    for row, position in enumerate(positions):
        image.flatten(1)[row, position] = value
    names = [f"{name}{row}" for row in range(len(positions))]
    return {"image": image, "id": names, "patient": names}


def make_regions(batches, alpha=0.1):
    return Regions(alpha, samples=4, calibration=lambda count: batches, targets=lambda one: [None])


def measure(regions, given):
    explainer, net = FirstPixels(), Decided()
    return regions.measure(explainer, net, given["image"], explainer(net, given["image"]))


def test_the_calibrated_share_and_whether_each_sample_is_kept():
    """With nine patients and 90 % the largest share counts: pixel 13 of 40 is in the seventh of twenty steps."""
    calibration = batch([0, 1, 3, 5, 9, 10, 11, 12, 13], name="v")
    rows, masks = measure(make_regions([calibration]), batch([0, 13, 14], name="t"))
    assert [row["region_share"] for row in rows] == [0.35] * 3
    assert [row["region_size"] for row in rows] == pytest.approx([0.35] * 3)
    assert [row["region_kept"] for row in rows] == [True, True, False]
    assert [row["region_empty"] for row in rows] == [False] * 3
    assert rows[0]["region_patients"] == 9
    assert masks["image"].flatten(1).long().sum(dim=1).tolist() == [14] * 3
    assert bool(masks["image"].flatten(1)[:, :14].all())


def test_samples_that_a_method_refuses_are_left_out_of_its_calibration():
    good, refused = batch(range(9), name="v"), batch([39], name="r", value=3.0)
    mixed = {"image": torch.cat([good["image"], refused["image"]])}
    mixed |= {key: [*good[key], *refused[key]] for key in ("id", "patient")}
    assert measure(make_regions([mixed]), batch([0], name="t"))[0][0]["region_patients"] == 9


def test_too_few_patients_are_refused_with_the_lowest_level_they_allow():
    with pytest.raises(ConfigError, match=r"at least 9 validation patients, but there are 8; .* 0\.112"):
        measure(make_regions([batch(range(8), name="v")]), batch([0], name="t"))
    with pytest.raises(ConfigError, match="there are 0"):
        measure(make_regions([]), batch([0], name="t"))
    check_patients(0.112, 8)


def test_a_patient_is_kept_if_all_its_samples_are_and_controls_come_last():
    def row(method, patient, size, kept):
        return {
            "method": method, "patient": patient, "region_size": size, "region_kept": kept, "region_empty": False,
            "region_share": size, "region_patients": 30,
        }  # fmt: skip

    scores = [row("b", "p", 0.3, True), row("b", "p", 0.5, False), row("b", "q", 0.2, True)]
    scores += [row("a", "q", 0.1, True), row("control_edges", "q", 0.05, True), {"method": "other", "patient": "q"}]
    found = {one["method"]: one for one in region_rows(scores, alpha=0.2)}
    assert list(found) == ["a", "b", "control_edges"]
    assert found["b"]["coverage"] == 0.5
    assert found["b"]["size"] == pytest.approx((0.4 + 0.2) / 2)
    assert found["b"]["low"] is None, "two patients have no interval"
    assert (found["b"]["samples"], found["b"]["patients"], found["b"]["promised"]) == (3, 2, 0.8)
