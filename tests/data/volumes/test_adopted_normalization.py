"""A trained model's normalisation on other data than it was trained on."""

import numpy as np
import pytest
import torch
import zarr

from seewhy.data.volumes.datamodule import VolumesDataModule
from seewhy.errors import ConfigError
from seewhy.phantoms.ct import write_ct_phantom

CT = {"scheme": "ct", "lower": -700.0, "upper": 150.0, "mean": -20.0, "std": 40.0}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_ct_phantom(tmp_path_factory.mktemp("p") / "ct", volumes=3, shape=[32, 32, 32], chunk=16)


def module(root, **options):
    known = {"classes": ["background", "nodule", "vessel"], "patch": [16, 16, 16], "fractions": (0.4, 0.3, 0.3)}
    return VolumesDataModule(root=str(root), **{**known, **options})


def test_other_data_are_seen_as_the_model_was_trained(root):
    data = module(root)
    measured = data.normalization
    data.adopt({"normalization": [CT], "patch": [16, 16, 16]})
    assert data.normalization == [CT]
    assert measured != [CT]
    data.setup("test")
    batch = next(iter(data.test_dataloader()))
    stored = zarr.open_group(root / "images" / f"{batch['id'][0]}.zarr", mode="r")["0"][...].astype(np.float32)
    expected = torch.from_numpy((stored.clip(-700, 150) + 20) / 40)
    torch.testing.assert_close(batch["image"][0, 0], expected)


def test_volumes_without_labels_are_predicted_by_a_model_of_labelled_ones(root):
    data = module(root, labels=None, predict_on="all")
    data.adopt({"normalization": [CT]})
    data.setup("predict")
    assert len(list(data.predict_dataloader())) == 3


def test_numbers_that_are_asked_for_go_before_and_other_schemes_are_refused(root):
    data = module(root, normalization={"scheme": "ct", "lower": None})
    data.adopt({"normalization": [CT]})
    assert data.normalization == [CT]
    data = module(root, normalization={**CT, "mean": 7.0})
    data.adopt({"normalization": [CT]})
    assert data.normalization == [{**CT, "mean": 7.0}]
    data = module(root)
    data.adopt({"normalization": [{"scheme": "zscore"}]})
    with pytest.raises(ConfigError, match=r"=ct, but the model was trained with zscore; set data\.normalization=zsc"):
        _ = data.normalization
    data = module(root)
    data.adopt({"normalization": [CT, CT]})
    with pytest.raises(ConfigError, match="trained on 2 channels, the volumes have 1"):
        _ = data.normalization


def test_a_model_that_knows_none_changes_nothing(root):
    data = module(root)
    measured = data.normalization
    data.adopt({"classes": ["a", "b"]})
    data.adopt({"normalization": None})
    assert data.normalization == measured
