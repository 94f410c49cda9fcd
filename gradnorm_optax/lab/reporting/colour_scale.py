"""Colours for norms: one logarithmic scale for all panels of a figure."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib import cm, colors

from gradnorm_optax.lab.reporting.sheet import LETTERS, WIDE, Frame, Panel


def bar(label: str, norm: colors.LogNorm, colours: str) -> Panel:
  """What colours mean."""
  assert norm.vmin is not None and norm.vmax is not None
  ticks = _ticks(norm.vmin, norm.vmax)

  def draw(frame: Frame) -> None:
    axis = frame.axes(0.2, 0.04, WIDE - 0.4, 0.14)
    bar = frame.canvas.colorbar(
        cm.ScalarMappable(norm, colours), cax=axis, orientation='horizontal',
        extend='min')
    bar.set_ticks(ticks, labels=[f'{tick:g}' for tick in ticks])
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=LETTERS)

  return Panel(label, f'from {norm.vmin:.2g} to {norm.vmax:.2g}', WIDE, 0.4,
               draw)


def positive(values: np.ndarray) -> np.ndarray:
  """NaN for what is zero or not finite."""
  return np.where((values > 0) & np.isfinite(values), values, np.nan)


def scale(parts: Sequence[np.ndarray],
           reach: float = 0.0) -> colors.LogNorm:
  """One scale for all panels: what a method changes is seen at once.

  Args:
    parts: What is shown.
    reach: The least share of the largest value that still gets a colour of its
      own; the last steps of a cosine are next to nothing.
  """
  known = np.concatenate([positive(part).ravel() for part in parts])
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
