"""Read and write PNG and TIFF pictures."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from seewhy.errors import DataError
from seewhy.io.atomic import atomic_path
from seewhy.io.read_errors import reading
from seewhy.io.sizes import check_announced

__all__ = ["IMAGE_SUFFIXES", "ImagePages", "image_shape", "read_image", "write_image"]

IMAGE_SUFFIXES = (".png", ".tif", ".tiff")
DAMAGE = (SyntaxError, TypeError, KeyError, IndexError, struct.error, OverflowError)
"""Errors of Pillow for damaged files."""


def read_image(path: str | Path, *, page: int | None = None) -> NDArray[Any]:
    """Read one picture with the values that are stored in the file.

    Args:
        path: a PNG or TIFF file.
        page: page of a TIFF with several pages, counted from 0; None expects a single page.

    Returns:
        [H, W] uint8, uint16, int32 or float32; [H, W, 3] uint8 for colour (palettes are resolved), [H, W, 4]
        with transparency. Black-and-white files have the values 0 and 255.

    Raises:
        DataError: the file is missing, damaged or not a picture, or has several pages and `page` is None.

    Example:
        >>> _ = write_image("slice.png", np.array([[0, 128], [255, 64]], np.uint8))
        >>> read_image("slice.png")
        array([[  0, 128],
               [255,  64]], dtype=uint8)
    """
    path = Path(path)
    with _open(path) as picture:
        pages = getattr(picture, "n_frames", 1)
        if page is None and pages > 1:
            raise DataError(f"{path} has {pages} pages; expected one page, or choose one with `page`")
        return _page(picture, path, page or 0)


class ImagePages:
    """Reader of many pages of one picture, which stays open so that the page offsets are found only once.

    The file is opened again in every process. Not safe for concurrent use by several threads.

    Args:
        path: a TIFF file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._picture: Image.Image | None = None
        self._process = -1

    def read(self, page: int) -> NDArray[Any]:
        """Read one page like `read_image`, with the same errors."""
        with _reading(self.path):
            if self._picture is None or self._process != os.getpid():
                self._picture, self._process = Image.open(self.path), os.getpid()
            return _page(self._picture, self.path, page)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_picture": None}


def image_shape(path: str | Path) -> tuple[int, ...]:
    """Shape of the array that `read_image` returns, without decoding values; verifies the checksums of a PNG.

    Args:
        path: a PNG or TIFF file.

    Returns:
        (H, W), or (H, W, 3) or (H, W, 4) for colour.

    Raises:
        DataError: like `read_image`, for errors that the header and checksums reveal.
    """
    path = Path(path)
    with _open(path) as picture:
        pages = getattr(picture, "n_frames", 1)
        if pages > 1:
            raise DataError(f"{path} has {pages} pages; expected one page")
        width, height = picture.size
        transparent = picture.mode in ("RGBA", "PA") or (picture.mode == "P" and "transparency" in picture.info)
        colour = transparent or picture.mode in ("RGB", "P", "CMYK", "YCbCr", "LAB", "HSV")
        picture.verify()
    return (height, width, 4 if transparent else 3) if colour else (height, width)


def write_image(path: str | Path, array: NDArray[Any]) -> Path:
    """Write one picture atomically and losslessly; the suffix determines the format.

    Args:
        path: ends in `.png`, `.tif` or `.tiff`.
        array: [H, W] uint8 or uint16 (float32 in TIFF only), or [H, W, 3] or [H, W, 4] uint8; bool is stored as
            0 and 255.

    Raises:
        DataError: another suffix, shape or type.
    """
    final = Path(path)
    if final.suffix.lower() not in IMAGE_SUFFIXES:
        raise DataError(f"{final}: unknown suffix; expected one of {', '.join(IMAGE_SUFFIXES)}")
    values = np.asarray(array)
    values = values.astype(np.uint8) * 255 if values.dtype == bool else values
    types = ("uint8", "uint16") if final.suffix.lower() == ".png" else ("uint8", "uint16", "float32")
    gray = values.ndim == 2 and values.dtype.name in types
    colour = values.ndim == 3 and values.shape[2] in (3, 4) and values.dtype == np.uint8
    if not (gray or colour):
        raise DataError(
            f"{final}: array of shape {values.shape} and type {values.dtype}; expected "
            f"[H, W] of {' or '.join(types)}, or [H, W, 3 or 4] of uint8"
        )
    with atomic_path(final) as temporary:
        Image.fromarray(np.ascontiguousarray(values)).save(temporary)
    return final


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    """Open a picture and read its header; errors until it is closed name the file."""
    with _reading(path), Image.open(path) as picture:
        if picture.format == "PNG":
            width, height = picture.size
            check_announced(path, width * height // 8, stored=path.stat().st_size, packed=True)
        yield picture


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        with reading(path, kind="PNG or TIFF", foreign=UnidentifiedImageError, damage=DAMAGE):
            yield
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{path} is too large for a picture ({error}); split it into smaller pictures, or store it as zarr"
        ) from error


def _page(picture: Image.Image, path: Path, page: int) -> NDArray[Any]:
    """Values of one page of an open picture."""
    pages = getattr(picture, "n_frames", 1)
    if not 0 <= page < pages:
        raise DataError(f"{path} has {pages} pages; there is no page {page}")
    picture.seek(page)
    return _values(picture)


def _values(picture: Image.Image) -> NDArray[Any]:
    """Values of the current page, in a layout that does not depend on the file's mode."""
    if picture.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV"):
        transparent = picture.mode == "PA" or "transparency" in picture.info
        picture = picture.convert("RGBA" if transparent else "RGB")
    elif picture.mode in ("1", "LA"):
        picture = picture.convert("L")
    values = np.array(picture)
    return values.astype(values.dtype.newbyteorder("=")) if values.dtype.byteorder == ">" else values
