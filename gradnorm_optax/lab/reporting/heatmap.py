"""Per-block norms by batch as colours."""

import math
import textwrap

import numpy as np
from matplotlib import colors

from gradnorm_optax.lab.reporting.canvas import Canvas
from gradnorm_optax.lab.results.first_batch_norms import Look

COLUMNS = 5  # panels in a row: what a printed page can show


def draw(looks: list[Look]) -> Canvas:
  """One panel with the first method's gradients, one after each method."""
  panels = [('gradient', looks[0].gradient)] + [
      (f'after {look.method}', look.after) for look in looks]
  blocks, batches = looks[0].blocks, len(looks[0].gradient)
  columns = min(len(panels), COLUMNS)
  rows = -(-len(panels) // columns)
  longest = max(map(len, blocks))
  picture = Canvas(
      figsize=(1.4 + 0.06 * longest + 1.5 * columns,
               0.5 + rows * (0.7 + 0.19 * len(blocks))),
      layout='constrained')
  axes = picture.subplots(
      rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
  positive = np.concatenate([panel[1].ravel() for panel in panels])
  positive = positive[np.isfinite(positive) & (positive > 0)]
  low, high = (positive.min(), positive.max()) if len(positive) else (.1, 1)
  # One scale for all panels: what a method changes is seen at once. Where all
  # norms are one, as after BNG alone, the scale still needs a width.
  scale = colors.LogNorm(low / 1.01, high * 1.01)
  for axis, (title, norms) in zip(axes, panels, strict=False):
    shown = np.where((norms > 0) & np.isfinite(norms), norms, np.nan)
    image = axis.imshow(shown.T, aspect='auto', norm=scale, cmap='viridis',
                        interpolation='nearest',
                        extent=(0.5, batches + 0.5, len(blocks) - 0.5, -0.5))
    axis.set_title(textwrap.fill(title, 20), fontsize=8)
    axis.set_xticks(sorted({1, (batches + 1) // 2, batches}))
    axis.tick_params(labelsize=7)
    axis.set_facecolor('0.85')  # zero or not finite
  for axis in axes[len(panels):]:
    axis.set_visible(False)
  for axis in axes[::columns]:
    axis.set_yticks(range(len(blocks)), blocks, fontsize=7)
  picture.supxlabel('batch', fontsize=8)
  bar = picture.colorbar(image, ax=axes)
  bar.set_label('norm; grey: none', fontsize=8)
  ticks = _ticks(low, high)
  bar.set_ticks(ticks, labels=[f'{tick:g}' for tick in ticks])
  bar.minorticks_off()
  bar.ax.tick_params(labelsize=7)
  return picture


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
