"""Pictures of translations for the loggers during training, and as a file after the test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from seewhy.batch import MODALITIES, Batch, Prediction
from seewhy.data.base import find_datamodule
from seewhy.errors import ConfigError
from seewhy.io.geometry import Display
from seewhy.metrics.translation.similarity import DIRECTIONS, centre_slices, slice_similarity, subject_name
from seewhy.option_types import PositiveInt
from seewhy.reporting.sample import is_phantom
from seewhy.tracking.media import find_step, log_image, takes_images

if TYPE_CHECKING:
    from seewhy.figures.translation.case import TranslationCase

__all__ = ["TranslationFigure"]


class TranslationFigure(Callback):
    """Draws the slice with the most tissue of the first subjects of each domain, chosen without regard to their scores.

    After a test it is written to `translation.png`; after a validation it goes to TensorBoard, W&B or MLflow. Under
    DDP the first process shows the first of its subjects.

    Args:
        folder: folder of `translation.png`.
        subjects: number of subjects of each domain.
        every_n_epochs: epochs between two pictures for the loggers; 0 is never.

    Raises:
        ConfigError: fewer than one subject, or a negative number of epochs.
    """

    def __init__(self, *, folder: str, subjects: PositiveInt = 1, every_n_epochs: PositiveInt = 1) -> None:
        if subjects < 1 or every_n_epochs < 0:
            raise ConfigError(
                f"callbacks.translation_figure: subjects={subjects} must be 1 or more, "
                f"every_n_epochs={every_n_epochs} 0 or more"
            )
        self.folder, self.subjects, self.every_n_epochs = Path(folder), subjects, every_n_epochs
        self.cases: dict[str, list[TranslationCase]] = {}

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with no subject."""
        self.cases = {}

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Add a slice of one of the first subjects, in epochs with a picture."""
        due = self.every_n_epochs and trainer.current_epoch % self.every_n_epochs == 0
        if due and not trainer.sanity_checking and takes_images(trainer.loggers):
            self._take(trainer, outputs, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send the picture."""
        if self.cases:
            figure = self._draw(trainer)
            figure.canvas.draw()
            pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()  # [H, W, 3] uint8
            subjects = ", ".join(case.subject for cases in self.cases.values() for case in cases)
            caption = f"fullest slice of {subjects}: as scanned, as the other scanner would show it, and back"
            log_image(trainer.loggers, "val/translation", pixels, find_step(trainer), caption=caption)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with no subject."""
        self.cases = {}

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Add a slice of one of the first subjects."""
        self._take(trainer, outputs, batch)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the picture."""
        if self.cases:
            from seewhy.figures.style import write_figure

            write_figure(self.folder / "translation.png", self._draw(trainer))

    def _take(self, trainer: Trainer, outputs: Any, batch: Batch) -> None:
        if not trainer.is_global_zero or not isinstance(outputs, dict) or "translated" not in outputs:
            return
        cases = self.cases.setdefault(batch["domain"][0], [])
        if len(cases) < self.subjects:
            cases.append(_make_case(trainer, outputs, batch))  # type: ignore[arg-type]

    def _draw(self, trainer: Trainer) -> Any:
        from seewhy.figures.translation.results import translation_panel

        domains = [self.cases[domain] for domain in DIRECTIONS if domain in self.cases]
        ordered = [cases[i] for i in range(self.subjects) for cases in domains if i < len(cases)]
        title = "fullest slice of the first subjects"
        return translation_panel(ordered, modalities=MODALITIES, title=title, phantom=is_phantom(trainer))


def _make_case(trainer: Trainer, prediction: Prediction, batch: Batch) -> TranslationCase:
    """The slice with the most tissue."""
    from seewhy.figures.style import turn_upright
    from seewhy.figures.translation.case import TranslationCase

    datamodule = find_datamodule(trainer)
    display = Display() if datamodule is None else datamodule.display_of(batch["patient"][0])
    position = int(batch["body"].sum(dim=(1, 2)).argmax())
    body, source = batch["body"], centre_slices(batch["image"])  # type: ignore[arg-type]
    translated, back, truth = prediction["translated"], prediction.get("reconstructed"), batch.get("counterpart")

    def show(values: Tensor) -> np.ndarray[Any, Any]:
        planes = values[position].float().cpu().numpy()
        return np.stack([turn_upright(plane, display) for plane in planes])

    pairs = {"identity": (source, truth), "translation": (translated, truth), "cycle": (back, source)}
    scores = {
        name: slice_similarity(first[[position]], second[[position]], body[[position]])["ssim"][0].tolist()
        for name, (first, second) in pairs.items()
        if first is not None and second is not None
    }
    spacing = batch["spacing"][position].tolist() if "spacing" in batch else [1.0, 1.0]
    domain = batch["domain"][0]
    return TranslationCase(
        subject=subject_name(batch["id"][0], domain),
        number=int(batch["index"][position]),
        direction=DIRECTIONS[domain],
        input=show(source),
        translated=show(translated),
        reconstructed=None if back is None else show(back),
        truth=None if truth is None else show(truth),
        body=turn_upright(body[position].cpu().numpy(), display),
        scores=scores,
        spacing=(spacing[1], spacing[0]) if display.transpose else (spacing[0], spacing[1]),
    )
