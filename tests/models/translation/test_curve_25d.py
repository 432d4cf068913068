"""Curve-2.5D: training moves its curves, its inverse restores scans, explanations and exports take it."""

import numpy as np
import pytest
import torch

from seewhy.errors import ConfigError
from seewhy.metrics.translation.similarity import TranslationScores
from seewhy.models.translation.curve_25d import Curve25D
from seewhy.models.translation.explanation import to_modality_scores

OPTIONS = {"optimizer": {"name": "adam", "lr": 1e-3}, "scheduler": {"name": "constant"}}


def make_model(**options):
    torch.manual_seed(0)
    model = Curve25D(generator={"name": "curve", "width": 4, "cell": 16}, discriminator={"width": 4, "scales": 1},
                     losses={"weights": {"adversarial": 1.0, "cycle": 10.0, "identity": 1.0}}, cycle="repeat",
                     **OPTIONS, **options).eval()  # fmt: skip
    for generator in model.generators.values():
        torch.nn.init.normal_(generator.to_nodes.weight, std=30.0)
        torch.nn.init.normal_(generator.to_curve.weight, std=30.0)
    return model


def make_subject(domain="a"):
    stack = torch.rand(3, 12, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    body = torch.ones(3, 32, 32, dtype=torch.bool)
    body[:, :4] = False
    stack = torch.where(body[:, None], stack, -1.0)
    ids = [f"{domain}_P1_{number:03d}" for number in range(3)]
    return {"image": stack, "body": body, "id": ids, "patient": ["P1"] * 3, "domain": [domain] * 3, "index": [0, 1, 2]}


@pytest.mark.parametrize("domain", ["a", "b"])
def test_a_prediction_is_undone_up_to_rounding_and_the_error_is_a_score(domain):
    model, batch = make_model(slice_batch=2), make_subject(domain)
    prediction = model.predict_step(batch)
    source = batch["image"][:, 4:8]
    assert (prediction["translated"] - source).abs().max() > 0.1
    assert torch.allclose(prediction["inverted"], source, atol=5e-5)
    assert (prediction["reconstructed"] - source).abs().max() > 0.01  # the untrained way back is none
    scores = TranslationScores()
    scores.update(prediction, batch)
    direction = f"{domain}2{'b' if domain == 'a' else 'a'}"
    assert scores.compute()[f"{direction}/inverse/mae"] < 1e-5
    assert scores.compute()[f"{direction}/cycle/mae"] > 1e-3


def test_nothing_is_clipped_or_drawn_outside_the_tissue():
    model, batch = make_model(), make_subject()
    translated = model.predict_step(batch)["translated"]
    assert (translated[:, :, :4] == -1).all()
    free = model.generators["a2b"](batch["image"])
    assert torch.equal(free.clamp(-1, 1), free)


def test_one_direction_without_a_way_back_still_has_its_inverse():
    losses = {"weights": {"adversarial": 1.0, "identity": 1.0}}
    model = Curve25D(generator={"name": "curve", "width": 4}, losses=losses, directions="b2a", **OPTIONS).eval()
    assert set(model.predict_step(make_subject("b"))) >= {"translated", "inverted"}
    assert "translated" not in model.predict_step(make_subject("a"))


@pytest.mark.parametrize("generator", [None, {"name": "plain", "width": 4}])
def test_other_generators_have_no_inverse(generator):
    with pytest.raises(ConfigError, match=r"takes only 'curve'.*model=cyclegan_25d"):
        Curve25D(generator=generator, **OPTIONS)


def test_a_cam_sees_the_grid_of_curves():
    model, batch = make_model(), make_subject()
    scores, part = to_modality_scores(model.generators["a2b"], batch)
    layer = scores.explainable().layers["image"]
    seen = []
    scores.get_submodule(layer).register_forward_hook(lambda _, __, output: seen.append(output.shape[2:]))
    logits = scores(part["image"])
    assert logits.shape == (3, 4)
    assert np.isfinite(logits.detach().numpy()).all()
    assert tuple(seen[0]) == (2, 2)
