"""Pictures of patients with their maps: panels for the loggers in validation, and a figure of cases after the test."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from seewhy.batch import Batch, Prediction
from seewhy.errors import ConfigError
from seewhy.metrics.gather import Row, gather_rows
from seewhy.metrics.segmentation.overlap import dice
from seewhy.option_types import PositiveInt
from seewhy.reporting.sample import find_words, is_phantom, view_prediction
from seewhy.tracking.media import find_step, log_image, takes_images
from seewhy.wording import LESION, TargetWords

if TYPE_CHECKING:
    from seewhy.figures.patient_panel import PanelCase

__all__ = ["LogPanels", "PanelFigure", "choose_rows", "drop_pictures"]

FALSE = "false positives"
"""Start of the measure that ranks healthy patients."""
THRESHOLD = 0.5
"""Value of a map above which a pixel is selected."""


class LogPanels(Callback):
    """Sends a panel of cases (image and maps) to TensorBoard, W&B or MLflow after a validation.

    Args:
        every_n_epochs: epochs between two panels.
        samples: cases in a panel: the slice with the highest probability of each of the first patients.
    """

    def __init__(self, *, every_n_epochs: PositiveInt = 1, samples: PositiveInt = 4) -> None:
        self.every_n_epochs = every_n_epochs
        self.samples = samples
        self.strips: list[np.ndarray[Any, Any]] = []
        self.names: list[str] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start an empty panel."""
        self.strips, self.names = [], []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add one case of this patient."""
        due = trainer.current_epoch % self.every_n_epochs == 0
        if not due or len(self.strips) >= self.samples or not isinstance(outputs, dict) or "maps" not in outputs:
            return
        if trainer.is_global_zero and takes_images(trainer.loggers):
            strip, name = _draw_strip(trainer, cast(Prediction, outputs), batch)
            self.strips.append(strip)
            self.names.append(name)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send the panel."""
        if not self.strips:
            return
        width = max(strip.shape[1] for strip in self.strips)
        padded = [np.pad(s, ((0, 4), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in self.strips]
        caption = "each row the image and its maps, from above: " + "; ".join(self.names)
        log_image(trainer.loggers, "val/panel", np.concatenate(padded), find_step(trainer), caption=caption)


def _draw_strip(trainer: Trainer, prediction: Prediction, batch: Batch) -> tuple[np.ndarray[Any, Any], str]:
    """The patient's most confident slice next to its maps, [H, W, 3] uint8; and its id, probability and maps."""
    from seewhy.figures.overlay import strip

    position = int(prediction["probability"].max(1).values.argmax())
    sample = view_prediction(trainer, prediction, batch, position)
    chances = " / ".join(f"{value:.2f}" for value in prediction["probability"][position].tolist())
    name = f"{sample.id}, probability {chances}, {', '.join(sample.maps)}"
    return strip(sample.image, sample.maps, mask=sample.mask), name


class PanelFigure(Callback):
    """Writes `cases.png` after a test: patients from best to worst, and healthy patients with their false positives.

    Patients with a lesion are ranked by the Dice of their last map (`refined`, where the model makes it) over all
    their slices with all classes as one; a third each is from the best, the middle and the worst. Healthy patients
    take up to a third of the rows, the one with the most predicted pixels first. Without any annotation patients are
    ranked by their highest probability. Each is shown by the slice with the largest lesion, for healthy patients the
    one with the most predicted pixels, else by the one with the highest probability, with the Dice of every map on
    that slice. Pictures are kept of a fixed number of patients, so that memory does not grow with the test
    set; see `drop_pictures`. Under DDP the first process gathers the candidates of all and draws.

    Args:
        folder: folder of `cases.png`.
        patients: number of patients in the figure.

    Raises:
        ConfigError: fewer than one patient.
    """

    def __init__(self, *, folder: str, patients: PositiveInt = 6) -> None:
        if patients < 1:
            raise ConfigError(f"callbacks.cases.patients={patients} must be 1 or more")
        self.folder = Path(folder)
        self.patients = patients
        self.rows: list[Row] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start without patients."""
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
        """Add one patient, and drop the picture of one that will not be drawn."""
        if isinstance(outputs, dict) and outputs.get("maps"):
            self.rows.append(_make_row(trainer, cast(Prediction, outputs), batch))
            drop_pictures(self.rows, self.patients)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the figure."""
        rows = gather_rows(self.rows, key=("patient",))
        self.rows = []
        if rows and trainer.is_global_zero:
            self._draw(trainer, choose_rows(rows, self.patients, words=find_words(trainer)))

    def _draw(self, trainer: Trainer, rows: Sequence[Row]) -> None:
        from seewhy.figures.patient_panel import panel
        from seewhy.figures.style import write_figure

        title = f"test patients by {rows[0]['measure']}"
        figure = panel([row["case"] for row in rows], title=title, phantom=is_phantom(trainer))
        write_figure(self.folder / "cases.png", figure)


def drop_pictures(rows: Iterable[Row], count: int) -> None:
    """Drop the pictures of patients that will hardly be drawn; their scores stay.

    Of each measure, `count` patients from either end of the ranking keep theirs, and the `4 * count` nearest to the
    current median. The ends are therefore exact, and the middle is as near to the median as the order allows.

    Args:
        rows: of all patients so far; `case` becomes None.
        count: number of patients in the figure.
    """
    for ranked in _group_by_measure(rows).values():
        inner = _nearest_to_median(ranked, range(count, len(ranked) - count))
        for rank in inner[4 * count :]:
            ranked[rank]["case"] = None


def choose_rows(rows: Sequence[Row], count: int, *, words: TargetWords = LESION) -> list[Row]:
    """Choose the best, the middle and the worst patients, best first.

    Args:
        rows: of all patients, after `drop_pictures`. Patients with a Dice have priority over those without.
        count: how many to choose; where it is not divisible by 3, the best get one more, then the worst.
        words: of the data set.

    Returns:
        At most `count` rows with their pictures, named by their position in the ranking; healthy patients last.
    """
    groups = _group_by_measure(rows)
    ranked = next(iter(groups.values()))
    healthy = next((group for name, group in groups.items() if name.startswith(FALSE) and group is not ranked), [])
    healthy = [row for row in healthy if row["case"] is not None][::-1][: count // 3]
    chosen = _choose_ranked(ranked, count - len(healthy))
    return chosen + [{**row, "case": _rename(row["case"], words.absent)} for row in healthy]


def _choose_ranked(ranked: Sequence[Row], count: int) -> list[Row]:
    if len(ranked) <= count:
        return [row for row in ranked if row["case"] is not None]
    best, worst, middle = (count + 2) // 3, (count + 1) // 3, count // 3
    ends = len(ranked) - worst
    inner = sorted(_nearest_to_median(ranked, range(best, ends))[:middle])
    groups = {"best": range(best), "middle": inner, "worst": range(ends, len(ranked))}
    chosen = []
    for group, ranks in groups.items():
        chosen += [{**ranked[rank], "case": _rename(ranked[rank]["case"], group)} for rank in ranks]
    return chosen


def _rename(case: PanelCase, group: str) -> PanelCase:
    return replace(case, name=f"{group}: {case.name}")


def _nearest_to_median(ranked: Sequence[Row], ranks: Iterable[int]) -> list[int]:
    """Those ranks that still have a picture, the nearest to the middle of the ranking first."""
    centre = (len(ranked) - 1) / 2
    return sorted((rank for rank in ranks if ranked[rank]["case"] is not None), key=lambda rank: abs(rank - centre))


def _group_by_measure(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by the measure that ranks them, Dice first, each from the highest score to the lowest."""
    groups: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (not row["measure"].startswith("Dice"), row["measure"], -row["score"])):
        groups.setdefault(row["measure"], []).append(row)
    return groups


def _make_row(trainer: Trainer, prediction: Prediction, batch: Batch) -> Row:
    """One patient: its measure and score, and the picture of its most informative slice."""
    name = list(prediction["maps"])[-1]
    predicted = prediction["maps"][name].amax(1) > THRESHOLD
    lesion = (cast(Tensor, batch["mask"]) > 0).to(predicted.device) if "mask" in batch else None
    row: Row = {"patient": prediction["patient"][0]}
    if lesion is not None and lesion.any():
        row |= {"measure": f"Dice of {name}", "score": dice(predicted, lesion)}
        position, note = int(lesion.flatten(1).sum(dim=1).argmax()), f"patient's Dice {row['score']:.2f}"
    elif lesion is not None:
        painted = predicted.flatten(1).sum(dim=1)
        row |= {"measure": f"{FALSE} of {name}", "score": -float(painted.sum())}
        area = painted if bool(painted.any()) else prediction["probability"].amax(1)
        position, note = int(area.argmax()), f"{int(painted.sum())} px painted in all slices"
    else:
        probability = prediction["probability"].amax(1)
        row |= {"measure": "probability", "score": float(probability.max())}
        position, note = int(probability.argmax()), ""
    return {**row, "case": _make_case(trainer, prediction, batch, position, note)}


def _make_case(trainer: Trainer, prediction: Prediction, batch: Batch, position: int, note: str) -> PanelCase:
    from seewhy.figures.patient_panel import PanelCase

    sample = view_prediction(trainer, prediction, batch, position)
    words = find_words(trainer)
    scores = {}
    if sample.mask is not None and sample.mask.any():
        truth = torch.from_numpy(sample.mask)
        scores = {name: dice(torch.from_numpy(values) > THRESHOLD, truth) for name, values in sample.maps.items()}
    index = prediction["index"][position]
    name = f"{prediction['patient'][position]}, slice {index}" if index >= 0 else prediction["id"][position]
    return PanelCase(
        name=f"{name}\n{note}".strip(),
        image=sample.image,
        maps=sample.maps,
        mask=sample.mask,
        probability=float(prediction["probability"][position].max()),
        label=words.describe(present=bool(batch["label"][position].any())) if "label" in batch else "",
        scores=scores,
    )
