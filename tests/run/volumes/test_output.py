"""Outputs and their notes belong together: nothing is taken for finished, written or ours that is not."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.networks.nets import UNet
from omegaconf import DictConfig

from seewhy.cli.main import main
from seewhy.errors import ConfigError, DataError
from seewhy.io.documents import read_json
from seewhy.io.zarr import existing as volume_creation
from seewhy.io.zarr.sink import VolumeSink
from seewhy.run.volumes.predict import predict_volume
from seewhy.volumes.engine.engine import VolumeEngine
from seewhy.volumes.engine.ledger import Ledger
from seewhy.volumes.output_format import OutputFormat


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


predicting = load(Path(__file__).with_name("test_predict.py"))
base, values, config = predicting.base, predicting.values, predicting.config
elsewhere, result, set_options = predicting.elsewhere, predicting.result, predicting.set_options


class StoppedError(Exception):
    """Nothing that a command knows."""


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch):
    """Predicts until some batches are blended, and stops."""

    def run(config: DictConfig, batches: int = 8):
        accept, left = VolumeEngine.accept, [batches]

        def counted(self, batch, logits):
            left[0] -= 1
            if left[0] < 0:
                raise StoppedError
            accept(self, batch, logits)

        with monkeypatch.context() as patch:
            patch.setattr(VolumeEngine, "accept", counted)
            with pytest.raises(StoppedError):
                predict_volume(config)

    return run


def refused(words: list[str], message: str, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 1
    assert message in capsys.readouterr().err


def blended(config: DictConfig) -> str:
    """Path of what `blend` makes of all logits."""
    path = elsewhere(config, "blended")
    with pytest.raises(SystemExit) as ended:
        main(["blend", config.volume.output, path])
    assert ended.value.code == 0
    return path


def test_half_a_blend_is_not_finalised(
    config: DictConfig, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    config.volume.job.keep_logits = True
    predict_volume(config)
    half, write = elsewhere(config, "blended"), VolumeSink.write

    def fill_disk(self, box, block):
        if box[0].start:
            raise DataError("the disk is full")
        write(self, box, block)

    with monkeypatch.context() as patch:
        patch.setattr(VolumeSink, "write", fill_disk)
        refused(["blend", config.volume.output, half], "the disk is full", capsys)
    refused(["finalize", half, elsewhere(config, "final")], "is not complete", capsys)
    assert blended(config) == half


def test_logits_are_not_finished_while_more_of_them_are_predicted(
    config: DictConfig, stopped, capsys: pytest.CaptureFixture
):
    set_options(config, keep_logits=True, roi=[16, 32, 0, 16, 0, 16])
    predict_volume(config)
    config.volume.roi = None
    stopped(config)
    refused(["blend", config.volume.output, elsewhere(config, "blended")], "is not complete", capsys)
    predict_volume(config)
    blended(config)


def test_logits_that_were_added_to_are_blended_anew(config: DictConfig, capsys: pytest.CaptureFixture):
    """Patches beside the first region count as background in what was blended of it."""
    set_options(config, keep_logits=True, roi=[16, 32, 0, 16, 0, 16])
    predict_volume(config)
    first = blended(config)
    assert blended(config) == first
    config.volume.roi = None
    predict_volume(config)
    refused(["blend", config.volume.output, first], "begun with other settings (of: ", capsys)


def test_a_volume_is_finalised_of_the_blended_logits_that_are_there(config: DictConfig, capsys: pytest.CaptureFixture):
    config.volume.job.keep_logits = True
    predict_volume(config)
    source, final = blended(config), elsewhere(config, "final")
    with pytest.raises(SystemExit):
        main(["finalize", source, final, "--num-parts", "2", "--part-id", "0"])
    shutil.rmtree(source)
    with pytest.raises(SystemExit):
        main(["blend", config.volume.output, source, "--window", "constant"])
    refused(["finalize", source, final], "begun with other settings (input.", capsys)


def test_blending_does_not_go_on_with_other_logits(config: DictConfig, capsys: pytest.CaptureFixture):
    config.volume.job.keep_logits = True
    predict_volume(config)
    half = elsewhere(config, "blended")
    with pytest.raises(SystemExit):
        main(["blend", config.volume.output, half, "--num-parts", "2", "--part-id", "0"])
    shutil.rmtree(config.volume.output)
    config.volume.inference.tta = [0]
    predict_volume(config)
    refused(["blend", config.volume.output, half], "begun with other settings", capsys)


def test_a_threshold_is_of_logits_that_are_kept(config: DictConfig, capsys: pytest.CaptureFixture):
    assert OutputFormat(mode="threshold", channels=2, stored="logits").stored == "logits"
    config.volume.store.mode = "threshold"
    predict_volume(config)
    whole = result(config, "/labels/prediction")
    set_options(config, keep_logits=True, output=elsewhere(config, "logits"))
    predict_volume(config)
    logits, config.volume.output = blended(config), elsewhere(config, "final")
    with pytest.raises(SystemExit) as ended:
        main(["finalize", logits, config.volume.output])
    assert ended.value.code == 0, capsys.readouterr().err
    assert (result(config, "/labels/prediction") != whole).mean() < 0.01


@pytest.mark.parametrize("place", ["{}", "{}/inside.zarr", "file://{}"])
def test_an_output_in_the_input_is_refused(config: DictConfig, place: str):
    set_options(config, output=place.format(config.volume.input), overwrite=True)
    before = predicting.contents(config.volume.input)
    with pytest.raises(ConfigError, match="contain each other"):
        predict_volume(config)
    assert predicting.contents(config.volume.input) == before


def test_notes_are_of_one_output(config: DictConfig, stopped, tmp_path: Path):
    config.volume.job.ledger = str(tmp_path / "notes")
    first = config.volume.output
    stopped(config)
    config.volume.output = elsewhere(config, "other")
    predict_volume(config)
    config.volume.output = first
    with pytest.raises(ConfigError, match="holds notes of another output"):
        predict_volume(config)


def names(folder: Path) -> list[str]:
    """Names of everything in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_notes_of_a_faster_part_stay(tmp_path: Path):
    ledger = Ledger(tmp_path)
    ledger.begin({"output": "new"})
    ledger.workers.join()
    ledger.open_notes()
    (tmp_path / "claims-0000").mkdir()
    Ledger(tmp_path).clear(output="new")
    assert names(tmp_path) == ["claims-0000", "part-0000.jsonl", "run.json", "worker-0000.json"]
    ledger.close()
    Ledger(tmp_path).clear(output="newer")
    assert not list(tmp_path.iterdir())


def test_a_part_that_starts_while_notes_are_cleared_keeps_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The faster part comes just after the slower one has seen that there is no run."""
    faster = Ledger(tmp_path)

    def read_late(path):
        try:
            return read_json(path)
        finally:
            faster.begin({"output": "new"})
            faster.workers.join()
            faster.open_notes()

    with monkeypatch.context() as patch:
        patch.setattr("seewhy.volumes.engine.ledger.read_json", read_late)
        Ledger(tmp_path).clear(output="new")
    faster.close()
    assert names(tmp_path) == ["part-0000.jsonl", "run.json", "worker-0000.json"]


def test_notes_that_are_half_cleared_are_of_no_other_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ledger, unlink, left = Ledger(tmp_path), Path.unlink, [1]
    ledger.begin({"output": "old"})
    for _ in range(2):
        ledger.workers.join()
        ledger.open_notes()
        ledger.close()

    def cut_off(self, **options):
        left[0] -= 1
        if left[0] < 0:
            raise StoppedError
        unlink(self, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", cut_off)
        with pytest.raises(StoppedError):
            ledger.clear(output="new")
    with pytest.raises(ConfigError, match="holds notes of another output"):
        Ledger(tmp_path).begin({"output": "new"})
    Ledger(tmp_path).clear(output="new")
    assert not list(tmp_path.iterdir())


def test_notes_of_logits_never_outlive_them(config: DictConfig, tmp_path: Path, capsys: pytest.CaptureFixture):
    set_options(config, ledger=str(tmp_path / "notes"), keep_logits=True)
    predict_volume(config)
    shutil.rmtree(config.volume.output)
    predict_volume(config)
    config.volume.output = blended(config)
    assert np.ptp(result(config)) > 0


def test_another_network_with_the_same_weights_is_another_setting(config: DictConfig):
    torch.save(UNet(**predicting.OPTIONS, out_channels=2, act="RELU").state_dict(), config.volume.model.weights)
    config.volume.model.network = {**config.volume.model.network, "act": "RELU"}
    config.volume.roi = [16, 32, 0, 16, 0, 16]
    predict_volume(config)
    config.volume.roi = None
    config.volume.model.network = {**config.volume.model.network, "act": "TANH"}
    with pytest.raises(ConfigError, match=r"begun with other settings \(network\.act: RELU → TANH"):
        predict_volume(config)


def test_overwriting_can_be_stopped_and_repeated(config: DictConfig, monkeypatch: pytest.MonkeyPatch):
    predict_volume(config)
    set_options(config, overwrite=True, overlap=0.25)

    def stop(path):
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(volume_creation.shutil, "rmtree", stop)
        with pytest.raises(StoppedError):
            predict_volume(config)
    assert not Path(config.volume.output).exists()
    predict_volume(config)
    assert result(config).any()


def test_logits_where_nothing_can_be_written(config: DictConfig, tmp_path: Path):
    (tmp_path / "file").write_text("no folder")
    set_options(config, keep_logits=True, output=str(tmp_path / "file" / "logits.zarr"))
    with pytest.raises(DataError, match=r"logits\.zarr cannot be created"):
        predict_volume(config)


def test_damaged_logits_are_named(config: DictConfig, capsys: pytest.CaptureFixture):
    config.volume.job.keep_logits = True
    predict_volume(config)
    chunk = next(path for path in sorted(Path(config.volume.output).rglob("c/*/*/*/*/*/*/*")) if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:40])
    refused(["blend", config.volume.output, elsewhere(config, "blended")], "cannot be read", capsys)


@pytest.mark.parametrize("option", ["chunk", "shard"])
def test_blocks_without_voxels_are_refused(config: DictConfig, option: str):
    config.volume.store[option] = [0, 8, 8]
    with pytest.raises(ConfigError, match=rf"volume\.store\.{option}=\[0, 8, 8\].* 1 or more"):
        predict_volume(config)
