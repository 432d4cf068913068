"""Survey a volume and its labels in one pass over its blocks: positions of classes, brightness, and problems."""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from seewhy.data.volumes.cases import VolumeCase
from seewhy.errors import DataError, SeewhyError
from seewhy.io.atomic import atomic_path
from seewhy.io.checks.labels import read_whole_labels
from seewhy.io.zarr.source import Box, VolumeSource

__all__ = [
    "Brightness",
    "Survey",
    "SurveyCache",
    "check_surveys",
    "list_volume_files",
    "merge_brightness",
    "survey_case",
]

KEPT = 20_000
"""Number of positions kept per class, an even sample."""
SAMPLED = 200_000
"""Number of intensities kept per channel for percentiles, an even sample."""
SIDE = 96
"""Voxels per side of a block, rounded up to whole chunks."""
VERSION = 1
"""Raised whenever the result of a survey changes, so that older files are not reused."""


@dataclass
class Brightness:
    """Intensities of one channel, or of its foreground: exact moments and extremes, and a sample.

    Two objects are merged by the formulas of Chan (1983), so that neither order nor size of blocks matters.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0  # sum of squared differences from the mean
    low: float = math.inf
    high: float = -math.inf
    sample: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))

    @property
    def std(self) -> float:
        """Standard deviation of all values (ddof 0)."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0

    def percentile(self, share: float) -> float:
        """Compute a percentile of the sample, in 0 to 100."""
        return float(np.percentile(self.sample, share)) if self.sample.size else math.nan

    def merge(self, other: Brightness) -> Brightness:
        """Merge both."""
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


def merge_brightness(parts: Sequence[Brightness]) -> Brightness:
    """Merge the brightness of several cases."""
    total = Brightness()
    for part in parts:
        total = total.merge(part)
    return total


@dataclass
class Survey:
    """Result of one pass over a case.

    Attributes:
        counts: label → number of voxels.
        positions: label above 0 → [n, 3] int32, positions of such voxels in the volume.
        whole: brightness of each channel.
        foreground: brightness of voxels whose label is above 0 and not the ignored one.
        problems: problems of the values.
    """

    counts: dict[int, int] = field(default_factory=dict)
    positions: dict[int, NDArray[np.int32]] = field(default_factory=dict)
    whole: list[Brightness] = field(default_factory=list)
    foreground: list[Brightness] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def to_bytes(self) -> bytes:
        """Encode the survey as an `.npz` file without pickles."""
        arrays: dict[str, NDArray[Any]] = {f"at_{label}": places for label, places in self.positions.items()}
        facts: dict[str, Any] = {"counts": {str(key): value for key, value in self.counts.items()}}
        for name, channels in (("whole", self.whole), ("foreground", self.foreground)):
            arrays |= {f"{name}_{i}": channel.sample for i, channel in enumerate(channels)}
            facts[name] = [[item.count, item.mean, item.squares, item.low, item.high] for item in channels]
        buffer = io.BytesIO()
        np.savez_compressed(buffer, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), **arrays)  # type: ignore[arg-type]
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Survey:
        """Decode the result of `to_bytes`."""
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        facts = json.loads(arrays.pop("facts").tobytes())

        def decode(name: str) -> list[Brightness]:
            return [
                Brightness(int(count), mean, squares, low, high, arrays[f"{name}_{i}"])
                for i, (count, mean, squares, low, high) in enumerate(facts[name])
            ]

        return cls(
            counts={int(key): value for key, value in facts["counts"].items()},
            positions={int(name[3:]): places for name, places in arrays.items() if name.startswith("at_")},
            whole=decode("whole"),
            foreground=decode("foreground"),
        )


DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    zipfile.BadZipFile,
    zlib.error,
)


class SurveyCache:
    """Cache of surveys on disk; the key is a hash of the volume's files, its box and the options of the survey.

    Surveys with problems are not stored. If the folder is not writable, every run makes its surveys again.

    Args:
        folder: folder of the cache; None stores nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def __call__(self, case: VolumeCase, *, ignore: int | None) -> Survey:
        """Return the survey of a case, from disk or newly made."""
        if self.folder is None:
            return survey_case(case, ignore=ignore)
        facts = [VERSION, KEPT, SAMPLED, ignore, case.level, case.ends, list_volume_files(case, times=True)]
        name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
        path = self.folder / f"{case.id}_{name}.npz"
        if path.is_file():
            try:
                return Survey.from_bytes(path.read_bytes())
            except DAMAGE:  # of the cache; the survey is made and written again
                pass
        survey = survey_case(case, ignore=ignore)
        if not survey.problems:
            try:
                with atomic_path(path) as temporary:
                    temporary.write_bytes(survey.to_bytes())
            except OSError:
                self.folder = None
        return survey


def check_surveys(
    surveys: Mapping[str, Survey],
    *,
    classes: Sequence[str],
    ignore: int | None,
    train: Sequence[str],
    labelled: bool,
    where: Path,
) -> None:
    """Check the surveys: unreadable volumes, NaN, unknown labels, missing labels, and training cases without any class.

    Args:
        surveys: case → survey.
        classes: names of the labels.
        ignore: the label to ignore.
        train: training cases; empty without training.
        labelled: whether labels are required.
        where: the data set, for the message.

    Raises:
        DataError: all problems of all cases.
    """
    problems = []
    for name, survey in surveys.items():
        problems += [f"{name}: {problem}" for problem in survey.problems]
        unknown = [label for label in sorted(survey.counts) if not 0 <= label < len(classes) and label != ignore]
        if unknown:
            listed = ", ".join(f"{label} ({survey.counts[label]} voxels)" for label in unknown[:5])
            problems.append(
                f"{name}: unknown labels {listed}; data.classes names {len(classes)} (0 to {len(classes) - 1}). "
                "Add them there, or set one of them as data.ignore_label"
            )
        if labelled and not survey.counts and not survey.problems:
            problems.append(f"{name}: no labels; set data.labels to the folder that contains them")
    counts = {
        label: sum(surveys[name].counts.get(label, 0) for name in train) for label in range(1, len(classes))
    }  # fmt: skip
    if train and not problems and not any(counts.values()):
        problems.append(
            f"none of the {len(train)} training cases has a voxel of {', '.join(classes[1:])}, so nothing can be "
            "learned; choose other training patients or boxes"
        )
    if problems:
        raise DataError(problems, where=str(where))
    for label, count in counts.items():
        if train and not count:
            rank_zero_warn(f"{where}: no training voxel is of class {classes[label]}; it will not be learned")


def list_volume_files(case: VolumeCase, *, times: bool = False) -> list[list[Any]]:
    """List names and sizes of a case's files, on request with their times; remote stores are listed by address."""
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


def survey_case(case: VolumeCase, *, ignore: int | None = None) -> Survey:
    """Survey a case by reading every voxel once; memory stays at a few blocks.

    Args:
        case: the case.
        ignore: label of voxels to ignore; they are not foreground.
    """
    image, label = case.open()
    survey = Survey()
    reservoirs: dict[int, _Reservoir] = {}
    whole = [_Tally(SAMPLED) for _ in range(case.channels)]
    inside = [_Tally(SAMPLED) for _ in range(case.channels)]
    rng = np.random.default_rng(0)
    wrong = 0
    for box in _list_blocks(case, image):
        try:
            values, mask = image.read(box), None if label is None else label.read(box)[0]
        except SeewhyError as error:
            survey.problems.append(str(error))
            continue
        try:
            mask = None if mask is None else read_whole_labels(mask, case.label).astype(np.int64)
        except SeewhyError as error:
            survey.problems.append(str(error))
            break  # one block is enough to refuse the file
        finite = np.isfinite(values).all(axis=0) if values.dtype.kind == "f" else None
        if finite is not None and not finite.all():
            wrong += int((~finite).sum())
            continue
        for channel, tally in enumerate(whole):
            tally.add(values[channel].reshape(-1), rng)
        if mask is not None:
            _count_labels(survey, reservoirs, mask, box, rng)
            foreground = (mask > 0) if ignore is None else (mask > 0) & (mask != ignore)
            for channel, tally in enumerate(inside):
                tally.add(values[channel][foreground], rng)
    if wrong:
        survey.problems.append(f"{wrong} voxels of {case.image} are NaN or infinite; replace them")
    survey.positions = {label: reservoir.rows.astype(np.int32) for label, reservoir in sorted(reservoirs.items())}
    survey.whole, survey.foreground = [tally.total for tally in whole], [tally.total for tally in inside]
    return survey


def _count_labels(
    survey: Survey, reservoirs: dict[int, _Reservoir], mask: NDArray[np.int64], box: Box, rng: np.random.Generator
) -> None:
    """Count the labels of a block and sample positions of labels above 0."""
    values, counts = np.unique(mask, return_counts=True)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        survey.counts[value] = survey.counts.get(value, 0) + count
        if value != 0:
            start = np.array([part.start for part in box])
            reservoirs.setdefault(value, _Reservoir(KEPT)).add(np.argwhere(mask == value) + start, rng)


class _Reservoir:
    """Even sample of all rows added: every row gets a random number, and the rows with the lowest numbers are kept."""

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
    """Brightness of values that are added block by block."""

    def __init__(self, sampled: int) -> None:
        self._total, self._sample = Brightness(), _Reservoir(sampled)

    def add(self, values: NDArray[Any], rng: np.random.Generator) -> None:
        if not values.size:
            return
        exact = values.astype(np.float64)
        mean = float(exact.mean())
        squares = float(((exact - mean) ** 2).sum())
        block = Brightness(exact.size, mean, squares, float(exact.min()), float(exact.max()))
        self._total = self._total.merge(block)
        self._sample.add(values.astype(np.float32), rng)

    @property
    def total(self) -> Brightness:
        self._total.sample = np.asarray(self._sample.rows, np.float32)
        return self._total


def _list_blocks(case: VolumeCase, source: VolumeSource) -> Iterator[Box]:
    """Yield blocks of whole chunks that together cover the case's box."""
    sides = [max(chunk, math.ceil(SIDE / chunk) * chunk) for chunk in source.chunks]
    spans = [_cut_spans(part, side) for part, side in zip(case.box, sides, strict=True)]
    for z in spans[0]:
        for y in spans[1]:
            for x in spans[2]:
                yield z, y, x


def _cut_spans(part: slice, side: int) -> list[slice]:
    starts = range(part.start // side * side, part.stop, side)
    return [slice(max(start, part.start), min(start + side, part.stop)) for start in starts]
