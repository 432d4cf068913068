"""`seewhy evaluate` on a tiny phantom run: every file it promises, and numbers that are those of the data."""

import csv
import json

import numpy as np
import pytest
from lightning.pytorch import Trainer

from seewhy.cli.compose import compose_saved, compose_train
from seewhy.errors import ConfigError
from seewhy.io.atomic import file_sha256
from seewhy.run.loaded.saved_run import load_run
from seewhy.run.translation.evaluate import evaluate
from seewhy.run.translation.evaluation.recorder import collect_training_quantiles
from seewhy.run.translation.score_table import read_samples

TINY = (
    "experiment=demo/cyclegan",
    "phantom.subjects=[8,8]",
    "phantom.shape=[32,32,24]",
    "data.fractions=[0.3,0.2,0.5]",
    "data.crop_size=24",
    "data.batch_size=2",
    "data.batches_per_epoch=1",
    "model.generator.width=4",
    "model.discriminator.width=4",
    "test=false",
    "trainer.max_epochs=1",
    "trainer.check_val_every_n_epoch=1",
    "trainer.enable_progress_bar=false",
    "trainer.enable_model_summary=false",
)
QUICK = (
    "evaluate.slices=4", "evaluate.probe.seeds=1", "evaluate.probe.steps=3", "evaluate.probe.size=8",
    "evaluate.distances.repeats=4", "evaluate.distances.resamples=10", "trainer.enable_progress_bar=false",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(train_here, tmp_path_factory):
    """A run of one step, evaluated."""
    folder = tmp_path_factory.mktemp("translation")
    train_here(folder, base=TINY)
    evaluate(compose_saved("evaluate", folder, *QUICK))
    return folder


@pytest.fixture(scope="module")
def told(run):
    """`evaluation.json`."""
    return json.loads((run / "evaluation" / "evaluation.json").read_text())


def table(run):
    with (run / "evaluation" / "table.csv").open(newline="") as file:
        return {(row["direction"], row["method"]): row for row in csv.DictReader(file)}


def test_everything_is_written(run):
    names = {path.name for path in (run / "evaluation").iterdir()}
    assert names >= {
        "samples.parquet", "samples.json", "evaluation.json", "table.csv", "evaluation.png", "evaluation.pdf",
        "evaluation_results.json", "cycle_consistency_results.json",
    }  # fmt: skip


def test_what_was_evaluated_is_beside_the_numbers(run, told):
    record = (run / "config.yaml").read_text()
    assert told["split"] in record
    assert told["checkpoint"]["sha256"] == file_sha256(run / "checkpoints" / "best.ckpt")
    assert told["phantom"] is True
    assert told["features"]["name"] == "statistics"
    assert told["subjects"] == {"a": 4, "b": 4}
    assert told["slices"] == {"a": 16, "b": 16}
    assert told["seeds"] == [0]
    assert set(told["methods"]) == {"identity", "histogram", "nyul", "combat", "model"}
    assert all(row["phantom"] == "True" for row in table(run).values())


def test_baselines_go_through_the_models_scores(run, told):
    for name, status in told["methods"].items():
        if status == "ok":
            for direction in ("a2b", "b2a"):
                assert told["similarity"][name][direction]["translation"]["ssim"]["patients"] == 4
                assert told["distances"][direction]["methods"][name]["frechet"]["matched"] is not None
    raw = told["similarity"]["identity"]["a2b"]
    assert raw["translation"] == raw["identity"]
    assert told["similarity"]["model"]["a2b"]["identity"] == raw["identity"]
    rows = table(run)
    assert float(rows["a2b", "identity"]["change_ssim"]) == pytest.approx(1, abs=1e-6)
    assert rows["a2b", "identity"]["cycle_ssim"] == ""
    for row in (rows["a2b", "identity"], rows["a2b", "model"]):
        assert 0 <= float(row["network_retrained"]) <= 1
    assert rows["a2b", "real"]["frechet_matched"] != ""
    assert float(rows["a2b", "identity"]["lesion_relative_change"]) == 0
    assert all(row["volume_ratio"] == row["volume"] / row["volume_source"] for row in told["rows"]["lesions"])
    assert float(rows["b2a", "counterpart"]["lesion_contrast"]) != float(rows["b2a", "identity"]["lesion_contrast"])


def test_samples_are_the_models_slices_and_agree_with_the_references_file(run):
    rows = read_samples(run / "evaluation")
    assert {row["comparison"] for row in rows} == {"cycle", "translation", "identity", "change"}
    forward = [row for row in rows if (row["comparison"], row["metric"], row["direction"])
               == ("translation", "psnr", "a2b")]  # fmt: skip
    slices = {}
    for row in forward:
        slices.setdefault(row["id"], []).append(row["value"])
    results = json.loads((run / "evaluation" / "evaluation_results.json").read_text())
    assert results["a2b"]["psnr"]["mean"] == pytest.approx(np.mean([np.mean(own) for own in slices.values()]))
    assert results["test_samples"] == len({row["id"] for row in rows})
    assert results["a2b"]["lpips"]["mean"] is None
    cycle = json.loads((run / "evaluation" / "cycle_consistency_results.json").read_text())
    assert set(cycle["cycle_a"]) == {"ssim", "psnr", "mae"}


def test_baselines_are_fitted_on_training_subjects_alone(run):
    datamodule = load_run(compose_saved("evaluate", run)).datamodule
    quantiles = collect_training_quantiles(datamodule)
    for domain, own in quantiles.items():
        subjects = [one for one in datamodule.items_of("train") if one.domain == domain]
        assert len(own) == len(subjects) < 4
        low, high = datamodule.reader.measure_intensity(subjects[1]).T
        expected = np.clip((subjects[1].quantiles[:, 500] - low) / (high - low) * 2 - 1, -1, 1)
        np.testing.assert_allclose(own[1, :, 500], expected, rtol=1e-5)
        assert own.min() == -1
        assert own.max() == 1


def test_the_table_is_printed_and_a_folder_can_be_chosen_where_scores_of_the_test_stay(run, tmp_path, capsys):
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "samples.parquet").write_bytes(b"of the test")
    words = [*QUICK, f"evaluate.folder={tmp_path}", "evaluate.baselines=[]", "data.predict_on=val"]
    evaluate(compose_saved("evaluate", run, *words))
    printed = capsys.readouterr().out
    assert "PHANTOM" in printed
    assert "cannot be estimated from" in " ".join(printed.split())
    folder = tmp_path / "evaluation_val"
    told = json.loads((folder / "evaluation.json").read_text())
    assert set(told["methods"]) == {"identity", "model"}
    assert told["probes"]["summary"] == []
    assert "cannot be estimated" in told["probes"]["not_estimated"]
    assert (folder / "evaluation.png").is_file()
    assert [path.read_bytes() for path in (tmp_path / "evaluation").iterdir()] == [b"of the test"]


def test_one_domain_alone_is_refused_before_anything_is_translated(run, monkeypatch):
    monkeypatch.setattr(Trainer, "predict", lambda *_, **__: pytest.fail("subjects were translated"))
    with pytest.raises(ConfigError, match=r"two domains.*subjects of a;.*data\.domain=both"):
        evaluate(compose_saved("evaluate", run, *QUICK, "data.domain=a"))


def test_data_of_one_domain_are_refused(run):
    config = compose_saved("evaluate", run, *QUICK)
    config.data = compose_train("experiment=demo/brats", "data.root=here").data
    config.phantom = None
    with pytest.raises(ConfigError, match=r"experiment=demo/cyclegan"):
        evaluate(config)
