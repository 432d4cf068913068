"""Options of the DataModule of volumes that a user can get wrong, answered in one line."""

import pytest

from seewhy.data.volumes.boxes import cut_volume
from seewhy.data.volumes.datamodule import VolumesDataModule
from seewhy.errors import ConfigError
from seewhy.phantoms.ct import write_ct_phantom


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_ct_phantom(tmp_path_factory.mktemp("p") / "ct", volumes=1, shape=[32, 32, 32], chunk=16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cut": "z", "gap": 2, "fractions": [0.5, 0.5]}, r"data\.fractions=\[0\.5, 0\.5\]"),
        ({"cut": "z", "gap": 2, "fractions": [0.5, 0.5, -0.1]}, r"data\.fractions="),
        ({"cut": "z", "gap": 2, "fractions": [0, 0, 0]}, r"data\.fractions="),
        ({"cut": "z", "gap": 2, "fractions": ["a", 0.5, 0.5]}, r"data\.fractions="),
        ({"cut": "z", "gap": [2]}, r"data\.gap=\[2\]"),
        ({"cut": "z", "gap": "wide"}, r"data\.gap='wide'"),
        ({"cut": "z", "gap": -1}, r"data\.gap=-1"),
        ({"patient_pattern": "("}, r"data\.patient_pattern='\('.*missing \)"),
        ({"boxes": [{"part": "train", "box": ["a", 9, 0, 9, 0, 9]}]}, r"data\.boxes\[0\]\.box=.*\[z0, z1"),
    ],
)
def test_wrong_options_are_answered(root, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        _ = VolumesDataModule(root=str(root), classes=["background", "a", "b"], patch=[8, 8, 8], **options).split
    assert "\n" not in str(caught.value)


def test_shares_need_not_add_up_to_one():
    box = {"axis": "z", "gap": (2, 2, 2)}
    one, other = (cut_volume("v", (40, 8, 8), fractions=shares, **box) for shares in ((6, 2, 2), (0.6, 0.2, 0.2)))
    assert [part.ends for part in one] == [part.ends for part in other]
