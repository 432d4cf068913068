"""From the text in a table's label column to a class index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from seewhy.errors import ConfigError, nearest

__all__ = ["ClassLabels"]


class ClassLabels:
    """What the labels of a table mean.

    Args:
        labels: text → class index from 0, e.g. `{HC: 0, left: 1, right: 1}`; None takes whole numbers as they
            are and names of classes; where neither is there, all names in alphabetical order.
        num_classes: number of classes; None means as many as there are.
        classes: names of the classes in the order of their indices; they give the number too.

    Raises:
        ConfigError: indices that are no whole numbers from 0 to `num_classes - 1`, or numbers that differ.
    """

    def __init__(
        self,
        labels: Mapping[Any, Any] | None = None,
        num_classes: int | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        self.classes = None if classes is None else tuple(str(name) for name in classes)
        if self.classes is not None:
            if len(set(self.classes)) < len(self.classes) or num_classes not in (None, len(self.classes)):
                raise ConfigError(
                    f"data.classes={list(self.classes)} must be different names, one for each of "
                    f"data.num_classes={num_classes}"
                )
            num_classes = len(self.classes)
        if num_classes is not None and num_classes < 2:
            raise ConfigError(f"there must be 2 classes or more; data.num_classes or data.classes gives {num_classes}")
        self.num_classes = num_classes
        self.names = None if labels is None else {str(key).strip(): value for key, value in labels.items()}
        if self.names is not None:
            self._check(self.names)

    def _check(self, names: Mapping[str, Any]) -> None:
        """Refuse indices outside the classes, and count the classes where their number is not given."""
        whole = {key: value for key, value in names.items() if isinstance(value, int) and not isinstance(value, bool)}
        top = self.num_classes or max([2, *(value + 1 for value in whole.values())])
        wrong = [f"{key}: {value!r}" for key, value in names.items() if key not in whole or not 0 <= value < top]
        if wrong or not names:
            found = ", ".join(wrong) or "nothing"
            raise ConfigError(f"data.labels holds {found}; expected text with class indices from 0 to {top - 1}")
        self.num_classes = top

    def settle(self, texts: Iterable[str]) -> ClassLabels:
        """The same with every open question answered by all labels that there are.

        Args:
            texts: every cell of the label column, of all tables.
        """
        found = {text for text in texts if text}
        if self.names is not None or self.classes is not None or not found:
            return self
        numbers = [number for number in map(_whole, found) if number is not None]
        if not numbers:
            names = sorted(found)
            return ClassLabels({text: index for index, text in enumerate(names)}, self.num_classes)
        return ClassLabels(None, self.num_classes or max(2, max(numbers) + 1))

    def index(self, text: str) -> int:
        """Class index of a cell.

        Raises:
            ValueError: it is none; the message says what is expected.
        """
        if not text:
            raise ValueError("the label is empty; data.label_column=null predicts without labels")
        number = _whole(text)
        if self.names is not None:
            for key in (text, str(number)):  # spreadsheets turn the class 1 into 1.0
                if key in self.names:
                    return int(self.names[key])
            raise ValueError(f"the label {text!r} is unknown; {nearest(text, self.names)}")
        if self.classes is not None and text in self.classes:
            return self.classes.index(text)
        if number is None or number < 0 or (self.num_classes is not None and number >= self.num_classes):
            top = "" if self.num_classes is None else f" to {self.num_classes - 1}"
            known = "" if self.classes is None else f", or a class's name ({nearest(text, self.classes)})"
            raise ValueError(f"the label {text!r} is unknown; expected an index from 0{top}{known}; or set data.labels")
        return number

    def record(self) -> dict[str, int] | None:
        """Text → class index as plain data, or None where labels are numbers without names."""
        if self.names is None and self.classes is not None:
            return {name: index for index, name in enumerate(self.classes)}
        return None if self.names is None else dict(self.names)


def _whole(text: str) -> int | None:
    """The whole number that a text stands for, `1.0` too; None where it is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() else None
