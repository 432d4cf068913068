import numpy as np
import pytest
from PIL import Image

from seewhy.errors import DataError
from seewhy.io.image import image_shape, read_image, write_image

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
