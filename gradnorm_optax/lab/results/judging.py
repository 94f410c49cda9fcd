"""Intervals over seeds and examples, from the answers of the fresh runs.

The judged examples chose nothing. A score varies with the seed (start, order)
and with the examples that happened to be held out; all runs answer the same
ones, so that a method may be lucky with them on every seed alike. With

    d[s, e] = mean + seed[s] + example[e] + rest[s, e]

the variance of the mean is that of all three, by the mean squares of a two-way
table without replication:

    var = (MS_seed + MS_example - MS_rest) / (seeds * examples)

with Satterthwaite's degrees of freedom. Of two or three seeds these are too
many as often as too few: the interval is never narrower than Student's over the
seeds alone, or over the examples alone. With that, of equals at most 5% differ
(`python -m benchmarks judging`). A score need not be a mean over
examples: d[s, e] is the jackknife's pseudo-value of a group of examples,
n * whole - (n - 1) * (whole without it). Of examples that belong together
(`data.group`) whole groups are left out: patients differ, not only their
measurements. Groups of unequal size count as in the delete-m jackknife.

References:
  Cornfield and Tukey, `Average Values of Mean Squares in Factorials`, 1956
  Efron and Stein, `The Jackknife Estimate of Variance`, 1981
  Busing, Meijer and van der Leeden, `Delete-m Jackknife for Unequal m`, 1999
"""

import dataclasses
import functools
import heapq
import math
from collections.abc import Callable, Sequence

import numpy as np

from gradnorm_optax.lab.results.stats import Interval

GROUPS = 40  # of examples, each left out once


@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
  """What the fresh runs of one method answered.

  Attributes:
    evidence: One array for each seed, first axis: the judged examples; None for
      a run that diverged, which scores the worst on all of them.
    score_of: The score of some of the rows of such an array.
    worst: No score counts below it.
    groups: To which group each example belongs; None where each stands alone.
  """

  evidence: tuple[np.ndarray | None, ...]
  score_of: Callable[[np.ndarray], float]
  worst: float = -math.inf
  groups: tuple[int, ...] | None = None

  def scores(self) -> np.ndarray:
    """The score of every seed; shape (seeds,)."""
    return np.array([self._score(found) for found in self.evidence])

  def unanimous(self) -> int:
    """How many examples all runs answered rightly, or all wrongly; else 0.

    Of scores that are a right or a wrong, one for each example; of groups, how
    many of those.
    """
    if not self.evidence or any(found is None or found.shape[1] < 2
                                for found in self.evidence):
      return 0
    scores = np.array([found[:, 0] for found in self.evidence
                       if found is not None])
    labels = np.array([found[:, 1] for found in self.evidence
                       if found is not None])
    if (labels != 1).any() or not ((scores == 0).all() or (scores == 1).all()):
      return 0
    return scores.shape[1] if self.groups is None else len(set(self.groups))

  def pseudo_values(self) -> np.ndarray:
    """The jackknife's; shape (seeds, groups)."""
    return self._pseudo_values

  @functools.cached_property
  def _pseudo_values(self) -> np.ndarray:
    """Computed once: a score may be slow, and each row asks for several."""
    examples = next(
        (len(found) for found in self.evidence if found is not None), 0)
    parts = groups(examples, self.groups)
    if len(parts) < 2:
      return self.scores()[:, None]
    return np.array([self._row(found, parts) for found in self.evidence])

  def _row(self, found: np.ndarray | None,
           parts: list[np.ndarray]) -> np.ndarray:
    """The pseudo-values of one run."""
    whole = self._score(found)
    if found is None or whole <= self.worst:
      return np.full(len(parts), self.worst)
    share = np.array([len(rows) for rows in parts]) / len(found)
    less = np.array([self._score(np.delete(found, rows, 0)) for rows in parts])
    off = (1 / share - 1) * (whole - less)  # of the pseudo-values from `whole`
    mean = share @ off
    # Of parts of unequal size each as far from the mean as it counts.
    return whole + mean + (off - mean) * np.sqrt(
        (len(parts) - 1) * share / (1 - share))

  def _score(self, found: np.ndarray | None) -> float:
    return self.worst if found is None else max(
        self.worst, self.score_of(found))


def groups(examples: int,
           of: Sequence[int] | None = None) -> list[np.ndarray]:
  """Cuts examples into parts, whole groups of them if they have any.

  In a fixed order: a report made again says the same.

  Args:
    examples: How many there are.
    of: To which group each belongs.

  Returns:
    The rows of each part, at most `GROUPS`; of groups as even as they allow.
  """
  rng = np.random.default_rng(0)
  if of is None:
    order = rng.permutation(examples)
    return np.array_split(order, min(examples, GROUPS)) if examples else []
  names, places, sizes = np.unique(
      of, return_inverse=True, return_counts=True)
  order = rng.permutation(len(names))
  parts: list[list[int]] = [[] for _ in names[:GROUPS]]
  filled = [(0, i) for i in range(len(parts))]
  for group in order[np.argsort(-sizes[order], kind='stable')]:
    size, part = heapq.heappop(filled)
    parts[part].append(group)
    heapq.heappush(filled, (size + int(sizes[group]), part))
  return [np.flatnonzero(np.isin(places, part)) for part in parts]


def interval(answers: Answers) -> Interval:
  """The mean score and its 95% interval over seeds and examples.

  Where every run got every example right (or every one wrong) nothing varies;
  the interval is then Clopper and Pearson's of so many examples.
  """
  found = of_table(answers.scores(), answers.pseudo_values())
  count = answers.unanimous()
  if count and found.low == found.high:
    from scipy import stats
    low, high = stats.binomtest(
        round(found.mean * count), count).proportion_ci()
    return Interval(found.mean, float(low), float(high))
  return found


def difference(answers: Answers, others: Answers) -> Interval:
  """The mean difference, paired by seed and example, and its 95% interval."""
  return of_table(answers.scores() - others.scores(),
                  answers.pseudo_values() - others.pseudo_values())


def of_table(scores: np.ndarray, table: np.ndarray) -> Interval:
  """Student's interval around the mean of the scores.

  Args:
    scores: One for each seed.
    table: The same, by seed and group of examples.
  """
  if not len(scores):
    return Interval(math.nan, math.nan, math.nan)
  # Of a score that is no mean the pseudo-values' means are not the scores.
  mean = float(scores.mean())
  half = max(half_width(table), half_width(scores[:, None]))
  return Interval(mean, mean - half, mean + half)


def half_width(table: np.ndarray) -> float:
  """Half of the 95% interval of a table's mean.

  Args:
    table: By seed and group of examples.

  Returns:
    NaN for one seed, of which nobody knows how seeds differ.

  >>> half_width(np.array([[1., 3.], [1., 3.]]))  # examples differ alone
  12.706...
  """
  from scipy import special
  seeds, groups = table.shape
  if seeds < 2:
    return math.nan
  mean, rows, columns = table.mean(), table.mean(1), table.mean(0)
  rest = table - rows[:, None] - columns + mean
  # Variances of the mean, by what causes them, and their degrees of freedom.
  seed, example, both = (
      float((part ** 2).mean()) / max(1, free) for part, free in (
          (rows - mean, seeds - 1), (columns - mean, groups - 1),
          (rest, (seeds - 1) * (groups - 1))))
  known = [(seed, seeds - 1.0)]
  if groups > 1:
    known.append((example, groups - 1.0))
    total = seed + example - both
    if total > max(seed, example):
      known.append((total, total ** 2 / (
          seed ** 2 / (seeds - 1) + example ** 2 / (groups - 1)
          + both ** 2 / ((seeds - 1) * (groups - 1)))))
  return max(float(special.stdtrit(freedom, 0.975)) * math.sqrt(variance)
             for variance, freedom in known)
