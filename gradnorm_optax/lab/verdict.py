"""What a comparison lets one say, and when it lets one say nothing."""

import math
from collections.abc import Sequence
from typing import Literal

from gradnorm_optax.lab import stats
from gradnorm_optax.lab.findings import Row, Verdict
from gradnorm_optax.lab.objective import ACCURACY, Measure


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
  that choosing the best of many does not flatter it.
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
  figures = (f'{measure.signed(gain.mean)} {measure.points} '
             f'[{measure.signed(gain.low)}, {measure.signed(gain.high)}]')
  cost = ''
  if best.step_seconds and base.step_seconds:
    ratio = best.step_seconds / base.step_seconds
    cost = f', at {ratio:.2f} times the time of a step'
  if gain.low > 0:
    return said('gain', f'{best.method} beats {base.method}, the best '
                        f'baseline: {figures}{cost}.')
  if gain.high < 0:
    return said('loss', f'{best.method} is worse than {base.method}, the best '
                        f'baseline: {figures}{cost}.')
  return said('none', f'No difference between {best.method} and {base.method}, '
                      f'the best baseline: {figures}{cost}.')
