"""Scores of classes that are no mean over the labels.

Each is scikit-learn's, on all labels and outputs of a part. During training it
is computed where the outputs are, by the same formula in JAX, so that programs
stay cacheable, can be vmapped, and bring no outputs to the host.

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
    several: Its meaning with more than two classes.
    traced: `traced(y, outputs, held, positive)`, in JAX; `held` is 1 where
      there is a label, else 0.
    exact: `exact(y, outputs, weights, positive)`, by scikit-learn.
    guess: `guess(counts, positive)`: what guessing gives, and by how much luck
      may exceed that.
  """

  measure: Measure
  several: str
  traced: Callable[..., jax.Array]
  exact: Callable[..., float]
  guess: Callable[[np.ndarray, int | None], tuple[float, float]]

  def named(self, positive: str | None) -> Measure:
    """What it is called, for a positive class or an average over all."""
    return self.measure._replace(
        meaning=self.several if positive is None
        else self.measure.meaning.format(positive))


def _tallies(y: Any, outputs: Any, held: Any) -> tuple[jax.Array, ...]:
  """Right answers, labels and answers of every class; each (classes,)."""
  found, none = outputs.argmax(-1), jnp.zeros(outputs.shape[-1])
  return (none.at[y].add(held * (found == y)), none.at[y].add(held),
          none.at[found].add(held))


def _over(present: jax.Array, values: jax.Array) -> jax.Array:
  """The mean over the classes that are present."""
  return jnp.where(present, values, 0).sum() / jnp.maximum(present.sum(), 1)


def _balanced_accuracy(y: Any, outputs: Any, held: Any,
                       positive: int | None) -> jax.Array:
  del positive
  right, labels, _ = _tallies(y, outputs, held)
  return _over(labels > 0, right / jnp.maximum(labels, 1))


def _f1(y: Any, outputs: Any, held: Any, positive: int | None) -> jax.Array:
  right, labels, answers = _tallies(y, outputs, held)
  each = 2 * right / jnp.maximum(labels + answers, 1)
  return each[positive] if positive is not None else _over(
      labels + answers > 0, each)


def _auc(is_class: jax.Array, rest: jax.Array, at: jax.Array,
         past: jax.Array) -> jax.Array:
  """The share of the rest that stands below, ties half, over the class."""
  below = jnp.cumsum(jnp.pad(rest, (1, 0)))
  share = (below[at] + below[past]) / 2 / jnp.maximum(rest.sum(), 1)
  return (is_class * share).sum() / jnp.maximum(is_class.sum(), 1)


def _average_precision(is_class: jax.Array, rest: jax.Array, at: jax.Array,
                       past: jax.Array) -> jax.Array:
  """The precision among all that score as high, over the class."""
  del past
  upwards = [jnp.cumsum(jnp.pad(a, (0, 1))[::-1])[::-1][at]
             for a in (is_class, is_class + rest)]
  precision = upwards[0] / jnp.maximum(upwards[1], 1)
  return (is_class * precision).sum() / jnp.maximum(is_class.sum(), 1)


def _ranked(figure: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
  """A figure of an order: of the positive class, or averaged."""
  def one(y: Any, odds: Any, held: Any, index: Any) -> tuple[Any, Any]:
    order = jnp.argsort(odds)
    odds, is_class, held = odds[order], (y == index)[order], held[order]
    found = figure(
        held * is_class, held * ~is_class, *(jnp.searchsorted(
            odds, odds, side, method='sort') for side in ('left', 'right')))
    return found, ((held * is_class).sum() > 0) & (
        (held * ~is_class).sum() > 0)

  def traced(y: Any, outputs: Any, held: Any,
             positive: int | None) -> jax.Array:
    odds = log_odds(outputs, jnp)
    if positive is not None:
      return one(y, odds[:, positive], held, positive)[0]
    found, present = jax.vmap(one, (None, 1, None, 0))(
        y, odds, held, jnp.arange(outputs.shape[-1]))
    return _over(present, found)

  return traced


def log_odds(outputs: Any, numpy: Any) -> Any:
  """What a class is ranked by: its odds where there are two, else its log
  probability; shape (N, classes)."""
  if outputs.shape[-1] == 2:
    return outputs - outputs[..., ::-1]
  top = outputs - outputs.max(-1, keepdims=True)
  return top - numpy.log(numpy.exp(top).sum(-1, keepdims=True))


def _exact_recall(y: Any, outputs: Any, weights: Any,
                  positive: int | None) -> float:
  from sklearn import metrics
  del positive
  return float(metrics.recall_score(
      y, outputs.argmax(-1), labels=np.unique(y), average='macro',
      sample_weight=weights, zero_division=0))


def _exact_f1(y: Any, outputs: Any, weights: Any,
              positive: int | None) -> float:
  from sklearn import metrics
  return float(metrics.f1_score(
      y, outputs.argmax(-1), average='macro', sample_weight=weights,
      labels=None if positive is None else [positive], zero_division=0))


def _exact_ranked(name: str) -> Callable[..., float]:
  """scikit-learn's figure of an order, averaged over the classes."""
  def exact(y: Any, outputs: Any, weights: Any,
            positive: int | None) -> float:
    from sklearn import metrics
    figure, odds = getattr(metrics, name), log_odds(outputs, np)
    asked = [positive] if positive is not None else np.unique(y)
    found = [figure(y == index, odds[:, index], sample_weight=weights)
             for index in asked if 0 < (y == index).sum() < len(y)]
    return float(np.mean(found)) if found else 0.0

  return exact


CLASS_SCORES = {
    'balanced_accuracy': ClassScore(
        Measure('balanced accuracy', 'share of each class that is found, '
                'averaged over the classes'),
        'share of each class that is found, averaged over the classes',
        _balanced_accuracy, _exact_recall, guessing.balanced_accuracy),
    'f1': ClassScore(
        Measure('F1', 'harmonic mean of precision and recall of {!r}', '', 1.),
        'harmonic mean of precision and recall, averaged over the classes',
        _f1, _exact_f1, guessing.f1),
    'auc': ClassScore(
        Measure('AUC', 'how often one of {!r} is ranked above one of the other '
                'class', '', 1.0),
        'how often one of a class is ranked above one of the rest, averaged '
        'over the classes',
        _ranked(_auc), _exact_ranked('roc_auc_score'), guessing.auc),
    'average_precision': ClassScore(
        Measure('average precision', 'precision at each example of {!r} that '
                'is found, averaged', '', 1.0),
        'precision at each example of a class that is found, averaged over '
        'them and over the classes',
        _ranked(_average_precision), _exact_ranked('average_precision_score'),
        guessing.average_precision)}
