"""A training in one process, as a user starts it: what it leaves, resumed, logged, with debug presets."""

import json

import numpy as np
import pytest
import torch

from seewhy.errors import ConfigError


def test_a_run_leaves_everything_it_promises(single, record):
    for name in ("config.yaml", "split.json", "metrics.csv", "results.json", "patients.csv", "report.html"):
        assert (single / name).stat().st_size > 0, name
    assert {path.name for path in (single / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt", "model_card.md"}
    assert list((single / "figures").glob("*.png"))
    maps = sorted((single / "cam_npy").glob("*.npy"))
    pictures = sorted((single / "attention_maps").glob("*.png"))
    assert maps
    assert len(pictures) == len(list((single / "cam_npy").glob("*.json")))
    array = np.load(maps[0], allow_pickle=False)
    assert array.dtype == np.float32
    assert array.ndim == 3
    assert 0 <= array.min() <= array.max() <= 1
    assert record.results(single)["phantom"] is True
    assert not list(single.rglob(".tmp-*"))


def test_no_line_is_logged_twice_and_nothing_is_advertised(single):
    lines = (single / "train.log").read_text().splitlines()
    said = [line.split(" ", 1)[1] for line in lines if " " in line]
    assert len(said) == len(set(said))
    assert not any("litlogger" in line for line in said)


def test_wandb_offline_wrote_metrics_and_pictures(single):
    [run] = single.glob("wandb/offline-run-*/run-*.wandb")
    content = run.read_bytes()
    for name in (b"val/auroc", b"test/refined/dice", b"val/panel"):
        assert name in content, name
    assert list(single.glob("wandb/offline-run-*/files/media/images/**/*.png"))


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_a_killed_run_continues_to_the_same_metrics(command, home, single, tiny, record, workers):
    folder = home / f"killed_{workers}"
    words = [*tiny, f"data.num_workers={workers}", f"hydra.run.dir={folder}"]
    killer = ["+callbacks.spy._target_=spies.Killer", "+callbacks.spy.epoch=2", "+callbacks.spy.batch=1"]
    command("train.py", *words, *killer, expect=-9)
    assert not (folder / "results.json").exists()
    refused = command("train.py", *words, expect=1)
    assert "already holds a run; add ckpt_path=last" in refused.stderr
    imported = [f"+callbacks.modules.path={folder}/modules.json", "+callbacks.modules._target_=spies.Modules"]
    command("train.py", *words, "ckpt_path=last", *imported)
    modules = set(json.loads((folder / "modules.json").read_text()))
    assert "wandb" not in modules  # a tracker that was not chosen; MONAI imports mlflow and tensorboard itself
    assert record.results(folder)["metrics"] == record.results(single)["metrics"]
    assert record.metrics(folder) == record.metrics(single)


def test_tensorboard_holds_scalars_and_pictures(train_here, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_here(tmp_path, "logger=tensorboard", "trainer.max_epochs=2")
    scalars, pictures = {}, {}
    for file in (tmp_path / "tensorboard").glob("events.*"):
        events = EventAccumulator(str(file))
        events.Reload()
        scalars |= {name: len(events.Scalars(name)) for name in events.Tags()["scalars"]}
        pictures |= {name: events.Images(name) for name in events.Tags()["images"]}
    assert scalars["val/auroc"] == 2
    assert scalars["test/refined/dice"] == 1
    assert [image.step for image in pictures["val/panel"]] == [2, 5]
    assert all(image.height > 40 and image.width > 80 for image in pictures["val/panel"])


def test_csv_alone_draws_no_panel(train_here, tmp_path, monkeypatch):
    def drawn(*_args, **_kwargs):
        pytest.fail("a panel was drawn though no logger shows pictures")

    monkeypatch.setattr("seewhy.callbacks.panels._draw_strip", drawn)
    train_here(tmp_path, "trainer.max_epochs=1")
    assert (tmp_path / "results.json").is_file()


def test_without_validation_patients_the_last_checkpoint_is_the_best(train_here, tmp_path, record):
    train_here(tmp_path, "data.fractions=[0.75,0,0.25]", "trainer.max_epochs=1")
    best, last = (torch.load(tmp_path / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("best", "last"))
    assert record.split(tmp_path)["val"] == []
    assert all(torch.equal(best["state_dict"][name], last["state_dict"][name]) for name in last["state_dict"])
    metrics = record.results(tmp_path)["metrics"]
    assert not any(name.startswith("val/") for name in metrics)
    assert "test/refined/dice" in metrics


@pytest.mark.parametrize("preset", ["default", "overfit", "limit", "profiler"])
def test_debug_presets(train_here, tmp_path, record, preset):
    train_here(tmp_path, f"debug={preset}", *([] if preset == "default" else ["trainer.max_epochs=1"]))
    assert "test/auroc" in record.results(tmp_path)["metrics"]
    assert (tmp_path / "checkpoints").exists() == (preset != "default")  # fast_dev_run saves none


def test_a_run_that_is_complete_can_only_be_tested_again(train_here, tmp_path, record):
    train_here(tmp_path)
    first = record.results(tmp_path)["metrics"]
    train_here(tmp_path, "ckpt_path=last")
    again = record.results(tmp_path)["metrics"]
    assert again == first  # scores of training and validation are kept with the checkpoint
    assert any(name.startswith("val/") for name in first)


def test_an_objective_that_is_not_measured_names_those_that_are(train_here, tmp_path):
    with pytest.raises(ConfigError, match=r"objective='test/dicee' is not measured; .*dice"):
        train_here(tmp_path, "objective=test/dicee", "objective_on_test=true", "trainer.max_epochs=1")


def test_the_objective_is_given_back(train_here, tmp_path, record):
    value = train_here(tmp_path, "objective=test/refined/dice", "objective_on_test=true", "trainer.max_epochs=1")
    assert value == record.results(tmp_path)["objective"] == record.results(tmp_path)["metrics"]["test/refined/dice"]
