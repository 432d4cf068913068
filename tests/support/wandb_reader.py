"""What offline W&B runs of a run folder hold, read back from their files."""

import json
import time
from pathlib import Path
from types import SimpleNamespace

from seewhy.tracking.wandb_file import read_records


def _put(target, keys, value):
    for key in keys[:-1]:
        target = target.setdefault(key, {}) if isinstance(target.get(key), dict) or key not in target else {}
    target[keys[-1]] = value


def _keys(item):
    return list(item.nested_key) or [item.key]


def wait_for_end(path: Path, seconds=10):
    """Wait until W&B's own process has written the last record, shortly after `finish` returns."""
    for _ in range(int(seconds * 10)):
        if [record.WhichOneof("record_type") for record in read_records(path)][-1:] == ["exit"]:
            return
        time.sleep(0.1)


def read_session(path: Path):
    """One file: run record, config, history rows, summary, artifacts, definitions of metrics and the exit code."""
    found = SimpleNamespace(
        path=path, run=None, config={}, rows=[], summary={}, artifacts=[], metrics={}, exit=None, histograms=set()
    )
    for record in read_records(path):
        kind = record.WhichOneof("record_type")
        body = getattr(record, kind) if kind else None
        if kind == "run":
            found.run = body
            for item in body.config.update:
                _put(found.config, _keys(item), json.loads(item.value_json))
        elif kind == "config":
            for item in body.update:
                _put(found.config, _keys(item), json.loads(item.value_json))
        elif kind == "history":
            row = {}
            for item in body.item:
                _put(row, _keys(item), json.loads(item.value_json))
            found.rows.append(row)
        elif kind == "summary":
            for item in body.update:
                _put(found.summary, _keys(item), json.loads(item.value_json))
        elif kind == "artifact":
            found.artifacts.append(body)
        elif kind == "metric":
            found.metrics[body.name or body.glob_name] = body
        elif kind == "exit":
            found.exit = body.exit_code
    return found


def read_sessions(folder: Path):
    """All sessions of a run folder, oldest first."""
    files = sorted(Path(folder).glob("wandb/offline-run-*/run-*.wandb"), key=lambda path: path.parent.name)
    for path in files:
        wait_for_end(path)
    return [read_session(path) for path in files]


def read_artifacts(session):
    """Name → `SimpleNamespace(type, used, metadata, files, references)` of the artifacts that seewhy logged."""
    return {
        item.name: SimpleNamespace(
            type=item.type,
            used=item.use_after_commit,
            metadata=json.loads(item.metadata or "{}"),
            aliases=list(item.aliases),
            files={entry.path: Path(entry.local_path) for entry in item.manifest.contents if not entry.ref},
            references=[entry.ref for entry in item.manifest.contents if entry.ref],
        )
        for item in session.artifacts
        if item.type != "run_table"
    }


def read_table(session, key):
    """Columns and rows of a logged table."""
    row = next(row for row in session.rows if key in row)
    entry = row[key]
    return json.loads((session.path.parent / "files" / entry["path"]).read_text())
