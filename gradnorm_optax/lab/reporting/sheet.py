"""Figures of many small panels: apart on a page, together in one file.

A panel is drawn at its own size, in inches: two narrow ones, or a wide one,
stand side by side on a telephone, with letters that can be read there. A page
lays out as many in a row as it has room for; a file has them all on one sheet.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from matplotlib import lines

from gradnorm_optax.lab.reporting.canvas import Canvas

NARROW, WIDE = 172 / 96, 344 / 96  # a browser has 96 pixels to an inch
LETTERS = 8.25  # points: 11 pixels
SHORT = 16  # of them in a name beside axes, if that tells it from the others
_TITLE, _GROUP, _GAP, _KEY = 0.24, 0.36, 0.12, 0.3
_WHOLE = 11.2  # inches that a sheet is wide at most


class Frame(NamedTuple):
  """A panel's place on a canvas: its upper left corner, in inches."""

  canvas: Canvas
  left: float = 0.0
  top: float = 0.0

  def axes(self, left: float, top: float, width: float, height: float) -> Any:
    """Axes in inches from the frame's upper left corner."""
    whole, high = self.canvas.get_size_inches()
    found = self.canvas.add_axes((
        (self.left + left) / whole, 1 - (self.top + top + height) / high,
        width / whole, height / high))
    found.spines[['top', 'right']].set_visible(False)
    found.tick_params(labelsize=LETTERS, pad=2, length=2.5)
    return found

  def text(self, left: float, top: float, words: str, **options: Any) -> None:
    """Words in inches from the frame's upper left corner."""
    whole, high = self.canvas.get_size_inches()
    self.canvas.text((self.left + left) / whole, 1 - (self.top + top) / high,
                     words, **{'fontsize': LETTERS, 'va': 'center', **options})


class Panel(NamedTuple):
  """A small picture.

  Attributes:
    title: What it shows, such as a method.
    alt: The same for those who cannot see it.
    width, height: In inches.
    draw: Draws it.
    group: Panels of one group stand together, such as a model's.
    strong: Whether it shows what is recommended.
  """

  title: str
  alt: str
  width: float
  height: float
  draw: Callable[[Frame], None]
  group: str = ''
  strong: bool = False

  def alone(self) -> Canvas:
    """The panel by itself, without its title."""
    picture = Canvas(figsize=(self.width, self.height))
    self.draw(Frame(picture))
    return picture


class Key(NamedTuple):
  """A line of the legend."""

  label: str
  colour: str
  style: str = '-'


class Sheet(NamedTuple):
  """A figure.

  Attributes:
    heading, caption: Of the figure.
    panels: In the order in which they are read.
    keys: The legend.
    scales: What colours mean, as panels of their own.
    notes: A sentence on a group's panels.
  """

  heading: str
  caption: str
  panels: tuple[Panel, ...]
  keys: tuple[Key, ...] = ()
  scales: tuple[Panel, ...] = ()
  notes: dict[str, str] = {}

  def groups(self) -> dict[str, list[Panel]]:
    """The panels of every group."""
    found: dict[str, list[Panel]] = {}
    for panel in self.panels:
      found.setdefault(panel.group, []).append(panel)
    return found

  def whole(self) -> Canvas:
    """All panels on one canvas."""
    rows = list(self._rows())
    width = max(sum(panel.width + _GAP for panel in row)
                for _, row in rows) + _GAP
    height = sum(_high(head, row) for head, row in rows) + _GAP
    top = _KEY if self.keys else 0.0
    picture = Canvas(figsize=(width, height + top))
    for head, row in rows:
      if head:
        Frame(picture).text(_GAP, top + _GROUP / 2, head, weight='bold',
                            fontsize=LETTERS + 2)
        top += _GROUP
      left = _GAP
      for panel in row:
        Frame(picture).text(
            left, top + _TITLE / 2, panel.title,
            weight='bold' if panel.strong else 'normal')
        panel.draw(Frame(picture, left, top + _TITLE))
        left += panel.width + _GAP
      top += _high('', row)
    if self.keys:
      line: Any = lines.Line2D
      picture.legend(
          [line([], [], color=key.colour, linestyle=key.style)
           for key in self.keys], [key.label for key in self.keys],
          loc='upper left', ncols=len(self.keys), frameon=False,
          fontsize=LETTERS)
    return picture

  def _rows(self) -> Iterable[tuple[str, list[Panel]]]:
    """The panels in rows, each with the heading that stands above it."""
    scales = [('', list(self.scales))] if self.scales else []
    for group, panels in scales + list(self.groups().items()):
      columns = max(1, int(_WHOLE // (panels[0].width + _GAP)))
      for i in range(0, len(panels), columns):
        yield '' if i else self._head(group), panels[i:i + columns]

  def _head(self, group: str) -> str:
    return ': '.join(filter(None, (group, self.notes.get(group, ''))))


def short(names: Sequence[str], letters: int = SHORT) -> list[str]:
  """Long names by their ends, as long as it takes to tell them apart.

  >>> short(['encoder/layers_0/mlp', 'mlp', 'decoder/layers_0/mlp'], 8)
  ['enc\u2026/mlp', 'mlp', 'dec\u2026/mlp']
  """
  for head in (0, (letters - 1) // 2):
    cut = [name if len(name) <= letters else
           f'{name[:head]}\u2026{name[head + 1 - letters:]}' for name in names]
    if len(set(cut)) == len(set(names)):
      return cut
  return short(names, letters + 1)


def _high(head: str, row: list[Panel]) -> float:
  """The height of a row of panels."""
  return bool(head) * _GROUP + _TITLE + max(
      panel.height for panel in row) + _GAP
