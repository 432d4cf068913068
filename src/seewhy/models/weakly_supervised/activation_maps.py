"""Networks of a weakly-supervised segmentation, with their activation maps and pixel labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any, cast

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn

from seewhy.batch import Batch, Prediction
from seewhy.data.case_files import Reading
from seewhy.errors import ConfigError, nearest
from seewhy.explain.explained_model import Explainable
from seewhy.models.base import BaseModule
from seewhy.models.exporting import ExportGraph, ExportParts
from seewhy.models.protocols import GivesPatients
from seewhy.nets.affinity import IGNORE, RandomWalk, attention_affinity
from seewhy.nets.cam import MultiScaleCAM, View
from seewhy.nets.encoders import build_encoder
from seewhy.nets.heads import ClassificationHead, Pooling, SegFormerHead
from seewhy.nets.pseudo_labels import PseudoLabels, Walks
from seewhy.nets.refinement import PixelAdaptiveRefinement, choose_level, refine_regions
from seewhy.option_types import NonNegativeFloat
from seewhy.options import call_with_options
from seewhy.progress import track_slowly
from seewhy.types import Attention, ImageBatch, MapBatch, ScoreBatch
from seewhy_run.steps.maps import ActivationMaps, Regions
from seewhy_run.steps.slices import WriteMaps

__all__ = ["ActivationMapModule", "check_map", "complete_loss_weights"]


PIECE = 4 * 288 * 288
"""Pixels of the views that a CPU processes at once; larger batches exceed its caches and take a fifth longer."""
EXAMPLE = 64
"""Side of the slices that an export is traced with; slices may have any size."""
MEASURED_PATIENTS = 8
"""Patients that the level of evidence is learned from."""
CARRIED = ("id", "patient", "index", "source", "label")
"""Keys of a batch that are copied to its prediction."""


class ActivationMapModule(BaseModule):
    """An encoder with a classification head, and optionally a segmentation head and affinities.

    Maps of a prediction, each [S, K, H, W] in [0, 1], depending on the settings: `cam`, over several
    scales; `affinity`, the CAM after random walk and pixel-adaptive refinement; `segmentation`, the head's
    softmax; and `refined`, the final map: the patient's regions chosen by one of the others
    (`seewhy.nets.refinement`). Annotated classes never enter a prediction; the predicted probabilities may (`gate`).

    Views other than the training forward run in evaluation mode, so that they neither draw dropout nor change batch
    statistics, and only for images with a class: in an image without a class, every pixel is background.

    A patient whose highest probability of a class is below `presence_threshold` is taken to be without it: the
    `refined` map then keeps its order but selects no pixel, and is the paler the less probable the class is. See
    `decide_absence` of `WeaklySupervisedSegmentation`.

    Two properties of regions are learned from the training data, and a checkpoint holds them: whether holes are filled
    (`solid`; see `fill_holes`), and the level of evidence in patients without clear edges (`unclear_level`), which
    `measure_after_fit` takes from patients with clear ones.

    The hyperparameters are those of `WeaklySupervisedSegmentation`.
    """

    presence_threshold: Tensor
    solid: Tensor
    unclear_level: Tensor
    measured_buffers: tuple[str, ...] = ("presence_threshold", "solid", "unclear_level")

    def configure_nets(self) -> None:
        """Build the encoder, the heads, and the modules that make maps and labels."""
        h = self.hparams
        self.register_buffer("presence_threshold", torch.zeros(h["num_classes"] - 1))  # every patient has the class
        self.register_buffer("solid", torch.tensor(True))  # what the class shows has no holes
        self.register_buffer("unclear_level", torch.tensor(0.5))
        self.weights = call_with_options(complete_loss_weights, h["loss_weights"], "model.loss_weights")
        self.encoder = build_encoder(**{"in_channels": h["in_channels"], **h["encoder"]})
        self.last_map = nn.Identity()  # lets hooks read the last features, which the encoder returns in a list
        if h["freeze_norm"]:
            for name, parameter in self.encoder.named_parameters():
                parameter.requires_grad_("norm" not in name)
        self.classifier = call_with_options(
            ClassificationHead,
            h["classifier"],
            "model.classifier",
            in_channels=self.encoder.channels[-1],
            num_outputs=h["num_classes"] - 1,
            pooling=call_with_options(Pooling, h["pooling"], "model.pooling"),
        )
        self.has_segmentation = self.weights["segmentation"] > 0
        if self.has_segmentation:
            sizes = {"channels": self.encoder.channels, "num_classes": h["num_classes"]}
            self.decoder = call_with_options(SegFormerHead, h["decoder"], "model.decoder", **sizes)
        self.has_affinity = h["affinity"] is not None
        if self.has_affinity:
            self.attn_proj = self._attention_projection()
        self._configure_maps()

    def _attention_projection(self) -> nn.Conv2d:
        heads = self.encoder.attention_heads
        if not heads:
            raise ConfigError(
                f"model.encoder.name={self.hparams['encoder']['name']!r} gives no attention for affinities; "
                "set model.affinity=null, or choose an encoder with attention, e.g. mit_b1"
            )
        projection = nn.Conv2d(heads, 1, 1)
        nn.init.kaiming_normal_(projection.weight, a=5**0.5, mode="fan_out")
        return projection

    def _configure_maps(self) -> None:
        h = self.hparams
        self.cam = call_with_options(MultiScaleCAM, h["cam"], "model.cam")
        refine = walk = None
        if h["refinement"] is not None:
            refine = call_with_options(PixelAdaptiveRefinement, h["refinement"], "model.refinement")
        if self.has_affinity:
            walk = call_with_options(RandomWalk, h["affinity"], "model.affinity")
            self.radius = walk.radius
        self.labels = call_with_options(PseudoLabels, h["labels"], "model.labels", refine=refine, walk=walk)
        made = {"cam": True, "affinity": self.has_affinity, "segmentation": self.has_segmentation}
        self.map_names = [name for name, is_made in made.items() if is_made]
        check_map("model.evidence", h["evidence"], self.map_names)
        if h["regions"] is not None:
            self.map_names.append("refined")

    def export(self, reading: Reading) -> ExportParts:
        """The network of one view; views, refinement and regions are steps after it."""
        hp, head = self.hparams, self.classifier
        walk, refine = self.labels.walk, self.labels.refine
        outputs = ["activation", *(["logits"] if head.pooling.of_features else [])]
        outputs += ["segmentation"] if self.has_segmentation else []
        outputs += ["affinity"] if walk is not None else []
        graph = ExportGraph(
            module=_ViewOf(self),
            inputs={"image": torch.rand(2, hp["in_channels"], EXAMPLE, EXAMPLE)},
            free={"image": {2: "height", 3: "width"}},
            outputs=outputs,
        )
        step = ActivationMaps(
            graph="network",
            maps=tuple(name for name in self.map_names if name != "refined"),
            pooling="graph" if head.pooling.of_features else head.pooling.name,
            sharpness=float(head.pooling.sharpness),
            fraction=float(head.pooling.fraction),
            scales=self.cam.scales,
            mirrors=tuple(self.cam.mirrors),
            normalize=self.cam.normalize,
            gate=hp["gate"],
            background=self.labels.background,
            walk=None if walk is None else walk.settings(),
            refinement=None if refine is None else refine.settings(),
            batch=int(hp["chunk_size"]),
        )
        steps: list[Any] = [step]
        if "refined" in self.map_names:
            steps.append(
                Regions(
                    evidence=hp["evidence"],
                    options={**hp["regions"], **self._measured_options()},
                    channel=int(hp["region_channel"]),
                    weigh_slices=bool(hp["weigh_slices"]),
                    presence_threshold=tuple(self.presence_threshold.tolist()),
                    kept=tuple(self.map_names),
                )
            )
        steps.append(WriteMaps(classes=hp["num_classes"] - 1))
        return ExportParts(graphs={"network": graph}, steps=steps, classes=self.explainable().classes)

    @property
    def fills_holes(self) -> bool:
        """Whether holes of regions are filled: `fill_holes`, or where that is None, whether the targets are solid."""
        chosen = self.hparams["fill_holes"]
        return bool(self.solid) if chosen is None else bool(chosen)

    def _measured_options(self) -> dict[str, Any]:
        """Options of regions that depend on the training data."""
        return {"fill_holes": self.fills_holes, "unclear_level": float(self.unclear_level)}

    def forward(self, image: ImageBatch) -> ScoreBatch:
        """Class logits [B, K] of images [B, C, H, W]."""
        logits: Tensor = self.classifier(self.last_map(self.encoder(image).maps[-1]))
        return logits

    def explainable(self) -> Explainable:
        """The input features of the classifier, and the encoder's attention between all of their tokens."""
        names = {part: name for name, part in self.named_modules()}
        return Explainable(
            layers={"image": "last_map"},
            attention=tuple(names[layer] for layer in self.encoder.attention_layers()),
            classes=("absent", "present") if self.hparams["num_classes"] == 2 else (),
            multi_label=True,
            # The mean of several modalities would show none of them.
            shown=() if self.hparams["in_channels"] in (1, 3) else (int(self.hparams["region_channel"]),),
        )

    def class_activation(self, image: ImageBatch) -> MapBatch:
        """Local logits [B, K, h, w] of one scale, raw and signed, with gradient."""
        return self.classifier.activation_map(self.encoder(image).maps[-1])

    def attention_maps(self, image: ImageBatch) -> list[Attention]:
        """Attention [B, heads, N, N] of the encoder's last blocks; empty for an encoder without."""
        return self.encoder(image, attention=True).attention

    def pixel_labels(
        self, image: ImageBatch, present: Tensor, view: View, *, doubted: Tensor, routes: Sequence[str]
    ) -> dict[str, Tensor]:
        """Labels for training, only for images that show a class and are not doubted.

        Args:
            image: [B, C, H, W].
            present: [B, K] bool, the annotated classes.
            view: the view of the training forward.
            doubted: [B] bool; these images get no labels.
            routes: see `seewhy.nets.pseudo_labels.PseudoLabels`.

        Returns:
            route → [B, H, W] int64: 0 background, 1…K foreground, 255 unknown.
        """
        labels = torch.zeros(len(image), *image.shape[-2:], dtype=torch.long, device=image.device)
        labels.masked_fill_(doubted[:, None, None], IGNORE)
        rows = (present.any(dim=1) & ~doubted).nonzero().flatten()
        made = {route: labels.clone() for route in routes}
        if len(rows):
            chosen = image[rows]
            cam, largest = self._multi_scale(chosen, first=view[rows], attention="walk" in routes)
            walks = self._walks(largest) if "walk" in routes else None
            for route, values in self.labels(chosen, cam, present[rows], walks=walks, routes=routes).items():
                made[route][rows] = values
        return made

    @torch.no_grad()
    def predict_maps(self, image: ImageBatch, names: Sequence[str]) -> tuple[ScoreBatch, dict[str, MapBatch]]:
        """Logits [B, K] and the maps of one multi-scale pass, all of `names` except `refined`."""
        walking = "affinity" in names
        features = self.encoder(image, attention=walking)
        logits = self.classifier(features.maps[-1]).float()
        maps: dict[str, Tensor] = {}
        gate = self.hparams["gate"]
        present = torch.ones_like(logits, dtype=torch.bool) if gate is None else logits.sigmoid() > gate
        if "cam" in names or walking:
            first = View(self.classifier.activation_map(features.maps[-1]), features.attention)
            cam, largest = self._multi_scale(image, first=first, attention=walking)
            maps["cam"] = cam * present[:, :, None, None]
            if walking:
                maps["affinity"] = self.labels.soft(image, maps["cam"], present, self._walks(largest))
        if "segmentation" in names:
            scores = nn.functional.interpolate(
                self.decoder(features.maps).float(), size=image.shape[-2:], mode="bilinear", align_corners=False
            )
            maps["segmentation"] = scores.softmax(dim=1)[:, 1:]
        return logits, maps

    def predict(self, batch: Batch, names: Sequence[str]) -> tuple[Prediction, Tensor]:
        """Predict one patient with the maps of these names; also returns its logits [S, K].

        The slices go through the networks `chunk_size` at a time; `refined` sees the whole patient.
        """
        needed = [*names, self.hparams["evidence"]] if "refined" in names else names
        logits, maps = self._predict_chunks(batch, needed)
        if "refined" in names:
            maps["refined"] = self.refine(*self._region_inputs(batch, logits, maps)) * self._presence_factors(logits)
        prediction = Prediction(probability=logits.sigmoid(), maps={name: maps[name] for name in names})
        carried = {key: value for key, value in batch.items() if key in CARRIED}
        return cast(Prediction, {**carried, **prediction}), logits

    def _predict_chunks(self, batch: Batch, names: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        chunks = [
            self.predict_maps(part, names) for part in cast(Tensor, batch["image"]).split(self.hparams["chunk_size"])
        ]
        return torch.cat([part for part, _ in chunks]), {
            name: torch.cat([part[name] for _, part in chunks]) for name in chunks[0][1]
        }

    def _region_inputs(self, batch: Batch, logits: Tensor, maps: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Intensities [S, H, W], evidence [S, K, H, W] and body [S, H, W] that regions are made of."""
        image = cast(Tensor, batch["image"])
        body = batch["body"] if "body" in batch else torch.ones_like(image[:, 0], dtype=torch.bool)
        weights = logits.sigmoid() if self.hparams["weigh_slices"] else torch.ones_like(logits)
        evidence = maps[self.hparams["evidence"]] * weights[:, :, None, None]
        return image[:, self._find_region_channel(batch)].float(), evidence, body

    @torch.no_grad()
    def measure_after_fit(self, datamodule: object) -> None:
        """Learn `unclear_level`: the median of the levels that clear edges choose, over a few labelled patients.

        The patients are those of validation, then of training; their masks are not read. Nothing is learned if
        `regions.level` is set, or if no patient has clear edges.
        """
        regions = self.hparams["regions"]
        if regions is None or regions.get("level") is not None or not isinstance(datamodule, GivesPatients):
            return
        options = {key: value for key, value in regions.items() if key != "level"} | {"fill_holes": self.fills_holes}
        levels = []
        patients = datamodule.positive_patients(MEASURED_PATIENTS)
        for batch in track_slowly(patients, "level of evidence", shown=self.global_rank == 0):
            logits, maps = self._predict_chunks(move_data_to_device(batch, self.device), [self.hparams["evidence"]])
            image, evidence, body = self._region_inputs(batch, logits, maps)
            levels += [choose_level(image, one, body, **options) for one in evidence.unbind(dim=1)]
        if clear := [level for level in levels if level is not None]:
            self.unclear_level.fill_(median(clear))

    def _presence_factors(self, logits: Tensor) -> Tensor:
        """Factor [1, K, 1, 1] of a patient's regions: 1 where the class is present, else below 0.5, never 0."""
        highest = logits.sigmoid().amax(dim=0)
        share = 0.5 * highest / self.presence_threshold.clamp(min=1e-6)
        return torch.where(highest >= self.presence_threshold, 1.0, share)[None, :, None, None]

    def _find_region_channel(self, batch: Batch) -> int:
        """`region_channel`, or the first channel that is not missing if that one is."""
        channel = int(self.hparams["region_channel"])
        if "missing" not in batch:
            return channel
        image = cast(Tensor, batch["image"])
        given = (image != batch["missing"].to(image)[:, :, None, None]).any(dim=3).any(dim=2).any(dim=0)
        return channel if bool(given[channel]) or not bool(given.any()) else int(given.nonzero()[0])

    @torch.no_grad()
    def refine(self, image: Tensor, evidence: MapBatch, body: Tensor) -> MapBatch:
        """Regions of one patient chosen by the evidence, [S, K, H, W] in [0, 1], with intensities [S, H, W]."""
        given = {"image": image, "body": body, **self._measured_options()}
        maps = [
            call_with_options(refine_regions, self.hparams["regions"], "model.regions", evidence=one, **given)
            for one in evidence.unbind(dim=1)
        ]
        return torch.stack(maps, dim=1).to(evidence)

    def _multi_scale(self, image: Tensor, *, first: View, attention: bool) -> tuple[Tensor, View]:
        def encode(views: Tensor, with_attention: bool) -> View:
            parts = []
            for piece in _split_views(views):
                features = self.encoder(piece, attention=with_attention)
                parts.append(View(self.classifier.activation_map(features.maps[-1]), features.attention))
            return View.join(parts)

        with _evaluation_mode(self.encoder):
            return self.cam(encode, image, first=first, attention=attention)

    def _walks(self, view: View) -> Walks:
        """Affinities between the tokens of a view."""
        height, width = view.local.shape[-2:]
        return Walks(attention_affinity(view.attention, self.attn_proj).sigmoid(), (height, width))


class _ViewOf(nn.Module):
    """Outputs of one view as a tuple of tensors: local logits, and what else the model's maps are made of."""

    def __init__(self, model: ActivationMapModule) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        model = self.model
        features = model.encoder(image, attention=model.has_affinity)
        outputs = [model.classifier.activation_map(features.maps[-1])]
        if model.classifier.pooling.of_features:
            outputs.append(model.classifier(features.maps[-1]))
        if model.has_segmentation:
            outputs.append(model.decoder(features.maps))
        if model.has_affinity:
            outputs.append(attention_affinity(features.attention, model.attn_proj).sigmoid())
        return tuple(outputs)


def _split_views(views: Tensor) -> Sequence[Tensor]:
    """All views at once, or on a CPU in pieces of the fastest size."""
    if views.device.type != "cpu":
        return [views]
    return views.split(max(1, PIECE // (views.shape[-2] * views.shape[-1])))


@contextmanager
def _evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Context of evaluation mode; afterwards each part has its earlier mode again."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def complete_loss_weights(
    *, classification: NonNegativeFloat = 1.0, segmentation: NonNegativeFloat = 0.1, affinity: NonNegativeFloat = 0.1
) -> dict[str, float]:
    """Return the weight of each loss, with the defaults of those that are not given."""
    return {"classification": classification, "segmentation": segmentation, "affinity": affinity}


def check_map(where: str, choice: str, valid: Sequence[str]) -> None:
    """Raise a `ConfigError` for a map that the model does not make."""
    if choice not in valid:
        raise ConfigError(f"{where}: this model makes no map {choice!r}; {nearest(choice, valid)}")
