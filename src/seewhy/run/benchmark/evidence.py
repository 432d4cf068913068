"""Check that a trained network uses the evidence that its phantom was drawn with."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from seewhy.errors import DataError
from seewhy.io.atomic import file_sha256, write_json
from seewhy.io.documents import read_json
from seewhy.phantoms.twins import draw_twins
from seewhy.run.folder import RunFolder
from seewhy.run.loaded.loading import load

__all__ = ["Evidence", "check_evidence", "read_evidence"]

FILE = "evidence.json"
"""In the folder of a member."""
ENOUGH = 0.8
"""Smallest share of twins that must be predicted as the known evidence implies."""


class _Change(TypedDict):
    """Twins with one change."""

    moved: bool
    count: int
    right: int


class _SavedMap(TypedDict):
    """Entries of `evidence.json`."""

    checkpoint: str
    changes: dict[str, _Change]


@dataclass(frozen=True)
class Evidence:
    """Shares of twins that are predicted as the known evidence implies.

    Attributes:
        moved: of twins with other evidence, whose class must change.
        kept: of twins with the same evidence and other looks, whose class must stay; None without such twins.
        changes: change → share.
    """

    moved: float
    kept: float | None
    changes: dict[str, float]

    @property
    def is_used(self) -> bool:
        """Whether the network uses the known evidence, so that the place of the evidence is the truth."""
        return min(self.moved, 1.0 if self.kept is None else self.kept) >= ENOUGH


def check_evidence(folder: Path) -> Evidence:
    """Predict the twins of a run's explained cases, and write `evidence.json`; one of this checkpoint is read.

    Args:
        folder: of the run.

    Raises:
        DataError: a run without explanations, or of another data set than a phantom with twins.
    """
    sha256 = file_sha256(RunFolder(folder).checkpoint(final=False))
    if (folder / FILE).is_file():
        record: Any = read_json(folder / FILE, _SavedMap)
        if record["checkpoint"] == sha256:
            return _summarize(record["changes"])
    listed = read_json(folder / "explanations" / "explanations.json", dict[str, Any])
    cases = list(dict.fromkeys(str(row["id"]) for row in listed["explanations"]))
    model = load(folder, device="cpu")
    twins = draw_twins(str(model.config.data.root), cases)
    images = [
        {name: twin.images.get(name) for name in model.inputs} if isinstance(twin.images, dict) else twin.images
        for twin in twins
    ]
    predictions = model.predict(images, names=[f"twin_{number}" for number in range(len(twins))])
    counts: dict[str, dict[str, Any]] = defaultdict(lambda: {"moved": False, "count": 0, "right": 0})
    for twin, prediction in zip(twins, predictions, strict=True):
        entry = counts[twin.change]
        entry["moved"] = twin.moved
        entry["count"] += 1
        entry["right"] += prediction.predicted == model.classes[twin.label]
    if not any(entry["moved"] for entry in counts.values()):
        raise DataError(f"{folder}: no twin with other evidence; explain more cases (explain.max_samples)")
    write_json(folder / FILE, {"checkpoint": sha256, "changes": dict(counts)})
    return _summarize(counts)


def read_evidence(folder: Path) -> Evidence:
    """Read `evidence.json`.

    Raises:
        DataError: it is missing or damaged.
    """
    record: Any = read_json(folder / FILE, _SavedMap)
    return _summarize(record["changes"])


def _summarize(changes: Any) -> Evidence:
    """Compute shares over all twins of a kind."""

    def share(moved: bool) -> float | None:
        chosen = [entry for entry in changes.values() if entry["moved"] is moved]
        count = sum(entry["count"] for entry in chosen)
        return sum(entry["right"] for entry in chosen) / count if count else None

    each = {name: entry["right"] / entry["count"] for name, entry in changes.items()}
    return Evidence(share(True) or 0.0, share(False), each)
