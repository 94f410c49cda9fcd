"""What a panel shows, for those who cannot see it."""

from collections.abc import Mapping, Sequence

import numpy as np

from gradnorm_optax.lab.objective.quality import Measure
from gradnorm_optax.lab.results.findings import Row
from gradnorm_optax.lab.results.look import QUANTILES, Look

_MEDIAN = QUANTILES.index(0.5)


def scores(rows: Sequence[Row], measure: Measure) -> str:
  """Final scores with their intervals."""
  def one(row: Row) -> str:
    if not row.trains:
      return f'{row.method} does not train'
    between = (f' [{measure.show(row.score.low)}, '
               f'{measure.show(row.score.high)}]') if row.seeds > 1 else ''
    return f'{row.method} {measure.figure(row.score.mean)}{between}'
  return f'test {measure.name}: ' + '; '.join(map(one, rows))


def curves(row: Row, measure: Measure) -> str:
  """Where a method's curves end."""
  end = (f'validation {measure.name} {measure.figure(row.validation)} at the '
         f'end, training loss {row.train_loss:.3g}')
  if row.runs:
    ends = [measure.show(run.score) for run in row.runs]
    end += f'; by run {", ".join(ends)}'
  lost = f'; {row.diverged} of {row.seeds} diverged' * bool(row.diverged)
  return f'{end}{"" if row.trains else "; does not train"}{lost}'


def sensitivity(row: Row, measure: Measure) -> str:
  """The score at every rate."""
  return ', '.join(
      f'{measure.figure(point.score)} at {point.rate:g}'
      + f' ({point.diverged} diverged)' * bool(point.diverged)
      for point in row.sensitivity) + f'; chosen: {row.rate:g}'


def searched(row: Row, key: str, measure: Measure) -> str:
  """The score of every point by one setting."""
  return ', '.join(
      f'{measure.figure(point.score)} at {point.settings[key]}'
      for point in row.sensitivity) + f'; chosen: {row.settings[key]}'


def norms(look: Look) -> str:
  """How far the blocks' norms lie apart."""
  return (f'largest over smallest median of a block: gradient '
          f'{spread(look.gradient)}, at the moments {spread(look.after)}, '
          f'update over parameters {spread(look.ratio)}')


def entries(look: Look) -> str:
  """How far the blocks' entries lie apart."""
  return (f'largest over smallest median entry of a block: gradient '
          f'{spread(look.before[..., _MEDIAN])}, at the moments '
          f'{spread(look.reached[..., _MEDIAN])}')


def through_time(moments: Mapping[int, Sequence[float | None]]) -> str:
  """The ends of the last profile."""
  return f'after step {max(moments)}: {ends(moments[max(moments)])}'


def spread(norms: np.ndarray) -> str:
  """The largest median norm of a block over the smallest.

  >>> spread(np.array([[1.0, 100.0, 0.0]]))
  '100'
  """
  usual = np.median(norms, axis=0)
  usual = usual[np.isfinite(usual) & (usual > 0)]
  return f'{usual.max() / usual.min():.3g}' if len(usual) else 'none is finite'


def ends(norms: Sequence[float | None]) -> str:
  """A profile's first and last figures.

  >>> ends([None, -3.0, 0.5])
  '10^-3 at step 2 of the sequence, 10^0.5 at step 3'
  """
  shown = [(i, v) for i, v in enumerate(norms, 1) if v is not None]
  if not shown:
    return 'zero or not finite'
  (first, low), (last, high) = shown[0], shown[-1]
  return (f'10^{low:g} at step {first} of the sequence, 10^{high:g} at step '
          f'{last}')
