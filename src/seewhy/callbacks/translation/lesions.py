"""Lesion check after the test of a translation: `lesions.csv`, scores per modality, and warnings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from seewhy.batch import MODALITIES, Batch, Prediction
from seewhy.io.atomic import write_csv
from seewhy.metrics.gather import Row, gather_rows
from seewhy.metrics.translation.lesion import COLUMNS, check_lesion, locate_lesions
from seewhy.metrics.translation.similarity import DIRECTIONS, centre_slices, subject_name
from seewhy.option_types import PositiveFloat, PositiveInt
from seewhy.options import check_choice

__all__ = ["LesionCheck"]

SHOWN = 5
"""Problems that the warning lists."""


class LesionCheck(Callback):
    """Checks after a test that lesions kept the sign and the size of their contrast.

    Lesions are those of the annotation (read here only) or, without one, the largest of the brightest regions; the
    brightest region of the translation is checked in every subject, since it may be invented. See
    `seewhy.metrics.translation.lesion.check_lesion` for the rule.

    It logs `test/<direction>/lesion/<modality>/<name>`, over subjects: the mean contrasts in masks, or in the brightest
    regions without any mask (`contrast_before`, `contrast_after`, `contrast_truth` where known), and, over all places,
    the numbers `sign_changes` and `problems`.

    Args:
        folder: the run folder, for `lesions.csv`, one row per subject, place and modality.
        margin: width of the surroundings that a lesion is compared with, in voxels.
        tolerance: largest relative change of a contrast.
        modality: in which bright regions are looked for.

    Raises:
        ConfigError: an unknown modality.
    """

    def __init__(
        self, *, folder: str, margin: PositiveInt = 4, tolerance: PositiveFloat = 0.5, modality: str = "flair"
    ) -> None:
        check_choice(modality, MODALITIES, "callbacks.lesions.modality")
        self.folder, self.margin, self.tolerance, self.modality = Path(folder), margin, tolerance, modality
        self.rows: list[Row] = []

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the subjects of the last test."""
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
        """Check one subject."""
        if isinstance(outputs, dict) and "translated" in outputs:
            self.rows += self.check(outputs, batch)  # type: ignore[arg-type]

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table of all ranks, log its scores, and warn of problems."""
        self.rows = gather_rows(self.rows, key=("direction", "subject", "place", "modality"))
        if not self.rows:
            return
        pl_module.log_dict(
            {f"test/{name}": value for name, value in summarize(self.rows).items()}, rank_zero_only=False
        )
        if trainer.is_global_zero:
            write_csv(self.folder / "lesions.csv", self.rows, columns=COLUMNS)
        problems = [
            f"{row['patient']}, {row['modality']} ({row['place']}): {row['problem']}"
            for row in self.rows
            if row["problem"]
        ]
        if problems:
            more = f"; {len(problems) - SHOWN} more in lesions.csv" * (len(problems) > SHOWN)
            rank_zero_warn(f"lesion check: {'; '.join(problems[:SHOWN])}{more}")

    def check(self, prediction: Prediction, batch: Batch) -> list[Row]:
        """Check one subject; rows with `COLUMNS`, one per place and modality."""
        scans = {
            "before": centre_slices(batch["image"]),  # type: ignore[arg-type]
            "after": prediction["translated"],
            "truth": batch.get("counterpart"),
        }
        arrays: dict[str, Any] = {
            name: [None] * len(MODALITIES) if scan is None else np.moveaxis(scan.float().cpu().numpy(), 1, 0)
            for name, scan in scans.items()
        }
        mask: Any = batch.get("mask")
        number = MODALITIES.index(self.modality)
        lesions = locate_lesions(
            arrays["before"][number], arrays["after"][number], batch["body"].cpu().numpy(),
            None if mask is None else mask.cpu().numpy(), margin=self.margin,
        )  # fmt: skip
        domain = batch["domain"][0]
        head = {"subject": subject_name(batch["id"][0], domain), "patient": batch["patient"][0]}
        head["direction"] = DIRECTIONS[domain]
        scans_of = list(zip(MODALITIES, *arrays.values(), strict=True))
        return [
            {
                **head, "place": place, "modality": name,
                **check_lesion(before, after, truth, lesion, tolerance=self.tolerance),
            }
            for place, lesion in lesions.items()
            for name, before, after, truth in scans_of
        ]  # fmt: skip


def summarize(rows: list[Row]) -> dict[str, float]:
    """Scores `<direction>/lesion/<modality>/<name>` of rows with `COLUMNS`; see `LesionCheck`."""
    scores: dict[str, float] = {}
    for direction in dict.fromkeys(row["direction"] for row in rows):
        several = [row for row in rows if row["direction"] == direction]
        annotated = any(row["place"] == "mask" for row in several)
        for modality in MODALITIES:
            group = [row for row in several if row["modality"] == modality]
            chosen = [row for row in group if row["place"] == ("mask" if annotated else "brightest before")]
            where = f"{direction}/lesion/{modality}"
            for name in ("contrast_before", "contrast_after", "contrast_truth"):
                values = [row[name] for row in chosen if row[name] is not None and not np.isnan(row[name])]
                if values:
                    scores[f"{where}/{name}"] = float(np.mean(values))
            scores[f"{where}/sign_changes"] = float(sum(row["sign_change"] for row in group))
            scores[f"{where}/problems"] = float(sum(bool(row["problem"]) for row in group))
    return scores
