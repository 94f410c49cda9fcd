"""How a step on each example of a pool would change the long-term norm."""

import math
from typing import Any

import jax
import numpy as np
from jax import lax, numpy as jnp

from gradnorm_optax import _floats, _tree
from gradnorm_optax.sgr import norms


def contributions(
    per_example_loss: norms.PerExampleLoss, params: Any, batch: Any, *,
    shape: tuple[int, int, int], horizon: Any, probe: int | None = None,
    relative: bool = False,
) -> tuple[jax.Array, jax.Array]:
  r"""Scores a pool: how a gradient step on each example changes the norm.

  With :math:`Q_h` of `long_term_log_norm`,

  .. math:: s_i = -\langle \nabla_w Q_h, \nabla_w L_i \rangle

  so that a step of size :math:`\eta` on the mean gradient of some examples
  changes :math:`Q_h` by about :math:`\eta` times the mean of their scores. All
  scores come from one forward-mode pass of the pool along
  :math:`\nabla_w Q_h`: there are no per-example gradients, and memory does not
  grow with pool x parameters.

  Scores that are not finite are 0; where :math:`Q_h` or its gradient is not
  finite, all are. `select` then chooses at random.

  Args:
    per_example_loss: As for `deltas`.
    params: As for `deltas`.
    batch: The pool: a tree of arrays with leading axis B.
    shape: (T, B, H), the shape of `perturb` for the pool.
    horizon: As for `long_term_log_norm`.
    probe: Q and its gradient are taken on the first `probe` examples; None for
      the whole pool.
    relative: As for `long_term_log_norm`.

  Returns:
    The scores (B,), in the dtype of the losses, and the scalar Q.

  Raises:
    TypeError: A parameter is not real floating-point, or `probe` or a horizon
      no integer.
    ValueError: An array of the batch has no leading axis B, an argument is out
      of range, or the losses make no use of `perturb`.

  Examples:
    The scalar net of `deltas`, w = .5: the norm is w^2, and a step of .1 on the
    example with target 1 moves it by about .075.

    >>> import gradnorm_optax as gn, jax, jax.numpy as jnp, math
    >>> def loss(w, u, perturb):
    ...   step = lambda z, inputs: (inputs[0] + w * z + inputs[1], None)
    ...   u = u.T[..., None]
    ...   z, _ = jax.lax.scan(step, jnp.zeros(u.shape[1:]), (u, perturb))
    ...   return (z[:, 0] - 1) ** 2 / 2
    >>> s, Q = gn.sgr.contributions(
    ...     loss, jnp.array(.5), jnp.array([[1., 0., 0.]]), shape=(3, 1, 1),
    ...     horizon=2, relative=True)
    >>> print(f'{.1 * s[0] * math.log(10) * 10 ** Q:.4f}')
    0.0750

  References:
    Chernodub, Nowicki, `Sampling-based Gradient Regularization for Capturing
    Long-Term Dependencies in Recurrent Neural Networks
    <https://arxiv.org/abs/1606.07767>`_, 2016
  """
  name = 'contributions'
  steps, size, width = norms.check_shape(name, shape)
  probe = size if probe is None else norms.integer(name, 'probe', probe)
  if not 1 <= probe <= size:
    raise ValueError(
        f'{name}(probe={probe}): must be from 1 to the size of the pool'
        f' ({size}).')
  _check_batch(batch, size)
  few = batch if probe == size else jax.tree.map(
      lambda x: norms.rows(x, slice(probe)), batch)
  value, gradient = long_term_gradient(
      per_example_loss, params, few, shape=(steps, probe, width),
      horizon=horizon, relative=relative)
  usable = jnp.isfinite(value) & _all_finite(gradient)
  gradient = jax.tree.map(
      lambda g: jnp.where(usable, g, jnp.zeros_like(g)), gradient)
  still = jnp.zeros((steps, size, width), norms.widest(params, name))
  losses, slopes = jax.jvp(
      lambda w: per_example_loss(w, batch, still), (params,), (gradient,))
  norms.check_losses(losses, (steps, size, width))
  good = jnp.isfinite(slopes) & usable
  return jnp.where(good, -slopes, jnp.zeros_like(slopes)), value


def long_term_gradient(
    per_example_loss: norms.PerExampleLoss, params: Any, batch: Any, *,
    shape: tuple[int, int, int], horizon: Any, relative: bool = False,
) -> tuple[jax.Array, Any]:
  r"""Computes the long-term log norm and its gradient by the parameters.

  The gradient is exact: a second derivative, through the activations. Where the
  norm comes near the end of the dtype's range, the backward pass is repeated
  from losses times a power of two, which about doubles the reachable range of
  exponents (float32: norms down to about 1e-60). Beyond that Q is -inf or NaN
  and the gradient not finite.

  Args:
    per_example_loss: As for `deltas`.
    params: As for `deltas`.
    batch: As for `deltas`.
    shape: As for `deltas`.
    horizon: As for `long_term_log_norm`.
    relative: As for `long_term_log_norm`.

  Returns:
    Q and its gradient, what `regularize_by_sampling` takes as
    `long_term_log_norm=` and `long_term_grad=`.

  Raises:
    TypeError: A parameter is not real floating-point.
    ValueError: As for `deltas` and `long_term_log_norm`.

  Examples:
    >>> import gradnorm_optax as gn, jax.numpy as jnp
    >>> loss = lambda w, x, perturb: w * (x + perturb[0, :, 0])
    >>> Q, grad = gn.sgr.long_term_gradient(
    ...     loss, jnp.array(10.), jnp.ones(2), shape=(1, 2, 1), horizon=0)
    >>> print(f'{Q:.3f} {grad:.4f}')
    1.000 0.0434

  References:
    Chernodub, Nowicki, `Sampling-based Gradient Regularization for Capturing
    Long-Term Dependencies in Recurrent Neural Networks
    <https://arxiv.org/abs/1606.07767>`_, 2016
  """
  name = 'long_term_gradient'
  shape = norms.check_shape(name, shape)
  horizon = norms.check_horizon(name, horizon, shape[0])
  norms.check_perturb(name, per_example_loss, params, batch, shape)
  dtype = norms.widest(params, name)
  wide = _floats.accumulator([jnp.zeros([], dtype)])
  shift = jnp.finfo(dtype).maxexp * 3 // 4
  safe = 0.8 * math.log10(2) * jnp.finfo(dtype).maxexp

  def measure(params: Any, exponent: jax.Array) -> Any:
    seed = jnp.ldexp(jnp.ones([], wide), exponent)
    found = norms.seeded_deltas(per_example_loss, params, batch, shape, seed)
    value = norms.long_term_log_norm(found, horizon)
    reached = lax.stop_gradient(value)
    if relative:
      value = value - norms.log_mean_norm(found[-1])
    else:
      value = value - exponent.astype(wide) * math.log10(2)
    return value, reached

  def again(carry: Any) -> Any:
    tries, exponent, _, _, _ = carry
    (value, reached), gradient = jax.value_and_grad(
        measure, has_aux=True)(params, exponent)
    fine = ((jnp.abs(reached) < safe) & jnp.isfinite(value)
            & _all_finite(gradient))
    # NaN means that infinities met: the norm exploded.
    exponent = jnp.where(reached < 0, shift, -shift).astype(jnp.int32)
    return tries + 1, exponent, fine, value, gradient

  _, _, _, value, gradient = lax.while_loop(
      lambda carry: (carry[0] < 2) & ~carry[2], again,
      (jnp.int32(0), jnp.int32(0), jnp.array(False), jnp.zeros([], wide),
       jax.tree.map(jnp.zeros_like, params)))
  return value, gradient


def _all_finite(tree: Any) -> jax.Array:
  finite = jnp.array(True)
  for leaf in jax.tree.leaves(tree):
    finite &= jnp.isfinite(leaf).all()
  return finite


def _check_batch(batch: Any, size: int) -> None:
  """Raises `ValueError` where an array of the batch is not example by row."""
  leaves, _ = _tree.flatten(batch)
  for leaf, path in zip(leaves, _tree.paths(batch), strict=True):
    if not _tree.is_hole(leaf) and np.shape(leaf)[:1] != (size,):
      raise ValueError(
          f'contributions: array {path!r} of the batch has shape'
          f' {np.shape(leaf)}, but shape= says that the pool has {size}'
          ' examples. Examples go along the first axis; transpose inside'
          ' per_example_loss.')
