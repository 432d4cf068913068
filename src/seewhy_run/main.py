"""Command `seewhy-run EXPORT FILE …`: from files to results with an exported network, without torch."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from seewhy_run.cases import list_cases
from seewhy_run.errors import RunError
from seewhy_run.files import write_table
from seewhy_run.manifest import MANIFEST, Export, read_export
from seewhy_run.steps.base import State, describe_step

__all__ = ["main", "run_export"]

TABLE = "predictions.csv"
MOST_THREADS = 1024


def run_export(
    export: Export, words: Sequence[str], output: Path, *, table: Path | None = None
) -> tuple[list[Path], list[str]]:
    """Run an export on all cases, and write their files and one table.

    Args:
        export: see `seewhy_run.manifest.read_export`.
        words: files, see `seewhy_run.cases.list_cases`.
        output: folder of the results.
        table: of the cases, in place of `words`.

    Returns:
        The written files, and the problems of cases that failed; the others are done all the same.

    Raises:
        RunError: the cases cannot be listed.
    """
    manifest = export.manifest
    cases = list_cases(words, manifest.inputs, table=table, optional=manifest.optional)
    rows, written, problems = [], [], []
    for name, files in cases:
        state = State(name, files, output)
        try:
            _run_case(export, state)
        except RunError as error:
            problems.append(str(error))
            continue
        rows += state.rows
        written += state.written
    if rows:
        written.insert(0, write_table(output / TABLE, rows))
    return written, problems


def _run_case(export: Export, state: State) -> None:
    """Run all steps on a case; after a failure it has no files.

    Raises:
        RunError: a file that cannot be used or written, too little memory, or a step whose description does not fit
            its network or the values of earlier steps.
    """
    for number, step in enumerate(export.steps, start=1):
        try:
            step.run(state, export.graphs)
        except Exception as error:
            for path in state.written:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            if isinstance(error, RunError):
                raise
            reason = " ".join(str(error).split())[:200]
            if isinstance(error, OSError | MemoryError):
                raise RunError(f"case {state.id}: {reason or 'not enough memory'}") from error
            # A description is plain data: not all of its numbers and names can be checked before they are used.
            name = describe_step(step)["step"]
            raise RunError(
                f"case {state.id}: step {number} ({name}) of {MANIFEST} fails ({type(error).__name__}: {reason}); it "
                "does not fit its network or this case: export again, or prepare the case like the training data"
            ) from error
    if not state.rows:
        raise RunError(f"case {state.id}: no step of {MANIFEST} writes results; export again")


def main(arguments: Sequence[str] | None = None, *, folder: Path | None = None) -> None:
    """Run the command; errors that a user can correct are one line each on stderr, with exit status 1.

    Args:
        arguments: of the command line; None takes those of the process.
        folder: of the export, where the command is its own `run.py`.
    """
    parser = argparse.ArgumentParser(
        prog="seewhy-run" if folder is None else "run.py",
        description="Run a network that `seewhy export` wrote, on files, without torch.",
    )
    if folder is None:
        parser.add_argument("export", type=Path, help="folder with export.json")
    parser.add_argument("files", nargs="*", help="FILE …, or NAME=FILE … for a case of several files")
    parser.add_argument("--table", type=Path, help="CSV with the columns id and one per input, instead of files")
    parser.add_argument("--output", type=Path, default=Path("results"), help="folder of the results (results)")
    parser.add_argument("--threads", type=int, default=0, help="threads of the network; 0 takes all cores (0)")
    options = parser.parse_args(arguments)
    if not 0 <= options.threads <= MOST_THREADS:
        parser.error(f"--threads {options.threads}: expected 0 to {MOST_THREADS}")
    try:
        export = read_export(options.export if folder is None else folder, threads=options.threads)
        written, problems = run_export(export, options.files, options.output, table=options.table)
    except (RunError, OSError, MemoryError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(1) from None
    for path in written:
        sys.stdout.write(f"{path}\n")
    for problem in problems:
        sys.stderr.write(f"error: {problem}\n")
    raise SystemExit(1 if problems else 0)
