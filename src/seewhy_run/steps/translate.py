"""Translate stacks of slices to another scanner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from seewhy_run.graphs import Graph
from seewhy_run.steps.base import State

__all__ = ["Translate"]


@dataclass(frozen=True, kw_only=True)
class Translate:
    """Makes `translated` [S, M, H, W] in [-1, 1], -1 outside the tissue.

    Attributes:
        graph: name of the network, from stacks [B, 3 · M, H, W] to centre slices [B, M, H, W].
        batch: slices at a time.
    """

    graph: str
    batch: int

    needs: ClassVar[tuple[str, ...]] = ("image", "body")
    gives: ClassVar[tuple[str, ...]] = ("translated",)

    def run(self, state: State, graphs: Mapping[str, Graph]) -> None:
        """Translate a case."""
        image, graph = state.values["image"], graphs[self.graph]
        parts = [next(iter(graph(image[n : n + self.batch]).values())) for n in range(0, len(image), self.batch)]
        translated = np.clip(np.concatenate(parts), -1, 1)
        state.values["translated"] = np.where(state.values["body"][:, None], translated, np.float32(-1))
