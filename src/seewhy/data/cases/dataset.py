"""Dataset of cases: read, augment for training, and collate into batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from seewhy.batch import Batch
from seewhy.data.cases.case_list import Case
from seewhy.data.loaders import Draw
from seewhy.errors import DataError

__all__ = ["CaseDataset", "CaseReader", "Sample", "collate_cases"]

Sample = dict[str, Any]
"""One case without the batch axis: `image` as a tensor or a dict of tensors, and further keys of its kind of data."""


class CaseReader(Protocol):
    """Turns files into tensors; lives in worker processes, so it holds plain data only."""

    def read_case(self, case: Case, *, masks: bool) -> Sample:
        """Read one case.

        Args:
            case: the case to read.
            masks: whether to read the annotation; never in training.

        Returns:
            `image`, and the other keys that batches of this kind have: `mask`, `index`, `placement`, `spacing`.
            Tensors and dicts of tensors are stacked, everything else becomes a list.
        """
        ...

    def augment(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return a random variation of the sample for training; the same sample without augmentation."""
        ...

    def problems(self, cases: Sequence[Case]) -> list[str]:
        """List the problems of the files of these cases, from their headers; each with row and file."""
        ...

    def describe_files(self, cases: Sequence[Case]) -> dict[str, list[str]]:
        """Describe properties of the files that say nothing of the patient: property → its value in each case."""
        ...


class CaseDataset(Dataset[Sample]):
    """Cases as samples.

    Args:
        cases: in the order of the samples.
        reader: of their files.
        seed: of the augmentation in training; None for evaluation, which augments nothing and has masks.
    """

    def __init__(self, cases: Sequence[Case], reader: CaseReader, *, seed: int | None = None) -> None:
        self.cases = list(cases)
        self.reader = reader
        self.seed = seed

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, draw: Draw | int) -> Sample:
        """The case of a draw, augmented as a function of (seed, number of the draw), in any worker.

        A plain index, as from samplers of evaluation and of `overfit_batches`, also is the number.
        """
        draw = draw if isinstance(draw, Draw) else Draw(draw, draw)
        case = self.cases[draw.sample]
        sample = self.reader.read_case(case, masks=self.seed is None)
        if self.seed is not None:
            sample = self.reader.augment(sample, np.random.default_rng([self.seed, draw.number]))
        sample_info = {"id": case.id, "patient": case.patient, "source": case.source}
        if case.label is not None:
            sample_info["label"] = torch.tensor(case.label)  # type: ignore[assignment]
        return {**sample_info, **sample}


def collate_cases(samples: Sequence[Sample]) -> Batch:
    """Put samples into one batch.

    Args:
        samples: with the same keys.

    Raises:
        DataError: images of different sizes.
    """
    return {key: _combine([sample[key] for sample in samples], key, samples) for key in samples[0]}  # type: ignore[return-value]


def _combine(values: list[Any], key: str, samples: Sequence[Sample]) -> Any:
    """Combine values into a stack of tensors, a dict of such stacks, or a list."""
    if isinstance(values[0], dict):
        return {name: _combine([value[name] for value in values], f"{key} {name}", samples) for name in values[0]}
    if not isinstance(values[0], Tensor):
        return values
    if len({value.shape for value in values}) > 1:
        sizes = ", ".join(
            f"{sample['id']} {'x'.join(map(str, value.shape[1:]))}"
            for sample, value in zip(samples, values, strict=True)
        )
        raise DataError(f"{key}: different sizes cannot form a batch ({sizes}); set the size to resize to in data")
    return torch.stack(values)
