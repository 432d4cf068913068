"""Pictures of translations after the test and during training."""

import numpy as np
import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tiny_cyclegan import Batches, pairs, subject, tiny, trainer_for

from seewhy.callbacks.translation.figure import TranslationFigure
from seewhy.errors import ConfigError


@pytest.fixture
def data():
    return Batches([pairs(1)], subjects=[subject(domain, number) for domain in "ab" for number in range(3)])


def test_the_first_subjects_of_each_domain_are_drawn(tmp_path, data):
    taken = []

    class Look(TranslationFigure):
        def on_test_end(self, trainer, pl_module):
            taken.extend(case for own in self.cases.values() for case in own)
            super().on_test_end(trainer, pl_module)

    model = tiny()
    trainer_for(tmp_path, Look(folder=str(tmp_path), subjects=2)).test(model, data, verbose=False)
    assert [(case.subject, case.direction) for case in taken] == [
        ("A0", "a2b"), ("A1", "a2b"), ("B0", "b2a"), ("B1", "b2a"),
    ]  # fmt: skip
    assert Image.open(tmp_path / "translation.png").size[0] > 800
    rows = [row for row in model.sample_scores["test"].rows() if row["metric"] == "ssim" and row["subject"] == "A0"]
    for comparison in ("identity", "translation", "cycle"):
        expected = [row["value"] for row in rows if row["comparison"] == comparison and row["slice"] == taken[0].number]
        assert taken[0].scores[comparison] == pytest.approx(expected, abs=1e-5)
    assert taken[0].body.sum() == max(int(part.sum()) for part in data.subjects[0]["body"])


@pytest.mark.parametrize("every", [0, 1])
def test_pictures_go_to_loggers_that_show_them(tmp_path, data, every):
    seen = []
    trainer = trainer_for(tmp_path, TranslationFigure(folder=str(tmp_path), every_n_epochs=every))
    logger = TensorBoardLogger(tmp_path)
    logger.experiment.add_image = lambda name, image, *_, **__: seen.append((name, image))
    trainer.loggers = [logger]
    trainer.fit(tiny(), data)
    assert [name for name, _ in seen] == ["val/translation"] * every
    for _, image in seen:
        assert image.dtype == np.uint8
        assert image.shape[2] == 3
    assert not (tmp_path / "translation.png").exists()


def test_options_out_of_range(tmp_path):
    with pytest.raises(ConfigError, match="subjects=0 must be 1 or more"):
        TranslationFigure(folder=str(tmp_path), subjects=0)
