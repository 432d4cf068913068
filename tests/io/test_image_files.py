import numpy as np
import pytest
from PIL import Image, ImageOps

from seewhy.errors import DataError
from seewhy.io.image import check_lossless, image_shape, read_image, write_image

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("suffix", "array"),
    [
        (".png", RNG.integers(0, 256, (5, 7), dtype=np.uint8)),
        (".png", RNG.integers(0, 65536, (5, 7), dtype=np.uint16)),
        (".png", RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)),
        (".png", RNG.integers(0, 256, (5, 7, 4), dtype=np.uint8)),
        (".tif", RNG.integers(0, 65536, (5, 7), dtype=np.uint16)),
        (".tiff", RNG.normal(size=(5, 7)).astype(np.float32)),
        (".tiff", RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)),
    ],
)
def test_round_trip(tmp_path, suffix, array):
    found = read_image(write_image(tmp_path / f"a{suffix}", array))
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
    assert len(list(tmp_path.iterdir())) == 1


def test_bool_palette_and_gray_with_alpha_mean_what_they_show(tmp_path):
    region = np.array([[True, False], [False, True]])
    np.testing.assert_array_equal(read_image(write_image(tmp_path / "m.png", region)), region * np.uint8(255))
    picture = Image.new("P", (1, 1), 1)
    picture.putpalette([0, 0, 0, 255, 0, 255])
    picture.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), [[[255, 0, 255]]])
    Image.new("LA", (1, 1), (9, 255)).save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png"), [[9]])
    Image.new("1", (1, 1), 1).save(tmp_path / "1.png")
    np.testing.assert_array_equal(read_image(tmp_path / "1.png"), [[255]])


def test_pages_are_never_dropped_silently(tmp_path):
    first, second = Image.new("L", (2, 2), 1), Image.new("L", (2, 2), 2)
    first.save(tmp_path / "s.tif", save_all=True, append_images=[second])
    with pytest.raises(DataError, match="2 pages"):
        read_image(tmp_path / "s.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "s.tif", page=1), np.full((2, 2), 2))
    with pytest.raises(DataError, match="no page 2"):
        read_image(tmp_path / "s.tif", page=2)


def test_bad_input_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.png does not exist"):
        read_image(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(DataError, match=r"text\.png is not a readable PNG"):
        read_image(tmp_path / "text.png")
    path = write_image(tmp_path / "cut.png", RNG.integers(0, 256, (50, 50), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:800])
    with pytest.raises(DataError, match=r"cut\.png is truncated"):
        read_image(path)
    with pytest.raises(DataError, match="float64"):
        write_image(tmp_path / "f.png", np.zeros((2, 2)))
    with pytest.raises(DataError, match=r"\.png, \.tif"):
        write_image(tmp_path / "a.jpg", np.zeros((2, 2), np.uint8))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "I;16", "LA"])
def test_the_shape_is_that_of_the_values(tmp_path, mode):
    path = tmp_path / "a.png"
    Image.new(mode, (7, 5)).save(path)
    assert image_shape(path) == read_image(path).shape


def test_the_shape_of_a_damaged_picture_is_refused(tmp_path):
    path = write_image(tmp_path / "cut.png", RNG.integers(0, 256, (50, 50), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:800])
    with pytest.raises(DataError, match=r"cut\.png is truncated"):
        image_shape(path)
    Image.new("L", (2, 2)).save(tmp_path / "s.tif", save_all=True, append_images=[Image.new("L", (2, 2))])
    with pytest.raises(DataError, match="2 pages"):
        image_shape(tmp_path / "s.tif")


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_viewers_show_them(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    values = RNG.integers(0, 256, (16, 24), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    path = tmp_path / f"a{suffix}"
    Image.fromarray(values).save(path, exif=exif)
    with Image.open(path) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(read_image(path), expected)
    assert image_shape(path) == expected.shape


def test_kinds_of_jpeg(tmp_path):
    values = RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.jpg", quality=100, subsampling=0)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - values).max() < 8
    assert image_shape(tmp_path / "a.jpg") == (16, 16, 3)
    Image.new("CMYK", (4, 4)).save(tmp_path / "c.jpg")
    with pytest.raises(DataError, match=r"c\.jpg has CMYK"):
        read_image(tmp_path / "c.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:300])
    with pytest.raises(DataError, match=r"cut\.jpg is truncated"):
        read_image(tmp_path / "cut.jpg")
    with pytest.raises(DataError, match="unknown suffix"):
        write_image(tmp_path / "w.jpg", values)


def test_masks_may_not_be_stored_with_losses(tmp_path):
    import tifffile

    mask = np.zeros((64, 64), np.uint8)
    mask[20:40] = 255
    Image.fromarray(mask).save(tmp_path / "m.jpg")
    (tmp_path / "m.png").write_bytes((tmp_path / "m.jpg").read_bytes())  # whatever the name
    tifffile.imwrite(tmp_path / "m.tif", mask, compression="jpeg")
    for name in ("m.jpg", "m.png", "m.tif"):
        with pytest.raises(DataError, match=rf"{name} is stored as .*JPEG.*PNG"):
            check_lossless(tmp_path / name)
    check_lossless(write_image(tmp_path / "right.png", mask))
    tifffile.imwrite(tmp_path / "right.tif", mask, compression="zlib")
    check_lossless(tmp_path / "right.tif")
