"""What a run minimizes, and the quality by which it is judged."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
from jax import numpy as jnp
from jax.typing import ArrayLike

from gradnorm_optax.lab.objective.quality import Measure
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
    rule: How the score comes of `evidence`.
  """

  measure: Measure
  each: Callable[[Any, Any], Any]
  quality: Callable[[Any, Any, Any], Any]
  spread: Callable[[Any, Any], Any] = lambda y, mask: None
  positions: bool = False
  chance: float = 0.0
  margin: float = 0.0
  worst: float = 0.0
  rule: str = 'mean'

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
