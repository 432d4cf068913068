"""Gather rows of results from all ranks, each subject once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch.distributed as dist

from seewhy.io.slices import natural_key

__all__ = ["Row", "RowCollection", "gather_rows"]

Row = dict[str, Any]
"""One row of results: names to plain numbers, strings and lists of numbers, no tensors."""


class RowCollection:
    """Rows that scores are computed from; those of one process can be added in another, which has shared its work."""

    _rows: list[Row]

    def take_rows(self) -> list[Row]:
        """Return the rows since the last call, and forget them."""
        rows, self._rows = self._rows, []
        return rows

    def add_rows(self, rows: Iterable[Row]) -> None:
        """Add rows of another process."""
        self._rows += rows


def gather_rows(rows: list[Row], *, key: tuple[str, ...]) -> list[Row]:
    """Gather the rows of all ranks, one per key, in natural order of the key; the same list on every rank.

    Distributed samplers repeat samples to fill up the ranks, so a subject can occur twice; its first row is kept. Every
    rank must call this function, even without rows.

    Args:
        rows: rows of this rank.
        key: names of the columns that together identify a row.
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
    """Natural order: patient 2 before patient 10."""
    return [natural_key(str(name)) for name in subject]
