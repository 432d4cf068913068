"""Page of the evaluation of a translation, made from its folder alone: table of methods, figure and every subject."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from seewhy.figures.labels import NONE, parse_number
from seewhy.figures.report.blocks import Block, ReportTable, Section, Text
from seewhy.figures.report.page import write_report
from seewhy.figures.translation.evaluation import DIRECTIONS, METHODS
from seewhy.io.documents import read_csv, read_json
from seewhy.run.pages.cases import collect_cases, make_browser_section
from seewhy.run.pages.run_page import PHANTOM, read_picture

__all__ = ["write_evaluation_page"]

GROUPS: dict[str, dict[str, str]] = {
    "Means over patients against the same head on the other scanner; cycle: translated back, against the input; "
    "change: translated against the input, which does not measure quality.": {
        "ssim": "SSIM", "psnr": "PSNR dB", "mae": "mean error ↓", "cycle_ssim": "cycle SSIM",
        "change_ssim": "change SSIM",
    },
    "Distances to real scans of the target between equal numbers of patients, and balanced accuracy of site probes, "
    "which tell the scanners apart: 0.5 is chance, lower is better.": {
        "frechet_matched": "Fréchet ↓", "kid_matched": "KID ↓", "mmd_matched": "MMD ↓",
        "network_frozen": "network probe, frozen", "network_retrained": "network probe, retrained",
        "logistic_frozen": "logistic probe, frozen", "logistic_retrained": "logistic probe, retrained",
    },
    "Lesions: contrast to their surroundings before, after, and in the truth; relative change; Dice and volume of "
    "regions found by intensity.": {
        "lesion_patients": "patients", "lesion_contrast_source": "contrast before", "lesion_contrast": "after",
        "lesion_contrast_counterpart": "truth", "lesion_relative_change": "relative change", "lesion_dice": "Dice",
        "lesion_volume_ratio": "volume ratio", "lesion_volume_correlation": "volume correlation",
    },
}  # fmt: skip
"""Caption → column of `table.csv` → heading."""
TRUTH = "truth"
"""Status of the row of the same head on the other scanner."""


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
    blocks: list[Block] = []
    for caption, names in GROUPS.items():
        columns = [name for name in names if any(row.get(name) for row in table.rows)]
        rows = [row for row in table.rows if any(row.get(name) for name in columns)]
        if columns and rows:
            cells = [[_name_row(row), *(_format(name, row.get(name, "")) for name in columns)] for row in rows]
            quiet = [row.get("method") != "model" for row in rows]
            blocks.append(ReportTable(["", *(names[name] for name in columns)], cells, caption, quiet=quiet))
    missing = [
        f"{_name_method(row)}: {row['status']}" for row in table.rows if row.get("status", "").startswith("not ")
    ]
    if missing:
        blocks.append(Text(f"Not measured: {'; '.join(dict.fromkeys(missing))}."))
    return [*blocks, Text("table.csv has all numbers with their spread.")]


def _name_row(row: Mapping[str, str]) -> str:
    direction = row.get("direction", "")
    return f"{DIRECTIONS.get(direction, direction)}: {_name_method(row)}"


def _name_method(row: Mapping[str, str]) -> str:
    method = row.get("method", "")
    return "truth: the other scanner" if row.get("status") == TRUTH else METHODS.get(method, method)


def _format(column: str, cell: str) -> str:
    value = parse_number(cell)
    if value is None:
        return cell or NONE
    return f"{value:.0f}" if column.endswith("patients") else f"{value:.3f}"
