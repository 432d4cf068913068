"""Main scores of a run as cards: each with its interval, and with the best floor."""

from __future__ import annotations

from collections.abc import Mapping

from seewhy.figures.labels import (
    Score,
    is_floor,
    label_of,
    lower_is_better,
    scores_by_method,
)
from seewhy.figures.report.blocks import ScoreCard
from seewhy.wording import LESION, TargetWords

__all__ = ["find_main_method", "make_cards"]

MAIN = ("dice", "auprc", "lesion_dice", "fp_slices", "auroc", "balanced_accuracy", "kappa", "mae", "ece")
"""Measures of the cards, in order."""
MOST = 4
PREFERRED = ("classifier", "prediction", "refined", "segmentation")
"""Methods that are a model's final answer."""
ASIDE = ("uncalibrated", "ideal", "ceiling")


def find_main_method(scores: Mapping[str, Mapping[str, Score]], measure: str) -> str | None:
    """Find the method whose value of a measure is the model's final answer; None if only floors have it.

    Example:
        >>> find_main_method({"cam": {"dice": Score(0.5)}, "refined": {"dice": Score(0.6)}}, "dice")
        'refined'
    """
    names = [name for name, own in scores.items() if measure in own and not is_floor(name) and name not in ASIDE]
    return next((name for name in PREFERRED if name in names), names[-1] if names else None)


def make_cards(metrics: Mapping[str, float], *, prefix: str = "test/", words: TargetWords = LESION) -> list[ScoreCard]:
    """Choose the main scores of a test, at most four.

    Args:
        metrics: flat names to values, see `seewhy.figures.labels.scores_by_method`.
        prefix: prefix of the names.
        words: of the data set.

    Example:
        >>> [card] = make_cards({"test/refined/dice": 0.8, "test/refined/dice_low": 0.7, "test/refined/dice_high": 0.9,
        ...                      "test/floor_otsu/dice": 0.3})
        >>> card.value, card.interval, card.floor, card.clear
        ('0.800', '95 % interval [0.70, 0.90]', 'best floor: 0.300 (Otsu)', True)
    """
    scores = scores_by_method(metrics, prefix=prefix)
    cards = [card for measure in MAIN if (card := _make_card(scores, measure, words)) is not None]
    return (cards or _translation_cards(metrics, prefix))[:MOST]


def _make_card(scores: Mapping[str, Mapping[str, Score]], measure: str, words: TargetWords) -> ScoreCard | None:
    method = find_main_method(scores, measure)
    if method is None:
        return None
    score = scores[method][measure]
    lower = lower_is_better(measure)
    # A floor of a single class is none of the mean over classes.
    classes = tuple(name.removeprefix(method) for name in scores if name.startswith(f"{method}_"))
    named = {name: own for name, own in scores.items() if is_floor(name) and not (classes and name.endswith(classes))}
    floors = {name: own[measure].value for name, own in named.items() if measure in own}
    if measure == "fp_slices":
        floors = {}  # painting nothing is perfect there, so a floor would mean nothing
    name = label_of(measure, words) + ("" if method == "classifier" else f", {label_of(method)}")
    ideal = scores.get("ideal", {}).get(measure)
    if not floors:
        note = f"a perfectly calibrated model of as many cases: {ideal.text(measure)}" if ideal else _direction(lower)
        return ScoreCard(name, score.text(measure, interval=False), _interval(score, measure), note)
    best = (min if lower else max)(floors, key=lambda key: floors[key])
    end = score.high if lower else score.low
    limit = score.value if end is None else end
    clear = limit < floors[best] if lower else limit > floors[best]
    floor = f"{Score(floors[best]).text(measure)} ({label_of(best).removeprefix('floor: ')})"
    text = f"best floor: {floor}" if clear else f"not clearly better than the best floor: {floor}"
    return ScoreCard(name, score.text(measure, interval=False), _interval(score, measure), text, clear)


def _interval(score: Score, measure: str) -> str:
    return "" if score.low is None else f"95 % interval [{score.bounds(measure)}]"


def _direction(lower: bool) -> str:
    return "lower is better" if lower else "higher is better"


def _translation_cards(metrics: Mapping[str, float], prefix: str) -> list[ScoreCard]:
    """Similarity of translations to the truth, with that of the untranslated scan as the floor."""
    cards = []
    for direction, title in (("a2b", "A → B"), ("b2a", "B → A")):
        value, floor = (metrics.get(f"{prefix}{direction}/{kind}/ssim") for kind in ("translation", "identity"))
        if value is not None and floor is not None:
            clear = value > floor
            text = f"{'floor' if clear else 'not better than the floor'}: {floor:.3f} (not translated)"
            cards.append(ScoreCard(f"SSIM against the truth, {title}", f"{value:.3f}", "", text, clear))
    return cards
