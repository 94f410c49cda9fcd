"""Mean-only batch normalization for Linen."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn
from flax.typing import Dtype, Initializer
from jax import numpy as jnp

from gradnorm_optax._mean_only import (
    batch_mean,
    feature_axes,
    mean_dtype,
    shifted,
    updated,
)

__all__ = ['MeanOnlyBatchNorm']


class MeanOnlyBatchNorm(nn.Module):
  r"""Subtracts the mean over the batch, and leaves the deviation.

  .. math:: y = t - \mu_B(t) + b, \qquad
      \text{avg} \leftarrow 0.9\, \text{avg} + 0.1\, \mu_B(t)

  Follows a weight-normalized layer (without a bias of its own, which would
  cancel). The running average starts from 0 without bias correction, as in [1],
  and is what is subtracted where `use_running_average` is true. The gradient
  with respect to t is centered over the batch.

  Attributes:
    use_running_average: Whether to subtract the stored average. Give it here or
      in the call.
    momentum: Of the running average.
    use_bias: Whether to add a trained bias b, 'bias' in 'params'.
    axis: Feature axis or axes; the mean is over all others.
    axis_name: Mapped axis over which the batch is split, if any.
    dtype: Of the result; that of the input by default (float32 for integers).
      The running average of a complex input is complex, else float32.
    param_dtype: Of the bias.
    bias_init: Of the bias.

  Examples:
    >>> import jax, gradnorm_optax.linen as gnn
    >>> norm = gnn.MeanOnlyBatchNorm(use_running_average=False)
    >>> x = jax.numpy.array([[1.], [3.]])
    >>> variables = norm.init(jax.random.key(0), x)
    >>> y, state = norm.apply(variables, x, mutable=['batch_stats'])
    >>> print(y.ravel(), state['batch_stats']['mean'].round(3))
    [-1.  1.] [0.2]

  References:
    [1] Salimans and Kingma, `Weight Normalization: A Simple
    Reparameterization to Accelerate Training of Deep Neural Networks
    <https://arxiv.org/abs/1602.07868>`_, 2016, section 4
  """

  use_running_average: bool | None = None
  momentum: float = 0.9
  use_bias: bool = True
  axis: int | Sequence[int] = -1
  axis_name: Any = None
  dtype: Dtype | None = None
  param_dtype: Dtype = jnp.float32
  bias_init: Initializer = nn.initializers.zeros

  @nn.compact
  def __call__(
      self, x: jax.Array, use_running_average: bool | None = None, *,
      mask: jax.Array | None = None,
  ) -> jax.Array:
    """Subtracts the mean.

    Args:
      x: The input.
      use_running_average: Whether to subtract the stored average.
      mask: Boolean, broadcastable to x: the positions that count.

    Raises:
      TypeError: x is complex, and the average was made for a real input, or
        `dtype` is real.
      ValueError: Neither or both of the call and the attribute say what to
        subtract, or x has no axis `axis`.
    """
    stored = nn.merge_param(
        'use_running_average', self.use_running_average, use_running_average)
    axes = feature_axes(x, self.axis)
    shape = tuple(x.shape[a] for a in axes)
    average = self.variable(
        'batch_stats', 'mean', lambda: jnp.zeros(shape, _stored(x.dtype)))
    if stored:
      mean = average.value
    else:
      starting = self.is_initializing()
      mean = batch_mean(x, axes, mask, None if starting else self.axis_name)
      if not starting:
        average.value = updated(average.value, mean, self.momentum)
    bias = self.param(
        'bias', self.bias_init, shape, self.param_dtype
    ) if self.use_bias else None
    return shifted(x, mean, bias, axes, self.dtype)


def _stored(dtype: Any) -> Any:
  """Returns the dtype of the running average."""
  complex_ = jnp.issubdtype(dtype, jnp.complexfloating)
  return mean_dtype(dtype) if complex_ else jnp.float32
