"""Similarity of translated scans: SSIM, PSNR and mean errors over the tissue, and their means over patients.

Only scans of the same voxels may be compared: a reconstruction with its input, a translation with the same head on the
other scanner. Compared with a slice of another patient, the values would depend on the patient, not on the translation.
SSIM is that of torchmetrics. PSNR, MAE and MSE are sums over the tissue, which torchmetrics cannot mask.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from seewhy.batch import MODALITIES, Batch, Prediction
from seewhy.metrics.gather import Row, RowCollection, gather_rows

__all__ = [
    "COMPARISONS",
    "DIRECTIONS",
    "METRICS",
    "TranslationScores",
    "centre_slices",
    "similarity",
    "slice_similarity",
    "subject_name",
]

METRICS = ("ssim", "psnr", "mae", "mse")
REACH = 5
"""Pixels from the centre of an SSIM window to its edge."""
CHUNK = 16
"""Slices whose SSIM is computed at once; about 12 copies of them are in memory."""


def slice_similarity(image: Tensor, target: Tensor, body: Tensor) -> dict[str, Tensor]:
    """Similarity of every slice and modality over the tissue of the slice; NaN for slices without tissue.

    Intensities are rescaled from [-1, 1] to [0, 1]. PSNR is 10 log10(1 / MSE) in dB,
    infinite for equal images. SSIM (Wang 2004, eq. 13) has Gaussian windows of 11 x 11, σ 1.5, K1 0.01, K2 0.03, and
    is averaged over the pixels of the tissue; windows near its rim include background.

    Args:
        image: [S, M, H, W] in [-1, 1], sides of at least 6.
        target: the same.
        body: [S, H, W] bool, tissue.

    Returns:
        `ssim`, `psnr`, `mae`, `mse`, each [S, M] float32.

    Example:
        >>> import torch
        >>> image, body = torch.zeros(1, 4, 16, 16), torch.ones(1, 16, 16, dtype=torch.bool)
        >>> scores = slice_similarity(image, image + 0.2, body)
        >>> print(f"{scores['mae'][0, 0]:.2f} {scores['psnr'][0, 0]:.1f} dB")
        0.10 20.0 dB
    """
    return similarity(image, target, body)[0]


def similarity(image: Tensor, target: Tensor, body: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """`slice_similarity`, and the same over the tissue of all slices together as [M] float32, in one pass.

    The SSIM of the volume is the SSIM in the planes of the slices, averaged over all tissue voxels.
    """
    if image.shape != target.shape or body.shape != (image.shape[0], *image.shape[2:]):
        shapes = [list(values.shape) for values in (image, target, body)]
        raise ValueError(f"image {shapes[0]}, target {shapes[1]} and body {shapes[2]} do not have the same voxels")
    rows, columns = _tissue_window(body)
    cut = (values[..., rows, columns].split(CHUNK) for values in (image, target, body))
    parts = [_sums(*piece) for piece in zip(*cut, strict=True)]
    sums = torch.cat(parts, dim=1)
    count = body.sum(dim=(1, 2), dtype=torch.float64)[:, None]
    return _means(sums, count), _means(sums.sum(dim=1), count.sum(dim=0))


def _tissue_window(body: Tensor) -> tuple[slice, slice]:
    """Rows and columns that SSIM windows on tissue can reach; the rest does not affect the scores."""
    window = []
    for axis in (2, 1):
        places = torch.nonzero(body.any(dim=0).any(dim=axis - 1)).flatten()
        first, last = (int(places[0]), int(places[-1])) if len(places) else (0, 0)
        window.append(slice(max(first - REACH, 0), last + REACH + 1))
    return window[0], window[1]


@torch.no_grad()
def _sums(image: Tensor, target: Tensor, body: Tensor) -> Tensor:
    """[3, S, M] float64 sums over the tissue of SSIM, of absolute and of squared differences."""
    # Variances are small differences of large numbers; half precision and TF32 on CUDA are not exact enough.
    precision = torch.float64 if image.is_cuda else torch.float32
    with torch.autocast(image.device.type, enabled=False):
        image, target = (image.to(precision) + 1) / 2, (target.to(precision) + 1) / 2
        ssim = structural_similarity_index_measure(
            image, target, data_range=1.0, reduction="none", return_full_image=True
        )
    difference = image - target
    values = torch.stack([ssim[1], difference.abs(), difference.square()])
    return torch.where(body[:, None], values, 0.0).sum(dim=(-2, -1), dtype=torch.float64)


def _means(sums: Tensor, count: Tensor) -> dict[str, Tensor]:
    """Measures from sums over voxels; without voxels 0 / 0 is NaN."""
    ssim, mae, mse = (sums / count).unbind()
    psnr = -10 * mse.log10()
    return {name: value.float() for name, value in zip(METRICS, (ssim, psnr, mae, mse), strict=True)}


COMPARISONS = {
    "cycle": "translated there and back, against its own input",
    "inverse": "translated and undone by its exact inverse, against its own input: rounding errors",
    "translation": "translated, against the same head on the other scanner",
    "identity": "not translated, against the same head on the other scanner: the floor",
    "change": "translated, against its own input: the amount of change, not a quality",
}
DIRECTIONS = {"a": "a2b", "b": "b2a"}
"""Domain of a scan → direction of its translation, also used for its cycle."""


class TranslationScores(RowCollection):
    """SSIM, PSNR, MAE and MSE over the tissue (`slice_similarity`) per subject, the same on every rank.

    The comparisons are those of `COMPARISONS`: `translation` and `identity` need a `counterpart` in the batch, `cycle`
    needs `reconstructed` in the prediction, `inverse` needs `inverted`.
    """

    def __init__(self) -> None:
        self._rows: list[Row] = []

    def update(self, prediction: Prediction, batch: Batch) -> None:
        """Measure one subject.

        Args:
            prediction: `translated` [S, M, H, W] and, for models that can, `reconstructed` and `inverted`; in [-1, 1].
            batch: all slices of the subject: `image` [S, 3M, H, W], `body`, `domain`, `id`, `patient`, `index`, and
                `counterpart` [S, M, H, W] for paired data.
        """
        source, counterpart = centre_slices(batch["image"]), batch.get("counterpart")  # type: ignore[arg-type]
        translated = prediction["translated"]
        pairs: dict[str, tuple[Tensor, Tensor]] = {"change": (translated, source)}
        if "reconstructed" in prediction:
            pairs["cycle"] = (prediction["reconstructed"], source)
        if "inverted" in prediction:
            pairs["inverse"] = (prediction["inverted"], source)
        if counterpart is not None:
            pairs |= {"translation": (translated, counterpart), "identity": (source, counterpart)}
        measured = {name: similarity(*pair, batch["body"]) for name, pair in pairs.items()}
        domain = batch["domain"][0]
        self._rows.append(
            {
                "subject": subject_name(batch["id"][0], domain),
                "patient": batch["patient"][0],
                "domain": domain,
                "ids": list(batch["id"]),
                "slices": [int(number) for number in batch["index"]],
                "values": {
                    name: {"slices": _to_lists(slices), "volume": _to_lists(volume)}
                    for name, (slices, volume) in measured.items()
                },
            }
        )

    def reset(self) -> None:
        """Forget all subjects."""
        self._rows = []

    def rows(self) -> list[Row]:
        """Long rows of all ranks, one per slice with tissue, modality, comparison and metric.

        Columns: `subject`, `patient`, `domain`, `direction`, `slice` (its number in the source), `id`, `modality`,
        `comparison`, `metric`, `value`.
        """
        return [row for subject in self._gathered() for row in _long_rows(subject)]

    def patient_rows(self) -> list[Row]:
        """One row per subject and comparison, over the tissue of the whole volume.

        Columns: `subject`, `patient`, `domain`, `direction`, `comparison`, then each metric averaged over modalities
        (`ssim`) and per modality (`ssim_t1`).
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
        """Means over patients as `<direction>/<comparison>/<metric>`, each over whole volumes, not over slices."""
        values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for row in self.patient_rows():
            for metric in METRICS:
                if not math.isnan(row[metric]):
                    values[f"{row['direction']}/{row['comparison']}/{metric}"][row["patient"]].append(row[metric])
        return {name: _mean([_mean(scores) for scores in patients.values()]) for name, patients in values.items()}

    def _gathered(self) -> list[Row]:
        return gather_rows(self._rows, key=("domain", "subject"))


def centre_slices(image: Tensor) -> Tensor:
    """Middle slices [S, M, H, W] of stacks [S, 3M, H, W]."""
    count = len(MODALITIES)
    return image[:, count : 2 * count]


def subject_name(sample: str, domain: str) -> str:
    """Subject of a slice, from its id.

    Example:
        >>> subject_name("a_BraTS2021-00006_077", "a")
        'BraTS2021-00006'
    """
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


def _to_lists(values: dict[str, Tensor]) -> dict[str, Any]:
    return {name: value.tolist() for name, value in values.items()}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
