"""Logits of patches kept on disk, blended and finalised in steps of their own."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from seewhy.errors import ConfigError, DataError
from seewhy.io.zarr.mapped import ArraySource
from seewhy.volumes.engine.ledger import Ledger
from seewhy.volumes.engine.writer import ArraySink
from seewhy.volumes.memory import Costs
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.plan import make_plan
from seewhy.volumes.stored_logits import LogitStore, blend, finalize


@pytest.fixture
def half_empty():
    values = np.random.default_rng(0).random((1, 44, 36, 36), dtype=np.float32)
    values[:, :20, :20] = 0
    return values


def kept(make_job, volume, folder, *, parts=1):
    """A job whose logits of all patches are on disk."""
    job = make_job(volume=volume, skip_empty=True)
    store = LogitStore.create(folder / "logits.zarr", grid=job.grid, channels=2, facts={"weights": "abc"})
    job = make_job(volume=volume, skip_empty=True, sink=store, parts=parts, folder=store.bookkeeping)
    engines = [job.engine(part) for part in range(parts)]
    with ThreadPoolExecutor(parts) as pool:
        for progress in [pool.submit(engine.run, job.predictor()) for engine in engines]:
            progress.result()
    assert engines[-1].finish()
    return job, store


def planned(job, output_format, *, budget=1e12, parts=1):
    costs = Costs(**(job.plan.costs._asdict() | {"output_format": output_format}))
    return make_plan(costs, memory_budget=int(budget), parts=parts)


@pytest.mark.parametrize("parts", [1, 3])
def test_steps_give_the_result_of_one_pass(make_job, half_empty, tmp_path, parts):
    job, store = kept(make_job, half_empty, tmp_path, parts=parts)
    direct = make_job(volume=half_empty, skip_empty=True).run().astype(int)

    whole = np.zeros(job.grid.shape, np.uint8)
    assert blend(store, sink=ArraySink(whole), output_format=job.classes, plan=planned(job, job.classes))
    assert np.abs(whole - direct).max() <= 1

    raw = OutputFormat(mode="binary", channels=2, stored="logits")
    blended = np.zeros(raw.shape(job.grid.shape), np.float16)
    plan = planned(job, raw, parts=parts)
    with ThreadPoolExecutor(parts) as pool:
        steps = [
            pool.submit(
                blend, store, sink=ArraySink(blended), output_format=raw, plan=plan, ledger=Ledger(notes), part=part
            )
            for part, notes in enumerate([tmp_path / "b"] * parts)
        ]
        assert all(step.result() for step in steps)
    result = np.zeros(job.grid.shape, np.uint8)
    assert finalize(
        ArraySource(blended),
        sink=ArraySink(result),
        output_format=job.classes,
        plan=planned(job, job.classes),
        ledger=Ledger(tmp_path / "f"),
    )
    assert np.abs(result - direct).max() <= 1
    assert not result[:4, :4, :4].any()
    assert direct.std() > 20


def test_skipped_patches_take_no_space_and_each_patch_is_one_file(make_job, half_empty, tmp_path):
    job, store = kept(make_job, half_empty, tmp_path)
    files = [path for path in (tmp_path / "logits.zarr" / "c").rglob("*") if path.is_file()]
    read = {position: store.read_patch(position) for position in np.ndindex(*(len(s) for s in job.grid.starts))}
    assert len(files) == sum(logits is not None for logits in read.values()) < job.grid.count
    assert read[0, 0, 0] is None
    last = tuple(len(starts) - 1 for starts in job.grid.starts)
    patch = torch.from_numpy(half_empty[(slice(None), *job.grid.box(last))])[None]
    assert torch.allclose(torch.from_numpy(read[last]).float(), job.net(patch)[0], atol=1e-2)


def test_what_is_not_complete_is_refused(make_job, half_empty, tmp_path):
    store = LogitStore.create(tmp_path / "logits.zarr", grid=make_job(volume=half_empty).grid, channels=2, facts={})
    job = make_job(volume=half_empty, sink=store, skip_empty=True, folder=tmp_path / "notes")
    job.engine().run(job.predictor())
    result = ArraySink(np.zeros(job.grid.shape, np.uint8))
    with pytest.raises(ConfigError, match="not complete"):
        blend(store, sink=result, output_format=job.classes, plan=planned(job, job.classes))
    assert job.engine().finish()
    assert blend(store, sink=result, output_format=job.classes, plan=planned(job, job.classes))


def test_mistakes_are_named(make_job, half_empty, tmp_path):
    job, store = kept(make_job, half_empty, tmp_path)
    output_format = OutputFormat(mode="multiclass", channels=3)
    with pytest.raises(ConfigError, match=r"2 channels of logits, .* takes 3"):
        blend(store, sink=ArraySink(np.zeros(1)), output_format=output_format, plan=planned(job, output_format))
    with pytest.raises(ConfigError, match="another grid"):
        LogitStore.create(tmp_path / "logits.zarr", grid=make_job().grid, channels=2, facts={})
    with pytest.raises(ConfigError, match="holds no logits"):
        LogitStore(tmp_path / "nothing.zarr")
    huge = make_job(volume=half_empty, sink=store)
    with pytest.raises(DataError, match="do not fit into float16"):
        huge.engine().run(lambda image: torch.full((4, 2, 16, 16, 16), 1e5))
