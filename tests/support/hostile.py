"""Files and records as strangers, killed programs and full disks leave them, for hypothesis."""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

FUZZ = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
NUMBERS = [
    *(struct.pack(code, value) for code, value in (("<h", -1), ("<h", 32767), ("<i", -1), ("<f", float("nan")))),
    *(b"-1", b"1e400", b"999999999999", b"nan", b"0", b"null", b"[]", b"{}", b'"', b"'", b"\n", b"\0", b"\xff"),
]


@st.composite
def damaged(draw: Any, content: bytes) -> bytes:
    """A file's bytes with some replaced, removed or inserted, most of them in its header."""
    result = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, min(len(result), draw(st.sampled_from([128, 512, 1 << 20]))) - 1)))
        piece = draw(st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from(NUMBERS)))
        kind = draw(st.sampled_from(["replace", "remove", "insert", "cut"]))
        if kind == "replace":
            result[place : place + len(piece)] = piece
        elif kind == "insert":
            result[place:place] = piece
        else:
            del result[place : len(result) if kind == "cut" else place + len(piece)]
    return bytes(result)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=6,
)


@st.composite
def changed(draw: Any, record: Any) -> Any:
    """Plain data with one entry at any depth replaced, removed or added."""
    if isinstance(record, dict | list) and record and draw(st.integers(0, 3)):
        keys = list(record) if isinstance(record, dict) else list(range(len(record)))
        key = draw(st.sampled_from(keys))
        copy = dict(record) if isinstance(record, dict) else list(record)
        kind = draw(st.integers(0, 9))
        if kind == 0:
            del copy[key]
        else:
            copy[key] = draw(changed(copy[key]))
        return copy
    return draw(PLAIN)
