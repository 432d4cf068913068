"""Claims and presence: exactly one owner, whatever happens to it."""

import json
import multiprocessing
import os
import signal
import time

import pytest

from seewhy.errors import ConfigError, DataError
from seewhy.io.atomic import create_exclusively
from seewhy.sharing.claims import FileClaims
from seewhy.sharing.workers import Workers
from seewhy.volumes.engine.ledger import Ledger
from seewhy.volumes.geometry import box_of

CONTEXT = multiprocessing.get_context("fork")


def joined(folder, lease=60.0):
    """A process' claims; several of them may live in one process of the system."""
    workers = Workers(folder, lease=lease)
    workers.join()
    return FileClaims(folder / "claims", workers)


def _claim_all(folder, barrier, results):
    claims = joined(folder)
    barrier.wait()
    results.put([key for key in map(str, range(50)) if claims.take(key)])
    barrier.wait()  # nobody leaves before all have tried
    claims.workers.leave()


def test_every_piece_has_one_owner(tmp_path):
    barrier, results = CONTEXT.Barrier(4), CONTEXT.Queue()
    processes = [CONTEXT.Process(target=_claim_all, args=(tmp_path, barrier, results)) for _ in range(4)]
    for process in processes:
        process.start()
    owned = [results.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(key for keys in owned for key in keys) == sorted(map(str, range(50)))
    assert len({path.name for path in tmp_path.glob("worker-*.json")}) == 4


def _claim_and_sleep(folder, ready):
    claims = joined(folder)
    assert claims.take("3-4")
    ready.set()
    time.sleep(60)


@pytest.fixture
def sleeper(tmp_path):
    """A process that has claimed `3-4`, and will do nothing more."""
    ready = CONTEXT.Event()
    process = CONTEXT.Process(target=_claim_and_sleep, args=(tmp_path, ready))
    process.start()
    assert ready.wait(20)
    yield process
    process.kill()
    process.join()


def test_a_killed_process_of_this_machine_is_seen_at_once_and_replaced_by_one(tmp_path, sleeper):
    first, second = joined(tmp_path), joined(tmp_path)
    assert not first.take("3-4")
    assert first.holders("3-4") == ["0000"]
    os.kill(sleeper.pid, signal.SIGKILL)
    time.sleep(0.3)  # it is not collected yet: a process that has ended counts, even if its id is in use
    assert [first.take("3-4"), second.take("3-4")] == [True, False]
    assert first.taken_over == {"0000": 1}
    assert second.holders("3-4") == [first.workers.name]
    sleeper.join()


def test_a_process_that_hangs_or_runs_elsewhere_is_lost_after_its_lease(tmp_path, sleeper):
    observer = joined(tmp_path, lease=1.0)
    os.kill(sleeper.pid, signal.SIGSTOP)
    began = time.monotonic()
    while not observer.take("3-4"):
        time.sleep(0.05)
    assert 0.9 < time.monotonic() - began < 5
    os.kill(sleeper.pid, signal.SIGCONT)


def test_clocks_are_never_compared(tmp_path):
    """A process of another machine whose clock is years ahead or behind lives while its number changes."""
    observer = joined(tmp_path, lease=0.6)
    path = tmp_path / "worker-0007.json"
    record = {"name": "0007", "host": "far:1:2", "pid": 1, "started": "5", "token": "t", "beat": 0, "pace": 2.5}
    assert create_exclusively(tmp_path / "claims" / "1-1-g0", b"0007")
    for beat in range(4):
        path.write_text(json.dumps({**record, "beat": beat, "ended": False}))
        os.utime(path, (0, 0) if beat % 2 else (4e9, 4e9))
        time.sleep(0.25)
        assert not observer.take("1-1")
        assert observer.pace("0007") == 2.5
    time.sleep(0.7)
    assert observer.take("1-1")


def test_one_that_leaves_frees_its_claims_and_keeps_its_name(tmp_path):
    first, second = joined(tmp_path), joined(tmp_path)
    assert first.take("0-0")
    assert not second.take("0-0")
    first.workers.leave()
    time.sleep(0.3)
    assert second.take("0-0")
    assert joined(tmp_path).workers.name == "0002"


def test_a_claim_that_was_cut_off_counts_for_a_moment(tmp_path, monkeypatch):
    monkeypatch.setattr("seewhy.sharing.claims.MOMENT", 0.3)
    claims = joined(tmp_path)
    (tmp_path / "claims" / "0-1-g0").touch()
    claims.refresh()
    assert not claims.take("0-1")
    time.sleep(0.4)
    assert claims.take("0-1")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"5", b'{"name": 3}', b"\xff\xfe"])
def test_damaged_words_of_a_process_are_those_of_a_lost_one(tmp_path, content):
    observer = joined(tmp_path, lease=0.3)
    (tmp_path / "worker-0009.json").write_bytes(content)
    (tmp_path / "claims" / "0-1-g0").write_bytes(b"0009")
    assert not observer.take("0-1")
    time.sleep(0.5)
    assert observer.take("0-1")
    assert observer.workers.others() == []


def _measure(folder, seconds):
    Ledger(folder, lease=5).statistics(lambda: time.sleep(seconds) or {"by": os.getpid()})


def test_what_is_done_once_is_done_by_another_if_its_process_is_killed(tmp_path):
    process = CONTEXT.Process(target=_measure, args=(tmp_path, 60))
    process.start()
    while not list(tmp_path.glob("claims-once/statistics-g0")):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert Ledger(tmp_path).statistics(lambda: {"by": "the next"}) == {"by": "the next"}
    calls = []
    region = box_of((0, 0, 0), (4, 4, 4))
    with pytest.raises(DataError, match="full"):
        Ledger(tmp_path).finish_once(lambda: (_ for _ in ()).throw(DataError("full")), region=region)
    assert Ledger(tmp_path).finish_once(lambda: calls.append(1), region=region)
    assert calls == [1]


def test_one_whose_output_was_replaced_writes_no_more(tmp_path):
    ledger = Ledger(tmp_path / "notes")
    ledger.workers.join()
    ledger.check_member()
    Ledger(tmp_path / "notes").clear(output="new")
    with pytest.raises(ConfigError, match="was replaced or removed"):
        ledger.check_member()
    other = Workers(tmp_path / "notes")
    assert other.join() == ledger.workers.name
    with pytest.raises(ConfigError, match="was replaced or removed"):
        ledger.check_member()
