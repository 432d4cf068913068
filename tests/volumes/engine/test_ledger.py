"""Notes of a run."""

import json
import multiprocessing

import numpy as np
import pytest

from seewhy.errors import ConfigError
from seewhy.volumes.engine.coverage import Coverage
from seewhy.volumes.engine.ledger import Ledger
from seewhy.volumes.geometry import PatchGrid, box_of
from seewhy.volumes.memory import Costs
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.plan import make_plan

BOX = box_of((0, 0, 16), (16, 8, 32))


def test_the_same_run_is_joined_and_another_refused_by_its_keys(tmp_path):
    settings = {"grid": {"patch": [4, 4, 4], "overlap": 0.5}, "weights": "abc"}
    Ledger(tmp_path / "out.zarr" / ".seewhy").begin(settings)
    Ledger(tmp_path / "out.zarr" / ".seewhy").begin(json.loads(json.dumps(settings)))
    other = {"grid": {"patch": [4, 4, 4], "overlap": 0.25}, "tta": True}
    with pytest.raises(ConfigError) as refusal:
        Ledger(tmp_path / "out.zarr" / ".seewhy").begin(other)
    words = str(refusal.value)
    assert "out.zarr was begun with other settings" in words
    assert "grid.overlap: 0.5 → 0.25" in words
    assert "weights: abc → (none)" in words
    assert "tta: (none) → True" in words
    assert "patch" not in words


def join(folder):
    """A ledger whose process may commit."""
    ledger = Ledger(folder)
    ledger.workers.join()
    ledger.open_notes()
    return ledger


def test_commits_of_all_processes_are_read_and_a_torn_line_is_not(tmp_path):
    for part in (0, 1):
        ledger = join(tmp_path)
        assert ledger.name == f"000{part}"
        ledger.commit(box_of((16 * part, 0, 0), (16 * part + 16, 8, 8)))
        ledger.close()
    torn = tmp_path / "part-0000.jsonl"
    torn.write_bytes(torn.read_bytes() + b"[[0, 16], [0,")
    (tmp_path / "part-0002-of-0004.jsonl").write_bytes(b"[[32, 48], [0, 8], [0, 8]]\n")  # of an earlier version
    assert len(Ledger(tmp_path).committed()) == 3
    ledger = join(tmp_path)
    assert ledger.name == "0002"
    ledger.commit(BOX)
    assert BOX in ledger.committed()
    assert len(ledger.committed()) == 4
    ledger.close()


def _begin(folder, barrier, results, value):
    barrier.wait()
    try:
        Ledger(folder).begin({"value": value})
        results.put(value)
    except ConfigError:
        results.put(None)


def test_of_runs_that_begin_at_once_one_set_of_settings_wins(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(4), context.Queue()
    processes = [context.Process(target=_begin, args=(tmp_path, barrier, results, value)) for value in (1, 1, 2, 2)]
    for process in processes:
        process.start()
    found = [results.get(timeout=20) for _ in processes]
    for process in processes:
        process.join()
    won = json.loads((tmp_path / "run.json").read_text())["value"]
    assert sorted(found, key=str) == sorted([won, won, None, None], key=str)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_statistics_are_measured_once_and_the_end_happens_once(tmp_path):
    calls = []
    for _ in range(2):
        assert Ledger(tmp_path).statistics(lambda: calls.append("measured") or {"mean": 1.5}) == {"mean": 1.5}
    assert Ledger(tmp_path).finish_once(lambda: calls.append("finished"), region=BOX)
    assert not Ledger(tmp_path).finish_once(lambda: calls.append("finished"), region=BOX)
    assert calls == ["measured", "finished"]


def test_coverage_counts_units_that_are_written_over_their_whole_width():
    grid = PatchGrid(shape=(50, 20, 20), patch=(8, 8, 8))
    costs = Costs(grid, OutputFormat(mode="binary", channels=2), 1, 1, (8, 8, 8), (8, 16, 16), 1)
    plan = make_plan(costs, memory_budget=10**9)
    coverage = Coverage(shape=(50, 20, 20), shard=(8, 16, 16), boxes=[box_of((8, 0, 0), (24, 20, 20))])
    assert coverage.units(plan).tolist() == [[False, True, True, False, False, False, False]]
    coverage.add(box_of((48, 0, 0), (50, 16, 20)))
    assert not coverage.units(plan)[0, 6]
    coverage.add(box_of((48, 16, 0), (50, 20, 20)))
    assert coverage.units(plan)[0, 6]
    assert not coverage.is_complete(plan.region)
    coverage.add(box_of((0, 0, 0), (50, 20, 20)))
    assert coverage.is_complete(plan.region)
    assert np.prod(coverage.written.shape) == 7 * 2 * 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("run.json", content) for content in (b"", b"{", b"[]", b"5", b"\xff")),
        *(
            ("part-0000-of-0001.jsonl", line + b"\n")
            for line in (b"", b"[]", b"{}", b"[[0, 4]]", b"[[0, 4], [0, 4], 5]")
        ),
        *(
            ("part-0000-of-0001.jsonl", line + b"\n")
            for line in (b"[[-4, 4], [0, 4], [0, 4]]", b"[[4, 4], [0, 4], [0, 4]]")
        ),
        ("part-0000-of-0001.jsonl", b'[["a", 4], [0, 4], [0, 4]]\n'),
        ("statistics.json", b"{"),
        ("finished.json", b"{"),
    ],
)
def test_damaged_notes_are_named_with_the_remedy(tmp_path, name, content):
    def read_all():
        ledger.begin({"model": "m"})
        ledger.committed()
        ledger.statistics(dict)
        ledger.finish_once(lambda: None, region=(slice(0, 4), slice(0, 4), slice(0, 4)))

    ledger = Ledger(tmp_path)
    ledger.begin({"model": "m"})
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"{name}.*volume\.overwrite=true"):
        read_all()
