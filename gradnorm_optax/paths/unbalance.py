"""Node-wise rescaling: one function from balanced or unequal weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def rescale_units(
    incoming: Any, outgoing: Any, factors: Any) -> tuple[Any, Any]:
  """Multiplies what enters hidden units by factors, and divides what leaves.

  The network's function does not change where the units' activation is
  positively homogeneous (ReLU) and the factors are positive.

  Args:
    incoming: A tree of arrays whose last axis is the units: a kernel (in,
    units)
      or (height, width, in, units), and a bias (units,).
    outgoing: A tree of arrays whose axis before the last is the units: the next
      kernel (units, out) or (height, width, units, out).
    factors: Positive numbers, shape (units,).

  Returns:
    The rescaled (incoming, outgoing); dtypes are kept.

  Raises:
    ValueError: An array does not have the units where they are expected.

  Examples:
    >>> import jax.numpy as jnp
    >>> from gradnorm_optax.paths import rescale_units
    >>> first, second = rescale_units(
    ...     jnp.ones((3, 2)), jnp.ones((2, 1)), jnp.array([2., 4.]))
    >>> print(first[0], second[:, 0])
    [2. 4.] [0.5  0.25]
  """
  factors = jnp.asarray(factors)
  units = factors.shape[0]

  def check(leaf: Any, axis: int) -> None:
    if np.ndim(leaf) < -axis or np.shape(leaf)[axis] != units:
      raise ValueError(
          f'an array of shape {np.shape(leaf)} does not have {units} units on '
          f'axis {axis}: incoming arrays have the units last, outgoing arrays '
          'before the last axis.'
      )

  def enter(leaf: Any) -> jax.Array:
    check(leaf, -1)
    return leaf * factors.reshape((1,) * (leaf.ndim - 1) + (-1,)).astype(
        leaf.dtype
    )

  def leave(leaf: Any) -> jax.Array:
    check(leaf, -2)
    return leaf / factors.reshape((1,) * (leaf.ndim - 2) + (-1, 1)).astype(
        leaf.dtype
    )

  return jax.tree.map(enter, incoming), jax.tree.map(leave, outgoing)


def unbalance(
    layers: Sequence[dict[str, Any]],
    key: jax.Array,
    *,
    draws: int | None = None,
    scale: float = 10.0,
) -> list[dict[str, Any]]:
  """Rescales random hidden units of a plain net, as the Path-SGD paper does.

  Units are drawn with replacement over all hidden layers; each draw multiplies
  the unit's incoming weights by `scale * c`, c log-normal, and divides its
  outgoing weights by it.

  Args:
    layers: The layers in order, each `{'kernel': ..., 'bias': ...}` (bias may
      be missing).
    key: A random key.
    draws: How many draws; a quarter of the hidden units by default (the paper:
      2000 of 8000).
    scale: The factor in front of c.

  Returns:
    The layers with the same function and unequal weights.

  Examples:
    >>> import jax, jax.numpy as jnp
    >>> from gradnorm_optax.paths import unbalance
    >>> layers = [{'kernel': jnp.ones((3, 4))}, {'kernel': jnp.ones((4, 2))}]
    >>> first, second = unbalance(layers, jax.random.key(0))
    >>> print((first['kernel'] @ second['kernel'])[0])
    [4. 4.]
  """
  sizes = [np.shape(layer['kernel'])[-1] for layer in layers[:-1]]
  total = sum(sizes)
  unit_key, factor_key = jax.random.split(key)
  draws = max(total // 4, 1) if draws is None else draws
  chosen = jax.random.randint(unit_key, (draws,), 0, total)
  logs = jnp.log(scale) + jax.random.normal(factor_key, (draws,))
  # Repeated draws may multiply beyond float32's squares; the paper does not
  # say, and rescaling is exact at any size.
  logs = jnp.clip(jnp.zeros(total).at[chosen].add(logs), -30, 30)
  factors = jnp.split(jnp.exp(logs), np.cumsum(sizes)[:-1])
  result = [dict(layer) for layer in layers]
  for i, factor in enumerate(factors):
    after = {'kernel': result[i + 1]['kernel']}
    result[i], after = rescale_units(result[i], after, factor)
    result[i + 1].update(after)
  return result
