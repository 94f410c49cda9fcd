"""SING: standardized gradients in front of AdamW or any optimizer."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax
from jax import numpy as jnp
from jax.typing import ArrayLike

from gradnorm_optax import _norms, _tree
from gradnorm_optax._apply import (
    check_decays,
    check_nonnegative,
    check_positive,
    check_schedules,
    stateless,
)
from gradnorm_optax._layout import Layout, resolve
from gradnorm_optax.blocks import as_blocks
from gradnorm_optax.softplus_adam import scale_by_softplus_adam

__all__ = ['centralize', 'sing', 'standardize']


def centralize(
    blocks: Any = 'leaf', *, axis_name: Any = None
) -> optax.GradientTransformationExtraArgs:
  r"""Subtracts the fan-in mean of each output unit.

  For the entries :math:`g_{ij}` of an array, :math:`i` over the fan-in axes and
  :math:`j` over the output units,

  .. math:: u_{ij} = g_{ij} - \frac{1}{n} \sum_{i'} g_{i'j}

  Only arrays of rank >= 2 with a fan-in above 1 are centered (layer axes not
  counted; a bias counts as rank 1 whatever its shape); the others pass. It is
  an orthogonal projection: every unit's mean weight stays where it is.

  Departs from `optax.centralize`, which averages over all axes but the first:
  those are the fan-in axes of torch's layout, and of no Flax kernel.

  Args:
    blocks: A `gn.Blocks` or one of its kinds; only its fan-in axes, layer axes
      and skipped leaves matter here.
    axis_name: Mesh axis, or a tuple of them, over which leaves are sharded
      inside `shard_map` or `pmap`. Plain `jit` needs nothing.

  Returns:
    A stateless transformation that keeps each leaf's dtype.

  Raises:
    ValueError: An array of rank >= 2 has no known fan-in axes.
    TypeError: A leaf is not a floating-point array.

  Examples:
    >>> import gradnorm_optax as gn, jax.numpy as jnp
    >>> tx = gn.centralize()
    >>> g = {'kernel': jnp.array([[1., 2.], [3., 6.]])}  # (in, out)
    >>> print(tx.update(g, tx.init(g))[0]['kernel'])
    [[-1. -2.]
     [ 1.  2.]]

  References:
    [1] Yong et al., `Gradient Centralization: A New Optimization Technique for
    Deep Neural Networks <https://arxiv.org/abs/2004.01461>`_, 2020
  """

  def apply(layout: Layout, leaves: list[Any], params: None) -> list[Any]:
    return _norms.centralize(layout, leaves, axis_name)

  return stateless('centralize', blocks, apply, fan_in=True)


def standardize(
    blocks: Any = 'leaf', *, eps: ArrayLike = 1e-8, axis_name: Any = None
) -> optax.GradientTransformationExtraArgs:
  r"""Centralizes the updates and divides each block by its L2 norm.

  With :math:`g^c` the centralized gradient (see `centralize`),

  .. math:: u_i = g^c_i / (\lVert g^c_i \rVert_2 + \varepsilon)

  This is SING's core (Algorithm 1 of [1]), to be put in front of any optimizer.
  Every array is normalized, biases and scalars too (a scalar becomes its sign);
  "standardized" means unit L2 norm, not unit variance. With D nonzero blocks a
  momentum-free step has length exactly `learning_rate * sqrt(D)`, so a rate
  above diameter / sqrt(D) leaves any basin of that diameter in one step.

  Departs from the authors' code in that a fan-in of 1 is not centered (nothing
  would be left of it), and a gradient that is constant along its fan-in up to
  8 unit roundoffs of its dtype gives zeros, not rounding noise of norm one.

  Args:
    blocks: A `gn.Blocks` or one of its kinds. Under `optax.masked` and
      `optax.partition` a block is cut where the partition cuts it.
    eps: Added to the norm, outside the root.
    axis_name: Mesh axis, or a tuple of them, over which leaves are sharded
      inside `shard_map` or `pmap`; means and norms take one collective. Plain
      `jit` needs nothing.

  Returns:
    A stateless transformation that keeps each leaf's dtype.

  Raises:
    ValueError: `eps` is negative; an array of rank >= 2 has no known fan-in.
    TypeError: A leaf is not a floating-point array.

  Examples:
    >>> import gradnorm_optax as gn, jax.numpy as jnp
    >>> tx = gn.standardize(eps=0.0)
    >>> g = {'kernel': jnp.array([[1., 2.], [7., 10.]])}  # (in, out)
    >>> print(*(f'{u:.4f}' for u in tx.update(g, tx.init(g))[0]['kernel'][0]))
    -0.4243 -0.5657

  References:
    [1] Courtois et al., `SING: A Plug-and-Play DNN Learning Technique
    <https://arxiv.org/abs/2305.15997>`_, 2023
  """
  check_nonnegative('standardize', eps=eps)

  def apply(layout: Layout, leaves: list[Any], params: None) -> list[Any]:
    return _norms.normalize(layout, leaves, eps, axis_name, True)

  return stateless('standardize', blocks, apply, fan_in=True)


def sing(
    learning_rate: optax.ScalarOrSchedule, *, b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999, eps: ArrayLike = 1e-8,
    weight_decay: ArrayLike = 0.0, softplus_beta: ArrayLike | None = None,
    mask: Any | Callable[[optax.Params], Any] | None = None,
    blocks: Any = 'leaf', axis_name: Any = None, eps_root: ArrayLike = 0.0,
    mu_dtype: Any = None, nesterov: bool = False,
) -> optax.GradientTransformationExtraArgs:
  r"""Trains with standardized gradients in front of AdamW.

  The chain of `standardize` (with its own epsilon of 1e-8), Adam, decoupled
  weight decay and the learning rate:

  .. math:: p \leftarrow p - \eta \left( \hat m / d + \lambda p \right)

  The authors' full setting is `optax.lookahead(gn.sing(lr, weight_decay=wd,
  softplus_beta=50.0), sync_period=5, slow_step_size=0.5)`, with the *fast*
  weights evaluated (`params.fast`).

  Their advice: a learning rate about 10x AdamW's best (grid 5e-3..1e-1), a
  weight decay about 10x lower (5e-4..5e-1), 5% warm-up and then cosine; and
  where the gradient norm rises while the loss falls, freeze LayerNorm's scale
  and bias (`optax.partition` with `optax.set_to_zero`).

  Args:
    learning_rate: A number or a schedule, as in optax.
    b1: Decay of the first moment.
    b2: Decay of the second moment.
    eps: Adam's, added to d where `softplus_beta` is None.
    weight_decay: Factor of the parameters, multiplied by the learning rate; a
      number or a schedule, as in optax.
    softplus_beta: Sharpness of the softplus denominator (50 in the authors'
      code), or None for Adam's own.
    mask: Which leaves decay, as in `optax.adamw`. By default arrays of rank
      >= 2, layer axes not counted, so neither biases nor norms' scales.
    blocks: A `gn.Blocks` or one of its kinds; the paper's is "leaf". Leaves
      that it skips are not standardized; of them floating-point ones are still
      trained by AdamW, others (an integer table) are not touched: their update
      is 0 and they have no moments.
    axis_name: As in `standardize`.
    eps_root: Adam's, added to the second moment inside the root.
    mu_dtype: Of the first moment between steps; None: that of the second.
    nesterov: Whether to use Nesterov's momentum, as in optax.

  Returns:
    An optimizer that needs `params`. Updates have the parameters' dtype, or the
    gradients' where that is wider.

  Raises:
    ValueError: A hyper-parameter is out of range; see also `standardize`.
    TypeError: A leaf is not a floating-point array.

  Examples:
    >>> import gradnorm_optax as gn, jax.numpy as jnp, optax
    >>> tx = gn.sing(0.1, weight_decay=0.01)
    >>> params = {'kernel': jnp.array([[1.], [2.]])}
    >>> grads = {'kernel': jnp.array([[100.], [300.]])}
    >>> updates, _ = tx.update(grads, tx.init(params), params)
    >>> print(*(f'{u:.3f}' for u in updates['kernel'].ravel()))
    0.099 -0.102

  References:
    [1] Courtois et al., `SING: A Plug-and-Play DNN Learning Technique
    <https://arxiv.org/abs/2305.15997>`_, 2023
  """
  check_decays('sing', b1=b1, b2=b2)
  check_nonnegative('sing', eps=eps, eps_root=eps_root)
  if softplus_beta is not None:
    check_positive('sing', softplus_beta=softplus_beta)
  check_schedules(
      'sing', weight_decay=weight_decay, learning_rate=learning_rate)
  blocks = as_blocks(blocks, 'sing')

  def widely(layout: Layout, leaves: list[Any], params: Any) -> list[Any]:
    units = _norms.normalize(layout, leaves, 1e-8, axis_name, True)
    return [u.astype(jnp.promote_types(u.dtype, p.dtype))
            for u, p in zip(units, params, strict=True)]

  head = stateless('sing', blocks, widely, needs_params=True, fan_in=True)
  tail = optax.chain(
      scale_by_softplus_adam(
          b1, b2, eps, softplus_beta, eps_root=eps_root, mu_dtype=mu_dtype,
          nesterov=nesterov),
      optax.add_decayed_weights(
          weight_decay, matrices(blocks) if mask is None else mask),
      optax.scale_by_learning_rate(learning_rate))

  def init(params):
    first = head.init(params)
    return first, *tail.init(_without_integers(params))

  def update(updates, state, params=None, **extra_args):
    _tree.require_params(params, 'sing')
    wide, first = head.update(updates, state[0], params)
    leaves, treedef = _tree.flatten(_without_integers(wide))
    found = _tree.by_path(params)
    params = [found.get(path) for path in _tree.paths(wide)]
    facing = [leaf if _tree.is_hole(leaf) else p  # holes face holes
              for leaf, p in zip(leaves, params, strict=True)]
    with jax.numpy_dtype_promotion('standard'):  # optax relies on it
      result, rest = tail.update(
          treedef.unflatten(leaves), state[1:], treedef.unflatten(facing),
          **extra_args)

    def finish(u, given, p):
      if not _tree.is_hole(u):  # a float32 rate or decay widens 16 bits
        return u.astype(given.dtype)
      return given if _tree.is_hole(given) else jnp.zeros_like(p)

    return treedef.unflatten(map(
        finish, _tree.flatten(result)[0], _tree.flatten(wide)[0], params)), (
            first, *rest)

  return optax.GradientTransformationExtraArgs(init, update)


def _without_integers(tree: Any) -> Any:
  """Hides what `Blocks.skip` let pass though it has no gradient."""
  return jax.tree.map(
      lambda leaf: leaf if _tree.is_hole(leaf) or jnp.issubdtype(
          jnp.result_type(leaf), jnp.inexact) else optax.MaskedNode(),
      tree, is_leaf=_tree.is_hole)


def matrices(blocks: Any) -> Callable[[Any], Any]:
  """Returns a mask of the arrays of rank >= 2, layer axes not counted."""
  every = dataclasses.replace(as_blocks(blocks, 'sing'), skip=())

  def mask(params):
    leaves, treedef = _tree.flatten(params)
    specs = resolve(every, params, 'sing').specs
    return treedef.unflatten(
        leaf if _tree.is_hole(leaf) else spec is not None and spec.rank >= 2
        for leaf, spec in zip(leaves, specs, strict=True))

  return mask
