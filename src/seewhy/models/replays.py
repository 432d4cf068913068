"""Histories of fakes of several domains, through checkpoints and over several processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from seewhy.nets.replay import ReplayBuffer

__all__ = ["Replays"]


class Replays:
    """A `ReplayBuffer` for each domain, with draws of its own on each process.

    Args:
        domains: names.
        capacity: see `ReplayBuffer`.
        seed: of all draws.
    """

    def __init__(self, domains: Iterable[str], *, capacity: int, seed: int) -> None:
        self.domains, self.capacity, self.seed = tuple(domains), capacity, seed
        self.buffers: dict[str, ReplayBuffer] = {}
        self._saved: list[dict[str, Any]] | None = None
        self.begin(0)

    def begin(self, rank: int) -> None:
        """Start with empty histories, or with those of the checkpoint that a training goes on from.

        Args:
            rank: of this process.
        """
        self.buffers = {
            # Seeds of other draws of the run are not these, whatever it was seeded with.
            domain: ReplayBuffer(self.capacity, seed=(self.seed * 1_024 + rank) * 2 + place + 7_919)
            for place, domain in enumerate(self.domains)
        }
        saved, self._saved = self._saved, None
        if saved is None:
            return
        if rank >= len(saved):
            rank_zero_warn(f"the checkpoint has histories of fakes of {len(saved)} processes; others start without")
            return
        for domain, state in saved[rank].items():
            self.buffers[domain].load_state_dict(state)

    def exchange(self, fakes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Domain → fakes to judge for new ones, [B, C, H, W]; see `ReplayBuffer`."""
        return {domain: self.buffers[domain](fake) for domain, fake in fakes.items()}

    def gathered_state(self) -> list[dict[str, Any]]:
        """States of all processes, in the order of their ranks; all of them must ask."""
        own = {domain: buffer.state_dict() for domain, buffer in self.buffers.items()}
        if not (dist.is_available() and dist.is_initialized()):
            return [own]
        parts: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(parts, own)
        return parts

    def resume_from(self, saved: list[dict[str, Any]] | None) -> None:
        """Take these states at the next `begin`."""
        self._saved = saved
