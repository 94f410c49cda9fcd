"""The pictures of one run."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps, lines

from gradnorm_optax.lab.reporting.canvas import COLOURS, Canvas


def through_time(
    profiles: Mapping[str, Mapping[int, Sequence[float | None]]]) -> Canvas:
  """Draws the gradient's norm at every step of a sequence.

  Args:
    profiles: {method: {training step: log10 norms}}, the norms from a
      sequence's first step to its last; None where one is zero or not finite.

  Returns:
    One panel for each method, one line for each moment of training; a line
    that falls to the left is a gradient that vanishes on its way back.
  """
  columns = min(len(profiles), 4)
  rows = -(-len(profiles) // columns)
  picture = Canvas(
      figsize=(1.6 + 2.3 * columns, 0.4 + 2.2 * rows), layout='constrained')
  axes = picture.subplots(
      rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
  moments = sorted({step for moment in profiles.values() for step in moment})
  # Without the ends, which a dark or a white page would swallow.
  colour = colormaps['viridis'](np.linspace(0.3, 0.85, len(moments)))
  for axis, (method, kept) in zip(axes, profiles.items(), strict=False):
    for step, norms in kept.items():
      shown = np.array(norms, np.float64)  # None becomes NaN: a gap
      axis.plot(np.arange(1, len(shown) + 1), shown, linewidth=1.3,
                color=colour[moments.index(step)])
    axis.set_title(textwrap.fill(method, 26), fontsize=9)
    axis.tick_params(labelsize=8)
    axis.spines[['top', 'right']].set_visible(False)
  for axis in axes[len(profiles):]:
    axis.set_visible(False)
  picture.supxlabel('step of the sequence', fontsize=9)
  picture.supylabel('log10 of the gradient\'s norm', fontsize=9)
  picture.legend(
      [lines.Line2D([], [], color=c) for c in colour],
      [f'after step {step}' for step in moments], loc='outside right center',
      frameon=False, fontsize=8)
  return picture


def training(rows: list[dict[str, Any]]) -> Canvas:
  """Loss, score and gradient norm of one run."""
  picture = Canvas(figsize=(11, 3), layout='constrained')
  axes = picture.subplots(1, 3)
  for axis, name in zip(
      axes, ('loss', 'validation_score', 'gradient_norm'), strict=True):
    axis.plot([row['step'] for row in rows],
              [np.nan if row[name] is None else row[name] for row in rows],
              color=COLOURS[0])
    axis.set(xlabel='step', title=name.replace('_', ' '))
    axis.spines[['top', 'right']].set_visible(False)
  return picture
