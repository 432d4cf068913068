"""Samplers: the order of training samples and of evaluated patients, a function of seed, epoch and rank alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from lightning.pytorch import Trainer
from torch.utils.data import Dataset, DistributedSampler

__all__ = ["Draw", "EpochSampler", "PatientSampler", "ranks_of"]


def ranks_of(trainer: Trainer | None) -> dict[str, int]:
    """Number of ranks and this rank, as keywords of samplers; one rank without a trainer."""
    if trainer is None:
        return {"num_replicas": 1, "rank": 0}
    return {"num_replicas": trainer.world_size, "rank": trainer.global_rank}


class Draw(NamedTuple):
    """One draw of a training sample.

    Attributes:
        number: number of draws before it in the whole run, on all ranks; seeds its augmentation.
        sample: its index in the data set.
    """

    number: int
    sample: int


class _Sized(Dataset[int]):
    """The length of a data set, which is all that `DistributedSampler` reads."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length


class EpochSampler(DistributedSampler[int]):
    """An endless stream of permutations of the data set, cut into epochs of whole batches.

    The stream is one pass after another, each with its permutation; an epoch takes the next
    `batches_per_epoch × batch_size × num_replicas` draws of it, so that nothing is dropped and an epoch may be
    shorter or longer than a pass. A batch over all ranks is a run of consecutive draws: with the same total
    batch size it holds the same samples on any number of ranks. A run that resumes at epoch e continues the
    stream as if it had not stopped.

    It is a `DistributedSampler` so that Lightning does not replace it and calls `set_epoch`.

    Args:
        length: number of samples.
        batch_size: per rank.
        batches_per_epoch: None means one pass, rounded down to whole batches (at least 1).
        seed: of the order.
        num_replicas: number of ranks.
        rank: this rank.

    Example:
        >>> sampler = EpochSampler(3, batch_size=1, batches_per_epoch=4, seed=0)
        >>> [draw.sample for draw in sampler]  # a permutation of 0, 1, 2, and the first of the next one
        [2, 0, 1, 2]
        >>> sampler.set_epoch(1)
        >>> [draw.sample for draw in sampler]
        [0, 1, 2, 1]
    """

    def __init__(
        self,
        length: int,
        *,
        batch_size: int,
        batches_per_epoch: int | None = None,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        super().__init__(_Sized(length), num_replicas=num_replicas, rank=rank, shuffle=True, seed=seed)
        self.length = length
        if batches_per_epoch is None:
            batches_per_epoch = max(1, length // (batch_size * num_replicas))
        self.num_samples = batches_per_epoch * batch_size
        self.total_size = self.num_samples * num_replicas

    def __iter__(self) -> Iterator[Draw]:  # type: ignore[override]
        """This rank's draws of the epoch that `set_epoch` chose."""
        first = self.epoch * self.total_size + self.rank
        order, current = np.empty(0, np.int64), -1
        for number in range(first, first + self.total_size, self.num_replicas):
            turn, place = divmod(number, self.length)
            if turn != current:
                order, current = np.random.default_rng([self.seed, turn]).permutation(self.length), turn
            yield Draw(number, int(order[place]))


class PatientSampler(DistributedSampler[int]):
    """Distributes whole patients to the ranks in turn.

    Args:
        length: number of patients.
        pad: give every rank the same number of patients by repeating the first ones, as loops with
            collectives in every step need (validation); scores must drop repeated ids. Without it every
            patient comes exactly once (test, predict).
        num_replicas: number of ranks.
        rank: this rank.

    Example:
        >>> [list(PatientSampler(5, pad=True, num_replicas=2, rank=rank)) for rank in (0, 1)]
        [[0, 2, 4], [1, 3, 0]]
    """

    def __init__(self, length: int, *, pad: bool = False, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(_Sized(length), num_replicas=num_replicas, rank=rank, shuffle=False)
        end = -(-length // num_replicas) * num_replicas if pad and length else length
        self.indices = [index % length for index in range(rank, end, num_replicas)]
        self.num_samples = len(self.indices)
        self.total_size = end

    def __iter__(self) -> Iterator[int]:
        """This rank's patients, the same in every epoch."""
        return iter(self.indices)
