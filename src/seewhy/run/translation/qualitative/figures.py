"""Attention of selected cases in `attention_<category>.npz`, and the figures of a category."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from seewhy.batch import MODALITIES
from seewhy.errors import DataError
from seewhy.figures.style import turn_upright
from seewhy.figures.translation.case import AttentionView, TranslationCase
from seewhy.figures.translation.ieee import ieee_style, write_ieee
from seewhy.figures.translation.slices import attention_overlay, comparison, cycle_consistency, multimodality
from seewhy.io.npy import read_npz, write_npz
from seewhy.models.translation.explanation import has_attention, record_attention
from seewhy.run.loaded.saved_run import SavedRun
from seewhy.run.translation.qualitative.arrays import read_display, to_translation_cases
from seewhy.run.translation.qualitative.case_list import SIDES

__all__ = [
    "build_attention_views",
    "draw_category",
    "draw_figures",
    "list_without_attention",
    "read_attention",
    "remove_figures",
    "write_attention",
]

Array = NDArray[Any]
KINDS = ("comparison", "multimodality", "cycle_consistency", "attention_overlay")
"""Kinds of figures; their names follow the category in the names of files."""


def list_without_attention(run: SavedRun) -> list[str]:
    """List the directions whose network has no attention."""
    generators: Any = run.model.generators
    return [direction for direction in generators if not has_attention(generators[direction])]


def write_attention(run: SavedRun, path: Path, arrays: Mapping[str, Array], *, full: bool = False) -> Path:
    """Write the attention of the cases of one category.

    `case_indices` (and `case_indices_b`) are those of `inference_<category>.npz`. The arrays
    `case<n>_<direction>_<module>_weights` and `…_output` belong to case n of that direction, counted from 0 in the
    order of the indices, see `seewhy.models.translation.explanation.record_attention`.

    Args:
        run: with the generators.
        path: of the file.
        arrays: of the category, see `seewhy.run.translation.qualitative.arrays.write_arrays`.
        full: also write the matrices of self-attention as `…_matrix`.
    """
    generators: Any = run.model.generators
    device = run.trainer.strategy.root_device
    run.model.to(device)
    result: dict[str, Array] = {name: arrays[name] for name in ("case_indices", "case_indices_b")}
    for direction in SIDES:
        stacks, sizes = arrays[f"inputs_{direction[0]}"], arrays[f"size_{direction[0]}"]
        if direction not in generators or not has_attention(generators[direction]):
            continue
        for number, stack in enumerate(stacks):
            rows, columns = sizes[number]
            image = torch.from_numpy(np.ascontiguousarray(stack[:, :rows, :columns])).to(device)
            attention = record_attention(generators[direction], image, full=full)
            result |= {f"case{number}_{direction}_{name}": values for name, values in attention.items()}
    return write_npz(path, result)


def read_attention(path: Path, arrays: Mapping[str, Array]) -> dict[str, Array] | None:
    """Read a file of `write_attention`; None if there is no file, as for networks without attention.

    Args:
        path: of the file.
        arrays: of the category.

    Raises:
        DataError: the file is damaged, or belongs to an earlier selection of cases.
    """
    if not path.exists():
        return None
    try:
        attention = read_npz(path)
        wrong = [name for name, values in attention.items() if name.startswith("case") and not _is_map(name, values)]
        if wrong:
            raise DataError(f"{wrong[0]} is {attention[wrong[0]].dtype} {attention[wrong[0]].shape}, or not finite")
        same = all(np.array_equal(attention[name], arrays[name]) for name in ("case_indices", "case_indices_b"))
    except (DataError, KeyError) as error:
        raise DataError(f"{path} cannot be read ({error}); write it again: cases.stages=[attention,…]") from error
    if not same:
        raise DataError(f"{path} holds other cases than case_ids.json; write it again: cases.stages=[attention,…]")
    return attention


def _is_map(name: str, values: Array) -> bool:
    """Whether an array is what `write_attention` stores under such a name."""
    if name.startswith("case_indices"):
        return values.dtype.kind == "i" and values.ndim == 1
    return values.dtype.kind == "f" and values.size > 0 and values.ndim in (1, 2, 3) and bool(np.isfinite(values).all())


def build_attention_views(
    attention: Mapping[str, Array], arrays: Mapping[str, Array], cases: Sequence[TranslationCase], direction: str
) -> list[AttentionView]:
    """Combine cases with their last spatial gate and last self-attention, which are nearest to the output, upright.

    Args:
        attention: of the category.
        arrays: of the category.
        cases: of the direction, upright, in order.
        direction: `a2b` or `b2a`.
    """
    views = []
    for number, case in enumerate(cases):
        display = read_display(arrays, direction[0], number)
        start, end = f"case{number}_{direction}_", "_weights"
        weights = {
            name.removeprefix(start).removesuffix(end): values
            for name, values in attention.items()
            if name.startswith(start) and name.endswith(end)
        }
        gates = [name for name, values in weights.items() if values.ndim == 3]
        looks = [name for name, values in weights.items() if values.ndim == 2]
        if not gates and not looks:
            continue
        views.append(
            AttentionView(
                case=case,
                gate=turn_upright(weights[gates[-1]][0], display) if gates else None,
                gate_name=gates[-1] if gates else "",
                attention=turn_upright(weights[looks[-1]], display) if looks else None,
                attention_name=looks[-1] if looks else "",
            )
        )
    return views


def draw_category(
    folder: Path,
    category: str,
    arrays: Mapping[str, Array],
    attention: Mapping[str, Array] | None,
    *,
    record: Mapping[str, Any],
    modalities: Sequence[str],
    rows: int = 5,
) -> list[Path]:
    """Draw the figures of one category, as PDF and PNG each.

    `fig_<category>_comparison_<modality>` and `fig_<category>_multimodality` show translations from a to b; those from
    b to a have the suffix `_b2a`. `fig_<category>_cycle_consistency_<modality>` and
    `fig_<category>_attention_overlay_<modality>` show the first case of both directions. Figures without data are not
    drawn.

    Args:
        folder: of the figures.
        category: e.g. `best`.
        arrays: of the category, see `seewhy.run.translation.qualitative.arrays.write_arrays`.
        attention: of the category; None for networks without attention.
        record: contents of `case_ids.json`.
        modalities: to draw.
        rows: most cases in a comparison.
    """
    files: list[Path] = []
    with ieee_style():
        for name, figure in draw_figures(category, arrays, attention, record=record, modalities=modalities, rows=rows):
            files += write_ieee(folder / name, figure)
    return files


def remove_figures(folder: Path, categories: Iterable[str]) -> None:
    """Remove the figures of categories whose cases have changed.

    Args:
        folder: see `draw_category`.
        categories: e.g. `best`.
    """
    for category in categories:
        for kind in KINDS:
            for ending in ("pdf", "png"):
                for file in folder.glob(f"fig_{category}_{kind}*.{ending}"):
                    file.unlink()


def draw_figures(
    category: str,
    arrays: Mapping[str, Array],
    attention: Mapping[str, Array] | None,
    *,
    record: Mapping[str, Any],
    modalities: Sequence[str],
    rows: int = 5,
) -> Iterator[tuple[str, Figure]]:
    """Yield name and figure one after another, so that only one is in memory; see `draw_category`."""
    metadata, chosen = record["metadata"], record[category]
    metric, phantom = metadata["metric"], bool(metadata["phantom"])
    cases = {
        direction: to_translation_cases(arrays, direction, comparison=compared, metric=metric)
        for direction, compared in metadata["comparison"].items()
    }
    texts = {direction: chosen[f"description{side}"] for direction, side in SIDES.items() if chosen[f"cases{side}"]}
    look: dict[str, Any] = {"modalities": MODALITIES, "phantom": phantom}
    for direction, selected in cases.items():
        if not selected:
            continue
        end = "" if direction == "a2b" else f"_{direction}"
        for modality in modalities:
            figure = comparison(selected[:rows], modality=modality, what=texts[direction], **look)
            yield f"fig_{category}_comparison_{modality}{end}", figure
        what = f"{category} case: {texts[direction]}"
        yield f"fig_{category}_multimodality{end}", multimodality(selected[0], what=what, **look)
    closed = [
        case
        for direction in cases
        for case in to_translation_cases(arrays, direction, comparison="cycle", metric=metric)[:1]
        if case.reconstructed is not None
    ]
    first = f"{category} case of each direction, chosen as " + "; ".join(dict.fromkeys(texts.values()))
    if closed:
        for modality in modalities:
            figure = cycle_consistency(closed, modality=modality, what=first, **look)
            yield f"fig_{category}_cycle_consistency_{modality}", figure
    if attention is None:
        return
    views = [
        view
        for direction, selected in cases.items()
        for view in build_attention_views(attention, arrays, selected[:1], direction)
    ]
    if views:
        for modality in modalities:
            figure = attention_overlay(views, modality=modality, what=first, **look)
            yield f"fig_{category}_attention_overlay_{modality}", figure
