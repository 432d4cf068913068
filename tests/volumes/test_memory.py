"""What a thread frees goes back to the system, however large the blocks freed before."""

import subprocess
import sys

import pytest

HELD = """
import sys
import numpy as np
from pathlib import Path
from seewhy.volumes.memory import return_freed_memory

if sys.argv[1] == "return" and not return_freed_memory():
    print("none")
    raise SystemExit
def resident():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
np.ones(24 * 2**20, np.uint8)  # a large block, freed at once: blocks below its size come from the heap from now on
before = resident()
blocks = [np.ones(8 * 2**20, np.uint8) for _ in range(16)]
last = np.ones(8 * 2**20, np.uint8)
del blocks  # what is below the last block in a heap cannot be given back
print(resident() - before)
"""


def held(word):
    if not sys.platform.startswith("linux"):
        pytest.skip("memory is read from /proc")
    done = subprocess.run([sys.executable, "-c", HELD, word], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_freed_blocks_are_given_back():
    kept, given_back = held("keep"), held("return")
    if given_back == "none":
        pytest.skip("this C library has no such setting")
    assert float(kept) > 100  # MiB: as it is without
    assert float(given_back) < 16
