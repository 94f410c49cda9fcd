"""What guessing scores: answers that have nothing to do with the labels.

Each takes the `counts` of the labels by class and the number of the positive
class, None for an average over the classes, and returns the score of guessing
and by how much it may exceed that by luck: three standard errors.
"""

import math

import numpy as np


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
  many as there are, which answers in the classes' own shares give."""
  total = int(counts.sum())
  if positive is not None:
    share = counts[positive] / total
    answers = np.arange(1, total + 1)
    # How many of them are right is hypergeometric.
    deviation = np.sqrt(answers * share * (1 - share) * (
        total - answers) / max(total - 1, 1))
    most = 2 * (answers * share + 3 * deviation) / (counts[positive] + answers)
    chance = 2 * share / (1 + share)
    return float(chance), float(max(0.0, min(most.max(), 1.0) - chance))
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

  Its standard error has no simple formula and is that of 300 orders drawn at
  random, of 5000 labels at most; their mean is a little above the share and
  counts to the margin.
  """
  scale = max(1.0, counts.sum() / 5000)
  counts = np.ceil(counts / scale).astype(int)
  total = int(counts.sum())
  held = counts[counts > 0] if positive is None else counts[[positive]]
  rng, found = np.random.default_rng(0), []
  for _ in range(300):
    order = rng.permutation(total) + 1.0
    # In a random order, the first n places are as good as any for a class.
    found.append([np.mean(np.arange(1, n + 1) / np.sort(order[:n]))
                  for n in held])
  drawn = np.array(found)
  chance = held / total
  luck = drawn.mean(0) - chance + 3 * drawn.std(0) / math.sqrt(scale)
  return float(chance.mean()), float(min(luck.mean(), (1 - chance).mean()))
