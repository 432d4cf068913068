"""Similarity of translated scans over a data set, each compared only with what it may be compared with."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from seewhy.batch import MODALITIES, Batch, Prediction
from seewhy.metrics.gather import Row, gather_rows
from seewhy.metrics.translation.similarity import METRICS, similarity

__all__ = ["COMPARISONS", "DIRECTIONS", "TranslationScores", "centre_slices", "subject_name"]

COMPARISONS = {
    "cycle": "translated there and back, against its own input",
    "translation": "translated, against the same head on the other scanner",
    "identity": "not translated, against the same head on the other scanner: the floor",
    "change": "translated, against its own input: how much was changed, which is no quality",
}
DIRECTIONS = {"a": "a2b", "b": "b2a"}
"""Domain of a scan → direction it is translated in; its cycle is counted under the same."""


class TranslationScores:
    """SSIM, PSNR, MAE and MSE over the tissue (`slice_similarity`), kept per subject, the same on every rank.

    What a scan is compared with: `COMPARISONS`. Without a `counterpart` in the batch there is no `translation` and no
    `identity`, without a `reconstructed` in the prediction no `cycle`.
    """

    def __init__(self) -> None:
        self._subjects: list[Row] = []

    def update(self, prediction: Prediction, batch: Batch) -> None:
        """Measure one subject.

        Args:
            prediction: `translated` [S, M, H, W] and, where there is a way back, `reconstructed`; both in [-1, 1].
            batch: all slices of the subject: `image` [S, 3M, H, W], `body`, `domain`, `id`, `patient`, `index`, and
                `counterpart` [S, M, H, W] where paired data exist.
        """
        own, counterpart = centre_slices(batch["image"]), batch.get("counterpart")  # type: ignore[arg-type]
        translated = prediction["translated"]
        pairs: dict[str, tuple[Tensor, Tensor]] = {"change": (translated, own)}
        if "reconstructed" in prediction:
            pairs["cycle"] = (prediction["reconstructed"], own)
        if counterpart is not None:
            pairs |= {"translation": (translated, counterpart), "identity": (own, counterpart)}
        measured = {name: similarity(*pair, batch["body"]) for name, pair in pairs.items()}
        domain = batch["domain"][0]
        self._subjects.append(
            {
                "subject": subject_name(batch["id"][0], domain),
                "patient": batch["patient"][0],
                "domain": domain,
                "ids": list(batch["id"]),
                "slices": [int(number) for number in batch["index"]],
                "values": {
                    name: {"slices": _plain(slices), "volume": _plain(volume)}
                    for name, (slices, volume) in measured.items()
                },
            }
        )

    def reset(self) -> None:
        """Forget all subjects."""
        self._subjects = []

    def rows(self) -> list[Row]:
        """Long rows of all ranks, one per slice, modality, comparison and metric; slices without tissue have none.

        Columns: `subject`, `patient`, `domain`, `direction`, `slice` (as numbered in the source), `id`, `modality`,
        `comparison`, `metric`, `value`.
        """
        return [row for subject in self._gathered() for row in _long_rows(subject)]

    def patient_rows(self) -> list[Row]:
        """One row per subject and comparison, over the tissue of the whole volume.

        Columns: `subject`, `patient`, `domain`, `direction`, `comparison`, then each metric averaged over modalities
        (`ssim`) and for each (`ssim_t1`).
        """
        rows = []
        for subject in self._gathered():
            for comparison, values in subject["values"].items():
                row = {**_head(subject), "comparison": comparison}
                for metric in METRICS:
                    per_modality = values["volume"][metric]
                    row[metric] = sum(per_modality) / len(per_modality)
                    row |= {f"{metric}_{name}": value for name, value in zip(MODALITIES, per_modality, strict=True)}
                rows.append(row)
        return rows

    def compute(self) -> dict[str, float]:
        """`<direction>/<comparison>/<metric>`: the mean over patients of whole volumes, never over slices."""
        values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for row in self.patient_rows():
            for metric in METRICS:
                if not math.isnan(row[metric]):
                    values[f"{row['direction']}/{row['comparison']}/{metric}"][row["patient"]].append(row[metric])
        return {name: _mean([_mean(own) for own in patients.values()]) for name, patients in values.items()}

    def _gathered(self) -> list[Row]:
        return gather_rows(self._subjects, key=("domain", "subject"))


def centre_slices(image: Tensor) -> Tensor:
    """The middle slice [S, M, H, W] of stacks [S, 3M, H, W]."""
    count = len(MODALITIES)
    return image[:, count : 2 * count]


def subject_name(sample: str, domain: str) -> str:
    """The subject in a slice's id: `a_BraTS2021-00006_077` of domain a is of `BraTS2021-00006`."""
    return sample.removeprefix(f"{domain}_").rpartition("_")[0]


def _head(subject: Row) -> Row:
    domain = subject["domain"]
    return {
        "subject": subject["subject"],
        "patient": subject["patient"],
        "domain": domain,
        "direction": DIRECTIONS[domain],
    }


def _long_rows(subject: Row) -> Iterator[Row]:
    head = _head(subject)
    for comparison, values in subject["values"].items():
        for place, (number, name) in enumerate(zip(subject["slices"], subject["ids"], strict=True)):
            for metric in METRICS:
                for modality, value in zip(MODALITIES, values["slices"][metric][place], strict=True):
                    if not math.isnan(value):
                        yield {
                            **head, "slice": number, "id": name, "modality": modality, "comparison": comparison,
                            "metric": metric, "value": value,
                        }  # fmt: skip


def _plain(values: dict[str, Tensor]) -> dict[str, Any]:
    return {name: value.tolist() for name, value in values.items()}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
