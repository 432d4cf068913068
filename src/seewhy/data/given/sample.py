"""Samples of a network from elsewhere: batches of them and their hash."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seewhy.batch import Batch
from seewhy.errors import DataError

__all__ = [
    "IMAGE",
    "GivenSample",
    "batch_samples",
    "check_samples",
    "drop_channel",
    "hash_samples",
    "split_batch",
    "to_class",
]

IMAGE = "image"
"""Name of a single input."""


@dataclass(frozen=True, kw_only=True)
class GivenSample:
    """One sample.

    Attributes:
        id: unique, safe as a file name.
        images: input → [C, *spatial] float32; `image` for a single one.
        patient: patient of the sample; the id where unknown.
        label: class index, or None.
        masks: input → [*spatial] bool.
    """

    id: str
    images: dict[str, Tensor]
    patient: str
    label: int | None = None
    masks: dict[str, Tensor] = field(default_factory=dict)


def split_batch(batch: Batch) -> Iterator[GivenSample]:
    """Yield the samples of a batch, in the vocabulary of `seewhy.batch`.

    Raises:
        DataError: a label that is not a class index.
    """
    image, mask, label = batch["image"], batch.get("mask"), batch.get("label")
    images = {IMAGE: image} if isinstance(image, Tensor) else dict(image)
    masks: Mapping[str, Tensor] = {}
    if mask is not None:
        masks = {next(iter(images)): mask} if isinstance(mask, Tensor) else mask
    for row, name in enumerate(batch["id"]):
        yield GivenSample(
            id=name,
            images={key: one[row].detach().cpu().float() for key, one in images.items()},
            patient=str(batch["patient"][row]),
            label=None if label is None else to_class(label[row], name),
            masks={key: drop_channel(one[row].cpu(), images[key][row].ndim) > 0 for key, one in masks.items()},
        )


def batch_samples(samples: Sequence[GivenSample]) -> Batch:
    """Put samples into one batch.

    Raises:
        DataError: images of different sizes.
    """
    names = list(samples[0].images)
    for name in names:
        shapes = {tuple(sample.images[name].shape): sample.id for sample in samples}
        if len(shapes) > 1:
            listed = ", ".join(f"{key} {shape}" for shape, key in shapes.items())
            raise DataError(f"{name}: images of different sizes ({listed}); use --batch-size 1")
    images = {name: torch.stack([sample.images[name] for sample in samples]) for name in names}
    single = names == [IMAGE]
    batch: dict[str, Any] = {
        "image": images[IMAGE] if single else images,
        "id": [sample.id for sample in samples],
        "patient": [sample.patient for sample in samples],
    }
    if any(sample.label is not None for sample in samples):
        batch["label"] = torch.tensor([-1 if sample.label is None else sample.label for sample in samples])
    masked = list(dict.fromkeys(name for sample in samples for name in sample.masks))
    masks = {name: torch.stack([_get_mask(sample, name) for sample in samples]).to(torch.uint8) for name in masked}
    if masks:
        batch["mask"] = masks[IMAGE] if single else masks
    return batch  # type: ignore[return-value]


def hash_samples(samples: Sequence[GivenSample]) -> str:
    """Return the SHA-256 of ids, images, labels and masks."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(f"{sample.id} {sample.label}".encode())
        for name, values in (*sample.images.items(), *sample.masks.items()):
            digest.update(name.encode() + values.contiguous().numpy().tobytes())
    return digest.hexdigest()


def check_samples(samples: Sequence[GivenSample], source: str | Path) -> None:
    """Check that samples have names of their own and finite images.

    Args:
        samples: of a file, folder or loader.
        source: its name, for messages.

    Raises:
        DataError: no samples, or the first that is wrong of each kind.
    """
    twice = [name for name, number in Counter(sample.id for sample in samples).items() if number > 1]
    wrong = [
        f"{name} of {sample.id}" if name != IMAGE else sample.id
        for sample in samples
        for name, image in sample.images.items()
        if not bool(torch.isfinite(image).all())
    ]
    problems = ["no samples"] if not samples else []
    problems += [f"several samples have the id {twice[0]!r} (as a file name)"] if twice else []
    problems += [f"{len(wrong)} images with NaN or infinite values (first: {wrong[0]})"] if wrong else []
    if problems:
        raise DataError(f"{source}: {'; '.join(problems)}")


def to_class(value: Any, name: str) -> int | None:
    """Convert a label to a class index; None for a negative one, which means unknown.

    Raises:
        DataError: not a whole number.
    """
    try:
        number = float(value) if np.ndim(value) == 0 else float("nan")
    except (TypeError, ValueError):  # text
        number = float("nan")
    if number != number or number != int(number):
        raise DataError(f"label {value} of {name}; expected a class index")
    return int(number) if number >= 0 else None


def drop_channel(mask: Tensor, axes: int) -> Tensor:
    """Drop the only channel of a mask that has as many axes as its image."""
    return mask[0] if mask.ndim == axes and len(mask) == 1 else mask


def _get_mask(sample: GivenSample, name: str) -> Tensor:
    image = sample.images[name]
    return sample.masks.get(name, torch.zeros(image.shape[1:], dtype=torch.bool))
