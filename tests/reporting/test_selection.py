"""Which samples are explained, and which class of each."""

import pytest
import torch

from seewhy.errors import ConfigError
from seewhy.explain import Explainable
from seewhy.reporting.selection import SampleChoice, TargetChoice, prediction_rows

KNOWN = [f"case{number}" for number in range(10)]
GRADES = Explainable(classes=("normal", "early", "late"))


def chosen(rule, count=3, seed=0):
    return SampleChoice(rule, count=count, seed=seed).by_name(KNOWN)


def test_spread_takes_both_ends_and_the_middle():
    assert chosen("spread", count=3) == ["case0", "case4", "case9"]


def test_zero_is_all_and_more_than_there_are_is_all():
    assert chosen("spread", count=0) == KNOWN
    assert chosen("random", count=99) == KNOWN


def test_random_repeats_with_its_seed_and_differs_between_seeds():
    assert chosen("random", seed=1) == chosen("random", seed=1)
    assert len({tuple(chosen("random", seed=seed)) for seed in range(5)}) > 1


def test_ids_keep_the_users_order_and_unknown_ones_are_named_with_the_nearest():
    assert chosen(["case7", "case2", "case7"]) == ["case7", "case2"]
    with pytest.raises(ConfigError, match=r"'cas7' \(nearest: 'case7'"):
        chosen(["case1", "cas7"])


def test_an_unknown_rule_is_refused():
    with pytest.raises(ConfigError, match=r"explain\.samples='wurst' is unknown; nearest: 'worst'"):
        SampleChoice("wurst", count=1)


def rows_of_three():
    prediction = {
        "id": ["sure", "wrong", "torn", "unlabelled"],
        "probability": torch.tensor([[0.9, 0.05, 0.05], [0.8, 0.1, 0.1], [0.4, 0.3, 0.3], [0.2, 0.2, 0.6]]),
        "label": torch.tensor([0, 2, 0, -1]),
    }
    return prediction_rows(prediction)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("best", ["sure", "torn"]), ("worst", ["wrong", "torn"]), ("uncertain", ["torn", "unlabelled"])],
)
def test_samples_are_ranked_by_the_probability_of_the_truth_or_by_entropy(rule, expected):
    assert SampleChoice(rule, count=2).by_prediction(rows_of_three()) == expected


def test_median_is_the_middle_of_the_labelled_ones():
    assert SampleChoice("median", count=1).by_prediction(rows_of_three()) == ["torn"]


def test_good_and_bad_need_labels():
    rows = [row | {"true_probability": None} for row in rows_of_three()]
    with pytest.raises(ConfigError, match="needs labels"):
        SampleChoice("worst", count=2).by_prediction(rows)


def test_the_truth_of_a_multi_label_sample_is_its_least_likely_answer():
    prediction = {"id": ["a"], "probability": torch.tensor([[0.7, 0.2]]), "label": torch.tensor([[1.0, 0.0]])}
    assert prediction_rows(prediction)[0]["true_probability"] == pytest.approx(0.7)


def never():
    raise AssertionError("no prediction is needed")


def test_targets_by_name_index_label_and_all():
    label = torch.tensor([2, 0])
    assert TargetChoice(None, GRADES, classes=3).of(label, never) == [None]
    assert TargetChoice("late", GRADES, classes=3).of(label, never) == [2]
    assert TargetChoice("1", GRADES, classes=3).of(label, never) == [1]
    assert TargetChoice("all", GRADES, classes=3).of(label, never) == [0, 1, 2]
    assert torch.equal(TargetChoice("label", GRADES, classes=3).of(label, never)[0], label)


def test_an_unknown_label_falls_back_to_the_prediction():
    found = TargetChoice("label", GRADES, classes=3).of(torch.tensor([2, -1]), lambda: torch.eye(2, 3))
    assert found[0].tolist() == [2, 1]


def test_several_targets_have_folders_with_their_names_and_one_has_none():
    assert TargetChoice(["early", 2], GRADES, classes=3).folders == ["target_early", "target_late"]
    assert TargetChoice("early", GRADES, classes=3).folders == [""]


@pytest.mark.parametrize("wrong", [3, "3", -1])
def test_a_class_that_does_not_exist_is_refused_with_those_that_do(wrong):
    with pytest.raises(ConfigError, match=r"expected 0 to 2|nearest|valid"):
        TargetChoice(wrong, GRADES, classes=3)


def test_a_mistyped_class_gets_the_nearest():
    with pytest.raises(ConfigError, match="nearest: 'early'"):
        TargetChoice("erly", GRADES, classes=3)


def test_folders_of_targets_are_safe_and_different():
    about = Explainable(classes=("mild/moderate", "../../escaped", "mild:moderate"))
    assert TargetChoice([0, 1], about, classes=3).folders == ["target_mild_moderate", "target_.._.._escaped"]
    with pytest.raises(ConfigError, match=r"explain\.target.*mild/moderate.*mild:moderate"):
        TargetChoice("all", about, classes=3)
