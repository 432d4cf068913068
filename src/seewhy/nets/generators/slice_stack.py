"""Neighbouring slices as channels (2.5D): the one order of channels, and the ways into it and out of it.

A stack of S neighbouring slices of M modalities has S * M channels, slice by slice: channel s * M + m is modality m
of slice s, slices ascending, modalities in the order of `seewhy.batch.MODALITIES`. With S = 3 and M = 4, channels 4
to 7 are the centre slice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seewhy.errors import ConfigError

__all__ = ["centre_slice", "cut_windows", "repeat_slice", "stack_slices", "stack_volume"]


def stack_volume(volume: Tensor, *, slices: int = 3) -> Tensor:
    """Each slice with its neighbours, as channels.

    Args:
        volume: [M, D, H, W].
        slices: S, odd; beyond the ends, the first and the last slice are repeated.

    Returns:
        [D, S * M, H, W].
    """
    return cut_windows(volume.transpose(0, 1).flatten(0, 1)[None], modalities=len(volume), slices=slices, edges=True)


def centre_slice(stack: Tensor, modalities: int) -> Tensor:
    """The slice in the middle.

    Args:
        stack: [B, S * M, H, W], S odd.
        modalities: M.

    Returns:
        [B, M, H, W], a view.
    """
    first = _slices(stack, modalities) // 2 * modalities
    return stack[:, first : first + modalities]


def cut_windows(stack: Tensor, *, modalities: int, slices: int = 3, edges: bool = False) -> Tensor:
    """All stacks of fewer slices within a stack, so that a generator makes several neighbouring slices.

    `stacked` of what is made of them is a stack again, for the generator of the other direction: from 5 slices come
    3 windows of 3, of them 3 fakes, and of those the centre slice of a closed cycle.

    Args:
        stack: [B, N * M, H, W].
        modalities: M.
        slices: S ≤ N, odd.
        edges: also the windows centred at the outer slices, of which these are repeated.

    Returns:
        [B * K, S * M, H, W], windows of a sample one after another; K is N with `edges`, else N - S + 1.
    """
    count, half = _slices(stack, modalities, odd=False), slices // 2
    if slices % 2 == 0 or (not edges and count < slices):
        raise ConfigError(f"{count} slices hold no window of {slices}; expected an odd number, at most {count}")
    own = stack.unflatten(1, (count, modalities))
    if edges and half:
        own = torch.cat([own[:, :1]] * half + [own] + [own[:, -1:]] * half, dim=1)
    # Cut by strides: numbers of slices would be sent to a GPU in every step.
    return own.unfold(1, slices, 1).movedim(-1, 2).flatten(0, 1).flatten(1, 2).contiguous()


def stack_slices(images: Tensor, count: int) -> Tensor:
    """Neighbouring slices that lie one after another in the batch, as channels.

    Args:
        images: [B * K, M, H, W], the slices of a sample one after another.
        count: K.

    Returns:
        [B, K * M, H, W].
    """
    return images.unflatten(0, (-1, count)).flatten(1, 2)


def repeat_slice(image: Tensor, slices: int = 3, *, legacy_layout: bool = False) -> Tensor:
    """One slice as if its neighbours were the same.

    Args:
        image: [B, M, H, W].
        slices: S.
        legacy_layout: modality by modality instead, channel m * S + s: the order in which the published training
            handed fakes back, and which imported weights know from their cycles. It is not the order of real stacks.

    Returns:
        [B, S * M, H, W].
    """
    return image.repeat_interleave(slices, dim=1) if legacy_layout else image.repeat(1, slices, 1, 1)


def _slices(stack: Tensor, modalities: int, *, odd: bool = True) -> int:
    count, rest = divmod(stack.shape[1], modalities)
    if rest or not count or (odd and count % 2 == 0):
        wanted = "an odd multiple" if odd else "a multiple"
        raise ConfigError(f"a stack of {stack.shape[1]} channels; expected {wanted} of the {modalities} modalities")
    return count
