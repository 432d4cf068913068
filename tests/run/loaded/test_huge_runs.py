"""Run folders whose configuration names a network that is larger than the checkpoint."""

import resource
import shutil

import pytest

from seewhy.cli.compose import compose_saved
from seewhy.errors import CheckpointError
from seewhy.run.loaded.loading import load
from seewhy.run.loaded.saved_run import load_run


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize(
    ("system", "size", "huge"), [("cyclegan", "width: 4", "width: 1000000"), ("volume", "- 4\n", "- 1000000\n")]
)
def test_huge_networks_are_refused_before_memory_is_taken(run_of, tmp_path, system, size, huge):
    folder = tmp_path / "run"
    shutil.copytree(run_of(system)[0], folder)
    load(folder)
    config = folder / "config.yaml"
    assert size in config.read_text()
    config.write_text(config.read_text().replace(size, huge))
    message = r"names a network with more than .*best\.ckpt has"
    before = peak()
    with pytest.raises(CheckpointError, match=message):
        load(folder)
    with pytest.raises(CheckpointError, match=message):
        load_run(compose_saved("predict", folder, "trainer.enable_progress_bar=false"))
    assert peak() - before < 300
