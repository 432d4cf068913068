"""What every DataModule of ours tells about itself, besides its loaders."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from lightning.pytorch import LightningDataModule

from seewhy.io.orientation import Display

__all__ = ["BaseDataModule"]


class BaseDataModule(LightningDataModule):
    """A LightningDataModule whose split and files can be recorded with a run.

    Batches are those of `seewhy.batch.Batch`; `data.predict_on` chooses what `predict` and `explain` work on.

    Attributes:
        first_epoch: epoch that training begins with, above 0 in a run that is continued. Training samplers must
            be set to it at once: workers fetch ahead before Lightning tells the sampler which epoch it is.
    """

    first_epoch: int = 0

    @property
    def is_phantom(self) -> bool:
        """Whether the data are synthetic; results, figures and the report then say so."""
        return False

    def display_of(self, patient: str) -> Display:
        """How pictures of a patient are turned upright; batches and files stay as they are stored."""
        return Display()

    @abstractmethod
    def split_record(self) -> dict[str, Any]:
        """Who trains, validates and tests, with a `hash` over it, as plain data for `split.json`."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash over the files that the data set consists of."""
