"""Command `seewhy compare RUN RUN…`: paired differences between runs on the patients that they share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command and its options to `commands`, the result of `ArgumentParser.add_subparsers`."""
    parser = commands.add_parser("compare", help="compare the scores of runs, patient by patient, with the first one")
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, the reference first; at least two")
    parser.add_argument(
        "--folder", type=Path, default=Path(), help="gets compare.html, compare.csv, changes.csv; default: this folder"
    )
    parser.set_defaults(run=_compare)


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
