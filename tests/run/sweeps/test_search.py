"""Searches over a study: continued, shared, killed, and refused where they would mix members."""

import csv
import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter

import pytest
from blank_figures import blank_figures

optuna = pytest.importorskip("optuna")
if tuple(map(int, optuna.__version__.split(".")[:2])) < (4, 9):
    pytest.skip("needs Optuna 4.9", allow_module_level=True)

WORDS = ["experiment=demo/brats", "hparams_search=optuna"]


class Search:
    """Starts searches with tiny members as forks of the tests, which have imported everything."""

    def __init__(self, folder):
        import tiny_search

        import seewhy.run.sweeps.search  # noqa: F401

        self.script, self.folder, self.log = tiny_search, folder / "sweep", folder / "log.txt"

    def start(self, *words, **environment):
        child = os.fork()
        if child:
            return child
        status = 1
        try:
            file = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(file, 1)
            os.dup2(file, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
            os.chdir(self.folder.parent)
            os.environ.update(environment)
            sys.argv = ["train.py", *WORDS, f"hydra.sweep.dir={self.folder}", *words]
            with blank_figures():
                self.script.main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)

    def wait(self, child, *, expect=0):
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status == expect, self.log.read_text()[-3000:]

    def run(self, *words, expect=0, **environment):
        self.wait(self.start(*words, **environment), expect=expect)
        return self.log.read_text()

    def trials(self, address=None, name="demo/brats"):
        from seewhy.run.sweeps.study import open_storage

        storage, _ = open_storage(address or str(self.folder / "study.journal"))
        return optuna.load_study(study_name=name, storage=storage).trials

    def lines(self, number, name):
        path = self.folder / str(number) / name
        return path.read_text().splitlines() if path.exists() else []

    def table(self):
        with (self.folder / "sweep.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def check(self, count, address=None):
        """Every trial is complete, has its folder, ended once, and has the value of its parameters."""
        trials = self.trials(address)
        assert Counter(trial.state.name for trial in trials) == {"COMPLETE": count}
        for trial in trials:
            lr = trial.params["model.optimizer.lr"]
            assert trial.values == [pytest.approx(abs(lr - 0.003))]
            assert {float(line.split()[0]) for line in self.lines(trial.number, "starts.txt")} == {lr}
            assert len(self.lines(trial.number, "ends.txt")) == 1
        rows = self.table()
        assert [int(row["member"]) for row in rows] == list(range(count))
        assert [float(row["objective"]) for row in rows] == [trial.values[0] for trial in trials]
        assert (self.folder / "sweep.html").is_file()


@pytest.fixture
def search(tmp_path):
    return Search(tmp_path)


def test_a_search_continues_as_if_it_had_not_ended(search, tmp_path):
    sampler = "hydra.sweeper.sampler={_target_:optuna.samplers.TPESampler,n_startup_trials:2}"
    search.run(sampler, "hydra.sweeper.n_trials=2")
    search.run(sampler, "hydra.sweeper.n_trials=5")
    search.check(5)
    whole = Search(tmp_path / "whole")
    (tmp_path / "whole").mkdir()
    whole.run(sampler, "hydra.sweeper.n_trials=5")
    assert [trial.params for trial in whole.trials()] == [trial.params for trial in search.trials()]
    assert len({trial.params["model.optimizer.lr"] for trial in whole.trials()}) == 5


@pytest.mark.parametrize("address", [pytest.param(None, marks=pytest.mark.slow), "sqlite"])
def test_two_commands_share_a_study(search, tmp_path, address):
    address = address and f"sqlite:///{tmp_path}/study.db"
    words = ["hydra.sweeper.n_trials=6"] + ([f"hydra.sweeper.storage={address}"] if address else [])
    children = [search.start(*words) for _ in range(2)]
    for child in children:
        search.wait(child)
    search.check(6, address)
    workers = Counter(trial.user_attrs["worker"] for trial in search.trials(address))
    assert len(workers) == 2
    assert not list((search.folder / ".workers").iterdir())


def kill_until_done(search, kills, *, count, workers=2, rng=None):
    """Kill one of the commands at random moments, start another in its place, and end with all of them."""
    rng, words, done = rng or random.Random(0), (f"hydra.sweeper.n_trials={count}",), 0
    running = [search.start(*words) for _ in range(workers)]
    while done < kills:
        time.sleep(rng.uniform(0.0, 2.0))
        victim = running.pop(0)
        ended, _ = os.waitpid(victim, os.WNOHANG)
        if ended:  # nothing was left to do
            running.append(search.start(*words))
            if all(trial.state.is_finished() for trial in search.trials()) and len(search.trials()) == count:
                break
            continue
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        done += 1
        running.append(search.start(*words))
    for child in running:
        search.wait(child)
    search.run(*words)
    return done


def test_killed_commands_lose_no_trial_and_count_none_twice(search):
    kill_until_done(search, 2, count=5)
    search.check(5)


@pytest.mark.slow
def test_twenty_kills(search):
    assert kill_until_done(search, 20, count=60, rng=random.Random(1)) == 20
    search.check(60)


def test_an_interrupted_member_continues_from_its_checkpoint(search):
    child = search.start("hydra.sweeper.n_trials=1", TINY_EPOCH="2")
    saved = search.folder / "0" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 60
    while not saved.is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    search.run("hydra.sweeper.n_trials=1")
    search.check(1)
    assert [line.split()[1] for line in search.lines(0, "starts.txt")] == ["None", "last"]
    assert "ckpt_path" not in search.table()[0]


def test_a_half_written_line_of_the_journal_is_cut_off(tmp_path):
    from seewhy.run.sweeps.study import open_storage

    path = tmp_path / "study.journal"
    create = {"study_name": "x", "load_if_exists": True}
    study = optuna.create_study(storage=open_storage(str(path))[0], **create)
    study.tell(study.ask(), 1.0)
    with path.open("ab") as file:
        file.write(b"9" * 200_000)
    study.tell(study.ask(), 2.0)  # by a process that was there before
    assert [trial.value for trial in study.trials] == [1.0, 2.0]
    again = optuna.create_study(storage=open_storage(str(path))[0], **create)
    assert [trial.value for trial in again.trials] == [1.0, 2.0]


def test_failed_members_are_listed_and_run_again_once(search):
    """A grid, of which every combination runs once."""
    values = ["data.batch_size=4,13", "hydra.sweeper.sampler=grid", "~hydra.sweeper.params", "model.optimizer.lr=0.001"]
    said = search.run(*values, expect=1)
    assert "member 1 failed: ValueError: 13 is unlucky" in said
    assert "hydra.sweeper.retry_failed=true" in said
    states = {row["member"]: row["state"] for row in search.table()}
    assert states == {"0": "COMPLETE", "1": "FAIL"}
    assert json.loads((search.folder / "1" / "member.json").read_text())["state"] == "FAIL"
    search.run(*values)  # nothing is left, and nothing fails again
    assert len(search.trials()) == 2
    search.run(*values, "hydra.sweeper.retry_failed=true", expect=1)
    assert [trial.user_attrs.get("retry_of") for trial in search.trials()] == [None, None, 1]
    assert "13 is unlucky" in search.table()[2]["error"]


def test_another_search_into_the_folder_is_refused_with_all_differences(search):
    from seewhy.run.sweeps.search_space import read_search_space
    from seewhy.run.sweeps.study import SharedStudy

    params = {"model.optimizer.lr": "tag(log,interval(1e-4,1e-2))", "data.batch_size": "choice(4,8,16)"}
    SharedStudy(
        str(search.folder / "study.journal"), name="x", folder=search.folder, chosen=True, seed=0,
        space=read_search_space(params, [*WORDS]), goals={"val/loss": "minimize"}, build_sampler=lambda seed: None,
    )  # fmt: skip
    words = ["model.optimizer.lr=interval(0,1)", "name=other", "objective=val/auroc"]
    said = search.run("hydra.sweeper.n_trials=2", "hydra.sweeper.study_name=x", *words, expect=1)
    facts = ["model.optimizer.lr: ", "name=other is new", "val/auroc", "another search", "hydra.sweep.dir"]
    assert all(fact in said for fact in facts)
    assert not search.trials(name="x")


def test_a_folder_with_members_of_a_grid_is_refused(search):
    (search.folder / "0" / ".hydra").mkdir(parents=True)
    assert "already holds a sweep (members 0)" in search.run("hydra.sweeper.n_trials=1", expect=1)


@pytest.mark.parametrize(
    ("words", "fact"),
    [
        (["objective=test/refined/dice"], "objective_on_test=true"),
        (["objective=val/unclear"], "direction"),
        (["hydra.sweeper.sampler=tpee"], "tpe"),
        (["hydra.sweeper.sampler={_target_:optuna.samplers.TPESampler,seed:1}"], "hydra.sweeper.seed"),
        (["hydra.sweeper.pruner=median", "objective=test/refined/dice", "objective_on_test=true"], "validation"),
        (["model.optimizer.lr=interval(2,1)"], "model.optimizer.lr"),
        (["model.optimizer.lrr=1,2"], "model.optimizer.lr"),
        (["hydra.sweeper.sampler=grid"], "interval"),
        (["hydra.sweeper.retry=true"], "hydra.sweeper.retry_failed"),
    ],
)
def test_impossible_searches_end_before_a_member(search, words, fact):
    assert fact in search.run(*words, expect=1).splitlines()[-1]
    assert not (search.folder / "0").exists()


@pytest.mark.slow
def test_a_test_score_as_objective_on_request(search):
    search.run("objective=test/refined/dice", "objective_on_test=true", "hydra.sweeper.n_trials=2")
    assert all(trial.values == [trial.params["model.optimizer.lr"]] for trial in search.trials())
    assert "no longer a test" in (search.folder / "sweep.html").read_text()


@pytest.mark.slow
def test_several_objectives(search):
    words = [
        "hydra.sweeper.objectives=[val/loss,test/refined/dice]",
        "objective_on_test=true",
        "hydra.sweeper.n_trials=2",
    ]
    search.run(*words)
    for trial in search.trials():
        lr = trial.params["model.optimizer.lr"]
        assert trial.values == [pytest.approx(abs(lr - 0.003)), lr]


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampler", ["random", "cma", "qmc", "{_target_:optuna.samplers.TPESampler,n_startup_trials:1}"]
)
def test_samplers(search, sampler):
    search.run(f"hydra.sweeper.sampler={sampler}", "hydra.sweeper.n_trials=2", "data.batch_size=4")
    assert len({trial.params["model.optimizer.lr"] for trial in search.trials()}) == 2
