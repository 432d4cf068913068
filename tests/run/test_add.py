"""Parts that one word adds to a training: each one in a tiny run."""

import math

import pytest
import torch

from seewhy.callbacks.training.compilation import CompileNetworks
from seewhy.errors import ConfigError
from seewhy.run.folder import conf_dir

LIGHT = ("callbacks.maps=null", "callbacks.cases=null", "callbacks.panels=null", "explain.methods=[]", "test=false")
GAN = (
    "experiment=demo/cyclegan", "phantom.subjects=[3,3]", "phantom.shape=[48,48,24]", "model.generator.width=8",
    "model.discriminator.width=8", "data.batches_per_epoch=2", "trainer.check_val_every_n_epoch=1",
    "trainer.enable_progress_bar=false", "trainer.enable_model_summary=false", "callbacks.ema=null",
    "callbacks.translation_figure=null", "test=false",
)  # fmt: skip
EACH_STEP = "trainer.log_every_n_steps=1"


def read(folder, name="last"):
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def logged(record, folder, name):
    return [float(row[name]) for row in record.metrics(folder) if name in row]


@pytest.mark.parametrize(
    "option", ["lr_finder.steps=12", "lr_finder.max_lr=nan", "swa.start=2", "early_stopping.min_delta=nan"]
)
def test_values_with_which_a_part_could_do_nothing_are_refused(train_here, tmp_path, option):
    with pytest.raises(ConfigError, match=rf"callbacks\.{option.split('=')[0]}=\S+ must be"):
        train_here(tmp_path, *LIGHT, f"add={option.split('.')[0]}", f"callbacks.{option}")


def test_every_part_is_tested_here():
    names = {path.stem for path in (conf_dir() / "add").glob("*.yaml")}
    assert names == {
        "channels_last", "compile", "device_statistics", "early_stopping", "gradient_norm", "lr_finder", "swa",
    }  # fmt: skip


def test_statistics_are_logged_every_few_steps(train_here, tmp_path, record):
    train_here(tmp_path, *LIGHT, "add=[gradient_norm,device_statistics]", EACH_STEP, "trainer.max_epochs=1")
    norms = logged(record, tmp_path, "train/gradient_norm")
    assert len(norms) == 3
    assert all(math.isfinite(norm) and norm > 0 for norm in norms)
    assert len(logged(record, tmp_path, "device/step_seconds")) == 3
    assert all(0 <= share <= 1 for share in logged(record, tmp_path, "device/waiting_share"))
    assert all(memory > 0.01 for memory in logged(record, tmp_path, "device/memory_gib"))


def test_a_training_without_improvement_ends(train_here, tmp_path, record):
    words = ["callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=100", "trainer.max_epochs=6"]
    train_here(tmp_path, *LIGHT, "add=early_stopping", *words)
    assert read(tmp_path)["epoch"] == 1  # the first one is the best, the second one no better


def test_swa_saves_the_mean_of_the_last_epochs(train_here, tmp_path):
    """The mean of what the epochs end with, which a run without averages saves one by one."""
    plain, averaged = tmp_path / "plain", tmp_path / "averaged"
    every = ["callbacks.best.save_top_k=-1", "callbacks.best.filename='{epoch}'", "trainer.max_epochs=4"]
    train_here(plain, *LIGHT, *every)
    train_here(averaged, *LIGHT, "add=swa", "callbacks.swa.start=0.5", "trainer.max_epochs=4")
    ends = [torch.load(path, weights_only=True)["state_dict"] for path in plain.rglob("epoch*=[23]*.ckpt")]
    assert len(ends) == 2
    weights, trained = read(averaged)["state_dict"], read(averaged)["current_model_state"]
    last = read(plain)["state_dict"]
    measured = "presence_threshold"  # in each validation, with the weights that it validates
    for name, value in weights.items():
        if name == measured:
            continue
        torch.testing.assert_close(trained[name], last[name])
        if value.is_floating_point():
            torch.testing.assert_close(value, (ends[0][name] + ends[1][name]) / 2, msg=name)


def test_swa_continues_to_the_same_average(train_here, tmp_path):
    words = [*LIGHT, "add=swa", "callbacks.swa.start=0.3", "callbacks.swa.lr=1e-4"]
    train_here(tmp_path / "whole", *words, "trainer.max_epochs=3")
    stop = ["+callbacks.stop._target_=spies.StopAfter", "+callbacks.stop.epochs=2"]
    with pytest.raises(SystemExit):
        train_here(tmp_path / "part", *words, "trainer.max_epochs=3", *stop)
    train_here(tmp_path / "part", *words, "trainer.max_epochs=3", "ckpt_path=last")
    one, two = read(tmp_path / "whole"), read(tmp_path / "part")
    assert one["averaging_state"] == two["averaging_state"]
    assert int(one["averaging_state"]["n_averaged"]) == 3
    for name, value in one["state_dict"].items():
        assert torch.equal(value, two["state_dict"][name]), name


def test_two_averages_are_refused(train_here, tmp_path):
    with pytest.raises(ConfigError, match=r"callbacks\.ema and callbacks\.swa"):
        train_here(tmp_path, *LIGHT, "callbacks=[default,ema]", "add=swa")


def test_a_learning_rate_is_found_and_kept_when_the_run_continues(train_here, tmp_path):
    words = [*LIGHT, "add=lr_finder", "callbacks.lr_finder.steps=30", "callbacks.lr_finder.min_lr=1e-5"]
    train_here(tmp_path, *words, "trainer.max_epochs=1", "model.scheduler.name=constant", "model.scheduler.warmup=0")
    found = read(tmp_path)
    lr = found["hyper_parameters"]["optimizer"]["lr"]
    assert 1e-5 < lr < 1
    assert found["optimizer_states"][0]["param_groups"][0]["initial_lr"] == pytest.approx(lr)
    assert found["global_step"] == 3  # the steps of the test are not steps of the training
    assert not list(tmp_path.rglob(".lr_find*"))
    train_here(
        tmp_path, *words, "trainer.max_epochs=2", "model.scheduler.name=constant", "model.scheduler.warmup=0",
        "ckpt_path=last",
    )  # fmt: skip
    assert read(tmp_path)["optimizer_states"][0]["param_groups"][0]["initial_lr"] == pytest.approx(lr)


@pytest.mark.parametrize("word", ["compile", "channels_last"])
def test_faster_execution_trains_the_same(train_here, tmp_path, word):
    """Traced but not compiled: a compiler takes minutes."""
    words = ["callbacks.compile.backend=eager"] if word == "compile" else []
    losses = {}
    for name, chosen in {"plain": [], "added": [f"add={word}", *words]}.items():
        folder = tmp_path / name
        train_here(folder, *LIGHT, *chosen, "trainer.max_epochs=1")
        losses[name] = read(folder)["scores"]["val/loss"]
        assert not any("_orig_mod" in key for key in read(folder)["state_dict"])
    assert losses["added"] == pytest.approx(losses["plain"], rel=1e-4)


@pytest.mark.slow
def test_a_model_with_two_optimisers_takes_all_but_the_finder(train_here, tmp_path, record):
    chosen = "add=[early_stopping,swa,gradient_norm,device_statistics,channels_last,compile]"
    words = [chosen, "callbacks.compile.backend=eager", "callbacks.swa.start=0.0", "trainer.max_epochs=2", EACH_STEP]
    train_here(tmp_path, *words, base=GAN)
    for part in ("generators", "discriminators"):
        assert len(logged(record, tmp_path, f"train/gradient_norm/{part}")) == 4
    assert int(read(tmp_path)["averaging_state"]["n_averaged"]) == 2
    with pytest.raises(ConfigError, match=r"callbacks\.lr_finder: CycleGAN25D has several optimisers"):
        train_here(tmp_path / "refused", "add=lr_finder", base=GAN)


@pytest.mark.slow
def test_a_compiled_training_is_the_plain_one_to_float_error(train_here, tmp_path):
    scores = {}
    for name, chosen in {"plain": [], "compiled": ["add=compile"]}.items():
        train_here(tmp_path / name, *LIGHT, *chosen, "trainer.max_epochs=1", "data.batches_per_epoch=2")
        scores[name] = read(tmp_path / name)["scores"]["val/loss"]
    assert scores["compiled"] == pytest.approx(scores["plain"], rel=1e-3)


def test_an_unknown_backend_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"callbacks.compile.backend='inducter'.*inductor"):
        CompileNetworks(backend="inducter")
