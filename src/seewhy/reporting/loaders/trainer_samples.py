"""Samples of the loaders that a Trainer was given in place of a DataModule of seewhy."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from seewhy.batch import Batch, Prediction
from seewhy.errors import ConfigError
from seewhy.reporting.loaders.batches import count_samples, read_batch, read_batches, require_fixed_order
from seewhy.reporting.sample import select_rows

__all__ = ["LoaderSamples"]


class LoaderSamples:
    """The samples of a loop of the Trainer, by name.

    Names are those of the batches, or positions (`sample_000000`, …). The loader is read once more for names and once
    for the chosen samples, so it must give them in the same order each time.

    Args:
        trainer: in a loop of `loop`.
        module: names its inputs.
        loop: `test`, `validate` or `predict`.

    Attributes:
        is_phantom: False, since loaders do not tell.

    Raises:
        ConfigError: several processes, a loader that shuffles, or one without an end.
    """

    is_phantom = False

    def __init__(self, trainer: Trainer, module: LightningModule, loop: str) -> None:
        if trainer.world_size > 1:
            raise ConfigError(
                "ExplainCallback explains the samples of a DataLoader on one process; set Trainer(devices=1), or give "
                "a DataModule of seewhy"
            )
        loaders = {"test": "test_dataloaders", "validate": "val_dataloaders", "predict": "predict_dataloaders"}
        given = getattr(trainer, loaders[loop])
        self.loaders = [_copy_loader(loader) for loader in (given if isinstance(given, (list, tuple)) else [given])]
        for loader in self.loaders:
            require_fixed_order(loader)
            if count_samples(loader) is None:
                raise ConfigError("ExplainCallback needs a loader of a data set with a length")
        self.module = module
        self._seen = 0

    def sample_ids(self, part: str) -> list[str]:
        """Names of all samples, in order."""
        return [name for batch in self._read_all() for name in batch["id"]]

    def tissue_shares(self, part: str) -> dict[str, float]:
        """Empty, since loaders do not tell how much tissue a sample shows."""
        return {}

    def loader_of(self, ids: Collection[str], part: str) -> Iterator[Batch]:
        """The samples with these names, batch by batch."""
        wanted = set(ids)
        for batch in self._read_all():
            rows = [row for row, name in enumerate(batch["id"]) if name in wanted]
            if rows:
                yield select_rows(batch, rows)

    def name_prediction(self, prediction: Any, batch: Any) -> Prediction:
        """A prediction of the loop with the names and labels of its samples; batches come in order."""
        named = read_batch(batch, self.module, self._seen)
        self._seen += len(named["id"])
        given = dict(prediction) if isinstance(prediction, Mapping) else {}
        label = {"label": named["label"]} if "label" in named else {}
        return cast(Prediction, {**label, **given, "id": named["id"]})

    def _read_all(self) -> Iterator[Batch]:
        """All batches, with positions counted over all loaders."""

        def chained() -> Iterator[Any]:
            for loader in self.loaders:
                yield from loader

        return read_batches(chained(), self.module)


def _copy_loader(loader: Any) -> Any:
    """The same loader in this process; one with lasting workers can only be read once at a time."""
    if not isinstance(loader, DataLoader):
        return loader
    options: dict[str, Any] = {"collate_fn": loader.collate_fn, "generator": loader.generator}
    if loader.batch_sampler is None:
        return DataLoader(loader.dataset, batch_size=None, sampler=loader.sampler, **options)
    require_fixed_order(loader)
    return DataLoader(loader.dataset, batch_sampler=loader.batch_sampler, **options)
