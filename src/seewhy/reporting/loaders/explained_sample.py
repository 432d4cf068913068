"""Explained samples with their arrays, as Python gets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.reporting.session import Session
from seewhy.reporting.store import Place

__all__ = ["ExplainedSample", "collect_samples"]


@dataclass(frozen=True, kw_only=True)
class ExplainedSample:
    """One sample, explained by one method for one target.

    Attributes:
        id: of the sample.
        method: name of the explainer.
        label: true class, [K] of them in {0, 1}, or None where unknown.
        predicted: index of the predicted class.
        predicted_name: its name.
        confidence: its calibrated probability.
        target: index of the explained class.
        target_name: its name; of a contrast, `a rather than b`.
        probability: calibrated probability of the explained class.
        maps: input → raw signed map [H, W] or [D, H, W] float32 at the size of the model's input, as in the
            `.npy` files of `explain.py`.
        heatmaps: input → the map as pictures show it: evidence, which is never negative, or the signed map of methods
            whose sign means something.
        shares: input → its share of all evidence, in [0, 1].
        scores: raw class scores.
        files: written arrays and pictures; empty if nothing was saved.
        record: everything else that `explanations.json` holds of this map.
    """

    id: str
    method: str
    label: int | list[float] | None
    predicted: int
    predicted_name: str
    confidence: float
    target: int
    target_name: str
    probability: float
    maps: dict[str, NDArray[np.float32]]
    heatmaps: dict[str, NDArray[np.float32]]
    shares: dict[str, float]
    scores: list[float]
    files: list[Path]
    record: Mapping[str, Any]


def collect_samples(session: Session, records: Sequence[Mapping[str, Any]], *, saved: bool) -> list[ExplainedSample]:
    """Read the finished maps of a session.

    Args:
        session: after its samples were explained.
        records: of the maps, with their `pictures` where these were drawn.
        saved: whether the session's folder remains.
    """
    store = session.store
    folders = {place.target: place for place in session.places}
    samples = []
    for record in records:
        place = Place(record["method"], _find_folder(record, folders))
        written = [*record["files"], *record.get("pictures", ())] if saved else []
        samples.append(
            ExplainedSample(
                id=record["id"],
                method=record["method"],
                label=record["label"],
                predicted=record["predicted"],
                predicted_name=record["predicted_name"],
                confidence=record["confidence"],
                target=record["target"],
                target_name=record["target_name"],
                probability=record["probability"],
                maps=store.raw(record),
                heatmaps=store.arrays(place, record["id"]),
                shares=record["shares"],
                scores=record["scores"],
                files=[store.folder / name for name in written],
                record=record,
            )
        )
    return samples


def _find_folder(record: Mapping[str, Any], folders: Mapping[str, Place]) -> str:
    """Folder of the target of a record, from the path of its first file."""
    parts = Path(record["files"][0]).parts
    return parts[1] if len(folders) > 1 else ""
