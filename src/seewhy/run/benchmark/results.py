"""Results of a benchmark: tables, figure, page and terminal output over all members."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from seewhy.figures.labels import NONE, method_label
from seewhy.io.atomic import write_csv
from seewhy.metrics.map_ranking import FLOOR
from seewhy.metrics.order_agreement import OrderAgreement, average_ranks_of, compare_orders, correlate_ranks
from seewhy.run.benchmark.evidence import Evidence, read_evidence
from seewhy.run.benchmark.scores import ORDERS, TRUTH, MethodScores, order_methods, read_scores
from seewhy.run.records import read_results

__all__ = ["BenchmarkResults", "MethodResult", "finish_benchmark", "pool_members"]

Array = NDArray[np.float64]
CHOSEN = next(iter(ORDERS))
"""The benchmark's order without masks."""
MOSTLY = 0.5
"""A method passes over all members if it passes in more than this share of them."""


class FinishedMember(Protocol):
    """What is asked of a member."""

    @property
    def phantom(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def folder(self) -> Path: ...


@dataclass(frozen=True, kw_only=True)
class MethodResult:
    """A method over all members.

    Attributes:
        method: its name.
        passes: number of members in which it passes the verdicts.
        members: number of members that have it.
        place: its place in the order without masks; 1 is first.
        true_place: its place in the order by the known evidence.
        order: mean share of the methods that it is above of, in the order without masks, from 0 to 1.
        truth: the same in the order by the known evidence.
        scores: score by the known evidence → mean over members.
        by_phantom: phantom → mean AUPRC over its seeds; NaN without.
    """

    method: str
    passes: int
    members: int
    place: int
    true_place: int
    order: float
    truth: float
    scores: dict[str, float]
    by_phantom: dict[str, float]

    @property
    def is_control(self) -> bool:
        """Whether the maps are made without the network."""
        return self.method.startswith(FLOOR)

    @property
    def is_passing(self) -> bool:
        """Whether it passes in most members."""
        return self.passes > MOSTLY * self.members


@dataclass(frozen=True, kw_only=True)
class BenchmarkResults:
    """Methods over all members, and how their orders agree.

    Attributes:
        rows: methods and controls, best first in the order without masks.
        agreement: order → its agreement with the order by the known evidence, over all members.
        by_phantom: order → phantom → Spearman's correlation, pooled over its seeds.
        left_out: members whose network does not use the known evidence.
        evidence: name of a member → its shares.
        accuracy: name of a member → accuracy of the test.
    """

    rows: list[MethodResult]
    agreement: dict[str, OrderAgreement]
    by_phantom: dict[str, dict[str, float]]
    left_out: list[str]
    evidence: dict[str, Evidence]
    accuracy: dict[str, float]

    def controls_above(self, *, truth: bool) -> list[tuple[str, str]]:
        """Pairs of a control and a passing method below it, by the known evidence or in the order without masks."""

        def place(row: MethodResult) -> int:
            return row.true_place if truth else row.place

        controls = [row for row in self.rows if row.is_control]
        passing = [row for row in self.rows if row.is_passing]
        return [(a.method, b.method) for a in controls for b in passing if place(a) < place(b)]


def finish_benchmark(folder: Path, members: Sequence[FinishedMember]) -> BenchmarkResults | None:
    """Write `benchmark.csv`, `agreement.csv`, `members.csv`, `benchmark.png` and `benchmark.html`, and print the table.

    Args:
        folder: of the benchmark.
        members: complete ones; without any nothing is written.
    """
    from seewhy.figures.explanations.benchmark import benchmark_figure
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


def pool_members(members: Sequence[FinishedMember]) -> BenchmarkResults:
    """Pool the scores of members.

    Members whose network does not use the known evidence have no known truth, and are left out.

    Args:
        members: complete ones.
    """
    evidence = {member.folder.name: read_evidence(member.folder) for member in members}
    accuracy = {member.folder.name: _read_accuracy(member.folder) for member in members}
    used = [member for member in members if evidence[member.folder.name].is_used] or list(members)
    left_out = [member.folder.name for member in members if member not in used]
    scores = [{one.method: one for one in read_scores(member.folder)} for member in used]
    methods = list(dict.fromkeys(name for one in scores for name in one))
    phantoms = [member.phantom for member in used]
    truths = {name: _tabulate(scores, methods, lambda one, name=name: one.values[name]) for name in TRUTH}
    truth, orders = truths[TRUTH[0]], {}
    for order in ORDERS:
        ordered = [dict(zip(one, order_methods(list(one.values()), order), strict=True)) for one in scores]
        orders[order] = np.array([[line.get(name, math.nan) for name in methods] for line in ordered])
    known = {order: table for order, table in orders.items() if np.isfinite(table).any()}
    agreement = {order: compare_orders(table, truth, phantoms) for order, table in known.items()}
    groups = np.array(phantoms)
    by_phantom = {
        order: {name: _correlate(table[groups == name], truth[groups == name]) for name in dict.fromkeys(phantoms)}
        for order, table in known.items()
    }
    rows = _make_rows(scores, methods, phantoms, orders[CHOSEN], truths)
    return BenchmarkResults(
        rows=rows, agreement=agreement, by_phantom=by_phantom, left_out=left_out, evidence=evidence, accuracy=accuracy
    )


def _correlate(scores: Array, truth: Array) -> float:
    """Correlate the orders of some members, pooled."""
    return correlate_ranks(average_ranks_of(scores), average_ranks_of(truth))


def _tabulate(scores: Sequence[dict[str, MethodScores]], methods: Sequence[str], read: Any) -> Array:
    """Table [members, methods] of one number; NaN where a member does not have the method."""
    return np.array([[read(one[name]) if name in one else math.nan for name in methods] for one in scores])


def _make_rows(
    scores: Sequence[dict[str, MethodScores]],
    methods: Sequence[str],
    phantoms: Sequence[str],
    order: Array,
    truths: dict[str, Array],
) -> list[MethodResult]:
    """Make the rows, best first in the order without masks."""
    pooled, true = average_ranks_of(order), average_ranks_of(truths[TRUTH[0]])
    groups = np.array(phantoms)
    rows = []
    for column, method in enumerate(methods):
        own = [one[method] for one in scores if method in one]
        rows.append(
            MethodResult(
                method=method,
                passes=sum(one.passes is True for one in own),
                members=len(own),
                place=1 + int((pooled > pooled[column]).sum()),
                true_place=1 + int((true > true[column]).sum()),
                order=float(pooled[column]),
                truth=float(true[column]),
                scores={name: _mean(table[:, column]) for name, table in truths.items()},
                by_phantom={name: _mean(truths[TRUTH[0]][groups == name, column]) for name in dict.fromkeys(phantoms)},
            )
        )
    return sorted(rows, key=lambda row: (row.place, row.true_place, row.method))


def _mean(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan


def _read_accuracy(folder: Path) -> float:
    return float(read_results(folder)["metrics"].get("test/accuracy", math.nan))


# -- files and terminal ---------------------------------------------------------------------------------------


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
    write_csv(folder / "benchmark.csv", rows, columns=list(rows[0]))
    lines: list[dict[str, Any]] = [
        {
            "order": name, "spearman": found.value, "low": found.low, "high": found.high, "single": found.single,
            "members": found.members, **results.by_phantom[name],
        }
        for name, found in results.agreement.items()
    ]  # fmt: skip
    write_csv(folder / "agreement.csv", lines, columns=list(lines[0]))
    members: list[dict[str, Any]] = [
        {
            "member": name, "accuracy": results.accuracy[name], "evidence_moved": one.moved, "evidence_kept": one.kept,
            "used": name not in results.left_out,
        }
        for name, one in results.evidence.items()
    ]  # fmt: skip
    write_csv(folder / "members.csv", members, columns=list(members[0]))


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


def list_agreements(results: BenchmarkResults) -> tuple[list[str], list[list[str]]]:
    """List the columns and cells of the table of orders."""
    phantoms = list(results.rows[0].by_phantom)
    columns = ["order without masks", "Spearman", "95 %", *phantoms]
    cells = [
        [
            name, _format(found.value), f"{_format(found.low)} … {_format(found.high)}",
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
    meaning = [f"{name}: {text}" for name, text in ORDERS.items() if name in results.agreement]
    blocks: list[Block] = [Text("\n\n".join(describe_findings(results))), Picture(folder / "benchmark.png")]
    sections = [
        Section("Result", blocks),
        Section("Methods", [ReportTable(columns, cells, caption, quiet=quiet)]),
        Section("Orders without masks", [ReportTable(*list_agreements(results)), Text("\n\n".join(meaning))]),
        Section(
            "Members: does the network use the known evidence?",
            [
                ReportTable(["member", "accuracy", "other evidence", "same evidence", "twins"], evidence,
                            "share of twins that are predicted as the known evidence implies")
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
        (list_agreements(results), "agreement with the order by the known evidence"),
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
