"""One sample beside its maps in a row: plain arrays, made fast enough for thousands of samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seewhy.figures.overlay import RGB, enlarge, framed, grey, outlined, overlay
from seewhy.io.atomic import atomic_path

__all__ = ["strip", "write_strip"]

GAP = 4
"""White pixels between two cells."""


def strip(
    image: NDArray[np.generic],
    maps: Mapping[str, NDArray[np.generic]],
    *,
    mask: NDArray[np.generic] | None = None,
    scale: tuple[float, float] = (0.0, 1.0),
    side: int = 256,
) -> RGB:
    """The image, with the true outline where known, and one overlay per map, left to right.

    Args:
        image: [H, W] or [H, W, 3].
        maps: name → [H, W], all on the one given scale.
        mask: [H, W], its outline is drawn on the image alone, so that it does not hide a map.
        scale: heat of no and of full colour.
        side: small images are enlarged by a whole factor until the shorter side has about so many pixels.

    Returns:
        [H', W', 3] uint8.
    """
    factor = max(1, round(side / min(image.shape[:2])))
    base: RGB = np.asarray(enlarge(grey(image), factor), np.uint8)
    first = base if mask is None else outlined(base, np.kron(np.asarray(mask) > 0, np.ones((factor, factor), bool)))
    heats = [enlarge(np.asarray(heat, np.float32), factor) for heat in maps.values()]
    cells = [first, *(overlay(base, heat, scale=scale) for heat in heats)]
    gap = np.full((base.shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([part for cell in cells for part in (cell, gap)][:-1], axis=1)


def write_strip(
    path: str | Path,
    image: NDArray[np.generic],
    maps: Mapping[str, NDArray[np.generic]],
    *,
    title: str = "",
    mask: NDArray[np.generic] | None = None,
    scale: tuple[float, float] = (0.0, 1.0),
    side: int = 256,
) -> Path:
    """Write a strip with its title, the names of the maps and the colour bar; atomically.

    Args:
        path: a `.png`.
        image: see `strip`.
        maps: see `strip`.
        title: one line above, e.g. the sample's name, probability and label.
        mask: see `strip`.
        scale: see `strip`; its ends are written beside the colour bar.
        side: see `strip`.
    """
    picture = strip(image, maps, mask=mask, scale=scale, side=side)
    first = "image" if mask is None else "image, true outline"
    line = " | ".join([first, *maps])
    with atomic_path(path) as temporary:
        page = framed(picture, title=f"{title}  ({line})", scale=scale, colormap="inferno")
        page.save(temporary, format="PNG", compress_level=3)
    return Path(path)
