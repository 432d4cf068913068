"""Slices of brain tumour scans, named as the BraTS slice data sets are."""

from __future__ import annotations

from typing import ClassVar

from seewhy.data.slices.datamodule import SliceDataModule
from seewhy.data.slices.files import BRATS, Naming

__all__ = ["BraTSDataModule"]


class BraTSDataModule(SliceDataModule):
    """Files `BRATS_<id>_<slice>_<label>.npy`; the patient is `<id>`, the label 1 where the slice shows tumour.

    `<id>` may itself contain underscores: the last two fields are slice and label. `python -m seewhy prepare
    brats` makes such a folder of BraTS or Medical Segmentation Decathlon volumes.
    """

    naming: ClassVar[Naming] = BRATS
