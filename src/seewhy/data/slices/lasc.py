"""Slices of heart scans, named as the left-atrium (LASC) slice data sets are."""

from __future__ import annotations

from typing import ClassVar

from seewhy.data.slices.datamodule import SliceDataModule
from seewhy.data.slices.files import LASC, Naming

__all__ = ["LASCDataModule"]


class LASCDataModule(SliceDataModule):
    """Files `<name>_<label>.npy`; the label is 1 where the slice shows the left atrium.

    The format leaves open how `<name>` tells the patient. The rule here: when it ends in `_<number>`, that is
    the slice and the patient is what stands before; else all of `<name>` is the patient. Data sets that do it
    otherwise give `data.pattern`, or a `manifest.csv` with the columns `file` and `patient`.
    """

    naming: ClassVar[Naming] = LASC
