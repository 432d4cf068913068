"""Options of figures (`figures` in a configuration) for the time of a command."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from seewhy.figures.style import FigureOptions, use_figure_options
from seewhy.options import parse_options

__all__ = ["read_figure_options", "with_figure_options"]

T = TypeVar("T")


def read_figure_options(config: DictConfig) -> FigureOptions:
    """Read the options of all figures.

    Raises:
        ConfigError: an unknown format or option, with the nearest, or an unusual resolution.

    Example:
        >>> from omegaconf import OmegaConf
        >>> read_figure_options(OmegaConf.create({"figures": {"format": "pfd"}}))
        Traceback (most recent call last):
        seewhy.errors.ConfigError: figures.format='pfd' is unknown; nearest: 'pdf'
    """
    node = config.get("figures")
    plain: Any = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    return parse_options(FigureOptions, plain, where="figures")


def with_figure_options(command: Callable[[DictConfig], T]) -> Callable[[DictConfig], T]:
    """Make a command write its figures as configured; the options end with the command.

    Args:
        command: a function of a configuration.

    Example:
        >>> from seewhy.figures.style import current_figure_options
        >>> @with_figure_options
        ... def draw(config):
        ...     return current_figure_options().dpi
        >>> draw(OmegaConf.create({"figures": {"dpi": 300}}))
        300
    """

    @wraps(command)
    def call(config: DictConfig) -> T:
        with use_figure_options(read_figure_options(config)):
            return command(config)

    return call
