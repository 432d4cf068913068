"""Answers of the API as types, for its description in `openapi.json`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from seewhy.run.serving.uploads import NO_METHOD, CaseRules

__all__ = ["Problem", "ServedAnswer", "describe_request"]


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
