"""The user's own loss and score in place of the usual ones."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.objective import class_options, padding
from gradnorm_optax.lab.objective.objective import Objective
from gradnorm_optax.lab.objective.quality import (
  ACCURACY,
  RIGHT,
  VARIANCE,
  Measure,
)
from gradnorm_optax.lab.objective.usual import NUMBER_LOSSES
from gradnorm_optax.lab.support.errors import LabError


def chosen(objective: Objective, train: schema.Train, y: np.ndarray,
           lengths: np.ndarray | None, width: int,
           train_labels: np.ndarray) -> Objective:
  """Puts the named or the user's loss and score in place of the usual ones.

  Args:
    objective: The usual one of the data.
    train: Its `loss`, `score` and what it says of classes.
    y: The validation labels.
    lengths: Their sequences' lengths, or None.
    width: Number of outputs of the model.
    train_labels: All labels of the training part.

  Raises:
    LabError: A loss that does not fit the labels.
  """
  if objective.measure == RIGHT and (
      train.score or train.loss != 'auto' and ':' not in train.loss):
    raise LabError('[train] a long-dependency task brings its own loss and '
                   'score; leave both out')
  kind = 'number' if objective.measure == VARIANCE else 'class'
  if train.loss in NUMBER_LOSSES and kind != 'number':
    raise LabError(f'[train] loss = "{train.loss}" needs numbers; these labels '
                   'are classes (data.predict = "number" reads them as '
                   'numbers)')
  if train.loss == 'cross_entropy' and objective.measure != ACCURACY:
    raise LabError('[train] loss = "cross_entropy" needs classes; these labels '
                   f'are judged by {objective.measure.name}')
  if ':' in train.loss:
    objective = dataclasses.replace(
        objective, each=_own('loss', train.loss, objective.positions))
  objective = class_options.chosen(
      objective, train, y, lengths, width, train_labels)
  if train.score is None or ':' not in train.score:
    return objective
  return _own_score(objective, train.score, kind, y, lengths, width)


def _own(key: str, name: str, positions: bool) -> Callable[[Any, Any], Any]:
  """The user's function, with a check of what it returns."""
  from gradnorm_optax.lab.support import user_code
  function = user_code.resolve(name)

  def each(outputs: Any, y: Any) -> Any:
    try:
      values = jnp.asarray(function(outputs, y))
    except Exception as error:
      told = user_code.told(error)
      mend = '; compute with jax.numpy' if 'traced array' in told else ''
      raise LabError(
          f'[train] {key} = "{name}", called with outputs {outputs.shape} and '
          f'labels {y.shape}, raised {told}{mend}') from error
    if values.shape != y.shape[:1 + positions]:
      raise LabError(
          f'[train] {key} = "{name}" returned shape {values.shape} for outputs '
          f'{outputs.shape} and labels {y.shape}; it must be '
          f'{y.shape[:1 + positions]}, one value for each label'
          + (', not their mean' if not values.shape else ''))
    if key == 'loss' and not jnp.issubdtype(values.dtype, jnp.floating):
      raise LabError(f'[train] loss = "{name}" returned {values.dtype}, which '
                     'has no gradient; it must be floating-point numbers')
    return values.astype(jnp.float32)

  return each


def _own_score(objective: Objective, name: str, kind: str, y: np.ndarray,
               lengths: np.ndarray | None, width: int) -> Objective:
  """Judges by the user's function; guessing is its best constant answer."""
  own = _own('score', name, objective.positions)
  shape = (*y.shape[:1 + objective.positions], width)
  if kind == 'number':
    guesses = [jnp.full(shape, value) for value in (0.0, 3.0, -3.0)]
  else:
    common = np.bincount(padding.labels(y, lengths, objective.positions),
                         minlength=width)
    guesses = [jnp.broadcast_to(10.0 * jax.nn.one_hot(index, width), shape)
               for index in (common.argmax(), common.argmin())]
  mask = objective.mask(y, lengths)
  values = [np.asarray(own(guess, jnp.asarray(y)))[
      ... if mask is None else np.asarray(mask)] for guess in guesses]
  values = [value for value in values if np.isfinite(value).all()]
  if not values:
    raise LabError(f'[train] score = "{name}" is finite for no constant answer '
                   'to the validation part; what is guessing worth then?')
  means = [float(value.mean()) for value in values]
  best = values[int(np.argmax(means))]
  return dataclasses.replace(
      objective, measure=Measure(
          name.partition(':')[2], f'your own, {name}', '', 1.0),
      quality=lambda out, y, _: own(out, y), spread=lambda y, mask: None,
      chance=max(means), worst=min(means),
      margin=3 * float(best.std()) / math.sqrt(best.size))
