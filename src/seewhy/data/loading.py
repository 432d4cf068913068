"""What every DataLoader of ours is given besides its data set."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer

__all__ = ["ranks_of", "worker_options"]


def ranks_of(trainer: Trainer | None) -> dict[str, int]:
    """Number of ranks and this rank, as samplers take them; one rank without a trainer."""
    if trainer is None:
        return {"num_replicas": 1, "rank": 0}
    return {"num_replicas": trainer.world_size, "rank": trainer.global_rank}


def worker_options(*, num_workers: int, pin_memory: bool) -> dict[str, Any]:
    """Options of a DataLoader for its processes, which live as long as it does."""
    return {"num_workers": num_workers, "persistent_workers": num_workers > 0, "pin_memory": pin_memory}
