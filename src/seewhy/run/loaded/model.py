"""A loaded model, which predicts and explains files and arrays in Python."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning.pytorch import LightningModule
from omegaconf import DictConfig, OmegaConf

from seewhy.batch import Batch, Prediction
from seewhy.callbacks.predictions import PredictionOptions, make_writer
from seewhy.data.base import BaseDataModule
from seewhy.data.case_files import CaseFiles
from seewhy.data.domains.store import DOMAINS
from seewhy.errors import ConfigError, nearest
from seewhy.explain.base import Explainer
from seewhy.io.atomic import file_sha256, write_csv
from seewhy.models.protocols import NamesClasses, SegmentsVolumes, TranslatesScans
from seewhy.reporting.loaders.explain_loader import ExplainedSample, explain_batches, find_explainers, move_batch
from seewhy.reporting.sample import select_rows
from seewhy.reporting.selection import ExplanationSettings, TargetSetting
from seewhy.run.checks import check_config
from seewhy.run.explanations.explainers import build_explainers, load_explainer_nodes
from seewhy.run.folder import conf_dir
from seewhy.run.loaded.cases import CasePrediction, Given, is_one_case, list_case_files, split_prediction
from seewhy.run.loaded.regions import RegionChoice, explain_region

__all__ = ["LoadedModel"]

AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Type of autocast for each `trainer.precision` that has one."""
MOST_VOXELS = 4_000_000
"""Largest explained region of a volume, as in conf/explain/volume.yaml."""


class LoadedModel:
    """A trained model that predicts and explains cases which belong to no data set, with its own preprocessing.

    Results are those that `predict.py` and `explain.py` write for the same files. `seewhy.load` makes one.

    A case is, by the kind of the model:

    - one image (MRI classification, segmentation of volumes): a file; an array, for MRI [X, Y, Z] and for volumes
      [Z, Y, X] or [C, Z, Y, X]; or a pair of an array [X, Y, Z] and its affine [4, 4];
    - several images (AMD grading, translation): a dict from their names to files or arrays. An image of AMD grading
      that is None or left out is missing;
    - slices (weakly supervised segmentation): a scan, which is cut as the training's scans were; or the slices of one
      patient as in `imageSlice/`: a list of `.npy` files or of arrays [H, W], or an array [S, H, W].

    Values are those of the files: images and volumes are normalised here.

    Args:
        model: in evaluation mode, on its device.
        datamodule: of the run.
        config: of the run: `seed`, `data`, `model`, `explain` and `trainer`.
        checkpoint: file of the weights.
        hyperparameters: of the checkpoint.

    Attributes:
        model: the LightningModule, e.g. for `model.model(image)`.
        datamodule: reads and normalises files.
        checkpoint: file of the weights.
        sha256: its hash, as in the records of explanations.
    """

    def __init__(
        self,
        model: LightningModule,
        datamodule: BaseDataModule,
        config: DictConfig,
        *,
        checkpoint: Path,
        hyperparameters: Mapping[str, Any],
    ) -> None:
        self.model, self.datamodule, self.config, self.checkpoint = model, datamodule, config, checkpoint
        self.sha256 = file_sha256(checkpoint)
        self._hyperparameters = hyperparameters

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; empty for models without any."""
        return tuple(self.model.classes) if isinstance(self.model, NamesClasses) else ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of a case's images."""
        return self.datamodule.input_names

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.model.device

    def __repr__(self) -> str:
        classes = f", classes: {', '.join(self.classes)}" if self.classes else ""
        return f"LoadedModel({type(self.model).__name__}, inputs: {', '.join(self.inputs)}{classes}, {self.checkpoint})"

    # -- predictions ------------------------------------------------------------------------------------------

    def predict(
        self,
        cases: Given,
        *,
        names: str | Sequence[str] | None = None,
        domain: str | None = None,
        save_dir: str | Path | None = None,
    ) -> list[CasePrediction]:
        """Predict one case, or a list of cases.

        Args:
            cases: see the class.
            names: of the cases, for ids and files; None takes the files' names.
            domain: `a` or `b`, the scanner of the cases, for translation.
            save_dir: folder for the files that `predict.py` writes into `predictions/`; None writes nothing.

        Returns:
            One for each case, so `[prediction] = model.predict(case)` for a single one.

        Raises:
            ConfigError: a case that does not fit the model, or a domain that is missing or not translated.
            DataError: files that cannot be read.
        """
        results: list[CasePrediction] = []
        rows: list[dict[str, Any]] = []
        with self.read_predictions(cases, names=names, domain=domain) as read:
            for case, batch, prediction in read:
                result = split_prediction(prediction, self.model, case.id)
                if save_dir is not None:
                    options = PredictionOptions(folder=Path(save_dir), npz=True)
                    written = make_writer(self.model, options, None).write(prediction, batch, self.model)
                    rows += written.rows
                    result = replace(result, files=[*written.volumes, *written.others])
                results.append(result)
        if save_dir is not None:
            write_csv(Path(save_dir) / "predictions.csv", rows)
        return results

    @contextmanager
    def read_predictions(
        self, cases: Given, *, names: str | Sequence[str] | None = None, domain: str | None = None
    ) -> Iterator[Iterator[tuple[CaseFiles, Batch, Prediction]]]:
        """Cases with their batches and predictions, one after the other, as the commands pass them to callbacks.

        Files that were made for reading exist within the block.

        Args:
            cases: see the class.
            names: see `predict`.
            domain: see `predict`.
        """
        with self._read_cases(cases, names, domain) as read:
            yield ((case, batch, self._predict_batch(batch)) for case, batch in read)

    def predict_volume(self, source: str | Path, output: str | Path, **options: Any) -> str:
        """Predict a volume of any size into a store or file, in parts that fit into memory, as `predict.py` does.

        Args:
            source: a volume, also remote; see `volume.input` in conf/volume/default.yaml.
            output: zarr store, or `.nii(.gz)`, `.nrrd` or `.mha`; one that was begun with the same settings is
                continued.
            options: options of `volume`, e.g. `overwrite=True`, `inference={"tta": [0, 1, 2]}` or
                `store={"dtype": "labels"}`.

        Returns:
            The output.

        Raises:
            ConfigError: a model that does not segment volumes, or unknown options.
            DataError: a volume that cannot be read.
        """
        from seewhy.run.volumes.predict import predict_volume

        if not isinstance(self.model, SegmentsVolumes):
            raise ConfigError(f"{type(self.model).__name__} does not segment volumes; use predict")
        config = self.config.copy()
        volume = OmegaConf.merge(OmegaConf.load(conf_dir() / "volume" / "default.yaml"), options)
        volume.update({"input": str(source), "output": str(output)})
        OmegaConf.update(config, "volume", volume, force_add=True)
        OmegaConf.update(config, "trainer.accelerator", "gpu" if self.device.type == "cuda" else "cpu", force_add=True)
        OmegaConf.update(config, "trainer.devices", 1, force_add=True)
        check_config(config, "volume", "trainer")
        predict_volume(config)
        return str(output)

    # -- explanations -----------------------------------------------------------------------------------------

    def explain(
        self,
        cases: Given,
        *,
        method: str | Explainer | Sequence[str | Explainer] = "grad_cam",
        target: TargetSetting = None,
        slices: Sequence[int] | None = None,
        save_dir: str | Path | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        names: str | Sequence[str] | None = None,
        domain: str | None = None,
        judge: Literal["auto", "all", "cheap", "none"] = "none",
        key_slices: Sequence[int] | None = None,
        pictures: int | None = None,
        batch_size: int = 8,
        roi: RegionChoice | None = None,
        over: Literal["predicted", "region"] = "predicted",
    ) -> list[ExplainedSample]:
        """Explain one case, or a list of cases.

        Args:
            cases: see the class.
            method: name of a method in `conf/explainer`, an explainer, or a list of them.
            target: class to explain, see `seewhy.reporting.selection.TargetChoice`; None is the predicted class. Of a
                segmentation a class by name or number, which may be left out if there is one; of a translation the
                modality of the translated image.
            slices: numbers of the slices to explain, for models of slices; None is all.
            save_dir: folder for what `explain.py` writes into `explanations/`; None writes nothing.
            options: method → options of its explainer, on top of those of the run and of `conf/explainer`.
            names: of the cases, for ids and files; None takes the files' names.
            domain: `a` or `b`, the scanner of the cases, for translation.
            judge: also score the maps, see `ExplanationSettings`; needs `save_dir`; not for segmentation.
            key_slices: numbers of the slices that are drawn of volumes, for `save_dir`; not for segmentation.
            pictures: samples drawn of each method, the first ones, for `save_dir`; None draws all; not for
                segmentation.
            batch_size: samples explained at once; a region of a volume is explained as one.
            roi: region of a volume to explain, for segmentation: [z0, z1, y0, y1, x0, x1]; None is the whole volume.
            over: for segmentation, explain the voxels of the region that are `predicted` as the target, or all of it.

        Returns:
            One record for each sample (a case, or a slice), method and target.

        Raises:
            ConfigError: unknown method, target or option, an argument that this kind of model does not read, or a case
                that does not fit the model.
            DataError: files that cannot be read.
            ExplanationError: a method refuses every sample.
        """
        of_volumes = {"roi": roi is not None, "over": over != "predicted"}
        of_samples = {"slices": slices is not None, "judge": judge != "none", "key_slices": key_slices is not None}
        of_samples["pictures"] = pictures is not None
        self._refuse_unread("explain", of_samples if isinstance(self.model, SegmentsVolumes) else of_volumes)
        explainers, plain = self._build_explainers(method, options or {})
        folder = None if save_dir is None else Path(save_dir)
        if isinstance(self.model, SegmentsVolumes):
            self._refuse_unread("explain", {"domain": domain is not None})
            region = {"roi": roi, "target": _as_one_class(target), "over": over}
            return self._explain_regions(cases, names, explainers, folder, region)
        settings = ExplanationSettings(
            target=target, max_samples=0, batch_size=batch_size, judge=judge, key_slices=key_slices,
            pictures=pictures, seed=int(self.config.seed),
        )  # fmt: skip
        facts = {"checkpoint": str(self.checkpoint), "sha256": self.sha256, "phantom": False}
        with self._read_cases(cases, names, domain) as read:
            return explain_batches(
                self.model,
                (_select_slices(batch, slices, case.id) for case, batch in read),
                explainers=explainers,
                settings=settings,
                save_dir=folder,
                options=plain,
                facts=facts,
            )

    # -- parts ------------------------------------------------------------------------------------------------

    def _refuse_unread(self, call: str, given: Mapping[str, bool]) -> None:
        """Refuse arguments that were given, but that a model of this kind does not read."""
        unread = [name for name, is_given in given.items() if is_given]
        if unread:
            raise ConfigError(
                f"{call}: {type(self.model).__name__} does not read {', '.join(unread)}; leave "
                f"{'it' if len(unread) == 1 else 'them'} out"
            )

    @contextmanager
    def _read_cases(
        self, cases: Given, names: str | Sequence[str] | None, domain: str | None
    ) -> Iterator[Iterator[tuple[CaseFiles, Batch]]]:
        """Cases with their batches, one after the other; files made for reading exist within the block."""
        if isinstance(self.model, TranslatesScans):
            _check_domain(self.model, domain)
        else:
            self._refuse_unread("cases", {"domain": domain is not None})
        with tempfile.TemporaryDirectory() as scratch:
            found = self._list_cases(cases, names, domain, Path(scratch))
            yield ((case, self._make_batch(case, Path(scratch))) for case in found)

    def _list_cases(
        self, cases: Given, names: str | Sequence[str] | None, domain: str | None, scratch: Path
    ) -> list[CaseFiles]:
        given = [cases] if is_one_case(cases, self.datamodule) else list(cases)
        if not given:
            raise ConfigError("no case was given")
        listed = [names] if isinstance(names, str) else names
        return list_case_files(given, self.datamodule, scratch, names=listed, domain=domain)

    def _make_batch(self, case: CaseFiles, scratch: Path) -> Batch:
        folder = scratch / f"{case.id}.read"
        folder.mkdir()
        return move_batch(cast(Batch, self.datamodule.read_files(case, folder)), self.device)

    def _predict_batch(self, batch: Batch) -> Prediction:
        with torch.inference_mode(), self._autocast():
            prediction: Prediction = self.model.predict_step(batch, 0)
        return prediction

    def _autocast(self) -> AbstractContextManager[Any]:
        """The precision of the run's predictions."""
        kind = AUTOCAST.get(str((self.config.get("trainer") or {}).get("precision")))
        return nullcontext() if kind is None else torch.autocast(self.device.type, dtype=kind)

    def _build_explainers(
        self, method: str | Explainer | Sequence[str | Explainer], options: Mapping[str, Mapping[str, Any]]
    ) -> tuple[dict[str, Explainer], dict[str, Any]]:
        """Explainers with the options of the run, and these options as plain data."""
        given = [method] if isinstance(method, (str, Explainer)) else list(method)
        named = [item for item in given if isinstance(item, str)]
        node = OmegaConf.create({"methods": named, "options": {}, "memory_budget": None})
        saved = self.config.get("explain") or {}
        for part in (saved.get("options") or {}, options):
            node.options = OmegaConf.merge(node.options, part)
        node.memory_budget = saved.get("memory_budget")
        unknown = [name for name in options if name not in named]
        if unknown:
            raise ConfigError(f"options.{unknown[0]}: this method is not used; {nearest(unknown[0], named)}")
        nodes = load_explainer_nodes(node)
        built = build_explainers(nodes)
        explainers: dict[str, Explainer] = {}
        for item in given:
            explainers |= {item: built[item]} if isinstance(item, str) else find_explainers(item)
        return explainers, {name: OmegaConf.to_container(node, resolve=True) for name, node in nodes.items()}

    def _explain_regions(
        self,
        cases: Given,
        names: str | Sequence[str] | None,
        explainers: Mapping[str, Explainer],
        folder: Path | None,
        region: Mapping[str, Any],
    ) -> list[ExplainedSample]:
        from seewhy.run.volumes.model import describe_model

        model = describe_model(self.model, self._hyperparameters, self.checkpoint)
        samples: list[ExplainedSample] = []
        with tempfile.TemporaryDirectory() as scratch:
            found = self._list_cases(cases, names, None, Path(scratch))
            for case in found:
                own = folder if folder is None or len(found) == 1 else folder / case.id
                samples += explain_region(
                    model, case.only_file("image"), case.id, explainers=explainers, max_voxels=MOST_VOXELS,
                    device=self.device, save_dir=own, **region,
                )  # fmt: skip
        return samples


def _check_domain(model: TranslatesScans, domain: str | None) -> None:
    """Refuse cases of an unknown scanner, or of one that the model does not translate."""
    known = [name for name in DOMAINS if model.translates(name)]
    if domain not in known:
        choice = " or ".join(f"domain={name!r}" for name in known)
        raise ConfigError(f"domain={domain!r}: this model translates the scans of one scanner; give {choice}")


def _select_slices(batch: Batch, slices: Sequence[int] | None, name: str) -> Batch:
    """The samples of some slices."""
    if slices is None:
        return batch
    index = batch.get("index") or []
    missing = [number for number in slices if number not in index]
    if missing or len(index) < 2:
        have = f"slices {min(index)} to {max(index)}" if len(index) > 1 else "one sample, without slices to choose"
        raise ConfigError(f"{name}: slices={list(slices)}, but it has {have}")
    return select_rows(batch, [index.index(number) for number in slices])


def _as_one_class(target: TargetSetting) -> int | str | None:
    """The class of a segmentation."""
    if target is None or isinstance(target, (int, str)):
        return target
    raise ConfigError(f"target={target!r}: a segmentation is explained for one class at a time; give its name")
