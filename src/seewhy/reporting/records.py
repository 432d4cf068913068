"""Types of the records that explanations leave on disk; a file that does not fit counts as missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typing_extensions import NotRequired, TypedDict

from seewhy.errors import DataError
from seewhy.io.documents import read_json

__all__ = ["ExplanationRecord", "FloorsRecord", "VerdictRecord", "read_record"]


class ExplanationRecord(TypedDict):
    """One sample, method and target."""

    key: str
    id: str
    patient: str
    method: str
    target: int
    target_name: str
    probability: float
    predicted_name: str
    confidence: float
    label: int | list[float] | None
    classes: list[str]
    signed: bool
    completeness: float | None
    notes: list[str]
    shares: dict[str, float]
    statistics: dict[str, dict[str, str | float | None]]
    files: list[str]
    display: dict[str, bool]
    spacing: list[float] | None
    slice_numbers: list[int]
    judged: dict[str, str | float | bool | None]
    parts: NotRequired[dict[str, dict[str, Any]]]


class VerdictRecord(TypedDict):
    """The verdict on a method over all samples."""

    key: str
    failures: list[str]
    doubts: list[str]


class FloorsRecord(TypedDict):
    """Scores of the floors on one sample."""

    key: str
    rows: list[dict[str, Any]]


def read_record(path: Path, kind: type) -> dict[str, Any] | None:
    """Read a record; None if it is missing, damaged or of other types, so that it is made again.

    Args:
        path: the file.
        kind: one of the types of this module.
    """
    try:
        record: dict[str, Any] = read_json(path, kind)
    except DataError:
        return None
    return record
