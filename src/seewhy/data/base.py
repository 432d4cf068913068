"""What every DataModule of ours tells about itself, besides its loaders."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from lightning.pytorch import LightningDataModule

from seewhy.io.geometry import Display

__all__ = ["BaseDataModule"]


class BaseDataModule(LightningDataModule):
    """A LightningDataModule whose split and files can be recorded with a run.

    Batches are those of `seewhy.batch.Batch`; `data.predict_on` chooses what `predict` and `explain` work on.

    Attributes:
        first_epoch: epoch that training begins with, above 0 in a run that is continued. Training samplers must
            be set to it at once: workers fetch ahead before Lightning tells the sampler which epoch it is.
        only: ids that `predict` is narrowed to, so that nothing else is read; None is all of `predict_on`.
        predict_on: the part that `predict` works on: `test`, `val`, `train` or `all`.
    """

    first_epoch: int = 0
    only: Collection[str] | None = None
    predict_on: str = "test"

    @property
    def is_phantom(self) -> bool:
        """Whether the data are synthetic; results, figures and the report then say so."""
        return False

    def display_of(self, patient: str) -> Display:
        """How pictures of a patient are turned upright; batches and files stay as they are stored."""
        return Display()

    def tissue_shares(self, part: str) -> dict[str, float]:
        """Sample → its tissue as a share of that in the subject's fullest slice; empty where that is not known."""
        return {}

    def adopt(self, hyperparameters: Mapping[str, Any]) -> None:
        """Take what a trained model's checkpoint knows of its data in place of what would be measured in these."""
        return

    @abstractmethod
    def sample_ids(self, part: str) -> list[str]:
        """Ids of the samples of `train`, `val`, `test`, `all`, or `predict` (those of `data.predict_on`), in order."""

    @abstractmethod
    def loader_of(self, ids: Collection[str], part: str) -> Iterable[Any]:
        """This process's evaluation batches of the samples of a part that have these ids.

        Where batches are whole patients, those of every patient with such a sample.
        """

    @abstractmethod
    def split_record(self) -> dict[str, Any]:
        """Who trains, validates and tests, with a `hash` over it, as plain data for `split.json`."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash over the files that the data set consists of."""
