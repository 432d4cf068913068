"""Main scores of a run next to the floors that belong to them."""

from seewhy.run.pages.facts import make_cards


def test_floors_of_single_classes_are_no_floor_of_the_mean():
    metrics = {
        "test/prediction/dice": 0.5, "test/prediction_nodule/dice": 0.6, "test/floor_window_nodule/dice": 0.55,
        "test/floor_window/dice": 0.3,
    }  # fmt: skip
    [card] = make_cards(metrics)
    assert (card.name, card.floor, card.clear) == ("Dice, prediction", "best floor: 0.300 (intensity window)", True)


def test_an_interval_that_reaches_the_floor_is_not_clear():
    metrics = {"test/auroc": 0.9, "test/auroc_low": 0.6, "test/auroc_high": 1.0, "test/floor_area/auroc": 0.7}
    [card] = make_cards(metrics)
    assert card.clear is False
    assert card.floor == "not clearly better than the best floor: 0.700 (slice area)"


def test_errors_are_better_when_lower():
    metrics = {"test/mae": 0.2, "test/mae_low": 0.1, "test/mae_high": 0.3, "test/floor_majority/mae": 0.8}
    [card] = make_cards(metrics)
    assert card.clear is True


def test_translations_are_compared_with_the_untranslated_scan():
    metrics = {"test/a2b/translation/ssim": 0.9, "test/a2b/identity/ssim": 0.95, "test/b2a/cycle/ssim": 0.9}
    [card] = make_cards(metrics)
    assert (card.clear, card.floor) == (False, "not better than the floor: 0.950 (not translated)")


def test_without_scores_there_are_no_cards():
    assert make_cards({"test/loss": 1.0}) == []
