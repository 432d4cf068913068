"""Samples of a session that several processes explain and draw together; one of them writes the tables and the page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from seewhy.batch import Batch
from seewhy.errors import DataError
from seewhy.metrics.gather import gather_rows
from seewhy.reporting.pictures import choose_look, draw_sample, draw_summary
from seewhy.reporting.report import write_tables
from seewhy.reporting.session import Session
from seewhy.reporting.store import Place, fingerprint
from seewhy.reporting.verdicts import complete_verdict, mark_records, read_records, store_verdict
from seewhy.sharing.parts import FORMAT, check_written
from seewhy.sharing.tasks import SharedRound, Task

__all__ = ["NOTES", "SharedSession"]

NOTES = ".sharing"
"""Folder of the notes inside the folder of explanations."""


class SharedSession:
    """A session whose samples several processes explain together.

    Every batch that one process would load is a task; then the verdicts are counted and the colour scales chosen, the
    samples of every batch are drawn, and one process writes the tables and the page. Files and scores are those of one
    process: the first samples, on which methods are tested, belong to one task.

    Args:
        session: of this process, with the same options in all.
        groups: ids of the samples of each batch, the same in all processes.
        chosen: ids of the samples that are explained.
        load: gives the batches with some samples.
        lease: seconds without a heartbeat after which a process of another machine counts as lost.

    Attributes:
        explained: samples that this process has explained, counting those that earlier ones had finished.
        taken_over: tasks of lost processes that this one did.
        waited: seconds in which this process had nothing to do.
    """

    def __init__(
        self,
        session: Session,
        groups: Sequence[Sequence[str]],
        chosen: Collection[str],
        *,
        load: Callable[[Collection[str]], Iterable[Batch]],
        lease: float,
    ) -> None:
        self.session, self.chosen, self.load, self.lease = session, set(chosen), load, lease
        self.groups = _join_first(groups, self.chosen, session.judges.settings.cases if session.judges.active else 1)
        self.explained, self.taken_over, self.waited = 0, 0, 0.0
        self._round: SharedRound | None = None

    def run(self) -> dict[str, Any]:
        """Do tasks until everything is written.

        Returns:
            In the process that has written the tables as `write_session_results`; empty in the others.
        """
        keys = {"format": FORMAT, "key": self.session.key, "keys": self.session.keys, "groups": self.groups}
        folder = self.session.store.folder / NOTES / fingerprint({**keys, "chosen": sorted(self.chosen)})
        results: dict[str, Any] = {}
        with SharedRound.join(folder, lease=self.lease) as self._round:
            for task in self._round.each(self._list_tasks()):
                kind, _, number = task.key.partition("-")
                if kind == "explain":
                    self._round.tasks.complete(task, self._explain(int(number)))
                    continue
                with self._round.joining():
                    if kind == "verdicts":
                        self._round.tasks.complete(task, self._choose_looks())
                    elif kind == "draw":
                        self._round.tasks.complete(task, self._draw(int(number)))
                    else:
                        results = self._write()
            self.taken_over, self.waited = self._round.tasks.taken_over, self._round.tasks.waited
        return results

    def _list_tasks(self) -> list[Task]:
        explain = [Task(f"explain-{number:06d}") for number in range(len(self.groups))]
        verdicts = Task("verdicts", frozenset(task.key for task in explain))
        draw = [Task(f"draw-{number:06d}", frozenset({verdicts.key})) for number in range(len(self.groups))]
        return [*explain, verdicts, *draw, Task("results", frozenset(task.key for task in draw))]

    def _explain(self, number: int) -> dict[str, Any]:
        """Explain a group of samples; the first group holds the samples on which methods are tested."""
        session = self.session
        session.judges.testing, session.samples, session.refused = number == 0, [], []
        for batch in self.load(self.groups[number]):
            session.explain(batch, self.chosen)
        if number == 0:
            for place in session.places:
                store_verdict(session, place)
        samples = list(dict.fromkeys(session.samples))
        self.explained += len(samples)
        places = [[place.method, place.target] for place in session.places]
        files = session.store.list_written(session.places, samples)
        return {"samples": samples, "refused": session.refused, "places": places, "files": files}

    def _choose_looks(self) -> dict[str, Any]:
        """Complete the verdicts, and choose the colour scale of every method and target."""
        self._check_explained()
        looks, samples, phantom = {}, self._list_samples(), bool(self.session.facts["phantom"])
        for place in self._list_places():
            records = read_records(self.session, place, samples)
            if records:
                complete_verdict(self.session, place, records)
                looks[place.title] = choose_look(self.session.store, place, records, phantom=phantom)
        return looks

    def _draw(self, number: int) -> dict[str, dict[str, list[str]]]:
        """Draw the samples of a group: method and target → sample → files."""
        session, done = self.session, self._finished
        shown = set(self._list_samples()[: session.settings.pictures])
        samples, drawn = [name for name in done[f"explain-{number:06d}"]["samples"] if name in shown], {}
        for place in self._list_places():
            records = mark_records(session, place, read_records(session, place, samples))
            drawn[place.title] = {
                record["id"]: draw_sample(
                    session.store, place, record, done["verdicts"][place.title], key_slices=session.settings.key_slices
                )
                for record in records
            }
        return drawn

    def _write(self) -> dict[str, Any]:
        """Write everything that is made from all samples together."""
        self._check_explained()
        session, samples, done = self.session, self._list_samples(), self._finished
        records = []
        for place in self._list_places():
            marked = mark_records(session, place, read_records(session, place, samples))
            drawn: dict[str, list[str]] = {}
            for number in range(len(self.groups)):
                drawn |= done[f"draw-{number:06d}"].get(place.title, {})
            check_written(session.store.folder / name for names in drawn.values() for name in names)
            shown = [record["id"] for record in marked if record["id"] in samples[: session.settings.pictures]]
            if drawn.keys() != set(shown):
                folder = session.store.folder
                raise DataError(f"{folder} was changed while it was written; start the same command again to repair it")
            if marked and shown:
                draw_summary(session.store, place, marked, done["verdicts"][place.title])
            records += [{**record, "pictures": drawn.get(record["id"], [])} for record in marked]
        refused = {line for number in range(len(self.groups)) for line in done[f"explain-{number:06d}"]["refused"]}
        lines = gather_rows([{"line": line} for line in refused], key=("line",))
        return write_tables(session, self._list_places(), samples, [row["line"] for row in lines], records)

    def _check_explained(self) -> None:
        """Check that all files of explained samples are still there."""
        results = [self._finished[f"explain-{number:06d}"] for number in range(len(self.groups))]
        check_written(self.session.store.folder / name for result in results for name in result["files"])

    @property
    def _finished(self) -> dict[str, Any]:
        assert self._round is not None
        return self._round.tasks.done

    def _list_samples(self) -> list[str]:
        """Samples of all processes in natural order."""
        results = [self._finished[f"explain-{number:06d}"] for number in range(len(self.groups))]
        rows = gather_rows([{"id": name} for result in results for name in result["samples"]], key=("id",))
        return [row["id"] for row in rows]

    def _list_places(self) -> list[Place]:
        """Methods and targets, which are known to processes that have explained something."""
        results = [self._finished[f"explain-{number:06d}"]["places"] for number in range(len(self.groups))]
        return [Place(method, target) for method, target in next(filter(None, results), [])]


def _join_first(groups: Sequence[Sequence[str]], chosen: Collection[str], cases: int) -> list[list[str]]:
    """Join the first groups until they hold a number of chosen samples.

    Example:
        >>> _join_first([["a", "b"], ["c"], ["d"]], {"b", "c", "d"}, 2)
        [['a', 'b', 'c'], ['d']]
    """
    joined: list[list[str]] = []
    for group in groups:
        if joined and len(chosen & set(joined[0])) < cases:  # type: ignore[operator]
            joined[0] += group
        else:
            joined.append(list(group))
    return joined
