"""Grading of age-related macular degeneration from en-face images of one eye, with an explanation in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seewhy.data.case_files import Reading
from seewhy.errors import ConfigError, nearest
from seewhy.explain import list_explainers
from seewhy.explain.base import Explainer
from seewhy.explain.explained_model import Explainable
from seewhy.explain.maps import Maps
from seewhy.explain.targets import Target
from seewhy.figures.colours import run_scale
from seewhy.figures.explanations.heatmaps import headline, write_planar
from seewhy.losses.classification import find_loss_problems
from seewhy.models.base import OptimizerOptions, SchedulerOptions
from seewhy.models.classification.base import Classification
from seewhy.models.exporting import ExportParts
from seewhy.nets.classifiers.multi_input import MultiInputClassifier
from seewhy.option_types import Fraction, NonNegativeInt, PositiveFloat, PositiveInt
from seewhy.options import OptionsOf, call_with_options

__all__ = ["AMDGrading", "Answer", "find_explainer", "stack_images", "summarize_maps", "write_answer"]

PASSED = ("inputs", "num_outputs", "backbone", "in_channels", "shared", "stem", "input_dropout")
"""Parameters of `MultiInputClassifier` that are options of the model itself."""
EXAMPLE = 64
"""Side of the images that an export is traced with, where images may have any size."""
Image = Any
"""A tensor or array [H, W], [C, H, W] or [B, C, H, W], or None for a missing image."""


class Answer(TypedDict):
    """Prediction and heat maps of one case, or of a batch of B cases."""

    predicted_class: Any
    """Class index, or [B] of them."""
    confidence: Any
    """Calibrated probability of the predicted class, or [B]."""
    probabilities: NDArray[np.float32]
    """[classes] or [B, classes], calibrated."""
    heatmaps: dict[str, NDArray[np.float32]]
    """Input → [H, W] or [B, H, W], non-negative, raw: on one scale for all inputs."""
    target: Any
    """The explained class, or [B]."""
    maps: Maps
    """Everything the explainer returned, with signed maps."""
    files: list[Path]
    """Written pictures."""


def stack_images(images: Mapping[str, Image], *, channels: int, device: torch.device) -> dict[str, Tensor]:
    """Stack images of one size into a batch, with `present` [B, inputs] bool; a missing image becomes zeros.

    Args:
        images: input → image, in the order of the model's inputs.
        channels: C of each image.
        device: device of the model.

    Raises:
        ConfigError: no image at all, or images of different shapes.

    Example:
        >>> import numpy as np, torch
        >>> batch = stack_images({"mnv": np.ones((8, 8)), "ga": None}, channels=1, device=torch.device("cpu"))
        >>> {name: list(value.shape) for name, value in batch.items()}, batch["present"].tolist()
        ({'mnv': [1, 1, 8, 8], 'ga': [1, 1, 8, 8], 'present': [1, 2]}, [[True, False]])
    """
    given = {name: _to_four_axes(name, image, channels) for name, image in images.items() if image is not None}
    if not given:
        raise ConfigError(f"no image was given; expected at least one of {', '.join(images)}")
    shapes = {name: tuple(image.shape) for name, image in given.items()}
    if len(set(shapes.values())) > 1:
        raise ConfigError(f"images of different shapes: {shapes}; registered images of one case have one size")
    first = next(iter(given.values()))
    batch = {name: given.get(name, torch.zeros_like(first)).to(device) for name in images}
    present = torch.tensor([[name in given for name in images]], device=device).expand(len(first), -1)
    return {**batch, "present": present}


def find_explainer(method: str | Explainer) -> Explainer:
    """The explainer of a name with its default options; an `Explainer` is returned unchanged.

    Raises:
        ConfigError: unknown method.
    """
    if isinstance(method, Explainer):
        return method
    explainers = list_explainers()
    if method not in explainers:
        valid = nearest(method, explainers)
        raise ConfigError(f"method={method!r} is unknown; {valid}; or give an explainer with its options")
    module, name = explainers[method]
    explainer: Explainer = vars(import_module(module))[name]()
    return explainer


def summarize_maps(maps: Maps, probability: Tensor) -> Answer:
    """Convert maps and probabilities to an `Answer` without pictures.

    Args:
        maps: of a batch.
        probability: [B, classes], calibrated.
    """
    shares = probability.detach().float().cpu().numpy()
    predicted = shares.argmax(axis=1)
    heat = {name: values.detach().float().cpu().numpy() for name, values in maps.evidence().items()}
    target = maps.target.cpu().numpy()
    if len(predicted) > 1:
        confidence = shares.max(axis=1)
        return Answer(
            predicted_class=predicted, confidence=confidence, probabilities=shares,
            heatmaps=heat, target=target, maps=maps, files=[],
        )  # fmt: skip
    return Answer(
        predicted_class=int(predicted[0]), confidence=float(shares.max()), probabilities=shares[0],
        heatmaps={name: values[0] for name, values in heat.items()}, target=int(target[0]), maps=maps, files=[],
    )  # fmt: skip


def write_answer(
    answer: Answer,
    images: Mapping[str, Tensor],
    folder: str | Path,
    sample_ids: Sequence[str],
    *,
    classes: Sequence[str],
) -> list[Path]:
    """Write each case's pictures as `seewhy.figures.explanations.heatmaps.write_planar` does, all on one scale.

    Args:
        answer: of a batch of cases.
        images: the batch of `stack_images`.
        folder: folder of the pictures.
        sample_ids: one per case, safe as file names.
        classes: names of the classes.
    """
    maps = answer["maps"].cpu()
    probabilities = np.atleast_2d(answer["probabilities"])
    heat = {name: values.float().numpy() for name, values in maps.evidence().items()}
    shares = maps.shares()
    scale, _ = run_scale(heat.values(), signed=False)
    files = []
    for i, sample in enumerate(sample_ids):
        present = dict(zip(heat, images["present"][i].tolist(), strict=True))
        shown = {name: images[name][i].detach().float().cpu().numpy().mean(axis=0) for name in heat}
        predicted, target = int(probabilities[i].argmax()), int(maps.target[i])
        title = headline(
            prediction=f"{predicted} {classes[predicted]}",
            probability=float(probabilities[i, predicted]),
            target=f"{target} {classes[target]}",
        )
        files += write_planar(
            folder,
            sample,
            {name: image if present[name] else None for name, image in shown.items()},
            {name: values[i] for name, values in heat.items()},
            method=maps.method,
            scale=scale,
            title=title,
            shares={name: float(share[i]) for name, share in shares.items()},
            scope="call",
        )
    return files


def _to_four_axes(name: str, image: Image, channels: int) -> Tensor:
    """An image as [B, C, H, W] float32."""
    tensor = torch.as_tensor(np.ascontiguousarray(image) if isinstance(image, np.ndarray) else image).float()
    if tensor.ndim == 2:
        tensor = tensor[None]
    if tensor.ndim == 3:
        tensor = tensor[None]
    if tensor.ndim != 4 or tensor.shape[1] != channels:
        raise ConfigError(
            f"image {name!r} has shape {list(np.shape(image))}; expected [H, W], [{channels}, H, W] or "
            f"[B, {channels}, H, W]"
        )
    return tensor


class AMDGrading(Classification):
    """Grades an eye from several registered images, with one backbone per image and one head for all.

    `forward(image)` takes a dict of inputs, each [B, 1, H, W], and `present` [B, inputs] bool where some are
    missing; it gives raw class scores [B, K].

    Args:
        optimizer: `name`, `lr` and options of the optimiser.
        scheduler: `name` and options of `seewhy.models.base.learning_rate_factor`.
        inputs: names of the images, in order.
        classes: names of the grades, in order.
        in_channels: channels of each image.
        backbone: `name` and options of `seewhy.nets.classifiers.backbones.PlanarFeatures`.
        pretrained: start from timm's published weights of the backbone, which are downloaded; for a file use the
            command's `weights` instead.
        weights_by: match the tensors of the command's `weights` file by `name`, or by `position` for files with
            other names but the same order and shapes.
        shared: one backbone for all inputs.
        stem: `conv1x1` or None, see `seewhy.nets.classifiers.multi_input.MultiInputClassifier`.
        head: `hidden` and `dropout` of the head, see there.
        input_dropout: probability that training leaves out an input.
        ordinal: see `Classification`.
        loss: see `Classification`.
        calibrate: see `Classification`.
        freeze: see `Classification`.
        freeze_backbone_epochs: see `Classification`.
        layer_decay: see `Classification`.
        head_lr: see `Classification`.
        seed: seed of every draw in training and of bootstraps.

    Example:
        >>> import torch
        >>> model = AMDGrading(
        ...     optimizer={"name": "adamw", "lr": 1e-3}, scheduler={"name": "constant"}, inputs=["mnv", "ga"],
        ...     classes=["early", "late"], backbone={"name": "test_efficientnet"}, head={"hidden": 8},
        ... ).eval()
        >>> model({"mnv": torch.zeros(3, 1, 64, 64), "ga": torch.zeros(3, 1, 64, 64)}).shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        *,
        optimizer: OptimizerOptions,
        scheduler: SchedulerOptions,
        inputs: Sequence[str] = ("mnv", "fluid", "ga", "drusen"),
        classes: Sequence[str] = ("normal", "early", "intermediate", "advanced"),
        in_channels: PositiveInt = 1,
        backbone: Mapping[str, Any] | None = None,
        pretrained: bool = False,
        weights_by: str = "name",
        shared: bool = False,
        stem: str | None = None,
        head: Annotated[Mapping[str, Any] | None, OptionsOf(MultiInputClassifier, PASSED)] = None,
        input_dropout: Fraction = 0.0,
        ordinal: bool = True,
        loss: Annotated[Mapping[str, Any] | None, find_loss_problems] = None,
        calibrate: bool = True,
        freeze: Sequence[str] = (),
        freeze_backbone_epochs: NonNegativeInt = 0,
        layer_decay: PositiveFloat = 1.0,
        head_lr: PositiveFloat = 1.0,
        seed: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        backbone = {"name": "efficientnet_b0"} if backbone is None else dict(backbone)
        loss = {"name": "cross_entropy"} if loss is None else dict(loss)
        self.save_hyperparameters()
        self.configure()

    def configure_nets(self) -> None:
        """Build backbones and head."""
        h = self.hparams
        self.net = call_with_options(
            MultiInputClassifier,
            h["head"],
            "model.head",
            inputs=h["inputs"],
            num_outputs=self.num_outputs,
            backbone=h["backbone"],
            in_channels=h["in_channels"],
            shared=h["shared"],
            stem=h["stem"],
            input_dropout=h["input_dropout"],
        )

    def backbones(self) -> Sequence[nn.Module]:
        """One network per input, or the one they share."""
        return list(self.net.branches.values())

    def forward(self, image: Mapping[str, Tensor]) -> Tensor:
        """Raw class scores [B, K]."""
        scores: Tensor = self.net(image)
        return scores

    def export(self, reading: Reading) -> ExportParts:
        """The network, on a stack of all inputs and which of them are present."""
        inputs, channels = len(self.net.inputs), self.hparams["in_channels"]
        if tuple(reading.inputs) != self.net.inputs:
            raise ConfigError(f"data.inputs={list(reading.inputs)}, but the model has {list(self.net.inputs)}")
        size = reading.size or (EXAMPLE, EXAMPLE)
        examples = {
            "image": torch.rand(2, inputs, channels, *size),
            "present": torch.ones(2, inputs, dtype=torch.bool),
        }
        free = {"image": {} if reading.size else {3: "height", 4: "width"}}
        return self.describe_export(examples, free, names=self.net.inputs)

    def explainable(self) -> Explainable:
        """Every input with the last feature map of its backbone."""
        return Explainable(
            inputs=self.net.inputs,
            layers={name: f"net.{layer}" for name, layer in self.net.layers().items()},
            classes=self.classes,
            temperature=self.score_temperature(),
        )

    def explain(
        self,
        *positional: Image,
        target: Target = None,
        save_dir: str | Path | None = None,
        sample_id: str = "sample",
        method: str | Explainer = "grad_cam",
        **images: Image,
    ) -> Answer:
        """Grade an eye and explain the grade with heat maps.

        Args:
            positional: images in the order of the inputs, in place of names.
            target: class to explain, one for all cases or one per case; None is the predicted class.
            save_dir: folder for `<id>_gradcam_visualization.png` (other methods: `<id>_<method>_…`) and
                `<id>_heatmaps/<id>_<input>.png`; None writes nothing.
            sample_id: name of the files; several cases get the suffixes `_0`, `_1`, …
            method: name of a method in `seewhy.explain`, or an explainer.
            images: one for each input, normalised as in the data set: an array or tensor [H, W], [C, H, W] or
                [B, C, H, W]; an input that is None or left out is missing.

        Raises:
            ConfigError: unknown input, method or target, or images of different shapes.

        Example:
            >>> import numpy as np
            >>> _ = torch.manual_seed(0)
            >>> model = AMDGrading(
            ...     optimizer={"name": "adamw", "lr": 1e-3}, scheduler={"name": "constant"}, inputs=["mnv", "ga"],
            ...     backbone={"name": "test_efficientnet"}, head={"hidden": 8},
            ... ).eval()
            >>> answer = model.explain(mnv=np.eye(64, dtype=np.float32), target=3)
            >>> answer["target"], answer["heatmaps"]["mnv"].shape, float(round(answer["probabilities"].sum(), 5))
            (3, (64, 64), 1.0)
        """
        if len(positional) > len(self.net.inputs):
            raise ConfigError(f"{len(positional)} images for the inputs {', '.join(self.net.inputs)}")
        given = dict(zip(self.net.inputs, positional, strict=False))
        twice = [name for name in given if name in images]
        if twice:
            raise ConfigError(f"input {twice[0]!r} is given by position and by name")
        images = {**given, **images}
        if "target_class" in images:
            raise ConfigError("'target_class' is called target here, e.g. target=2 or target='intermediate'")
        unknown = [name for name in images if name not in self.net.inputs]
        if unknown:
            raise ConfigError(
                "; ".join(f"unknown input {name!r}; {nearest(name, self.net.inputs)}" for name in unknown)
            )
        ordered = {name: images.get(name) for name in self.net.inputs}
        batch = stack_images(ordered, channels=self.hparams["in_channels"], device=self.device)
        maps = find_explainer(method)(self, batch, target)
        answer = summarize_maps(maps, self.probability(maps.scores.to(self.device)))
        if save_dir is not None:
            count = len(maps.target)
            names = [sample_id] if count == 1 else [f"{sample_id}_{i}" for i in range(count)]
            answer["files"] = write_answer(answer, batch, save_dir, names, classes=self.classes)
        return answer
