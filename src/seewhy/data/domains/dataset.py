"""Datasets of two domains: random pairs of stacks for training, whole subjects for evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, DistributedSampler, default_collate

from seewhy.batch import STACK_SLICES, Batch, Domain
from seewhy.data.domains.stacks import StackReader, Window, make_overlapping_stacks
from seewhy.data.domains.store import PreparedSubject
from seewhy.data.loaders import EpochSampler

__all__ = [
    "Center",
    "PairDataset",
    "PairDraw",
    "PairSampler",
    "SubjectDataset",
    "collate_pairs",
    "list_centers",
    "make_sample_id",
]


class PairDraw(NamedTuple):
    """One draw of a pair.

    Attributes:
        number: position in the sequence of all draws of the run, on all ranks; seeds the draw's random numbers.
        a: index of the slice in domain a.
        b: index of the slice in domain b.
    """

    number: int
    a: int
    b: int


class PairSampler(DistributedSampler[int]):
    """Two endless streams of permutations, one per domain, read in parallel.

    Each domain is traversed again and again, each time in a new order, so that every slice is seen equally often and
    has another partner in every pass. An epoch is a piece of both streams, as in `EpochSampler`: nothing is dropped,
    the total batch is the same on any number of ranks, and a run that resumes at epoch e gets the pairs of an
    uninterrupted run.

    Args:
        length_a: number of samples of domain a.
        length_b: number of samples of domain b.
        batch_size: batch size per rank.
        batches_per_epoch: None means one pass over the larger domain, rounded down to whole batches (1 at least).
        seed: seed of both orders.
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
        # Different seeds: domains of equal length would otherwise form the same pairs in every epoch.
        seeds = [int(word) for word in np.random.SeedSequence(seed).generate_state(2)]
        self.streams = [
            EpochSampler(
                length, batch_size=batch_size, batches_per_epoch=batches_per_epoch, seed=stream_seed,
                num_replicas=num_replicas, rank=rank,
            )
            for length, stream_seed in zip((length_a, length_b), seeds, strict=True)
        ]  # fmt: skip
        super().__init__(self.streams[0].dataset, num_replicas=num_replicas, rank=rank, shuffle=True, seed=seed)
        self.num_samples, self.total_size = self.streams[0].num_samples, self.streams[0].total_size

    def set_epoch(self, epoch: int) -> None:
        """Select the piece of the streams."""
        super().set_epoch(epoch)
        for stream in self.streams:
            stream.set_epoch(epoch)

    def __iter__(self) -> Iterator[PairDraw]:  # type: ignore[override]
        """Yield this rank's pairs of the epoch."""
        for a, b in zip(*self.streams, strict=True):
            yield PairDraw(a.number, a.sample, b.sample)


class Center(NamedTuple):
    """The centre slice of a training stack.

    Attributes:
        subject: the subject.
        number: slice number, as in the source.
    """

    subject: PreparedSubject
    number: int


def make_sample_id(subject: PreparedSubject, number: int) -> str:
    """Make an id that is unique over both domains and safe as a file name, e.g. `a_BraTS2021-00006_077`."""
    return f"{subject.domain}_{subject.id}_{number:03d}"


def list_centers(subject: PreparedSubject, *, min_content: float) -> list[Center]:
    """List the slices with enough tissue for training, in order.

    Args:
        subject: the subject.
        min_content: smallest amount of tissue, as a share of that in the subject's fullest slice.
    """
    content = subject.content
    least = max(1.0, min_content * max(content))
    first = subject.box[0][0]
    return [Center(subject, first + offset) for offset, count in enumerate(content) if count >= least]


class PairDataset(Dataset[dict[str, Any]]):
    """Random pairs of stacks, one of each domain.

    Args:
        a: centre slices of domain a.
        b: centre slices of domain b.
        reader: reads and normalises slices.
        slices: slices per stack, an odd number.
        crop_size: side of the training square around a random voxel of tissue; None takes the whole grid.
        seed: seed of the squares.
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
        """Return both stacks of a draw; their squares depend on (seed, number of the draw, domain) alone.

        A plain index, as from the sampler that Lightning inserts for `overfit_batches`, is used as number of the draw.
        """
        draw = draw if isinstance(draw, PairDraw) else PairDraw(draw, draw % len(self.a), draw % len(self.b))
        pair = (self.a[draw.a], self.b[draw.b])
        return {
            name: self._read_stack(center, np.random.default_rng([self.seed, draw.number, index]))
            for index, (name, center) in enumerate(zip("ab", pair, strict=True))
        }

    def _read_stack(self, center: Center, rng: np.random.Generator) -> dict[str, Any]:
        subject, number = center
        placement = self.reader.find_placement(subject)
        first, last = number - self.slices // 2, number + self.slices // 2 + 1
        window = None
        if self.crop_size is not None:
            center_body = self.reader.read_body(subject, placement, number, number + 1)[0]
            window = _draw_window(center_body, self.crop_size, rng)
        body = self.reader.read_body(subject, placement, first, last, window=window)
        image = self.reader.read_planes(subject, placement, first, last, body=body, window=window)
        return {
            "image": torch.from_numpy(image).flatten(0, 1),
            "body": torch.from_numpy(body),
            "id": make_sample_id(subject, number),
            "patient": subject.patient,
            "index": number,
        }


class SubjectDataset(Dataset[Batch]):
    """Whole subjects: all slices with tissue, in order, each with its neighbours.

    Args:
        subjects: one batch each.
        reader: reads and normalises slices.
        counterparts: (domain, id) → the same subject as scanned by the other domain's scanner.
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
        """Return the batch of one subject, see `seewhy.batch.Batch`."""
        subject = self.subjects[index]
        placement = self.reader.find_placement(subject)
        first, last = subject.box[0]
        around = STACK_SLICES // 2
        planes = self.reader.read_planes(subject, placement, first - around, last + around)
        body = self.reader.read_body(subject, placement, first, last)
        count = last - first
        intensity = torch.from_numpy(self.reader.measure_intensity(subject))
        batch: Batch = {
            "image": make_overlapping_stacks(torch.from_numpy(planes), slices=STACK_SLICES),
            "body": torch.from_numpy(body),
            "id": [make_sample_id(subject, number) for number in range(first, last)],
            "patient": [subject.patient] * count,
            "index": list(range(first, last)),
            "source": [placement.source] * count,
            "files": [subject.files] * count,
            "domain": [subject.domain] * count,
            "placement": [placement] * count,
            "spacing": torch.tensor([subject.spacing] * count, dtype=torch.float32),
            "intensity": intensity.repeat(count, 1, 1),  # not expanded: such memory cannot be page-locked
        }
        mask = self.reader.read_mask(subject, placement, first, last)
        if mask is not None:
            batch["mask"] = torch.from_numpy(mask)
        other = self.counterparts.get((subject.domain, subject.id))
        if other is not None:
            # On the subject's grid and inside its body, but normalised by the counterpart's tissue.
            batch["counterpart"] = torch.from_numpy(
                self.reader.read_planes(other, placement, *subject.box[0], body=body)
            )
        return batch


def collate_pairs(items: Sequence[dict[str, Any]]) -> Batch:
    """Collate training pairs into one batch."""
    return {"a": _collate([item["a"] for item in items]), "b": _collate([item["b"] for item in items])}


def _collate(stacks: Sequence[dict[str, Any]]) -> Domain:
    # In a worker, `default_collate` writes to the memory that it shares with the main process: one copy less.
    return {
        "image": default_collate([stack["image"] for stack in stacks]),
        "body": default_collate([stack["body"] for stack in stacks]),
        "id": [stack["id"] for stack in stacks],
        "patient": [stack["patient"] for stack in stacks],
        "index": [stack["index"] for stack in stacks],
    }


def _draw_window(body: np.ndarray, side: int, rng: np.random.Generator) -> Window:
    """Draw a square around a random voxel of tissue [H, W], inside the grid if it fits."""
    voxels = np.flatnonzero(body)
    middle = divmod(int(voxels[int(rng.integers(len(voxels)))]), body.shape[1])
    ends = [length - side for length in body.shape]
    row, column = (
        min(max(start - side // 2, min(end, 0)), max(end, 0)) for start, end in zip(middle, ends, strict=True)
    )
    return Window(row, column, side, side)
