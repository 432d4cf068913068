"""Options of every command are checked before anything is read or written, each under its full name."""

from functools import cache

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from seewhy.cli.compose import compose_saved, compose_train
from seewhy.errors import ConfigError
from seewhy.run.checks import check_config
from seewhy.run.folder import conf_dir

TRAIN = ("phantom", "data", "model", "callbacks", "explain", "trainer", "logger")
EXPERIMENTS = sorted(
    str(path.relative_to(conf_dir() / "experiment").with_suffix(""))
    for path in (conf_dir() / "experiment").rglob("*.yaml")
)


@cache
def compose(command, experiment):
    try:
        if command == "train":
            return compose_train(
                f"experiment={experiment}", "paths.output_dir=/nowhere", "data.root=/nowhere", "logger=[csv,wandb]"
            )
        return compose_saved(command, None, f"experiment={experiment}", "data.root=/nowhere")
    finally:
        GlobalHydra.instance().clear()


def check(command, experiment, *words, only=""):
    """Check the configuration of a command, or one group of it, with some options changed."""
    config = compose(command, experiment).copy()
    OmegaConf.set_struct(config, False)
    for word in words:
        key, _, value = word.partition("=")
        OmegaConf.update(config, key, yaml.safe_load(value), merge=False)
    own = {"train": TRAIN, "predict": ("volume", "trainer")}.get(command, (command, "data", "model"))
    check_config(config, *[group for group in own if only in ("", group)])


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_passes(experiment):
    check("train", experiment)


@pytest.mark.parametrize("command", ["predict", "explain", "evaluate", "cases"])
def test_every_command_passes_with_its_defaults(command):
    check(command, "demo/cyclegan")


DATA_AND_MODEL = """
amd data.num_workers=100000
amd data.fractions=[a,b,c]; amd data.fractions=[0.5,0.5]; amd data.fractions=[2,-1,0]; amd data.num_workers=-2
amd data.num_workers=abc; amd data.batch_size=0; amd data.batch_size=2.5; amd data.batch_size=true
amd data.pin_memory=maybe; amd data.inputs=mnv; amd data.image_size=-5; amd data.image_size=[96]; amd data.labels=abc
amd data.seed=-1; amd data.split_seed=abc; amd data.fold=-1; amd data.num_folds=1; amd data.max_patients=0
amd data.eval_batch_size=0; amd data.normalize=5; amd data.stratify=7; amd data.augmentation.flip=often
amd data.augmentation.shift=3; amd data.augmentation=abc; amd data.predict_on=tset; brats data.percentiles=[99]
brats data.percentiles=[-1,101]; brats data.crop_size=-4; cyclegan data.slices=0; cyclegan data.min_content=2
volume data.foreground=2; volume data.patch=[8,8]; mri data.size=abc; mri data.slices=[5]; mri data.pad=-1
amd model.optimizer.lr=abc; amd model.optimizer.lr=-1; amd model.optimizer.lr=.nan; amd model.optimizer.lr=.inf
amd model.optimizer.name=adm; amd model.optimizer.weight_decayy=1; amd model.optimizer.weight_decay=-1
amd model.optimizer.betas=[2,3]; amd model.optimizer=adam; amd model.scheduler.name=cosin
amd model.scheduler.warmup=abc; amd model.scheduler.warmup=-1; amd model.scheduler.floor=2
amd model.scheduler.nonsense=1; amd model.input_dropout=2; amd model.in_channels=0; amd model.head_lr=-1
amd model.layer_decay=0; amd model.freeze_backbone_epochs=-1; amd model.calibrate=maybe; amd model.classes=3
brats model.num_classes=0; brats model.head_lr=fast; cyclegan model.accumulate=0; cyclegan model.clip=0
brats model.cam.scales=x; brats model.cam.nope=1; brats model.loss_weights.affinity=-1; brats model.pooling.nope=1
brats model.decoder.dim=x; brats model.labels.low=x; brats model.regions.level=x; amd model.loss.name=zz
amd model.loss.gamma=x; amd model.head.dropout=x; mri model.loss.name=5; volume model.loss.nope=1
cyclegan model.losses.adversarial=5; cyclegan model.losses.nope=1; cyclegan model.generator.width=x
cyclegan model.generator.name=zz; cyclegan model.discriminator.scales=x; cyclegan model.nce.dim=x
volume model.overlap=1; volume model.window_batch=0; mri model.depth=0; mri model.dropout=1.5
"""
RUNNING = """
amd trainer.max_epochs=abc; amd trainer.precision=12; amd trainer.accelerator=5; amd trainer.log_every_n_steps=abc
amd trainer.accumulate_grad_batches=0; amd trainer.check_val_every_n_epoch=0
amd trainer.devices=99; amd trainer._partial_=true; amd trainer._recursive_=x; amd trainer._args_=5
amd callbacks.best._partial_=true; amd callbacks.best._convert_=x
amd trainer.gradient_clip_val=abc; amd trainer.enable_progress_bar=maybe; amd trainer.nonsense=1
amd explain.methods=5; amd explain.methods=[grad_camm]; amd explain.max_samples=-3; amd explain.max_samples=abc
amd explain.batch_size=0; amd explain.judge=5; amd explain.judge=chaep; amd explain.samples=spred
amd explain.key_slices=abc; amd explain.every_n_epochs=-1; amd explain.memory_budget=abc; amd explain.after_fit=maybe
amd explain.options.grad_cam.relu=1; amd explain.options.grad_cam.layers=5; amd explain.options.nosuch.a=1
amd explain.samples=[]
amd explain.options.integrated_gradients.steps=x; amd explain.options.occlusion.nosuch=1; amd explain.options.grad_cam=5
amd explain.nosuch=1; amd seed=-1; amd threads=0; amd callbacks.best.monitor=5; amd callbacks.best.save_top_k=abc
amd callbacks.ema._target_=nosuch.Class; amd logger.wandb.offline=maybe; amd logger.wandb.project=5
amd logger.watch=everything; amd logger.tags=5; amd logger.artifacts=[nosuch]; amd logger.notes=5
amd phantom.cases=abc; amd phantom.cases=0; amd phantom.size=abc; brats phantom.slices=0; brats explain.own_maps.maps=5
"""
VOLUME = """
inference.overlap=abc; inference.overlap=1; inference.overlap=-0.1; inference.patch=abc; inference.patch=[32,32]
inference.patch=[0,32,32]; inference.batch_size=0; inference.skip_empty=maybe; inference.window=gausian
inference.tta=[5]; inference.normalization=abc; inference.spacing=5; inference.nosuch=1; store.threshold=abc
store.threshold=2; store.zarr_format=5; store.zarr_format=abc; store.mode=binry; store.dtype=int9; store.chunk=[64,64]
store.shard=[0,1,1]; job.num_parts=two; job.num_parts=0; job.part_id=-1; job.memory_budget=lots; job.estimate=7
storage_options=abc; storage_options=[1]; roi=[1,2,3]; channels=[-1]; overwrite=perhaps; model.network=abc; model=5
model.network._target_=nosuch.Net; input=5; level=1.5
"""
OTHERS = {
    "evaluate": "slices=-1; slices=abc; probe.folds=1; features.size=abc; baselines=5; lesion.modality=t9; features=7",
    "cases": "metric=sim; n_best=-1; n_best=abc; stages=[selct]; min_tissue=2; max_per_subject=0; categories=[]",
    "explain": "max_samples=-3; methods=5; judge=none5",
}


def split(text):
    return [word.strip() for line in text.strip().splitlines() for word in line.split(";")]


BAD = [("train", *word.split(" ", 1)) for word in split(DATA_AND_MODEL) + split(RUNNING)]
BAD += [("predict", "volume", f"volume.{word}") for word in split(VOLUME)]
BAD += [(command, "cyclegan", f"{command}.{word}") for command, text in OTHERS.items() for word in split(text)]


@pytest.mark.parametrize(("command", "experiment", "word"), BAD, ids=[" ".join(case) for case in BAD])
def test_a_wrong_option_is_named_with_what_was_found(command, experiment, word):
    with pytest.raises(ConfigError) as caught:
        check(command, f"demo/{experiment}", word, only=word.partition(".")[0])
    message, key = str(caught.value), word.partition("=")[0]
    assert key in message or key.rpartition(".")[0] in message
    assert "\n" not in message


def test_all_problems_of_a_command_are_in_one_message():
    words = ["data.num_workers=-2", "model.optimizer.lr=-1.0", "trainer.max_epochs=abc", "explain.max_samples=-3"]
    with pytest.raises(ConfigError) as caught:
        check("train", "demo/amd", *words, "callbacks.best.monitor=5", "logger.wandb.offline=maybe", "threads=0")
    names = ["threads=0", *words[:1], "model.optimizer.lr=-1.0"]
    names += ["callbacks.best.monitor=5", "explain.max_samples=-3", "trainer.max_epochs='abc'", "logger.wandb.offline"]
    positions = [str(caught.value).index(name) for name in names]
    assert positions == sorted(positions)
