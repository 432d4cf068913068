"""Chance pairs of unpaired slices, as a function of seed, epoch and rank alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import DistributedSampler

from seewhy.data.loaders import EpochSampler

__all__ = ["PairDraw", "PairSampler"]


class PairDraw(NamedTuple):
    """One look at a pair.

    Attributes:
        number: how many draws of the whole run came before it, on all ranks; seeds what is random about it.
        a: the sample's place in domain a.
        b: in domain b.
    """

    number: int
    a: int
    b: int


class PairSampler(DistributedSampler[int]):
    """Two endless streams of permutations, one per domain, read side by side.

    Each domain is passed through in an order of its own, again and again, so every slice is seen equally often
    and meets another partner in every pass. As with `EpochSampler`, of which it is two, an epoch is a piece of the
    streams: nothing is dropped, the total batch is the same on any number of ranks, and a run that resumes
    at epoch e gets the pairs that an uninterrupted one gets.

    Args:
        length_a: number of samples of domain a.
        length_b: of domain b.
        batch_size: per rank.
        batches_per_epoch: None means one pass over the larger domain, rounded down to whole batches (1 at least).
        seed: of both orders.
        num_replicas: number of ranks.
        rank: this rank.
    """

    def __init__(
        self,
        length_a: int,
        length_b: int,
        *,
        batch_size: int,
        batches_per_epoch: int | None = None,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        if batches_per_epoch is None:
            batches_per_epoch = max(1, max(length_a, length_b) // (batch_size * num_replicas))
        # Seeds of their own: domains of equal length would otherwise be paired alike in every epoch.
        seeds = [int(word) for word in np.random.SeedSequence(seed).generate_state(2)]
        self.streams = [
            EpochSampler(
                length, batch_size=batch_size, batches_per_epoch=batches_per_epoch, seed=own,
                num_replicas=num_replicas, rank=rank,
            )
            for length, own in zip((length_a, length_b), seeds, strict=True)
        ]  # fmt: skip
        super().__init__(self.streams[0].dataset, num_replicas=num_replicas, rank=rank, shuffle=True, seed=seed)
        self.num_samples, self.total_size = self.streams[0].num_samples, self.streams[0].total_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the piece of the streams."""
        super().set_epoch(epoch)
        for stream in self.streams:
            stream.set_epoch(epoch)

    def __iter__(self) -> Iterator[PairDraw]:  # type: ignore[override]
        """This rank's pairs of the epoch."""
        for a, b in zip(*self.streams, strict=True):
            yield PairDraw(a.number, a.sample, b.sample)
