"""Convolutions whose gradient is fast in a loop on a CPU.

XLA's CPU compiler brings convolutions into the form that its fast routine knows
only where they stand in no loop. The gradient of a convolution is one of
another form, so that in a `lax.scan` over steps, as the lab trains, it falls to
plain loops: a small U-Net took 20 to 35 times as long, the lab's `cnn` 10
times. Here it is written in that form from the start.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn
from jax import lax

Pads = tuple[tuple[int, int], ...]


def convolve(x: jax.Array, kernel: jax.Array, strides: Sequence[int],
             padding: Any, **options: Any) -> jax.Array:
  """`lax.conv_general_dilated` as Flax's layers call it.

  Dilated and grouped ones, and other forms than channels last, are left to it.
  """
  dims, spatial = options.get('dimension_numbers'), kernel.shape[:-2]
  plain = all(
      options.get(name) in (None, 1, (1,) * len(spatial))
      for name in ('lhs_dilation', 'rhs_dilation', 'feature_group_count',
                   'batch_group_count', 'preferred_element_type'))
  last = isinstance(dims, lax.ConvDimensionNumbers) and (
      _numbers(x.ndim) == dims)
  if not plain or not last or jax.default_backend() != 'cpu':
    return lax.conv_general_dilated(x, kernel, strides, padding, **options)
  pads = padding if not isinstance(padding, str) else lax.padtype_to_pads(
      x.shape[1:-1], spatial, strides, padding)
  return _convolve(
      x, kernel, tuple(strides), tuple((int(a), int(b)) for a, b in pads),
      options.get('precision'))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolve(x: jax.Array, kernel: jax.Array, strides: tuple[int, ...],
              pads: Pads, precision: Any) -> jax.Array:
  return lax.conv_general_dilated(
      x, kernel, strides, pads, dimension_numbers=_numbers(x.ndim),
      precision=precision)


def _forward(x: jax.Array, kernel: jax.Array, *options: Any) -> Any:
  return _convolve(x, kernel, *options), (x, kernel)


def _backward(strides: tuple[int, ...], pads: Pads, precision: Any,
              kept: Any, slope: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The gradients as convolutions of the same form."""
  x, kernel = kept
  dims = tuple(range(x.ndim - 2))
  wide = [(n - 1) * s + 1 for n, s in zip(
      slope.shape[1:-1], strides, strict=True)]  # with the strides between
  before = [k - 1 - a for k, (a, _) in zip(
      kernel.shape, pads, strict=False)]
  dx = lax.conv_general_dilated(
      slope, lax.rev(kernel, dims).swapaxes(-1, -2), (1,) * len(dims),
      [(a, n + k - 1 - w - a) for a, n, k, w in zip(
          before, x.shape[1:-1], kernel.shape, wide, strict=False)],
      lhs_dilation=strides, dimension_numbers=_numbers(x.ndim),
      precision=precision)
  # Channels take the place of examples, and examples that of channels.
  turned = x.swapaxes(0, -1)
  after = [k - 1 + w - n - a for k, w, n, (a, _) in zip(
      kernel.shape, wide, x.shape[1:-1], pads, strict=False)]
  for axis, spare in enumerate(after, 1):
    if spare < 0:  # which no window reaches
      turned = lax.slice_in_dim(turned, 0, turned.shape[axis] + spare,
                                axis=axis)
  dk = lax.conv_general_dilated(
      turned, slope.transpose(*(i + 1 for i in dims), 0, x.ndim - 1),
      (1,) * len(dims),
      [(a, max(b, 0)) for (a, _), b in zip(pads, after, strict=True)],
      rhs_dilation=strides, dimension_numbers=_numbers(x.ndim),
      precision=precision)
  return dx, dk.transpose(*(i + 1 for i in dims), 0, x.ndim - 1)


_convolve.defvjp(_forward, _backward)


def _numbers(rank: int) -> lax.ConvDimensionNumbers:
  """Examples, places, channels; of kernels places, inputs, outputs."""
  places = tuple(range(1, rank - 1))
  data = (0, rank - 1, *places)
  return lax.ConvDimensionNumbers(
      data, (rank - 1, rank - 2, *range(rank - 2)), data)


Conv = functools.partial(nn.Conv, conv_general_dilated=convolve)
