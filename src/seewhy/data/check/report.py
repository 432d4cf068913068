"""What a check found, for people and for machines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

__all__ = ["Finding", "Report", "error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One problem.

    Attributes:
        severity: `error` where a run would fail or its figures be wrong, else `warning`.
        kind: short name shared by problems of one sort, e.g. `duplicate`.
        file: the file (or patient, or part of the split) it is about.
        message: what was found, and what was expected.
        remedy: what to do.
    """

    severity: Literal["error", "warning"]
    kind: str
    file: str
    message: str
    remedy: str


@dataclass
class Report:
    """All findings about one data set.

    Attributes:
        root: the data set's folder.
        findings: in the order they were met, errors and warnings mixed.
        counts: files, patients, slices per label, slices with a mask, and the same per part of a split.
    """

    root: Path
    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)

    def add(self, findings: Iterable[Finding]) -> None:
        """Append findings."""
        self.findings.extend(findings)

    @property
    def errors(self) -> list[Finding]:
        """Findings that forbid a run."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """Findings to know about."""
        return [finding for finding in self.findings if finding.severity == "warning"]

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not self.errors

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "root": str(self.root),
            "ok": self.ok,
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "counts": self.counts,
            "findings": [asdict(finding) for finding in self.findings],
        }


def error(kind: str, file: object, message: str, remedy: str) -> Finding:
    """A finding that forbids a run."""
    return Finding("error", kind, str(file), message, remedy)


def warning(kind: str, file: object, message: str, remedy: str) -> Finding:
    """A finding to know about."""
    return Finding("warning", kind, str(file), message, remedy)
