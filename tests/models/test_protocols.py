"""Models implement the protocols that callbacks and commands ask for."""

import subprocess
import sys
from pydoc import locate

import pytest

from seewhy.callbacks.predictions import PredictionOptions
from seewhy.models.protocols import (
    GivesAttentionMaps,
    HasBackbones,
    NamesPredictionWriter,
    ReportsResults,
    ScoresPatients,
    ScoresSamples,
    TranslatesScans,
)
from seewhy.models.translation.unpaired import UnpairedTranslation
from seewhy.models.volumes.segmentation import VolumeSegmentation
from seewhy.models.weakly_supervised.segmentation import WeaklySupervisedSegmentation


@pytest.mark.parametrize("model", [UnpairedTranslation, VolumeSegmentation])
def test_a_named_prediction_writer_exists(model, tmp_path):
    writer = locate(model.prediction_writer)(PredictionOptions(folder=tmp_path), None)
    assert callable(writer.write)
    assert isinstance(writer.skip_reason, str)


def test_a_segmentation_model_is_not_taken_for_a_translation():
    model = WeaklySupervisedSegmentation(
        encoder={"name": "cnn"}, optimizer={"name": "adamw", "lr": 1e-3}, scheduler={"name": "constant"}
    )
    assert isinstance(model, ScoresPatients)
    assert isinstance(model, HasBackbones)
    assert isinstance(model, GivesAttentionMaps)
    assert list(model.backbones()) == [model.encoder]
    for protocol in (NamesPredictionWriter, ReportsResults, ScoresSamples, TranslatesScans):
        assert not isinstance(model, protocol)


def test_commands_do_not_import_translation_code():
    code = (
        "import sys, seewhy.run.predict, seewhy.run.results, seewhy.callbacks.predictions; "
        "print([name for name in sys.modules if name.startswith('seewhy') and 'translation' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"
