"""Protocols of models: what callbacks, reports and commands may ask of a model besides Lightning's hooks.

A model implements those that apply to it; it needs no common base class. `isinstance` checks that the members exist,
not their signatures. Members are methods, properties and plain attributes. Submodules and buffers are not used as
members, because `isinstance` does not find them from Python 3.12 on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn

from seewhy.batch import Batch, Prediction
from seewhy.data.case_files import Reading
from seewhy.explain.explained_model import Explainable
from seewhy.metrics.gather import Row
from seewhy.models.exporting import ExportParts

if TYPE_CHECKING:
    from rich.table import Table

    from seewhy.figures.report.blocks import ReportTable

__all__ = [
    "ClassifiesSamples",
    "CountsClasses",
    "DescribesItself",
    "DescribesVolumes",
    "Exportable",
    "GivesAttentionMaps",
    "GivesPatients",
    "HasBackbones",
    "HasMeasuredBuffers",
    "HasUnaveragedParts",
    "MeasuresAfterFit",
    "MeasuresIntensities",
    "NamesClasses",
    "NamesPredictionWriter",
    "PreparesExplanation",
    "ReportsResults",
    "ScoresPatients",
    "ScoresPredictions",
    "ScoresSamples",
    "SegmentsVolumes",
    "SharesScores",
    "StacksSlices",
    "TranslatesScans",
]


# -- explanations ---------------------------------------------------------------------------------------------


@runtime_checkable
class DescribesItself(Protocol):
    """Describes what can be explained about it."""

    def explainable(self) -> Explainable:
        """Inputs, layers, attention modules and classes."""


@runtime_checkable
class PreparesExplanation(Protocol):
    """Lets another module be explained in its place, which depends on the batch."""

    def prepare_explanation(self, batch: Batch) -> tuple[nn.Module, Batch]:
        """The module to explain, and the batch as that module takes it.

        Raises:
            ExplanationError: nothing can be explained for this batch.
        """


@runtime_checkable
class NamesMaps(Protocol):
    """Predicts maps with known names."""

    map_names: list[str]


@runtime_checkable
class GivesAttentionMaps(Protocol):
    """Gives the attention of its encoder."""

    def attention_maps(self, image: Tensor) -> list[Tensor]:
        """Attention [B, heads, N, N] of the encoder's last blocks; empty for an encoder without attention."""


# -- scores and results ---------------------------------------------------------------------------------------


class HasRows(Protocol):
    """Scores with one row per patient, case or sample."""

    def rows(self) -> list[Row]:
        """The rows of all processes; every process must call this."""


class HasPatientRows(HasRows, Protocol):
    """Scores of samples, which can be averaged per patient."""

    def patient_rows(self) -> list[Row]:
        """One row per patient; every process must call this."""


@runtime_checkable
class ScoresPatients(Protocol):
    """Keeps scores per patient or case, which the commands write to `patients.csv`."""

    @property
    def patient_scores(self) -> Mapping[str, HasRows]:
        """Stage (`val` or `test`) → scores."""


@runtime_checkable
class ScoresSamples(Protocol):
    """Keeps scores per sample, which the commands write to `evaluation/`."""

    @property
    def sample_scores(self) -> Mapping[str, HasPatientRows]:
        """Stage (`val` or `test`) → scores."""


@runtime_checkable
class ClassifiesSamples(Protocol):
    """Keeps probabilities and labels of its samples, next to what it is mainly scored by."""

    @property
    def classification_scores(self) -> Mapping[str, HasRows]:
        """Stage (`val` or `test`) → rows with `id`, `patient`, `probability` (list) and `label` (list or index)."""


@runtime_checkable
class ScoresPredictions(Protocol):
    """Scores predictions whose truth is known, in a test as in a prediction."""

    def reset_scores(self, stage: str) -> None:
        """Forget all samples of a stage (`val` or `test`)."""

    def update_scores(self, prediction: Prediction, batch: Batch, stage: str) -> None:
        """Keep what the scores need of a batch; nothing of a batch without labels and masks."""

    def compute_scores(self, stage: str) -> dict[str, float]:
        """Scores of all samples with intervals and floors, empty without any; every process must call this."""


@runtime_checkable
class SharesScores(ScoresPredictions, Protocol):
    """Scores predictions that several processes share, of which one computes the scores of all."""

    def take_rows(self, stage: str) -> dict[str, list[Row]]:
        """What the scores need of the batches since the last call, as plain data and arrays; this model forgets it."""

    def add_rows(self, rows: Mapping[str, list[Row]], stage: str) -> None:
        """Add what another process has taken."""


@runtime_checkable
class ReportsResults(Protocol):
    """Adds tables and pictures to the results of a run, next to those that are the same for all models."""

    result_pictures: ClassVar[Mapping[str, str]]
    """File in the run's `figures/` → heading in the report."""

    def result_tables(self, metrics: Mapping[str, float], *, phantom: bool) -> list[Table]:
        """Tables for the terminal."""

    def result_blocks(self, metrics: Mapping[str, float], *, phantom: bool) -> list[ReportTable]:
        """Tables for the section "Results" of the report, which `results.json` keeps."""


# -- predictions ----------------------------------------------------------------------------------------------


@runtime_checkable
class NamesClasses(Protocol):
    """Has names for its classes."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes, in order of their index."""


@runtime_checkable
class NamesPredictionWriter(Protocol):
    """Chooses how its predictions become files."""

    prediction_writer: ClassVar[str]
    """Dotted name of a `seewhy.callbacks.predictions.PredictionWriter`, as Hydra's `_target_`."""


@runtime_checkable
class TranslatesScans(Protocol):
    """Translates slices of one scanner into those of another."""

    def translates(self, domain: str) -> bool:
        """Whether slices of a domain are translated."""

    def translate(self, stack: Tensor, *, domain: str, body: Tensor | None = None) -> Tensor:
        """Centre slices [B, M, H, W] of stacks [B, S * M, H, W] as the other domain's scanner would show them."""

    def typical_intensity(self, domain: str) -> Tensor:
        """[M, 2] intensities of -1 and 1 on a domain's scanner; NaN where none were measured."""


@runtime_checkable
class SegmentsVolumes(ScoresPatients, NamesClasses, Protocol):
    """Segments whole volumes."""

    @property
    def heads(self) -> dict[str, Any]:
        """Meaning of the logits' channels, as options of `seewhy.volumes.output_format.OutputFormat`."""

    def probability_masks(self, probability: Tensor) -> Tensor:
        """Masks [K, Z, Y, X] bool of probabilities [K, Z, Y, X]."""

    def label_masks(self, labels: Tensor) -> Tensor:
        """Masks [K, Z, Y, X] bool of labels [Z, Y, X]."""


# -- data for training ----------------------------------------------------------------------------------------


@runtime_checkable
class CountsClasses(Protocol):
    """A DataModule that knows how many training cases each class has."""

    def class_counts(self) -> Sequence[int]:
        """Training cases per class, in order of the classes."""


@runtime_checkable
class MeasuresIntensities(Protocol):
    """A DataModule that knows the intensity range of each training subject."""

    def intensities(self, domain: str) -> Any:
        """[N, M, 2] intensities of -1 and 1 in each of the N training subjects of a domain."""


@runtime_checkable
class StacksSlices(Protocol):
    """A DataModule that yields stacks of adjacent slices."""

    @property
    def slices(self) -> int | None:
        """Slices of a training stack."""


@runtime_checkable
class DescribesVolumes(Protocol):
    """A DataModule whose volumes have one normalisation and one spacing, which the model keeps."""

    @property
    def channels(self) -> int | None:
        """Channels of a volume; None where unknown."""

    @property
    def normalization(self) -> Any:
        """Normalisation of each channel, as `seewhy.volumes.normalization` takes it."""

    @property
    def spacing(self) -> Any:
        """Millimetres along Z, Y and X."""


# -- exports --------------------------------------------------------------------------------------------------


@runtime_checkable
class Exportable(Protocol):
    """Describes its networks and what is done with their outputs, for a runner without torch."""

    def export(self, reading: Reading) -> ExportParts:
        """The networks, and the steps after reading.

        Args:
            reading: how the DataModule's files become the networks' input.

        Raises:
            ConfigError: an option that cannot be exported.
        """


# -- weights --------------------------------------------------------------------------------------------------


@runtime_checkable
class HasBackbones(Protocol):
    """Has networks that can start from pretrained weights."""

    def backbones(self) -> Sequence[nn.Module]:
        """The networks; each gets the same weights."""


@runtime_checkable
class HasMeasuredBuffers(Protocol):
    """Has buffers that are measured instead of learned; averages of weights leave them as they are."""

    measured_buffers: tuple[str, ...]
    """Names of the buffers."""


@runtime_checkable
class MeasuresAfterFit(HasMeasuredBuffers, Protocol):
    """Measures buffers once, with the best checkpoint after the training."""

    def measure_after_fit(self, datamodule: object) -> None:
        """Set buffers of `measured_buffers`, the same on every process."""


@runtime_checkable
class GivesPatients(Protocol):
    """Gives patients of known class to measure on."""

    def positive_patients(self, limit: int) -> Iterator[Batch]:
        """Evaluation batches, without masks, of some patients with the class: of validation, then of training."""


@runtime_checkable
class HasUnaveragedParts(Protocol):
    """Has parts that only training needs; averages of weights leave them as they are."""

    unaveraged: tuple[str, ...]
    """Names of the submodules."""
