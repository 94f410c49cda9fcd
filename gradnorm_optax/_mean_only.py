"""Mean-only batch normalization: what Linen and NNX share."""

from collections.abc import Sequence
from typing import Any

import jax
from jax import lax, numpy as jnp

from gradnorm_optax._weight_norm_math import accumulator


def feature_axes(x: jax.Array, axis: int | Sequence[int]) -> tuple[int, ...]:
  """Returns the feature axes, counted from the front.

  Raises:
    ValueError: x has no such axis.
  """
  axes = (axis,) if isinstance(axis, int) else tuple(axis)
  if not all(-x.ndim <= a < x.ndim for a in axes):
    raise ValueError(
        f'MeanOnlyBatchNorm(axis={axis!r}): the input of shape {x.shape} has no'
        ' such axis. Count feature axes from the end, the last is -1.')
  return tuple(sorted(a % x.ndim for a in axes))


def batch_mean(
    x: jax.Array, axes: Sequence[int], mask: jax.Array | None, axis_name: Any
) -> jax.Array:
  """Returns the mean over all but the feature axes, at least float32."""
  x = x.astype(accumulator(x.dtype))
  over = tuple(a for a in range(x.ndim) if a not in axes)
  if mask is None and x.size:
    mean = jnp.mean(x, over)
    return mean if axis_name is None else lax.pmean(mean, axis_name)
  # Nothing counts in an empty batch either: the mean is then 0, not NaN.
  mask = jnp.broadcast_to(True if mask is None else mask, x.shape)
  total = jnp.sum(jnp.where(mask, x, 0), over)
  count = jnp.sum(mask.astype(x.dtype), over)
  if axis_name is not None:
    total, count = lax.psum((total, count), axis_name)
  return total / jnp.maximum(count, 1)


def shifted(
    x: jax.Array, mean: jax.Array, bias: jax.Array | None,
    axes: Sequence[int], dtype: Any,
) -> jax.Array:
  """Returns x - mean + bias, in x's dtype or the one given.

  Integers have no dtype for a mean: theirs is float32.
  """
  full = accumulator(x.dtype)
  shape = [n if a in axes else 1 for a, n in enumerate(x.shape)]
  shift = -mean.astype(full)
  if bias is not None:
    shift = shift + bias.astype(full)
  y = x.astype(full) + shift.reshape(shape)
  own = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else full
  return y.astype(own if dtype is None else dtype)
