"""Check the options of explanations against a model and its data before a training, which may take days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from torch import nn

from seewhy.data.base import BaseDataModule
from seewhy.errors import ConfigError
from seewhy.explain.base import Explainer
from seewhy.explain.capture.layers import find_unknown_parts
from seewhy.models.protocols import DescribesItself, PreparesExplanation
from seewhy.options import collect_problem
from seewhy.reporting.selection import ExplanationSettings, TargetChoice

__all__ = ["check_explanations"]


def check_explanations(
    settings: ExplanationSettings,
    explainers: Mapping[str, Explainer],
    module: nn.Module,
    datamodule: BaseDataModule,
    parts: Sequence[str],
) -> None:
    """Check that classes, layers, samples and files exist which the options name.

    A model that is explained by another module, which it makes for each batch, has its classes and layers only then.

    Args:
        settings: samples, targets and files.
        explainers: method name → explainer.
        module: the model.
        datamodule: set up for a fit.
        parts: of the data that will be explained: `val` and `test`.

    Raises:
        ConfigError: all of them that do not exist, each with the nearest.
    """
    problems = []
    if isinstance(module, DescribesItself) and not isinstance(module, PreparesExplanation):
        about = module.explainable()
        if about.classes:
            problems += collect_problem(
                partial(TargetChoice, settings.target, about, classes=max(len(about.classes), 2))
            )
        for name, explainer in explainers.items():
            unknown = find_unknown_parts(module, explainer.chosen_parts())
            problems += [f"explain.options.{name}: {problem}" for problem in unknown]
    choice = settings.choice()
    if choice.ids is not None:
        problems += [
            line for part in parts for line in collect_problem(partial(choice.by_name, datamodule.sample_ids(part)))
        ]
    if settings.atlas is not None and not Path(settings.atlas).exists():
        problems.append(f"explain.atlas={settings.atlas} does not exist")
    if problems:
        raise ConfigError("; ".join(dict.fromkeys(problems)))
