"""A run that is stopped anywhere goes on where it was, and gives the same bytes."""

import os
import random
import shutil
import signal
import time
from contextlib import suppress

import numpy as np
import pytest

from seewhy.errors import ConfigError
from seewhy.volumes.engine.writer import ArraySink


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
            job.engine(draw.randrange(parts)).run(predict)
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
    row = 16 * int(engine.ledger.coverage(job.plan).units(job.plan)[0].argmin())
    again = job.engine()
    per_step = len(job.grid.starts[1]) * len(job.grid.starts[2])
    progress = again.run(job.predictor())
    assert row in (16, 32)
    assert progress.run == per_step * len(job.grid.covering(0, row, 52))


def test_a_finished_run_computes_nothing(make_job, tmp_path):
    array = np.full(make_job().grid.shape, 77, np.uint8)
    job = make_job(sink=ArraySink(array), folder=tmp_path, parts=3)
    assert job.engine(1).run(job.predictor()).run >= job.plan.needed
    assert job.engine(0).complete
    assert job.engine(0).run(job.predictor()).run == 0
    assert np.array_equal(array, make_job().run())


def test_a_changed_setting_is_refused_by_name(make_job, tmp_path):
    make_job(folder=tmp_path, settings={"weights": "aaa"}).run()
    with pytest.raises(ConfigError, match=r"overlap: 0.5 → 0.25.*weights: aaa → bbb"):
        make_job(folder=tmp_path, overlap=0.25, settings={"weights": "bbb"}).run()
    changed = make_job().volume.copy()
    changed[0, 0, 0, 0] += 1
    with pytest.raises(ConfigError, match=r"input\.sha256"):
        make_job(folder=tmp_path, volume=changed, settings={"weights": "aaa"}).run()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_twenty_times(nursery, folder, stored, processes):
    draw = random.Random(processes)
    assert nursery("wait", nursery("start", folder / "whole", 0, 1, 1e9)) == 0
    kills, finished = 0, 0
    while kills < 20 or not finished:
        running = [
            nursery("start", folder / "killed", part, processes, draw.choice((1e9, 8e6))) for part in range(processes)
        ]
        codes = []
        for process in running:
            time.sleep(draw.uniform(0, 2))
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            codes.append(nursery("wait", process))
        assert set(codes) <= {0, -signal.SIGKILL}
        kills += len(codes) - codes.count(0)
        if 0 in codes:  # each one stays until everything is written
            assert stored(folder / "killed") == stored(folder / "whole")
            shutil.rmtree(folder / "killed" / "out.zarr")
            finished += 1
