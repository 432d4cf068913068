"""Comparison of harmonisation methods on travelling heads: one table for the terminal and one figure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

from seewhy.figures.style import GREY, INK, PALETTE, add_captions, blank_figure, style_axes
from seewhy.figures.translation.case import NAMES as MODALITY_NAMES

__all__ = ["comparison_figure", "comparison_table", "print_comparison"]

REGIONS = {"fluid": "fluid", "gray": "grey m.", "white": "white m.", "lesion": "lesion"}
NAMES = {"identity": "unharmonised", "histogram": "histogram", "nyul": "Nyúl", "combat": "ComBat"}
REFERENCES = ("rescan", "real")
"""Methods of the ceilings."""
PROBES = {
    "logistic_frozen": "logistic\nfrozen", "logistic_retrained": "logistic\nretrained",
    "network_retrained": "network\nretrained",
}  # fmt: skip
WIDTH = 14
"""Characters of a method's name in a line of the table, which leaves room for the intervals in 80 columns."""
NONE = "-"
FILES = ("agreement.csv", "scanners.csv", "heads.csv", "comparison.json", "comparison.png")
LEGEND: dict[str, Any] = {
    "fontsize": 7, "frameon": False, "loc": "upper right", "bbox_to_anchor": (1, -0.08), "ncols": 2,
}  # fmt: skip
Rows = Sequence[Mapping[str, Any]]


def print_comparison(comparison: Mapping[str, Any], console: Console, *, folder: Path) -> None:
    """Print the table and the files written.

    Args:
        comparison: content of `comparison.json`.
        console: terminal.
        folder: folder of the files.
    """
    console.print(comparison_table(comparison))
    console.print(f"[bold]{folder}[/]", soft_wrap=True)
    for name in FILES:
        console.print(f"  {name}", highlight=False)


def comparison_table(comparison: Mapping[str, Any]) -> Table:
    """Table of agreement per tissue and lesion, KID and site probes, a row per method in each section.

    Args:
        comparison: content of `comparison.json`.
    """
    table = Table(box=box.SIMPLE_HEAD, caption_justify="left", pad_edge=False)
    table.add_column("", max_width=WIDTH, overflow="fold")
    for name in REGIONS.values():
        table.add_column(name, justify="right", no_wrap=True)
    modality = comparison["modality"]
    for kind, chosen, text in (("volume", "", "volume"), ("intensity", modality, MODALITY_NAMES[modality])):
        rows = [row for row in comparison["agreement"] if (row["kind"], row["modality"]) == (kind, chosen)]
        for coefficient in ("icc", "ccc"):
            table.add_row(f"[bold]{text} {coefficient.upper()}[/]")
            for method in _list_methods(rows, comparison):
                cells = [_format_agreement(_find(rows, method, region), coefficient) for region in REGIONS]
                table.add_row(_name(method, comparison), *cells, style=_style(method))
            table.add_section()
    means = [row for row in comparison["scanners"] if row["scanner"] == "mean"]
    table.add_row("[bold]the scanner[/]", *(f"[bold]{text}[/]" for text in (*PROBES.values(), "\nKID ↓")))
    for row in means:
        cells = [_format_interval(row, name, digits=2) for name in PROBES]
        cells.append(_format_interval(row, "kid", digits=1))
        table.add_row(_name(row["method"], comparison), *cells, style=_style(row["method"]))
    table.caption = "\n".join(_captions(comparison))
    return table


def _captions(comparison: Mapping[str, Any]) -> list[str]:
    reference, heads = comparison["reference"], len(comparison["heads"])
    scanners = ", ".join(comparison["compared"])
    head = f"{heads} heads, {comparison['predict_on']}; {scanners} harmonised to {reference}"
    lines = [
        f"[bold yellow]PHANTOM[/]: synthetic heads · {head}" if comparison["phantom"] else head,
        "Value and 95 % interval over heads. ICC(2,1): absolute agreement of all scanners; CCC (Lin): mean over the "
        f"scanners, with {reference}. + or - after a value: better or worse than unharmonised, the paired interval "
        f"excludes 0. {reference} twice: two scans on {reference}, the ceiling.",
        "Volumes: T1 between fixed cuts, and the largest region above a fixed FLAIR, both set on training heads of "
        f"{reference}. Means: over the tissues that {reference} shows, and over the annotated lesion.",
        "Site probes: balanced accuracy of telling harmonised scans from the reference's; chance .50; retrained "
        f"counts. KID in features of {comparison['features']['name']}. {reference}, others: halves of the heads on "
        f"{reference}, the floor of both; its KID range covers 95 % of random halves.",
    ]
    lines += [f"{NAMES.get(name, name)}: {status}" for name, status in comparison["methods"].items() if status != "ok"]
    if comparison["probes"]["not_estimated"]:
        lines.append(comparison["probes"]["not_estimated"])
    return [line.replace("[harm", "\\[harm") for line in lines]


def comparison_figure(comparison: Mapping[str, Any]) -> Figure:
    """Draw ICC per tissue and lesion, of volumes and of mean intensities, and the site probes and KID.

    Args:
        comparison: content of `comparison.json`.
    """
    volumes = [row for row in comparison["agreement"] if row["kind"] == "volume"]
    means = [row for row in comparison["agreement"] if row["modality"] == comparison["modality"]]
    names = [*_list_methods(volumes, comparison)]
    figure = blank_figure(15, 2.6 + 0.36 * 2 * (len(names) + 1))
    grid = figure.subplots(2, 6, squeeze=False, width_ratios=(1, 1, 1, 1, 1.1, 1.1))
    texts = ("volume", f"mean {MODALITY_NAMES[comparison['modality']]}")
    for line, rows, text in zip(grid, (volumes, means), texts, strict=True):
        for axes, (region, title) in zip(line, REGIONS.items(), strict=False):
            _frame(axes, [_name(name, comparison) for name in names], f"ICC, {text}\n{title}", first=region == "fluid")
            for place, name in enumerate(names):
                _point(axes, place, _find(rows, name, region), "icc", _colour(name))
            axes.set_xlim(-0.55, 1.05)
            axes.axvline(0, color=GREY, linewidth=0.8, linestyle=":", zorder=1)
    scanners = [row for row in comparison["scanners"] if row["scanner"] == "mean"]
    names = [row["method"] for row in scanners]
    for axes, probe, colour in zip(grid[:, 4], ("logistic", "network"), PALETTE, strict=False):
        _frame(axes, [_name(name, comparison) for name in names], f"{probe} site probe", first=True)
        _probes(axes, scanners, probe, colour)
    _frame(grid[0, 5], [_name(name, comparison) for name in names], "KID to the reference", first=True)
    for place, row in enumerate(scanners):
        _point(grid[0, 5], place, row, "kid", _colour(row["method"]))
    _differences(grid[1, 5], volumes, comparison)
    head = f"{comparison['name']}: {', '.join(comparison['compared'])} harmonised to {comparison['reference']}"
    if comparison["phantom"]:
        head = f"PHANTOM · {head} · synthetic heads; the results do not apply to real ones"
    foot = (
        f"{len(comparison['heads'])} heads seen by all scanners; bars: 95 % intervals over heads · ICC(2,1), absolute "
        f"agreement of all scanners · {comparison['reference']} twice: ceiling · {comparison['reference']}, others: "
        "halves of the heads on it, floor of probes (chance 0.5) and KID"
    )
    return add_captions(figure, head=head, foot=foot)


def _probes(axes: Axes, rows: Rows, probe: str, colour: str) -> None:
    """Draw the balanced accuracy of a probe, frozen and retrained."""
    for kind, offset in (("frozen", -0.16), ("retrained", 0.16)):
        filled = kind == "retrained"
        for place, row in enumerate(rows):
            _point(axes, place + offset, row, f"{probe}_{kind}", colour, filled=filled)
        face = colour if filled else "white"
        axes.plot([], [], "o", markersize=5, markeredgecolor=colour, markerfacecolor=face, label=kind)
    axes.set_xlim(-0.03, 1.03)
    axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle=":", zorder=1)
    axes.legend(**LEGEND)


def _differences(axes: Axes, volumes: Rows, comparison: Mapping[str, Any]) -> None:
    """Draw the mean absolute difference of volumes from the reference, in percent of its volumes."""
    names = _list_methods(volumes, comparison)
    _frame(axes, [_name(name, comparison) for name in names], "|volume - reference's|, %", first=True)
    for number, (region, title) in enumerate(REGIONS.items()):
        rows = [_find(volumes, name, region) for name in names]
        points = [(place, row["relative_difference"]) for place, row in enumerate(rows) if row is not None]
        known = [(100 * value, place) for place, value in points if value is not None]
        if known:
            shares, places = zip(*known, strict=True)
            axes.plot(shares, places, "o", markersize=5, color=PALETTE[number], label=title)
    axes.set_xlim(left=0)
    axes.legend(**LEGEND)


def _frame(axes: Axes, names: Sequence[str], title: str, *, first: bool) -> None:
    style_axes(axes).set_title(title, fontsize=9, color=INK, loc="left")
    axes.set_yticks(range(len(names)), [textwrap.fill(name, 22) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(labelleft=first)


def _point(
    axes: Axes, place: float, row: Mapping[str, Any] | None, name: str, colour: str, *, filled: bool = True
) -> None:
    """Draw a value with its interval."""
    if row is None or row[name] is None:
        return
    if row[f"{name}_low"] is not None:
        ends = [row[f"{name}_low"], row[f"{name}_high"]]
        axes.plot(ends, [place, place], color=colour, linewidth=1.8, alpha=0.55, zorder=2)
    face = colour if filled else "white"
    axes.plot(row[name], place, "o", markersize=5, markerfacecolor=face, markeredgecolor=colour, zorder=3)


def _list_methods(rows: Rows, comparison: Mapping[str, Any]) -> list[str]:
    """List the methods with a row, the ceiling last."""
    there = {row["method"] for row in rows}
    return [name for name in (*comparison["methods"], "rescan") if name in there]


def _find(rows: Rows, method: str, region: str) -> Mapping[str, Any] | None:
    return next((row for row in rows if (row["method"], row["region"]) == (method, region)), None)


def _name(method: str, comparison: Mapping[str, Any]) -> str:
    reference = comparison["reference"]
    own = {"rescan": f"{reference} twice", "real": f"{reference}, others"}
    return own.get(method, NAMES.get(method, method))


def _style(method: str) -> str | None:
    return "dim" if method in ("identity", *REFERENCES) else None


def _colour(method: str) -> str:
    """Colour of a method: models stand out from simple methods and references."""
    if method == "identity":
        return INK
    return GREY if method in NAMES or method in REFERENCES else PALETTE[0]


def _format_agreement(row: Mapping[str, Any] | None, name: str) -> str:
    """Format a coefficient, its comparison with the untranslated scans, and its interval."""
    if row is None:
        return NONE
    mark = {True: "+", False: "-"}.get(row[f"{name}_better"], "")
    return _format_interval(row, name, digits=2, mark=mark)


def _format_interval(row: Mapping[str, Any], name: str, *, digits: int, mark: str = "") -> str:
    if row[name] is None:
        return NONE
    value = f"{_short(row[name], digits)}{mark}"
    if row[f"{name}_low"] is None:
        return value
    return f"{value} {_short(row[f'{name}_low'], digits)}…{_short(row[f'{name}_high'], digits)}"


def _short(value: float, digits: int) -> str:
    """Format a number without the zero before its point, and without decimals from 10 on or if it is ±1."""
    text = f"{value:.{digits}f}"
    if abs(value) >= 10 or text.lstrip("-") == "1.00":
        return f"{value:.0f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text
