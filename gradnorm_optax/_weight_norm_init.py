"""Data-dependent initialization: what Linen and NNX share.

During one pass over the first batch every layer has g = 1 and b = 0. What it
puts out is then t = v x/||v||, and what it passes on is (t - mu)/sigma: the
output of the layer with g = 1/sigma and b = -mu/sigma.
"""

import math
from typing import Any

import jax
from jax import numpy as jnp

from gradnorm_optax._weight_norm_math import accumulator

Shape = tuple[int, ...]


def features(g_shape: Shape, bias_shape: Shape | None) -> Shape:
  """Returns the trailing axes of a layer's output that have own statistics."""
  if bias_shape is not None:
    return tuple(bias_shape)
  return tuple(size for size in g_shape if size != 1)


def spread(g_shape: Shape, own: Shape) -> Shape | None:
  """Returns the shape in which g broadcasts over the units.

  Args:
    g_shape: Of g, size 1 along fan-in: one length for each unit, for the array,
      or for the units along some axes, as `nn.DenseGeneral((2, 3))` has by
      default.
    own: From `features`.

  Returns:
    A shape of the rank of `own`, None if g does not broadcast.
  """
  if math.prod(g_shape) == math.prod(own):
    return own
  shape = ((1,) * len(own) + tuple(g_shape))[-len(own):]
  fits = all(b in (1, a) for a, b in zip(own, shape, strict=True))
  return shape if fits and math.prod(shape) == math.prod(g_shape) else None


def moments(
    t: Any, g_shape: Shape, bias_shape: Shape | None, path: str
) -> tuple[jax.Array, jax.Array]:
  """Returns mean (of the bias's shape) and deviation (of g's shape) of t.

  A deviation that rounding alone can make is 0.

  Args:
    t: The layer's output with g = 1 and b = 0, (..., features).
    g_shape: Shape of g. Units that share a length have one deviation.
    bias_shape: Shape of the bias, None if the layer has none.
    path: Of the layer, for messages.

  Raises:
    ValueError: The output does not end in the features of g.
  """
  own = features(g_shape, bias_shape)
  shape, lengths = getattr(t, 'shape', None), spread(g_shape, own)
  if shape is None or shape[len(shape) - len(own):] != own or lengths is None:
    raise ValueError(
        f'data_dependent_init: the output of layer {path!r}, of shape {shape},'
        f' does not end in its {own} units with g of shape {g_shape}, so it is'
        ' no pre-activation. Leave the layer out by `where=`.')
  over = tuple(range(t.ndim - len(own)))
  if t.size == 0:
    raise ValueError(
        f'data_dependent_init: the output of layer {path!r}, of shape {shape},'
        ' is empty. Pass a batch of a hundred examples or more.')
  narrow, full = t.dtype, accumulator(t.dtype)
  t = t.astype(full)
  mean = jnp.mean(t, over)
  centered = t - jnp.expand_dims(mean, over)
  shared = tuple(a for a, size in enumerate(lengths, len(over))
                 if size != t.shape[a])
  squares = jnp.mean(centered * centered, over + shared)
  # The mean of a constant unit is off by some roundings of the accumulator, and
  # equal sums are stored to half a step of t's dtype: 1/sigma of that noise
  # would be 1e7. Sums that cancel err like their terms, so that the largest
  # mean of the layer is the scale, not the unit's own.
  noise = 16 * float(jnp.finfo(full).eps) + 0.5 * float(jnp.finfo(narrow).eps)
  deviation = jnp.sqrt(squares)
  constant = deviation <= noise * jnp.max(jnp.abs(mean), initial=0)
  return mean, jnp.where(constant, 0, deviation).reshape(g_shape)


def start(
    mean: jax.Array, deviation: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns g = 1/sigma (1 for a constant unit) and b = -mu g."""
  dead = deviation == 0
  g = jnp.where(dead, 1, 1 / jnp.where(dead, 1, deviation))
  return g, -mean * _factor(g, mean)


def _factor(g: jax.Array, mean: jax.Array) -> jax.Array:
  lengths = spread(g.shape, mean.shape)
  assert lengths is not None  # else `moments` raises
  return jnp.broadcast_to(g.reshape(lengths), mean.shape)


def passed_on(
    t: jax.Array, mean: jax.Array, deviation: jax.Array, has_bias: bool
) -> jax.Array:
  """Returns the output of the layer once g and b are set."""
  g, bias = start(mean, deviation)
  over = tuple(range(t.ndim - mean.ndim))
  y = t.astype(g.dtype) * jnp.expand_dims(_factor(g, mean), over)
  if has_bias:
    y = y + jnp.expand_dims(bias, over)
  return y.astype(t.dtype)


def split_arrays(tree: Any) -> tuple[list[Any], Any]:
  """Returns a tree's arrays, and a function that puts others in their place."""
  leaves, treedef = jax.tree.flatten(tree)
  places = [n for n, leaf in enumerate(leaves) if hasattr(leaf, 'dtype')]

  def join(arrays):
    filled = list(leaves)
    for place, array in zip(places, arrays, strict=True):
      filled[place] = array
    return jax.tree.unflatten(treedef, filled)

  return [leaves[n] for n in places], join
