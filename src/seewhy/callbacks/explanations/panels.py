"""Explanations for the trackers: panels of pictures, and a table of maps with their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from PIL import Image

from seewhy.callbacks.explanations.pictures import title_of
from seewhy.tracking.images import log_image, takes_images
from seewhy.tracking.tables import log_table, takes_tables

__all__ = ["log_explanations"]

Record = Mapping[str, Any]
PANELS = 4
"""Samples of each method whose pictures go to the trackers."""
ROWS = 200
"""Rows of the table."""


def log_explanations(trainer: Trainer, folder: Path, records: Sequence[Record], *, name: str) -> None:
    """Send what was drawn to the loggers that show pictures and tables; others hold numbers only.

    Args:
        trainer: has the loggers and knows the step.
        folder: of the explanations.
        records: with their `pictures`.
        name: first part of the panels' names, e.g. `explanations`.
    """
    if takes_images(trainer.loggers):
        for method in dict.fromkeys(record["method"] for record in records):
            own = [record for record in records if record["method"] == method]
            for place, record in enumerate(own[:PANELS]):
                picture = _picture(folder, record)
                log_image(trainer.loggers, f"{name}/{method}/{place}", picture, trainer.global_step)
    if takes_tables(trainer.loggers):
        log_table(trainer.loggers, name, [_row(folder, record) for record in records[:ROWS]])


def _row(folder: Path, record: Record) -> dict[str, Any]:
    scores = {key: value for key, value in record.get("judged", {}).items() if isinstance(value, (int, float))}
    return {
        "id": record["id"],
        "method": record["method"],
        "image and map": _picture(folder, record),
        "prediction": record["predicted_name"],
        "probability": record["confidence"],
        "truth": None if record["label"] is None else str(record["label"]),
        "explained": record["target_name"],
        "said": title_of(record),
        "warnings": "; ".join(record["warnings"]),
        **scores,
    }


def _picture(folder: Path, record: Record) -> np.ndarray[Any, Any]:
    """The picture that shows most of a sample: its visualization, or the summary of its slices."""
    named = [name for name in record["pictures"] if name.endswith(("_visualization.png", "_summary.png"))]
    with Image.open(folder / named[0]) as picture:
        return np.asarray(picture.convert("RGB"))
