"""`attention_<category>.npz`: what the networks' attention did to chosen cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seewhy.errors import DataError
from seewhy.figures.style import turn_upright
from seewhy.figures.translation.case import AttentionView, TranslationCase
from seewhy.io.atomic import atomic_path
from seewhy.models.translation.explanation import attention_of, has_attention
from seewhy.run.run_loader import SavedRun
from seewhy.run.translation.qualitative.arrays import display_at
from seewhy.run.translation.qualitative.record import SIDES

__all__ = ["read_attention", "views_of", "without_attention", "write_attention"]

Array = NDArray[Any]


def without_attention(run: SavedRun) -> list[str]:
    """Directions whose network has no attention."""
    generators: Any = run.model.generators
    return [direction for direction in generators if not has_attention(generators[direction])]


def write_attention(run: SavedRun, path: Path, arrays: Mapping[str, Array]) -> Path:
    """Write the attention of the cases of one category.

    `case_indices` (and `case_indices_b`) are those of `inference_<category>.npz`; what is called
    `case<n>_<direction>_<module>_weights` and `…_output` is of case n of that direction, counted from 0 in the order
    of the indices, see `seewhy.models.translation.explanation.attention_of`.

    Args:
        run: with the generators.
        path: of the file.
        arrays: of the category, see `seewhy.run.translation.qualitative.arrays.write_arrays`.
    """
    generators: Any = run.model.generators
    device = run.trainer.strategy.root_device
    run.model.to(device)
    found: dict[str, Array] = {name: arrays[name] for name in ("case_indices", "case_indices_b")}
    for direction in SIDES:
        stacks, sizes = arrays[f"inputs_{direction[0]}"], arrays[f"size_{direction[0]}"]
        if direction not in generators or not has_attention(generators[direction]):
            continue
        for place, stack in enumerate(stacks):
            rows, columns = sizes[place]
            own = torch.from_numpy(np.ascontiguousarray(stack[:, :rows, :columns])).to(device)
            seen = attention_of(generators[direction], own)
            found |= {f"case{place}_{direction}_{name}": values for name, values in seen.items()}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **found)  # type: ignore[arg-type]
    return path


def read_attention(path: Path, arrays: Mapping[str, Array]) -> dict[str, Array] | None:
    """Read what `write_attention` wrote; None where it wrote nothing, as of networks without attention.

    Args:
        path: of the file.
        arrays: of the category.

    Raises:
        DataError: the file is damaged, or of cases that were chosen before.
    """
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = {name: stored[name] for name in stored.files}
        same = all(np.array_equal(found[name], arrays[name]) for name in ("case_indices", "case_indices_b"))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} cannot be read ({error}); make it anew: cases.stages=[attention,…]") from error
    if not same:
        raise DataError(f"{path} is of other cases than case_ids.json names by now; cases.stages=[attention,…]")
    return found


def views_of(
    attention: Mapping[str, Array], arrays: Mapping[str, Array], cases: Sequence[TranslationCase], direction: str
) -> list[AttentionView]:
    """Cases with the last spatial gate and the last self-attention, which are nearest to the result, upright.

    Args:
        attention: of the category.
        arrays: of the category.
        cases: of the direction, upright, in order.
        direction: `a2b` or `b2a`.
    """
    views = []
    for place, case in enumerate(cases):
        display = display_at(arrays, direction[0], place)
        start, end = f"case{place}_{direction}_", "_weights"
        own = {
            name.removeprefix(start).removesuffix(end): values
            for name, values in attention.items()
            if name.startswith(start) and name.endswith(end)
        }
        gate = [name for name, values in own.items() if values.ndim == 3]
        looks = [name for name, values in own.items() if values.ndim == 2]
        if not gate and not looks:
            continue
        views.append(
            AttentionView(
                case=case,
                gate=turn_upright(own[gate[-1]][0], display) if gate else None,
                gate_name=gate[-1] if gate else "",
                attention=turn_upright(own[looks[-1]], display) if looks else None,
                attention_name=looks[-1] if looks else "",
            )
        )
    return views
