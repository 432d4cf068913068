"""A figure of the best, the middle and the worst test patients: where the maps are right, and where not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from seewhy.batch import Batch, Prediction
from seewhy.data.base import BaseDataModule
from seewhy.errors import ConfigError
from seewhy.metrics.gather import Row, gather_rows
from seewhy.metrics.segmentation.overlap import dice
from seewhy.reporting.shown_sample import shown

if TYPE_CHECKING:
    from seewhy.figures.patient_panel import PanelCase

__all__ = ["PanelFigure", "choose_rows", "forget_pixels"]

THRESHOLD = 0.5
"""Value of a map above which a pixel is called lesion."""


class PanelFigure(Callback):
    """Writes `cases.png` after a test: the best third of its rows, then the middle, then the worst patients.

    Patients are ranked by the Dice of their last map (`refined`, where the model makes it) over all their slices
    and with all classes as one, or, where no patient has an annotated lesion, by their highest probability. Each is
    shown by the slice with the largest lesion, else by the one with the highest probability, with the Dice of every
    map on that slice. Pixels are kept of a fixed number of patients, so that memory does not grow with the test set;
    see `forget_pixels`. Under DDP every process hands in its candidates and the first one draws.

    Args:
        folder: where `cases.png` goes.
        patients: rows of the figure.

    Raises:
        ConfigError: fewer than one row.
    """

    def __init__(self, *, folder: str, patients: int = 6) -> None:
        if patients < 1:
            raise ConfigError(f"callbacks.cases.patients={patients} must be 1 or more")
        self.folder = Path(folder)
        self.patients = patients
        self.rows: list[Row] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with no patient."""
        self.rows = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Look at one patient, and forget the pixels of one that will not be drawn."""
        if isinstance(outputs, dict) and outputs.get("maps"):
            self.rows.append(_row(trainer, outputs, batch))  # type: ignore[arg-type]
            forget_pixels(self.rows, self.patients)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the figure."""
        rows = gather_rows(self.rows, key=("patient",))
        self.rows = []
        if rows and trainer.is_global_zero:
            self._draw(trainer, choose_rows(rows, self.patients))

    def _draw(self, trainer: Trainer, rows: Sequence[Row]) -> None:
        from seewhy.figures.patient_panel import panel
        from seewhy.figures.style import write_figure

        datamodule = getattr(trainer, "datamodule", None)
        phantom = isinstance(datamodule, BaseDataModule) and datamodule.is_phantom
        figure = panel([row["case"] for row in rows], title=f"test patients by {rows[0]['measure']}", phantom=phantom)
        write_figure(self.folder / "cases.png", figure)


def forget_pixels(rows: Iterable[Row], count: int) -> None:
    """Drop the pictures of patients that will hardly be drawn; their scores stay.

    Of each measure, `count` patients from either end of the ranking keep theirs, and the `4 * count` nearest to the
    median so far. The ends are therefore exact, and the middle is as near to the median as the order allows.

    Args:
        rows: of all patients so far; `case` becomes None.
        count: rows of the figure.
    """
    for ranked in _by_measure(rows).values():
        inner = _nearest_to_median(ranked, range(count, len(ranked) - count))
        for rank in inner[4 * count :]:
            ranked[rank]["case"] = None


def choose_rows(rows: Sequence[Row], count: int) -> list[Row]:
    """The best, the middle and the worst patients, best first.

    Args:
        rows: of all patients, after `forget_pixels`. Those that have a Dice go before those that have none.
        count: how many to choose; the best have the first call on an uneven number, then the worst.

    Returns:
        At most `count` rows with their pictures, named by their place.
    """
    ranked = next(iter(_by_measure(rows).values()))
    if len(ranked) <= count:
        return [row for row in ranked if row["case"] is not None]
    best, worst, middle = (count + 2) // 3, (count + 1) // 3, count // 3
    ends = len(ranked) - worst
    inner = sorted(_nearest_to_median(ranked, range(best, ends))[:middle])
    places = {"best": range(best), "middle": inner, "worst": range(ends, len(ranked))}
    return [_named(ranked[rank], place) for place, ranks in places.items() for rank in ranks]


def _nearest_to_median(ranked: Sequence[Row], ranks: Iterable[int]) -> list[int]:
    """Those ranks that still have a picture, the nearest to the middle of the ranking first."""
    centre = (len(ranked) - 1) / 2
    return sorted((rank for rank in ranks if ranked[rank]["case"] is not None), key=lambda rank: abs(rank - centre))


def _by_measure(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by what they are ranked by, Dice first, each from the highest score to the lowest."""
    groups: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["measure"] == "probability", -row["score"])):
        groups.setdefault(row["measure"], []).append(row)
    return groups


def _named(row: Row, place: str) -> Row:
    case: PanelCase = row["case"]
    return {**row, "case": replace(case, name=f"{place}: {case.name}")}


def _row(trainer: Trainer, prediction: Prediction, batch: Batch) -> Row:
    """One patient: what it is ranked by, and the picture of its most telling slice."""
    name = list(prediction["maps"])[-1]
    found = prediction["maps"][name].amax(1) > THRESHOLD
    lesion = (cast(Tensor, batch["mask"]) > 0).to(found.device) if "mask" in batch else torch.zeros_like(found)
    row: Row = {"patient": prediction["patient"][0]}
    if lesion.any():
        row |= {"measure": f"Dice of {name}", "score": dice(found, lesion)}
        position, told = int(lesion.flatten(1).sum(dim=1).argmax()), f"patient's Dice {row['score']:.2f}"
    else:
        probability = prediction["probability"].amax(1)
        row |= {"measure": "probability", "score": float(probability.max())}
        position, told = int(probability.argmax()), ""
    return {**row, "case": _case(trainer, prediction, batch, position, told)}


def _case(trainer: Trainer, prediction: Prediction, batch: Batch, position: int, told: str) -> PanelCase:
    from seewhy.figures.patient_panel import PanelCase

    sample = shown(trainer, prediction, batch, position)
    scores = {}
    if sample.mask is not None and sample.mask.any():
        truth = torch.from_numpy(sample.mask) > 0
        scores = {name: dice(torch.from_numpy(heat) > THRESHOLD, truth) for name, heat in sample.maps.items()}
    index = prediction["index"][position]
    name = f"{prediction['patient'][position]}, slice {index}" if index >= 0 else prediction["id"][position]
    return PanelCase(
        name=f"{name}\n{told}".strip(),
        image=sample.image,
        maps=sample.maps,
        mask=sample.mask,
        probability=float(prediction["probability"][position].max()),
        label=bool(batch["label"][position].any()) if "label" in batch else None,
        scores=scores,
    )
