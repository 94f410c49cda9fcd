"""Adam with a softplus denominator, the released default of SING's authors."""

import jax
import optax
from jax import numpy as jnp
from jax.typing import ArrayLike

from gradnorm_optax import _floats, _tree
from gradnorm_optax._apply import (
    check_decays,
    check_nonnegative,
    check_positive,
)
from gradnorm_optax._layout import resolve

__all__ = ['scale_by_softplus_adam']


def scale_by_softplus_adam(
    b1: ArrayLike = 0.9, b2: ArrayLike = 0.999, eps: ArrayLike = 1e-8,
    beta: ArrayLike | None = 50.0,
) -> optax.GradientTransformationExtraArgs:
  r"""Rescales updates by Adam with a softplus in place of epsilon.

  With :math:`\hat m, \hat v` Adam's bias-corrected moments and
  :math:`d = \sqrt{\hat v}`,

  .. math:: u = \hat m / \left( \tfrac{1}{\beta} \log(1 + e^{\beta d}) \right)

  The denominator never falls below :math:`\log 2 / \beta`: a floor that is
  smooth, and the released default of SING's authors. With `beta=None` it is
  d + eps, as in `optax.scale_by_adam`.

  Args:
    b1: Decay of the first moment.
    b2: Decay of the second moment.
    eps: Added to d where `beta` is None; else unused.
    beta: Sharpness of the softplus, or None.

  Returns:
    A transformation with `optax.ScaleByAdamState`; moments are float32 (float64
    for float64 leaves), results have the dtype of the updates.

  Raises:
    ValueError: A decay is outside [0, 1), or `beta` is not positive.

  Examples:
    >>> import gradnorm_optax as gn, jax.numpy as jnp
    >>> tx = gn.scale_by_softplus_adam(beta=1.0)
    >>> g = jnp.array([0., 1.])
    >>> print(tx.update(g, tx.init(g))[0].round(5))
    [0.      0.76146]

  References:
    [1] Courtois et al., `SING: A Plug-and-Play DNN Learning Technique
    <https://arxiv.org/abs/2305.15997>`_, 2023
  """
  name = 'scale_by_softplus_adam'
  check_decays(name, b1=b1, b2=b2)
  check_nonnegative(name, eps=eps)
  if beta is not None:
    check_positive(name, beta=beta)

  def init(params):
    for index in (layout := resolve('leaf', params, name)).active:
      spec = layout.spec(index)
      if jnp.issubdtype(spec.dtype, jnp.complexfloating):
        raise TypeError(
            f'{name}: leaf {spec.path!r} is complex. Split it into real and'
            ' imaginary parts (optax.contrib.split_real_and_imaginary).')

    def moment(p):
      # An empty integer array passes through every transformation.
      real = jnp.issubdtype(jnp.result_type(p), jnp.floating)
      return jnp.zeros(jnp.shape(p), _floats.accumulator(
          [jnp.asarray(p)] if real else []))

    return optax.ScaleByAdamState(
        jnp.zeros([], jnp.int32), jax.tree.map(moment, params),
        jax.tree.map(moment, params))

  def update(updates, state, params=None, **extra_args):
    del params, extra_args
    resolve('leaf', updates, name)
    _tree.require_same(name, updates, state.mu, 'state')
    leaves, treedef = _tree.flatten(updates)
    count = optax.safe_increment(state.count)
    moments = zip(leaves, treedef.flatten_up_to(state.mu),
                  treedef.flatten_up_to(state.nu), strict=True)
    columns = zip(*(
        (leaf, mu, nu) if _tree.is_hole(leaf)
        else _softplus_adam(leaf, mu, nu, count, b1, b2, eps, beta)
        for leaf, mu, nu in moments), strict=True)
    result, mu, nu = map(treedef.unflatten, columns) if leaves else (
        updates, state.mu, state.nu)
    return result, optax.ScaleByAdamState(count, mu, nu)

  return optax.GradientTransformationExtraArgs(init, update)


def _softplus_adam(g, mu, nu, count, b1, b2, eps, beta):
  """Returns one leaf's update and its moments."""
  number = lambda value: jnp.asarray(value).astype(mu.dtype)  # noqa: E731

  def correction(decay):  # 1 - decay^count, without cancellation
    return -jnp.expm1(
        count.astype(mu.dtype) * jnp.log1p(-number(1 - decay)))

  wide = jnp.asarray(g).astype(mu.dtype)
  mu = number(b1) * mu + number(1 - b1) * wide
  nu = number(b2) * nu + number(1 - b2) * wide**2
  d = jnp.sqrt(nu) / jnp.sqrt(correction(b2))
  still = (mu == 0) & (nu == 0)  # also where eps was rounded to 0
  if beta is None:
    d = d + number(eps)
  else:
    d = jax.nn.softplus(number(beta) * d) / number(beta)
  step = mu / correction(b1) / jnp.where(still, 1, d)
  return step.astype(jnp.asarray(g).dtype), mu, nu
