"""Progress bars that appear late, and never next to another one."""

import time

import pytest
from rich.console import Console
from rich.progress import Progress

from seewhy import progress
from seewhy.progress import slow_bar, track_slowly


@pytest.fixture
def started(monkeypatch):
    """Titles of the bars that appeared."""
    titles = []

    def start(self):
        titles.extend(task.description for task in self.tasks)
        real(self)

    real = Progress.start
    monkeypatch.setattr(Progress, "start", start)
    return titles


def test_items_pass_unchanged_and_fast_work_shows_nothing(started):
    assert list(track_slowly((number for number in range(3)), "fast")) == [0, 1, 2]
    assert started == []


def test_slow_work_shows_one_bar_unless_it_is_switched_off(started, monkeypatch):
    monkeypatch.setattr(progress, "DELAY", -1.0)
    assert list(track_slowly(range(3), "off", shown=False)) == [0, 1, 2]
    assert started == []
    assert list(track_slowly([4, 5], "slow")) == [4, 5]
    assert started == ["slow"]


def test_a_bar_on_the_terminal_stays_alone(monkeypatch):
    monkeypatch.setattr(progress, "DELAY", -1.0)
    monkeypatch.setattr("rich.console.Console", lambda **_: console)
    console = Console(stderr=True)
    with Progress(console=console), slow_bar("second", 2) as advance:
        advance()
        advance()


@pytest.mark.parametrize(("installed", "titles"), [(None, []), ("a module", ["in a notebook"])])
def test_a_notebook_shows_bars_only_with_ipywidgets(started, monkeypatch, installed, titles):
    monkeypatch.setattr(progress, "DELAY", -1.0)
    monkeypatch.setattr(progress, "find_spec", lambda name: installed if name == "ipywidgets" else None)
    notebook = Console(stderr=True)
    notebook.is_jupyter = True
    monkeypatch.setattr("rich.console.Console", lambda **_: notebook)
    monkeypatch.setattr("rich.live.Live.refresh", lambda self: None)  # nothing to draw on
    assert list(track_slowly(range(2), "in a notebook")) == [0, 1]
    assert started == titles


def test_a_bar_appears_within_a_long_step(started, monkeypatch):
    monkeypatch.setattr(progress, "DELAY", 0.05)
    with slow_bar("long step", 1):
        for _ in range(200):
            if started:
                break
            time.sleep(0.02)
        assert started == ["long step"]


def test_several_steps_count_at_once(monkeypatch):
    counted = []
    monkeypatch.setattr(Progress, "advance", lambda self, task, steps=1: counted.append(steps))
    with slow_bar("many", 5) as advance:
        advance()
        advance(4)
    assert counted == [1, 4]
