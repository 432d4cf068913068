"""Answers of the server as JSON with the files of the prediction, or as a zip file of them; and their types."""

from __future__ import annotations

import base64
import json
import mimetypes
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Literal

from pydantic import BaseModel, Field

from seewhy.figures.labels import method_label
from seewhy.io.atomic import file_sha256, replace_non_finite
from seewhy.io.checks.sizes import format_bytes
from seewhy.run.serving.examination import Examination
from seewhy.run.serving.served_run import ServedRun
from seewhy.run.serving.uploads import NO_METHOD, CaseRules

__all__ = ["Problem", "ServedAnswer", "answer_as_json", "answer_as_zip", "describe_request"]

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
    return json.dumps(replace_non_finite(record), allow_nan=False).encode()


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


# -- types for openapi.json -----------------------------------------------------------------------------------


class Problem(BaseModel):
    """Why a case was not answered."""

    error: str = Field(description="one line: what was found, what was expected, and what to do")


class AnswerValue(BaseModel):
    """A number of an answer."""

    name: str = Field(description="class")
    value: float | None
    unit: Literal["probability", "ml", "voxels", "slices"]


class AnswerVerdict(BaseModel):
    """What the run knows about the maps of a method."""

    state: Literal["passed", "failed", "open", "not judged"]
    text: str


class Method(BaseModel):
    """The explanation method of an answer."""

    name: str
    title: str
    target: str = Field(description="explained class")
    verdict: AnswerVerdict


class File(BaseModel):
    """A file, as `predict.py` writes it."""

    name: str
    bytes: int
    size: str = Field(description="for people")
    sha256: str
    type: str
    content: str | None = Field(description="base64; null where the files are too large, use /predict.zip")


class Weights(BaseModel):
    """The served run."""

    name: str
    checkpoint: str
    sha256: str


class ServedAnswer(BaseModel):
    """The answer to one case."""

    id: str
    model: Weights
    warnings: list[str] = Field(description="what must be read before the answer")
    predicted: str
    values: list[AnswerValue]
    about: str = Field(description="what the values are, e.g. whether probabilities are calibrated")
    method: Method | None = Field(description="null without a map")
    doubts: list[str] = Field(description="signs, found without the truth, that the answer should be distrusted")
    notes: list[str]
    files: list[File]
    cases: list[dict[str, Any]] = Field(description="pictures, as in the case browser of a report")
    seconds: float


def describe_request(rules: CaseRules) -> dict[str, Any]:
    """Describe the fields of a request to predict a case, for `openapi.json`."""
    file = {"type": "string", "format": "binary", "description": f"one of {', '.join(rules.suffixes)}"}
    own: dict[str, Any] = {"type": "array", "items": file} if rules.several else file
    fields: dict[str, Any] = dict.fromkeys(rules.inputs, own)
    fields["name"] = {"type": "string", "description": "of the case; by default from the first file"}
    choices = {"domain": rules.domains, "method": (*rules.methods, NO_METHOD), "target": rules.targets}
    for name, values in choices.items():
        if values:
            fields[name] = {"type": "string", "enum": list(values)}
    required = [*(["image"] if rules.inputs == ("image",) else []), *(["domain"] if rules.domains else [])]
    schema: dict[str, Any] = {"type": "object", "properties": fields}
    if required:
        schema["required"] = required
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
