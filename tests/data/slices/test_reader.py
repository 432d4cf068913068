"""Several modalities as channels: what is read, what a missing channel is, and what is refused."""

import json

import numpy as np
import pytest
import torch

from seewhy.data.slices.datamodule import BraTSDataModule
from seewhy.data.slices.reader import drop_modalities, parse_channels
from seewhy.errors import ConfigError
from seewhy.io.atomic import write_json

STORED = ("flair", "t1", "t1ce")
CHANNELS = ["t1ce", "flair", "t1ce-t1", "flair-mirror"]


def disc(size=48):
    rows, columns = np.mgrid[0:size, 0:size] - (size - 1) / 2
    return rows, columns, (rows / 20) ** 2 + (columns / (14 + 0.15 * rows)) ** 2 < 1


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Four patients of four slices [3, 48, 48]; t1ce is t1 with a bright spot, flair is symmetric but for a spot."""
    root = tmp_path_factory.mktemp("slices")
    (root / "imageSlice").mkdir()
    rows, columns, body = disc()
    for patient in range(4):
        for index in range(4):
            noise = np.random.default_rng([patient, index]).random(body.shape)
            t1 = 100 + 30 * noise
            t1ce = t1 + 200 * ((np.abs(rows) < 3) & (columns > 6))
            flair = 50 + 10 * np.cos(columns / 4) + 80 * ((np.abs(rows - 8) < 3) & (columns < -5))
            image = np.stack([flair, t1, t1ce]) * body
            np.save(root / "imageSlice" / f"BRATS_{patient}_{index}_{index % 2}.npy", image.astype(np.float32))
    write_json(root / "dataset.json", {"modalities": list(STORED)})
    return root


def data(root, channels=CHANNELS, **options):
    shared = {"normalize": "robust", "fractions": [0.5, 0.25, 0.25], "augmentation": None}
    return BraTSDataModule(root=str(root), channels=len(channels), modalities=channels, **(shared | options))


def test_each_modality_has_its_own_scale_and_differences_are_of_the_scaled(root):
    module = data(root)
    batch = module.evaluation_data(module.items_of("test"))[0]
    image, body = batch["image"], batch["body"]
    _, _, inside = disc()
    assert torch.equal(body, torch.from_numpy(np.broadcast_to(inside, (4, 48, 48)).copy()))
    single = data(root, ["t1", "t1ce", "flair"])
    plain = single.evaluation_data(single.items_of("test"))[0]["image"]
    assert torch.equal(image[:, 2], plain[:, 1] - plain[:, 0])
    assert torch.equal(image[:, 0], plain[:, 1])
    for channel in range(3):
        assert float(plain[:, channel][body].median().abs()) < 0.1  # robust: the median of each modality is 0
    assert batch["missing"].tolist() == [[-4.0, -4.0, 0.0, 0.0]] * 4
    assert torch.equal(image[:, :2][~body[:, None].expand(-1, 2, -1, -1)].unique(), torch.tensor([-4.0]))
    assert float(image[:, 2:][~body[:, None].expand(-1, 2, -1, -1)].abs().max()) == 0.0


def test_the_mirrored_difference_shows_the_spot_and_not_the_pattern(root):
    module = data(root)
    image = module.evaluation_data(module.items_of("test"))[0]["image"][:, 3]
    rows, columns, body = disc()
    spot = torch.from_numpy((np.abs(rows - 8) < 2) & (columns < -6) & body & (columns > -12))
    rest = torch.from_numpy(body & (np.abs(rows - 8) > 5) & (np.abs(columns) < 9))
    assert float(image[:, spot].min()) > 3
    assert float(image[:, rest].abs().max()) < 0.7


def test_dropped_modalities_take_their_differences_along():
    channels = parse_channels(["t1", "t1ce", "t1ce-t1", "t1-mirror"], ["t1", "t1ce"])
    image, padding = np.ones((4, 2, 2), np.float32), np.array([-4, -5, 0, 0], np.float32)[:, None, None]
    seen = set()
    for number in range(40):
        rng = np.random.default_rng(number)
        seen.add(tuple(drop_modalities(image, padding, channels, share=0.5, rng=rng)[:, 0, 0].tolist()))
    assert seen == {(1, 1, 1, 1), (1, -5, 0, 1), (-4, 1, 0, 0)}  # all, without t1ce, without t1; never none


def test_dropout_is_of_training_alone_and_repeatable(root):
    module = data(root, ["flair", "t1", "t1ce"], channel_dropout=0.5)
    module.setup("fit")
    training = module.training_data()
    missing = [[bool((plane == -4).all()) for plane in training[i]["image"]] for i in range(len(training))]
    assert 0.2 < np.mean(missing) < 0.7
    assert not any(all(row) for row in missing)
    assert torch.equal(training[3]["image"], module.training_data()[3]["image"])
    batch = module.evaluation_data(module.items_of("test"))[0]
    assert not (batch["image"] == -4).all(3).all(2).any()


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"channels": ["t2", "flair"]}, ["t2", "flair, t1, t1ce"]),
        ({"channels": ["t1ce-t2"]}, ["t1ce-t2", "t2"]),
        ({"channels": ["t1", "t1"]}, ["t1", "twice"]),
    ],
)
def test_channels_that_do_not_exist_are_refused(root, options, facts):
    with pytest.raises(ConfigError) as error:
        data(root, **options).reader  # noqa: B018
    assert all(fact in str(error.value) for fact in facts)


def test_numbers_and_options_that_do_not_fit_are_refused(root, tmp_path):
    with pytest.raises(ConfigError, match=r"2 entries.*data\.channels=2"):
        BraTSDataModule(root=str(root), channels=4, modalities=["t1", "flair"])
    with pytest.raises(ConfigError, match=r"channel_dropout=0\.3 needs data\.modalities"):
        BraTSDataModule(root=str(root), channel_dropout=0.3)
    with pytest.raises(ConfigError, match=r"3 modalities.*data\.modalities=\[flair,t1,t1ce\].*data\.channels=3"):
        BraTSDataModule(root=str(root)).folder  # noqa: B018
    (tmp_path / "imageSlice").mkdir()
    np.save(tmp_path / "imageSlice" / "BRATS_1_0_0.npy", np.zeros((8, 8)))
    with pytest.raises(ConfigError, match="one modality"):
        data(tmp_path, ["t1"]).reader  # noqa: B018


def test_the_data_set_states_its_modalities(root):
    assert json.loads((root / "dataset.json").read_text())["modalities"] == list(STORED)
    assert data(root).channel_sources == {
        "t1ce": ("t1ce",), "flair": ("flair",), "t1ce-t1": ("t1ce", "t1"), "flair-mirror": ("flair",),
    }  # fmt: skip
    assert BraTSDataModule(root=str(root)).channel_sources == {}
