"""Figures that a notebook shows, whether or not pyplot was imported."""

import io
from typing import Any

from matplotlib import figure


class Canvas(figure.Figure):
  """A matplotlib figure that belongs to no window."""

  def _repr_png_(self) -> bytes:
    return image(self, 'png')


def image(picture: figure.Figure, kind: str, **options: Any) -> bytes:
  """The file of a figure, `svg` or `png`."""
  file = io.BytesIO()
  picture.savefig(file, format=kind, **{'dpi': 150, **options})
  return file.getvalue()
