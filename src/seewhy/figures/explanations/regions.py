"""Table of regions that keep the prediction: size, promise and what was found, beside those of the controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from seewhy.figures.labels import NONE, method_label
from seewhy.figures.report.blocks import ReportTable

__all__ = ["region_block", "region_table"]

HEADINGS = ("", "calibrated region ↓", "mean size ↓", "promised", "patients kept", "95 %")


def region_block(rows: Sequence[Mapping[str, Any]], *, phantom: bool) -> ReportTable:
    """Table of the report.

    Args:
        rows: at least one, see `seewhy.reporting.regions.region_rows`.
        phantom: whether the data are synthetic, which the caption then states.
    """
    cells = [[method_label(str(row["method"])), *_format_cells(row)] for row in rows]
    return ReportTable(
        list(HEADINGS), cells, _describe(rows, phantom=phantom), quiet=[_is_control(row) for row in rows]
    )


def region_table(rows: Sequence[Mapping[str, Any]], *, phantom: bool) -> Table:
    """Table of the terminal; see `region_block`."""
    table = Table(
        caption=_describe(rows, phantom=phantom),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=0,
    )
    table.add_column("", overflow="fold")
    for heading in HEADINGS[1:]:
        table.add_column(heading.removeprefix("calibrated "), justify="right")
    for row in rows:
        table.add_row(method_label(str(row["method"])), *_format_cells(row), style="dim" if _is_control(row) else None)
    return table


def _is_control(row: Mapping[str, Any]) -> bool:
    return str(row["method"]).startswith("control_")


def _format_cells(row: Mapping[str, Any]) -> list[str]:
    bounds = NONE if row["low"] is None else f"{row['low']:.0%} to {row['high']:.0%}"
    kept = f"{row['coverage']:.0%} of {row['patients']}"
    return [f"{row['share']:.0%}", f"{row['size']:.1%}", f"{row['promised']:.0%}", kept, bounds]


def _describe(rows: Sequence[Mapping[str, Any]], *, phantom: bool) -> str:
    first = rows[0]
    text = (
        f"Region: the pixels with the most evidence which, with all others blurred, keep the prediction of a new "
        f"patient with a probability of at least {first['promised']:.0%}, calibrated on "
        f"{first['calibration_patients']} validation patients; kept: found on the explained patients, all samples of "
        f"each; of {first['empty']:.0%} the prediction stays with everything blurred, so any region keeps it. A method "
        f"shows something if its region is smaller than those of the controls."
    )
    return text + " PHANTOM data, not patients." * phantom
