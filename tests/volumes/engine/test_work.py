"""Units are claimed one after the other: walks, meeting points, help, and what is left for whom."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seewhy.sharing.claims import Board, MemoryClaims
from seewhy.volumes.engine.work import Unit, WorkQueue
from seewhy.volumes.geometry import PatchGrid
from seewhy.volumes.memory import Costs
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.plan import make_plan


def planned(shape=(160, 16, 16), *, parts=1, roi=None):
    grid = PatchGrid(shape=shape, patch=(16, 16, 16), overlap=0.5)
    costs = Costs(grid, OutputFormat(mode="binary", channels=2), 1, 1, (16, 16, 16), (16, 16, 16), 2)
    return make_plan(costs, memory_budget=10**9, parts=parts, roi=roi)


class Shared(Board):
    """Claims and commits of several processes in one memory, with a clock that the test moves."""

    def __init__(self, plan):
        super().__init__()
        self.plan, self.now = plan, 0.0
        self.written = np.zeros((len(plan.tiles), plan.rows), bool)

    def queue(self, name, *, part=0):
        return WorkQueue(
            self.plan,
            claims=MemoryClaims(self, name),
            part=part,
            read_written=self.written.copy,
            commit=self.write,
            clock=lambda: self.now,
        )

    def write(self, box):
        for tile, row in np.ndindex(*self.written.shape):
            self.written[tile, row] |= self.plan.unit(tile, row) == box


@given(first=st.integers(0, 2), units=st.integers(1, 4))
def test_a_walk_runs_exactly_the_patches_that_reach_its_rows(first, units):
    plan = planned((64, 40, 40), roi=(slice(16 * first, min(64, 16 * (first + units))), slice(0, 16), slice(16, 40)))
    grid, region = plan.costs.grid, plan.region
    queue = WorkQueue(plan, claims=MemoryClaims(), read_written=lambda: np.zeros((1, plan.rows), bool), commit=print)
    steps = list(queue.next_span().steps())
    wanted = [k for k, s in enumerate(grid.starts[0]) if s + 16 > region[0].start and s < region[0].stop]
    assert [step.z for step in steps] == wanted
    assert sum(step.patches for step in steps) == plan.patches == plan.needed
    finals = [step.final for step in steps]
    assert finals == sorted(finals)
    assert finals[-1] == region[0].stop
    # No later patch reaches a row that was called final.
    for step, following in itertools.pairwise(steps):
        assert step.final <= max(region[0].start, grid.starts[0][following.z])


def test_a_walk_ends_where_another_process_has_begun():
    board = Shared(planned())
    first, second = board.queue("a"), board.queue("b")
    walk = first.next_span()
    assert walk.unit == (0, 0)
    other = second.next_span()
    assert other.unit == (0, 6)  # half of the nine units below the first
    steps = list(walk.steps())
    assert walk.unit == (0, 5)
    assert steps[-1].final == walk.stop == 96
    # Patches across the border are computed by both.
    again = len(steps) + len(list(other.steps())) - len(board.plan.tiles[0].zs)
    assert again == 1
    assert first.next_span() is None
    assert not first.take(Unit(0, 7))


def test_a_fast_process_takes_more_of_a_slow_ones_column():
    board = Shared(planned())
    slow, fast = board.queue("slow"), board.queue("fast")
    slow.next_span()
    board.paces["slow"] = 8.0
    fast.take(Unit(0, 9))
    board.now = 2.0
    fast._begun = 0.0
    fast.commit(board.plan.unit(0, 9))
    assert fast.pace == 2.0
    assert fast.next_span().unit == (0, 3)  # six of the eight free units: 12 s for the fast one, and 16 for the slow


def test_expected_processes_start_at_even_distances_whoever_comes_first():
    board = Shared(planned(parts=5))
    starts = {board.queue(str(part), part=part).next_span().unit.row for part in (3, 0, 4, 1, 2)}
    assert starts == {0, 2, 4, 6, 8}
    board = Shared(planned(parts=5))
    assert {board.queue(str(number)).next_span().unit.row for number in range(5)} == starts  # all with one part_id
    late = board.queue("late").next_span()
    assert late.unit.row % 2 == 1


def test_units_of_a_lost_process_are_free_and_those_of_a_living_one_are_not():
    board = Shared(planned(parts=2))
    lost, other = board.queue("lost"), board.queue("other")
    span = lost.next_span()
    list(other.next_span().steps())
    assert not other.take(span.unit)
    board.lost.add("lost")
    assert other.next_span().unit == span.unit


@pytest.mark.parametrize(
    ("pace", "passed", "helps"), [(100.0, 5, True), (6.0, 5, False), (None, 5, True), (6.0, 90, True)]
)
def test_an_idle_process_helps_one_that_would_end_later(pace, passed, helps):
    board = Shared(planned((32, 16, 16), parts=2))
    owner, idle = board.queue("owner"), board.queue("idle", part=1)
    unit = owner.next_span().unit
    walk = idle.next_span()
    list(walk.steps())
    board.now = 2.0
    idle.commit(board.plan.unit(*walk.unit))
    assert idle.pace == 2.0
    idle.refresh()
    assert idle.next_span() is None  # the owner may be about to end: seen for the first time
    board.paces["owner"] = pace
    board.now += passed
    assert (idle.next_span() is not None) is helps
    assert idle.helped == helps
    if helps:
        assert board.queue("third", part=1).next_span() is None  # one helper is enough
        assert board.claims[unit.key] == ["owner", "idle"]


def test_a_walk_stops_when_others_have_written_its_rows():
    board = Shared(planned((48, 16, 16)))
    queue = board.queue("a")
    steps = queue.next_span().steps()
    next(steps)
    for row in range(3):
        board.write(board.plan.unit(0, row))
    board.now = 1.0
    assert list(steps) == []
    assert queue.next_span() is None
    assert not queue.wait()


def test_waiting_is_for_others_only_and_can_be_stopped():
    board = Shared(planned((32, 16, 16), parts=2))
    mine, other = board.queue("mine"), board.queue("other", part=1)
    span = mine.next_span()
    assert span.unit == (0, 0)
    other.next_span()
    assert mine.wait()
    board.write(board.plan.unit(0, 1))
    mine.refresh()
    assert not mine.wait()  # what is left is in its own hands
    mine.stopped.set()
    assert not mine.wait()


def test_what_is_open_is_counted_in_runs():
    board = Shared(planned((64, 32, 16)))
    queue = board.queue("a")
    assert queue.count_open() == (board.plan.needed, 64 * 32 * 16)
    board.write(board.plan.unit(0, 1))
    queue.refresh()
    patches, voxels = queue.count_open()
    assert voxels == 48 * 32 * 16
    assert patches == (2 + 4) * 3
