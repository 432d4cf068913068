"""Command `seewhy report RUN…`: write the pages of run folders again."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command and its options to `commands`, the result of `ArgumentParser.add_subparsers`."""
    parser = commands.add_parser(
        "report", help="write the pages of run folders again from their files, without training"
    )
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, or their folders of predictions, explanations")
    parser.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    from rich.console import Console

    from seewhy.run.pages.folder_pages import rebuild_pages

    console = Console()
    for run in options.runs:
        for page in rebuild_pages(run):
            console.print(str(page), highlight=False, markup=False, soft_wrap=True)
    return 0
