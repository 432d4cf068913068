"""The words of `seewhy serve`, and its errors, each of which is one line."""

import pytest
from untrained_runs import write_untrained_run

from seewhy.cli.main import main
from seewhy.cli.serve import _read_words

pytest.importorskip("fastapi", reason="pip install 'seewhy[serve]'")
pytest.importorskip("python_multipart", reason="pip install 'seewhy[serve]'")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    home = tmp_path_factory.mktemp("serve")
    write_untrained_run("amd", home / "run", home / "data")
    return home / "run"


def test_words_are_the_run_and_options_with_values():
    run, options = _read_words(["data.slices=[12,36]", "run=runs/a=b", "data.root=/data/x", "data.size=null"])
    assert run == "runs/a=b"
    assert list(options["data.slices"]) == [12, 36]
    assert (options["data.root"], options["data.size"]) == ("/data/x", None)


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["lightning_logs/amd"], ["KEY=VALUE", "run=lightning_logs/amd"]),
        (["data.root=x"], ["run=… must be given"]),
        (["run="], ["run=… must be given"]),
        (["run=nowhere"], ["nowhere holds no config.yaml"]),
        (["run=RUN", "data.image_sise=3"], ["nearest: 'image_size'"]),
        (["run=RUN", "trainer.precision=16"], ["data. or model."]),
        (["run=RUN", "--final"], ["best.ckpt"]),
        (["run=RUN", "--port", "99999"], ["--port 99999", "65535"]),
        (["run=RUN", "--methods", "grad_cm"], ["nearest: 'grad_cam'"]),
        (["run=RUN", "--max-upload", "huge"], ["--max-upload huge", "512MiB"]),
        (["run=RUN", "--host", "no.such.host.invalid"], ["cannot listen at no.such.host.invalid"]),
    ],
)
def test_a_mistake_gets_one_line(run, capsys, words, facts):
    with pytest.raises(SystemExit) as end:
        main(["serve", *(word.replace("RUN", str(run)) for word in words)])
    assert end.value.code == 1
    [line] = capsys.readouterr().err.splitlines()
    for fact in facts:
        assert fact in line
