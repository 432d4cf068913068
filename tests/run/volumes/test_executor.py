"""Jobs through submitit: two real processes of this machine, and mistakes that are found before any starts."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import seewhy.run.executor as module
from seewhy.errors import ConfigError, DataError
from seewhy.run.volumes.predict import predict_volume

pytest.importorskip("submitit")


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


predicting = load(Path(__file__).with_name("test_predict.py"))
base, values, config = predicting.base, predicting.values, predicting.config
contents, elsewhere, result, set_options = (
    predicting.contents, predicting.elsewhere, predicting.result, predicting.set_options,
)  # fmt: skip


@pytest.fixture
def jobs(config):
    """A prediction by two jobs of this machine."""
    set_options(config, executor="submitit", submitit={"cluster": "local", "timeout_min": 5}, num_parts=2)
    return config


@pytest.mark.slow
def test_two_jobs_share_one_output(jobs, capsys):
    shared = jobs.volume.output
    set_options(jobs, executor=None, num_parts=1, output=elsewhere(jobs, "alone"))
    predict_volume(jobs)
    alone, files = result(jobs), contents(jobs.volume.output)
    set_options(jobs, executor="submitit", num_parts=2, output=shared)
    capsys.readouterr()
    predict_volume(jobs)
    printed = capsys.readouterr().out
    assert "2 jobs (" in printed
    assert printed.endswith(f"output: {shared}\n")
    np.testing.assert_array_equal(result(jobs), alone)
    assert contents(jobs.volume.output) == files


@pytest.mark.slow
def test_jobs_that_all_fail_end_with_their_reason(jobs):
    jobs.volume.model.weights = str(jobs.volume.model.weights).replace("unet.pth", "missing.pth")
    with pytest.raises(DataError, match=r"not complete, 2 of 2 jobs ended early \(.*missing\.pth"):
        predict_volume(jobs)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"submitit": {"cluster": "local", "timeout_mins": 5}}, r"volume\.job\.submitit: .*timeout_mins"),
        ({"submitit": {"cluster": "nowhere"}}, r"volume\.job\.submitit: .*nowhere"),
        ({"overwrite": True, "num_parts": 1}, "remove the output"),
        ({"output": "pred.nii.gz"}, "several jobs can only share a store"),
    ],
)
def test_mistakes_are_found_before_a_job_starts(jobs, changes, words, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_watch", None)
    monkeypatch.chdir(tmp_path)
    set_options(jobs, **changes)
    with pytest.raises(ConfigError, match=words):
        predict_volume(jobs)
