"""Per-block norms by batch as colours."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colors, figure as mpl

if TYPE_CHECKING:
  from gradnorm_optax.lab.inspection import Look


def draw(looks: 'list[Look]') -> mpl.Figure:
  """One panel with the first method's gradients, one after each method."""
  panels = [('gradient', looks[0].gradient)] + [
      (f'after {look.method}', look.after) for look in looks]
  blocks, batches = looks[0].blocks, len(looks[0].gradient)
  picture = mpl.Figure(
      figsize=(2.5 + 1.6 * len(panels), 1.6 + 0.25 * len(blocks)),
      layout='constrained')
  axes = picture.subplots(1, len(panels), sharey=True, squeeze=False)[0]
  positive = np.concatenate([panel[1].ravel() for panel in panels])
  positive = positive[np.isfinite(positive) & (positive > 0)]
  low, high = (positive.min(), positive.max()) if len(positive) else (.1, 1)
  # One scale for all panels: what a method changes is seen at once.
  scale = colors.LogNorm(low, max(high, low * 1.001))
  for axis, (title, norms) in zip(axes, panels, strict=True):
    shown = np.where((norms > 0) & np.isfinite(norms), norms, np.nan)
    image = axis.imshow(shown.T, aspect='auto', norm=scale, cmap='viridis',
                        interpolation='nearest',
                        extent=(0.5, batches + 0.5, len(blocks) - 0.5, -0.5))
    axis.set_title(title, fontsize=9)
    axis.set_xlabel('batch')
    axis.set_facecolor('0.85')  # zero or not finite
  axes[0].set_yticks(range(len(blocks)), blocks, fontsize=8)
  picture.colorbar(image, ax=axes, label='norm (grey: zero or not finite)')
  return picture
