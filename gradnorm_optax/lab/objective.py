"""What a run minimizes, and the quality by which it is judged."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp
from jax.typing import ArrayLike

from gradnorm_optax.lab import sequences
from gradnorm_optax.lab.errors import LabError


class Misfit(LabError):
  """Outputs of a wrong shape; whoever knows the model names it."""

  def __init__(self, told: str, model: str = 'the model'):
    """Takes what follows the model's name."""
    super().__init__(f'{model} {told}')
    self.told = told


NUMBER_LOSSES: dict[str, Callable[[Any, Any], jax.Array]] = {
    'squared_error': lambda out, y: optax.losses.squared_error(out, y),
    'absolute_error': lambda out, y: jnp.abs(out - y),
    'huber': lambda out, y: optax.losses.huber_loss(out, y),
}


class Measure(NamedTuple):
  """The name of a quality and how it is written; higher is better.

  >>> Measure().figure(0.4567), Measure().signed(-0.01)
  ('45.7%', '-1.0')
  """

  name: str = 'accuracy'
  meaning: str = 'share of the answers that are right'
  unit: str = '%'
  scale: float = 100.0

  def show(self, score: float) -> str:
    """A score without its unit."""
    return self._written(score, '.1f' if self.unit else '.3g')

  def figure(self, score: float) -> str:
    """A score with its unit."""
    return self.show(score) + self.unit

  def signed(self, difference: float) -> str:
    """A difference of scores, with its sign."""
    return self._written(difference, '+.1f' if self.unit else '+.3g')

  def label(self, part: str) -> str:
    """A heading: the part of the data, the name, the unit."""
    return ' '.join(filter(None, (part, self.name, self.unit)))

  @property
  def points(self) -> str:
    """What a difference is counted in."""
    return 'points' if self.unit else f'of {self.name}'

  def _written(self, value: float, form: str) -> str:
    return f'{self.scale * value:{form}}'


ACCURACY = Measure()
VARIANCE = Measure('R²', 'share of the variance that is explained')
RIGHT = Measure('share right', 'share of the sequences that are solved')


@dataclasses.dataclass(frozen=True)
class Objective:
  """The loss and the quality of one kind of label.

  Labels have shape (n, ...), or (n, T, ...) with `positions`, one for each
  position of a sequence; a figure is the mean over all labels that are no
  padding.

  Attributes:
    measure: What the quality is called.
    each: `each(outputs, y)`, the loss of every label.
    quality: `quality(outputs, y, spread)`, the quality of every label.
    spread: `spread(y, mask)`, what `quality` must know of a whole part.
    positions: Whether every position has a label.
    chance: The score of guessing.
    margin: By how much a run must exceed it to count as trained.
    worst: What a diverged run scores; lower scores count as this one.
  """

  measure: Measure
  each: Callable[[Any, Any], Any]
  quality: Callable[[Any, Any, Any], Any]
  spread: Callable[[Any, Any], Any] = lambda y, mask: None
  positions: bool = False
  chance: float = 0.0
  margin: float = 0.0
  worst: float = 0.0

  def losses(self, outputs: ArrayLike, y: ArrayLike,
             lengths: ArrayLike | None = None) -> jax.Array:
    """Computes the loss of every label, 0 where it is padding.

    Args:
      outputs: The model's, float32.
      y: The labels.
      lengths: Positions of each sequence that are no padding, or None.

    Returns:
      Shape (B,), or (B, T) with `positions`.
    """
    mask = self.mask(y, lengths)
    outputs, y = _filled(mask, outputs, y)
    return masked(self.each(outputs, y), mask)

  def scores(self, outputs: ArrayLike, y: ArrayLike,
             lengths: ArrayLike | None = None,
             spread: Any = None) -> jax.Array:
    """Computes the quality of every label, 0 where it is padding."""
    mask = self.mask(y, lengths)
    outputs, y = _filled(mask, outputs, y)
    return masked(self.quality(outputs, y, spread), mask)

  def mask(self, y: Any, lengths: Any) -> jax.Array | None:
    """Marks the labels that are no padding; None where all of them are."""
    if lengths is None or not self.positions:
      return None
    return jnp.arange(y.shape[1])[None] < lengths[:, None]

  def count(self, y: Any, lengths: Any) -> jax.Array:
    """Counts the labels that are no padding."""
    mask = self.mask(y, lengths)
    if mask is None:
      return jnp.float32(math.prod(y.shape[:1 + self.positions]))
    return mask.sum().astype(jnp.float32)


def masked(values: jax.Array, mask: jax.Array | None) -> jax.Array:
  """Zeroes what is padding, whatever stands there."""
  return values if mask is None else jnp.where(mask, values, 0)


def _filled(mask: jax.Array | None, *arrays: Any) -> Any:
  """Repeats the first step where there is padding.

  A loss may be infinite at what stands there, a logarithm of 0 for example, and
  its gradient then NaN even behind `masked`.
  """
  if mask is None:
    return arrays
  return tuple(
      jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - 2)), a, a[:, :1])
      if a.shape[:2] == mask.shape else a for a in arrays)


def classes(width: int, y: np.ndarray, lengths: np.ndarray | None = None,
            positions: bool = False) -> Objective:
  """Classification: cross-entropy and accuracy.

  Guessing is the share of the commonest class among `y`, the validation
  labels; a run must exceed it by three standard errors of that share.
  """
  def shaped(outputs: Any, y: Any) -> Any:
    if outputs.shape != (*y.shape, width):
      raise Misfit(
          f'returns shape {outputs.shape} for labels of shape '
          f'{y.shape} and {width} classes; it must be {(*y.shape, width)}')
    return outputs

  counts = np.bincount(sequences.flat(y, lengths if positions else None))
  chance = float(counts.max() / counts.sum())
  return Objective(
      ACCURACY,
      lambda out, y: optax.softmax_cross_entropy_with_integer_labels(
          shaped(out, y), y),
      lambda out, y, _: (shaped(out, y).argmax(-1) == y).astype(jnp.float32),
      positions=positions, chance=chance,
      margin=3 * math.sqrt(chance * (1 - chance) / counts.sum()))


def numbers(y: np.ndarray, lengths: np.ndarray | None = None,
            positions: bool = False, loss: str = 'squared_error') -> Objective:
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
    weights = jnp.ones(y.shape[:1 + positions]) if mask is None else mask
    weights = jnp.reshape(weights, weights.shape + (1,) * several)
    axes = tuple(range(1 + positions))
    total = weights.sum(axes)
    centre = (y * weights).sum(axes) / total
    return (jnp.square(y - centre) * weights).sum(axes) / total

  count = len(y)
  if positions:
    count = count * y.shape[1] if lengths is None else int(lengths.sum())
  return Objective(
      VARIANCE,
      lambda out, y: mean(NUMBER_LOSSES[loss](shaped(out, y), y)),
      lambda out, y, of: mean(1 - jnp.square(shaped(out, y) - y) / of),
      spread, positions, chance=0.0,
      margin=min(9 / count, 0.5), worst=-1.0)


def of_task(task: Any, y: np.ndarray) -> Objective:
  """The objective of a long-dependency task of `lab.tasks`.

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
