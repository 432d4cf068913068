"""Findings of a check, and the report that collects them."""

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
        severity: `error` if a run would fail or its results would be wrong, else `warning`.
        kind: short name of a group of problems, e.g. `duplicate`.
        file: the file, patient or part of the split concerned.
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
        findings: in the order of the checks, errors and warnings mixed.
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
        """Findings that prevent a run."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """Findings that do not prevent a run."""
        return [finding for finding in self.findings if finding.severity == "warning"]

    @property
    def ok(self) -> bool:
        """Whether the report is free of errors."""
        return not self.errors

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data for JSON."""
        return {
            "root": str(self.root),
            "ok": self.ok,
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "counts": self.counts,
            "findings": [asdict(finding) for finding in self.findings],
        }


def error(kind: str, file: object, message: str, remedy: str) -> Finding:
    """Make a finding that prevents a run."""
    return Finding("error", kind, str(file), message, remedy)


def warning(kind: str, file: object, message: str, remedy: str) -> Finding:
    """Make a finding that does not prevent a run."""
    return Finding("warning", kind, str(file), message, remedy)
