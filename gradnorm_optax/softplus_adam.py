"""Adam with a softplus denominator, the released default of SING's authors."""

import functools
from typing import Any

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

# log(1 + t) by powers of t on [0, 1], to 4e-8: interpolated at Chebyshev's
# nodes. A logarithm of any float32 is most of what a softplus costs otherwise.
_LOG1P = (3.910905e-8, 0.9999936, -0.4998255, 0.33144665, -0.23943338,
          0.16499813, -0.09229041, 0.0342646, -0.006006605)


def scale_by_softplus_adam(
    b1: ArrayLike = 0.9, b2: ArrayLike = 0.999, eps: ArrayLike = 1e-8,
    beta: ArrayLike | None = 50.0, *, eps_root: ArrayLike = 0.0,
    mu_dtype: Any = None, nesterov: bool = False,
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
    eps_root: Added to the second moment inside the root, as in optax.
    mu_dtype: Of the first moment between steps; None: that of the second.
    nesterov: Whether to use Nesterov's momentum, as in optax.

  Returns:
    A transformation with `optax.ScaleByAdamState`; moments are float32 (float64
    for float64 leaves) and lie where the parameters lie, results have the dtype
    of the updates. Its derivative is finite also where an entry is 0.

  Raises:
    ValueError: A decay is outside [0, 1), or `beta` is not positive.
    TypeError: A leaf is complex or not floating-point, or `mu_dtype` is not.

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
  check_nonnegative(name, eps=eps, eps_root=eps_root)
  if beta is not None:
    check_positive(name, beta=beta)
  if mu_dtype is not None:
    if not jnp.issubdtype(mu_dtype, jnp.floating):
      raise TypeError(f'{name}(mu_dtype={mu_dtype!r}): a floating-point dtype.')
    mu_dtype = jax.dtypes.canonicalize_dtype(mu_dtype)

  def init(params):
    for index in (layout := resolve('global', params, name)).active:
      spec = layout.spec(index)
      if jnp.issubdtype(spec.dtype, jnp.complexfloating):
        raise TypeError(
            f'{name}: leaf {spec.path!r} is complex. Split it into real and'
            ' imaginary parts (optax.contrib.split_real_and_imaginary).')

    def moments(dtype=None):
      return jax.tree.map(lambda p: jnp.zeros_like(  # keeps its sharding
          p, dtype or _accumulator(p)), params)

    return optax.ScaleByAdamState(
        jnp.zeros([], jnp.int32), moments(mu_dtype), moments())

  def update(updates, state, params=None, **extra_args):
    del params, extra_args
    resolve('global', updates, name)
    _tree.require_same(name, updates, state.mu, 'state')
    count = optax.safe_increment(state.count)
    static = all(isinstance(value, (int, float, type(None)))
                 for value in (b1, b2, eps, beta, eps_root))
    step = functools.partial(  # outside of jit, one program for each shape
        _compiled if static else _softplus_adam, count=count, b1=b1, b2=b2,
        eps=eps, beta=beta, eps_root=eps_root, nesterov=nesterov)
    leaves, treedef = _tree.flatten(updates)
    mu, mu_def = _tree.flatten(state.mu)
    nu, nu_def = _tree.flatten(state.nu)
    place = {path: i for i, path in enumerate(_tree.paths(state.mu))}
    for n, path in enumerate(_tree.paths(updates)):
      if not _tree.is_hole(leaves[n]):
        i = place[path]
        leaves[n], mu[i], nu[i] = step(leaves[n], mu[i], nu[i])
    return treedef.unflatten(leaves), optax.ScaleByAdamState(
        count, mu_def.unflatten(mu), nu_def.unflatten(nu))

  return optax.GradientTransformationExtraArgs(init, update)


def _accumulator(leaf: Any) -> Any:
  dtype = jnp.result_type(leaf)
  # An empty integer array passes through every transformation.
  real = jnp.issubdtype(dtype, jnp.floating)
  return _floats.accumulator([jax.ShapeDtypeStruct((), dtype)] if real else [])


def _softplus_adam(
    g, mu, nu, *, count, b1, b2, eps, beta, eps_root, nesterov):
  """Returns one leaf's update and its moments."""
  dtype, mu_dtype = nu.dtype, mu.dtype
  number = lambda value: jnp.asarray(value).astype(dtype)  # noqa: E731

  def corrected(moment, decay, steps):
    # By 1 - decay^steps, without cancellation; a product is fast.
    return moment * (-1 / jnp.expm1(
        steps.astype(dtype) * jnp.log1p(-number(1 - decay))))

  wide = jnp.asarray(g).astype(dtype)
  mu = number(b1) * mu.astype(dtype) + number(1 - b1) * wide
  nu = number(b2) * nu + number(1 - b2) * wide**2
  step = corrected(mu, b1, count)
  if nesterov:
    step = (number(b1) * corrected(mu, b1, optax.safe_increment(count))
            + number(1 - b1) * corrected(wide, b1, count))
  d = _floats.root(corrected(nu, b2, count) + number(eps_root))
  if beta is None:
    d = d + number(eps)
    d = jnp.where(d == 0, 1, d)  # at rest, with an eps that was rounded to 0
  else:
    step, d = step * number(beta), _softplus(number(beta) * d)
  return (step / d).astype(jnp.asarray(g).dtype), mu.astype(mu_dtype), nu


def _softplus(x: jax.Array) -> jax.Array:
  """Returns log(1 + e^x) for x of at least 0, to 2.5e-7 in float32."""
  t = jnp.exp(-x)
  if x.dtype != jnp.float32:
    return x + jnp.log(1 + t)
  return x + functools.reduce(
      lambda total, power: total * t + power, _LOG1P[-2::-1],
      jnp.full_like(t, _LOG1P[-1]))


_compiled = jax.jit(
    _softplus_adam, inline=True,
    static_argnames=('b1', 'b2', 'eps', 'beta', 'eps_root', 'nesterov'))
