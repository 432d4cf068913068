"""Rows of numbers from all ranks, each subject once."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist

__all__ = ["Row", "gather_rows", "natural_key"]

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
    return [once[subject] for subject in sorted(once, key=natural_key)]


def natural_key(subject: tuple[Any, ...]) -> list[tuple[int, int, str]]:
    """Sorting key under which patient 2 comes before patient 10."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for name in subject
        for part in _split_digits(str(name))
    ]


def _split_digits(text: str) -> list[str]:
    parts = [""]
    for letter in text:
        if parts[-1] and parts[-1][-1].isdecimal() != letter.isdecimal():
            parts.append("")
        parts[-1] += letter
    return parts
