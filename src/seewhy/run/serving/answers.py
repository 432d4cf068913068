"""Answers of the server as JSON, with the files of the prediction inside, or as a zip file of them."""

from __future__ import annotations

import base64
import json
import math
import mimetypes
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from seewhy.figures.labels import method_label
from seewhy.io.atomic import file_sha256
from seewhy.io.checks.sizes import format_bytes
from seewhy.run.serving.examination import Examination
from seewhy.run.serving.served_run import ServedRun

__all__ = ["answer_as_json", "answer_as_zip"]

MOST_INSIDE = 64 << 20
"""Bytes of files inside a JSON answer; larger ones are only in the zip file."""
TYPES = {".csv": "text/csv", ".gz": "application/gzip", ".npz": "application/octet-stream"}


def answer_as_json(run: ServedRun, examination: Examination, *, seconds: float) -> bytes:
    """Format an answer.

    Args:
        run: facts of the run.
        examination: of the case.
        seconds: that reading and computing took.
    """
    record = {
        "id": examination.id,
        "model": {"name": run.name, "checkpoint": run.checkpoint, "sha256": run.sha256},
        "warnings": list(run.warnings),
        "predicted": examination.predicted,
        "values": list(examination.values),
        "about": examination.about,
        "method": examination.method and {
            "name": examination.method, "title": method_label(examination.method), "target": examination.target,
            "verdict": examination.verdict,
        },
        "doubts": list(examination.doubts),
        "notes": list(examination.notes),
        "files": _list_files(examination.folder),
        "cases": [asdict(case) for case in examination.cases],
        "seconds": round(seconds, 3),
    }  # fmt: skip
    return json.dumps(_without_nan(record), allow_nan=False).encode()


def answer_as_zip(examination: Examination) -> IO[bytes]:
    """Pack the files of a prediction, unchanged, into a file without a name."""
    packed: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the one who sends it
    with zipfile.ZipFile(packed, "w") as archive:
        for name, path in _find_files(examination.folder):
            archive.write(path, name)
    packed.seek(0)
    return packed


def _find_files(folder: Path) -> Sequence[tuple[str, Path]]:
    """Name relative to the folder, and path, of every file."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), path) for path in paths]


def _list_files(folder: Path) -> list[dict[str, Any]]:
    """Facts of each file; its bytes as base64 text as long as all of them are not too many."""
    left, files = MOST_INSIDE, []
    for name, path in _find_files(folder):
        size = path.stat().st_size
        fits = size <= left
        left -= size if fits else 0
        files.append({
            "name": name, "bytes": size, "size": format_bytes(size), "sha256": file_sha256(path),
            "type": TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream",
            "content": base64.b64encode(path.read_bytes()).decode() if fits else None,
        })  # fmt: skip
    return files


def _without_nan(value: Any) -> Any:
    """Plain data in which numbers that are not finite are None."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
