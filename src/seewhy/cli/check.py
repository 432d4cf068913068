"""Command `seewhy check DATASET…`: verify data sets before a run."""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from seewhy.data.check import Finding, Report

__all__ = ["add_parser", "run"]

SHOWN = 5
"""Files listed per kind of problem; --json lists all."""


def add_parser(commands: Any) -> None:
    """Add `check`.

    Args:
        commands: the result of `ArgumentParser.add_subparsers`.
    """
    parser = commands.add_parser(
        "check",
        help="verify data sets before a run",
        description="Read every slice once and report what would stop a run or make its figures worthless. "
        "Exit status 1 when there is an error.",
    )
    parser.add_argument(
        "datasets", metavar="DATASET", nargs="+", help="folder with imageSlice/, or with a/ and b/ of two domains"
    )
    split = parser.add_mutually_exclusive_group()
    split.add_argument("--split", metavar="FILE", help="split.json of a run, checked against the data")
    split.add_argument(
        "--slice-split", type=int, nargs=2, metavar=("V0", "V1"), help="the reference's split by position"
    )
    parser.add_argument(
        "--pattern",
        metavar="REGEX",
        help="file names with the groups patient, slice and label, as data.pattern; default: "
        "BRATS_<id>_<slice>_<label>.npy or <name>_<label>.npy",
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes; default %(default)s")
    parser.add_argument("--json", action="store_true", help="print a JSON list, one object per data set")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check every data set and print the findings.

    Returns:
        1 if any data set has an error, else 0.
    """
    from rich.console import Console

    reports = [_check(root, args) for root in args.datasets]
    if args.json:
        import json

        sys.stdout.write(json.dumps([report.to_dict() for report in reports], indent=2) + "\n")
    else:
        console = Console()
        for report in reports:
            _show(report, console)
    return 0 if all(report.ok for report in reports) else 1


def _check(root: str, args: argparse.Namespace) -> Report:
    """Check one folder of either kind of data set."""
    from pathlib import Path

    from seewhy.data.check import check_dataset
    from seewhy.data.check.domains import check_domains, holds_domains
    from seewhy.data.slices.files import Naming
    from seewhy.errors import ConfigError

    progress = not args.json
    if holds_domains(Path(root)):
        if args.slice_split is not None or args.pattern is not None:
            raise ConfigError(f"{root} holds two domains of subjects; --slice-split and --pattern are for slices")
        return check_domains(root, split=args.split, progress=progress, jobs=args.jobs)
    naming = None if args.pattern is None else Naming(args.pattern, f"a name that matches {args.pattern}")
    return check_dataset(
        root, split=args.split, slice_split=args.slice_split, naming=naming, progress=progress, jobs=args.jobs
    )


def _show(report: Report, console: Console) -> None:
    """Print a line of counts, a table of findings and a verdict."""
    from rich.markup import escape
    from rich.table import Table

    console.print(f"[bold]{escape(str(report.root))}[/bold]  {_format_counts(report)}", highlight=False, soft_wrap=True)
    for part, counts in report.counts.get("parts", {}).items():
        console.print(f"  {part}: " + ", ".join(f"{count} {name}" for name, count in counts.items()), highlight=False)
    groups: dict[tuple[str, str, str], list[Finding]] = defaultdict(list)
    for finding in sorted(report.findings, key=lambda finding: finding.severity):
        groups[finding.severity, finding.kind, finding.remedy].append(finding)
    if groups:
        table = Table(show_lines=True)
        for column in ("", "kind", "found", "remedy"):
            table.add_column(column, overflow="fold")
        for (severity, kind, remedy), findings in groups.items():
            lines = [f"{finding.file}: {finding.message}" for finding in findings[:SHOWN]]
            if len(findings) > SHOWN:
                lines.append(f"… and {len(findings) - SHOWN} more (--json lists all)")
            colour = "red" if severity == "error" else "yellow"
            table.add_row(f"[{colour}]{severity}[/{colour}]", kind, escape("\n".join(lines)), escape(remedy))
        console.print(table)
    errors, warnings = len(report.errors), len(report.warnings)
    verdict = "[red]not usable[/red]" if errors else "[green]usable[/green]"
    console.print(f"{verdict}: {errors} error(s), {warnings} warning(s)", highlight=False)


def _format_counts(report: Report) -> str:
    if not report.counts:
        return ""
    if "subjects" in report.counts:
        return ", ".join(f"{count} subjects in {part}" for part, count in report.counts["subjects"].items())
    labels = ", ".join(f"{count} with label {label}" for label, count in report.counts["labels"].items())
    return (
        f"{report.counts['files']} slices of {report.counts['patients']} patients: {labels}; "
        f"{report.counts['masks']} with a mask"
    )
