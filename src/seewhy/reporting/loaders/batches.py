"""Batches of any DataLoader in the vocabulary of `seewhy.batch`, choice of samples, and loaders of a Trainer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Sized
from inspect import signature
from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, RandomSampler

from seewhy.batch import Batch, Prediction
from seewhy.errors import ConfigError, nearest
from seewhy.io.names import safe_name
from seewhy.models.protocols import DescribesItself
from seewhy.reporting.sample import select_rows
from seewhy.reporting.selection import SampleChoice

__all__ = ["LoaderSamples", "choose_batches", "count_samples", "read_batch", "read_batches", "require_fixed_order"]

IDS = ("id", "sample_id", "name")
LABELS = ("label", "labels", "target", "y")
"""Keys of a dict under which loaders give names and classes."""
IMAGE_AXES = (4, 5)


def read_batches(loader: Iterable[Any], module: nn.Module) -> Iterator[Batch]:
    """Yield the batches of a loader with `image`, `id` and, where known, `label`.

    A batch is a tensor of images; a list of images, perhaps followed by labels [B] or [B, K], masks and a list of
    names; a dict with `image`; or a dict of named images with `label` (or `labels`, `target`, `y`) and `id` (or
    `sample_id`, `name`). Several images in a list are the inputs of the module by position. Samples without a name are
    called `sample_000000`, `sample_000001` and so on, in the loader's order.

    Args:
        loader: any iterable of batches.
        module: names its inputs.

    Raises:
        ConfigError: a batch without images.

    Example:
        >>> import torch
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> data = TensorDataset(torch.zeros(3, 1, 4, 4), torch.tensor([0, 1, 0]))
        >>> [batch["id"] for batch in read_batches(DataLoader(data, batch_size=2), torch.nn.Flatten())]
        [['sample_000000', 'sample_000001'], ['sample_000002']]
    """
    start = 0
    for raw in loader:
        batch = read_batch(raw, module, start)
        start += len(batch["id"])
        yield batch


def choose_batches(
    loader: Iterable[Any], module: nn.Module, choice: SampleChoice, *, names: Iterable[str] | None = None
) -> Iterator[Batch]:
    """Yield the chosen samples of a loader, batch by batch.

    Args:
        loader: any iterable of batches.
        module: names its inputs.
        choice: by name or position.
        names: of the samples to take in place of `choice`.

    Raises:
        ConfigError: ids that no sample has, or a rule that needs to know how many samples there are.
    """
    ids = set(choice.ids) if names is None and choice.ids is not None else None if names is None else set(names)
    positions = None if ids is not None else _choose_positions(loader, choice)
    seen: list[str] = []
    for batch in read_batches(loader, module):
        start = len(seen)
        seen += batch["id"]
        if ids is not None:
            rows = [row for row, name in enumerate(batch["id"]) if name in ids]
        else:
            rows = [row for row in range(len(batch["id"])) if positions is None or start + row in positions]
        if rows:
            yield select_rows(batch, rows)
        if positions is not None and len(seen) > max(positions, default=-1):
            return
        if ids is not None and ids <= set(seen):
            return
    unknown = sorted((ids or set()) - set(seen))
    if unknown:
        raise ConfigError(
            f"explain.samples: no sample of the loader is called {unknown[0]!r}; {nearest(unknown[0], seen)}"
        )


def count_samples(loader: Any) -> int | None:
    """Number of samples of a loader; None where it does not tell."""
    dataset = loader.dataset if isinstance(loader, DataLoader) else loader
    if isinstance(dataset, IterableDataset) or not isinstance(dataset, Sized):
        return None
    if dataset is loader:  # a list of batches
        batches = cast("Iterable[Any]", loader)
        return sum(len(_find_first_tensor(batch)) for batch in batches) if isinstance(loader, (list, tuple)) else None
    return len(dataset)


def require_fixed_order(loader: Any) -> None:
    """Refuse a loader that shuffles where samples are looked up a second time.

    Raises:
        ConfigError: the loader draws at random.
    """
    if isinstance(loader, DataLoader) and isinstance(loader.sampler, RandomSampler):
        raise ConfigError("the loader shuffles, so a chosen sample cannot be found again; give it shuffle=False")


def _choose_positions(loader: Any, choice: SampleChoice) -> set[int] | None:
    """Positions of the chosen samples; None for all."""
    if choice.count == 0:
        return None
    if choice.rule == "first":
        return set(range(choice.count))
    total = count_samples(loader)
    if total is None:
        raise ConfigError(
            f"explain.samples={choice.rule} needs to know how many samples the loader has; choose first or a list "
            "of ids"
        )
    return {int(position) for position in choice.by_name([str(number) for number in range(total)])}


def read_batch(raw: Any, module: nn.Module, start: int) -> Batch:
    """Read one batch of a loader as `read_batches` does; its first sample is sample `start` of the loader."""
    if isinstance(raw, Mapping):
        batch = _read_mapping(raw, module)
    else:
        batch = _read_sequence(list(raw) if isinstance(raw, (list, tuple)) else [raw], module)
    image = batch["image"]
    count = len(image if isinstance(image, Tensor) else next(iter(image.values())))
    names = batch.get("id")
    given = [f"sample_{start + row:06d}" for row in range(count)] if names is None else [str(name) for name in names]
    batch["id"] = [safe_name(name) for name in given]
    batch.setdefault("patient", list(batch["id"]))
    return cast(Batch, batch)


def _read_mapping(raw: Mapping[str, Any], module: nn.Module) -> dict[str, Any]:
    """A batch from a dict: of this package as it is, else named images with labels and names."""
    batch = dict(raw)
    names = next((batch.pop(key) for key in IDS if key in batch), None)
    label = next((batch.pop(key) for key in LABELS if key in batch), None)
    if "image" not in batch:
        wanted = module.explainable().inputs if isinstance(module, DescribesItself) else ()
        images = {key: value for key, value in batch.items() if _is_image(value) or (key == "present" and wanted)}
        missing = [name for name in wanted if name not in images]
        if missing or not images:
            raise ConfigError(
                f"a batch of the loader has the keys {', '.join(raw)}; expected image, or the named images "
                f"{', '.join(wanted) or '[B, C, H, W]'}"
            )
        batch = {"image": images}
    batch |= {} if names is None else {"id": names}
    return batch | ({} if label is None else {"label": label})


def _read_sequence(values: list[Any], module: nn.Module) -> dict[str, Any]:
    """A batch from values by position: images, then perhaps labels, masks and names."""
    count = next((number for number, value in enumerate(values) if not _is_image(value)), len(values))
    if not count and values and isinstance(values[0], Mapping):
        return _read_mapping({**values[0], **_read_rest(values[1:])}, module)
    images = values[:count]
    if not images:
        kinds = ", ".join(type(value).__name__ for value in values)
        raise ConfigError(f"a batch of the loader holds {kinds}; expected images [B, C, H, W] and perhaps labels")
    rest = _read_rest(values[count:])
    if len(images) == 1:
        return {"image": images[0], **rest}
    if isinstance(module, DescribesItself):
        names = list(module.explainable().inputs)
    else:
        names = list(signature(module.forward).parameters)
    if len(names) < len(images):
        raise ConfigError(f"a batch of the loader has {len(images)} images for the inputs {', '.join(names)}")
    return {"image": dict(zip(names, images, strict=False)), **rest}


def _read_rest(values: Sequence[Any]) -> dict[str, Any]:
    """Labels, masks and names from what follows the images."""
    rest: dict[str, Any] = {}
    for value in values:
        if isinstance(value, Tensor) and value.ndim < 3 and "label" not in rest:
            rest["label"] = value.float() if value.ndim == 2 else _to_classes(value)
        elif isinstance(value, Tensor) and value.ndim >= 3 and "label" in rest and "mask" not in rest:
            rest["mask"] = value
        elif isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value) and "id" not in rest:
            rest["id"] = list(value)
        else:
            shape = f" {tuple(value.shape)}" if isinstance(value, Tensor) else ""
            raise ConfigError(
                f"a batch of the loader holds a {type(value).__name__}{shape} after its images; expected labels [B], "
                "masks after labels, and names"
            )
    return rest


def _to_classes(label: Tensor) -> Tensor:
    """Class indices as whole numbers.

    Raises:
        ConfigError: numbers that are not whole.
    """
    if label.is_floating_point() and not bool((label == label.round()).all()):
        raise ConfigError(f"labels of the loader are {label.flatten()[:3].tolist()}; expected class indices")
    return label.long()


def _is_image(value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim in IMAGE_AXES


def _find_first_tensor(batch: Any) -> Any:
    """The first tensor of a batch, whose length is that of the batch."""
    while not isinstance(batch, Tensor):
        batch = next(iter(batch.values())) if isinstance(batch, Mapping) else batch[0]
    return batch


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
        loaders = {
            "test": trainer.test_dataloaders,
            "validate": trainer.val_dataloaders,
            "predict": trainer.predict_dataloaders,
        }
        given = loaders[loop]
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
