"""What a run minimizes, and the quality by which it is judged."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
from jax import numpy as jnp
from jax.typing import ArrayLike

from gradnorm_optax.lab.objective.class_scores import CLASS_SCORES
from gradnorm_optax.lab.objective.classes import Classes
from gradnorm_optax.lab.objective.quality import Measure
from gradnorm_optax.lab.objective.rule import Rule
from gradnorm_optax.lab.support.errors import LabError


class Misfit(LabError):
  """Outputs of a wrong shape; whoever knows the model names it."""

  def __init__(self, complaint: str, model: str = 'the model'):
    """Takes what follows the model's name."""
    super().__init__(f'{model} {complaint}')
    self.complaint = complaint


@dataclasses.dataclass(frozen=True)
class Objective:
  """The loss and the quality of one kind of label.

  Labels have shape (n, ...), or (n, T, ...) with `positions`, one for each
  position of a sequence; a figure is the mean over all labels that there are:
  not in padding, and not where a position has none (class -1, number NaN).

  Attributes:
    measure: What the quality is called.
    each: `each(outputs, y)`, the loss of every label.
    quality: `quality(outputs, y, spread)`, the quality of every label.
    spread: `spread(y, mask)`, what `quality` must know of a whole part.
    positions: Whether every position has a label.
    chance: The score of guessing.
    margin: By how much a run must exceed it to count as trained.
    worst: What a diverged run scores; lower scores count as this one.
    holes: Whether some positions have no label.
    classes: What the classes are called, where they have names.
    rule: How the score comes of the answers: a mean of `quality`, or else.
    class_weights: What the loss of each class counts, or None.
  """

  measure: Measure
  each: Callable[[Any, Any], Any]
  quality: Callable[[Any, Any, Any], Any]
  spread: Callable[[Any, Any], Any] = lambda y, mask: None
  positions: bool = False
  chance: float = 0.0
  margin: float = 0.0
  worst: float = 0.0
  holes: bool = False
  classes: Classes | None = None
  rule: Rule = Rule()
  class_weights: tuple[float, ...] | None = None

  def losses(self, outputs: ArrayLike, y: ArrayLike,
             lengths: ArrayLike | None = None) -> jax.Array:
    """Computes the weighted loss of every label, 0 where there is none.

    Args:
      outputs: The model's, float32.
      y: The labels.
      lengths: Positions of each sequence that are no padding, or None.

    Returns:
      Shape (B,), or (B, T) with `positions`.
    """
    mask = self.mask(y, lengths)
    outputs, y = _filled(mask, outputs, y)
    losses = self.each(outputs, y)
    if self.class_weights is not None:
      losses *= jnp.asarray(self.class_weights, losses.dtype)[y]
    return masked(losses, mask)

  def scores(self, outputs: ArrayLike, y: ArrayLike,
             lengths: ArrayLike | None = None,
             spread: Any = None) -> jax.Array:
    """Computes the quality of every label, 0 where there is none."""
    mask = self.mask(y, lengths)
    outputs, y = _filled(mask, outputs, y)
    return masked(self.quality(outputs, y, spread), mask)

  def whole_score(self, outputs: jax.Array, y: ArrayLike,
                  lengths: ArrayLike | None = None) -> jax.Array:
    """Computes a score that is no mean, of all labels and outputs of a part."""
    mask, labels = self.mask(y, lengths), jnp.ravel(y)
    held = jnp.ones(labels.shape) if mask is None else (
        mask.ravel().astype(jnp.float32))
    return CLASS_SCORES[self.rule.name].figure(
        jnp, jnp.maximum(labels, 0), outputs.reshape(-1, outputs.shape[-1]),
        held, self.rule.positive)

  def mask(self, y: Any, lengths: Any) -> jax.Array | None:
    """Marks the labels that there are; None where all of them are."""
    if not self.positions:
      return None
    inside = None if lengths is None else (
        jnp.arange(y.shape[1])[None] < lengths[:, None])
    if not self.holes:
      return inside
    known = y >= 0 if jnp.issubdtype(y.dtype, jnp.integer) else ~jnp.isnan(y)
    known = known.reshape(*y.shape[:2], -1).all(-1)
    return known if inside is None else known & inside

  def count(self, y: Any, lengths: Any) -> jax.Array:
    """Counts the labels that there are."""
    mask = self.mask(y, lengths)
    if mask is None:
      return jnp.float32(math.prod(y.shape[:1 + self.positions]))
    return mask.sum().astype(jnp.float32)

  def weight(self, y: Any, lengths: Any) -> jax.Array:
    """What all losses count together: the divisor of their mean."""
    if self.class_weights is None:
      return self.count(y, lengths)
    weights = jnp.asarray(self.class_weights, jnp.float32)[y]
    return masked(weights, self.mask(y, lengths)).sum()

  def by_example(self, outputs: jax.Array, y: Any) -> jax.Array:
    """The loss of each example, the mean over its labels: (B,)."""
    losses, mask = self.losses(outputs, y), self.mask(y, None)
    if losses.ndim == 1:
      return losses
    return losses.mean(1) if mask is None else losses.sum(1) / mask.sum(1)


def masked(values: jax.Array, mask: jax.Array | None) -> jax.Array:
  """Zeroes what is no label, whatever stands there."""
  return values if mask is None else jnp.where(mask, values, 0)


def _filled(mask: jax.Array | None, *arrays: Any) -> Any:
  """Repeats a sequence's first label where it has none.

  A loss may be infinite at what stands there, a logarithm of 0 for example, and
  its gradient then NaN even behind `masked`.
  """
  if mask is None:
    return arrays
  first = mask.argmax(1)[:, None]
  return tuple(
      jnp.where(one, a, jnp.take_along_axis(
          a, first.reshape(one.shape[:1] + (1,) * (a.ndim - 1)), 1))
      if a.shape[:2] == mask.shape else a for a in arrays
      for one in [mask.reshape(mask.shape + (1,) * (a.ndim - 2))])
