"""The scorecard: which columns, from which parts, for how many samples."""

import pytest
import torch

from seewhy.errors import ConfigError
from seewhy.explain import GradCAM
from seewhy.explain.base import Attribution, TargetwiseExplainer
from seewhy.explain.judging.controls import EdgeControl
from seewhy.explain.judging.faithfulness import measure_faithfulness
from seewhy.explain.judging.localization import Threshold, measure_localization
from seewhy.explain.judging.scorecard import JudgingSettings, Scorecard
from seewhy.explain.judging.shared_work import SharedWork

ALWAYS = ["method", "target", "probability"]
CHEAP = ["completeness", "incomplete"]
TEST = ["randomization_net", "randomization_head", "randomization_net_ssim", "randomization_head_ssim"]
TEST += ["randomization_redraws", "contrast_runner_up", "contrast_least"]
MASKS = ["mask_share", "pointing", "energy", "auprc", "iou"]
COSTLY = ["deletion", "insertion", "random_order", "blurred_order"]
COSTLY += ["deletion_gap", "insertion_gap", "deletion_gap_blurred", "insertion_gap_blurred"]
COSTLY += ["stability_noise", "stability_flip_width", "stability_flip_height"]


@pytest.fixture
def cam():
    return GradCAM(layers="features.10")


@pytest.mark.parametrize(
    ("scope", "samples", "columns"),
    [
        ("none", 3, ALWAYS),
        ("cheap", 3, ALWAYS + CHEAP + TEST),
        ("auto", 65, ALWAYS + CHEAP + TEST),
        ("auto", 64, ALWAYS + CHEAP + COSTLY + TEST),
        ("all", 1000, ALWAYS + CHEAP + COSTLY + TEST),
    ],
)
def test_scope_decides_the_columns(trained, cases, cam, scope, samples, columns):
    images = cases.image[:3]
    card = Scorecard(cam, settings=JudgingSettings(scope=scope, redraws=1, draws=1, steps=3), samples=samples)
    rows = card.judge(trained, images, cam(trained, images))
    assert [list(row) for row in rows] == [columns] * 3
    assert (card.verdict().passes is None) is (scope == "none")


def test_rows_hold_what_the_parts_say(trained, cases, cam):
    maps = cam(trained, cases.image)
    settings = JudgingSettings(scope="all", cases=3, redraws=1, draws=2, steps=4, fill="mean", seed=7)
    threshold = Threshold(kind="area", value=0.1)
    card = Scorecard(cam, settings=settings, samples=8, threshold=threshold)
    rows = card.judge(trained, cases.image, maps, cases.mask)
    curves = measure_faithfulness(trained, cases.image, maps, steps=4, fill="mean", draws=2, seed=7)
    where = measure_localization(maps, cases.mask, threshold=threshold)
    for position, row in enumerate(rows):
        assert row["target"] == int(maps.target[position])
        assert row["deletion"] == pytest.approx(float(curves.deletion[position]))
        assert row["insertion_gap_blurred"] == pytest.approx(float(curves.gaps()["insertion_gap_blurred"][position]))
        assert [row[name] for name in MASKS] == pytest.approx([float(getattr(where, n)[position]) for n in MASKS])
        assert row["completeness"] is None
        assert (row["randomization_net"] is None) is (position >= 3)
        assert all(isinstance(value, (float, int, str, bool, type(None))) for value in row.values())
    verdict = card.verdict()
    assert (verdict.method, verdict.samples, verdict.passes, verdict.doubts) == ("grad_cam", 8, True, ())
    assert set(verdict.seconds) == {
        "shares",
        "completeness",
        "localization",
        "faithfulness",
        "stability",
        "randomization",
    }
    assert all(seconds >= 0 for seconds in verdict.seconds.values())


def test_a_control_is_found_out(trained, cases):
    explainer = EdgeControl()
    card = Scorecard(explainer, settings=JudgingSettings(scope="cheap", redraws=1))
    for rows in (cases.image[:4], cases.image[4:]):
        card.judge(trained, rows, explainer(trained, rows))
    verdict = card.verdict()
    assert verdict.passes is False
    assert "re-initialised network" in verdict.failures[0]
    assert len(verdict.randomization.net) == 8


class Incomplete(TargetwiseExplainer):
    """Says of itself that every second sample misses its score."""

    method = "incomplete"

    def attribute(self, subject, target, scores):
        error = torch.tensor([0.01, 0.2, float("nan"), 0.05])[: len(target)]
        return Attribution(maps={"image": subject.inputs["image"][:, 0]}, completeness=error)


def test_incomplete_maps_are_counted(trained, cases):
    card = Scorecard(Incomplete(), settings=JudgingSettings(scope="cheap", cases=0))
    rows = card.judge(trained, cases.image[:4], Incomplete()(trained, cases.image[:4]))
    assert [row["incomplete"] for row in rows] == [False, True, True, False]
    assert rows[2]["completeness"] is None
    verdict = card.verdict()
    assert verdict.incomplete == 0.5
    assert verdict.passes is None
    assert verdict.doubts == ("50% of the maps miss the score they explain by over 5%",)


def test_several_inputs_get_shares_effects_and_their_own_energy(nets, three):
    module = nets.Branches()
    explainer = EdgeControl()
    maps = explainer(module, three)
    masks = {"second": torch.ones(3, 20, 28)}
    card = Scorecard(explainer, settings=JudgingSettings(scope="cheap", redraws=1))
    row = card.judge(module, three, maps, masks)[0]
    assert sum(row[f"share_{name}"] for name in three) == pytest.approx(1.0)
    assert row["energy"] == pytest.approx(row["share_second"], abs=1e-6)
    assert row["energy_second"] == pytest.approx(1.0)
    assert row["energy_first"] is None
    assert {f"effect_{name}" for name in three} < set(row)
    assert -1 <= row["effect_agreement"] <= 1


def test_bad_settings_are_told_at_once():
    with pytest.raises(ConfigError, match="nearest: 'auto'"):
        JudgingSettings(scope="autos")
    with pytest.raises(ConfigError, match=r"redraws=0.*noise=-1"):
        JudgingSettings(redraws=0, noise=-1)
    with pytest.raises(ConfigError, match="memory_budget"):
        JudgingSettings(memory_budget="much")


def test_judging_in_inference_mode_says_the_same_and_leaves_nothing_behind(trained, cases, cam):
    images, settings = cases.image[:3], JudgingSettings(scope="all", redraws=1, draws=1, steps=3)
    expected = Scorecard(cam, settings=settings).judge(trained, images, cam(trained, images), cases.mask[:3])
    weights = {name: (value.data_ptr(), value.clone()) for name, value in trained.state_dict().items()}
    random = torch.get_rng_state()
    trained.train()
    with torch.inference_mode():
        found = Scorecard(cam, settings=settings).judge(trained, images, cam(trained, images), cases.mask[:3])
    assert trained.training
    trained.eval()
    assert found == expected
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in trained.state_dict().items():
        assert (value.data_ptr(), value.tolist()) == (weights[name][0], weights[name][1].tolist())
    assert all(one.requires_grad and one.grad is None for one in trained.parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in trained.modules())


@pytest.mark.parametrize("maps", [1, 2, 3, 5, 6, 9, 11, 12, 17, 30, 63, 64, 1000])
def test_a_limited_test_makes_no_more_maps_and_gives_a_verdict_from_three_on(maps):
    full = JudgingSettings()
    limited = full.within(maps)
    assert limited.cases * (limited.redraws + limited.heads + 2 * limited.contrast) <= maps
    assert limited.cases >= min(maps, 3)
    assert (limited == full) is (maps >= 48)
    assert (limited.heads > 0) is (maps >= 6)
    assert limited.contrast is (maps >= 12)


class CountedCAM(GradCAM):
    """Grad-CAM that counts the samples it explains."""

    samples = 0

    def for_targets(self, module, inputs, targets):
        CountedCAM.samples += len(inputs)
        return super().for_targets(module, inputs, targets)


def test_without_heads_the_head_is_not_tested(trained, cases):
    explainer = CountedCAM(layers="features.10")
    images = cases.image[:3]
    maps = explainer(trained, images)
    CountedCAM.samples = 0
    card = Scorecard(explainer, settings=JudgingSettings(scope="cheap").within(3))
    rows = card.judge(trained, images, maps)
    assert CountedCAM.samples == 3
    assert [row["randomization_head"] for row in rows] == [None] * 3
    assert card.verdict().passes is True


def test_shared_work_changes_no_score(trained, cases, cam):
    """Two methods on one batch: the second finds networks, heads and random orders of the first."""
    settings = JudgingSettings(scope="all", redraws=2, draws=2, steps=4)
    images, masks = cases.image[:3], cases.mask[:3]
    edges = EdgeControl()
    alone = [
        Scorecard(explainer, settings=settings).judge(trained, images, explainer(trained, images), masks)
        for explainer in (cam, edges)
    ]
    shared = SharedWork()
    together = [
        Scorecard(explainer, settings=settings, shared=shared).judge(trained, images, explainer(trained, images), masks)
        for explainer in (cam, edges)
    ]
    assert together == alone


def test_shared_work_is_forgotten_with_the_batch(trained, cases):
    work, first, second = SharedWork(), {"image": cases.image[:2]}, {"image": cases.image[2:4]}
    assert work.of(trained, first).get("x", lambda: 1) == work.of(trained, first).get("x", lambda: 2) == 1
    assert work.of(trained, second).get("x", lambda: 3) == 3
    assert work.of(trained, first).find("x") is None
