"""Where the maps of re-initialised networks lie: a method's own floor."""

import numpy as np
import pytest
import torch

from seewhy.errors import ExplanationError
from seewhy.explain import GradCAM
from seewhy.explain.base import Attribution, TargetwiseExplainer
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.judging.localization import measure_localization
from seewhy.explain.judging.randomization import LOCATED, RandomizationTest
from seewhy.explain.judging.reinitialization import reinitialize
from seewhy.explain.judging.scorecard import JudgingSettings, Scorecard


@pytest.fixture
def cam():
    return GradCAM(layers="features.10")


def test_rows_are_means_over_the_redraws(trained, cases, cam):
    images, masks = cases.image[:4], cases.mask[:4]
    maps = cam(trained, images)
    rows = RandomizationTest(cam, draws=2, seed=5).add(trained, images, maps, masks)
    subject, expected = ExplainedModel(trained, images), []
    for seed in (5, 6):
        with reinitialize(subject, seed=seed):
            where = measure_localization(cam(trained, images, target=maps.target), masks)
        expected.append([[float(getattr(where, name)[row]) for name in LOCATED] for row in range(4)])
    assert [[row[name] for name in LOCATED] for row in rows] == np.mean(expected, axis=0).tolist()


def test_a_trained_network_is_above_its_own_floor_and_the_floor_is_not_above_chance(trained, cases, cam):
    card = Scorecard(cam, settings=JudgingSettings(scope="cheap"))
    rows = card.judge(trained, cases.image, cam(trained, cases.image), cases.mask)
    mean = {name: np.mean([row[name] for row in rows]) for name in ("energy", "energy_random", "mask_share")}
    assert mean["energy"] > 2 * mean["energy_random"]
    assert mean["energy_random"] < 2 * mean["mask_share"]


def test_only_tested_cases_with_a_mask_have_one(trained, cases, cam):
    masks = cases.mask[:4].clone()
    masks[1] = False
    card = Scorecard(cam, settings=JudgingSettings(scope="cheap", cases=3, redraws=1))
    rows = card.judge(trained, cases.image[:4], cam(trained, cases.image[:4]), masks)
    assert [row["energy_random"] is None for row in rows] == [False, True, False, True]
    assert list(rows[0])[-3:] == ["pointing_random", "energy_random", "auprc_random"]
    assert card.verdict().randomization.net.shape == (3,)


def test_masks_by_input_are_located_together(nets, three):
    explainer = GradCAM(layers=[f"backbones.{place}.3" for place in range(3)])
    net, masks = nets.Branches().eval(), {"second": torch.ones(3, 20, 28)}
    card = Scorecard(explainer, settings=JudgingSettings(scope="cheap", redraws=1))
    rows = card.judge(net, three, explainer(net, three), masks)
    subject = ExplainedModel(net, three)
    with reinitialize(subject, seed=0):
        other = explainer(net, three, target=torch.tensor([row["target"] for row in rows]))
    assert [row["energy_random"] for row in rows] == pytest.approx(other.shares()["second"].tolist(), abs=1e-6)


def test_a_method_that_refuses_random_networks_has_no_floor(trained, cases):
    class Refusing(TargetwiseExplainer):
        method = "refusing"
        weight = trained.head.weight.detach().clone()

        def attribute(self, subject, target, scores):
            if not torch.equal(subject.module.head.weight, self.weight):
                raise ExplanationError("not this one")
            return Attribution(maps={"image": subject.inputs["image"][:, 0]})

    card = Scorecard(Refusing(), settings=JudgingSettings(scope="cheap", redraws=2))
    rows = card.judge(trained, cases.image[:2], Refusing()(trained, cases.image[:2]), cases.mask[:2])
    assert [row["pointing_random"] for row in rows] == [None, None]
    assert rows[0]["pointing"] is not None


def test_stability_can_be_left_out_of_all(trained, cases, cam):
    settings = JudgingSettings(scope="all", cases=0, stability=False, draws=1, steps=2)
    rows = Scorecard(cam, settings=settings).judge(trained, cases.image[:2], cam(trained, cases.image[:2]))
    assert "deletion_gap" in rows[0]
    assert not [name for name in rows[0] if name.startswith("stability")]
