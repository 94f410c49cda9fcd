"""Figures that a notebook shows, whether or not pyplot was imported."""

import io
import re
from typing import Any

from matplotlib import figure

# Okabe and Ito's colours: told apart by colour-blind readers too.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9',
           '#8C8C8C', '#8C564B')
MARKS = ('o', 's', '^', 'D', 'v', 'P', 'X', '*')


class Canvas(figure.Figure):
  """A matplotlib figure that belongs to no window."""

  def _repr_png_(self) -> bytes:
    return image(self, 'png')


def file(name: str, kind: str) -> str:
  """The name of a figure's file, whatever its model is called."""
  plain = re.sub(r'[^\w.-]', '_', name)
  return f'{plain}.{kind}'


def image(picture: figure.Figure, kind: str, **options: Any) -> bytes:
  """The file of a figure, `svg` or `png`."""
  buffer = io.BytesIO()
  picture.savefig(buffer, format=kind, **{'dpi': 150, **options})
  return buffer.getvalue()
