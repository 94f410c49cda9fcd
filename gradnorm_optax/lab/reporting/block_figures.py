"""What methods do to the gradient of every block: norms, and entries."""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colors, ticker

from gradnorm_optax.lab.reporting import alt_texts, colour_scale
from gradnorm_optax.lab.reporting.canvas import COLOURS, Canvas
from gradnorm_optax.lab.reporting.sheet import (
  LETTERS,
  WIDE,
  Frame,
  Key,
  Panel,
  Sheet,
  short,
)
from gradnorm_optax.lab.results.look import QUANTILES, Look

MOST_NAMES = 40  # of blocks along an axis
_HEIGHT = 0.155  # inches for a block's norms: one line of letters
_STRIPS = 0.26  # inches for a block's entries
_HEAD, _BELOW, _BETWEEN, _RIGHT = 0.2, 0.22, 0.08, 0.1
_NONE = '0.6'  # zero or not finite


class _Row(NamedTuple):
  """The axes of one method, or of a part of what reaches its moments."""

  title: str
  gradient: np.ndarray
  after: np.ndarray
  ratio: np.ndarray


def norms(looks: Sequence[Look]) -> Canvas:
  """Draws norms by step as colours, all methods on one canvas."""
  return norm_sheet(looks).whole()


def entries(looks: Sequence[Look]) -> Canvas:
  """Draws how the sizes of the entries lie, all methods on one canvas."""
  return entry_sheet(looks).whole()


def norm_sheet(looks: Sequence[Look]) -> Sheet:
  """Norms by step as colours: a panel for each method of one model.

  From left to right the raw gradient, what reaches the optimizer's moments,
  and the update over the parameters.
  """
  every = [row for look in looks for row in _rows(look)]
  scale = colour_scale.scale(
      [part for row in every for part in (row.gradient, row.after)],
      reach=1e-10)
  shares = colour_scale.scale([row.ratio for row in every], reach=1e-4)
  high = max(0.5, _HEIGHT * min(len(looks[0].blocks), MOST_NAMES))
  wide = _wide(looks[0].blocks, 3)

  def panel(look: Look) -> Panel:
    rows = _rows(look)
    return Panel(
        look.method, alt_texts.norms(look), wide,
        (_HEAD + high) * len(rows) + _BELOW,
        lambda frame: _norms(frame, look, high, scale, shares))

  return Sheet(
      f'Norms of the blocks: {looks[0].model}',
      'Each row is a block of parameters, each column a step of the first '
      'fresh run, close together at first and wider apart later. From the '
      'left: the raw gradient, what reaches the optimizer\'s moments (under a '
      'wrapper in its parts, as direction and length), and the share of its '
      'own size by which a step moves the block. Grey: zero or not finite. '
      'Rows of one colour train at one speed.',
      tuple(map(panel, looks)), scales=(
          colour_scale.bar('norm of the block', scale, 'viridis'),
          colour_scale.bar(
              'update: share of the parameters\' norm', shares, 'cividis')))


def entry_sheet(looks: Sequence[Look]) -> Sheet:
  """How the sizes of the entries lie, by block, before and after."""
  count = min(len(looks[0].blocks), MOST_NAMES)
  moments = _moments(len(looks[0].steps))
  limits = _limits(looks)
  return Sheet(
      f'Sizes of the gradient\'s entries: {looks[0].model}',
      'The distribution of the magnitudes within each block, raw on the left '
      'and where it reaches the moments on the right, at the first, a middle '
      'and the last step. Thin: from the 1st to the 99th percentile; thick: '
      'from the 25th to the 75th; mark: the median. Zeros are left out, and '
      'counted where they are many.',
      tuple(Panel(
          look.method, alt_texts.entries(look),
          _wide(looks[0].blocks[:count], 2),
          _HEAD + max(0.6, _STRIPS * count) + _BELOW,
          functools.partial(_entries, look=look, count=count, moments=moments,
                            limits=limits)) for look in looks),
      tuple(Key(f'step {looks[0].steps[moment]}', COLOURS[n])
            for n, moment in enumerate(moments)))


def _margin(names: Sequence[str]) -> float:
  """Inches for the names."""
  return 0.1 + 0.07 * max(map(len, short(names)), default=0)


def _width(names: Sequence[str], axes: int) -> float:
  """Inches for each of so many axes beside the names."""
  room = WIDE - _margin(names) - _RIGHT - (axes - 1) * _BETWEEN
  return max(room / axes, 0.6)


def _wide(names: Sequence[str], axes: int) -> float:
  """The width of a panel, more than usual where names are long."""
  return (_margin(names) + axes * _width(names, axes)
          + (axes - 1) * _BETWEEN + _RIGHT)


def _rows(look: Look) -> list[_Row]:
  """A method's rows: one for each part of what reaches the moments."""
  return [_Row(title, look.gradient, after, look.ratio)
          for title, after in (look.parts or {'': look.after}).items()]


def _norms(frame: Frame, look: Look, high: float, scale: colors.Normalize,
           shares: colors.Normalize) -> None:
  """Rows of three axes: the gradient, at the moments, the update."""
  left = _margin(look.blocks)
  width = _width(look.blocks, 3)
  rows = _rows(look)
  for n, row in enumerate(rows):
    top = n * (_HEAD + high) + _HEAD
    for i, (head, values, norm, colours) in enumerate((
        ('gradient', row.gradient, scale, 'viridis'),
        (row.title or 'at moments', row.after, scale, 'viridis'),
        ('update', row.ratio, shares, 'cividis'))):
      axis = frame.axes(left + i * (width + _BETWEEN), top, width, high)
      _colours(axis, look.steps, values, norm, colours, n == len(rows) - 1)
      axis.set_title(head, fontsize=LETTERS, pad=2)
      if i:
        axis.set_yticks([])
      else:
        _name(axis, short(look.blocks))


def _entries(frame: Frame, look: Look, count: int, moments: Sequence[int],
             limits: tuple[float, float]) -> None:
  """Two axes: the raw gradient, at the moments."""
  left = _margin(look.blocks[:count])
  width = _width(look.blocks[:count], 2)
  for i, (head, values) in enumerate((
      ('gradient', look.before), ('at moments', look.reached))):
    axis = frame.axes(left + i * (width + _BETWEEN), _HEAD, width,
                      max(0.6, _STRIPS * count))
    for n, moment in enumerate(moments):
      _strips(axis, values[moment, :count], COLOURS[n],
              0.5 - (n + 1) / (len(moments) + 1))
    _zeros(axis, values[moments[-1], :count], math.sqrt(limits[0] * limits[1]))
    axis.set_title(head, fontsize=LETTERS, pad=2)
    axis.grid(axis='x', color='0.5', alpha=0.25, linewidth=0.6)
    axis.set_xscale('log')
    axis.set_xlim(*limits)
    axis.set_ylim(count - 0.4, -0.6)
    axis.xaxis.set_major_locator(ticker.FixedLocator(_inner(*limits)))
    axis.xaxis.set_minor_locator(ticker.NullLocator())
    axis.set_yticks(range(count), [''] * count if i else short(
        look.blocks[:count]))


def _colours(axis: Any, steps: list[int], values: np.ndarray,
             norm: colors.Normalize, colours: str, named: bool) -> None:
  """Colours one square for each step that was looked at and each block."""
  shown = np.where((values > 0) & np.isfinite(values), values, np.nan)
  count = len(steps)
  axis.imshow(shown.T, aspect='auto', norm=norm, cmap=colours,
              interpolation='nearest',
              extent=(-0.5, count - 0.5, shown.shape[1] - 0.5, -0.5))
  places = sorted({0, count - 1})
  axis.set_xticks(places, [str(steps[place]) if named else ''
                           for place in places])
  if len(places) > 1:
    for side, label in zip(('left', 'right'), axis.get_xticklabels(),
                           strict=True):
      label.set_ha(side)
  axis.spines[['top', 'right']].set_visible(True)
  axis.set_facecolor(_NONE)


def _name(axis: Any, blocks: Sequence[str]) -> None:
  """Names the blocks, no more of them than fit."""
  places = range(0, len(blocks), -(-len(blocks) // MOST_NAMES))
  axis.set_yticks(places, [blocks[place] for place in places])


def _strips(axis: Any, values: np.ndarray, colour: str, shift: float) -> None:
  """One strip for each block."""
  at = {quantile: colour_scale.positive(values[:, i])
        for i, quantile in enumerate(QUANTILES)}
  places = np.arange(len(values)) - shift
  for low, high, width in ((0.01, 0.99, 0.8), (0.25, 0.75, 3.0)):
    axis.hlines(places, at[low], at[high], color=colour, linewidth=width)
  axis.plot(at[0.5], places, linestyle='', marker='|', markersize=5,
            markeredgewidth=1.2, color=colour)


def _zeros(axis: Any, values: np.ndarray, middle: float) -> None:
  """Says where a good part of a block's entries is zero, in the last step.

  On the side that its strips leave free.
  """
  medians = values[:, QUANTILES.index(0.5)]
  for place, (share, median) in enumerate(
      zip(values[:, -1], medians, strict=True)):
    if share >= 0.05:
      right = median < middle
      axis.annotate(
          f'{share:.0%} zero', (0.99 if right else 0.01, place), va='center',
          ha='right' if right else 'left', fontsize=LETTERS,
          xycoords=('axes fraction', 'data'))


def _inner(low: float, high: float) -> list[float]:
  """Two powers of ten well within: two axes side by side keep them apart.

  >>> _inner(1e-13, 0.1), _inner(0.2, 0.7)
  ([1e-11, 0.001], [0.2, 0.7])
  """
  start, end = math.log10(low), math.log10(high)
  margin = 0.12 * (end - start)
  found = range(math.ceil(start + margin), math.floor(end - margin) + 1)
  return [10.0 ** found[0], 10.0 ** found[-1]] if found else [low, high]


def _moments(count: int) -> list[int]:
  """The first, the middle and the last of the steps.

  >>> _moments(24), _moments(2), _moments(1)
  ([0, 12, 23], [0, 1], [0])
  """
  return sorted({0, count // 2, count - 1})


def _limits(looks: Sequence[Look]) -> tuple[float, float]:
  """The axis of the entries; of a tail that goes on forever the start."""
  norm = colour_scale.scale([values[..., 1:-2] for look in looks
                 for values in (look.before, look.reached)], reach=1e-12)
  assert norm.vmin is not None and norm.vmax is not None
  return norm.vmin / 2, norm.vmax * 2
