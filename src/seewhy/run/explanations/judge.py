"""Judge the explanations of a network from elsewhere, without a run folder."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from omegaconf import OmegaConf
from torch import Tensor, nn

from seewhy.batch import Batch
from seewhy.data.given.files import read_labels, read_samples
from seewhy.data.given.sample import GivenSample, batch_samples, check_samples, hash_samples, split_batch
from seewhy.errors import ConfigError, DataError, ExplanationError, nearest
from seewhy.explain.capture.layers import find_last_map
from seewhy.explain.explained_model import Explainable, ExplainableModule, ExplainedModel
from seewhy.figures.style import FigureOptions, use_figure_options
from seewhy.interop.tensors import check_finite_weights
from seewhy.progress import slow_bar
from seewhy.reporting.loaders.batches import read_batches
from seewhy.reporting.loaders.explain_loader import hash_weights, move_batch
from seewhy.reporting.report import write_session_results
from seewhy.reporting.sample import select_inputs, select_rows
from seewhy.reporting.selection import ExplanationSettings
from seewhy.reporting.session import Session
from seewhy.reporting.store import ExplanationStore
from seewhy.reporting.verdicts import read_records
from seewhy.run.build import silence_known_warnings
from seewhy.run.explanations.explainers import build_explainers, load_explainer_nodes

__all__ = ["JudgeOptions", "call_named", "import_object", "judge"]

NAMED = re.compile(r"(?P<module>[\w./\\-]+):(?P<name>[A-Za-z_]\w*)")
PLAIN = ("saliency", "integrated_gradients", "occlusion")
"""Methods without `--methods`: these, and Grad-CAM where a layer for it is found."""


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """Options of `judge`.

    Attributes:
        methods: files of conf/explainer; empty: Grad-CAM where a layer is found, saliency, integrated gradients and
            occlusion.
        layers: input → layer of class activation maps, `image` for a single input; empty: the last one with a map.
        options: method → option → value.
        masks: `.npy` or folder of masks, if the data lack them.
        labels: table with the columns id and label, if the data lack them.
        classes: names of the classes.
        multi_label: whether each score has its own sigmoid.
        settings: targets, judging and measures.
        folder: gets the results.
        figures: format and resolution of the pictures.
        device: of the network.
    """

    methods: Sequence[str] = ()
    layers: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    masks: str | None = None
    labels: str | None = None
    classes: Sequence[str] = ()
    multi_label: bool = False
    settings: ExplanationSettings = field(default_factory=lambda: ExplanationSettings(judge="auto"))
    folder: Path = Path("judged")
    figures: FigureOptions = field(default_factory=FigureOptions)
    device: str = "cpu"


class DescribedNetwork(nn.Module):
    """A network with the names of its inputs, layers and classes."""

    def __init__(self, network: nn.Module, about: Explainable) -> None:
        super().__init__()
        self.network, self._about = network, about
        try:
            known = inspect.signature(network.forward).parameters
        except ValueError:  # scripted modules have none
            known = {}  # type: ignore[assignment]
        self._by_name = set(about.inputs) <= set(known)

    def explainable(self) -> Explainable:
        """Describe inputs, layers and classes."""
        return self._about

    def forward(self, image: Tensor | Mapping[str, Tensor]) -> Any:
        """Call the network with its inputs by name if it knows them, else in order."""
        if isinstance(image, Tensor):
            return self.network(image)
        return self.network(**image) if self._by_name else self.network(*(image[name] for name in self._about.inputs))


class GivenModel(LightningModule):
    """Holder of a network that is explained in its place."""

    def __init__(self, explained: nn.Module) -> None:
        super().__init__()
        self.explained = explained

    def prepare_explanation(self, batch: Batch) -> tuple[nn.Module, Batch]:
        """See `seewhy.models.protocols.PreparesExplanation`."""
        return self.explained, batch


def judge(network: str, data: str, options: JudgeOptions) -> dict[str, Any]:
    """Explain samples by several methods, judge the maps, and write tables, pictures and a page.

    Args:
        network: `module:function` or `file.py:function`; the function takes nothing and returns an `nn.Module`.
        data: file or folder, see `read_samples`; or `module:function` of a loader, see
            `seewhy.reporting.loaders.batches.read_batches`.
        options: of the command.

    Returns:
        As `seewhy.reporting.report.write_session_results`.

    Raises:
        ConfigError: names that do not exist, a function that returns something else, or options that do not fit.
        DataError: samples that cannot be read.
    """
    silence_known_warnings()
    device = _find_device(options.device)
    net = call_named(network)
    if not isinstance(net, nn.Module):
        raise ConfigError(f"{network} returned {type(net).__name__}; expected an nn.Module")
    check_finite_weights(net, dict(net.named_parameters()), network)
    net = net.eval().to(device)
    samples = _load_samples(data, net, options)
    size = options.settings.batch_size
    batches = [batch_samples(samples[first : first + size]) for first in range(0, len(samples), size)]
    described = _describe_network(net, batches[0], options)
    _check_classes(described, batches[0], samples, options)
    methods = list(options.methods) or [*["grad_cam"] * bool(described.explainable().layers), *PLAIN]
    unused = [name for name in options.options if name not in methods]
    if unused:
        raise ConfigError(f"--option {unused[0]}.…: this method is not used; {nearest(unused[0], methods)}")
    node = OmegaConf.create({"methods": methods, "options": dict(options.options), "memory_budget": None})
    nodes = load_explainer_nodes(node)
    explainers = build_explainers(nodes)
    trainer = Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    # The class's name is the title of the figures.
    holder = type(type(net).__name__, (GivenModel,), {})(described).to(device)
    with slow_bar(f"judging {', '.join(explainers)}", None) as advance:
        session = Session(
            holder,
            explainers=explainers,
            settings=options.settings,
            store=ExplanationStore(options.folder),
            options={name: OmegaConf.to_container(one, resolve=True) for name, one in nodes.items()},
            facts={"checkpoint": network, "sha256": hash_weights(net), "phantom": False},
            context={"samples": hash_samples(samples), "layers": dict(described.explainable().layers)},
            count=len(samples),
            advance=advance,
        )
        for batch in batches:
            session.explain(move_batch(batch, device), batch["id"])
    if session.refused and not any(read_records(session, place, session.samples) for place in session.places):
        raise ExplanationError("; ".join(session.refused[:3]))
    with use_figure_options(options.figures):
        return write_session_results(trainer, session)


def call_named(text: str) -> Any:
    """Call the function that a user named on the command line; it takes nothing.

    Args:
        text: see `import_object`.

    Raises:
        ConfigError: as `import_object`; or the function fails, with its error and line.
    """
    function = import_object(text)
    try:
        return function()
    except Exception as error:
        raise ConfigError(f"{text} failed: {_describe_failure(error)}") from error


def import_object(text: str) -> Callable[[], Any]:
    """Import the function that a user named on the command line.

    Args:
        text: `module:function` (the working directory is searched first) or `path/to/file.py:function`.

    Raises:
        ConfigError: another form, a module that cannot be imported, or a function that does not exist.
    """
    match = NAMED.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r}; expected module:function or file.py:function")
    place, name = match["module"], match["name"]
    if place.endswith(".py"):
        if not Path(place).is_file():
            raise ConfigError(f"{text}: {place} does not exist")
        spec = importlib.util.spec_from_file_location(Path(place).stem, place)
        if spec is None or spec.loader is None:
            raise ConfigError(f"{text}: {place} cannot be imported as a module")
        module = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(Path(place).resolve().parent))
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise ConfigError(f"{text}: {place} cannot be imported: {_describe_failure(error)}") from error
    else:
        sys.path.insert(0, str(Path.cwd()))
        try:
            module = importlib.import_module(place)
        except ModuleNotFoundError as error:
            raise ConfigError(f"{text}: {error}; start in the folder of {place}, or give file.py:function") from error
        except Exception as error:
            raise ConfigError(f"{text}: {place} cannot be imported: {_describe_failure(error)}") from error
    if not callable(vars(module).get(name)):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ConfigError(f"{text}: {place} has no function {name!r}; {nearest(name, known)}")
    found: Callable[[], Any] = vars(module)[name]
    return found


def _find_device(name: str) -> torch.device:
    """The device of a name.

    Raises:
        ConfigError: no such device on this machine.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {name} cannot be used here ({str(error).splitlines()[0]}); try cpu") from error
    return device


def _describe_failure(error: Exception) -> str:
    """Kind, text and line of an error in a user's own code."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} (line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"


def _check_classes(network: nn.Module, batch: Batch, samples: Sequence[GivenSample], options: JudgeOptions) -> None:
    """Check labels and names of classes by the number of scores.

    Raises:
        ConfigError: another number of names.
        DataError: labels that are no class.
    """
    first = move_batch(select_rows(batch, [0]), torch.device(options.device))
    subject = ExplainedModel(network, select_inputs(first))
    with torch.no_grad():
        count = subject.class_probabilities(subject.scores(subject.inputs)).shape[1]
    count = max(count, 2)  # one score decides between two classes
    if options.classes and len(options.classes) != count:
        raise ConfigError(f"--classes: {len(options.classes)} names; the network has {count} classes")
    wrong = [sample for sample in samples if sample.label is not None and sample.label >= count]
    if wrong:
        raise DataError(
            f"{len(wrong)} labels are not classes of the network, which has {count} (first: {wrong[0].label} of "
            f"{wrong[0].id})"
        )


def _load_samples(data: str, net: nn.Module, options: JudgeOptions) -> list[GivenSample]:
    count = options.settings.max_samples
    if not Path(data).exists() and NAMED.fullmatch(data):
        if options.masks or options.labels:
            raise ConfigError("--masks and --labels are for files; a loader gives its own in its batches")
        loader: Iterable[Any] = call_named(data)
        if not isinstance(loader, Iterable):
            raise ConfigError(f"{data} returned {type(loader).__name__}; expected a loader of batches")
        samples = (sample for batch in read_batches(loader, net) for sample in split_batch(batch))
        taken = list(islice(samples, count or None))
        check_samples(taken, data)
        return taken
    labels = None if options.labels is None else read_labels(options.labels)
    return read_samples(data, masks=options.masks, labels=labels, count=count)


def _describe_network(net: nn.Module, batch: Batch, options: JudgeOptions) -> Any:
    """Describe a network that does not describe itself."""
    if isinstance(net, ExplainableModule):
        return net
    inputs = select_inputs(batch)
    names = ("image",) if isinstance(inputs, Tensor) else tuple(inputs)
    layers = dict(options.layers)
    unknown = [name for name in layers if name not in names]
    if unknown:
        raise ConfigError(f"--layers: no input {unknown[0]!r}; {nearest(unknown[0], names)}")
    if not layers and len(names) == 1:
        first = move_batch(select_rows(batch, [0]), torch.device(options.device))
        last = find_last_map(ExplainedModel(net, select_inputs(first)))
        layers = {names[0]: last} if last else {}
    about = Explainable(
        inputs=names,
        layers={name: f"network.{layer}" for name, layer in layers.items()},
        classes=tuple(options.classes),
        multi_label=options.multi_label,
    )
    return DescribedNetwork(net, about)
