"""The pictures of one run."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps, colors, ticker

from gradnorm_optax.lab.reporting import alt_texts
from gradnorm_optax.lab.reporting.canvas import COLOURS, Canvas
from gradnorm_optax.lab.reporting.sheet import (
  NARROW,
  Frame,
  Key,
  Panel,
  Sheet,
)

Moments = Mapping[int, Sequence[float | None]]


def through_time(profiles: Mapping[str, Moments]) -> Canvas:
  """Draws the gradient's norm at every step of a sequence, on one canvas.

  Args:
    profiles: {method: {training step: log10 norms}}, the norms from a
      sequence's first step to its last; None where one is zero or not finite.

  Returns:
    One panel for each method, one line for each moment of training; a line
    that falls to the left is a gradient that vanishes on its way back.
  """
  return time_sheet('', profiles).whole()


def time_sheet(model: str, profiles: Mapping[str, Moments]) -> Sheet:
  """The same, as panels."""
  steps = sorted({step for moments in profiles.values() for step in moments})
  # Without the ends, which a dark or a white page would swallow.
  hues = colormaps['viridis'](np.linspace(0.3, 0.85, len(steps)))
  colour = {step: colors.to_hex(hue)
            for step, hue in zip(steps, hues, strict=True)}
  known = [value for moments in profiles.values()
           for norms in moments.values() for value in norms
           if value is not None]
  low, high = (min(known), max(known)) if known else (0.0, 0.0)
  margin = 0.05 * (high - low) or 1.0
  return Sheet(
      f'The gradient through time: {model}',
      'Decimal logarithm of the norm of the loss\'s gradient at every step of '
      'a sequence, at four moments of the first fresh run. A line that falls '
      'to the left vanishes on its way back, one that rises explodes.',
      tuple(Panel(
          method, alt_texts.through_time(moments), NARROW, 1.4,
          functools.partial(_time, moments=moments, colour=colour,
                            limits=(low - margin, high + margin)))
            for method, moments in profiles.items()),
      tuple(Key(f'after step {step}', colour[step]) for step in steps))


def _time(frame: Frame, moments: Moments, colour: Mapping[int, str],
          limits: tuple[float, float]) -> None:
  axis = frame.axes(0.42, 0.06, NARROW - 0.5, 1.12)
  for step, norms in moments.items():
    shown = np.array(norms, np.float64)  # None becomes NaN: a gap
    axis.plot(np.arange(1, len(shown) + 1), shown, linewidth=1.4,
              color=colour[step])
  axis.set_ylim(*limits)
  axis.xaxis.set_major_locator(ticker.MaxNLocator(3, integer=True))
  axis.yaxis.set_major_locator(ticker.MaxNLocator(5))


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
