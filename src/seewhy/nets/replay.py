"""Fakes of earlier steps, so that a discriminator does not forget them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seewhy.errors import CheckpointError, ConfigError

__all__ = ["ReplayBuffer"]


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
