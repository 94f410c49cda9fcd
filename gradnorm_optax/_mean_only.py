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


def mean_dtype(dtype: Any) -> Any:
  """Returns the dtype in which the mean of such inputs is computed."""
  if not jnp.issubdtype(dtype, jnp.complexfloating):
    return accumulator(dtype)
  return jax.dtypes.canonicalize_dtype(dtype)


def updated(
    average: jax.Array, mean: jax.Array, momentum: float
) -> jax.Array:
  """Returns the running average after a batch, in its own dtype.

  Raises:
    TypeError: The mean is complex, and the average was made real.
  """
  if jnp.iscomplexobj(mean) and not jnp.iscomplexobj(average):
    raise TypeError(
        f'MeanOnlyBatchNorm: the input is {mean.dtype} and the running average'
        f' {average.dtype}, which would lose the imaginary part. Linen:'
        ' initialize with an input of this dtype; NNX: param_dtype='
        f'{mean.dtype}.')
  return momentum * average + (1 - momentum) * mean.astype(average.dtype)


def batch_mean(
    x: jax.Array, axes: Sequence[int], mask: jax.Array | None, axis_name: Any
) -> jax.Array:
  """Returns the mean over all but the feature axes, at least float32."""
  x = x.astype(mean_dtype(x.dtype))
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

  Integers have no dtype for a mean: theirs is float32. Complex means or biases
  make the result complex.

  Raises:
    TypeError: The dtype given is real and the result complex.
  """
  parts = [x, mean] if bias is None else [x, mean, bias]
  full = mean_dtype(x.dtype)
  if any(jnp.iscomplexobj(part) for part in parts):
    double = jnp.finfo(full).bits == 64
    full = jnp.complex128 if double else jnp.complex64
  shape = [n if a in axes else 1 for a, n in enumerate(x.shape)]
  shift = -mean.astype(full)
  if bias is not None:
    shift = shift + bias.astype(full)
  y = x.astype(full) + shift.reshape(shape)
  kind = jnp.complexfloating if jnp.iscomplexobj(y) else jnp.floating
  own = x.dtype if jnp.issubdtype(x.dtype, kind) else full
  dtype = own if dtype is None else dtype
  if jnp.iscomplexobj(y) and not jnp.issubdtype(dtype, kind):
    raise TypeError(
        f'MeanOnlyBatchNorm(dtype={jnp.dtype(dtype).name!r}): the result is'
        f' {y.dtype} and would lose its imaginary part. Give a complex dtype.')
  return y.astype(dtype)
