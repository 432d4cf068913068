"""Help of all commands, their examples, and completion in shells."""

import os
import shlex
import subprocess
import sys

import pytest

from seewhy.cli.completion import suggest
from seewhy.cli.compose import compose_train
from seewhy.cli.help import EXAMPLES, OWN_OPTIONS, format_help, list_choices, read_option_comments
from seewhy.cli.main import GROUPS, HYDRA, main, make_parser
from seewhy.run.folder import conf_dir

PLAIN = [(name, words) for name, examples in EXAMPLES.items() if name not in HYDRA for words in examples]


def test_every_command_is_in_one_group_with_examples(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    listed = [name for names in GROUPS.values() for name in names]
    assert sorted(listed) == sorted(make_parser().texts)
    for name in listed:
        assert f"  {name} " in text
        assert EXAMPLES[name]


@pytest.mark.parametrize(("name", "words"), PLAIN)
def test_examples_are_accepted(name, words):
    make_parser().parse_args([*name.split(), *shlex.split(words)])


@pytest.mark.parametrize("words", EXAMPLES["train"])
def test_examples_of_train_compose(words):
    given = [word.split(",")[0] for word in shlex.split(words) if word != "--multirun"]
    assert compose_train(*given).data is not None


@pytest.mark.parametrize("words", [["prepare", "brats"], ["import", "amd"], ["judge"], ["finalize"]])
def test_help_of_a_command_ends_with_its_examples(words, capsys):
    with pytest.raises(SystemExit) as end:
        main([*words, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert f"  seewhy {' '.join(words)} {EXAMPLES[' '.join(words)][-1]}\n" in text


@pytest.mark.parametrize("name", list(HYDRA))
def test_help_names_every_option_of_the_command(name):
    text = format_help(name, f"seewhy {name}")
    keys = [one.key for one in read_option_comments(conf_dir() / f"{name}.yaml")]
    for group in OWN_OPTIONS[name]:
        keys += [f"{group}.{one.key}" for one in read_option_comments(conf_dir() / group / "default.yaml") if one.value]
    assert len(keys) > 3
    for key in keys:
        assert f"  {key}=" in text
    assert max(map(len, text.splitlines())) <= 120


def test_options_of_nested_keys_and_values_with_braces(tmp_path):
    text = "# A purpose.\na: 1 # one\nb: # two\n  c: {x: 1} # three\n  d: [1, 2]\ne: null\n"
    (tmp_path / "some.yaml").write_text(text)
    found = [(one.key, one.value, one.comment) for one in read_option_comments(tmp_path / "some.yaml")]
    assert found == [
        ("a", "1", "one"), ("b", "", "two"), ("b.c", "{x: 1}", "three"), ("b.d", "[1, 2]", ""), ("e", "null", ""),
    ]  # fmt: skip


def test_suggestions_follow_the_line():
    assert suggest("train", "experiment=demo/am") == ["experiment=demo/amd"]
    assert suggest("train", "model.ordi", ["experiment=amd"]) == ["model.ordinal="]
    assert suggest("train", "model.ordi", ["experiment=brats"]) == []
    assert suggest("explain", "explain.mask_t") == ["explain.mask_tuning="]
    assert suggest("predict", "volume.store.d", ["experiment=demo/volume"]) == ["volume.store.dtype="]
    assert set(suggest("train", "experiment=")) == {
        f"experiment={one}" for one in list_choices(conf_dir() / "experiment")
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("seewhy pre", {"prepare", "predict"}),
        ("seewhy prepare br", {"brats "}),
        ("seewhy train experiment=demo/b", {"experiment=demo/brats", "experiment=demo/brats_afa"}),
        ("seewhy predict run=src/seew", {"run=src/seewhy/", "run=src/seewhy_run/"}),
    ],
)
def test_a_shell_is_answered(repository, tmp_path, line, expected):
    """The protocol of argcomplete: the line in the environment, words in the file that it names."""
    code = f"import sys; sys.path.insert(0, 'src'); sys.argv = {line.split()!r}; import seewhy.cli.main as m; m.main()"
    environment = {
        "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line)),
        "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "words"),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, env={**os.environ, **environment}, capture_output=True, check=True
    )
    assert not done.stdout
    assert set((tmp_path / "words").read_text().split("\n")) == expected


def test_a_reader_that_stops_is_no_error(repository):
    """`seewhy --help | head -1`."""
    code = "import sys; sys.path.insert(0, 'src'); import seewhy.cli.main as m; m.main(['explain', '--help'])"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")
