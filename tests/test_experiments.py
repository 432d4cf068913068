"""Every experiment trains on a tiny phantom, and its checkpoint loads by itself without unpickling."""

import importlib

import pytest
import torch
from blank_figures import blank_figures

from seewhy.cli.compose import compose_train
from seewhy.phantoms.amd import write_amd_phantom
from seewhy.phantoms.chest import write_atrium_phantom
from seewhy.phantoms.ct import write_ct_phantom
from seewhy.phantoms.mri import write_mri_phantom
from seewhy.phantoms.scanners import write_scanner_phantom
from seewhy.phantoms.slices import write_tumour_phantom
from seewhy.run.folder import conf_dir
from seewhy.run.train import train

CONF = conf_dir()
EXPERIMENTS = sorted(
    str(path.relative_to(CONF / "experiment").with_suffix(""))
    for path in (CONF / "experiment").rglob("*.yaml")
    if path.stem != "explanations"  # a sweep over the other benchmarks
)
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
SHORT = (
    "trainer=cpu",
    "trainer.max_epochs=1",
    "trainer.enable_progress_bar=false",
    "trainer.enable_model_summary=false",
    "data.batches_per_epoch=2",
    "data.batch_size=2",
)
EXPLAINED = ("explain.max_samples=2",)
BENCHMARK = ("explain.judge=cheap", "explain.methods=[grad_cam]", "explain.mask_tuning=0")
SMALL = {
    "amd": ("model.backbone.name=test_efficientnet", "explain.judge=cheap"),
    "mri": ("data.slices=[8,40]", "data.size=32", "model.backbone.name=test_efficientnet", "explain.judge=cheap"),
    "demo/amd": ("explain.judge=cheap",),
    "demo/mri": ("explain.judge=cheap", "data.slices=[8,40]"),
    "benchmark/amd": (*BENCHMARK, "data.inputs=[drusen,mnv]"),
    "benchmark/mri": (*BENCHMARK, "data.slices=[8,40]"),
    "benchmark/redundant": BENCHMARK,
    "benchmark/shortcut": (*BENCHMARK, "data.inputs=[drusen,mnv]"),
    "cyclegan": (
        "data.image_size=null", "data.crop_size=null", "data.num_workers=0", "model.generator.width=8",
        "model.generator.blocks=2", "model.generator.attention_blocks=[1]", "trainer.precision=32-true",
        "model.discriminator.width=8", "trainer.check_val_every_n_epoch=1",
    ),
    "demo/cyclegan": (
        "model.generator.width=8", "model.discriminator.width=8", "trainer.check_val_every_n_epoch=1", "data.slices=5",
    ),
    "demo/travelling": (
        "model.generator.width=8", "model.discriminator.width=8", "data.a=a", "data.b=b", "data.patient_pattern=null",
        "data.val_patients=null", "data.test_patients=null",
    ),
    "volume": (
        "data.classes=[background,nodule,vessel]", "data.patch=[16,16,16]", "data.num_workers=0",
        "model.network.filters=[4,8,8]", "trainer.check_val_every_n_epoch=1",
    ),
    "demo/volume": ("data.patch=[16,16,16]", "model.network.filters=[4,8,8]", "trainer.check_val_every_n_epoch=1"),
}  # fmt: skip
"""Overrides that make an experiment small enough for a test."""
TRANSLATIONS = ("cyclegan", "demo/cyclegan", "demo/travelling")
REGIONS = ("volume", "demo/volume")
"""Experiments that explain regions, not samples."""
MEMBERS = {
    "amd": "demo/amd", "demo_amd": "demo/amd", "mri": "demo/mri", "demo_mri": "demo/mri",
    **dict.fromkeys(
        ("cyclegan_25d", "cyclegan_25d_plain", "curve_25d", "cut_25d", "demo_cut", "demo_cyclegan"), "demo/cyclegan"
    ),
    **dict.fromkeys(("volume_segmentation", "demo_volume"), "demo/volume"),
}  # fmt: skip
"""Experiment with the data of a model; all other models are for slices."""


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Root of a small phantom by class of DataModule."""
    root, size = tmp_path_factory.mktemp("phantoms"), {"patients": 7, "slices": 3, "size": 64}
    return {
        "BraTSDataModule": write_tumour_phantom(root / "brats", **size),
        "LASCDataModule": write_atrium_phantom(root / "lasc", **size),
        "AMDDataModule": write_amd_phantom(root / "amd", cases=16, size=64),
        "MRIDataModule": write_mri_phantom(root / "mri", cases=12),
        "BraTSDomainsDataModule": write_scanner_phantom(root / "scanners", subjects=(3, 3), shape=(48, 48, 24)),
        "VolumesDataModule": write_ct_phantom(root / "ct", volumes=5, shape=(32, 40, 40), chunk=16),
    }


def trained(folder, phantoms, *overrides, judge=True):
    """The checkpoint of one short epoch, read without unpickling; `judge=False` explains without scores of the maps."""
    experiment = next(word.partition("=")[2] for word in overrides if word.startswith("experiment="))
    words = [
        *overrides,
        *SHORT,
        *(() if experiment in (*TRANSLATIONS, *REGIONS) else EXPLAINED),
        *SMALL.get(experiment, ("callbacks.maps.max_samples=2",)),
        *(() if judge else ("explain.judge=none",)),
        "data.root=unknown",
        f"paths.output_dir={folder}",
    ]
    config = compose_train(*words)
    config.phantom = None
    config.data.root = str(phantoms[config.data._target_.rpartition(".")[2]])
    train(config)
    return torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True), config.model._target_


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_runs_and_its_checkpoint_loads_alone(experiment, phantoms, tmp_path):
    checkpoint, target = trained(tmp_path, phantoms, f"experiment={experiment}")
    module, _, name = target.rpartition(".")
    model = getattr(importlib.import_module(module), name).load_from_checkpoint(tmp_path / "checkpoints" / "best.ckpt")
    assert all(torch.equal(model.state_dict()[key], value) for key, value in checkpoint["state_dict"].items())
    assert plain(checkpoint["hyper_parameters"])


@pytest.mark.parametrize("choice", MODELS)
def test_every_model_can_be_chosen_over_an_experiments(choice, phantoms, tmp_path):
    names = {
        "afa": "encoder.name=mit_nano",
        "amd": "backbone.name=test_efficientnet",
        "mri": "backbone.name=test_efficientnet",
    }
    small = [f"model.{names[choice]}"] if choice in names else []
    with blank_figures():  # the figures of each system are drawn by its experiment above
        trained(
            tmp_path,
            phantoms,
            f"experiment={MEMBERS.get(choice, 'demo/brats')}",
            f"model={choice}",
            *small,
            judge=False,
        )


def plain(value):
    """Whether a value can be written as JSON."""
    if isinstance(value, dict):
        return type(value) is dict and all(isinstance(key, str) and plain(child) for key, child in value.items())
    if isinstance(value, list | tuple):
        return all(plain(child) for child in value)
    return value is None or type(value) in (str, int, float, bool)
