"""One pass over a volume and its labels, block by block: where the classes are, how bright it is, what is wrong."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.data.volumes.cases import VolumeCase
from seewhy.errors import SeewhyError
from seewhy.io.atomic import atomic_path
from seewhy.io.zarr.source import Box, VolumeSource

__all__ = ["Brightness", "Survey", "SurveyCache", "joined", "survey", "volume_files"]

KEPT = 20_000
"""Positions kept of each class; they are drawn evenly from all."""
SAMPLED = 200_000
"""Intensities kept of each channel for percentiles, drawn evenly from all."""
SIDE = 96
"""Voxels per side of a block, rounded up to whole chunks."""
VERSION = 1
"""Raised whenever a survey would find something else, so that old files are not taken for new ones."""


@dataclass
class Brightness:
    """Intensities of one channel, or of its foreground: exact moments and extremes, and a sample.

    Two of them are joined by the formulas of Chan (1983), so that neither order nor size of blocks matters.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0  # sum of squared differences from the mean
    low: float = math.inf
    high: float = -math.inf
    sample: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))

    @property
    def std(self) -> float:
        """Standard deviation, over all values (ddof 0)."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0

    def percentile(self, share: float) -> float:
        """A percentile of the sample, in 0 to 100."""
        return float(np.percentile(self.sample, share)) if self.sample.size else math.nan

    def joined(self, other: Brightness) -> Brightness:
        """Both together."""
        count = self.count + other.count
        if not count:
            return Brightness()
        shift = other.mean - self.mean
        return Brightness(
            count,
            self.mean + shift * other.count / count,
            self.squares + other.squares + shift**2 * self.count * other.count / count,
            min(self.low, other.low),
            max(self.high, other.high),
            np.concatenate([self.sample, other.sample]),
        )


@dataclass
class Survey:
    """What one pass over a case found.

    Attributes:
        counts: label → voxels that have it.
        positions: label above 0 → [n, 3] int32, places of such voxels in the volume.
        whole: brightness of each channel.
        foreground: of its voxels whose label is above 0 and not the one to ignore.
        problems: what is wrong with the values.
    """

    counts: dict[int, int] = field(default_factory=dict)
    positions: dict[int, NDArray[np.int32]] = field(default_factory=dict)
    whole: list[Brightness] = field(default_factory=list)
    foreground: list[Brightness] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def to_bytes(self) -> bytes:
        """As an `.npz` file without pickles."""
        arrays: dict[str, NDArray[Any]] = {f"at_{label}": places for label, places in self.positions.items()}
        facts: dict[str, Any] = {"counts": {str(key): value for key, value in self.counts.items()}}
        for name in ("whole", "foreground"):
            parts: list[Brightness] = getattr(self, name)
            arrays |= {f"{name}_{i}": one.sample for i, one in enumerate(parts)}
            facts[name] = [[one.count, one.mean, one.squares, one.low, one.high] for one in parts]
        buffer = io.BytesIO()
        np.savez_compressed(buffer, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), **arrays)  # type: ignore[arg-type]
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Survey:
        """Back from `to_bytes`."""
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        facts = json.loads(arrays.pop("facts").tobytes())

        def brightness(name: str) -> list[Brightness]:
            return [
                Brightness(int(count), mean, squares, low, high, arrays[f"{name}_{i}"])
                for i, (count, mean, squares, low, high) in enumerate(facts[name])
            ]

        return cls(
            counts={int(key): value for key, value in facts["counts"].items()},
            positions={int(name[3:]): places for name, places in arrays.items() if name.startswith("at_")},
            whole=brightness("whole"),
            foreground=brightness("foreground"),
        )


class SurveyCache:
    """Surveys kept on disk, found again by the files of a volume, its box and what the survey depends on.

    A survey with problems is not kept. Where the folder cannot be written, surveys are made anew in every run.

    Args:
        folder: where they are kept; None keeps none.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def __call__(self, case: VolumeCase, *, ignore: int | None) -> Survey:
        """The survey of a case, from the disk or made now."""
        if self.folder is None:
            return survey(case, ignore=ignore)
        facts = [VERSION, KEPT, SAMPLED, ignore, case.level, case.ends, volume_files(case, times=True)]
        name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
        path = self.folder / f"{case.id}_{name}.npz"
        if path.is_file():
            return Survey.from_bytes(path.read_bytes())
        found = survey(case, ignore=ignore)
        if not found.problems:
            try:
                with atomic_path(path) as temporary:
                    temporary.write_bytes(found.to_bytes())
            except OSError:
                self.folder = None
        return found


def volume_files(case: VolumeCase, *, times: bool = False) -> list[list[Any]]:
    """Names and sizes of a case's files, with their times where wanted; addresses stand for remote stores."""
    rows: list[list[Any]] = []
    for part, store in (("image", case.image), ("label", case.label)):
        if store is None:
            continue
        root = Path(store)
        if not root.exists():
            rows.append([part, store])
            continue
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if path.is_file():
                facts = path.stat()
                name = path.relative_to(root).as_posix() if root.is_dir() else ""
                rows.append([part, name, facts.st_size, *([facts.st_mtime_ns] if times else [])])
    return rows


def survey(case: VolumeCase, *, ignore: int | None = None) -> Survey:
    """Read every voxel of a case once.

    Args:
        case: which; memory stays at a few blocks whatever its size.
        ignore: label of voxels that say nothing, which are no foreground.
    """
    image, label = case.open()
    found = Survey()
    places: dict[int, _Reservoir] = {}
    whole = [_Tally(SAMPLED) for _ in range(case.channels)]
    inside = [_Tally(SAMPLED) for _ in range(case.channels)]
    rng = np.random.default_rng(0)
    wrong = 0
    for box in _blocks(case, image):
        try:
            values = image.read(box)
            mask = None if label is None else label.read(box)[0].astype(np.int64)
        except SeewhyError as error:
            found.problems.append(str(error))
            continue
        finite = np.isfinite(values).all(axis=0) if values.dtype.kind == "f" else None
        if finite is not None and not finite.all():
            wrong += int((~finite).sum())
            continue
        for channel, tally in enumerate(whole):
            tally.add(values[channel].reshape(-1), rng)
        if mask is not None:
            _note_labels(found, places, mask, box, rng)
            foreground = (mask > 0) if ignore is None else (mask > 0) & (mask != ignore)
            for channel, tally in enumerate(inside):
                tally.add(values[channel][foreground], rng)
    if wrong:
        found.problems.append(f"{wrong} voxels of {case.image} are no finite numbers; replace them")
    found.positions = {value: reservoir.rows.astype(np.int32) for value, reservoir in sorted(places.items())}
    found.whole, found.foreground = [one.total for one in whole], [one.total for one in inside]
    return found


def _note_labels(
    found: Survey, places: dict[int, _Reservoir], mask: NDArray[np.int64], box: Box, rng: np.random.Generator
) -> None:
    """Count the labels of a block and keep places of those above 0."""
    values, counts = np.unique(mask, return_counts=True)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        found.counts[value] = found.counts.get(value, 0) + count
        if value != 0:
            start = np.array([part.start for part in box])
            places.setdefault(value, _Reservoir(KEPT)).add(np.argwhere(mask == value) + start, rng)


class _Reservoir:
    """An even sample of all rows it was given: each gets a chance number, and those with the lowest stay."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.keys = np.empty(0)
        self.rows: NDArray[Any] = np.empty(0)

    def add(self, rows: NDArray[Any], rng: np.random.Generator) -> None:
        keys = rng.random(len(rows))
        if len(self.keys):
            keys, rows = np.concatenate([self.keys, keys]), np.concatenate([self.rows, rows])
        if len(keys) > self.size:
            kept = np.sort(np.argpartition(keys, self.size)[: self.size])
            keys, rows = keys[kept], rows[kept]
        self.keys, self.rows = keys, rows


class _Tally:
    """Brightness of values that come block by block."""

    def __init__(self, sampled: int) -> None:
        self._total, self._sample = Brightness(), _Reservoir(sampled)

    def add(self, values: NDArray[Any], rng: np.random.Generator) -> None:
        if not values.size:
            return
        exact = values.astype(np.float64)
        mean = float(exact.mean())
        own = Brightness(exact.size, mean, float(((exact - mean) ** 2).sum()), float(exact.min()), float(exact.max()))
        self._total = self._total.joined(own)
        self._sample.add(values.astype(np.float32), rng)

    @property
    def total(self) -> Brightness:
        self._total.sample = np.asarray(self._sample.rows, np.float32)
        return self._total


def _blocks(case: VolumeCase, source: VolumeSource) -> Iterator[Box]:
    """Blocks of whole chunks that together are the case's box."""
    sides = [max(chunk, math.ceil(SIDE / chunk) * chunk) for chunk in source.chunks]
    spans = [_spans(part, side) for part, side in zip(case.box, sides, strict=True)]
    for z in spans[0]:
        for y in spans[1]:
            for x in spans[2]:
                yield z, y, x


def _spans(part: slice, side: int) -> list[slice]:
    firsts: Iterable[int] = range(part.start // side * side, part.stop, side)
    return [slice(max(first, part.start), min(first + side, part.stop)) for first in firsts]


def joined(parts: Sequence[Brightness]) -> Brightness:
    """Brightness of several cases together."""
    total = Brightness()
    for part in parts:
        total = total.joined(part)
    return total
