"""Mistakes that are reported before the first epoch, and results that a later failure does not cost."""

import pytest
from grading import GRADING

from seewhy.cli.compose import compose_saved
from seewhy.errors import ConfigError, SeewhyError
from seewhy.reporting.session import Session
from seewhy.run.predict import predict

EXPLAINED = (*GRADING, "explain.methods=[grad_cam]", "explain.judge=none", "explain.max_samples=2")


@pytest.mark.parametrize(
    ("word", "fact"),
    [
        ("explain.target=nosuch", r"explain\.target='nosuch'"),
        ("explain.target=9", r"explain\.target=9 .* 0 to 3"),
        ("explain.options.grad_cam.layers=nosuch", r"explain\.options\.grad_cam.*no layer 'nosuch'"),
        ("explain.samples=[nosuch]", r"explain\.samples.*'nosuch'"),
        ("explain.samples=nosuch", r"explain\.samples='nosuch'"),
        ("explain.methods=[nosuch]", r"explain\.methods.*'nosuch'"),
        ("callbacks.best.monitor=val/mine", r"callbacks\.best\.monitor='val/mine'.*mode"),
        ("callbacks.best.mode=max", r"callbacks\.best\.mode=max contradicts"),
        ("+callbacks.best.nosuch=1", r"callbacks\.best\.nosuch"),
        ("callbacks.best.monitor=val/aurocc_loss", r"callbacks\.best\.monitor='val/aurocc_loss' is not measured"),
        ("objective=val/aurocc", r"objective='val/aurocc' is not measured; nearest: 'val/auroc"),
        ("objective=test/auroc", r"objective='test/auroc' would choose by the test.*objective_on_test=true"),
        ("callbacks.best.monitor=test/auroc", r"callbacks\.best\.monitor='test/auroc'.*validation"),
        ("trainer.precision=bf16-true", r"trainer\.precision=bf16-true.*bf16-mixed"),
        ("trainer.precision=64", r"trainer\.precision=64"),
        ("trainer.max_epochs=-1", r"trainer\.max_epochs=-1 has no end.*model\.scheduler\.name=constant"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(train_here, tmp_path, word, fact):
    with pytest.raises(SeewhyError, match=fact):
        train_here(tmp_path, word, base=EXPLAINED)
    assert not (tmp_path / "checkpoints").exists()
    assert not (tmp_path / "metrics.csv").exists()


def test_early_stopping_by_a_score_needs_its_direction(train_here, tmp_path):
    stop = "+callbacks.stop={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/auroc}"
    with pytest.raises(ConfigError, match=r"callbacks\.stop\.mode=min contradicts .*val/auroc.*mode=max"):
        train_here(tmp_path, stop, base=GRADING)


def test_maps_that_the_model_does_not_make(train_here, tmp_path, tiny):
    with pytest.raises(ConfigError, match=r"no map 'nosuch'; .*'refined'"):
        train_here(tmp_path, "callbacks.maps.maps=[nosuch]")
    with pytest.raises(ConfigError, match=r"callbacks\.doubts\.map.*no map 'nosuch'"):
        train_here(tmp_path, "callbacks.doubts.map=nosuch")
    assert not (tmp_path / "checkpoints").exists()


def test_the_check_does_not_change_the_training(train_here, tmp_path, record):
    train_here(tmp_path / "a", base=GRADING)
    train_here(tmp_path / "b", base=EXPLAINED)
    assert record.metrics(tmp_path / "a") == record.metrics(tmp_path / "b")


def test_a_failing_explanation_costs_neither_results_nor_predictions(train_here, tmp_path, record, monkeypatch):
    def fail(*_):
        raise RuntimeError("no memory for maps")

    monkeypatch.setattr(Session, "explain", fail)
    with pytest.raises(RuntimeError, match="no memory for maps"):
        train_here(tmp_path, base=EXPLAINED)
    assert "test/auroc" in record.results(tmp_path)["metrics"]
    assert (tmp_path / "report.html").is_file()
    words = ["explain.after_predict=true", "trainer.enable_progress_bar=false"]
    with pytest.raises(RuntimeError, match="no memory for maps"):
        predict(compose_saved("predict", tmp_path, *words))
    assert record.table(tmp_path / "predictions" / "predictions.csv")


STOP = "+callbacks.stop={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/loss}"


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("data.fractions=[0.75,0,0.25]", "no validation patients"),
        ("trainer.limit_val_batches=0", r"trainer\.limit_val_batches=0"),
        ("trainer.check_val_every_n_epoch=5", r"check_val_every_n_epoch=5 in trainer\.max_epochs=1"),
    ],
)
def test_early_stopping_without_validation_names_the_reason(train_here, tmp_path, word, reason):
    with pytest.raises(ConfigError, match=rf"callbacks\.stop stops by 'val/loss'.*{reason}"):
        train_here(tmp_path, STOP, word, base=GRADING)


def test_an_objective_that_only_the_test_measures(train_here, tmp_path):
    with pytest.raises(ConfigError, match=r"objective='test/auroc' is not measured with test=false"):
        train_here(tmp_path, "objective=test/auroc", "objective_on_test=true", "test=false", base=GRADING)
    assert train_here(tmp_path, "objective=test/auroc", "objective_on_test=true", base=GRADING) is not None


def test_the_validation_scores_of_a_run_are_those_of_its_best_checkpoint(train_here, tmp_path, record):
    """Not those of the last epoch, which are worse here: the learning rate is far too large."""
    words = ["trainer.max_epochs=4", "model.optimizer.lr=0.3", "objective=val/loss"]
    value = train_here(tmp_path, *words, base=GRADING)
    losses = [float(row["val/loss"]) for row in record.metrics(tmp_path) if "val/loss" in row]
    assert len(losses) == 4
    assert losses[-1] != min(losses)
    results = record.results(tmp_path)
    assert value == results["metrics"]["val/loss"] == pytest.approx(min(losses), rel=1e-5)
    assert results["chosen_by"] == results["objective_name"] == "val/loss"
    assert "validation split: the checkpoint by val/loss" in (tmp_path / "report.html").read_text()


def test_a_training_without_a_number_of_epochs_ends_by_its_time(train_here, tmp_path, record):
    words = ["trainer.max_epochs=-1", "+trainer.max_time='00:00:00:01'", "model.scheduler.name=constant"]
    train_here(tmp_path, *words, "model.scheduler.warmup=0", base=GRADING)
    assert "test/auroc" in record.results(tmp_path)["metrics"]


def test_a_training_without_a_logger(train_here, tmp_path, record):
    train_here(tmp_path, "logger.csv=null", base=GRADING)
    assert "test/auroc" in record.results(tmp_path)["metrics"]


@pytest.mark.parametrize(("step", "status"), [("fit", "failed"), ("test", "success")])
def test_loggers_are_told_how_a_run_ended(train_here, tmp_path, step, status, monkeypatch):
    import spies

    monkeypatch.setattr(spies.Log, "statuses", [])
    words = ["+logger.spy._target_=spies.Log"]
    if step == "fit":
        with pytest.raises(RuntimeError, match="boom"):
            train_here(tmp_path, *words, "+callbacks.crash._target_=spies.Crash", "data.batch_size=2", base=GRADING)
    else:
        train_here(tmp_path, *words, base=GRADING)
    assert spies.Log.statuses[-1] == status
    assert (set(spies.Log.statuses) == {"failed"}) == (status == "failed")
