"""What the report says of a run's explanations: how far the methods are to be believed, and some pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from seewhy.figures.explanations.ranking import MethodRow, Ranking, ranked
from seewhy.figures.labels import NONE, method_label
from seewhy.figures.report import Block, Picture, ReportTable, Section, Text

__all__ = ["explanation_section"]


def explanation_section(
    *,
    rows: Iterable[Mapping[str, Any]] = (),
    failures: Mapping[str, Sequence[str]] | None = None,
    figures: Mapping[str, Figure | Path] | None = None,
    pictures: Mapping[str, Path] | None = None,
    limit: int = 12,
    note: str = "",
    phantom: bool = False,
    heading: str = "Explanations",
) -> Section:
    """Put together the section: failed checks first, then the scores with their floors, then pictures.

    Args:
        rows: scores as `seewhy.figures.explanations.ranking.ranking_figure` takes them.
        failures: method → what its maps failed, in words.
        figures: caption → ranking, summary, shares; all are shown.
        pictures: caption → picture of a sample; they are embedded, so only the first ones are shown.
        limit: most pictures of samples.
        note: what the numbers rest on; under the table.
        phantom: whether the data are synthetic; the table's caption says so.
        heading: of the section.

    Raises:
        ValueError: there is nothing to show.
        FileNotFoundError: when the report is written, for a picture that is not there.
    """
    blocks: list[Block] = [
        Text(f"{method_label(method)}: {'; '.join(reasons)}. Its maps are marked and are not to be read as findings.")
        for method, reasons in (failures or {}).items()
        if reasons
    ]
    ranking = ranked(rows)
    if ranking.entries:
        blocks.append(_table(ranking, failures or {}, note=note, phantom=phantom))
    blocks += [Picture(source, caption) for caption, source in (figures or {}).items()]
    chosen = list((pictures or {}).items())
    blocks += [Picture(path, caption) for caption, path in chosen[:limit]]
    rest = len(chosen) - limit
    if rest > 0:
        more = "1 more picture is" if rest == 1 else f"{rest} more pictures are"
        blocks.append(Text(f"{more} in the folder explanations of the run."))
    if not blocks:
        raise ValueError("no scores and no pictures of explanations to report")
    return Section(heading, blocks)


def _table(ranking: Ranking, failures: Mapping[str, Sequence[str]], *, note: str, phantom: bool) -> ReportTable:
    """Methods by scores, best methods first, and a last line with the floors that are the same for all."""
    cells = {(entry.method, entry.score): entry for entry in ranking.entries}
    lines = [
        [method_label(method) + (" (failed a check)" if failures.get(method) else "")]
        + [_cell(cells.get((method, score))) for score in ranking.scores]
        for method in ranking.methods
    ]
    quiet = [bool(failures.get(method)) for method in ranking.methods]
    floors = [{entry.floor for entry in ranking.of(score)} for score in ranking.scores]
    common = [NONE if None in own or len(own) != 1 else f"{own.pop():.3g}" for own in floors]
    if any(text != NONE for text in common):
        lines, quiet = [*lines, ["floor", *common]], [*quiet, True]
    star = "" if all(entry.clear for entry in ranking.entries) else "* not clearly better than its floor"
    if any(entry.untrained is not None for entry in ranking.entries):
        star = f"{star}; re: the same method, re-initialised networks, also a floor".removeprefix("; ")
    told = ["methods by mean rank", star, note, "PHANTOM data, not patients" if phantom else ""]
    arrows = ["↑" if all(entry.higher for entry in ranking.of(score)) else "↓" for score in ranking.scores]
    columns = ["", *(f"{score} {arrow}" for score, arrow in zip(ranking.scores, arrows, strict=True))]
    return ReportTable(columns=columns, rows=lines, caption="; ".join(part for part in told if part), quiet=quiet)


def _cell(entry: MethodRow | None) -> str:
    if entry is None:
        return NONE
    interval = "" if entry.low is None or entry.high is None else f" [{entry.low:.2g}, {entry.high:.2g}]"
    untrained = "" if entry.untrained is None else f"; re {entry.untrained:.2g}"
    return f"{entry.value:.3g}{interval}{untrained}" + ("" if entry.clear else " *")
