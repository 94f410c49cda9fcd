"""What guessing scores: answers that have nothing to do with the labels.

Each takes the `counts` of the labels by class and the number of the positive
class, None for an average over the classes, and returns the score of guessing
and by how much it may exceed that by luck: three standard errors, or as rarely.
"""

import math

import numpy as np

RARE = 0.99865  # of a normal variable, three standard deviations


def accuracy(counts: np.ndarray,
             positive: int | None = None) -> tuple[float, float]:
  """The share of the commonest class.

  >>> chance, margin = accuracy(np.array([75, 25]))
  >>> chance, round(margin, 4)
  (0.75, 0.1299)
  """
  del positive
  share = float(counts.max() / counts.sum())
  return share, 3 * math.sqrt(share * (1 - share) / counts.sum())


def balanced_accuracy(counts: np.ndarray,
                      positive: int | None = None) -> tuple[float, float]:
  """One in as many as there are classes.

  Answers given with probabilities q find a share of class c with variance
  q_c (1 - q_c) / n_c; the margin is of the q for which the mean over the
  classes varies most, or somewhat more.
  """
  del positive
  held = counts[counts > 0]
  classes = len(held)
  variance = min((1 / (4 * held)).sum(), (1 - 1 / classes) / held.min())
  return 1 / classes, 3 * math.sqrt(variance) / classes


def f1(counts: np.ndarray, positive: int | None = None) -> tuple[float, float]:
  """That of answering the positive class always; of several classes one in as
  many as there are, which answers in the classes' own shares give.

  Of the positive class the margin is exact: what no number of answers, given
  at random, exceeds more often than once in 740 times.
  """
  from scipy import stats
  total = int(counts.sum())
  if positive is not None:
    answers = np.unique(np.geomspace(1, total, 40).round())
    right = stats.hypergeom.ppf(RARE, total, counts[positive], answers)
    most = (2 * right / (counts[positive] + answers)).max()
    chance = 2 * counts[positive] / (counts[positive] + total)
    return float(chance), float(max(most - chance, 0.0))
  held = counts[counts > 0]
  deviation = (1 - held / total) / math.sqrt(max(total - 1, 1))
  return 1 / len(held), float(3 * deviation.mean())


def auc(counts: np.ndarray, positive: int | None = None) -> tuple[float, float]:
  """A half, with the standard error of Mann and Whitney's statistic."""
  total = counts.sum()
  held = counts[counts > 0] if positive is None else counts[[positive]]
  rest = np.maximum(total - held, 1)
  deviation = np.sqrt((total + 1) / (12 * held * rest))
  return 0.5, min(float(3 * deviation.mean()), 0.5)


def average_precision(counts: np.ndarray,
                      positive: int | None = None) -> tuple[float, float]:
  """The share of the class.

  How far luck leads has no simple formula and is drawn: 2000 orders at random,
  of 2000 labels at most. A class that is rare is lucky lopsidedly, so that of
  the positive class it is what one order in 740 exceeds; of several classes
  it is three standard errors, averaged.
  """
  scale = max(1.0, counts.sum() / 2000)
  counts = np.ceil(counts / scale).astype(int)
  total = int(counts.sum())
  rng = np.random.default_rng(0)
  chosen = counts[counts > 0] if positive is None else counts[[positive]]
  held, several = np.unique(chosen, return_counts=True)
  drawn = np.empty((2000, len(held)))
  for row in drawn:
    order = rng.permutation(total) + 1.0
    # In a random order the first n places are as good as any for a class.
    row[:] = [np.mean(np.arange(1, n + 1) / np.sort(order[:n])) for n in held]
  chance, middle = held / total, drawn.mean(0)
  reach = np.quantile(drawn, RARE, 0) - middle if positive is not None else (
      3 * drawn.std(0))
  luck = (middle - chance) / scale + reach / math.sqrt(scale)
  share = several / several.sum()
  return float(share @ chance), float(share @ np.minimum(luck, 1 - chance))
