from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from seewhy.errors import DataError
from seewhy.io.image import image_shape, read_image
from seewhy.io.zarr.opening import open_source

RNG = np.random.default_rng(0)
SMALL = np.arange(12, dtype=np.uint8).reshape(3, 4)
GREY = {"photometric": "minisblack"}


def read_all(path: Path) -> np.ndarray:
    source = open_source(path)
    return source.read(tuple(slice(0, size) for size in source.shape[1:]))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits", "zstd"])
def test_values_are_those_of_tifffile(tmp_path: Path, dtype: str, order: str, compression: str | None):
    values = RNG.normal(0, 50, (3, 5, 6)).astype(dtype) if dtype[0] != "u" else RNG.integers(0, 200, (3, 5, 6))
    values = values.astype(dtype)
    options = {"byteorder": order, "compression": compression, **GREY}
    tifffile.imwrite(tmp_path / "volume.tif", values, **options)
    found = read_all(tmp_path / "volume.tif")[0]
    assert found.dtype == np.dtype(dtype)
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, values)
    tifffile.imwrite(tmp_path / "plane.tif", values[0], **options)
    plane = read_image(tmp_path / "plane.tif")
    assert plane.dtype == np.dtype(dtype)
    assert plane.dtype.isnative
    np.testing.assert_array_equal(plane, values[0])


@pytest.mark.parametrize(
    ("axes", "options"),
    [
        ("ZYX", {"imagej": True}), ("ZCYX", {"imagej": True}), ("CYX", {"imagej": True}),
        ("ZYX", {"ome": True}), ("CZYX", {"ome": True}), ("ZCYX", {"ome": True}), ("TCZYX", {"ome": True}),
        ("ZYX", {}), ("CZYX", {}), ("ZCYX", {}), ("CYX", {}), ("QYX", {}), ("QQYX", {}), ("QZYX", {}),
    ],
)  # fmt: skip
def test_axes_are_those_of_the_metadata(tmp_path: Path, axes: str, options: dict[str, bool]):
    values = RNG.integers(0, 60000, (2, 3, 4, 5)).astype(np.uint16)  # C, Z, Y, X
    if "C" not in axes and axes not in ("QQYX", "QZYX"):
        values = values[:1]
    elif "Z" not in axes and axes != "QQYX":
        values = values[:, :1]
    named = {"QYX": "ZYX", "QQYX": "CZYX", "QZYX": "CZYX"}.get(axes, axes)
    sizes = dict(zip("CZYX", values.shape, strict=True))
    order = ["CZYX".index(axis) for axis in named if axis != "T"]
    rest = [place for place in range(4) if place not in order]
    stored = values.transpose(*rest, *order).reshape([sizes.get(axis, 1) for axis in named])
    metadata = {} if axes == "QYX" or axes == "QQYX" else {"metadata": {"axes": axes}}
    tifffile.imwrite(tmp_path / "a.tif", stored, **GREY, **options, **metadata)
    np.testing.assert_array_equal(read_all(tmp_path / "a.tif"), values)


def test_axes_that_are_no_volume_are_refused(tmp_path: Path):
    values = np.zeros((2, 3, 4, 5), np.uint8)
    for axes, fact in (("TZYX", "2 time points"), ("RZYX", "axes RZYX"), ("ZYXC", "axes ZYXC")):
        tifffile.imwrite(tmp_path / "a.tif", values, **GREY, metadata={"axes": axes})
        with pytest.raises(DataError, match=f"a.tif.*{fact}"):
            open_source(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((2, 4, 5, 3), np.uint8), photometric="rgb")
    with pytest.raises(DataError, match="colours"):
        open_source(tmp_path / "rgb.tif")
    with tifffile.TiffWriter(tmp_path / "two.tif") as writer:
        writer.write(values[0], **GREY)
        writer.write(values[0, :, :2], **GREY)
    with pytest.raises(DataError, match=r"two\.tif has 2 series"):
        open_source(tmp_path / "two.tif")


def test_imagej_stack_with_one_page_is_read_whole(tmp_path: Path):
    """ImageJ describes only the first image of a stack above 4 GiB; the others follow it."""
    values = RNG.integers(0, 60000, (3, 4, 5)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, imagej=True, metadata={"axes": "ZYX"})
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        first = tiff.pages[0].offset
    order = "big" if content[:2] == b"MM" else "little"
    entries = int.from_bytes(content[first : first + 2], order)
    content[first + 2 + 12 * entries :][:4] = bytes(4)
    content[first + 2 + 12 * entries : first + 6 + 12 * entries] = bytes(4)
    (tmp_path / "a.tif").write_bytes(content)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert len(tiff.pages) == 1
    np.testing.assert_array_equal(read_all(tmp_path / "a.tif")[0], values)


def test_ome_tiff_of_several_files_is_refused(tmp_path: Path):
    values = np.zeros((2, 4, 5), np.uint8)
    description = tifffile.OmeXml()
    description.addimage("uint8", (2, 4, 5), (2, 1, 1, 4, 5, 1), axes="ZYX")
    text = description.tostring().replace('<TiffData IFD="0" PlaneCount="2"/>', "".join(
        f'<TiffData IFD="0" FirstZ="{z}" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{z}</UUID></TiffData>'
        for z, name in enumerate(("a.ome.tif", "b.ome.tif"))
    ))  # fmt: skip
    for name, plane in zip("ab", values, strict=True):
        tifffile.imwrite(tmp_path / f"{name}.ome.tif", plane, description=text.encode(), metadata=None, **GREY)
    with pytest.raises(DataError, match=r"a\.ome\.tif: its OME metadata .* one file"):
        open_source(tmp_path / "a.ome.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_turns_as_pillow_and_viewers_do(tmp_path: Path, orientation: int):
    tifffile.imwrite(tmp_path / "a.tif", SMALL, extratags=[(274, "H", 1, orientation, True)])
    picture = Image.fromarray(SMALL)
    exif = picture.getexif()
    exif[274] = orientation
    picture.save(tmp_path / "a.png", exif=exif)
    shown = {
        1: SMALL, 2: SMALL[:, ::-1], 3: SMALL[::-1, ::-1], 4: SMALL[::-1], 5: SMALL.T,
        6: np.rot90(SMALL, -1), 7: SMALL[::-1, ::-1].T, 8: np.rot90(SMALL),
    }[orientation]  # fmt: skip
    for suffix in ("tif", "png"):
        np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}"), shown)
        assert image_shape(tmp_path / f"a.{suffix}") == shown.shape


def test_white_is_zero_keeps_its_values_in_all_depths(tmp_path: Path):
    for dtype in (np.uint8, np.uint16, np.float32):
        tifffile.imwrite(tmp_path / "a.tif", SMALL.astype(dtype), photometric="miniswhite")
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), SMALL)
    tifffile.imwrite(tmp_path / "bits.tif", SMALL > 5, photometric="miniswhite")
    with pytest.raises(DataError, match="WhiteIsZero"):
        read_image(tmp_path / "bits.tif")
    tifffile.imwrite(tmp_path / "bits.tif", SMALL > 5, photometric="minisblack")
    np.testing.assert_array_equal(read_image(tmp_path / "bits.tif"), (SMALL > 5) * 255)
    np.testing.assert_array_equal(read_all(tmp_path / "bits.tif")[0, 0], SMALL > 5)


def test_palettes_are_colours_in_pictures_and_numbers_in_volumes(tmp_path: Path):
    colours = RNG.integers(0, 65536, (3, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", SMALL, photometric="palette", colormap=colours)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), np.moveaxis(colours[:, SMALL] >> 8, 0, -1))
    assert image_shape(tmp_path / "a.tif") == (3, 4, 3)
    np.testing.assert_array_equal(read_all(tmp_path / "a.tif")[0, 0], SMALL)


@pytest.mark.parametrize(
    ("values", "options", "fact"),
    [
        (SMALL.astype(np.complex64), GREY, "complex64"),
        (np.zeros((3, 4, 4), np.uint8), {"photometric": "separated"}, "SEPARATED"),
        (SMALL, {**GREY, "bitspersample": 4}, "4 bits"),
        (np.dstack([SMALL, SMALL]), {**GREY, "planarconfig": "contig", "extrasamples": ["unassalpha"]}, "transparent"),
        (np.zeros((3, 4, 5), np.uint8), {**GREY, "planarconfig": "contig"}, "5 values per pixel"),
    ],
)
def test_other_kinds_of_pictures_are_named(tmp_path: Path, values: np.ndarray, options: dict, fact: str):
    tifffile.imwrite(tmp_path / "a.tif", values, **options)
    with pytest.raises(DataError, match=rf"a\.tif.*{fact}"):
        read_image(tmp_path / "a.tif")


def test_colours_of_both_arrangements(tmp_path: Path):
    colours = RNG.integers(0, 60000, (3, 4, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), colours)
    tifffile.imwrite(tmp_path / "b.tif", np.moveaxis(colours, -1, 0), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(tmp_path / "b.tif"), colours)
    assert image_shape(tmp_path / "b.tif") == (3, 4, 3)


def test_cut_files_are_never_read_in_part(tmp_path: Path):
    values = RNG.integers(0, 60000, (6, 7, 8)).astype(np.uint16)
    for options in ({}, {"metadata": None}, {"compression": "zlib"}, {"imagej": True, "metadata": {"axes": "ZYX"}},
                    {"ome": True, "metadata": {"axes": "ZYX"}}):  # fmt: skip
        tifffile.imwrite(tmp_path / "a.tif", values, **GREY, **options)
        content = (tmp_path / "a.tif").read_bytes()
        for cut in range(8, len(content), 97):
            (tmp_path / "a.tif").write_bytes(content[:cut])
            with contextlib.suppress(DataError):  # any other error fails the test
                np.testing.assert_array_equal(read_all(tmp_path / "a.tif")[0], values)


def test_sixteen_bit_colours_of_png_are_not_cut_to_eight(tmp_path: Path):
    import imagecodecs

    colours = RNG.integers(0, 60000, (3, 4, 3)).astype(np.uint16)
    for name, values in (("colours", colours), ("transparent", colours[..., :2])):
        (tmp_path / f"{name}.png").write_bytes(imagecodecs.png_encode(np.ascontiguousarray(values)))
        for read in (read_image, image_shape):
            with pytest.raises(DataError, match=rf"{name}\.png .* more than 8 bits"):
                read(tmp_path / f"{name}.png")
    half = np.dstack([SMALL, SMALL])
    Image.fromarray(half, "LA").save(tmp_path / "half.png")
    with pytest.raises(DataError, match="transparent in places"):
        read_image(tmp_path / "half.png")


def test_headers_that_announce_more_than_is_stored_are_refused(tmp_path: Path):
    for compression in (None, "zlib"):
        tifffile.imwrite(tmp_path / "a.tif", SMALL, compression=compression, **GREY)
        with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tiff:
            for name in ("ImageLength", "RowsPerStrip"):
                tiff.pages[0].tags[name].overwrite(60_000)
        for read in (read_image, read_all):
            with pytest.raises(DataError, match=r"a\.tif is truncated or damaged"):
                read(tmp_path / "a.tif")


@pytest.mark.slow
def test_damaged_headers_never_end_in_another_error(tmp_path: Path):
    contents = []
    values = RNG.integers(0, 60000, (4, 6, 7)).astype(np.uint16)
    for options in ({}, {"compression": "lzw"}, {"imagej": True}, {"ome": True}, {"bigtiff": True}, {"tile": (16, 16)}):
        tifffile.imwrite(tmp_path / "a.tif", values, **GREY, **options)
        contents.append((tmp_path / "a.tif").read_bytes())
    for number in range(600):
        content = bytearray(contents[number % len(contents)])
        for place in RNG.integers(0, 600, RNG.integers(1, 4)):
            content[place] = RNG.integers(0, 256)
        (tmp_path / "a.tif").write_bytes(content)
        for read in (read_all, read_image, image_shape):
            try:
                read(tmp_path / "a.tif")
            except DataError as error:
                assert "\n" not in str(error)  # noqa: PT017
