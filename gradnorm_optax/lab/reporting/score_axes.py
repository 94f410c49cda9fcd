"""Axes that show how scores differ, and what lies outside them."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from gradnorm_optax.lab.results.findings import Row, Summary


class Reach(NamedTuple):
  """The part of the scores that an axis shows, in the measure's unit."""

  low: float
  high: float

  def holds(self, value: float) -> bool:
    """Whether a value can be seen."""
    return self.low <= value <= self.high


def reach(values: Iterable[float], unit: str) -> Reach:
  """From the least to the largest, with a margin; shares end at 0 and 100.

  >>> reach([88.0, 93.0], '%')
  Reach(low=87.6, high=93.4)
  >>> reach([100.0], '%'), reach([], '%')
  (Reach(low=99.0, high=100.5), Reach(low=0.0, high=100.0))
  """
  known = np.array([value for value in values if np.isfinite(value)])
  if not len(known):
    return Reach(0.0, 100.0 if unit else 1.0)
  low, high = float(known.min()), float(known.max())
  margin = 0.08 * (high - low) or (1.0 if unit else 0.1 * abs(high) or 1.0)
  low, high = low - margin, high + margin
  if unit:  # a little more than all, that a line at 100% is seen whole
    low, high = max(0.0, low), min(100.5, high)
  return Reach(round(low, 6), round(high, 6))


def curves(row: Row, found: Summary) -> np.ndarray:
  """Validation scores by fresh run and evaluation, in the measure's unit.

  After divergence the worst.
  """
  shown = np.full((len(row.runs), found.steps // found.every), found.worst)
  for i, run in enumerate(row.runs):
    shown[i, :len(run.curve)] = run.curve
  return found.measure.scale * shown


def of_curves(rows: Iterable[Row], found: Summary) -> Reach:
  """What learning curves show: the later three quarters of those that train.

  The first steps of a good method are as bad as guessing, and would leave no
  room for how the ends differ.
  """
  rows = list(rows)
  rows = [row for row in rows if row.trains and row.runs] or rows
  shown = [curves(row, found) for row in rows if row.runs]
  lows = [value for one in shown
          for value in one.mean(0)[one.shape[1] // 4:].tolist()]
  highs = [float(one.max()) for one in shown]
  return reach([*lows, *highs], found.measure.unit)


def guessing(found: Summary, shown: Reach) -> str:
  """Where guessing lies, if not on the axis."""
  chance = found.measure.scale * found.chance
  if shown.holds(chance):
    return ''
  side = 'below' if chance < shown.low else 'above'
  return (f'guessing, {found.measure.figure(found.chance)}, lies {side} the '
          'axis')
