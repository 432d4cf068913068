"""Transforms of dicts: checks of files, slices of one size, labels of regions, and a table of probabilities."""

from __future__ import annotations

import csv
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.transforms import MapTransform
from nibabel.affines import voxel_sizes

from seewhy_run.arrays.resizing import fit_sides, margins, resize

__all__ = ["CheckSpacingd", "FitSlicesd", "RegionsToLabelsd", "WriteProbabilitiesd"]

SAME_SPACING = 0.1
"""Largest relative difference of voxel sizes that count as the same."""


class CheckSpacingd(MapTransform):
    """Refuses images whose voxels differ by more than 10 % from those of the training.

    Args:
        keys: of images [C, X, Y, Z] with an affine.
        spacing: millimetres along X, Y and Z; null for any.
    """

    def __init__(self, keys: Sequence[str], spacing: Sequence[float | None]) -> None:
        super().__init__(keys)
        self.spacing = tuple(spacing)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Check the images of a case."""
        for key in self.key_iterator(data):
            sizes = voxel_sizes(np.asarray(data[key].affine))
            for size, expected in zip(sizes, self.spacing, strict=True):
                if expected is not None and abs(size / expected - 1) > SAME_SPACING:
                    raise ValueError(
                        f"{data[key].meta.get('filename_or_obj')} has voxels of {np.round(sizes, 3).tolist()} mm, the "
                        f"network was trained at {list(self.spacing)}; resample the image"
                    )
        return dict(data)


class FitSlicesd(MapTransform):
    """Cuts, resizes and pads the slices of images [C, D, H, W].

    Args:
        keys: of the images.
        slices: the first and the one after the last; null keeps all.
        depth: number of slices to resize to; null keeps theirs.
        size: longer side, or rows and columns; null keeps theirs.
        pad: pixels added around every slice, of the value 0.
        codes: directions of the axes as stored (as nibabel writes them); others are refused. null: any.
    """

    def __init__(
        self,
        keys: Sequence[str],
        slices: Sequence[int] | None = None,
        depth: int | None = None,
        size: int | Sequence[int] | None = None,
        pad: int = 0,
        codes: str | None = None,
    ) -> None:
        super().__init__(keys)
        self.slices, self.depth, self.pad, self.codes = slices, depth, pad, codes
        self.size = size if size is None or isinstance(size, int) else (int(size[0]), int(size[1]))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Fit the images of a case."""
        result = dict(data)
        for key in self.key_iterator(data):
            image = data[key]
            codes = "".join(nibabel.aff2axcodes(np.asarray(image.affine)))
            if self.codes is not None and codes != self.codes:
                raise ValueError(
                    f"{image.meta.get('filename_or_obj')} is stored as {codes}, the training volumes as {self.codes}"
                )
            fitted = np.stack([self._fit(channel) for channel in image.as_tensor().numpy()])
            result[key] = image.new_tensor(fitted)
            result[key].copy_meta_from(image)
        return result

    def _fit(self, planes: Any) -> Any:
        depth, rows, columns = planes.shape
        start, stop = self.slices or (0, depth)
        if not 0 <= start < stop <= depth:
            raise ValueError(f"{depth} slices; the network needs {start} to {stop - 1}")
        size, sides = fit_sides(rows, columns, self.size)
        resized = resize(planes[start:stop], (self.depth or stop - start, *size))
        pad = [margins(side, length, self.pad) for side, length in zip(sides, size, strict=True)]
        return np.pad(resized, ((0, 0), *pad))


class RegionsToLabelsd(MapTransform):
    """Makes labels of probabilities of regions that may overlap; later regions overwrite earlier ones.

    Args:
        keys: of probabilities [K, *].
        order: label of each region.
        threshold: probability above which a voxel belongs to a region.
    """

    def __init__(self, keys: Sequence[str], order: Sequence[int], threshold: float = 0.5) -> None:
        super().__init__(keys)
        self.order, self.threshold = tuple(order), threshold

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the probabilities of a case by labels [1, *]."""
        result = dict(data)
        for key in self.key_iterator(data):
            labels = torch.zeros_like(data[key][:1])
            for region, label in zip(data[key], self.order, strict=True):
                labels[0][region > self.threshold] = label
            result[key] = labels
        return result


class WriteProbabilitiesd(MapTransform):
    """Appends a row per case to a CSV table: source, prediction and the calibrated probability of each class.

    Args:
        keys: of scores [K]; a single one is the logit of the second of two classes.
        classes: names.
        path: of the table; begun anew by every run.
        temperature: scores are divided by it before the softmax (Guo 2017).
    """

    def __init__(self, keys: Sequence[str], classes: Sequence[str], path: str, temperature: float = 1.0) -> None:
        super().__init__(keys)
        self.classes, self.path, self.temperature = tuple(classes), Path(path), temperature
        self._begun = False

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the row of a case."""
        for key in self.key_iterator(data):
            scores = data[key].as_tensor().float()
            scores = torch.cat([torch.zeros_like(scores), scores]) if len(scores) == 1 else scores
            probability = torch.softmax(scores / self.temperature, dim=0)
            if len(probability) != len(self.classes):
                raise ValueError(f"the network gives {len(probability)} classes, {len(self.classes)} are named")
            best = int(probability.argmax())
            row = {"source": data[key].meta.get("filename_or_obj", ""), "prediction": best}
            row["prediction_name"] = self.classes[best]
            row |= {f"probability_{n}": f"{float(p):.8g}" for n, p in zip(self.classes, probability, strict=True)}
            self._write(row)
        return dict(data)

    def _write(self, row: Mapping[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a" if self._begun else "w", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if not self._begun:
                writer.writeheader()
            writer.writerow(row)
        self._begun = True
