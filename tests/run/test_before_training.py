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
        ("explain.target=9", r"explain\.target=9; expected 0 to 3"),
        ("explain.options.grad_cam.layers=nosuch", r"explain\.options\.grad_cam.*no layer 'nosuch'"),
        ("explain.samples=[nosuch]", r"explain\.samples.*'nosuch'"),
        ("explain.samples=nosuch", r"explain\.samples='nosuch'"),
        ("explain.methods=[nosuch]", r"explain\.methods.*'nosuch'"),
        ("callbacks.best.monitor=val/mine", r"callbacks\.best\.monitor='val/mine'.*mode"),
        ("callbacks.best.mode=max", r"callbacks\.best\.mode=max contradicts"),
        ("+callbacks.best.nosuch=1", r"callbacks\.best\.nosuch"),
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
