"""Scores of classes that are no mean over the labels.

Each is scikit-learn's, on all labels and outputs of a part, by a formula that
NumPy and JAX share: during training it is computed where the outputs are, in a
program that stays cacheable and can be vmapped; afterwards, over and over, of
the answers that a run left.

With two classes F1, AUC and average precision look at one of them, the
positive one; with more they are averages over the classes, each against the
rest, and a class that does not occur in the part has no say.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from gradnorm_optax.lab.objective import guessing
from gradnorm_optax.lab.objective.quality import Measure


class ClassScore(NamedTuple):
  """A score of all labels and outputs at once.

  Attributes:
    measure: What it is called; `{}` in its meaning stands for the positive
      class.
    several: Its meaning where it is an average over the classes.
    figure: `figure(numpy, y, outputs, held, positive)`, with NumPy or
      `jax.numpy`; `held` is 1 where there is a label, else 0.
    guess: `guess(counts, positive)`: what guessing gives, and by how much luck
      may exceed that.
  """

  measure: Measure
  several: str
  figure: Callable[..., Any]
  guess: Callable[[np.ndarray, int | None], tuple[float, float]]

  def named(self, positive: str | None) -> Measure:
    """What it is called, for a positive class or as an average."""
    return self.measure._replace(
        meaning=self.several if positive is None
        else self.measure.meaning.format(positive))


def _tallies(numpy: Any, y: Any, outputs: Any, held: Any) -> tuple[Any, ...]:
  """Right answers, labels and answers of every class; each (classes,)."""
  found, width = outputs.argmax(-1), outputs.shape[-1]

  def tally(index: Any, weights: Any) -> Any:
    if numpy is np:
      return np.bincount(index, weights, width)
    return jnp.bincount(index, weights, length=width)

  return (tally(y, held * (found == y)), tally(y, held), tally(found, held))


def _over(numpy: Any, present: Any, values: Any) -> Any:
  """The mean over the classes that are present; 0 if none is."""
  return numpy.where(present, values, 0).sum() / numpy.maximum(
      present.sum(), 1)


def _balanced_accuracy(numpy: Any, y: Any, outputs: Any, held: Any,
                       positive: int | None) -> Any:
  del positive
  right, labels, _ = _tallies(numpy, y, outputs, held)
  return _over(numpy, labels > 0, right / numpy.maximum(labels, 1))


def _f1(numpy: Any, y: Any, outputs: Any, held: Any,
        positive: int | None) -> Any:
  right, labels, answers = _tallies(numpy, y, outputs, held)
  each = 2 * right / numpy.maximum(labels + answers, 1)
  return each[positive] if positive is not None else _over(
      numpy, labels + answers > 0, each)


def _auc(numpy: Any, is_class: Any, rest: Any, at: Any, past: Any) -> Any:
  """How much of the rest stands below, ties by half, over the class."""
  below = numpy.cumsum(numpy.pad(rest, (1, 0)))
  share = (below[at] + below[past]) / 2 / numpy.maximum(rest.sum(), 1)
  return (is_class * share).sum() / numpy.maximum(is_class.sum(), 1)


def _average_precision(numpy: Any, is_class: Any, rest: Any, at: Any,
                       past: Any) -> Any:
  """The precision among all that score as high, over the class."""
  del past
  found, all_found = (numpy.cumsum(one[::-1])[::-1][at]
                      for one in (is_class, is_class + rest))
  precision = found / numpy.maximum(all_found, 1)
  return (is_class * precision).sum() / numpy.maximum(is_class.sum(), 1)


def _ranked(figure: Callable[..., Any]) -> Callable[..., Any]:
  """A figure of an order: of the positive class, or averaged."""
  def score(numpy: Any, y: Any, outputs: Any, held: Any,
            positive: int | None) -> Any:
    odds = log_odds(numpy, outputs)

    def one(index: Any, odds: Any) -> tuple[Any, Any]:
      order = numpy.argsort(odds)
      ranks, weights = odds[order], held[order]
      is_class = weights * (y == index)[order]
      rest = weights - is_class
      found = figure(numpy, is_class, rest, *(
          numpy.searchsorted(ranks, ranks, side) for side in ('left', 'right')))
      return found, (is_class.sum() > 0) & (rest.sum() > 0)

    if positive is not None:
      return one(positive, odds[:, positive])[0]
    if numpy is np:
      found, present = map(np.array, zip(*(
          one(index, column) for index, column in enumerate(odds.T)),
          strict=True))
    else:
      # A few at a time: of many classes the sorted columns would not fit.
      found, present = jax.lax.map(
          lambda column: one(*column), (jnp.arange(odds.shape[1]), odds.T),
          batch_size=16)
    return _over(numpy, present, found)

  return score


def log_odds(numpy: Any, outputs: Any) -> Any:
  """What a class is ranked by: its odds where there are two, else its log
  probability; shape (N, classes)."""
  if outputs.shape[-1] == 2:
    return outputs - outputs[:, ::-1]
  top = outputs - outputs.max(-1, keepdims=True)
  return top - numpy.log(numpy.exp(top).sum(-1, keepdims=True))


CLASS_SCORES = {
    'balanced_accuracy': ClassScore(
        Measure('balanced accuracy', 'share of each class that is found, '
                'averaged over the classes'),
        'share of each class that is found, averaged over the classes',
        _balanced_accuracy, guessing.balanced_accuracy),
    'f1': ClassScore(
        Measure('F1', 'harmonic mean of precision and recall of {!r}', '', 1.),
        'harmonic mean of precision and recall, averaged over the classes',
        _f1, guessing.f1),
    'auc': ClassScore(
        Measure('AUC', 'how often one of {!r} is ranked above one of the other '
                'class', '', 1.0),
        'how often one of a class is ranked above one of the rest, averaged '
        'over the classes',
        _ranked(_auc), guessing.auc),
    'average_precision': ClassScore(
        Measure('average precision', 'precision at each example of {!r} that '
                'is found, averaged', '', 1.0),
        'precision at each example of a class that is found, averaged over '
        'them and over the classes',
        _ranked(_average_precision), guessing.average_precision)}
