"""Commands `seewhy report`, `pool`, `compare` and `agree`: pages of finished runs, and comparisons between them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the commands and their options to `commands`, the result of `ArgumentParser.add_subparsers`."""
    report = commands.add_parser(
        "report", help="write the pages of run folders again from their files, without training"
    )
    report.add_argument("runs", type=Path, nargs="+", help="run folders, or their folders of predictions, explanations")
    report.set_defaults(run=_report)

    pool = commands.add_parser("pool", help="score the out-of-fold predictions of a multirun over data.fold together")
    pool.add_argument("folder", type=Path, help="of the sweep; gets pooled.json and pooled.csv")
    pool.add_argument("--resamples", type=int, default=2000, help="of the bootstrap over patients (2000)")
    pool.set_defaults(run=_pool)

    compare = commands.add_parser("compare", help="compare the scores of runs, patient by patient, with the first one")
    compare.add_argument("runs", type=Path, nargs="+", help="run folders, the reference first; at least two")
    compare.add_argument(
        "--folder", type=Path, default=Path(), help="gets compare.html, compare.csv, changes.csv; default: this folder"
    )
    compare.set_defaults(run=_compare)

    agree = commands.add_parser("agree", help="compare the maps of the same cases between trainings (seeds, backbones)")
    agree.add_argument("runs", type=Path, nargs="+", help="run folders with explanations; at least two")
    agree.add_argument("--folder", type=Path, help="gets agreement.csv and agreement.html; default: the runs' parent")
    agree.set_defaults(run=_agree)


def _report(options: argparse.Namespace) -> int:
    from rich.console import Console

    from seewhy.run.pages.folder_pages import rebuild_pages

    console = Console()
    for run in options.runs:
        for page in rebuild_pages(run):
            console.print(str(page), highlight=False, markup=False, soft_wrap=True)
    return 0


def _pool(options: argparse.Namespace) -> int:
    from seewhy.run.sweeps.pooling import pool_folds, print_pooled

    print_pooled(pool_folds(options.folder, resamples=options.resamples), options.folder)
    return 0


def _compare(options: argparse.Namespace) -> int:
    from rich.console import Console

    from seewhy.run.pages.compare import compare_runs
    from seewhy.run.pages.compare_page import print_comparison, write_comparison

    runs, comparisons = compare_runs(options.runs)
    console = Console()
    print_comparison(comparisons, console)
    for path in write_comparison(options.folder, runs, comparisons):
        console.print(f"  {path}", highlight=False, markup=False, soft_wrap=True)
    return 0


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
