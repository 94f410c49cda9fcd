"""What a comparison lets one say, and when it lets one say nothing."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

from gradnorm_optax.lab.objective.quality import ACCURACY, Measure
from gradnorm_optax.lab.results import stats, time_ratio
from gradnorm_optax.lab.results.findings import Row, Verdict

# The difference of two rows' scores, paired by seed and example.
Gain = Callable[[Row, Row], stats.Interval]


def baseline(rows: Sequence[Row], named: str | None) -> Row | None:
  """The named baseline, else the one that did best on the tuning seeds."""
  if named is not None:
    return next((row for row in rows if row.method == named), None)
  return max((row for row in rows if row.plain),
             key=lambda row: row.tuned, default=None)


def judge(rows: Sequence[Row], named: str | None, difference: Gain,
          measure: Measure = ACCURACY) -> Verdict:
  """Compares the most promising method with the best baseline.

  Both are nominated by the tuning seeds on the validation part and compared by
  the fresh ones on the test part, so that choosing the best of many does not
  flatter it. Where none is named, a gain must also hold against every other
  baseline: tuning may have chosen the wrong one. It may also have given the
  loser a bad rate: a difference must exceed `regret`.
  """
  model = rows[0].model
  base = baseline(rows, named)
  others = [row for row in rows if row is not base and not row.plain]
  if base is None or not others:
    missing = 'baseline' if base is None else 'method besides the baselines'
    return Verdict(model, 'void', f'No recommendation: there is no {missing}.')
  best = max(others, key=lambda row: row.tuned)
  gain = difference(best, base)

  def said(kind: Literal['gain', 'loss', 'none', 'void'], text: str,
           choice: Row | None = None, but: str = '') -> Verdict:
    advice = '' if choice is None else (
        f' {"Use" if kind == "gain" else "Keep"} {choice.method}.')
    return Verdict(
        model, kind, text + but + advice, best.method, base.method, gain,
        None if choice is None else choice.method, not but)

  if all(row.fault is not None for row in rows):
    return said('void', 'No recommendation: not one run stayed finite. The '
                        f'first of {best.method}: {best.fault}.')
  if not best.trains and not base.trains:
    return said('void', 'No recommendation: nothing was better than guessing.')
  for row in (best, base):
    if row.edge and row.trains:
      return said('void', f'No recommendation: the best rate of {row.method} '
                          'lies on the edge of its grid; widen the grid.')
  if math.isnan(gain.low):
    return said('void', 'No recommendation: one seed has no interval.')
  told = (f'{base.method}, the baseline' if named
          else f'{base.method}, the best baseline of tuning')
  figures = (f'{_figures(gain, measure)}{_errors(best, base, measure)}'
             f'{_cost(best, base)}.')
  loser = base if gain.low > 0 else best
  if 0 < max(gain.low, -gain.high) <= regret(loser):
    return said('none', f'No difference between {best.method} and {told}: '
                        f'{figures}', base, _unlucky(loser, measure))
  if gain.low > 0:
    rival = None if named else _rival(rows, best, difference)
    if rival is not None:
      return said(
          'none', f'No difference between {best.method} and {rival.method}: '
                  f'{_figures(difference(best, rival), measure)}'
                  f'{_cost(best, rival)}. Against {told}, it is '
                  f'{_figures(gain, measure)}.', rival,
          _unlucky(rival, measure) if difference(best, rival).low > 0 else '')
    return said('gain', f'{best.method} beats {told}: {figures}', best,
                _caution(best) + ('' if named else _unsearched(rows)))
  if gain.high < 0:
    return said('loss', f'{best.method} is worse than {told}: {figures}', base,
                _caution(best))
  return said('none', f'No difference between {best.method} and {told}: '
                      f'{figures}', base)


def regret(row: Row) -> float:
  """How much better another rate looked than the chosen one proved to be.

  Tuning may choose a rate for its luck on few seeds: then the fresh seeds score
  less on the same validation part, and another rate, passed over, may be better
  than that. Of equals that tuning gave different rates, many would differ.
  """
  others = [point.score for point in row.sensitivity
            if (point.rate, point.settings) != (row.rate, row.settings)]
  return max(0.0, max(others, default=-math.inf) - row.validation)


def _unlucky(row: Row, measure: Measure) -> str:
  """Says that tuning may have chosen the wrong rate."""
  return (f' Not sure: on tuning, {row.method} at another rate was '
          f'{measure.signed(regret(row))} {measure.points} better on '
          'validation than its fresh seeds at the chosen one; raise '
          'compare.tune_seeds.')


def _caution(row: Row) -> str:
  """What weakens a difference, as a sentence."""
  if len(row.sensitivity) == 1:
    return ' Not sure: only one learning rate was tried.'
  return ''


def _unsearched(rows: Sequence[Row]) -> str:
  """Names the baselines that a wider grid might have favoured."""
  return ''.join(f' Not sure: the best rate of {row.method} lies on the edge '
                 'of its grid; it may do better beyond.'
                 for row in rows if row.plain and row.edge and row.trains)


def _rival(rows: Sequence[Row], best: Row, difference: Gain) -> Row | None:
  """The baseline nearest to a method, if the method does not beat it."""
  gains = {row.method: difference(best, row) for row in rows if row.plain}
  unbeaten = [row for row in rows
              if row.plain and not gains[row.method].low > regret(row)]
  return min(unbeaten, key=lambda row: gains[row.method].mean, default=None)


def _figures(gain: stats.Interval, measure: Measure) -> str:
  return (f'{measure.signed(gain.mean)} {measure.points} '
          f'[{measure.signed(gain.low)}, {measure.signed(gain.high)}]')


def _errors(row: Row, other: Row, measure: Measure) -> str:
  """What scores of numbers mean in the label's own unit."""
  if measure.deviation is None:
    return ''
  return (f', a root mean square error of {measure.error(row.score.mean)} '
          f'instead of {measure.error(other.score.mean)} in the label\'s unit')


def _cost(row: Row, other: Row) -> str:
  """How much longer a step takes, if both were timed."""
  if not row.rounds:
    return ''
  found = time_ratio.ratio(row.rounds, other.rounds)
  return (f', at {found.mean:.2f} [{found.low:.2f}, {found.high:.2f}] times '
          'the time of a step')
