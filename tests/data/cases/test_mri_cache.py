import numpy as np
import pytest

from seewhy.data.cases.mri_reader import DiskCache, MemoryCache, build_cache
from seewhy.errors import ConfigError


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "a.nii"
    path.write_bytes(b"one")
    return path


class Maker:
    """Makes arrays and counts how often it was asked."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return np.full((2, 3), self.calls, np.float32)


@pytest.mark.parametrize("kind", [None, "memory", "disk"])
def test_made_once_or_every_time(tmp_path, source, kind):
    cache, make = build_cache(kind, str(tmp_path / "kept") if kind == "disk" else None, {}), Maker()
    found = [cache(source, make) for _ in range(3)]
    assert make.calls == (3 if kind is None else 1)
    assert found[2].tolist() == np.full((2, 3), make.calls).tolist()


def test_what_is_kept_cannot_be_spoilt(tmp_path, source):
    for cache in (MemoryCache(), DiskCache(tmp_path / "kept", {})):
        with pytest.raises(ValueError, match="read-only"):
            cache(source, Maker())[0, 0] = 7


def test_disk_is_shared_by_content_and_settings(tmp_path, source):
    folder, make = tmp_path / "kept", Maker()
    first = DiskCache(folder, {"size": 112})(source, make)
    assert isinstance(first, np.memmap)
    assert DiskCache(folder, {"size": 112})(source, make)[0, 0] == 1  # another process
    copy = source.with_name("b.nii")
    copy.write_bytes(b"one")
    assert DiskCache(folder, {"size": 112})(copy, make)[0, 0] == 1  # the same content
    assert DiskCache(folder, {"size": 96})(source, make)[0, 0] == 2
    same = DiskCache(folder, {"size": 112})
    assert same(source, make)[0, 0] == 1
    source.write_bytes(b"other")
    assert same(source, make)[0, 0] == 3
    assert len(list(folder.iterdir())) == 3


def test_an_interrupted_array_is_not_found(tmp_path, source):
    def stop():
        raise KeyboardInterrupt

    cache = DiskCache(tmp_path / "kept", {})
    with pytest.raises(KeyboardInterrupt):
        cache(source, stop)
    assert cache(source, Maker())[0, 0] == 1


def test_choices_are_checked():
    with pytest.raises(ConfigError, match=r"data\.cache='dsk' is unknown; nearest: 'disk'"):
        build_cache("dsk", None, {})
    with pytest.raises(ConfigError, match=r"needs data\.cache_dir"):
        build_cache("disk", None, {})
