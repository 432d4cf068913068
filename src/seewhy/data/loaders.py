"""The order of training slices and evaluated patients, as a function of seed, epoch and rank alone.

What every DataLoader of ours is given besides its data set.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from lightning.pytorch import Trainer
from torch.utils.data import Dataset, DistributedSampler

__all__ = ["Draw", "EpochSampler", "PatientSampler", "ranks_of", "worker_options"]


def ranks_of(trainer: Trainer | None) -> dict[str, int]:
    """Number of ranks and this rank, as samplers take them; one rank without a trainer."""
    if trainer is None:
        return {"num_replicas": 1, "rank": 0}
    return {"num_replicas": trainer.world_size, "rank": trainer.global_rank}


def worker_options(*, num_workers: int, pin_memory: bool) -> dict[str, Any]:
    """Options of a DataLoader for its processes, which live as long as it does."""
    return {"num_workers": num_workers, "persistent_workers": num_workers > 0, "pin_memory": pin_memory}


class Draw(NamedTuple):
    """One look at a training sample.

    Attributes:
        number: how many draws of the whole run came before it, on all ranks; seeds its augmentation.
        sample: its place in the data set.
    """

    number: int
    sample: int


class _Sized(Dataset[int]):
    """What `DistributedSampler` wants to know of a data set: its length."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length


class EpochSampler(DistributedSampler[int]):
    """An endless stream of permutations of the data set, cut into epochs of whole batches.

    The stream is pass after pass, each pass a permutation of its own; an epoch takes the next
    `batches_per_epoch × batch_size × num_replicas` draws of it, so that nothing is dropped and an epoch may be
    shorter or longer than a pass. A batch over all ranks is a run of consecutive draws: with the same total
    batch size it holds the same samples on any number of ranks. A run that resumes at epoch e continues the
    stream as if it had not stopped.

    It is a `DistributedSampler` so that Lightning leaves it alone and calls `set_epoch`.

    Args:
        length: number of samples.
        batch_size: per rank.
        batches_per_epoch: None means one pass, rounded down to whole batches (1 at least).
        seed: of the order.
        num_replicas: number of ranks.
        rank: this rank.
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
        """This rank's draws of the epoch told by `set_epoch`."""
        first = self.epoch * self.total_size + self.rank
        order, current = np.empty(0, np.int64), -1
        for number in range(first, first + self.total_size, self.num_replicas):
            turn, place = divmod(number, self.length)
            if turn != current:
                order, current = self._permutation(turn), turn
            yield Draw(number, int(order[place]))

    def _permutation(self, turn: int) -> np.ndarray:
        return np.random.default_rng([self.seed, turn]).permutation(self.length)


class PatientSampler(DistributedSampler[int]):
    """Deals whole patients to the ranks in turn.

    Args:
        length: number of patients.
        pad: give every rank the same number of patients by repeating the first ones, as loops with
            collectives in every step need (validation); scores must drop repeated ids. Without it every
            patient is dealt exactly once (test, predict).
        num_replicas: number of ranks.
        rank: this rank.
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
