"""Datasets of two domains: chance pairs of stacks to train on, one whole subject to evaluate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from seewhy.batch import STACK_SLICES, Batch, Domain
from seewhy.data.domains.sampler import PairDraw
from seewhy.data.domains.stacks import OUTSIDE, StackReader, overlapping_stacks
from seewhy.data.domains.store import PreparedSubject
from seewhy.io.placement import Placement

__all__ = ["Center", "PairDataset", "SubjectDataset", "centers", "collate_pairs", "sample_id"]


class Center(NamedTuple):
    """The centre slice of a training stack.

    Attributes:
        subject: whose.
        number: of the slice, as in the source.
    """

    subject: PreparedSubject
    number: int


def sample_id(subject: PreparedSubject, number: int) -> str:
    """Unique over both domains and safe as a file name, e.g. `a_BraTS2021-00006_077`."""
    return f"{subject.domain}_{subject.id}_{number:03d}"


def centers(subject: PreparedSubject, *, min_content: float) -> list[Center]:
    """Slices that show enough of the head to learn from, in order.

    Args:
        subject: whose.
        min_content: least tissue, as a share of that in the subject's fullest slice.
    """
    content = subject.content
    least = max(1.0, min_content * max(content))
    first = subject.box[0][0]
    return [Center(subject, first + place) for place, count in enumerate(content) if count >= least]


class PairDataset(Dataset[dict[str, Any]]):
    """Chance pairs of stacks, one of each domain.

    Args:
        a: centre slices of domain a.
        b: of domain b.
        reader: cuts and normalises.
        slices: per stack, an odd number.
        crop_size: side of the training square around a random voxel of tissue; None takes the whole grid.
        seed: of the squares.
    """

    def __init__(
        self,
        a: Sequence[Center],
        b: Sequence[Center],
        reader: StackReader,
        *,
        slices: int = STACK_SLICES,
        crop_size: int | None = None,
        seed: int = 0,
    ) -> None:
        self.a, self.b = list(a), list(b)
        self.reader = reader
        self.slices = slices
        self.crop_size = crop_size
        self.seed = seed

    def __len__(self) -> int:
        return max(len(self.a), len(self.b))

    def __getitem__(self, draw: PairDraw | int) -> dict[str, Any]:
        """Both stacks of a draw, cut as (seed, number of the draw, domain) say, in whichever worker.

        A plain index, as the sampler that Lightning puts in for `overfit_batches` gives, is its own number.
        """
        draw = draw if isinstance(draw, PairDraw) else PairDraw(draw, draw % len(self.a), draw % len(self.b))
        pair = (self.a[draw.a], self.b[draw.b])
        return {
            name: self._stack(center, np.random.default_rng([self.seed, draw.number, place]))
            for place, (name, center) in enumerate(zip("ab", pair, strict=True))
        }

    def _stack(self, center: Center, rng: np.random.Generator) -> dict[str, Any]:
        subject, number = center
        placement = self.reader.placement(subject)
        first, last = number - self.slices // 2, number + self.slices // 2 + 1
        body = self.reader.body(subject, placement, first, last)
        image = self.reader.planes(subject, placement, first, last, body=body)
        if self.crop_size is not None:
            window = _window(body[self.slices // 2], self.crop_size, rng)
            image, body = _cut(image, window, self.crop_size, OUTSIDE), _cut(body, window, self.crop_size, False)
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image)).flatten(0, 1),
            "body": torch.from_numpy(np.ascontiguousarray(body)),
            "id": sample_id(subject, number),
            "patient": subject.patient,
            "index": number,
        }


class SubjectDataset(Dataset[Batch]):
    """Whole subjects: all slices with tissue, in order, each with its neighbours.

    Args:
        subjects: one batch each.
        reader: cuts and normalises.
        counterparts: (domain, id) → the same subject as the other domain's scanner saw it.
    """

    def __init__(
        self,
        subjects: Sequence[PreparedSubject],
        reader: StackReader,
        *,
        counterparts: Mapping[tuple[str, str], PreparedSubject],
    ) -> None:
        self.subjects = list(subjects)
        self.reader = reader
        self.counterparts = counterparts

    def __len__(self) -> int:
        return len(self.subjects)

    def __getitem__(self, index: int) -> Batch:
        """The batch of one subject, see `seewhy.batch.Batch`."""
        subject = self.subjects[index]
        placement = self.reader.placement(subject)
        first, last = subject.box[0]
        around = STACK_SLICES // 2
        planes = self.reader.planes(subject, placement, first - around, last + around)
        body = self.reader.body(subject, placement, first, last)
        count = last - first
        intensity = torch.from_numpy(self.reader.intensity(subject))
        batch: Batch = {
            "image": overlapping_stacks(torch.from_numpy(planes), slices=STACK_SLICES),
            "body": torch.from_numpy(body),
            "id": [sample_id(subject, number) for number in range(first, last)],
            "patient": [subject.patient] * count,
            "index": list(range(first, last)),
            "source": [placement.source] * count,
            "files": [subject.files] * count,
            "domain": [subject.domain] * count,
            "placement": [placement] * count,
            "spacing": torch.tensor([subject.spacing] * count, dtype=torch.float32),
            "intensity": intensity.repeat(count, 1, 1),  # not expanded: such memory cannot be page-locked
        }
        mask = self.reader.mask(subject, placement, first, last)
        if mask is not None:
            batch["mask"] = torch.from_numpy(mask)
        other = self.counterparts.get((subject.domain, subject.id))
        if other is not None:
            batch["counterpart"] = self._counterpart(other, subject, placement, body)
        return batch

    def _counterpart(
        self, other: PreparedSubject, subject: PreparedSubject, placement: Placement, body: np.ndarray
    ) -> Tensor:
        """[S, M, H, W] of the other scanner on the subject's grid, normalised by the other scanner's own tissue."""
        return torch.from_numpy(self.reader.planes(other, placement, *subject.box[0], body=body))


def collate_pairs(items: Sequence[dict[str, Any]]) -> Batch:
    """Put training pairs into one batch."""
    return {"a": _together([item["a"] for item in items]), "b": _together([item["b"] for item in items])}


def _together(stacks: Sequence[dict[str, Any]]) -> Domain:
    return {
        "image": torch.stack([stack["image"] for stack in stacks]),
        "body": torch.stack([stack["body"] for stack in stacks]),
        "id": [stack["id"] for stack in stacks],
        "patient": [stack["patient"] for stack in stacks],
        "index": [stack["index"] for stack in stacks],
    }


def _window(body: np.ndarray, side: int, rng: np.random.Generator) -> tuple[int, int]:
    """First row and column of a square around a random voxel of tissue, within the grid where it fits."""
    rows, columns = np.nonzero(body)
    chosen = int(rng.integers(len(rows)))
    middle = (int(rows[chosen]), int(columns[chosen]))
    ends = [length - side for length in body.shape]
    first = [min(max(place - side // 2, min(end, 0)), max(end, 0)) for place, end in zip(middle, ends, strict=True)]
    return first[0], first[1]


def _cut(array: np.ndarray, first: tuple[int, int], side: int, fill: float) -> np.ndarray:
    """The square [..., side, side] that starts at a row and column; what lies beyond the grid is filled."""
    before = [max(-place, 0) for place in first]
    after = [max(place + side - length, 0) for place, length in zip(first, array.shape[-2:], strict=True)]
    kept = array[
        ...,
        max(first[0], 0) : first[0] + side,
        max(first[1], 0) : first[1] + side,
    ]
    margins = [(0, 0)] * (array.ndim - 2) + list(zip(before, after, strict=True))
    return np.pad(kept, margins, constant_values=fill) if any(map(any, margins)) else kept
