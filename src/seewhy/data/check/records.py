"""What a data set says about itself (manifest.csv, dataset.json) against what is there."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from seewhy.data.check.report import Finding, error, warning
from seewhy.data.check.scan import Scanned

__all__ = ["manifest_findings", "manifest_patients", "read_description"]

REMEDY = "prepare the data set again, or correct the manifest"


def read_description(path: Path) -> tuple[dict[str, Any], list[Finding]]:
    """Contents of dataset.json, or an empty dict and what is wrong."""
    if not path.is_file():
        return {}, []
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        return {}, [error("description", path.name, f"no JSON: {problem}", "correct it or delete it")]
    if not isinstance(record, dict):
        message = f"holds a {type(record).__name__}, expected an object"
        return {}, [error("description", path.name, message, "correct it or delete it")]
    return record, []


def manifest_patients(path: Path) -> dict[str, str]:
    """File name → patient, as the manifest says; empty where it says nothing or cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {
                row["file"]: row["patient"] for row in csv.DictReader(file) if row.get("file") and row.get("patient")
            }
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}


def manifest_findings(path: Path, slices: Mapping[str, Scanned], present: set[str]) -> list[Finding]:
    """Compare manifest.csv with the files, row by row.

    Args:
        path: the manifest; without one there is nothing to compare.
        slices: file name → what was read.
        present: names of all files, also those that could not be read.
    """
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(_compare(csv.DictReader(file), slices, present))
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        return [error("manifest", path.name, f"cannot be read: {problem}", REMEDY)]


def _compare(reader: csv.DictReader[str], slices: Mapping[str, Scanned], present: set[str]) -> Iterator[Finding]:
    if "file" not in (reader.fieldnames or []):
        columns = ", ".join(reader.fieldnames or ["none"])
        yield error("manifest", "manifest.csv", f"has no column 'file'; its columns are {columns}", REMEDY)
        return
    seen: dict[str, int] = {}
    sources: set[str] = set()
    for row in reader:
        name, where = row["file"], f"manifest.csv, line {reader.line_num}"
        if name in seen:
            yield error("manifest", where, f"{name} is listed twice, also in line {seen[name]}", REMEDY)
        seen.setdefault(name, reader.line_num)
        if name not in present:
            yield error("manifest", where, f"{name} is not in the folder", REMEDY)
        elif name in slices:
            yield from _row_findings(row, slices[name], where)
        sources.add(row.get("source") or "")
    for name in sorted(present - seen.keys()):
        yield error("manifest", name, "the file is not in manifest.csv (a preparation that was stopped?)", REMEDY)
    for source in sorted(sources - {""}):
        if not Path(source).exists():
            message = "this volume, from which slices were cut, does not exist here"
            yield warning("source", source, message, "predictions cannot be put back into it; correct the path")


def _row_findings(row: Mapping[str, str], item: Scanned, where: str) -> Iterator[Finding]:
    """One row against its file."""
    stated: dict[str, object] = {"patient": item.patient, "slice": item.slice, "label": item.label}
    stated["area"] = item.area
    for column, value in stated.items():
        if row.get(column) and value is not None and not _same(row[column], value):
            message = f"{column} is {row[column]!r}, but {item.name} says {value}"
            yield error("manifest", where, message, REMEDY)


def _same(text: str | None, value: object) -> bool:
    if isinstance(value, int):
        try:
            return math.isclose(float(text or "nan"), value)
        except ValueError:
            return False
    return text == value
