"""What methods do to the gradient of every block: norms, and entries."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import cm, colors, lines, ticker

from gradnorm_optax.lab.reporting.canvas import COLOURS, Canvas
from gradnorm_optax.lab.results.look import QUANTILES, Look

MOST_NAMES = 40  # of blocks along an axis
_HEIGHT = 0.19  # inches for a block
_NONE = '0.6'  # zero or not finite


class _Row(NamedTuple):
  """The panels of one method, or of a part of what reaches its moments."""

  title: str
  gradient: np.ndarray
  after: np.ndarray
  ratio: np.ndarray


def norms(looks: Sequence[Look]) -> Canvas:
  """Draws norms by step as colours: a row of panels for each method.

  From left to right the raw gradient, what reaches the optimizer's moments,
  and the update over the parameters.
  """
  rows = [row for look in looks for row in _rows(look)]
  blocks = looks[0].blocks
  longest = max(map(len, blocks))
  picture = Canvas(
      figsize=(8.6 + 0.06 * longest, 1.3 + len(rows) * (
          0.35 + max(0.6, _HEIGHT * min(len(blocks), MOST_NAMES)))),
      layout='constrained')
  axes = picture.subplots(len(rows), 3, squeeze=False, sharex=True)
  scale = _scale([row.gradient for row in rows] + [row.after for row in rows],
                 reach=1e-10)
  shares = _scale([row.ratio for row in rows], reach=1e-4)
  heads = ('raw gradient', 'at the moments', 'update / parameters')
  for line, row in zip(axes, rows, strict=True):
    panels = ((row.gradient, scale, 'viridis'), (row.after, scale, 'viridis'),
              (row.ratio, shares, 'cividis'))
    for axis, head, (values, norm, colours) in zip(
        line, heads, panels, strict=True):
      _panel(axis, looks[0].steps, values, norm, colours)
      axis.set_title(textwrap.fill(f'{row.title}: {head}', 40), fontsize=8)
    _name(line[0], blocks)
    for axis in line[1:]:
      axis.set_yticks([])
  picture.supxlabel('training step', fontsize=8)
  for where, norm, colours, label in (
      (axes[0, :2], scale, 'viridis', 'norm of the block; grey: zero or none'),
      (axes[0, 2:], shares, 'cividis', 'norm of the update / of the weights')):
    bar = picture.colorbar(
        cm.ScalarMappable(norm, colours), ax=where, location='top',
        aspect=30 * len(where), shrink=0.8,
        extend='min')
    bar.set_label(label, fontsize=8)
    assert norm.vmin is not None and norm.vmax is not None
    ticks = _ticks(norm.vmin, norm.vmax)
    bar.set_ticks(ticks, labels=[f'{tick:g}' for tick in ticks])
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=7)
  return picture


def entries(looks: Sequence[Look]) -> Canvas:
  """Draws how the sizes of the entries lie, by block, before and after.

  For the first, the middle and the last step that was looked at: a thin line
  from the 1st to the 99th percentile, a thick one from the 25th to the 75th, a
  mark at the median.
  """
  blocks = looks[0].blocks[:MOST_NAMES]
  moments = _moments(len(looks[0].steps))
  longest = max(map(len, blocks))
  picture = Canvas(
      figsize=(7.2 + 0.06 * longest, 1.1 + len(looks) * (
          0.4 + max(0.9, 0.28 * len(blocks)))), layout='constrained')
  axes = picture.subplots(
      len(looks), 2, squeeze=False, sharex=True, sharey=True)
  for line, look in zip(axes, looks, strict=True):
    for axis, head, values in zip(
        line, ('raw gradient', 'at the moments'), (look.before, look.reached),
        strict=True):
      for n, moment in enumerate(moments):
        _strips(axis, values[moment, :len(blocks)], COLOURS[n],
                0.5 - (n + 1) / (len(moments) + 1))
      _zeros(axis, values[moments[-1], :len(blocks), -1])
      axis.set_title(textwrap.fill(f'{look.method}: {head}', 40), fontsize=8)
      axis.tick_params(labelsize=7)
      axis.spines[['top', 'right']].set_visible(False)
      axis.grid(axis='x', color='0.5', alpha=0.25, linewidth=0.6)
    line[0].set_yticks(range(len(blocks)), blocks, fontsize=7)
  axes[0, 0].set_ylim(len(blocks) - 0.4, -0.6)
  axes[0, 0].set_xscale('log')
  axes[0, 0].set_xlim(*_limits(looks))
  axes[0, 0].xaxis.set_major_locator(ticker.LogLocator(numticks=7))
  axes[0, 0].xaxis.set_minor_locator(ticker.NullLocator())
  picture.supxlabel('size of an entry, zeros left out', fontsize=8)
  picture.legend(
      [lines.Line2D([], [], color=COLOURS[n], linewidth=3)
       for n in range(len(moments))],
      [f'step {looks[0].steps[moment]}' for moment in moments],
      loc='outside upper center', ncols=len(moments), frameon=False,
      fontsize=8)
  return picture


def _rows(look: Look) -> list[_Row]:
  """A method's rows: one for each part of what reaches the moments."""
  parts = {f'{look.method}, {name}': part for name, part in look.parts.items()}
  return [_Row(title, look.gradient, after, look.ratio)
          for title, after in (parts or {look.method: look.after}).items()]


def _panel(axis: Any, steps: list[int], values: np.ndarray,
           norm: colors.Normalize, colours: str) -> None:
  """Colours one square for each step that was looked at and each block."""
  shown = np.where((values > 0) & np.isfinite(values), values, np.nan)
  count = len(steps)
  axis.imshow(shown.T, aspect='auto', norm=norm, cmap=colours,
              interpolation='nearest',
              extent=(-0.5, count - 0.5, shown.shape[1] - 0.5, -0.5))
  places = np.unique(np.linspace(0, count - 1, min(count, 5)).round()).astype(
      int)
  axis.set_xticks(places, [str(steps[place]) for place in places])
  axis.tick_params(labelsize=7)
  axis.set_facecolor(_NONE)


def _name(axis: Any, blocks: Sequence[str]) -> None:
  """Names the blocks, no more of them than fit."""
  places = range(0, len(blocks), -(-len(blocks) // MOST_NAMES))
  axis.set_yticks(places, [blocks[place] for place in places], fontsize=7)


def _strips(axis: Any, values: np.ndarray, colour: str, shift: float) -> None:
  """One strip for each block."""
  at = {quantile: _positive(values[:, i])
        for i, quantile in enumerate(QUANTILES)}
  places = np.arange(len(values)) - shift
  for low, high, width in ((0.01, 0.99, 0.8), (0.25, 0.75, 3.0)):
    axis.hlines(places, at[low], at[high], color=colour, linewidth=width)
  axis.plot(at[0.5], places, linestyle='', marker='|', markersize=5,
            markeredgewidth=1.2, color=colour)


def _zeros(axis: Any, shares: np.ndarray) -> None:
  """Says where a good part of a block's entries is zero, in the last step."""
  for place, share in enumerate(shares):
    if share >= 0.05:
      axis.annotate(
          f'{share:.0%} zero', (0.01, place), va='center', fontsize=6,
          xycoords=('axes fraction', 'data'))


def _moments(count: int) -> list[int]:
  """The first, the middle and the last of the steps.

  >>> _moments(24), _moments(2), _moments(1)
  ([0, 12, 23], [0, 1], [0])
  """
  return sorted({0, count // 2, count - 1})


def _positive(values: np.ndarray) -> np.ndarray:
  return np.where((values > 0) & np.isfinite(values), values, np.nan)


def _limits(looks: Sequence[Look]) -> tuple[float, float]:
  """The axis of the entries; of a tail that goes on forever the start."""
  norm = _scale([values[..., 1:-2] for look in looks
                 for values in (look.before, look.reached)], reach=1e-12)
  assert norm.vmin is not None and norm.vmax is not None
  return norm.vmin / 2, norm.vmax * 2


def _scale(parts: Sequence[np.ndarray],
           reach: float = 0.0) -> colors.LogNorm:
  """One scale for all panels: what a method changes is seen at once.

  Args:
    parts: What is shown.
    reach: The least share of the largest value that still gets a colour of its
      own; the last steps of a cosine are next to nothing.
  """
  known = np.concatenate([_positive(part).ravel() for part in parts])
  known = known[np.isfinite(known)]
  low, high = (known.min(), known.max()) if len(known) else (0.1, 1.0)
  low = max(low, reach * high)
  # Where all norms are one, as after BNG alone, it still needs a width.
  return colors.LogNorm(low / 1.01, high * 1.01)


def _ticks(low: float, high: float) -> list[float]:
  """At most five round numbers: on every minor tick, labels would overlap.

  >>> _ticks(0.2, 3.0), _ticks(1e-6, 10.0)
  ([0.2, 0.5, 1.0, 2.0], [1e-06, 0.0001, 0.01, 1.0])
  """
  decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
  steps = (1,) if high > 50 * low else (1, 2, 5)
  found = [float(f'{step}e{decade}') for decade in decades for step in steps
           if low <= float(f'{step}e{decade}') <= high]
  return found[::-(-len(found) // 5) or 1]
