"""A run folder is data: opening one from a stranger cannot run what its configuration names."""

import os
from copy import deepcopy

import pytest
import yaml
from omegaconf import OmegaConf

from seewhy.cli.compose import check_train_log, compose_saved
from seewhy.errors import ConfigError, DataError
from seewhy.run.saved_config import load_plain_yaml, read_saved_config

GOOD = {
    "name": "demo/brats",
    "seed": 0,
    "data": {"_target_": "seewhy.data.slices.datamodule.BraTSDataModule", "root": "/data"},
    "model": {"_target_": "seewhy.models.weakly_supervised.segmentation.WeaklySupervisedSegmentation"},
    "trainer": {"_target_": "lightning.pytorch.Trainer", "max_epochs": 1},
    "explain": {"own_maps": {"_target_": "seewhy.callbacks.maps.WriteMaps"}},
}

FOREIGN = [
    "os.system",
    "posix.system",
    "subprocess.Popen",
    "subprocess.run",
    "builtins.exec",
    "builtins.eval",
    "importlib.import_module",
    "runpy.run_path",
    "shutil.rmtree",
    "distutils.spawn.spawn",
    "torch.load",
    "torch.hub.load",
    "torch.utils.collect_env.run",
    "torch.utils.cpp_extension.load",
    "torch.jit.load",
    "torch.nn.modules.module.OrderedDict",  # defined elsewhere
    "torch.nn.Module.load_state_dict",
    "torch.nn",
    "torch.nn..Linear",
    "numpy.load",
    "pandas.read_pickle",
    "pickle.loads",
    "monai.bundle.run",
    "monai.bundle.ConfigParser",
    "monai.networks.nets.unet.warnings",
    "monai.networks.utils.convert_to_onnx",
    "hydra.utils.instantiate",
    "lightning.pytorch.cli.LightningCLI",
    "lightning.pytorch.callbacks.ModelCheckpoint",
    "seewhy.io.zarr.existing.remove",
    "seewhy.run.train.train",
    "seewhy.cli.main.main",
    "seewhy.phantoms.tumour.write_tumour_phantom",
    "seewhy.data.slices.files.Path",
    "seewhy.data.prepare.folder.DatasetFolder",
    "seewhy.models.translation.adversarial.frozen",
    "mine.Model",
    "Model",
    "",
    7,
    ["os", "system"],
    None,
]

PLACES = [
    ("data", "_target_"),
    ("model", "_target_"),
    ("trainer", "_target_"),
    ("explain", "own_maps", "_target_"),
    ("model", "encoder", "_target_"),
    ("model", "losses", 0, "_target_"),
    ("data", "augmentation", "deep", "deeper", "_target_"),
    ("explain", "options", "grad_cam", "_target_"),
]


def write_run(folder, config):
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"seewhy": {"version": "0"}, "config": config}))
    return folder


def with_target(place, target):
    config = deepcopy(GOOD)
    node = config
    for key in place[:-1]:
        if isinstance(key, int):
            node.append({})
            node = node[key]
        else:
            node = node.setdefault(key, [] if key == "losses" else {})
    node[place[-1]] = target
    return config


def test_run_is_read(tmp_path):
    assert read_saved_config(write_run(tmp_path / "run", GOOD)) == GOOD


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)))
def test_foreign_targets_are_refused(tmp_path, place):
    for target in FOREIGN:
        run = write_run(tmp_path / "run", with_target(place, target))
        with pytest.raises(ConfigError) as error:
            read_saved_config(run)
        assert repr(target) in str(error.value), target
        assert "trust=true" in str(error.value)
        assert ".".join(map(str, place[:-1])) in str(error.value)


@pytest.mark.parametrize(
    ("place", "target"),
    [
        (("model", "encoder", "_target_"), "torch.nn.Linear"),
        (("model", "encoder", "_target_"), "monai.networks.nets.UNet"),
        (("model", "losses", 0, "_target_"), "seewhy.losses.classification.FocalLoss"),
        (("trainer", "strategy", "_target_"), "lightning.pytorch.strategies.DDPStrategy"),
        (("explain", "options", "mine", "_target_"), "seewhy.explain.occlusion.Occlusion"),
    ],
)
def test_known_parts_are_allowed(tmp_path, place, target):
    config = with_target(place, target)
    assert read_saved_config(write_run(tmp_path / "run", config)) == config


def test_kinds_are_not_interchangeable(tmp_path):
    for place, target in ((("data", "_target_"), "torch.nn.Linear"), (("model", "_target_"), GOOD["data"]["_target_"])):
        with pytest.raises(ConfigError):
            read_saved_config(write_run(tmp_path / "run", with_target(place, target)))


def test_user_can_trust_a_run(tmp_path):
    config = with_target(("model", "_target_"), "mine.Model")
    run = write_run(tmp_path / "run", config)
    assert read_saved_config(run, trust=True) == config
    with pytest.raises(ConfigError, match="trust=true"):
        compose_saved("predict", run)
    assert compose_saved("predict", run, "trust=true").model._target_ == "mine.Model"


@pytest.mark.parametrize("option", ["explain.folder", "explain.own_maps.folder", "data.cache_dir"])
def test_results_stay_in_the_run_folder_unless_the_command_names_another(tmp_path, monkeypatch, option):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    for folder in (str(tmp_path), "..", "run/../out", str(run) + "2"):
        write_run(run, with_target(tuple(option.split(".")), folder))
        with pytest.raises(ConfigError) as error:
            compose_saved("explain", run)
        assert option in str(error.value)
        assert repr(folder) in str(error.value)
        for chosen in (str(tmp_path / "mine"), "null"):
            config = compose_saved("explain", run, f"{option}={chosen}")
            assert str(OmegaConf.select(config, option)) == chosen.replace("null", "None")
    write_run(run, with_target(tuple(option.split(".")), str(run / "explained")))
    assert OmegaConf.select(compose_saved("explain", run), option) == str(run / "explained")


def test_trainer_of_a_saved_run_writes_into_its_folder(tmp_path):
    run = write_run(tmp_path / "run", with_target(("trainer", "default_root_dir"), "/elsewhere"))
    assert read_saved_config(run)["trainer"]["default_root_dir"] == str(run)


def test_modules_next_to_the_run_are_not_imported(tmp_path, monkeypatch):
    """A `mine` package in the working directory and in the run folder would leave a mark when imported."""
    run = write_run(tmp_path / "run", with_target(("model", "_target_"), "mine.Model"))
    for folder in (tmp_path, run):
        (folder / "mine.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError):
        read_saved_config(run)
    assert not (tmp_path / "mark").exists()


def test_other_roots_and_interpolations_of_a_file_mean_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    config = {
        **deepcopy(GOOD),
        "hydra": {"job_logging": {"handlers": {"file": {"filename": str(tmp_path / "emptied")}}}},
        "volume": {"network": {"_target_": "os.system"}},
        "callbacks": {"mine": {"_target_": "os.system"}},
        "paths": {"output_dir": "/elsewhere"},
    }
    config["data"]["root"] = "${oc.env:SECRET}"
    composed = compose_saved("predict", write_run(tmp_path / "run", config))
    assert composed.data.root == "${oc.env:SECRET}"
    assert "hydra" not in composed
    assert composed.volume.get("network") is None or "os.system" not in str(composed.volume)
    assert "mine" not in composed.callbacks
    assert composed.paths.output_dir != "/elsewhere"


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00config: 1",
        b"config:\n\t- tab",
        b"config: !!python/object/apply:os.system [touch mark]",
        b"config: !foreign {a: 1}",
        b"a: &a [1, 2]\nb: [*a, *a]\nconfig: {}",
        b"config: [unclosed",
        b"config: " + b"[" * 5000,
        b"config: " + b"[" * 1_000_000,
        b"config: " + b"{a: " * 100_000,
        b"config:\n" + b"- " * 100_000,
        b"config: [" + b"x," * 1_000_000 + b"]",
        b"",
        b"- a list",
        b"config: text",
        b"seewhy: {version: 1}",
        b"config: {data: {_target_: ${oc.env:HOME}}}",
        b"config: {explain: 5}",
        b"config: {data: abc, model: [1], trainer: true}",
    ],
)
def test_damaged_files_are_refused_in_words(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        read_saved_config(tmp_path)
    assert not os.path.exists("mark")


def test_aliases_are_refused_at_once(tmp_path):
    """Each line doubles the one before: loading it would take gigabytes."""
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)]
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="alias"):
        load_plain_yaml(tmp_path / "config.yaml")


def test_other_machines_are_not_waited_for(tmp_path):
    config = deepcopy(GOOD)
    config["trainer"]["num_nodes"] = 50
    assert compose_saved("predict", write_run(tmp_path / "run", config)).trainer.num_nodes == 1


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to nothing"])
def test_a_log_that_is_no_file_is_not_waited_for(tmp_path, kind):
    """Hydra opens the log before anything of seewhy runs."""
    run = write_run(tmp_path / "run", GOOD)
    for name, check in (
        ("after.log", lambda: compose_saved("predict", run)),
        ("train.log", lambda: check_train_log(["seed=1", f"hydra.run.dir='{run}'"])),
    ):
        check()
        path = run / name
        make = {"pipe": os.mkfifo, "folder": os.mkdir, "link to nothing": lambda path: path.symlink_to("none")}
        make[kind](path)
        with pytest.raises(DataError, match=name):
            check()


def test_fifo_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(ConfigError):
        load_plain_yaml(tmp_path / "config.yaml")
