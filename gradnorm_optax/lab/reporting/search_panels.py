"""Scores of a search's points against what was searched besides the rate."""

import functools
from typing import Any

from matplotlib import ticker

from gradnorm_optax.lab.reporting import alt_texts, score_axes
from gradnorm_optax.lab.reporting.canvas import COLOURS
from gradnorm_optax.lab.reporting.score_axes import Reach
from gradnorm_optax.lab.reporting.sheet import (
  LETTERS,
  NARROW,
  Frame,
  Panel,
  Sheet,
)
from gradnorm_optax.lab.results.findings import Row, Summary

_LEFT, _RIGHT, _BELOW, _ABOVE, _SCORE = 0.42, 0.08, 0.2, 0.06, 0.95
OWN, LOST = COLOURS[0], COLOURS[1]
APART = 10.0  # positive values so far apart are shown on a log scale


def search(found: Summary) -> Sheet | None:
  """A panel for each method and setting; None where rates alone are searched.
  """
  panels: list[Panel] = []
  for model in dict.fromkeys(row.model for row in found.rows):
    rows = [row for row in found.rows if row.model == model]
    shown = score_axes.reach(
        [found.measure.scale * point.score for row in rows
         for point in row.sensitivity], found.measure.unit)
    panels += [Panel(
        f'{row.method}: {key.rpartition(".")[2]}',
        alt_texts.searched(row, key, found.measure), NARROW,
        _ABOVE + _SCORE + _BELOW,
        functools.partial(_panel, found=found, row=row, key=key, shown=shown),
        model, row.method == found.choice(model))
               for row in rows for key in row.settings]
  if not panels:
    return None
  return Sheet(
      'What else was searched',
      f'Final {found.measure.label("validation")} of every point, mean over '
      'the tuning seeds, against each searched setting; the points differ in '
      'rate and all settings at once. A ring at the point that was chosen, a '
      'cross where a run diverged.', tuple(panels))


def _panel(frame: Frame, found: Summary, row: Row, key: str,
           shown: Reach) -> None:
  axis = frame.axes(_LEFT, _ABOVE, NARROW - _LEFT - _RIGHT, _SCORE)
  values = [point.settings[key] for point in row.sensitivity]
  places = _places(axis, values)
  for point, place in zip(row.sensitivity, places, strict=True):
    score = max(found.measure.scale * point.score, shown.low)
    chosen = (point.rate, point.settings) == (row.rate, row.settings)
    axis.plot(place, score, 'x' if point.diverged else 'o',
              color=LOST if point.diverged else OWN, markersize=4,
              alpha=1.0 if chosen else 0.6, clip_on=False)
    if chosen:
      axis.plot(place, score, 'o', markerfacecolor='none', color=OWN,
                markersize=8, clip_on=False)
  axis.set_ylim(shown)
  axis.yaxis.set_major_locator(ticker.MaxNLocator(4))
  axis.tick_params(labelsize=LETTERS)


def _places(axis: Any, values: list[Any]) -> list[float]:
  """Where values lie on the axis: few side by side, many on a scale."""
  kinds = sorted(set(values), key=lambda value: (str(type(value)), value))
  if len(kinds) < 4 or not all(isinstance(one, int | float) for one in kinds):
    axis.set_xlim(-0.5, len(kinds) - 0.5)
    axis.set_xticks(range(len(kinds)), [
        f'{one:g}' if isinstance(one, float) else str(one) for one in kinds])
    return [float(kinds.index(value)) for value in values]
  if kinds[0] > 0 and kinds[-1] / kinds[0] > APART:
    axis.set_xscale('log')
  axis.set_xticks([kinds[0], kinds[-1]], [f'{kinds[0]:g}', f'{kinds[-1]:g}'])
  axis.minorticks_off()
  return values
