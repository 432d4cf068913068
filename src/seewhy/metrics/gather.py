"""Rows of numbers from all ranks, each subject once."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist

from seewhy.io.layout import natural_key

__all__ = ["Row", "gather_rows"]

Row = dict[str, Any]
"""One line of results: names to plain numbers, strings and lists of numbers; never a tensor."""


def gather_rows(rows: list[Row], *, key: tuple[str, ...]) -> list[Row]:
    """Rows of every rank, one per value of `key`, in natural order of it; the same list on every rank.

    Samplers of distributed runs repeat samples to even out the ranks, so the same subject can come twice; the
    first one counts. Every rank must call this, with rows or without.

    Args:
        rows: this rank's rows.
        key: names of the columns that together say what a row is of.
    """
    if dist.is_available() and dist.is_initialized():
        parts: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(parts, rows)
        rows = [row for part in parts for row in part]
    once: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        once.setdefault(tuple(row[name] for name in key), row)
    return [once[subject] for subject in sorted(once, key=_order)]


def _order(subject: tuple[Any, ...]) -> list[Any]:
    """Patient 2 comes before patient 10."""
    return [natural_key(str(name)) for name in subject]
