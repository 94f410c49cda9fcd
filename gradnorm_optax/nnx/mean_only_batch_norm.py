"""Mean-only batch normalization for NNX."""

import types
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from flax import nnx
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


class MeanOnlyBatchNorm(nnx.Module):
  r"""Subtracts the mean over the batch, and leaves the deviation.

  .. math:: y = t - \mu_B(t) + b, \qquad
      \text{avg} \leftarrow 0.9\, \text{avg} + 0.1\, \mu_B(t)

  Follows a weight-normalized layer (without a bias of its own, which would
  cancel). The running average `mean`, an `nnx.BatchStat`, starts from 0 without
  bias correction, as in [1], and is what is subtracted where
  `use_running_average` is true (`model.eval()` and
  `nnx.view(model, use_running_average=True)` set it). The gradient with
  respect to t is centered over the batch.

  It takes the arguments of `nnx.BatchNorm`, without those of the deviation and
  the scale.

  Args:
    num_features: Size of the feature axis, or of several.
    use_running_average: Whether to subtract the stored average.
    momentum: Of the running average.
    use_bias: Whether to add a trained bias b, starting from 0.
    axis: Feature axis or axes; the mean is over all others.
    axis_name: Mapped axis over which the batch is split, if any.
    dtype: Of the result; that of the input by default (float32 for integers).
    param_dtype: Of the bias. Complex inputs need a complex one, and the running
      average is then complex too, else float32.
    bias_init: Of the bias.
    bias_metadata: Of the bias's `nnx.Param`.
    rngs: What `bias_init` draws from; one that draws needs it.

  Raises:
    ValueError: `bias_init` is given without `rngs`.

  Examples:
    >>> import jax, gradnorm_optax.nnx as gnn
    >>> norm = gnn.MeanOnlyBatchNorm(1)
    >>> print(norm(jax.numpy.array([[1.], [3.]])).ravel(), norm.mean.round(3))
    [-1.  1.] [0.2]

  References:
    [1] Salimans and Kingma, `Weight Normalization: A Simple
    Reparameterization to Accelerate Training of Deep Neural Networks
    <https://arxiv.org/abs/1602.07868>`_, 2016, section 4
  """

  def __init__(
      self, num_features: int | Sequence[int],
      use_running_average: bool | None = False, momentum: float = 0.9,
      use_bias: bool = True, axis: int | Sequence[int] = -1, *,
      axis_name: Any = None, dtype: Dtype | None = None,
      param_dtype: Dtype = jnp.float32,
      bias_init: Initializer = nnx.initializers.zeros,
      bias_metadata: Mapping[str, Any] = types.MappingProxyType({}),
      rngs: nnx.Rngs | None = None,
  ):
    shape = (num_features,) if isinstance(num_features, int) else (
        tuple(num_features))
    complex_ = jnp.issubdtype(param_dtype, jnp.complexfloating)
    stored = mean_dtype(param_dtype) if complex_ else jnp.float32
    self.mean = nnx.BatchStat(jnp.zeros(shape, stored))
    self.bias: Any = nnx.data(None)
    if use_bias:
      if rngs is None and bias_init is not nnx.initializers.zeros:
        raise ValueError(
            'nnx.MeanOnlyBatchNorm: bias_init may draw random numbers: pass'
            ' rngs, such as nnx.Rngs(0).')
      key = jax.random.key(0) if rngs is None else rngs.params()
      self.bias = nnx.Param(bias_init(key, shape, param_dtype), **bias_metadata)
    self.use_running_average = use_running_average
    self.momentum = momentum
    self.use_bias = use_bias
    self.axis = axis if isinstance(axis, int) else tuple(axis)
    self.axis_name = axis_name
    self.dtype = dtype

  def __call__(
      self, x: jax.Array, use_running_average: bool | None = None, *,
      mask: jax.Array | None = None,
  ) -> jax.Array:
    """Subtracts the mean.

    Args:
      x: The input.
      use_running_average: Whether to subtract the stored average; the
        attribute by default.
      mask: Boolean, broadcastable to x: the positions that count.

    Raises:
      TypeError: x is complex, and `param_dtype` or `dtype` is real.
      ValueError: Neither the call nor the attribute says what to subtract, or
        x has other features than the layer.
    """
    stored = (self.use_running_average if use_running_average is None
              else use_running_average)
    if stored is None:
      raise ValueError(
          'nnx.MeanOnlyBatchNorm: pass use_running_average=True or False to the'
          ' constructor or to the call.')
    axes = feature_axes(x, self.axis)
    features = tuple(x.shape[a] for a in axes)
    if features != self.mean.shape:
      raise ValueError(
          f'nnx.MeanOnlyBatchNorm: the input of shape {x.shape} has features'
          f' {features} on axis {self.axis}, and num_features is'
          f' {self.mean.shape}. Make them equal.')
    if stored:
      mean = self.mean[...]
    else:
      mean = batch_mean(x, axes, mask, self.axis_name)
      # What is stored has no gradient; the mean subtracted has.
      self.mean.set_value(updated(
          self.mean[...], jax.lax.stop_gradient(mean), self.momentum))
    bias = None if self.bias is None else self.bias[...]
    return shifted(x, mean, bias, axes, self.dtype)

  def set_view(self, use_running_average: bool | None = None) -> None:
    """Sets the mode of a view: called by `nnx.view`.

    Args:
      use_running_average: Whether to subtract the stored average; None leaves
        it as it is.
    """
    if use_running_average is not None:
      self.use_running_average = use_running_average
