"""Block-Normalized Gradient (BNG): every block of the gradient has norm one."""

from typing import Any

import jax
import numpy as np
import optax
from jax.typing import ArrayLike

from gradnorm_optax import _norms
from gradnorm_optax._apply import (
    check_nonnegative,
    check_transformation,
    stateless,
)
from gradnorm_optax._layout import Layout

__all__ = ['bng', 'normalize_by_block_norm', 'scale_by_block_param_norm']


def normalize_by_block_norm(
    blocks: Any = 'layer', *, eps: ArrayLike = 0.0, axis_name: Any = None
) -> optax.GradientTransformationExtraArgs:
  r"""Divides each block of the updates by its L2 norm.

  For blocks :math:`i = 1..B` of the gradient :math:`g` (Algorithm 1 of [1]),

  .. math:: u_i = g_i / (\lVert g_i \rVert_2 + \varepsilon)

  A zero block gives zeros; a block with a non-finite entry gives NaN, the
  others are unharmed. With `eps=0` the result does not depend on the scale of
  the loss. Norms are exact over the whole normal range of the input dtype.
  Accumulate micro-batches before it (`optax.MultiSteps` around the chain) and
  put momentum or Adam behind it; global clipping before it does nothing.

  Departs from [1]: nothing by default; there a block is a layer, kernel and
  bias together, and the norm has no epsilon. The theory of [1] is for convex
  objectives, and with several blocks even a convex step need not shrink the
  distance to the optimum (see docs/block_norm.md).

  Args:
    blocks: A `gn.Blocks`, or "leaf", "layer", "unit", "global", or a function
      `(path, leaf) -> label`. Under `optax.masked` and `optax.partition` a
      block is cut where the partition cuts it.
    eps: Added to the norm, outside the root.
    axis_name: Mesh axis, or a tuple of them, over which leaves are sharded
      inside `shard_map` or `pmap`. Plain `jit` needs nothing.

  Returns:
    A stateless transformation that keeps each leaf's dtype.

  Raises:
    ValueError: `eps` is negative; blocks do not fit the tree.
    TypeError: A leaf is not a floating-point array.

  Examples:
    >>> import gradnorm_optax as gn, jax.numpy as jnp
    >>> tx = gn.normalize_by_block_norm()
    >>> layer = {'kernel': jnp.array([[3e-30]]), 'bias': jnp.array([4e-30])}
    >>> updates, _ = tx.update({'Dense_0': layer}, tx.init({'Dense_0': layer}))
    >>> print(f"{updates['Dense_0']['bias'].item():.4f}")
    0.8000

  References:
    [1] Yu et al., `Block-Normalized Gradient Method: An Empirical Study for
    Training Deep Neural Network <https://arxiv.org/abs/1707.04822>`_, 2017
  """
  name = 'normalize_by_block_norm'
  check_nonnegative(name, eps=eps)

  def apply(layout: Layout, leaves: list[Any], params: None) -> list[Any]:
    return _norms.normalize(layout, leaves, eps, axis_name, False)

  return stateless(name, blocks, apply)


def scale_by_block_param_norm(
    blocks: Any = 'layer', *, ratio: ArrayLike = 0.02,
    min_norm: ArrayLike = 0.0, axis_name: Any = None,
) -> optax.GradientTransformationExtraArgs:
  r"""Multiplies each block of the updates by ratio x its parameters' L2 norm.

  .. math:: u_i = \text{ratio} \cdot \max(\lVert x_i \rVert_2,
      \text{min\_norm}) \cdot n_i

  Behind `normalize_by_block_norm` this is the paper's NG; that alone is its
  NG_UNIT. A block whose parameters are all zero would never move: `min_norm`
  is the floor. With layer blocks a zero-initialized bias moves, because it
  shares its kernel's norm.

  Args:
    blocks: As in `normalize_by_block_norm`.
    ratio: The factor; [1] searches 0.01, 0.02 and 0.05.
    min_norm: Least norm of a block of parameters.
    axis_name: As in `normalize_by_block_norm`.

  Returns:
    A stateless transformation that needs `params` and keeps the updates' dtype.

  Raises:
    ValueError: `ratio` or `min_norm` is negative; `params` is missing or is
      another tree than the updates.

  Examples:
    >>> import gradnorm_optax as gn, jax.numpy as jnp
    >>> tx = gn.scale_by_block_param_norm(ratio=0.5)
    >>> params = {'kernel': jnp.array([[3.]]), 'bias': jnp.array([4.])}
    >>> print(tx.update(params, tx.init(params), params)[0]['bias'])
    [10.]

  References:
    [1] Yu et al., `Block-Normalized Gradient Method: An Empirical Study for
    Training Deep Neural Network <https://arxiv.org/abs/1707.04822>`_, 2017
  """
  name = 'scale_by_block_param_norm'
  check_nonnegative(name, ratio=ratio, min_norm=min_norm)

  def apply(layout: Layout, leaves: list[Any], params: Any) -> list[Any]:
    return _norms.scale_by_norms(
        layout, leaves, params, ratio, min_norm, axis_name)

  return stateless(name, blocks, apply, needs_params=True)


def bng(
    inner: optax.GradientTransformation, blocks: Any = 'layer', *,
    ratio: ArrayLike | None = None, eps: ArrayLike = 0.0, axis_name: Any = None,
    min_norm: ArrayLike = 0.0,
) -> optax.GradientTransformationExtraArgs:
  """Puts block normalization in front of an optax optimizer.

  The chain of `normalize_by_block_norm` (the paper's NG_UNIT), of
  `scale_by_block_param_norm` if `ratio` is given (its NG), and `inner`.

  Args:
    inner: Any optax optimizer: it consumes the normalized gradient.
    blocks: As in `normalize_by_block_norm`.
    ratio: None, or the factor of the parameters' block norms.
    eps: As in `normalize_by_block_norm`.
    axis_name: As in `normalize_by_block_norm`.
    min_norm: Floor of the parameters' block norms, used with `ratio`. At 0 a
      layer that starts at zero (a zero-initialized output layer) never moves.

  Returns:
    An optimizer, as `optax.chain` returns it.

  Raises:
    ValueError: As its parts; `min_norm` without `ratio`.
    TypeError: `inner` is no transformation.

  Examples:
    >>> import gradnorm_optax as gn, jax.numpy as jnp, optax
    >>> tx = gn.bng(optax.sgd(0.1))
    >>> params = {'kernel': jnp.array([[3e20]]), 'bias': jnp.array([4e20])}
    >>> updates, _ = tx.update(params, tx.init(params), params)
    >>> print(f"{updates['bias'].item():.4f}")
    -0.0800

  References:
    [1] Yu et al., `Block-Normalized Gradient Method: An Empirical Study for
    Training Deep Neural Network <https://arxiv.org/abs/1707.04822>`_, 2017
  """
  check_transformation('bng', inner)
  if ratio is None and not isinstance(min_norm, jax.core.Tracer) and (
      np.any(np.asarray(min_norm) != 0)):
    raise ValueError(
        f'bng(min_norm={min_norm}): a floor of the norms that `ratio` is'
        ' multiplied by. Give `ratio` too.')
  parts = [normalize_by_block_norm(blocks, eps=eps, axis_name=axis_name)]
  if ratio is not None:
    parts.append(scale_by_block_param_norm(
        blocks, ratio=ratio, min_norm=min_norm, axis_name=axis_name))
  return optax.chain(*parts, inner)
