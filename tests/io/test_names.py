import pytest

from seewhy.io.names import MAX_BYTES, find_name_clashes, safe_name

HOSTILE = [
    "../../x", "..", ".", "", "   ", "/etc/passwd", "C:\\x", "a\\..\\b", "a\0b", "a\nb", "nul", "COM1.txt", "com¹",
    "x" * 300, "ü" * 300, "../" * 100, "a:b", "x.", "x ", ".hidden", "\ud800", "a\u2028b", "~/x", "-rf", "*?<>|\"",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_every_name_becomes_one_part_of_a_path_in_its_folder(tmp_path, name):
    safe = safe_name(name)
    path = tmp_path / f"{safe}_integrated_gradients_t1ce_attributions.npy"
    path.write_bytes(b"")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.resolve().parent == tmp_path.resolve()
    assert safe
    assert safe.strip(" .") == safe
    assert len(safe.encode()) <= MAX_BYTES
    assert safe.split(".")[0].lower() not in ("con", "nul", "com1", "com¹")
    assert safe_name(safe) == safe


@pytest.mark.parametrize("name", ["P01", "Brats18_2013_21_1", "Müller (links)", "a.b-c=d,e", "患者1", "O'Brien"])
def test_safe_names_stay(name):
    assert safe_name(name) == name


def test_long_names_that_begin_alike_stay_different():
    first, second = safe_name("x" * 300 + "1"), safe_name("x" * 300 + "2")
    assert first != second
    assert first[:100] == second[:100] == "x" * 100


def test_names_that_would_share_a_file_are_reported_together():
    (problem,) = find_name_clashes(["a/b", "c", "a:b", "A?b", "a/b"], "patients")
    assert all(repr(name) in problem for name in ("a/b", "a:b", "A?b"))
    assert "'c'" not in problem
    assert find_name_clashes(["a/b", "a/b", "c"], "patients") == []
