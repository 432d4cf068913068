"""Scores of a classifier of whole cases, with intervals by patient and beside floors that know nothing.

One case as a line of a table: what was predicted, how surely, and whether it was right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.batch import Batch, Prediction
from seewhy.errors import DataError
from seewhy.metrics.bootstrap import percentile_bounds, resampled_weights
from seewhy.metrics.classification.calibration import calibrated_probability, calibration_by_chance
from seewhy.metrics.classification.measures import case_measures
from seewhy.metrics.gather import Row, gather_rows

__all__ = ["CaseScores", "case_row"]


def case_row(
    *,
    name: str,
    patient: str,
    source: str,
    label: int | None,
    probability: Sequence[float],
    logits: Sequence[float],
    classes: Sequence[str],
    ordinal: bool = False,
) -> Row:
    """Put a case into a row.

    Args:
        name: of the case.
        patient: whose it is.
        source: its file.
        label: true class index, None where unknown.
        probability: of each class, calibrated.
        logits: raw class scores, one per class or a single one.
        classes: names of the classes.
        ordinal: the classes are ordered grades.

    Returns:
        `id`, `patient`, `source`; `label` and `prediction` (indices), `label_name`, `prediction_name`; `correct`;
        of grades `error` (prediction - label); of two classes `performance_type` (TP, FP, TN, FN; class 1 is
        positive); `confidence`; `probability_<class>`; `logit_<k>`. What needs the label is left out without it.
    """
    prediction = int(np.argmax(probability))
    row: Row = {"id": name, "patient": patient, "source": source}
    if label is not None:
        row["label"] = label
    row["prediction"] = prediction
    if label is not None:
        row["label_name"] = classes[label]
    row["prediction_name"] = classes[prediction]
    if label is not None:
        row["correct"] = int(prediction == label)
        if ordinal:
            row["error"] = prediction - label
        if len(classes) == 2:
            row["performance_type"] = ("T" if prediction == label else "F") + ("P" if prediction else "N")
    row["confidence"] = float(probability[prediction])
    row |= {f"probability_{one}": float(share) for one, share in zip(classes, probability, strict=True)}
    return row | {f"logit_{k}": float(score) for k, score in enumerate(logits)}


PIECE = 2_000_000
"""Weights that are worked on at once."""
CERTAINTY = ("ece", "brier", "nll")
"""Scores that a temperature changes."""


class CaseScores:
    """Keeps the class scores of every case, once over all ranks, and scores them at the end.

    Names of the scores are those of `seewhy.metrics.classification.measures.case_measures`, per-class ones with the
    class's name
    (`recall/early`). A score that the data do not define is left out.

    Args:
        classes: names of the classes.
        ordinal: the classes are ordered grades.
        resamples: of the bootstrap over patients; 0 gives no intervals.
        permutations: of the floor that deals the predictions to other patients; 0 leaves it out.
        seed: of both.
    """

    def __init__(
        self,
        *,
        classes: Sequence[str],
        ordinal: bool = False,
        resamples: int = 2000,
        permutations: int = 200,
        seed: int = 0,
    ) -> None:
        self.classes = list(classes)
        self.ordinal = ordinal
        self.resamples = resamples
        self.permutations = permutations
        self.seed = seed
        self.temperature = 1.0
        """Of the probabilities."""
        self._rows: list[Row] = []

    def update(self, prediction: Prediction, batch: Batch) -> None:
        """Keep a batch's class scores; does nothing where the batch has no labels.

        Args:
            prediction: with `logits` [B, K].
            batch: with `id` and `patient`, `label` [B] class indices, and `source` where known.

        Raises:
            DataError: a label that is no class.
        """
        if "label" not in batch:
            return
        logits = prediction["logits"].detach().float().cpu().tolist()
        labels = batch["label"].detach().cpu().tolist()
        sources = batch.get("source", [""] * len(labels))
        for name, patient, source, score, label in zip(
            batch["id"], batch.get("patient", batch["id"]), sources, logits, labels, strict=True
        ):
            if not 0 <= label < len(self.classes):
                raise DataError(
                    f"label {label} is no class; expected 0 to {len(self.classes) - 1} ({', '.join(self.classes)})",
                    where=f"case {name}",
                )
            self._rows.append({"id": name, "patient": patient, "source": source, "label": label, "logits": score})

    def reset(self) -> None:
        """Forget all cases."""
        self._rows = []

    def outputs(self) -> tuple[Tensor, Tensor]:
        """Class scores [N, K] float32 and labels [N] int64 of all ranks' cases, in order of their ids."""
        rows = self._gathered()
        width = len(rows[0]["logits"]) if rows else len(self.classes)
        logits = torch.tensor([row["logits"] for row in rows], dtype=torch.float32).reshape(-1, width)
        return logits, torch.tensor([row["label"] for row in rows], dtype=torch.long)

    def rows(self) -> list[Row]:
        """One row per case of all ranks, for `patients.csv`, as `seewhy.metrics.classification.cases` makes them."""
        rows = self._gathered()
        logits, _ = self.outputs()
        probability = calibrated_probability(logits, self.temperature)
        return [
            case_row(
                name=row["id"],
                patient=row["patient"],
                source=row["source"],
                label=row["label"],
                probability=share.tolist(),
                logits=row["logits"],
                classes=self.classes,
                ordinal=self.ordinal,
            )
            for row, share in zip(rows, probability, strict=True)
        ]

    def compute(self) -> dict[str, float]:
        """Scores of all cases, the same on every rank.

        Returns:
            `<score>` with `<score>_low` and `<score>_high`, a 95 % percentile interval over patients drawn with
            replacement; `uncalibrated/<score>` of those a temperature changes; `ideal/ece`, what a perfectly
            calibrated model would show with as many cases; the floors `floor_majority/…` (always the most
            frequent class), `floor_prior/…` (each class as probable as it is frequent) and `floor_permuted/…`
            (these predictions, dealt to other patients, with the range of 95 % of the deals); `cases` and
            `patients`. Empty without cases.
        """
        rows = self._gathered()
        if not rows:
            return {}
        logits, label = self.outputs()
        truth = label.numpy()
        probability = _array(calibrated_probability(logits, self.temperature))
        plain = self._scores(probability, truth)
        found = {**plain, **self._intervals(probability, truth, rows)}
        if self.temperature != 1.0:
            raw = self._scores(_array(calibrated_probability(logits)), truth)
            found |= {f"uncalibrated/{name}": raw[name] for name in CERTAINTY}
        if self.resamples:
            found["ideal/ece"] = calibration_by_chance(probability, seed=self.seed)
        found |= self._floors(truth) | self._permuted(probability, truth, [row["patient"] for row in rows])
        return {**found, "cases": float(len(rows)), "patients": float(len({row["patient"] for row in rows}))}

    def _gathered(self) -> list[Row]:
        return gather_rows(self._rows, key=("id",))

    def _scores(self, probability: NDArray[np.float64], truth: NDArray[np.int64]) -> dict[str, float]:
        """Plain scores under their public names."""
        found = case_measures(probability, truth, ordinal=self.ordinal)
        return {self._named(name): float(value[0]) for name, value in found.items() if not np.isnan(value[0])}

    def _named(self, score: str) -> str:
        """`recall_1` → `recall/early`; a class may be called low, so `_` would not do."""
        name, _, place = score.rpartition("_")
        return f"{name}/{self.classes[int(place)]}" if place.isdigit() else score

    def _intervals(
        self, probability: NDArray[np.float64], truth: NDArray[np.int64], rows: list[Row]
    ) -> dict[str, float]:
        weights = None
        if self.resamples:
            weights = resampled_weights([row["patient"] for row in rows], resamples=self.resamples, seed=self.seed)
        if weights is None:
            return {}
        size = max(1, PIECE // len(rows))
        parts = [
            case_measures(probability, truth, weights[first : first + size], ordinal=self.ordinal)
            for first in range(0, len(weights), size)
        ]
        return _bounds({self._named(name): np.concatenate([part[name] for part in parts]) for name in parts[0]})

    def _floors(self, truth: NDArray[np.int64]) -> dict[str, float]:
        """Predictions that are the same for every case."""
        shares = np.bincount(truth, minlength=len(self.classes)) / len(truth)
        guesses = {"majority": np.eye(len(shares))[int(shares.argmax())], "prior": shares}
        found: dict[str, float] = {}
        for guess, row in guesses.items():
            scores = case_measures(np.tile(row, (len(truth), 1)), truth, ordinal=self.ordinal)
            # Of the one only the answer counts, of the other only the probabilities, whose calibration is
            # perfect by definition and therefore says nothing.
            told = [name for name in scores if not _per_class(name) and (name in CERTAINTY) == (guess == "prior")]
            told = [name for name in told if name != "ece"]
            found |= {f"floor_{guess}/{name}": float(scores[name][0]) for name in told if not np.isnan(scores[name][0])}
        return found

    def _permuted(
        self, probability: NDArray[np.float64], truth: NDArray[np.int64], patients: list[str]
    ) -> dict[str, float]:
        """Chance with as many cases and patients: each patient gets the predictions of another."""
        if not self.permutations or len(set(patients)) < 3:
            return {}
        deals = [
            case_measures(probability[order], truth, ordinal=self.ordinal)
            for order in _deals(patients, self.permutations, self.seed)
        ]
        values = {
            f"floor_permuted/{name}": np.concatenate([deal[name] for deal in deals])
            for name in deals[0]
            if not _per_class(name) and name not in CERTAINTY
        }
        means = {name: float(np.nanmean(value)) for name, value in values.items() if not np.isnan(value).all()}
        return means | _bounds(values)


def _deals(patients: list[str], count: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """For each deal, the case whose prediction every case gets: one of another patient, the same one for all of his.

    Where a patient has more cases than the one he is dealt, some predictions come twice.
    """
    rng = np.random.default_rng(seed)
    names = np.asarray(patients)
    cases = [np.flatnonzero(names == name) for name in dict.fromkeys(patients)]
    for _ in range(count):
        order = np.arange(len(patients))
        for own, source in zip(cases, rng.permutation(len(cases)), strict=True):
            order[own] = rng.choice(cases[source], size=len(own), replace=len(own) > len(cases[source]))
        yield order


def _bounds(values: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    found = {}
    for name, value in values.items():
        bounds = percentile_bounds(value)
        if bounds is not None:
            found[f"{name}_low"], found[f"{name}_high"] = bounds
    return found


def _per_class(score: str) -> bool:
    return score.rpartition("_")[2].isdigit()


def _array(probability: Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = probability.double().numpy()
    return array
