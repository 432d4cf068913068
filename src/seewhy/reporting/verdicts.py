"""Verdicts on methods over all samples of a session, and the warnings that they give to records of maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.explain.judging.scorecard import Verdict
from seewhy.explain.maps import LIMIT
from seewhy.reporting.session import Session
from seewhy.reporting.store import Place

__all__ = ["complete_verdict", "mark_records", "read_records", "store_verdict"]

Record = dict[str, Any]


def read_records(session: Session, place: Place, samples: Sequence[str]) -> list[Record]:
    """Records of the maps of one method and target; samples without one were refused."""
    records = (session.store.record(place, sample) for sample in samples)
    return [record for record in records if record is not None]


def store_verdict(session: Session, place: Place) -> None:
    """Store the verdict of this session on a method, for a later session that has nothing left to compute.

    A stored verdict on more samples stays: a session that makes a few lost maps again tests only these.
    """
    verdict, key = session.judges.verdict(place), session.keys[place.method]
    stored = session.store.verdict(place, key)
    fewest = 1 if stored is None else stored.get("samples", 1)
    if verdict is None or verdict.samples < fewest:
        return
    facts: dict[str, Any] = {
        "passes": verdict.passes,
        "failures": list(verdict.failures),
        "doubts": list(verdict.doubts),
        "samples": verdict.samples,
        "incomplete": verdict.incomplete,
        "tuning_note": session.judges.tuning_note,
        "seconds": {name: round(value, 3) for name, value in verdict.seconds.items()},
    }
    if verdict.randomization is not None:
        names = ("excess", "low", "high")
        numbers = zip(names, verdict.randomization.excess, strict=True)
        facts["randomization"] = {name: float(value) if value == value else None for name, value in numbers}
    if verdict.contrast is not None:
        facts["contrast"] = {
            "passes": verdict.contrast.passes,
            "runner_up": _finite_mean(verdict.contrast.runner_up),
            "least": _finite_mean(verdict.contrast.least),
            "redraws": _finite_mean(verdict.contrast.redraws),
        }
    session.store.write_verdict(place, key, facts)


def _finite_mean(values: NDArray[np.float64]) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else None


def complete_verdict(session: Session, place: Place, records: Sequence[Record]) -> list[Record]:
    """Count the samples of all processes and earlier sessions in a verdict, and mark the records with its warnings.

    The randomisation test is of the first samples.

    Returns:
        The records with the failures of the method and the errors of their own maps as `warnings`.
    """
    key = session.keys[place.method]
    stored = session.store.verdict(place, key)
    if stored is None:
        return mark_records(session, place, records)
    incomplete = [row["incomplete"] for row in (record["judged"] for record in records) if "incomplete" in row]
    known = [bool(value) for value in incomplete if value is not None]
    share = sum(known) / len(known) if known else None
    verdict = Verdict(
        method=place.method,
        samples=len(records),
        passes=stored.get("passes"),
        failures=tuple(stored["failures"]),
        randomization=None,
        incomplete=share,
    )
    counted = {"samples": len(records), "incomplete": share, "doubts": list(verdict.doubts)}
    session.store.write_verdict(place, key, {**stored, **counted})
    return mark_records(session, place, records)


def mark_records(session: Session, place: Place, records: Sequence[Record]) -> list[Record]:
    """Records with the failures of their method and the error of their own map as `warnings`."""
    stored = session.store.verdict(place, session.keys[place.method])
    failed = [] if stored is None else stored["failures"]
    return [_add_warnings(record, place, failed) for record in records]


def _add_warnings(record: Record, place: Place, failed: Sequence[str]) -> Record:
    """A record with the warnings about its map."""
    warnings = [*failed]
    if record["completeness"] is not None and record["completeness"] > LIMIT:
        warnings.append(f"completeness error {record['completeness']:.0%}")
    return {**record, "warnings": warnings, "folder": place.target}
