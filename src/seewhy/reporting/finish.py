"""The end of a session: verdicts, pictures, tables and the list of files, made once for all processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Trainer

from seewhy.explain.maps import LIMIT
from seewhy.metrics.gather import gather_rows
from seewhy.progress import track_slowly
from seewhy.reporting.pictures import draw_method
from seewhy.reporting.ranking import write_ranking
from seewhy.reporting.report import explanation_page
from seewhy.reporting.session import Session
from seewhy.reporting.store import Place
from seewhy.reporting.tables import write_manifest, write_statistics, write_summaries

__all__ = ["finish"]

Record = dict[str, Any]


def finish(trainer: Trainer, session: Session) -> dict[str, Any]:
    """Write what is made of all samples together; every process must call this.

    Returns:
        On the first process: `samples`, `refused`, `folder`, `records`, `ranking`, `failures`, `verdicts` and
        `figures`; empty on the others.
    """
    rows = gather_rows([{"id": one} for one in dict.fromkeys(session.samples)], key=("id",))
    refused = gather_rows([{"line": line} for line in session.refused], key=("line",))
    places = _places(session)
    trainer.strategy.barrier()  # every process has written its samples
    found: dict[str, Any] = {}
    if trainer.is_global_zero and rows:
        found = _write(session, places, [row["id"] for row in rows], [row["line"] for row in refused])
    trainer.strategy.barrier()
    return found


def _places(session: Session) -> list[Place]:
    """Methods and targets of all processes; one that had no sample does not know them."""
    own = [{"method": one.method, "target": one.target} for one in session.places]
    known = [Place(row["method"], row["target"]) for row in gather_rows(own, key=("method", "target"))]
    order = {place: number for number, place in enumerate(session.places)}
    methods = list(session.explainers)
    return sorted(known, key=lambda place: (methods.index(place.method), order.get(place, 0)))


def _write(session: Session, places: Sequence[Place], samples: Sequence[str], refused: list[str]) -> dict[str, Any]:
    store, folder, phantom = session.store, session.store.folder, bool(session.facts["phantom"])
    title = session.module.__class__.__name__
    failures, records = {}, []
    for place in track_slowly(places, "drawing explanations"):
        own = [record for record in (store.record(place, sample) for sample in samples) if record is not None]
        if own:
            failed, failures[place.title] = _against(session, place)
            own = [_warned(record, place, failed) for record in own]
            drawn = draw_method(store, place, own, key_slices=session.settings.key_slices, phantom=phantom)
            records += [{**record, "pictures": drawn[record["id"]]} for record in own]
    if not records:
        return {"folder": folder, "samples": 0, "refused": refused, "records": []}
    write_statistics(folder / "attribution_statistics.csv", records)
    floors = [row for sample in samples for row in store.floors(sample)]
    ranking = write_ranking(folder, records, floors, title=title, phantom=phantom)
    keys = session.settings.key_slices
    figures = write_summaries(folder, records, key_slices=keys, title=title, phantom=phantom)
    verdicts = {place.title: store.verdict(place, session.keys[place.method]) for place in places}
    facts = {**session.facts, "seed": session.settings.seed, "options": session.options}
    write_manifest(folder / "explanations.json", records, {**facts, "verdicts": verdicts, "refused": refused})
    found = {
        "folder": folder,
        "samples": len(samples),
        "refused": refused,
        "records": records,
        "ranking": ranking,
        "failures": failures,
        "verdicts": verdicts,
        "figures": figures,
    }
    explanation_page(found)
    return found


def _against(session: Session, place: Place) -> tuple[list[str], list[str]]:
    """What all samples together say against a method: failures, which mark every picture, and all doubts.

    Both are kept for a session that has nothing left to compute.
    """
    key = session.keys[place.method]
    verdict = session.judges.verdict(place)
    if verdict is not None and verdict.samples:
        found: dict[str, Any] = {
            "passes": verdict.passes,
            "failures": list(verdict.failures),
            "doubts": list(verdict.doubts),
            "samples": verdict.samples,
            "incomplete": verdict.incomplete,
            "seconds": {name: round(value, 3) for name, value in verdict.seconds.items()},
        }
        if verdict.randomization is not None:
            excess, low, high = verdict.randomization.excess
            found["randomization"] = {"excess": _number(excess), "low": _number(low), "high": _number(high)}
        session.store.write_verdict(place, key, found)
    stored = session.store.verdict(place, key)
    return ([], []) if stored is None else (stored["failures"], stored["doubts"])


def _warned(record: Record, place: Place, failed: Sequence[str]) -> Record:
    """A record with what speaks against its map."""
    warnings = [*failed]
    if record["completeness"] is not None and record["completeness"] > LIMIT:
        warnings.append(f"completeness error {record['completeness']:.0%}")
    return {**record, "warnings": warnings, "folder": place.target}


def _number(value: float) -> float | None:
    return float(value) if value == value else None
