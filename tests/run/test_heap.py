"""Freed memory that is kept costs no new pages."""

import ctypes
import os
import subprocess
import sys

import pytest

COUNT = """
import resource
import numpy as np
from seewhy.run.heap import keep_freed_memory

applied = keep_freed_memory() if {keep} else None

def use():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [np.ones(3 * 2**20, np.uint8) for _ in range(40)]
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    del blocks
    return faults

first, *others = [use() for _ in range(4)]
print(applied, first, max(others))
"""


def count(*, keep, **environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", COUNT.format(keep=keep)], capture_output=True, text=True, check=True,
        env={**kept, **environment},
    )  # fmt: skip
    return done.stdout.split()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="only glibc")
def test_blocks_that_were_freed_are_used_again_without_new_pages():
    applied, first, later = count(keep=True)
    assert applied == "True"
    assert int(first) > 5_000
    assert int(later) < 0.05 * int(first)
    assert int(count(keep=False)[2]) > 0.5 * int(first)


def test_the_environment_has_the_last_word():
    assert count(keep=True, MALLOC_TRIM_THRESHOLD_="1000000")[0] == "False"
