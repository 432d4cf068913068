"""Page of the evaluation of a translation, made from its folder alone: table of methods, figure and every subject."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typing_extensions import NotRequired, TypedDict

from seewhy.figures.labels import NONE, parse_number
from seewhy.figures.report.blocks import Block, ReportTable, Section, Text
from seewhy.figures.report.page import write_report
from seewhy.io.documents import read_csv, read_json
from seewhy.run.pages.cases import collect_cases, make_browser_section
from seewhy.run.pages.run_page import PHANTOM, read_picture

__all__ = ["write_evaluation_page"]

GROUPS = {
    "Similarity to the truth": ("ssim", "psnr", "mae", "cycle_ssim", "change_ssim"),
    "Distance of the scanners": (),
    "Lesions": ("lesion_patients", "lesion_contrast_source", "lesion_contrast", "lesion_contrast_counterpart",
                "lesion_relative_change", "lesion_dice", "lesion_volume_ratio", "lesion_volume_correlation"),
}  # fmt: skip
"""Caption → columns of `table.csv`; the distances are all others that are numbers."""
HEAD = (
    "direction",
    "method",
    "status",
    "phantom",
    "features",
    "source_patients",
    "target_patients",
    "matched_patients",
)
DETAILS = ("_seed_sd", "_matched_sd", "_auc")
"""Endings of columns that only `table.csv` has."""


class EvaluationRecord(TypedDict):
    """The entries of `evaluation.json` that the page shows."""

    name: str
    phantom: bool
    run: NotRequired[str]
    checkpoint: NotRequired[dict[str, Any]]
    predict_on: NotRequired[str]
    written: NotRequired[str]


def write_evaluation_page(folder: Path) -> Path:
    """Write `<folder>/report.html` from the files of an evaluation.

    Raises:
        DataError: `evaluation.json` or `table.csv` is missing or damaged.
    """
    record: dict[str, Any] = read_json(folder / "evaluation.json", EvaluationRecord)
    sections = [Section("Results", _make_tables(folder / "table.csv"))]
    alt = "Similarity, distance and site probes of every method with floors; the numbers are in the tables."
    path = folder / "evaluation.png"
    picture = read_picture(path, alt=alt) if path.is_file() else None
    sections += [Section("Methods side by side", [picture])] if picture is not None else []
    sections += make_browser_section(collect_cases(folder))
    checkpoint = str(record.get("checkpoint", {}).get("sha256", ""))
    facts = {
        "run": record.get("run", ""), "checkpoint": checkpoint[:16], "subjects of": record.get("predict_on", ""),
        "written": record.get("written", ""),
    }  # fmt: skip
    return write_report(
        folder / "report.html",
        title=f"Evaluation of {record['name']}",
        lead="A translation between scanners against raw scans, simple methods, and a floor of real scans.",
        sections=sections,
        facts={name: value for name, value in facts.items() if value},
        warnings=[PHANTOM] * record["phantom"],
    )


def _make_tables(path: Path) -> list[Block]:
    """The numbers of `table.csv` in a few tables, without empty columns and rows."""
    table = read_csv(path)
    named = {name for names in GROUPS.values() for name in names}
    others = [c for c in table.columns if c not in named and c not in HEAD and not c.endswith(DETAILS)]
    blocks: list[Block] = []
    for caption, names in GROUPS.items():
        columns = [name for name in names or others if any(row.get(name) for row in table.rows)]
        rows = [row for row in table.rows if any(row.get(name) for name in columns)]
        if columns and rows:
            cells = [
                [f"{row['direction']}: {row['method']}", *(_format(row[name]) for name in columns)] for row in rows
            ]
            blocks.append(ReportTable(["", *(name.replace("_", " ") for name in columns)], cells, caption))
    missing = [f"{row['method']}: {row['status']}" for row in table.rows if row.get("status", "").startswith("not ")]
    if missing:
        blocks.append(Text(f"Not measured: {'; '.join(dict.fromkeys(missing))}."))
    return [*blocks, Text("table.csv has all numbers with their spread; docs/measures.md explains each.")]


def _format(cell: str) -> str:
    value = parse_number(cell)
    return cell or NONE if value is None else f"{value:.3f}"
