"""What a step costs against another's: one figure for a pair, everywhere."""

import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from gradnorm_optax.lab.results.stats import Interval

RESAMPLES = 2000


def level(rounds: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
  """Takes out of the rounds by how much each was slower than the others.

  In a round all programs take turns, so that what slows the machine slows all
  of them. Divided by the median program of its round, and multiplied by the
  median of those medians, the medians of two programs have the ratio of their
  steps.

  >>> level({'a': [1., 2., 1.], 'b': [3., 6., 3.]})
  {'a': [1.0, 1.0, 1.0], 'b': [3.0, 3.0, 3.0]}
  """
  shared = [statistics.median(column)
            for column in zip(*rounds.values(), strict=True)]
  usual = statistics.median(shared)
  if min(shared) <= 0:  # steps too short for this clock
    return {name: list(times) for name, times in rounds.items()}
  return {name: [t * usual / s for t, s in zip(times, shared, strict=True)]
          for name, times in rounds.items()}


def ratio(times: Sequence[float], others: Sequence[float]) -> Interval:
  """The ratio of two steps' median times and its bootstrap 95% interval.

  Rounds are resampled whole, so that what both share counts once.

  Args:
    times: Seconds of a step by round, levelled.
    others: Those of the step it is compared with, in the same rounds.

  >>> ratio([3., 3., 3.], [2., 2., 2.])
  Interval(mean=1.5, low=1.5, high=1.5)
  """
  pair = np.array([times, others], np.float64)
  rows = np.random.default_rng(0).integers(
      0, pair.shape[1], (RESAMPLES, pair.shape[1]))
  with np.errstate(divide='ignore', invalid='ignore'):
    above, below = np.median(pair[:, rows], axis=2)
    low, high = np.quantile(above / below, (0.025, 0.975), method='nearest')
    middle = np.divide(*np.median(pair, axis=1))
  return Interval(float(middle), float(low), float(high))
