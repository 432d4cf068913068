"""A run that is stopped anywhere goes on where it was, and gives the same bytes."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import zarr

from seewhy.errors import ConfigError
from seewhy.io.zarr.sink import open_sink
from seewhy.volumes.engine.writer import ArraySink

SCRIPT = Path(__file__).with_name("killed.py")


class StoppedError(Exception):
    """Stands for whatever ends a run."""


@pytest.mark.parametrize("seed", range(6))
def test_stopped_at_random_batches(make_job, tmp_path, seed):
    draw = random.Random(seed)
    whole = make_job().run()
    array = np.full(whole.shape, 77, np.uint8)
    starts = 0
    while True:
        starts += 1
        # Another number of parts and another budget every time: neither changes the output.
        parts = draw.choice((1, 2))
        job = make_job(sink=ArraySink(array), folder=tmp_path, parts=parts, budget=draw.choice((1e12, 3e6)))
        left = draw.randint(1, 45 if starts > 1 else 20)  # a row of shards takes 20 at most

        def predict(image, net=job.net):
            nonlocal left
            left -= 1
            if not left:
                raise StoppedError
            return net(image)

        try:
            for part in range(parts):
                job.engine(part).run(predict)
            break
        except StoppedError:
            continue
    assert starts > 1
    assert np.array_equal(array, whole)
    assert job.engine().complete


def test_taken_up_runs_only_patches_that_reach_past_what_is_written(make_job, tmp_path):
    array = np.zeros(make_job().grid.shape, np.uint8)
    job = make_job(sink=ArraySink(array), folder=tmp_path, overlap=0.5)
    engine = job.engine()
    for batch in engine:
        engine.accept(batch, job.net(batch["image"]))
        if engine.ledger.committed():
            break
    engine.abandon()
    row = engine.ledger.coverage(job.plan).first_open_row(job.plan.tiles[0].core)
    again = job.engine()
    per_step = len(job.grid.starts[1]) * len(job.grid.starts[2])
    progress = again.run(job.predictor())
    assert row in (16, 32)
    assert progress.run == per_step * len(job.grid.covering(0, row, 52))


def test_a_finished_run_computes_nothing_and_a_lost_part_only_itself(make_job, tmp_path):
    array = np.full(make_job().grid.shape, 77, np.uint8)
    job = make_job(sink=ArraySink(array), folder=tmp_path, parts=3)
    runs = [job.engine(part).run(job.predictor()).run for part in (0, 2)]
    assert not job.engine(0).complete
    assert job.engine(0).run(job.predictor()).run == 0
    runs.append(job.engine(1).run(job.predictor()).run)
    assert sum(runs) == job.plan.patches
    assert job.engine(1).complete
    assert np.array_equal(array, make_job().run())


def test_a_changed_setting_is_refused_by_name(make_job, tmp_path):
    make_job(folder=tmp_path, settings={"weights": "aaa"}).run()
    with pytest.raises(ConfigError, match=r"overlap: 0.5 → 0.25.*weights: aaa → bbb"):
        make_job(folder=tmp_path, overlap=0.25, settings={"weights": "bbb"}).run()
    changed = make_job().volume.copy()
    changed[0, 0, 0, 0] += 1
    with pytest.raises(ConfigError, match=r"input\.sha256"):
        make_job(folder=tmp_path, volume=changed, settings={"weights": "aaa"}).run()


@pytest.fixture
def nursery():
    """Asks the script and gives its answer."""
    source = str(Path(__file__).resolve().parents[3] / "src")
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": source},
    )

    def ask(*words):
        process.stdin.write(" ".join(map(str, words)) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    yield ask
    process.stdin.close()
    assert process.wait() == 0


def stored(folder):
    """Every file of the result but the notes, and but for the identity that each store has: path → bytes."""
    root = folder / "out.zarr"
    identity = open_sink(root).identity.encode()
    return {
        str(path.relative_to(root)): path.read_bytes().replace(identity, b"")
        for path in root.rglob("*")
        if path.is_file() and ".seewhy" not in path.parts
    }


@pytest.fixture
def folder(tmp_path):
    """Two folders with one volume."""
    values = (1000 * np.random.default_rng(0).random((96, 64, 64))).astype(np.uint16)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        array = zarr.create_array(tmp_path / name / "in.zarr", shape=values.shape, dtype=values.dtype, chunks=(32,) * 3)
        array[:] = values
        for file in sorted((tmp_path / name / "in.zarr").rglob("*")):
            os.utime(file, (1e9, 1e9))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 2])
def test_killed_twenty_times(nursery, folder, parts):
    draw = random.Random(parts)
    assert nursery("wait", nursery("start", folder / "whole", 0, 1, 1e9)) == 0
    kills, finished, done = 0, 0, set()
    while kills < 20 or not finished:
        left = [part for part in range(parts) if part not in done]
        running = {part: nursery("start", folder / "killed", part, parts, draw.choice((1e9, 8e6))) for part in left}
        for part, process in running.items():
            time.sleep(draw.uniform(0, 2))
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            code = nursery("wait", process)
            assert code in (0, -signal.SIGKILL)
            kills += code != 0
            if code == 0:
                done.add(part)
        if len(done) == parts:
            assert stored(folder / "killed") == stored(folder / "whole")
            shutil.rmtree(folder / "killed" / "out.zarr")
            finished, done = finished + 1, set()
