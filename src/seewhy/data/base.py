"""Base class of all DataModules: shared options, loaders, and what a run records of its data."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Le
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader, Dataset, Sampler

from seewhy.data.case_files import CaseFiles, Reading
from seewhy.data.loaders import EpochSampler, PatientSampler, ranks_of
from seewhy.data.splits import PARTS, Split
from seewhy.errors import ConfigError
from seewhy.io.geometry import Display
from seewhy.option_types import BatchSize, Fraction, NonNegativeInt, PositiveInt, Seed
from seewhy.options import check_choice
from seewhy.wording import LESION, TargetWords

__all__ = ["BaseDataModule", "check_counts", "find_datamodule"]

MOST_WORKERS = 512
"""Processes that read; thousands, as a foreign run folder could ask for, would stop the machine."""


class BaseDataModule(LightningDataModule):
    """A LightningDataModule whose split and files can be recorded with a run.

    Batches are those of `seewhy.batch.Batch`. Training draws samples in the order of `EpochSampler`. Validation, test
    and prediction read items, each once: whole patients, subjects or cases. `data.predict_on` chooses the items that
    `predict` and `explain` work on.

    A subclass defines `split`, `items_of`, `ids_of`, `training_data`, `evaluation_data`, `collate`, `split_record` and
    `fingerprint`. Its constructor takes its options and passes all others on as `**shared`; its signature then lists
    both, so that a mistyped option is reported.

    Args:
        batch_size: training samples per step and device.
        batches_per_epoch: None means about one pass over the training samples.
        seed: of order and augmentation.
        fractions: shares of train, val and test patients.
        split_seed: of fractions and folds; apart from `seed`, so that repeated runs are tested on the same patients.
        train_patients: named training patients; None means all that are not named elsewhere.
        val_patients: named validation patients.
        test_patients: named test patients.
        fold: number of the fold to test; the next one chooses the checkpoint.
        num_folds: number of folds.
        split_file: `split.json` of an earlier run.
        num_workers: processes that read.
        pin_memory: None means yes where there is CUDA.
        predict_on: `test`, `val`, `train` or `all`.

    Attributes:
        eval_batch_size: items per batch of validation, test and prediction; None where an item is a batch.
        first_epoch: epoch that training begins with, above 0 in a run that is continued. Training samplers must
            be set to it at once: workers fetch ahead before Lightning tells the sampler the epoch.
        only: ids that `predict` is limited to, so that nothing else is read; None is all of `predict_on`.
        shared: batches that `predict` takes instead of all of `predict_on`: those that this process has claimed, of
            several processes that share the work.
        given: positional and keyword arguments of the constructor.

    Raises:
        ConfigError: options that do not exist or do not fit together.
    """

    eval_batch_size: int | None = None
    first_epoch: int = 0
    only: Collection[str] | None = None
    shared: Iterable[Any] | None = None
    given: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})

    def __new__(cls, *args: Any, **options: Any) -> BaseDataModule:
        """Keep the arguments of the constructor, with which `seewhy.save` describes the data of a run."""
        datamodule = super().__new__(cls)
        datamodule.given = args, options
        return datamodule

    def __init__(
        self,
        *,
        batch_size: BatchSize = 8,
        batches_per_epoch: PositiveInt | None = None,
        seed: Seed = 0,
        fractions: tuple[Fraction, Fraction, Fraction] = (0.6, 0.15, 0.25),
        split_seed: Seed = 0,
        train_patients: Sequence[str] | None = None,
        val_patients: Sequence[str] | None = None,
        test_patients: Sequence[str] | None = None,
        fold: NonNegativeInt | None = None,
        num_folds: Annotated[int, Ge(2)] | None = None,
        split_file: str | None = None,
        num_workers: Annotated[int, Ge(0), Le(MOST_WORKERS)] = 0,
        pin_memory: bool | None = None,
        predict_on: Literal["train", "val", "test", "all"] = "test",
    ) -> None:
        super().__init__()
        check_counts(batch_size=batch_size, batches_per_epoch=batches_per_epoch)
        check_choice(predict_on, (*PARTS, "all"), "data.predict_on")
        self.batch_size, self.batches_per_epoch, self.seed = batch_size, batches_per_epoch, seed
        self.num_workers, self.predict_on = num_workers, predict_on
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self._identity: dict[str, str] | None = None
        self.split_options: dict[str, Any] = {
            "fractions": fractions, "seed": split_seed, "train_patients": train_patients, "val_patients": val_patients,
            "test_patients": test_patients, "fold": fold, "num_folds": num_folds, "split_file": split_file,
        }  # fmt: skip

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Give the subclass a signature with the options of its parent in place of `**shared`."""
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            listed = list(inspect.signature(cls.__init__).parameters.values())[1:]
            options = {option.name: option for option in listed if option.kind is not option.VAR_KEYWORD}
            if len(options) < len(listed):
                options = {**inspect.signature(cls.__base__).parameters, **options}  # type: ignore[arg-type]
            cls.__signature__ = inspect.Signature(sorted(options.values(), key=lambda option: option.kind))  # type: ignore[attr-defined]

    # -- defined by subclasses ------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def split(self) -> Split:
        """Patients of train, val and test."""

    @abstractmethod
    def items_of(self, part: str) -> Sequence[Any]:
        """Items of `train`, `val`, `test` or `all`, in order; for `predict` those of `predict_on`."""

    @abstractmethod
    def ids_of(self, item: Any) -> list[str]:
        """Ids of the samples of an item."""

    @abstractmethod
    def training_data(self) -> Dataset[Any]:
        """Training samples, augmented; takes the draws of `training_sampler`."""

    @abstractmethod
    def evaluation_data(self, items: Sequence[Any]) -> Dataset[Any]:
        """Items as they are evaluated, with masks where there are any."""

    @staticmethod
    @abstractmethod
    def collate(samples: Sequence[Any], /) -> Any:
        """Put samples into one batch."""

    @abstractmethod
    def split_record(self) -> dict[str, Any]:
        """The split with its `hash`, as plain data for `split.json`."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash over the files of the data set."""

    # -- defined by subclasses that know more ---------------------------------------------------------------------

    @property
    def is_phantom(self) -> bool:
        """Whether the data are synthetic; results, figures and the report then state it."""
        return False

    @property
    def words(self) -> TargetWords:
        """Words for what the data set annotates, which figures, tables and the report use."""
        return LESION

    @property
    def solid(self) -> bool:
        """Whether what the data set annotates has no holes; not where it may be a ring, e.g. an enhancing tumour."""
        return True

    @property
    def channel_sources(self) -> dict[str, tuple[str, ...]]:
        """Channel of the image → modalities that it is made of, in order; empty unless there are several modalities."""
        return {}

    @property
    def predict_choice(self) -> str:
        """The options that choose the predicted items, for messages."""
        return f"data.predict_on={self.predict_on}"

    def display_of(self, patient: str) -> Display:
        """How pictures of a patient are turned upright; batches and files stay as they are stored."""
        return Display()

    def tissue_shares(self, part: str) -> dict[str, float]:
        """Sample → its tissue as a share of that in the subject's fullest slice; empty where that is not known."""
        return {}

    def adopt(self, hyperparameters: Mapping[str, Any]) -> None:
        """Take properties of the data from a trained model's checkpoint, instead of measuring them in these data."""
        return

    def state_dict(self) -> dict[str, Any]:
        """Hashes of the split and the data set, which Lightning keeps in every checkpoint."""
        if self._identity is None:
            self._identity = {"split": self.split.hash, "data": self.fingerprint()}
        return dict(self._identity)

    def describe_reading(self) -> Reading:
        """How a case's files become the input of a network, for an export.

        Raises:
            ConfigError: this data set has no description.
        """
        raise ConfigError(f"{type(self).__name__} does not describe how its files are read, which an export needs")

    # -- cases that are not in the data set -----------------------------------------------------------------------

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of a case's inputs, each of which has its own files."""
        return ("image",)

    @property
    def has_slice_files(self) -> bool:
        """Whether an input of a case may be several files, its slices."""
        return False

    @property
    def case_suffixes(self) -> tuple[str, ...]:
        """Endings of the files that `read_files` reads, in small letters; empty if it reads none."""
        return ()

    def read_files(self, case: CaseFiles, scratch: Path) -> Any:
        """Read a case that is not in the data set as an evaluation batch, without label and annotation.

        Args:
            case: its files.
            scratch: an empty folder for files that reading needs, which the caller deletes.

        Raises:
            ConfigError: this data set reads no other cases.
            DataError: files that cannot be read, or do not fit the data that the options describe.
        """
        raise ConfigError(f"{type(self).__name__} reads no cases from outside its data set")

    # -- loaders --------------------------------------------------------------------------------------------------

    def training_sampler(self, dataset: Any, **options: Any) -> Sampler[Any]:
        """The order of training samples; `options` are the batch size, the epoch's length, the seed and the rank."""
        return EpochSampler(len(dataset), **options)

    def train_dataloader(self) -> DataLoader[Any]:
        """Training samples in the order of `training_sampler`."""
        dataset = self.training_data()
        sampler: Any = self.training_sampler(
            dataset, batch_size=self.batch_size, batches_per_epoch=self.batches_per_epoch, seed=self.seed,
            **ranks_of(self.trainer),
        )  # fmt: skip
        sampler.set_epoch(self.first_epoch)
        return self._loader(dataset, sampler, self.batch_size)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Validation items; every rank gets the same number of them."""
        return self._evaluation_loader(self.items_of("val"), pad=True)

    def test_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Test items, each exactly once; the first ones again for ranks that would have none."""
        return self._evaluation_loader(self.items_of("test"))

    def predict_dataloader(self) -> Iterable[Any]:
        """The items of `predict_on`, distributed to ranks as test items are."""
        if self.shared is not None:
            return self.shared
        items = self.items_of("predict")
        if not items:
            raise ConfigError(f"{self.predict_choice}: nothing to predict; try data.predict_on=all")
        return self._evaluation_loader(items if self.only is None else self._with_ids(items, self.only))

    def loader_of(self, ids: Collection[str], part: str) -> DataLoader[Any] | list[Any]:
        """This process's evaluation batches of the items of a part that have a sample with one of these ids."""
        return self._evaluation_loader(self._with_ids(self.items_of(part), ids))

    def group_ids(self, ids: Collection[str], part: str) -> list[list[str]]:
        """Ids of the samples in each batch of `loader_of`, if one process loads them all."""
        items, size = self._with_ids(self.items_of(part), ids), self.eval_batch_size or 1
        groups = [items[first : first + size] for first in range(0, len(items), size)]
        return [[name for item in group for name in self.ids_of(item)] for group in groups]

    def batch_of(self, name: str, part: str) -> Any:
        """The evaluation batch of the item with this sample, read in this process."""
        dataset = self.evaluation_data(self._with_ids(self.items_of(part), [name]))
        return dataset[0] if self.eval_batch_size is None else self.collate([dataset[0]])

    def sample_ids(self, part: str) -> list[str]:
        """Ids of the samples of `train`, `val`, `test`, `all`, or `predict` (those of `data.predict_on`), in order."""
        return [name for item in self.items_of(part) for name in self.ids_of(item)]

    def parts_of(self, stage: str) -> tuple[str, ...]:
        """Parts that a stage of Lightning reads."""
        return {"fit": PARTS, "validate": ("val",), "test": ("test",), "predict": (self.predict_on,)}[stage]

    def _with_ids(self, items: Sequence[Any], ids: Collection[str]) -> list[Any]:
        wanted = set(ids)
        return [item for item in items if not wanted.isdisjoint(self.ids_of(item))]

    def _evaluation_loader(self, items: Sequence[Any], *, pad: bool = False) -> DataLoader[Any] | list[Any]:
        if not items:
            return []
        dataset: Any = self.evaluation_data(items)
        ranks = ranks_of(self.trainer)
        # Lightning leaves a rank without batches out of the loop, and the others would wait for its scores forever.
        sampler = PatientSampler(len(dataset), pad=pad or len(dataset) < ranks["num_replicas"], **ranks)
        return self._loader(dataset, sampler, self.eval_batch_size)

    def _loader(self, dataset: Dataset[Any], sampler: Any, batch_size: int | None) -> DataLoader[Any]:
        return DataLoader(
            dataset, batch_size=batch_size, sampler=sampler, collate_fn=self.collate if batch_size else None,
            num_workers=self.num_workers, persistent_workers=self.num_workers > 0, pin_memory=self.pin_memory,
        )  # fmt: skip


# Python would take the signature of `__new__`; subclasses extend this one.
BaseDataModule.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    list(inspect.signature(BaseDataModule.__init__).parameters.values())[1:]
)


def check_counts(**counts: int | None) -> None:
    """Refuse numbers below 1; None is accepted.

    Raises:
        ConfigError: all of them, as options of `data`.

    Example:
        >>> check_counts(crop_size=None, batch_size=0)
        Traceback (most recent call last):
        seewhy.errors.ConfigError: data.batch_size=0 must be 1 or more
    """
    wrong = [
        f"data.{key}={value} must be 1 or more" for key, value in counts.items() if value is not None and value < 1
    ]
    if wrong:
        raise ConfigError("; ".join(wrong))


def find_datamodule(trainer: Trainer) -> BaseDataModule | None:
    """The Trainer's DataModule if it is one of seewhy's, else None."""
    datamodule = getattr(trainer, "datamodule", None)  # Lightning sets it only where one was given
    return datamodule if isinstance(datamodule, BaseDataModule) else None
