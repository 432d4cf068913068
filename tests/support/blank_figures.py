"""Write a small blank picture instead of rendering matplotlib figures, which takes half the time of a tiny training."""

from contextlib import contextmanager
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image


@contextmanager
def blank_figures():
    """Within this context figures are composed but not rendered, for tests that are not about pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", _save_blank)
        yield


def _save_blank(figure, target, **options):
    Image.new("RGB", (8, 8)).save(target, format=options.get("format") or Path(target).suffix.removeprefix("."))
