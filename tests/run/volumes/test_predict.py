from __future__ import annotations

import json
import multiprocessing
import os
import re
import resource
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from flaky_server import serving
from monai.networks.nets import UNet
from nnunet_folders import plans, write_folder
from omegaconf import DictConfig, OmegaConf

from seewhy.cli.compose import compose_saved
from seewhy.cli.main import main
from seewhy.errors import CheckpointError, ConfigError, DataError
from seewhy.io.zarr.opening import open_source
from seewhy.models.volumes.segmentation import VolumeSegmentation
from seewhy.run.volumes.model import VolumeModel, find_trained_mirrors
from seewhy.run.volumes.predict import predict_volume
from seewhy.volumes.engine.ledger import Ledger
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.predictor import PatchPredictor, predict_array

SHAPE = (40, 36, 44)
WHOLE = tuple(slice(0, size) for size in SHAPE)
OPTIONS = {"spatial_dims": 3, "in_channels": 1, "channels": (4, 8), "strides": (2,)}
SCALE = [{"scheme": "scale", "by": 255}]


CONF = Path(__file__).resolve().parents[3] / "conf"
SOURCE = Path(__file__).resolve().parents[3] / "src" / "seewhy"


def unet(out_channels: int = 2) -> UNet:
    torch.manual_seed(0)
    return UNet(**OPTIONS, out_channels=out_channels)


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    values = np.random.default_rng(0).integers(1, 255, SHAPE).astype(np.uint8)
    values[:16] = 0
    return values


@pytest.fixture(scope="module")
def base() -> DictConfig:
    return compose_saved("predict", None, "experiment=volume", "trainer=cpu", "trainer.enable_progress_bar=false")


@pytest.fixture
def config(base: DictConfig, values: np.ndarray, tmp_path: Path) -> DictConfig:
    """Prediction of a small zarr by a network of MONAI with weights from a file."""
    zarr.create_array(str(tmp_path / "in.zarr"), data=values, chunks=(8, 12, 11))
    torch.save(unet().state_dict(), tmp_path / "unet.pth")
    config = base.copy()
    config.run = str(tmp_path / "run")
    config.threads = 1
    network = {"_target_": "monai.networks.nets.UNet", **OPTIONS, "out_channels": 2}
    set_options(
        config,
        input=str(tmp_path / "in.zarr"),
        output=str(tmp_path / "out.zarr"),
        network=network,
        weights=str(tmp_path / "unet.pth"),
        patch=[16, 16, 16],
        normalization=SCALE,
        chunk=[8, 8, 8],
        shard=[16, 16, 16],
        preview=False,
    )
    return config


def set_options(config: DictConfig, **changes) -> None:
    """Set options of `volume` by their last name, in whichever group they are."""
    for name, value in changes.items():
        groups = [config.volume, *(config.volume[group] for group in ("model", "inference", "store", "job"))]
        next(group for group in groups if name in group)[name] = value


def result(config: DictConfig, inside: str = "") -> np.ndarray:
    return open_source(f"{config.volume.output}{inside}").read(WHOLE)


def elsewhere(config: DictConfig, name: str) -> str:
    """An output beside the first."""
    return str(Path(config.volume.output).with_name(f"{name}.zarr"))


@torch.no_grad()
def expected(values: np.ndarray, output_format: OutputFormat) -> np.ndarray:
    network = unet(output_format.channels).eval()
    return predict_array(
        values[None], network, patch=(16,) * 3, output_format=output_format, normalization=SCALE, skip_empty=True
    )


def test_a_network_by_config(config: DictConfig, values: np.ndarray, capsys: pytest.CaptureFixture):
    config.volume.preview = True
    predict_volume(config)
    np.testing.assert_array_equal(result(config)[0], expected(values, OutputFormat(mode="binary", channels=2)))
    printed = capsys.readouterr().out
    for word in ("out.zarr", "voxels/s", "skipped as empty", "MB in", "preview:"):
        assert word in printed
    assert Path(config.volume.output).with_suffix(".png").stat().st_size > 10_000
    marks = zarr.open_group(config.volume.output, mode="r").attrs["seewhy"]
    assert marks["finished"] is True
    assert (marks["attributes"]["scale"], marks["attributes"]["mode"]) == (255, "binary")
    report = json.loads((Path(config.volume.output) / ".seewhy" / "report-0000.json").read_text())
    stored = sum(file.stat().st_size for file in Path(config.volume.input).rglob("c/*/*/*"))
    assert report["bytes_read"] <= 1.3 * stored + 3000
    assert report["complete"] is True
    # Once more: nothing is left to do.
    predict_volume(config)
    reports = sorted((Path(config.volume.output) / ".seewhy").glob("report-*.json"))
    assert json.loads(reports[-1].read_text())["run"] == 0
    assert len(reports) == 2


@pytest.mark.parametrize("form", [2, 3])
def test_labels_lie_on_the_level_that_was_read(config: DictConfig, values: np.ndarray, tmp_path: Path, form: int):
    group = zarr.open_group(str(tmp_path / "pyramid.zarr"), mode="w", zarr_format=form)
    transforms = lambda size: [{"type": "scale", "scale": [3 * size, size, size]}]  # noqa: E731
    group.create_array("0", data=values.repeat(2, 0).repeat(2, 1).repeat(2, 2))
    group.create_array("1", data=values)
    datasets = [{"path": str(i), "coordinateTransformations": transforms(2.0**i)} for i in range(2)]
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    content = {"multiscales": [{"axes": axes, "datasets": datasets, "version": "0.4"}]}
    group.attrs.update({"ome": {"version": "0.5", **content}} if form == 3 else content)
    set_options(config, input=str(tmp_path / "pyramid.zarr"), level=1, dtype="labels", zarr_format=form, name="cells")
    predict_volume(config)
    source = open_source(f"{config.volume.output}/labels/cells")
    assert (source.spacing, source.unit, source.dtype.name) == ((6.0, 2.0, 2.0), "micrometer", "uint8")
    output_format = OutputFormat(mode="binary", channels=2, stored="labels")
    np.testing.assert_array_equal(source.read(WHOLE)[0], expected(values, output_format))


def test_over_http_from_a_server_that_fails_one_request_in_ten(config: DictConfig, tmp_path: Path):
    pytest.importorskip("aiohttp")
    predict_volume(config)
    local = result(config)
    with serving(tmp_path) as server:
        address, output = f"{server.address}/in.zarr", str(tmp_path / "over.zarr")
        set_options(config, input=address, output=output, storage_options={"backoff": 0.001})
        predict_volume(config)
        assert server.failures > 3
    np.testing.assert_array_equal(result(config), local)


def predict_in_child(config: DictConfig) -> None:
    """Predict in a forked process, slowly enough that others join."""
    call = PatchPredictor.__call__
    PatchPredictor.__call__ = lambda self, image: (time.sleep(0.02), call(self, image))[1]
    predict_volume(config)


@pytest.mark.parametrize("parts", [1, 3])
def test_processes_that_start_the_same_command_share_one_output(
    config: DictConfig, capfd: pytest.CaptureFixture, parts: int
):
    predict_volume(config)
    whole, files = result(config), contents(config.volume.output)
    set_options(config, output=elsewhere(config, "shared"), num_parts=parts, memory_budget="2MB")
    capfd.readouterr()
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=predict_in_child, args=(config,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    np.testing.assert_array_equal(result(config), whole)
    assert contents(config.volume.output) == files
    assert "with others, which wrote" in capfd.readouterr().out
    reports = [json.loads(path.read_text()) for path in (Path(config.volume.output) / ".seewhy").glob("report-*")]
    assert len(reports) == 3
    assert sum(report["run"] > 0 for report in reports) > 1
    assert zarr.open_group(config.volume.output, mode="r").attrs["seewhy"]["finished"] is True


def test_an_output_in_work_is_not_replaced(config: DictConfig, tmp_path: Path):
    predict_volume(config)
    ledger = Ledger(Path(config.volume.output) / ".seewhy")
    ledger.workers.join()
    before = contents(config.volume.output)
    config.volume.overwrite = True
    with pytest.raises(ConfigError, match=rf"out\.zarr is being written by process {os.getpid()} on .*overwrite"):
        predict_volume(config)
    assert contents(config.volume.output) == before
    config.volume.overwrite = False
    config.volume.roi = [0, 16, 0, 16, 0, 16]
    with pytest.raises(ConfigError, match=r"being written by .* another volume\.roi"):
        predict_volume(config)
    ledger.close()
    predict_volume(config)


def test_claims_need_a_folder(config: DictConfig):
    config.volume.job.ledger = "s3://bucket/notes"
    with pytest.raises(ConfigError, match=r"volume\.job\.ledger=s3://bucket/notes is not a folder"):
        predict_volume(config)


def contents(store: str) -> dict[str, bytes]:
    """Chunks of a store by name."""
    files = [file for file in Path(store).rglob("*") if file.is_file() and "/c/" in str(file)]
    return {str(file.relative_to(store)): file.read_bytes() for file in files}


def test_notes_may_lie_elsewhere_and_never_outlive_their_output(config: DictConfig, tmp_path: Path):
    config.volume.job.ledger = str(tmp_path / "notes")
    predict_volume(config)
    whole = result(config)
    shutil.rmtree(config.volume.output)
    predict_volume(config)
    np.testing.assert_array_equal(result(config), whole)
    set_options(config, overlap=0.25, overwrite=True)
    predict_volume(config)
    assert (result(config) != whole).any()


def test_a_region_is_cut_from_the_whole(config: DictConfig):
    predict_volume(config)
    whole = result(config)
    set_options(config, output=elsewhere(config, "roi"), roi=[17, 30, 3, 14, 20, 40])
    predict_volume(config)
    found = result(config)
    box = (slice(None), slice(16, 32), slice(0, 16), slice(16, 44))
    np.testing.assert_array_equal(found[box], whole[box])
    found[box] = 0
    assert not found.any()


def test_an_estimate_writes_nothing(config: DictConfig, capsys: pytest.CaptureFixture):
    config.volume.job.estimate = True
    predict_volume(config)
    printed = capsys.readouterr().out
    for word in ("patches", "read", "write", "memory", "time"):
        assert word in printed
    assert not Path(config.volume.output).exists()
    config.volume.output = None  # it needs none
    config.volume.job.keep_logits = True
    predict_volume(config)
    logits = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("write"))
    written = next(line for line in printed.splitlines() if line.startswith("write"))
    assert logits != written


def test_voxels_that_are_not_finite_are_named(config: DictConfig, values: np.ndarray, tmp_path: Path):
    values = values.astype(np.float32)
    values[5, 6, 7] = np.nan
    zarr.create_array(str(tmp_path / "nan.zarr"), data=values, chunks=(8, 12, 11))
    config.volume.input = str(tmp_path / "nan.zarr")
    with pytest.raises(DataError, match=r"nan\.zarr: voxels of \[0:16, 0:16, 0:16\] are not finite"):
        predict_volume(config)
    assert not Path(config.volume.output).exists()  # there is nothing in it to continue from


def test_mirrors_are_those_of_the_training():
    model = VolumeModel((torch.nn.Identity(),), "ours", "0")
    for augmentation, axes in (
        ({"flip": 0.5}, (0, 1, 2)),
        ({"noise": 0.1}, (0, 1, 2)),
        ({"flip": 0.0}, None),
        (None, None),
    ):
        config = OmegaConf.create({"data": {"augmentation": augmentation}})
        assert find_trained_mirrors(config) == axes
    assert find_trained_mirrors(OmegaConf.create({"data": None})) is None
    assert replace(model, mirror_axes=(0, 1, 2)).choose_mirror_axes(True) == (0, 1, 2)
    with pytest.raises(ConfigError, match="its training mirrored nothing"):
        model.choose_mirror_axes(True)


def test_separate_steps_end_like_one_pass(config: DictConfig, values: np.ndarray, capsys: pytest.CaptureFixture):
    """Logits kept, blended and finalised by the commands; float16 in between costs at most one step of uint8."""
    predict_volume(config)
    whole = result(config)
    set_options(config, output=elsewhere(config, "logits"), keep_logits=True)
    predict_volume(config)
    assert "next: python -m seewhy blend" in capsys.readouterr().out
    blended, final, direct = (elsewhere(config, name) for name in ("blended", "final", "direct"))
    for words in (
        ["blend", config.volume.output, blended],
        ["finalize", blended, final, "--num-parts", "2", "--part-id", "1"],
        ["finalize", blended, final, "--num-parts", "2"],
        ["blend", config.volume.output, direct, "--dtype", "labels", "--threshold", "0.25"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0, capsys.readouterr().err
    assert open_source(blended).dtype == np.float16
    assert np.abs(open_source(final).read(WHOLE).astype(int) - whole).max() <= 1
    labels = open_source(f"{direct}/labels/prediction").read(WHOLE)
    sure = np.abs(whole.astype(int) - 64) > 2
    np.testing.assert_array_equal(labels[sure], (whole > 64)[sure])
    chunked, wide = elsewhere(config, "chunked"), elsewhere(config, "wide")
    for words in (
        ["blend", config.volume.output, wide, "--sigma-scale", "4", "--delete-logits"],
        ["finalize", blended, chunked, "--chunk", "8,16,32", "--delete-blended"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0, capsys.readouterr().err
    assert not Path(config.volume.output).exists()
    assert not Path(blended).exists()
    assert open_source(chunked).chunks == (8, 16, 32)
    np.testing.assert_array_equal(open_source(chunked).read(WHOLE), open_source(final).read(WHOLE))
    assert open_source(wide).dtype == np.float16
    with pytest.raises(SystemExit) as ended:
        main(["finalize", final, elsewhere(config, "again")])
    assert ended.value.code == 1
    assert "holds no blended logits" in capsys.readouterr().err


def test_a_checkpoint_of_ours_predicts_with_what_it_was_trained_with(
    config: DictConfig, values: np.ndarray, tmp_path: Path
):
    kept = {
        "network": {"name": "unet", "channels": [4, 8], "strides": [2]},
        "optimizer": {"name": "adamw", "lr": 1e-3},
        "scheduler": {"name": "constant"},
        "classes": ["background", "nodule", "vessel"],
        "patch": [16, 16, 16],
        "normalization": SCALE,
    }
    torch.manual_seed(0)
    model = VolumeSegmentation(**kept)
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": kept}, tmp_path / "our.ckpt")
    config.ckpt_path = str(tmp_path / "our.ckpt")
    set_options(config, network=None, weights=None, patch=None, normalization=None, dtype="labels")
    predict_volume(config)
    output_format = OutputFormat(mode="multiclass", channels=3, stored="labels")
    with torch.no_grad():
        found = predict_array(
            values[None],
            model.eval(),
            patch=(16,) * 3,
            output_format=output_format,
            normalization=SCALE,
            skip_empty=True,
        )
    np.testing.assert_array_equal(result(config, "/labels/prediction")[0], found)
    group = zarr.open_group(f"{config.volume.output}/labels/prediction", mode="r")
    assert [entry["class"] for entry in group.attrs["ome"]["image-label"]["properties"]] == kept["classes"]
    torch.save({"state_dict": {}, "hyper_parameters": {"encoder": {}}}, tmp_path / "other.ckpt")
    config.ckpt_path = str(tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=r"other\.ckpt is not a checkpoint of a model"):
        predict_volume(config)


def test_an_nnunet_folder(config: DictConfig, values: np.ndarray, tmp_path: Path):
    pytest.importorskip("dynamic_network_architectures")
    content = plans(patch_size=[16, 16, 16], spacing=[1.0, 1.0, 1.0])
    write_folder(tmp_path / "model", content, folds=("0", "1"))
    set_options(config, network=None, weights=None, patch=None, normalization=None, nnunet=str(tmp_path / "model"))
    set_options(config, dtype="labels", tta=True, window="nnunet", name="organs")
    predict_volume(config)
    found = result(config, "/labels/organs")
    assert set(np.unique(found)) <= {0, 1, 2}
    set_options(config, folds=[0], output=str(tmp_path / "one.zarr"))
    predict_volume(config)
    assert (result(config, "/labels/organs") != found).any()
    config.volume.inference.tta = [1]
    with pytest.raises(ConfigError, match=r"may be mirrored along \[0, 2\] only"):
        predict_volume(config)


def test_a_full_disk_in_mid_run_and_on(config: DictConfig):
    predict_volume(config)
    whole, sizes = result(config), sorted(map(len, contents(config.volume.output).values()))
    config.volume.output = elsewhere(config, "full")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (sizes[len(sizes) // 2], limits[1]))
    try:
        with pytest.raises(DataError, match=r"cannot be written .*what was written is kept") as caught:
            predict_volume(config)
        assert "\n" not in str(caught.value)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    predict_volume(config)
    np.testing.assert_array_equal(result(config), whole)


def test_a_truncated_chunk_is_named_and_the_run_goes_on_once_mended(config: DictConfig):
    chunk = Path(config.volume.input) / "c" / "4" / "1" / "2"
    good = chunk.read_bytes()
    chunk.write_bytes(good[: len(good) // 2])
    with pytest.raises(DataError, match=r"chunk 4\.1\.2 is truncated or damaged"):
        predict_volume(config)
    chunk.write_bytes(good)
    predict_volume(config)
    found = result(config)
    config.volume.overwrite = True
    predict_volume(config)
    np.testing.assert_array_equal(result(config), found)


def test_a_changed_setting_is_refused_and_named(config: DictConfig):
    predict_volume(config)
    config.volume.inference.overlap = 0.25
    with pytest.raises(ConfigError, match=r"begun with other settings .*overlap: 0\.5 → 0\.25"):
        predict_volume(config)
    config.volume.overwrite = True
    predict_volume(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": None}, "volume.input must be given"),
        ({"network": None, "weights": None}, "no model: give one of"),
        ({"nnunet": "somewhere"}, "are both given"),
        ({"weights": None}, "volume.model.weights must be given"),
        ({"patch": None}, "volume.inference.patch must be given"),
        ({"normalization": None}, "volume.inference.normalization must be given"),
        ({"patch": [16, 16]}, "expected three positive numbers"),
        ({"tta": True}, "which axes it may be mirrored"),
        ({"tta": [3]}, "expected true, false or axes"),
        ({"tta": ["z"]}, "expected true, false or axes"),
        ({"tta": "all"}, "expected true, false or axes"),
        ({"normalization": ["zscore"], "estimate": True}, "is not a mapping"),
        ({"normalization": [{"scheme": "scale", "by": 0}]}, "by=0"),
        ({"dtype": "logits"}, "volume.job.keep_logits=true"),
        ({"dtype": "int8"}, "stored='int8' is unknown|dtype"),
        ({"mode": "multi"}, "nearest: 'multiclass'"),
        ({"window": "gauss"}, "gaussian"),
        ({"overlap": 1.0}, "overlap"),
        ({"roi": [0, 10, 0, 10]}, "expected \\[z0,z1,y0,y1,x0,x1\\]"),
        ({"roi": [90, 95, 0, 10, 0, 10]}, "lies outside the volume"),
        ({"part_id": 1}, "expected 0 to num_parts - 1"),
        ({"num_parts": 2, "overwrite": True}, "each part would delete"),
        ({"memory_budget": "10kB"}, "raise it"),
        ({"channels": [1]}, "there is no channel"),
        ({"spacing": "chekc"}, "expected check or ignore"),
        ({"storage_options": {}, "input": "nothing.zarr"}, r"nothing\.zarr does not exist"),
        ({"zarr_format": 4}, "expected 2 or 3"),
        ({"output": "memory://out.zarr"}, "volume.job.ledger must be given"),
    ],
)
def test_mistakes_in_one_line_before_anything_is_written(config: DictConfig, changes: dict, message: str):
    set_options(config, **changes)
    with pytest.raises((ConfigError, CheckpointError, DataError), match=message) as caught:
        predict_volume(config)
    assert "\n" not in str(caught.value)
    assert config.volume.output is None or not Path(config.volume.output).exists()


def test_models_and_volumes_that_do_not_fit(config: DictConfig, values: np.ndarray, tmp_path: Path):
    zarr.create_array(str(tmp_path / "two.zarr"), data=np.stack([values, values]))
    config.volume.input = str(tmp_path / "two.zarr")
    with pytest.raises(CheckpointError, match=r"takes 1 input channel\(s\), the volume has 2"):
        predict_volume(config)
    config.volume.channels = [1]
    predict_volume(config)
    zarr.create_array(str(tmp_path / "theirs.zarr"), data=values)
    config.volume.output = str(tmp_path / "theirs.zarr")
    with pytest.raises(ConfigError, match=r"theirs\.zarr exists and was not created by seewhy"):
        predict_volume(config)
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "theirs.zarr"))[:], values)


def test_voxels_of_another_size_are_refused_and_the_level_that_fits_is_named(config: DictConfig, tmp_path: Path):
    from seewhy.run.volumes.input import check_input, open_input
    from seewhy.run.volumes.model import VolumeModel

    group = zarr.open_group(str(tmp_path / "p.zarr"), mode="w")
    datasets = []
    for index in range(3):
        group.create_array(str(index), data=np.zeros((16 >> index,) * 3, np.uint8))
        scale = [{"type": "scale", "scale": [0.5 * 2**index] * 3}]
        datasets.append({"path": str(index), "coordinateTransformations": scale})
    axes = [{"name": axis, "type": "space", "unit": "millimeter"} for axis in "zyx"]
    group.attrs.update({"ome": {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}})
    model = VolumeModel((), "model", "", spacing=(1.0, 1.0, 1.05))
    config.volume.input = str(tmp_path / "p.zarr")
    with pytest.raises(ConfigError, match=r"voxels of 0\.5 .* trained at 1 .*; volume\.level=1 has voxels of 1"):
        check_input(open_input(config.volume), model, config.volume)
    config.volume.level = 1
    assert check_input(open_input(config.volume), model, config.volume) is None
    set_options(config, level=2, spacing="ignore")
    assert check_input(open_input(config.volume), model, config.volume) is None


def test_options_of_stores_are_free():
    words = ("volume.storage_options={anon: true, backoff: 0.5}", "volume.storage_options.retries=2")
    config = compose_saved("predict", None, "experiment=volume", *words)
    assert config.volume.storage_options == {"anon": True, "backoff": 0.5, "retries": 2}


def test_every_option_is_read():
    """Each key of conf/volume is named in the code that predicts."""
    source = "\n".join(path.read_text() for path in (SOURCE / "run" / "volumes").glob("*.py"))
    for key, value in OmegaConf.load(CONF / "volume" / "default.yaml").items():
        assert f"volume.{key}" in source, key
        for name in value if key in ("model", "inference", "store", "job") else ():
            assert re.search(rf"\b({key}|options|volume\.{key})\.{name}\b", source), name
