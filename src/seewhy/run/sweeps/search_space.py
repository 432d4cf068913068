"""Read search spaces in Hydra's grammar: `choice`, `range`, `interval`, tags, and what stays fixed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from seewhy.errors import ConfigError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

__all__ = ["SearchSpace", "read_search_space"]


@dataclass(frozen=True)
class SearchSpace:
    """Options that a study varies, and options that all its members share.

    Attributes:
        varied: option → Optuna's distribution of its values.
        fixed: other words of the command line, in order.
    """

    varied: Mapping[str, BaseDistribution]
    fixed: Sequence[str]

    def grid(self) -> list[dict[str, Any]]:
        """List all combinations of values, the last option varying fastest.

        Raises:
            ConfigError: intervals, which have no list of values.
        """
        from optuna.distributions import CategoricalDistribution

        values: dict[str, list[Any]] = {}
        for name, distribution in self.varied.items():
            if isinstance(distribution, CategoricalDistribution):
                values[name] = list(distribution.choices)
                continue
            low, high, step = distribution.low, distribution.high, distribution.step
            if step is None or distribution.log:
                raise ConfigError(
                    f"hydra.sweeper.sampler=grid needs values, but {name} is an interval; write {name}: 1e-3, 1e-4 or "
                    "range"
                )
            steps = int((Decimal(str(high)) - Decimal(str(low))) / Decimal(str(step)))
            values[name] = [type(low)(Decimal(str(low)) + number * Decimal(str(step))) for number in range(steps + 1)]
        return [dict(zip(values, combination, strict=True)) for combination in itertools.product(*values.values())]

    def list_overrides(self, values: Mapping[str, Any]) -> list[str]:
        """Return the overrides of a member: what is fixed, and its values."""
        return [*self.fixed, *(f"{name}={value}" for name, value in values.items())]

    def describe(self) -> dict[str, Any]:
        """Return plain data by which two searches can be compared."""
        from optuna.distributions import distribution_to_json

        varied = {name: distribution_to_json(distribution) for name, distribution in self.varied.items()}
        return {"varied": varied, "fixed": list(self.fixed)}


def read_search_space(
    params: Mapping[str, Any] | None, words: Sequence[str], *, config_loader: Any = None
) -> SearchSpace:
    """Read `hydra.sweeper.params` and the words of a command line, which replace params of the same name.

    `a,b` and `choice(a,b)` are values without an order; `range(start,stop,step)` are numbers below `stop`, as in grids;
    `interval(low,high)` are all numbers between, whole ones with `int(interval(…))`, and drawn by their logarithms
    with `tag(log,interval(…))`.

    Args:
        params: option → values, as texts of Hydra's grammar.
        words: of the command line, without options of Hydra.
        config_loader: Hydra's, which `glob` needs.

    Raises:
        ConfigError: nothing is varied, or an interval is impossible.

    Example:
        >>> from seewhy.run.sweeps.search_space import read_search_space
        >>> space = read_search_space({"model.optimizer.lr": "tag(log, interval(1e-4, 1e-2))"}, ["seed=1,2", "name=x"])
        >>> list(space.varied), space.fixed
        (['model.optimizer.lr', 'seed'], ['name=x'])
    """
    listed = [f"{name}={value}" for name, value in (params or {}).items()]
    parsed = OverridesParser.create(config_loader=config_loader).parse_overrides([*listed, *words])
    last = {override.get_key_element(): override for override in parsed}
    varied = {name: _read_distribution(item) for name, item in last.items() if item.is_sweep_override()}
    fixed = [str(item.input_line) for item in last.values() if not item.is_sweep_override()]
    if not varied:
        raise ConfigError(
            "the search varies nothing; give values, e.g. 'model.optimizer.lr=tag(log,interval(1e-4,1e-2))' or "
            "data.batch_size=4,8, or hydra.sweeper.params in a file of conf/hparams_search"
        )
    return SearchSpace(varied, fixed)


def _read_distribution(override: Override) -> BaseDistribution:
    """Return Optuna's distribution of the values of an override."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    if isinstance(value, IntervalSweep):
        log, low, high = "log" in value.tags, value.start, value.end
        if low is None or high is None or not low < high or (log and low <= 0):
            raise ConfigError(f"{override.input_line} is empty" + " or not above 0" * log)
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(float(low), float(high), log=log)
    choices = list(override.sweep_string_iterator())
    if isinstance(value, RangeSweep) and not value.shuffle and len(choices) > 1 and float(value.step) > 0:
        step = Decimal(str(value.step))
        if all(choice.lstrip("-").isdigit() for choice in choices):
            return IntDistribution(int(choices[0]), int(choices[-1]), step=int(step))
        low_number = Decimal(str(float(choices[0])))
        return FloatDistribution(float(low_number), float(low_number + step * (len(choices) - 1)), step=float(step))
    if not choices:
        raise ConfigError(f"{override.input_line} has no value")
    return CategoricalDistribution(choices)
