"""Maps that tell classes apart pass the contrast test, maps that do not fail it."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from seewhy.errors import ExplanationError
from seewhy.explain import (
    EigenCAM,
    GradCAM,
    GradCAMPlusPlus,
    InputXGradient,
    LayerCAM,
    Saliency,
    ScoreCAM,
)
from seewhy.explain.base import Attribution, TargetwiseExplainer
from seewhy.explain.judging.contrast import ClassContrast, ContrastTest
from seewhy.explain.judging.controls import make_controls
from seewhy.explain.judging.scorecard import JudgingSettings, Scorecard

LAYER = "features.10"


def verdict(explainer, module, images, *, target=None, redraws=()):
    test = ContrastTest(explainer)
    test.add(module, images, explainer(module, images, target), redraws)
    return test.result()


@pytest.fixture(scope="module")
def many():
    """A network whose ten classes weigh 512 features that are never negative, as ImageNet's do, and images."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 512, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)
    )
    return net.eval(), torch.rand(5, 1, 24, 24)


@pytest.mark.parametrize("explainer", [GradCAM(layers=LAYER), InputXGradient()], ids=lambda one: one.method)
def test_what_knows_the_class_passes_on_a_trained_network(trained, cases, explainer):
    found = verdict(explainer, trained, cases.image)
    assert found.passes is True
    assert found.failures == []


@pytest.mark.parametrize("explainer", [EigenCAM(layers=LAYER), *make_controls()], ids=lambda one: one.method)
def test_what_is_the_same_for_every_class_fails(trained, cases, explainer):
    found = verdict(explainer, trained, cases.image)
    assert found.least == pytest.approx(1.0)
    assert found.passes is False
    assert "hardly depend on the class" in found.failures[0]


@pytest.mark.parametrize(
    "explainer",
    [GradCAMPlusPlus(layers="1"), LayerCAM(layers="1"), pytest.param(ScoreCAM(layers="1"), marks=pytest.mark.slow)],
    ids=lambda one: one.method,
)
def test_positive_weights_hardly_tell_classes_apart(many, explainer):
    net, images = many
    found = verdict(explainer, net, images)
    assert found.passes is False
    assert verdict(GradCAM(layers="1"), net, images).passes is True


def test_a_runner_up_that_shares_the_evidence_is_no_failure(trained, cases):
    class Twins(nn.Module):
        """Class 2 is class 1 again, a little less."""

        def __init__(self):
            super().__init__()
            self.net = trained

        def forward(self, image):
            scores = self.net(image)
            return torch.cat([scores, scores[:, 1:] - 0.01], dim=1)

    found = verdict(GradCAM(layers=f"net.{LAYER}"), Twins(), cases.image, target=1)
    assert found.runner_up[cases.label == 1] == pytest.approx(1.0)
    assert found.least[cases.label == 1].max() < 0.7
    assert found.passes is True


def test_a_magnitude_that_is_the_same_for_both_classes_cannot_fail():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))  # the classes 1 and 0 have the same gradient up to its sign
    found = verdict(Saliency(), net, torch.rand(4, 1, 8, 8))
    assert found.least == pytest.approx(1.0)
    assert found.passes is None
    assert found.failures == []


def test_maps_that_differ_more_than_between_untrained_networks_do_not_fail():
    numbers = {"runner_up": np.full(5, 0.8), "least": np.array([0.8, 0.82, 0.78, 0.8, 0.81])}
    assert ClassContrast(redraws=np.full(5, 0.9), **numbers).passes is True
    assert ClassContrast(redraws=np.full(5, 0.6), **numbers).passes is False
    assert ClassContrast(redraws=np.full(5, np.nan), **numbers).passes is False


def test_few_cases_may_fail_but_not_pass():
    def result(value):
        return ClassContrast(runner_up=np.full(2, value), least=np.full(2, value), redraws=np.full(2, 0.1)).passes

    assert result(0.2) is None
    assert result(0.9) is False


def test_contrasts_and_refusals_are_not_tested(trained, cases):
    found = verdict(GradCAM(layers=LAYER), trained, cases.image, target="1-0")
    assert np.isnan(found.least).all()
    assert found.passes is None

    class Refuses(TargetwiseExplainer):
        method = "refuses"

        def attribute(self, subject, target, scores):
            if (target != scores.argmax(dim=1)).any():
                raise ExplanationError("no other class")
            return Attribution(maps={"image": subject.inputs["image"][:, 0]})

    assert verdict(Refuses(), trained, cases.image).passes is None


def test_the_scorecard_has_both_verdicts(trained, cases):
    explainer = EigenCAM(layers=LAYER)
    card = Scorecard(explainer, settings=JudgingSettings(scope="cheap", cases=4, redraws=2))
    rows = card.judge(trained, cases.image, explainer(trained, cases.image))
    assert [row["contrast_least"] is None for row in rows] == [False] * 4 + [True] * 4
    assert rows[0]["contrast_least"] == pytest.approx(1.0)
    assert not math.isnan(rows[0]["randomization_redraws"])
    assert card.verdict().contrast.passes is False
    assert any("depend on the class" in reason for reason in card.verdict().doubts)
