import random

from seewhy.io.layout import natural_key


def test_numbers_in_names_count_as_numbers():
    names = ["9", "10", "a", "a9", "a10", "b1"]
    mixed = names[:]
    random.Random(0).shuffle(mixed)
    assert sorted(mixed, key=natural_key) == names


def test_digits_that_are_no_decimals_are_letters():
    assert sorted(["x²", "x10", "x9"], key=natural_key) == ["x9", "x10", "x²"]
