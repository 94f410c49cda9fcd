"""What a comparison lets one say, and when it lets one say nothing."""

import math
import statistics
from collections.abc import Sequence
from typing import Literal

from gradnorm_optax.lab.objective.quality import ACCURACY, Measure
from gradnorm_optax.lab.results import stats
from gradnorm_optax.lab.results.findings import Row, Verdict
from gradnorm_optax.lab.results.stats import FALSE_ALARMS


def paired(row: Row, other: Row) -> stats.Interval:
  """The difference of two methods' scores, seed by seed."""
  theirs = {run.seed: run.score for run in other.runs}
  return stats.mean_interval(
      [run.score - theirs[run.seed] for run in row.runs])


def baseline(rows: Sequence[Row], named: str | None) -> Row | None:
  """The named baseline, else the one that did best on the tuning seeds."""
  if named is not None:
    return next((row for row in rows if row.method == named), None)
  return max((row for row in rows if row.plain),
             key=lambda row: row.tuned, default=None)


def judge(rows: Sequence[Row], named: str | None,
          measure: Measure = ACCURACY) -> Verdict:
  """Compares the most promising method with the best baseline.

  Both are nominated by the tuning seeds and compared on the fresh ones, so
  that choosing the best of many does not flatter it. Where none is named, a
  gain must also hold against every other baseline: tuning may have chosen the
  wrong one.
  """
  model = rows[0].model
  base = baseline(rows, named)
  others = [row for row in rows if row is not base and not row.plain]
  if base is None or not others:
    missing = 'baseline' if base is None else 'method besides the baselines'
    return Verdict(model, 'void', f'No recommendation: there is no {missing}.')
  best = max(others, key=lambda row: row.tuned)
  gain = paired(best, base)

  def said(kind: Literal['gain', 'loss', 'none', 'void'],
           text: str) -> Verdict:
    return Verdict(model, kind, text, best.method, base.method, gain)

  if not best.trains and not base.trains:
    return said('void', 'No recommendation: nothing was better than guessing.')
  for row in (best, base):
    if row.edge and row.trains:
      return said('void', f'No recommendation: the best rate of {row.method} '
                          'lies on the edge of its grid; widen the grid.')
  if math.isnan(gain.low):
    return said('void', 'No recommendation: one seed has no interval.')
  cost = _cost(best, base)
  told = (f'{base.method}, the baseline' if named
          else f'{base.method}, the best baseline of tuning')
  if gain.low > 0:
    rival = None if named else _rival(rows, best)
    if rival is not None:
      other = paired(best, rival)
      return said('none', f'No difference between {best.method} and '
                          f'{rival.method}: {_figures(other, measure)}'
                          f'{_cost(best, rival)}. Against {told}, it is '
                          f'{_figures(gain, measure)}.')
    return said('gain', f'{best.method} beats {told}: '
                        f'{_figures(gain, measure)}{cost}.{_caution(best)}'
                        f'{"" if named else _unsearched(rows)}')
  if gain.high < 0:
    return said('loss', f'{best.method} is worse than {told}: '
                        f'{_figures(gain, measure)}{cost}.{_caution(best)}')
  return said('none', f'No difference between {best.method} and {told}: '
                      f'{_figures(gain, measure)}{cost}.')


def _caution(row: Row) -> str:
  """What weakens a difference, as sentences."""
  seeds, found = len(row.runs), ''
  if seeds in FALSE_ALARMS:
    found += (f' Not sure: of equals, {FALSE_ALARMS[seeds]} would differ so '
              f'with {seeds} seeds.')
  if len(row.sensitivity) == 1:
    found += ' Only one learning rate was tried.'
  return found


def _unsearched(rows: Sequence[Row]) -> str:
  """Names the baselines that a wider grid might have favoured."""
  return ''.join(f' The best rate of {row.method} lies on the edge of its grid;'
                 ' it may do better beyond.'
                 for row in rows if row.plain and row.edge and row.trains)


def _rival(rows: Sequence[Row], best: Row) -> Row | None:
  """The baseline nearest to a method, if the method does not beat it."""
  gains = {row.method: paired(best, row) for row in rows if row.plain}
  unbeaten = [row for row in rows
              if row.plain and not gains[row.method].low > 0]
  return min(unbeaten, key=lambda row: gains[row.method].mean, default=None)


def _figures(gain: stats.Interval, measure: Measure) -> str:
  return (f'{measure.signed(gain.mean)} {measure.points} '
          f'[{measure.signed(gain.low)}, {measure.signed(gain.high)}]')


def _cost(row: Row, other: Row) -> str:
  """How much longer a step takes, if both were timed."""
  ratios = [a / b for a, b in zip(row.rounds, other.rounds, strict=True)]
  if not ratios:
    return ''
  return f', at {statistics.median(ratios):.2f} times the time of a step'
