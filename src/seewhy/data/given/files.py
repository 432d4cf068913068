"""Read samples of a network from elsewhere: archives, arrays, and folders of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.data.given.sample import IMAGE, GivenSample, check_samples, drop_channel, to_class
from seewhy.errors import ConfigError, DataError
from seewhy.io.checks.sizes import check_memory
from seewhy.io.documents import read_csv
from seewhy.io.image import read_image
from seewhy.io.names import safe_name
from seewhy.io.npy import read_npy, read_npz
from seewhy.io.scans.scan import is_scan, read_scan
from seewhy.io.zarr.metadata import check_grid, check_metadata_files, is_zarr

__all__ = ["read_labels", "read_samples"]

Array = NDArray[Any]
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
COLUMNS = ("label", "id", "patient")
KEPT = (*COLUMNS, "mask")
"""Names in archives that are not images; masks of named inputs are `mask_<input>`."""
SHAPES = "images [N, H, W], [N, C, H, W] or [N, C, D, H, W], and one label, mask, id and patient for each"


def read_samples(
    path: str | Path, *, masks: str | Path | None = None, labels: Mapping[str, int] | None = None, count: int = 0
) -> list[GivenSample]:
    """Read samples that are spread over a file or folder.

    Args:
        path: `.npz` or a zarr group of arrays (images under any names, and `label`, `mask` or `mask_<input>`, `id`,
            `patient`), with samples along the first axis; `.npy` or a zarr array of images; or a folder of pictures,
            scans or `.npy` files, one for each sample, or with a folder for each input. [N, H, W] and [N, C, H, W]
            are images, [N, C, D, H, W] volumes. Whole numbers of 8 and 16 bits without sign are divided by their
            largest possible value.
        masks: `.npy` or folder like `path`, for a single input.
        labels: id → class index, of `read_labels`.
        count: largest number of samples; 0 is all.

    Raises:
        DataError: no file, damage, arrays that do not fit together, or masks and labels of other samples.

    Example:
        >>> import numpy as np
        >>> np.savez("images.npz", image=np.zeros((5, 8, 8), np.float32), label=np.arange(5))
        >>> [(one.id, one.label, one.images["image"].shape) for one in read_samples("images.npz", count=2)]
        [('sample_0000', 0, torch.Size([1, 8, 8])), ('sample_0004', 4, torch.Size([1, 8, 8]))]
    """
    path = Path(path)
    if path.suffix.lower() == ".npz":
        samples = _split_arrays(read_npz(path), path, count)
    elif path.suffix.lower() == ".npy":
        samples = _split_arrays({IMAGE: read_npy(path)}, path, count)
    elif is_zarr(path):
        samples = _split_arrays(_read_zarr(path), path, count)
    elif path.is_dir():
        samples = _read_folder(path, count)
    else:
        raise DataError(f"{path} is neither .npz, .npy, zarr nor a folder of images; or it does not exist")
    check_samples(samples, path)
    if masks is not None:
        samples = _add_masks(samples, Path(masks))
    if labels is None:
        return samples
    missing = [sample.id for sample in samples if sample.id not in labels]
    if missing:
        known = ", ".join(list(labels)[:3])
        raise DataError(f"no label for {', '.join(missing[:3])}{', …' * (len(missing) > 3)}; the table has {known}")
    return [replace(sample, label=labels[sample.id]) for sample in samples]


def read_labels(path: str | Path) -> dict[str, int]:
    """Read a table with the columns `id` and `label`, class indices.

    Raises:
        DataError: other columns, or labels that are not whole numbers.
    """
    table = read_csv(path)
    if not {"id", "label"} <= set(table.columns):
        raise DataError(f"{path} has the columns {', '.join(table.columns)}; expected id and label")
    wrong = [row["label"] for row in table.rows if not row["label"].strip().isdecimal()]
    if wrong:
        raise DataError(f"{path}: label {wrong[0]!r}; expected class indices 0, 1, …")
    labels = {safe_name(row["id"]): int(row["label"]) for row in table.rows}
    if len(labels) < len(table.rows):
        twice = [name for name, number in Counter(safe_name(row["id"]) for row in table.rows).items() if number > 1]
        raise DataError(f"{path}: several rows have the id {twice[0]!r}; expected one row for each sample")
    return labels


def _split_arrays(arrays: Mapping[str, Array], path: Path, count: int) -> list[GivenSample]:
    """Split arrays along their first axis."""
    images = {name: one for name, one in arrays.items() if name not in KEPT and not name.startswith("mask_")}
    masks = {name.removeprefix("mask_"): one for name, one in arrays.items() if name.startswith("mask")}
    if len(images) == 1:
        images = {IMAGE: next(iter(images.values()))}
        masks = dict(zip([IMAGE], masks.values(), strict=False))
    problems = [
        f"{name} {one.shape} {one.dtype}"
        for name, one in images.items()
        if one.ndim not in (3, 4, 5) or one.dtype.kind not in "biuf" or not one.size
    ]
    problems += [f"{name} {arrays[name].shape}" for name in COLUMNS if name in arrays and arrays[name].ndim != 1]
    problems += [f"mask of an unknown input {name!r}" for name in masks if name not in images]
    problems += [
        f"mask {one.shape} {one.dtype}" for one in masks.values() if not one.ndim or one.dtype.kind not in "biuf"
    ]
    lengths = {name: len(one) for name, one in arrays.items() if one.ndim}
    if problems or not images or len(set(lengths.values())) > 1:
        found = "; ".join(problems) or ", ".join(f"{name} {size}" for name, size in lengths.items()) or "no image"
        raise DataError(f"{path}: {found}; expected {SHAPES}")
    total = next(iter(lengths.values()))
    names = [str(name) for name in arrays["id"]] if "id" in arrays else [f"sample_{row:04d}" for row in range(total)]
    samples = [
        GivenSample(
            id=safe_name(names[row]),
            images={name: _to_image(one[row], one.dtype, channels=one.ndim > 3) for name, one in images.items()},
            patient=str(arrays["patient"][row]) if "patient" in arrays else names[row],
            label=to_class(arrays["label"][row], names[row]) if "label" in arrays else None,
        )
        for row in _choose_evenly(total, count)
    ]
    for name, one in masks.items():
        rows = _choose_evenly(total, count)
        samples = [_add_mask(sample, name, one[row], path) for sample, row in zip(samples, rows, strict=True)]
    return samples


def _read_zarr(path: Path) -> dict[str, Array]:
    """Read a local zarr array, or all arrays of a group."""
    import zarr

    check_metadata_files(path)
    try:
        node = zarr.open(str(path), mode="r")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read as zarr ({error})") from error
    arrays: dict[str, Any] = {IMAGE: node} if isinstance(node, zarr.Array) else dict(node.arrays())
    for name, array in arrays.items():
        check_grid(array, f"{path}/{name}")
        check_memory(path, int(np.prod(array.shape)) * array.dtype.itemsize)
    return {name: np.asarray(array[...]) for name, array in arrays.items()}


def _read_folder(path: Path, count: int) -> list[GivenSample]:
    """Read a file for each sample; sub-folders are inputs with files of the same names."""
    folders = sorted(one for one in path.iterdir() if one.is_dir() and not one.name.startswith("."))
    inputs = {one.name: _list_images(one) for one in folders} if folders else {IMAGE: _list_images(path)}
    first = next(iter(inputs.values()))
    wrong = [name for name, files in inputs.items() if set(files) != set(first)]
    if wrong:
        raise DataError(f"{path}: {wrong[0]} has other files than {next(iter(inputs))}; expected the same names")
    if not first:
        raise DataError(f"{path} has no images ({', '.join(PICTURES)}, .npy or scans)")
    names = list(first)
    return [
        GivenSample(
            id=safe_name(name), patient=name, images={key: _read_file(one[name]) for key, one in inputs.items()}
        )
        for name in (names[row] for row in _choose_evenly(len(names), count))
    ]


def _list_images(folder: Path) -> dict[str, Path]:
    """Return name without ending → file."""
    files = sorted(one for one in folder.iterdir() if one.is_file() and not one.name.startswith("."))
    kept: dict[str, Path] = {}
    for one in files:
        if one.suffix.lower() in (*PICTURES, ".npy") or is_scan(one):
            name = one.name.removesuffix(".gz").rsplit(".", 1)[0]
            if name in kept:
                raise DataError(f"{folder}: {kept[name].name} and {one.name} have the same name; keep one of them")
            kept[name] = one
    return kept


def _read_file(path: Path) -> Tensor:
    """Read an image [C, H, W], or a scan as a volume [1, Z, Y, X]."""
    if is_scan(path):
        values = read_scan(path)[0].transpose()
        return _to_image(values[None] if values.ndim == 3 else values, values.dtype, channels=True)
    if path.suffix.lower() == ".npy":
        values = read_npy(path)
        return _to_image(values, values.dtype, channels=values.ndim > 2)
    values = read_image(path)
    if values.ndim == 3:
        values = values[..., :3].transpose(2, 0, 1)
    return _to_image(values, values.dtype, channels=values.ndim > 2)


def _add_masks(samples: Sequence[GivenSample], path: Path) -> list[GivenSample]:
    if any(list(sample.images) != [IMAGE] for sample in samples):
        raise ConfigError("--masks is for a single input; give mask_<input> in the .npz of named inputs")
    if not path.is_dir():
        return _add_mask_array(samples, path)
    files = {safe_name(name): file for name, file in _list_images(path).items()}
    missing = [sample.id for sample in samples if sample.id not in files]
    if missing:
        raise DataError(f"{path} has no mask of {', '.join(missing[:3])}{', …' * (len(missing) > 3)}")
    read = {sample.id: _read_file(files[sample.id])[0].numpy() for sample in samples}
    return [_add_mask(sample, IMAGE, read[sample.id], files[sample.id]) for sample in samples]


def _add_mask_array(samples: Sequence[GivenSample], path: Path) -> list[GivenSample]:
    arrays = read_npy(path)
    if arrays.ndim not in (3, 4, 5) or arrays.dtype.kind not in "biuf":
        raise DataError(f"{path}: masks {arrays.shape} {arrays.dtype}; expected [N, H, W] or [N, D, H, W], numbers")
    result = []
    for sample in samples:
        number = sample.id.removeprefix("sample_")
        if not number.isdecimal() or int(number) >= len(arrays):
            raise DataError(f"{path} has {len(arrays)} masks without names, and {sample.id} is none of them")
        result.append(_add_mask(sample, IMAGE, arrays[int(number)], path))
    return result


def _add_mask(sample: GivenSample, name: str, values: Array, path: Path) -> GivenSample:
    """Add the mask of an input."""
    image = sample.images[name]
    mask = _to_mask(values, image.ndim)
    if mask.shape != image.shape[1:]:
        raise DataError(f"{path}: mask {tuple(mask.shape)} of {sample.id}, whose image is {tuple(image.shape[1:])}")
    return replace(sample, masks={**sample.masks, name: mask})


def _to_image(values: Array, dtype: np.dtype[Any], *, channels: bool) -> Tensor:
    scale = float(np.iinfo(dtype).max) if dtype in (np.uint8, np.uint16) else 1.0
    image = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32) / np.float32(scale))
    return image if channels else image[None]


def _to_mask(values: Array, axes: int) -> Tensor:
    """Convert to [*spatial] bool; `axes` are those of the image with its channels."""
    return drop_channel(torch.from_numpy(np.ascontiguousarray(values)), axes) > 0


def _choose_evenly(total: int, count: int) -> list[int]:
    """Return rows that are spread over all."""
    if not count or count >= total:
        return list(range(total))
    return [int(row) for row in np.linspace(0, total - 1, count).round()]
