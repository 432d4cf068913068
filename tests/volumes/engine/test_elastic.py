"""Processes that come and go while they share one output: it is completed unattended, with the bytes of one process.

`pytest -m slow tests/volumes/engine/test_elastic.py --trials 20 -s` prints what each trial took.
"""

import json
import os
import random
import shutil
import signal
import time
from contextlib import suppress

import pytest

from seewhy.volumes.engine.ledger import Ledger
from seewhy.volumes.geometry import voxels

BUDGET = 1.5e6
"""Bytes of a tile: 32 columns of 6 units."""


def watch(folder, share, *, seconds=120):
    """Wait until a share of the volume is written."""
    total, end = 96 * 64 * 64, time.monotonic() + seconds
    while time.monotonic() < end:
        notes = folder / "out.zarr" / ".seewhy"
        if notes.is_dir() and sum(map(voxels, Ledger(notes).committed())) >= share * total:
            return
        time.sleep(0.02)
    raise AssertionError(f"{share:.0%} were not written in {seconds} s")


@pytest.mark.slow
def test_one_killed_one_slow_one_late(nursery, folder, stored, request, capsys):
    """Four processes; idle is what they waited for each other, as a share of all their seconds.

    The end, at which all that are left build the coarser levels, is printed apart; waiting there is idle, too.
    """
    began = time.monotonic()
    assert nursery("wait", nursery("start", folder / "whole", 0, 1, 1e9)) == 0
    expected, alone = stored(folder / "whole"), time.monotonic() - began
    idle, whole, taken = 0.0, 0.0, 0
    for trial in range(request.config.getoption("--trials")):
        draw, began = random.Random(trial), time.monotonic()
        slow = draw.randrange(3)
        running = [nursery("start", folder / "killed", 0, 1, BUDGET, 4 if i == slow else 1) for i in range(3)]
        victim = draw.choice(running)
        for share, late in sorted([(draw.uniform(0.05, 0.8), False), (draw.uniform(0.05, 0.6), True)]):
            watch(folder / "killed", share)
            if late:
                running.append(nursery("start", folder / "killed", 0, 1, BUDGET))
            else:
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
        codes = {process: nursery("wait", process) for process in running}
        assert all(code == (-signal.SIGKILL if process == victim else 0) for process, code in codes.items())
        assert stored(folder / "killed") == expected
        records = [json.loads(path.read_text()) for path in (folder / "killed").glob("worker-*.json")]
        assert len(records) == 3
        waited, finishing = (sum(record[key] for record in records) for key in ("waited", "finishing"))
        spent = sum(record["whole"] for record in records)
        idle, whole = idle + waited, whole + spent
        taken += sum(sum(record["taken_over"].values()) for record in records)
        again = sum(record["run"] for record in records)
        with capsys.disabled():
            print(
                f"trial {trial}: {time.monotonic() - began:.1f} s (alone {alone:.1f}), idle {waited / spent:.1%}, "
                f"end {finishing / spent:.1%}, {again} patches by the three that ended, "
                f"{sum(r['helped'] for r in records)} units helped, "
                f"{sum(sum(r['taken_over'].values()) for r in records)} taken over"
            )
        shutil.rmtree(folder / "killed" / "out.zarr")
        for path in (folder / "killed").glob("worker-*.json"):
            path.unlink()
    assert taken > 0
    with capsys.disabled():
        print(f"idle {idle / whole:.1%} in all")
    assert idle < 0.05 * whole


@pytest.mark.slow
def test_one_that_sleeps_past_its_lease_spoils_nothing(nursery, folder, stored):
    """Stopped in the middle of its units, replaced by another process, and woken up when all is done."""
    assert nursery("wait", nursery("start", folder / "whole", 0, 1, 1e9)) == 0
    sleeper = nursery("start", folder / "killed", 0, 1, 1e9)
    watch(folder / "killed", 0.3)
    os.kill(sleeper, signal.SIGSTOP)
    other = nursery("start", folder / "killed", 0, 1, 1e9)
    assert nursery("wait", other) == 0
    done = stored(folder / "killed")
    assert done == stored(folder / "whole")
    os.kill(sleeper, signal.SIGCONT)
    assert nursery("wait", sleeper) == 0
    assert stored(folder / "killed") == done
    record = json.loads((folder / "killed" / "worker-0001.json").read_text())
    # Its units were computed by the other one: as help, or after the lease, whichever came first.
    assert record["helped"] + sum(record["taken_over"].values()) > 0
