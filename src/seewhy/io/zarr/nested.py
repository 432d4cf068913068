"""Find the zarr arrays and pyramids inside a local folder that is not one itself, for messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

__all__ = ["list_nested"]

DEPTH, VISITED, LISTED = 4, 500, 6


def list_nested(folder: Path) -> list[str]:
    """Paths of the first arrays and pyramids below a folder, as they can be given instead of it.

    Example:
        >>> import zarr
        >>> _ = zarr.create_array("study/scan1.zarr", shape=(2, 2, 2), dtype="u1")
        >>> list_nested(Path("study"))
        ['study/scan1.zarr']
    """
    found: list[str] = []
    waiting = [(folder, 0)]
    for _ in range(VISITED):
        if not waiting or len(found) >= LISTED:
            break
        current, depth = waiting.pop(0)
        for child in _folders(current):
            kind = _kind(child)
            if kind in ("array", "pyramid"):
                found.append(str(child))
            elif depth < DEPTH:
                waiting.append((child, depth + 1))
    return found[:LISTED]


def _folders(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError:
        return


def _kind(folder: Path) -> str | None:
    """`array`, `pyramid` (a group with OME multiscales), or None."""
    if (folder / ".zarray").is_file():
        return "array"
    for name in ("zarr.json", ".zattrs"):
        try:
            content = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and content.get("node_type") == "array":
            return "array"
        if "multiscales" in json.dumps(content):
            return "pyramid"
    return None
