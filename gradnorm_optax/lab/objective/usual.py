"""The usual objectives: of classes, of numbers, of a generated task."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp

from gradnorm_optax.lab.objective import guessing, padding
from gradnorm_optax.lab.objective.classes import Classes
from gradnorm_optax.lab.objective.objective import Misfit, Objective
from gradnorm_optax.lab.objective.quality import ACCURACY, RIGHT, VARIANCE
from gradnorm_optax.lab.objective.rule import Rule

NUMBER_LOSSES: dict[str, Callable[[Any, Any], jax.Array]] = {
    'squared_error': lambda out, y: optax.losses.squared_error(out, y),
    'absolute_error': lambda out, y: jnp.abs(out - y),
    'huber': lambda out, y: optax.losses.huber_loss(out, y),
}


def classes(width: int, y: np.ndarray, lengths: np.ndarray | None = None,
            positions: bool = False, holes: bool = False,
            named: Classes | None = None) -> Objective:
  """Classification: cross-entropy and accuracy.

  Args:
    width: How many outputs the model has.
    y: The validation labels; guessing is the share of the commonest class
      among them, which a run must exceed by three standard errors.
    lengths: Their sequences' lengths, or None.
    positions: Whether every position has a label.
    holes: Whether some positions have none.
    named: What the classes are called.
  """
  def shaped(outputs: Any, y: Any) -> Any:
    if outputs.shape != (*y.shape, width):
      raise Misfit(
          f'returns shape {outputs.shape} for labels of shape '
          f'{y.shape} and {width} classes; it must be {(*y.shape, width)}')
    return outputs

  chance, margin = guessing.accuracy(
      np.bincount(padding.labels(y, lengths, positions)))
  return Objective(
      ACCURACY,
      lambda out, y: optax.softmax_cross_entropy_with_integer_labels(
          shaped(out, y), y),
      lambda out, y, _: (shaped(out, y).argmax(-1) == y).astype(jnp.float32),
      positions=positions, chance=chance, margin=margin, holes=holes,
      classes=named, rule=Rule(classes=width))


def numbers(y: np.ndarray, lengths: np.ndarray | None = None,
            positions: bool = False, loss: str = 'squared_error',
            holes: bool = False) -> Objective:
  """Regression: an error of `NUMBER_LOSSES`, and the variance explained.

  R² = 1 - (mean squared error) / (variance of the part that is evaluated),
  averaged over the targets where there are several. Guessing the mean gives 0,
  worse predictions less; below -1 they count as -1. Predictions that know
  nothing correlate with n labels by up to 3 / sqrt(n) (three standard errors)
  and so explain up to 9 / n of their variance: that is the margin.
  """
  several = y.ndim > 1 + positions

  def mean(values: Any) -> Any:
    return values.mean(-1) if several else values

  def shaped(outputs: Any, y: Any) -> Any:
    if outputs.shape == (*y.shape, 1):
      outputs = outputs[..., 0]
    if outputs.shape != y.shape:
      wanted = y.shape if several else (*y.shape, 1)
      raise Misfit(f'returns shape {outputs.shape} for numbers of shape '
                   f'{y.shape}; it must be {wanted}')
    return outputs

  def spread(y: Any, mask: Any) -> Any:
    axes = tuple(range(1 + positions))
    held = None if mask is None else jnp.reshape(
        mask, mask.shape + (1,) * several)
    return jnp.var(y, axes, where=held)

  count = len(padding.labels(y, lengths, positions))
  return Objective(
      VARIANCE,
      lambda out, y: mean(NUMBER_LOSSES[loss](shaped(out, y), y)),
      lambda out, y, of: mean(1 - jnp.square(shaped(out, y) - y) / of),
      spread, positions, chance=0.0,
      margin=min(9 / count, 0.5), worst=-1.0, holes=holes)


def of_task(task: Any, y: np.ndarray) -> Objective:
  """The objective of a long-dependency task of `lab.data.long_dependency`.

  Guessing gives the share right of the best constant answer: the commonest
  class at each step that is read, or the best number.
  """
  y = np.asarray(y)
  if task.regression:
    # The interval of width 0.4 that holds most of the numbers.
    ordered = np.sort(y)
    held = np.searchsorted(ordered, ordered + 0.4, 'right') - np.arange(len(y))
    chance = float(held.max() / len(y))
  else:
    common = [np.bincount(column).argmax() for column in y.T]
    chance = float((y == common).all(1).mean())
    chance = max(chance, 1 / len(y))

  def read(outputs: Any, y: Any) -> Any:
    want = (len(y), task.readout, task.outputs)
    if outputs.shape != want:
      raise Misfit(f'returns shape {outputs.shape} for the task '
                   f'{task.name!r}; it must be {want}: (examples, steps that '
                   'are read, outputs)')
    return outputs

  return Objective(
      RIGHT, lambda out, y: task.losses(read(out, y), y),
      lambda out, y, _: task.right(read(out, y), y).astype(jnp.float32),
      chance=chance,
      margin=3 * math.sqrt(chance * (1 - chance) / len(y)))
