"""Write the pages of a folder again from its files, without training, building or unpickling anything."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from seewhy.errors import DataError
from seewhy.io.atomic import file_sha256
from seewhy.reporting.page import write_explanation_page
from seewhy.run.pages.evaluation_page import write_evaluation_page
from seewhy.run.pages.prediction_page import write_prediction_page
from seewhy.run.pages.run_page import write_run_page
from seewhy.run.records import read_results

__all__ = ["rebuild_pages"]

LOGGER = logging.getLogger(__name__)


def rebuild_pages(folder: Path) -> list[Path]:
    """Write every page of a run folder, or of one of its folders, again.

    Args:
        folder: a run folder, or a folder of predictions, explanations or an evaluation.

    Returns:
        The pages.

    Raises:
        DataError: the folder is missing or has nothing to show, or a record is damaged.
        ConfigError: the configuration is not plain YAML.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder; expected a run folder, e.g. lightning_logs/<experiment>/<date_time>"
        )
    pages: list[Path | None] = []
    if (folder / "results.json").is_file():
        is_run = "run" not in read_results(folder)
        if is_run:
            _check_checkpoint(folder)
        pages.append(write_run_page(folder) if is_run else write_prediction_page(folder))
    parts: list[tuple[Path, str, Callable[[Path], Path | None]]] = [
        (folder / "explanations", "explanations.json", write_explanation_page),
        (folder / "predictions", "results.json", write_prediction_page),
        *((path, "evaluation.json", write_evaluation_page) for path in sorted(folder.glob("evaluation*"))),
        (folder, "explanations.json", write_explanation_page),
        (folder, "evaluation.json", write_evaluation_page),
    ]
    pages += [write(path) for path, name, write in parts if (path / name).is_file()]
    written = [page for page in pages if page is not None]
    if not written:
        raise DataError(
            f"{folder} has no results.json, explanations.json or evaluation.json: its run has not been "
            "tested, explained or evaluated"
        )
    return written


def _check_checkpoint(folder: Path) -> None:
    """Warn if the checkpoint of a run is not the one that its scores are of."""
    expected, path = read_results(folder).get("checkpoint"), folder / "checkpoints" / "best.ckpt"
    if expected and path.is_file() and file_sha256(path) != expected:
        LOGGER.warning("%s is another checkpoint than the tested one (%s…)", path, expected[:16])
