"""Command `seewhy agree RUN RUN…`: compare the explanations of separate trainings."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command and its options to `commands`, the result of `ArgumentParser.add_subparsers`."""
    parser = commands.add_parser(
        "agree", help="compare the maps of the same cases between trainings (seeds, backbones)"
    )
    parser.add_argument("runs", type=Path, nargs="+", help="run folders with explanations; at least two")
    parser.add_argument("--folder", type=Path, help="gets agreement.csv and agreement.html; default: the runs' parent")
    parser.set_defaults(run=_agree)


def _agree(options: argparse.Namespace) -> int:
    from rich.console import Console

    from seewhy.figures.report.blocks import ReportTable
    from seewhy.figures.report.page import write_report
    from seewhy.reporting.agreement import MEANING, agreement_section, compare_trainings, write_agreement

    results = compare_trainings(options.runs)
    folder: Path = options.folder or options.runs[0].resolve().parent
    section = agreement_section(results)
    console = Console()
    table = next(block for block in section.blocks if isinstance(block, ReportTable))
    for row in table.rows:
        console.print(
            "; ".join(f"{name}: {cell}" for name, cell in zip(table.columns, row, strict=True)), highlight=False
        )
    console.print(MEANING, highlight=False)
    facts = {"runs": ", ".join(str(run) for run in options.runs)}
    write_agreement(folder / "agreement.csv", results)
    write_report(
        folder / "agreement.html", title="Agreement between trainings", sections=[section], facts=facts, warnings=[]
    )
    for name in ("agreement.csv", "agreement.html"):
        console.print(f"  {folder / name}", highlight=False, soft_wrap=True)
    return 0
