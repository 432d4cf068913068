"""Tables, figure, page and terminal output of a benchmark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from seewhy.figures.labels import NONE, method_label
from seewhy.io.atomic import write_csv
from seewhy.run.benchmark.results import CHOSEN, BenchmarkResults, FinishedMember, pool_members
from seewhy.run.benchmark.scores import ORDERS, TRUTH
from seewhy.run.pages.run_page import find_page

__all__ = ["finish_benchmark"]

AGREEMENT = "Spearman's correlation with the orders by the known evidence"
TRUTH_LABELS = {"auprc": "AUPRC", "pointing": "pointing", "energy": "energy"}
"""Scores by the known evidence, as they are called in tables; the first one is meant where none is named."""


def finish_benchmark(folder: Path, members: Sequence[FinishedMember]) -> BenchmarkResults | None:
    """Write `benchmark.csv`, `agreement.csv`, `members.csv`, `benchmark.png` and `benchmark.html`, and print the table.

    Args:
        folder: of the benchmark.
        members: complete ones; without any nothing is written.
    """
    from seewhy.figures.explanations.ranking import benchmark_figure
    from seewhy.figures.style import write_figure

    if not members:
        return None
    results = pool_members(members)
    write_tables(folder, results)
    figure = benchmark_figure(
        [(row.method, row.order, row.truth, row.is_passing) for row in results.rows],
        {name: (found.value, found.low, found.high) for name, found in results.agreement.items()},
        results.by_phantom,
    )
    write_figure(folder / "benchmark.png", figure)
    write_page(folder, results)
    print_benchmark(folder, results)
    return results


def write_tables(folder: Path, results: BenchmarkResults) -> None:
    """Write `benchmark.csv` (methods), `agreement.csv` (orders) and `members.csv`."""
    rows: list[dict[str, Any]] = [
        {
            "place": row.place, "method": row.method, "control": row.is_control, "passes": row.passes,
            "members": row.members, "order": row.order, "true_place": row.true_place, "true_order": row.truth,
            **row.scores, **{f"{TRUTH[0]}_{name}": value for name, value in row.by_phantom.items()},
        }
        for row in results.rows
    ]  # fmt: skip
    write_csv(folder / "benchmark.csv", rows)
    lines: list[dict[str, Any]] = [
        {
            "order": name, "spearman": found.value, "low": found.low, "high": found.high, "single": found.single,
            "members": found.members, **{f"spearman_{truth}": results.by_truth[name][truth] for truth in TRUTH[1:]},
            **results.by_phantom[name],
        }
        for name, found in results.agreement.items()
    ]  # fmt: skip
    write_csv(folder / "agreement.csv", lines)
    members: list[dict[str, Any]] = [
        {
            "member": name, "accuracy": results.accuracy[name], "evidence_moved": one.moved, "evidence_kept": one.kept,
            "used": name not in results.left_out,
        }
        for name, one in results.evidence.items()
    ]  # fmt: skip
    write_csv(folder / "members.csv", members)


def describe_findings(results: BenchmarkResults) -> list[str]:
    """Describe in sentences how far the order without masks can be trusted."""
    found = results.agreement[CHOSEN]
    interval = f" [{found.low:.2f}, {found.high:.2f}]" if math.isfinite(found.low) else ""
    lines = [
        f"Spearman of the order without masks with the order by the known evidence: {found.value:.2f}{interval} over "
        f"{found.members} members; {found.single:.2f} within a single member."
    ]
    for truth, words in ((False, "in the order without masks"), (True, "by the known evidence")):
        pairs = results.controls_above(truth=truth)
        below = ", ".join(method_label(name) for name in dict.fromkeys(method for _, method in pairs))
        lines.append(
            f"Controls above a passing method {words}: "
            + (f"{len({control for control, _ in pairs})} (above {below})." if pairs else "none.")
        )
    values = [value for value in results.truths.values() if math.isfinite(value)]
    if values:
        lines.append(
            f"The scores by the known evidence ({', '.join(TRUTH_LABELS.values())}) order the methods differently: "
            f"Spearman {min(values):.2f} to {max(values):.2f} between two of them."
        )
    lines += [f"{name}: left out, the network does not use the known evidence." for name in results.left_out]
    return lines


def list_cells(results: BenchmarkResults) -> tuple[list[str], list[list[str]]]:
    """List the columns and cells of the table of methods."""
    phantoms = list(results.rows[0].by_phantom)
    columns = ["", "method", "passes", "true place", "AUPRC", *phantoms, "pointing"]
    cells = [
        [
            str(row.place), method_label(row.method), NONE if row.is_control else f"{row.passes}/{row.members}",
            str(row.true_place), *(_format(value) for value in (row.scores["auprc"], *row.by_phantom.values())),
            _format(row.scores["pointing"]),
        ]
        for row in results.rows
    ]  # fmt: skip
    return columns, cells


def list_agreements(results: BenchmarkResults, *, each_phantom: bool) -> tuple[list[str], list[list[str]]]:
    """List the columns and cells of the table of orders: Spearman's correlation with the orders by the evidence."""
    phantoms = list(results.rows[0].by_phantom) if each_phantom else []
    first, *others = TRUTH_LABELS.values()
    columns = ["order without masks", first, "95 %", *others, *phantoms]
    cells = [
        [
            name, _format(found.value), f"{_format(found.low)} … {_format(found.high)}",
            *(_format(results.by_truth[name][truth]) for truth in TRUTH[1:]),
            *(_format(results.by_phantom[name][phantom]) for phantom in phantoms),
        ]
        for name, found in results.agreement.items()
    ]  # fmt: skip
    return columns, cells


def _format(value: float) -> str:
    return NONE if not math.isfinite(value) else f"{value:.2f}"


def write_page(folder: Path, results: BenchmarkResults) -> None:
    """Write `benchmark.html`."""
    from seewhy.figures.report.blocks import Block, Picture, ReportTable, Section, Text
    from seewhy.figures.report.page import write_report

    columns, cells = list_cells(results)
    quiet = [row.is_control or not row.is_passing for row in results.rows]
    caption = (
        "best first in the order without masks; passes: members in which the method passes the verdicts; AUPRC and "
        "pointing by the known evidence; grey: controls, and methods that fail in half of the members or more"
    )
    evidence = [
        [
            name,
            _format(results.accuracy[name]),
            _format(one.moved),
            NONE if one.kept is None else _format(one.kept),
            "; ".join(f"{change} {share:.2f}" for change, share in one.changes.items()),
        ]
        for name, one in results.evidence.items()
    ]
    agreements = ReportTable(*list_agreements(results, each_phantom=True), AGREEMENT)
    meaning = [f"{name}: {text}" for name, text in ORDERS.items() if name in results.agreement]
    blocks: list[Block] = [Text("\n\n".join(describe_findings(results))), Picture(folder / "benchmark.png")]
    sections = [
        Section("Result", blocks),
        Section("Methods", [ReportTable(columns, cells, caption, quiet=quiet)]),
        Section("Orders without masks", [agreements, Text("\n\n".join(meaning))]),
        Section(
            "Members: does the network use the known evidence?",
            [
                ReportTable(["member", "accuracy", "other evidence", "same evidence", "twins"], evidence,
                            "share of twins that are predicted as the known evidence implies",
                            pages=[find_page(folder, name) for name in results.evidence])
            ],
        ),
    ]  # fmt: skip
    write_report(
        folder / "benchmark.html",
        title="Benchmark of explanation methods",
        sections=sections,
        facts={"written": datetime.now().isoformat(timespec="seconds"), "members": str(len(results.evidence))},
        warnings=["Phantom data: the scores say nothing about real patients."],
    )


def print_benchmark(folder: Path, results: BenchmarkResults) -> None:
    """Print the tables, the findings and the paths."""
    from rich.table import Table

    console = Console()
    for (columns, cells), title in (
        (list_cells(results), "phantoms: methods by the order without masks, and scores by the known evidence"),
        (list_agreements(results, each_phantom=False), AGREEMENT),
    ):
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for name in columns:
            is_text = name in ("method", "order without masks")
            table.add_column(name, justify="left" if is_text else "right", no_wrap=is_text)
        for line in cells:
            table.add_row(*line)
        console.print(table)
        console.print()
    for text in describe_findings(results):
        console.print(text, highlight=False)
    for name in ("benchmark.csv", "agreement.csv", "members.csv", "benchmark.png", "benchmark.html"):
        console.print(f"  {folder / name}", highlight=False, soft_wrap=True)
