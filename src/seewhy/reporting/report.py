"""Results of a session of explanations: verdicts, pictures, tables, a page, terminal output and trackers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from lightning.pytorch import Trainer
from rich.console import Console

from seewhy.io.atomic import replace_non_finite
from seewhy.metrics.gather import gather_rows
from seewhy.progress import track_slowly
from seewhy.reporting.page import write_explanation_page
from seewhy.reporting.pictures import draw_method
from seewhy.reporting.ranking import write_class_table, write_ranking
from seewhy.reporting.regions import write_region_table
from seewhy.reporting.session import Session
from seewhy.reporting.store import Place
from seewhy.reporting.tables import (
    format_method,
    judged_row,
    write_manifest,
    write_statistics,
    write_summaries,
)
from seewhy.reporting.verdicts import complete_verdict, read_records, store_verdict

__all__ = [
    "describe_time",
    "print_explanations",
    "write_local_results",
    "write_session_results",
    "write_tables",
]

Record = dict[str, Any]
FILES = (
    "report.html",
    "ranking.png",
    "ranking.csv",
    "ranking_by_class.csv",
    "regions.csv",
    "scores.csv",
    "attribution_statistics.csv",
    "explanations.json",
)


def write_session_results(trainer: Trainer, session: Session) -> dict[str, Any]:
    """Write everything that is made from all samples together; every process must call this.

    Returns:
        On the first process: `samples`, `refused`, `folder`, `records`, `ranking`, `failures`, `verdicts` and
        `figures`; empty on the others.
    """
    rows = gather_rows([{"id": name} for name in dict.fromkeys(session.samples)], key=("id",))
    refused = gather_rows([{"line": line} for line in session.refused], key=("line",))
    places = _gather_places(session)
    trainer.strategy.barrier()  # every process has written its samples
    results: dict[str, Any] = {}
    if trainer.is_global_zero and rows:
        results = _write_results(session, places, [row["id"] for row in rows], [row["line"] for row in refused])
    trainer.strategy.barrier()
    return results


def write_local_results(session: Session) -> dict[str, Any]:
    """Write everything that is made from all samples together, in one process without a Trainer.

    Returns:
        As `write_session_results` on the first process.
    """
    samples = list(dict.fromkeys(session.samples))
    return _write_results(session, session.places, samples, session.refused) if samples else {}


def _gather_places(session: Session) -> list[Place]:
    """Methods and targets of all processes; a process without samples does not know them."""
    rows = gather_rows([{"method": p.method, "target": p.target} for p in session.places], key=("method", "target"))
    order = {place: number for number, place in enumerate(session.places)}
    methods = list(session.explainers)
    places = [Place(row["method"], row["target"]) for row in rows]
    return sorted(places, key=lambda place: (methods.index(place.method), order.get(place, 0)))


def _write_results(
    session: Session, places: Sequence[Place], samples: Sequence[str], refused: list[str]
) -> dict[str, Any]:
    key_slices, phantom = session.settings.key_slices, bool(session.facts["phantom"])
    records = []
    with session.timed("pictures"):
        for place in track_slowly(places, "drawing explanations"):
            finished = read_records(session, place, samples)
            if finished:
                store_verdict(session, place)
                finished = complete_verdict(session, place, finished)
                drawn = draw_method(
                    session.store, place, finished, key_slices=key_slices, limit=session.settings.pictures,
                    phantom=phantom,
                )  # fmt: skip
                records += [{**record, "pictures": drawn.get(record["id"], [])} for record in finished]
    return write_tables(session, places, samples, refused, records)


def write_tables(
    session: Session, places: Sequence[Place], samples: Sequence[str], refused: list[str], records: Sequence[Record]
) -> dict[str, Any]:
    """Write tables, ranking, manifest and page of all samples together.

    Args:
        session: of the explanations.
        places: methods and targets.
        samples: ids of all samples.
        refused: lines about maps that a method refused.
        records: of all maps, with their warnings and pictures.

    Returns:
        As `write_session_results`.
    """
    store, folder, phantom = session.store, session.store.folder, bool(session.facts["phantom"])
    title, key_slices = session.title, session.settings.key_slices
    if not records:
        return {"folder": folder, "samples": 0, "refused": refused, "records": []}
    write_statistics(folder / "attribution_statistics.csv", records)
    floors = [row for sample in samples for row in store.floors(sample)]
    ranking = write_ranking(folder, records, floors, title=title, phantom=phantom)
    scores = [*map(judged_row, records), *floors]
    regions = write_region_table(folder / "regions.csv", scores, alpha=session.settings.region_alpha)
    by_class = write_class_table(folder / "ranking_by_class.csv", records)
    figures = write_summaries(folder, records, key_slices=key_slices, title=title, phantom=phantom)
    verdicts = {place.title: store.verdict(place, session.keys[place.method]) for place in places}
    facts = {**session.facts, "seed": session.settings.seed, "options": session.options}
    facts |= {"verdicts": verdicts, "refused": refused, "doubtful_scores": _note_doubts(session, verdicts)}
    facts |= {"ranking": replace_non_finite(ranking), "by_class": replace_non_finite(by_class), "regions": regions}
    facts["figures"] = {caption: path.relative_to(folder).as_posix() for caption, path in figures.items()}
    write_manifest(folder / "explanations.json", records, facts)
    results = {
        "folder": folder,
        "samples": len(samples),
        "refused": refused,
        "records": records,
        "ranking": ranking,
        "by_class": by_class,
        "regions": regions,
        "doubtful_scores": facts["doubtful_scores"],
        "failures": {title: verdict["doubts"] if verdict else [] for title, verdict in verdicts.items()},
        "verdicts": verdicts,
        "figures": figures,
        "seconds": dict(session.seconds),
    }
    write_explanation_page(folder)
    return results


def _note_doubts(session: Session, verdicts: Mapping[str, Mapping[str, Any] | None]) -> list[str]:
    """Lines on scores that are doubtful or could not be computed, now or by the session that made the maps."""
    earlier = [verdict["tuning_note"] for verdict in verdicts.values() if verdict and verdict.get("tuning_note")]
    note = session.judges.tuning_note or next(iter(earlier), "")
    return [note] if note else []


# -- the terminal ---------------------------------------------------------------------------------------------


def print_explanations(results: Mapping[str, Any], console: Console) -> None:
    """Print tables with floors, shares of inputs and paths.

    Args:
        results: of `write_session_results` on the first process.
        console: the terminal.
    """
    from seewhy.figures.explanations.regions import region_table
    from seewhy.figures.explanations.tables import explanation_tables, share_table
    from seewhy.figures.labels import describe_intervals

    folder: Path = results["folder"]
    records = results["records"]
    if records:
        phantom = bool(records[0]["phantom"])
        patients = len({record["patient"] for record in records})
        note = f"{results['samples']} samples of {patients} patients; {describe_intervals(patients)}"
        for table in explanation_tables(
            results["ranking"], checks=_collect_checks(results), note=note, phantom=phantom
        ):
            console.print(table)
            console.print()
        if regions := results.get("regions"):
            console.print(region_table(regions, phantom=phantom))
            console.print()
        if len(records[0]["shares"]) > 1:
            console.print(share_table(_mean_shares(records), _mean_effects(records), phantom=phantom))
            console.print()
    for method, reasons in results.get("failures", {}).items():
        for reason in reasons:
            console.print(f"[bold red]{method}[/]: {reason}", highlight=False)
    for line in results.get("doubtful_scores", ()):
        console.print(f"note: {line}", highlight=False, markup=False)
    for line in results["refused"]:
        console.print(f"no map: {line}", highlight=False, markup=False)
    console.print(f"explanations of {results['samples']} samples: [bold]{folder}[/]", highlight=False, soft_wrap=True)
    if line := describe_time(results.get("seconds", {})):
        console.print(line, highlight=False, soft_wrap=True)
    written = [name for name in FILES if (folder / name).is_file()]
    if written:
        console.print(f"  {', '.join(written)}", highlight=False, soft_wrap=True)


def describe_time(seconds: Mapping[str, float]) -> str:
    """Describe where the time of explaining went; empty if nothing was computed.

    Args:
        seconds: part → wall time; `maps` and `judging` are compared with each other.

    Example:
        >>> describe_time({"maps": 3.0, "judging": 1.0, "files": 0.5})
        'time: maps 3.0 s, judging 1.0 s (25 % of both; explain.judge=cheap or none takes less), files 0.5 s'
    """
    both = seconds.get("maps", 0.0) + seconds.get("judging", 0.0)
    if not both:
        return ""
    share = f" ({100 * seconds['judging'] / both:.0f} % of both; explain.judge=cheap or none takes less)"
    parts = [f"{name} {value:.1f} s{share if name == 'judging' else ''}" for name, value in seconds.items()]
    return "time: " + ", ".join(parts)


def _collect_checks(results: Mapping[str, Any]) -> dict[str, Any]:
    """Method → verdict of its randomisation test, and its median completeness error."""
    from seewhy.figures.explanations.tables import Checks

    errors: dict[str, list[float]] = {}
    for record in results["records"]:
        if record["completeness"] is not None:
            errors.setdefault(format_method(record), []).append(record["completeness"])
    names = dict.fromkeys(map(format_method, results["records"]))
    return {
        name: Checks(
            passes=(results["verdicts"].get(name) or {}).get("passes"),
            contrast=((results["verdicts"].get(name) or {}).get("contrast") or {}).get("passes"),
            completeness=median(errors[name]) if name in errors else None,
        )
        for name in names
    }


def _mean_shares(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """Method → input → mean share over samples."""
    values: dict[str, dict[str, list[float]]] = {}
    for record in records:
        for name, share in record["shares"].items():
            values.setdefault(format_method(record), {}).setdefault(name, []).append(share)
    return {method: {name: mean(own) for name, own in shares.items()} for method, shares in values.items()}


def _mean_effects(records: Sequence[Record]) -> dict[str, float]:
    """Input → mean fall of the target's probability without it, which is the same for all methods of a target."""
    values: dict[str, list[float]] = {}
    first = format_method(records[0])
    for record in records:
        for name in record["shares"]:
            effect = record["judged"].get(f"effect_{name}")
            if effect is not None and format_method(record) == first:
                values.setdefault(name, []).append(effect)
    return {name: mean(own) for name, own in values.items()}
