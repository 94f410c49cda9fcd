"""What a normalization costs at least: plain float32 sums, in no range at all.

No conditional, no rescaling, means from the same reading: what the hardware and
XLA ask for once a norm (and a mean) of every array is wanted. Wrong outside of
about 1e-19..1e19, and nothing to train with.
"""

from typing import Any

import jax
import optax
from jax import numpy as jnp


def norms() -> optax.GradientTransformation:
  """Each array divided by its norm: one more reading of the gradient."""
  return _map(lambda g: g * (1 / jnp.sqrt(jnp.sum(g * g))))


def standardized() -> optax.GradientTransformation:
  """Means over the first axes too: two more readings."""

  def one(g):
    if g.ndim < 2:
      return g * (1 / jnp.sqrt(jnp.sum(g * g)))
    over, size = tuple(range(g.ndim - 1)), g.size // g.shape[-1]
    mean = jnp.sum(g, over, keepdims=True) * (1 / size)
    squares = jnp.sum(g * g) - size * jnp.sum(mean * mean)
    return (g - mean) * (1 / jnp.sqrt(squares))

  return _map(one)


def _map(function: Any) -> optax.GradientTransformation:
  return optax.GradientTransformation(
      lambda params: optax.EmptyState(),
      lambda updates, state, params=None: (
          jax.tree.map(function, updates), state))
