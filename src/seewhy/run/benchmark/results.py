"""Results of a benchmark: the scores of all members, pooled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from seewhy.metrics.agreement import OrderAgreement, average_ranks_of, compare_orders, correlate_ranks
from seewhy.metrics.map_ranking import FLOOR, finite_mean
from seewhy.run.benchmark.scores import ORDERS, TRUTH, Evidence, MethodScores, order_methods, read_evidence, read_scores
from seewhy.run.records import read_results

__all__ = ["CHOSEN", "BenchmarkResults", "FinishedMember", "MethodResult", "pool_members"]

Array = NDArray[np.float64]
CHOSEN = next(iter(ORDERS))
"""The benchmark's order without masks."""
MOSTLY = 0.5
"""A method passes over all members if it passes in more than this share of them."""


class FinishedMember(Protocol):
    """What is asked of a member."""

    @property
    def phantom(self) -> str:
        """Name of its phantom."""
        ...

    @property
    def seed(self) -> int:
        """Seed of phantom and training."""
        ...

    @property
    def folder(self) -> Path:
        """Its run folder."""
        ...


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
        by_truth: order → score by the known evidence → Spearman's correlation with its order, over all members.
        truths: pair of scores by the known evidence → Spearman's correlation of their orders: what an order without
            masks can reach with one of them says little about the other where this is low.
        left_out: members whose network does not use the known evidence.
        evidence: name of a member → its shares.
        accuracy: name of a member → accuracy of the test.
    """

    rows: list[MethodResult]
    agreement: dict[str, OrderAgreement]
    by_phantom: dict[str, dict[str, float]]
    by_truth: dict[str, dict[str, float]]
    truths: dict[tuple[str, str], float]
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
    by_truth = {order: {name: _correlate(table, one) for name, one in truths.items()} for order, table in known.items()}
    between = {(a, b): _correlate(truths[a], truths[b]) for a, b in combinations(TRUTH, 2)}
    rows = _make_rows(scores, methods, phantoms, orders[CHOSEN], truths)
    return BenchmarkResults(
        rows=rows, agreement=agreement, by_phantom=by_phantom, by_truth=by_truth, truths=between, left_out=left_out,
        evidence=evidence, accuracy=accuracy,
    )  # fmt: skip


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
                scores={name: finite_mean(table[:, column]) for name, table in truths.items()},
                by_phantom={
                    name: finite_mean(truths[TRUTH[0]][groups == name, column]) for name in dict.fromkeys(phantoms)
                },
            )
        )
    return sorted(rows, key=lambda row: (row.place, row.true_place, row.method))


def _read_accuracy(folder: Path) -> float:
    return float(read_results(folder)["metrics"].get("test/accuracy", math.nan))
