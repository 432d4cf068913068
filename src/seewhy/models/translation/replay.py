"""Fakes of earlier steps, so that a discriminator does not forget them.

Histories of fakes of several domains, through checkpoints and over several processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from seewhy.errors import CheckpointError, ConfigError

__all__ = ["ReplayBuffer", "Replays"]


class ReplayBuffer:
    """A history of fakes (Shrivastava 2017, section 2.3; as CycleGAN uses it, Zhu 2017, section 4).

    Until it is full, each image is kept and given back. Then each is given back as it is with probability 1/2, or
    takes the place of a kept one, which is given back instead.

    It draws from a generator of its own on the CPU, so that neither a device is waited for nor other draws change,
    and its state goes on exactly where it was. It is no module: its images are neither averaged nor broadcast.

    Args:
        capacity: images kept, 50 as published; 0 gives every image back as it is.
        seed: of the draws; under DDP one per rank.
    """

    def __init__(self, capacity: int = 50, *, seed: int = 0) -> None:
        if capacity < 0:
            raise ConfigError(f"model.replay={capacity} must be 0 or more images")
        self.capacity = capacity
        self.images: list[Tensor] = []
        self._random = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self.images)

    def __call__(self, batch: Tensor) -> Tensor:
        """Fakes to judge, [B, C, H, W] without a graph, for new ones of that shape, one after another."""
        return torch.stack([self._exchange(image) for image in batch.detach()]) if self.capacity else batch.detach()

    def state_dict(self) -> dict[str, Any]:
        """Kept images on the CPU and the state of the draws: tensors and numbers."""
        images = torch.stack([image.cpu() for image in self.images]) if self.images else torch.empty(0)
        return {"capacity": self.capacity, "images": images, "random": self._random.get_state()}

    def load_state_dict(self, state: dict[str, Any], *, device: torch.device | str | None = None) -> None:
        """Go on as after `state_dict`.

        Args:
            state: of a buffer of the same capacity.
            device: where images are kept from now on; None is the CPU, until they are exchanged.

        Raises:
            CheckpointError: the state of a buffer of another capacity.
        """
        if state["capacity"] != self.capacity:
            raise CheckpointError(
                f"the checkpoint's replay buffer holds {state['capacity']} images, model.replay={self.capacity}; "
                "go on with the value it was trained with"
            )
        self.images = [image.clone() for image in state["images"].to(device or "cpu")]
        self._random.set_state(state["random"].cpu())

    def _exchange(self, image: Tensor) -> Tensor:
        if len(self.images) < self.capacity:
            self.images.append(image.clone())
            return image
        if torch.rand((), generator=self._random) < 0.5:
            return image
        number = int(torch.randint(self.capacity, (), generator=self._random))
        kept = self.images[number].to(image)
        self.images[number] = image.clone()
        return kept


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
