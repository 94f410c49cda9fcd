"""Intervals over seeds, steps to a target, and what guessing would score."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gradnorm_optax.lab.support.json_safe import OrNan


class Interval(NamedTuple):
  """A mean and its 95% interval."""

  mean: OrNan
  low: OrNan
  high: OrNan


def mean_interval(values: Sequence[float], seed: int = 0) -> Interval:
  """The mean and its bootstrap 95% interval (percentiles, 9999 resamples).

  Plain percentiles of n values are too narrow, by sqrt(n / (n - 1)) and by the
  difference of the normal to Student's distribution: of equals, with 5 values,
  17% would differ "significantly". The percentiles are moved out by both
  factors (Hesterberg's expanded percentiles), which leaves 8% with 5 values and
  6% with 10. Of 2, 3 or 4 values the interval is all that they span, which
  leaves out zero where they have one sign: 50%, 25% or 12.5% remain.

  Args:
    values: One figure for each seed.
    seed: Of the resampling, fixed so that a report can be made again.

  Returns:
    The interval; NaN bounds for a single value, which has none.

  References:
    Hesterberg, `What Teachers Should Know About the Bootstrap
    <https://arxiv.org/abs/1411.5279>`_, 2014, section 4

  >>> mean_interval([0.5, 0.5, 0.5])
  Interval(mean=0.5, low=0.5, high=0.5)
  """
  from scipy import stats
  sample = np.asarray(values, np.float64)
  if not len(sample):
    return Interval(math.nan, math.nan, math.nan)
  mean = float(sample.mean())
  if len(sample) == 1:
    return Interval(mean, math.nan, math.nan)
  if np.ptp(sample) == 0:
    return Interval(mean, mean, mean)
  count = len(sample)
  reach = stats.t.ppf(0.975, count - 1) * math.sqrt(count / (count - 1))
  bounds = stats.bootstrap(
      (sample,), np.mean, method='percentile',
      confidence_level=2 * float(stats.norm.cdf(reach)) - 1,
      rng=np.random.default_rng(seed)).confidence_interval
  return Interval(mean, float(bounds.low), float(bounds.high))


def steps_to_target(scores: Sequence[float], target: float,
                    every: int) -> float:
  """The first evaluated step whose score reaches the target, else inf.

  >>> steps_to_target([0.1, 0.6, 0.5, 0.7], 0.6, every=50)
  100.0
  """
  reached = np.flatnonzero(np.asarray(scores, np.float64) >= target)
  return float((reached[0] + 1) * every) if len(reached) else math.inf


def trains(scores: Sequence[float], chance: float, margin: float) -> bool:
  """Says whether the best of several runs is better than guessing.

  Args:
    scores: Of all runs.
    chance: The score of guessing.
    margin: What guessing may gain by luck; see `objective`.

  >>> trains([0.08, 0.12], chance=0.1, margin=0.05)
  False
  >>> trains([0.08, 0.2], chance=0.1, margin=0.05)
  True
  """
  return max(scores, default=-math.inf) > chance + margin
