"""Which samples are explained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seewhy.batch import Prediction
from seewhy.errors import ConfigError, nearest

__all__ = ["BY_NAME", "BY_PREDICTION", "SampleChoice", "prediction_rows"]

BY_NAME = ("spread", "random", "first")
BY_PREDICTION = ("best", "worst", "median", "uncertain")


class SampleChoice:
    """Picks samples by their names, or by how well they were predicted.

    Args:
        samples: `spread` evenly over the data set, `random`, `first`; `best`, `worst`, `median` by the predicted
            probability of the true class; `uncertain` by the entropy of the prediction; or a list of ids.
        count: how many; 0 is all.
        seed: of `random`.

    Attributes:
        needs_predictions: whether the choice can only be made after a prediction.
    """

    def __init__(self, samples: str | Sequence[str], *, count: int, seed: int = 0) -> None:
        self.ids = None if isinstance(samples, str) else [str(one) for one in samples]
        self.rule = samples if isinstance(samples, str) else "ids"
        if self.ids is None and self.rule not in (*BY_NAME, *BY_PREDICTION):
            raise ConfigError(
                f"explain.samples={self.rule!r} is unknown; {nearest(self.rule, (*BY_NAME, *BY_PREDICTION))}, "
                "or a list of ids"
            )
        if count < 0:
            raise ConfigError(f"explain.max_samples={count} must be 0 (all) or more")
        self.count, self.seed = count, seed
        self.needs_predictions = self.rule in BY_PREDICTION and count > 0

    def by_name(self, known: Sequence[str]) -> list[str]:
        """Choose without a prediction.

        Args:
            known: ids of all samples, in the order of the data set.

        Raises:
            ConfigError: ids that no sample has; the nearest are named.
        """
        if self.ids is not None:
            unknown = [one for one in self.ids if one not in set(known)]
            if unknown:
                told = "; ".join(f"{one!r} ({nearest(one, known)})" for one in unknown)
                raise ConfigError(f"explain.samples: no such sample in this part of the data: {told}")
            return list(dict.fromkeys(self.ids))
        count = self.count or len(known)
        if count >= len(known):
            return list(known)
        if self.rule == "random":
            picked = np.random.default_rng(self.seed).choice(len(known), size=count, replace=False)
            return [known[place] for place in sorted(picked)]
        places = range(count) if self.rule == "first" else np.linspace(0, len(known) - 1, count).round().astype(int)
        return [known[place] for place in places]

    def by_prediction(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Choose by what `prediction_rows` says.

        Raises:
            ConfigError: no labels to tell good from bad by.
        """
        measure = "entropy" if self.rule == "uncertain" else "true_probability"
        known = [row for row in rows if row[measure] is not None]
        if not known:
            raise ConfigError(f"explain.samples={self.rule} needs labels, and these samples have none")
        ordered = sorted(known, key=lambda row: (row[measure], row["id"]))
        count = min(self.count, len(ordered))
        if self.rule == "median":
            first = (len(ordered) - count) // 2
            chosen = ordered[first : first + count]
        else:
            chosen = ordered[:count] if self.rule == "worst" else ordered[::-1][:count]
        return [row["id"] for row in chosen]


def prediction_rows(prediction: Prediction) -> list[dict[str, Any]]:
    """What a choice needs to know of each sample: id, entropy, and the probability of the true class or None.

    Args:
        prediction: `probability` [B, K] over classes with `label` [B]; or per class, with `label` [B, K], where
            the true-class probability is that of the sample's least likely true answer.
    """
    if "probability" not in prediction:
        raise ConfigError(
            "explain.samples: this model predicts no classes to choose samples by; "
            f"choose {', '.join(BY_NAME)} or a list of ids"
        )
    probability = prediction["probability"].detach().double().cpu().numpy()
    label = prediction["label"].cpu().numpy() if "label" in prediction else None
    rows = []
    for position, name in enumerate(prediction["id"]):
        own = probability[position]
        truth = None
        if label is not None and label.ndim == 1:
            truth = float(own[label[position]]) if label[position] >= 0 else None
        elif label is not None:
            truth = float(np.where(label[position] > 0.5, own, 1 - own).min())
        answers = own if label is None or label.ndim == 1 else np.concatenate([own, 1 - own])
        entropy = -sum(float(p) * math.log(p) for p in answers if p > 0)
        rows.append({"id": name, "true_probability": truth, "entropy": entropy})
    return rows
