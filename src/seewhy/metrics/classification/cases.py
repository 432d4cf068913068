"""Scores of case classifiers with intervals over patients and floors, and the table row of each case."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.batch import Batch, Prediction
from seewhy.errors import DataError
from seewhy.metrics.bootstrap import bca_bounds, percentile_bounds, resampled_weights
from seewhy.metrics.classification.measures import case_measures
from seewhy.metrics.classification.probabilities import calibrated_probability, ideal_calibration_error
from seewhy.metrics.gather import Row, RowCollection, gather_rows

__all__ = ["CaseScores", "make_case_row"]


def make_case_row(
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
    """Table row of one case.

    Args:
        name: id of the case.
        patient: patient of the case.
        source: file of the case.
        label: true class index, None if unknown.
        probability: calibrated probability of each class.
        logits: raw class scores, one per class or a single one.
        classes: names of the classes.
        ordinal: the classes are ordered grades.

    Returns:
        `id`, `patient`, `source`; `label` and `prediction` (indices), `label_name`, `prediction_name`; `correct`;
        for grades `error` (prediction - label); for two classes `performance_type` (TP, FP, TN, FN; class 1 is
        positive); `confidence`; `probability_<class>`; `logit_<k>`. Columns that need the label are missing without it.
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
    row |= {f"probability_{label_name}": float(share) for label_name, share in zip(classes, probability, strict=True)}
    return row | {f"logit_{k}": float(score) for k, score in enumerate(logits)}


PIECE = 2_000_000
"""Most bootstrap weights in memory at once."""
CERTAINTY = ("ece", "brier", "nll")
"""Scores that depend on the temperature."""


class CaseScores(RowCollection):
    """Keeps the logits of every case, each counted once over all ranks, and scores them at the end.

    The scores are those of `seewhy.metrics.classification.measures.case_measures`; scores of a class carry its name
    (`recall/early`). Undefined scores are left out. For labels of slices, see
    `seewhy.metrics.classification.slice_labels.SliceLabelScores`.

    Args:
        classes: names of the classes.
        ordinal: the classes are ordered grades.
        resamples: number of bootstrap resamples over patients; 0 for no intervals.
        permutations: number of permutations of predictions between patients, a floor; 0 leaves it out.
        seed: seed of both.
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
        """Temperature of the probabilities."""
        self._rows: list[Row] = []

    def update(self, prediction: Prediction, batch: Batch) -> None:
        """Keep the logits of a batch; does nothing if the batch has no labels.

        Args:
            prediction: with `logits` [B, K].
            batch: with `id` and `patient`, `label` [B] class indices, and `source` if known.

        Raises:
            DataError: a label is not a class index.
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
                    f"label {label} is not a class; expected 0 to {len(self.classes) - 1} ({', '.join(self.classes)})",
                    where=f"case {name}",
                )
            self._rows.append({"id": name, "patient": patient, "source": source, "label": label, "logits": score})

    def reset(self) -> None:
        """Forget all cases."""
        self._rows = []

    def outputs(self) -> tuple[Tensor, Tensor]:
        """Logits [N, K] float32 and labels [N] int64 of the cases of all ranks, in order of their ids."""
        rows = self._gathered()
        width = len(rows[0]["logits"]) if rows else len(self.classes)
        logits = torch.tensor([row["logits"] for row in rows], dtype=torch.float32).reshape(-1, width)
        return logits, torch.tensor([row["label"] for row in rows], dtype=torch.long)

    def rows(self) -> list[Row]:
        """One row per case of all ranks for `patients.csv`, see `make_case_row`."""
        rows = self._gathered()
        logits, _ = self.outputs()
        probability = calibrated_probability(logits, self.temperature)
        return [
            make_case_row(
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
            `<score>` with `<score>_low` and `<score>_high`, a 95 % bootstrap interval over patients (BCa, see
            `seewhy.metrics.bootstrap.bca_bounds`); `uncalibrated/<score>` for the scores that depend on the
            temperature; `ideal/ece`, the calibration error of a perfectly calibrated model with as many cases; the
            floors `floor_majority/…` (always
            the most frequent class), `floor_prior/…` (the class frequencies as probabilities) and `floor_permuted/…`
            (these predictions exchanged between patients, with the central 95 % of the permutations); `cases` and
            `patients`. Empty without cases.
        """
        rows = self._gathered()
        if not rows:
            return {}
        logits, label = self.outputs()
        truth = label.numpy()
        probability = _to_numpy(calibrated_probability(logits, self.temperature))
        plain = self._scores(probability, truth)
        scores = {**plain, **self._intervals(probability, truth, rows)}
        if self.temperature != 1.0:
            raw = self._scores(_to_numpy(calibrated_probability(logits)), truth)
            scores |= {f"uncalibrated/{name}": raw[name] for name in CERTAINTY}
        if self.resamples:
            scores["ideal/ece"] = ideal_calibration_error(probability, seed=self.seed)
        scores |= self._floors(truth) | self._permutation_floor(probability, truth, [row["patient"] for row in rows])
        return {**scores, "cases": float(len(rows)), "patients": float(len({row["patient"] for row in rows}))}

    def _gathered(self) -> list[Row]:
        return gather_rows(self._rows, key=("id",))

    def _scores(self, probability: NDArray[np.float64], truth: NDArray[np.int64]) -> dict[str, float]:
        """Scores without intervals under their public names."""
        scores = case_measures(probability, truth, ordinal=self.ordinal)
        return {self._public_name(name): float(value[0]) for name, value in scores.items() if not np.isnan(value[0])}

    def _public_name(self, score: str) -> str:
        """`recall_1` → `recall/early`; not `recall_early`, because a class named low would look like a bound."""
        name, _, place = score.rpartition("_")
        return f"{name}/{self.classes[int(place)]}" if place.isdigit() else score

    def _intervals(
        self, probability: NDArray[np.float64], truth: NDArray[np.int64], rows: list[Row]
    ) -> dict[str, float]:
        weights, patients = None, [row["patient"] for row in rows]
        if self.resamples:
            weights = resampled_weights(patients, resamples=self.resamples, seed=self.seed)
        if weights is None:
            return {}
        estimates = self._weighted_scores(probability, truth, np.ones((1, len(rows))))
        resampled = self._weighted_scores(probability, truth, weights)
        left_out = self._weighted_scores(probability, truth, _leave_one_out(patients, at_most=self.resamples))
        bounds = {
            name: bca_bounds(values, float(estimates[name][0]), left_out[name]) for name, values in resampled.items()
        }
        return _name_bounds({self._public_name(name): ends for name, ends in bounds.items()})

    def _weighted_scores(
        self, probability: NDArray[np.float64], truth: NDArray[np.int64], weights: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        """Scores under each of the weightings [R, N], in pieces that fit into memory."""
        size = max(1, PIECE // len(truth))
        parts = [
            case_measures(probability, truth, weights[first : first + size], ordinal=self.ordinal)
            for first in range(0, max(len(weights), 1), size)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _floors(self, truth: NDArray[np.int64]) -> dict[str, float]:
        """Scores of predictions that are the same for every case."""
        shares = np.bincount(truth, minlength=len(self.classes)) / len(truth)
        guesses = {"majority": np.eye(len(shares))[int(shares.argmax())], "prior": shares}
        floors: dict[str, float] = {}
        for guess, row in guesses.items():
            scores = case_measures(np.tile(row, (len(truth), 1)), truth, ordinal=self.ordinal)
            # The majority class is scored by its predictions, the prior by its probabilities. The prior is perfectly
            # calibrated by definition, so its calibration error is left out.
            names = [name for name in scores if not _per_class(name) and (name in CERTAINTY) == (guess == "prior")]
            names = [name for name in names if name != "ece" and not np.isnan(scores[name][0])]
            floors |= {f"floor_{guess}/{name}": float(scores[name][0]) for name in names}
        return floors

    def _permutation_floor(
        self, probability: NDArray[np.float64], truth: NDArray[np.int64], patients: list[str]
    ) -> dict[str, float]:
        """Chance level with as many cases and patients: predictions are exchanged between patients at random."""
        if not self.permutations or len(set(patients)) < 3:
            return {}
        permuted = [
            case_measures(probability[order], truth, ordinal=self.ordinal)
            for order in _permute_patients(patients, self.permutations, self.seed)
        ]
        values = {
            f"floor_permuted/{name}": np.concatenate([scores[name] for scores in permuted])
            for name in permuted[0]
            if not _per_class(name) and name not in CERTAINTY
        }
        means = {name: float(np.nanmean(value)) for name, value in values.items() if not np.isnan(value).all()}
        return means | _name_bounds({name: percentile_bounds(value) for name, value in values.items()})


def _permute_patients(patients: list[str], count: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield permutations [N] of cases: every patient gets the predictions of one patient drawn at random.

    If a patient has more cases than the other, some predictions are used more than once.
    """
    rng = np.random.default_rng(seed)
    names = np.asarray(patients)
    cases = [np.flatnonzero(names == name) for name in dict.fromkeys(patients)]
    for _ in range(count):
        order = np.arange(len(patients))
        for target, source in zip(cases, rng.permutation(len(cases)), strict=True):
            order[target] = rng.choice(cases[source], size=len(target), replace=len(target) > len(cases[source]))
        yield order


def _leave_one_out(patients: list[str], *, at_most: int) -> NDArray[np.float64]:
    """Weights [P, N] without each patient in turn; [0, N] for more patients, whose scores are hardly skewed."""
    names, index = np.unique(np.asarray(patients), return_inverse=True)
    count = len(names) if len(names) <= at_most else 0
    weights: NDArray[np.float64] = (index.ravel()[None, :] != np.arange(count)[:, None]).astype(np.float64)
    return weights


def _name_bounds(bounds: dict[str, tuple[float, float] | None]) -> dict[str, float]:
    result = {}
    for name, ends in bounds.items():
        if ends is not None:
            result[f"{name}_low"], result[f"{name}_high"] = ends
    return result


def _per_class(score: str) -> bool:
    return score.rpartition("_")[2].isdigit()


def _to_numpy(probability: Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = probability.double().numpy()
    return array
