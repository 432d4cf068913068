"""The figure set of a category: which figures there are, under which names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from numpy.typing import NDArray

from seewhy.batch import MODALITIES
from seewhy.figures.ieee import ieee_style, write_ieee
from seewhy.figures.translation.attention import attention_overlay
from seewhy.figures.translation.slices import comparison, cycle_consistency, multimodality
from seewhy.run.translation.qualitative.arrays import slices_of
from seewhy.run.translation.qualitative.attention import views_of
from seewhy.run.translation.qualitative.record import SIDES

__all__ = ["draw_category", "figures_of", "remove_figures"]

Array = NDArray[Any]
KINDS = ("comparison", "multimodality", "cycle_consistency", "attention_overlay")
"""What names of figures have after their category."""
MOST_ROWS = 5
"""Cases in a comparison; more would be too small to be read."""


def draw_category(
    folder: Path,
    category: str,
    arrays: Mapping[str, Array],
    attention: Mapping[str, Array] | None,
    *,
    record: Mapping[str, Any],
    modalities: Sequence[str],
) -> list[Path]:
    """Draw the figures of one category, as PDF and PNG each.

    `fig_<category>_comparison_<modality>` and `fig_<category>_multimodality` are of translations from a to b, with
    `_b2a` behind the name of those from b to a; `fig_<category>_cycle_consistency_<modality>` and
    `fig_<category>_attention_overlay_<modality>` show the first case of either direction. What there is nothing of
    is not drawn.

    Args:
        folder: where to.
        category: e.g. `best`.
        arrays: of the category, see `seewhy.run.translation.qualitative.arrays.write_arrays`.
        attention: of the category; None where the network has none.
        record: what `case_ids.json` holds.
        modalities: to draw.
    """
    files: list[Path] = []
    with ieee_style():
        for name, figure in figures_of(category, arrays, attention, record=record, modalities=modalities):
            files += write_ieee(folder / name, figure)
    return files


def remove_figures(folder: Path, categories: Iterable[str]) -> None:
    """Remove the figures of categories whose cases are other ones by now, so that none is taken for theirs.

    Args:
        folder: see `draw_category`.
        categories: e.g. `best`.
    """
    for category in categories:
        for kind in KINDS:
            for ending in ("pdf", "png"):
                for file in folder.glob(f"fig_{category}_{kind}*.{ending}"):
                    file.unlink()


def figures_of(
    category: str,
    arrays: Mapping[str, Array],
    attention: Mapping[str, Array] | None,
    *,
    record: Mapping[str, Any],
    modalities: Sequence[str],
) -> Iterator[tuple[str, Figure]]:
    """Name and figure, one after another, so that only one is in memory; see `draw_category`."""
    metadata, chosen = record["metadata"], record[category]
    metric, phantom = metadata["metric"], bool(metadata["phantom"])
    cases = {
        direction: slices_of(arrays, direction, comparison=known, metric=metric)
        for direction, known in metadata["comparison"].items()
    }
    words = {direction: chosen[f"description{side}"] for direction, side in SIDES.items() if chosen[f"cases{side}"]}
    look: dict[str, Any] = {"modalities": MODALITIES, "phantom": phantom}
    for direction, own in cases.items():
        if not own:
            continue
        end = "" if direction == "a2b" else f"_{direction}"
        for modality in modalities:
            figure = comparison(own[:MOST_ROWS], modality=modality, what=words[direction], **look)
            yield f"fig_{category}_comparison_{modality}{end}", figure
        what = f"{category} case: {words[direction]}"
        yield f"fig_{category}_multimodality{end}", multimodality(own[0], what=what, **look)
    closed = [
        one
        for direction in cases
        for one in slices_of(arrays, direction, comparison="cycle", metric=metric)[:1]
        if one.reconstructed is not None
    ]
    first = f"{category} case of each direction, chosen as " + "; ".join(dict.fromkeys(words.values()))
    if closed:
        for modality in modalities:
            figure = cycle_consistency(closed, modality=modality, what=first, **look)
            yield f"fig_{category}_cycle_consistency_{modality}", figure
    views = [] if attention is None else [
        view for direction, own in cases.items() for view in views_of(attention, arrays, own[:1], direction)
    ]  # fmt: skip
    if views:
        for modality in modalities:
            figure = attention_overlay(views, modality=modality, what=first, **look)
            yield f"fig_{category}_attention_overlay_{modality}", figure
