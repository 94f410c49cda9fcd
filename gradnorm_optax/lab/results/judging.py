"""Intervals over seeds and examples, from the answers of the fresh runs.

The judged examples chose nothing. A score varies with the seed (start, order)
and with the examples that happened to be held out; all runs answer the same
ones, so that a method may be lucky with them on every seed alike. With

    d[s, e] = mean + seed[s] + example[e] + rest[s, e]

the variance of the mean is that of all three, by the mean squares of a two-way
table without replication:

    var = (MS_seed + MS_example - MS_rest) / (seeds * examples)

and never below what either mean square says alone. Its degrees of freedom are
Satterthwaite's, the interval Student's. A score need not be a mean over
examples: d[s, e] is the jackknife's pseudo-value of a group of examples,
n * whole - (n - 1) * (whole without it).

References:
  Cornfield and Tukey, `Average Values of Mean Squares in Factorials`, 1956
  Efron and Stein, `The Jackknife Estimate of Variance`, 1981
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gradnorm_optax.lab.results.stats import Interval

GROUPS = 40  # of examples, each left out once


class Answers(NamedTuple):
  """What the fresh runs of one method answered.

  Attributes:
    evidence: One array for each seed, first axis: the judged examples; None for
      a run that diverged, which scores the worst on all of them.
    score_of: The score of some of the rows of such an array.
    worst: No score counts below it.
  """

  evidence: tuple[np.ndarray | None, ...]
  score_of: Callable[[np.ndarray], float]
  worst: float = -math.inf

  def scores(self) -> np.ndarray:
    """The score of every seed; shape (seeds,)."""
    return np.array([self._score(found) for found in self.evidence])

  def pseudo_values(self) -> np.ndarray:
    """The jackknife's; shape (seeds, groups)."""
    examples = next(
        (len(found) for found in self.evidence if found is not None), 0)
    count = min(examples, GROUPS)
    if count < 2:
      return self.scores()[:, None]
    # A fixed order: a report made again says the same.
    order = np.random.default_rng(0).permutation(examples)
    left = np.ones((count, examples), bool)
    for group, rows in enumerate(np.array_split(order, count)):
      left[group, rows] = False
    return np.array([
        [self._pseudo(found, rows) for rows in left]
        for found in self.evidence])

  def _pseudo(self, found: np.ndarray | None, rows: np.ndarray) -> float:
    if found is None:
      return self.worst
    share = rows.sum() / len(rows)  # groups may differ by one example
    whole, less = self._score(found), self._score(found[rows])
    return (whole - share * less) / (1 - share)

  def _score(self, found: np.ndarray | None) -> float:
    return self.worst if found is None else max(
        self.worst, self.score_of(found))


def interval(answers: Answers) -> Interval:
  """The mean score and its 95% interval over seeds and examples."""
  return _interval(answers.scores(), answers.pseudo_values())


def difference(answers: Answers, others: Answers) -> Interval:
  """The mean difference, paired by seed and example, and its 95% interval."""
  return _interval(answers.scores() - others.scores(),
                   answers.pseudo_values() - others.pseudo_values())


def _interval(scores: np.ndarray, table: np.ndarray) -> Interval:
  """Student's interval around the mean of the scores.

  Args:
    scores: One for each seed.
    table: The same, by seed and group of examples.
  """
  from scipy import stats
  if not len(scores):
    return Interval(math.nan, math.nan, math.nan)
  mean = float(scores.mean())
  variance, freedom = spread(table)
  if math.isnan(variance):
    return Interval(mean, math.nan, math.nan)
  reach = float(stats.t.ppf(0.975, freedom)) * math.sqrt(variance)
  return Interval(mean, mean - reach, mean + reach)


def spread(table: np.ndarray) -> tuple[float, float]:
  """The variance of a table's mean and its degrees of freedom.

  Args:
    table: By seed and group of examples.

  Returns:
    Both NaN for one seed, of which nobody knows how seeds differ; a variance of
    0 has infinite degrees of freedom.

  >>> spread(np.array([[1., 2., 3.], [1., 2., 3.]]))  # examples differ alone
  (0.333..., 2.0)
  """
  seeds, groups = table.shape
  if seeds < 2:
    return math.nan, math.nan
  mean = table.mean()
  rows, columns = table.mean(1), table.mean(0)
  rest = table - rows[:, None] - columns + mean
  squares = [groups * ((rows - mean) ** 2).sum() / (seeds - 1)]
  freedom = [seeds - 1]
  if groups > 1:
    both = (seeds - 1) * (groups - 1)
    squares += [seeds * ((columns - mean) ** 2).sum() / (groups - 1),
                (rest ** 2).sum() / both]
    freedom += [groups - 1, both]
    total = squares[0] + squares[1] - squares[2]
  else:
    total = squares[0]
  largest = int(np.argmax(squares[:2]))
  if total <= squares[largest]:
    squares, freedom = squares[largest:largest + 1], [freedom[largest]]
    total = squares[0]
  if total == 0:
    return 0.0, math.inf
  weight = sum(part ** 2 / count for part, count in zip(
      squares, freedom, strict=True))
  return float(total / table.size), float(total ** 2 / weight)
