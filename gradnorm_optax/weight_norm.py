"""Weight Normalization inside the optimizer: the model stays as it is."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp

from gradnorm_optax import _shards, _tree, _weight_norm_math as math
from gradnorm_optax._apply import check_transformation
from gradnorm_optax._floats import root
from gradnorm_optax._layout import LeafSpec
from gradnorm_optax._weight_norm_step import Step, unit_sums, wide

__all__ = ['WeightNormalizedState', 'weight_normalized']

_NAME = 'weight_normalized'


class WeightNormalizedState(NamedTuple):
  """State of `weight_normalized`.

  Where `where` does not match a leaf, and where `inner` holds an array of size
  0, a zero of shape (1,) stands in its place: orbax saves no empty arrays.
  """

  v: Any  # like params: directions, at least float32
  g: Any  # like params, but size 1 along fan-in: lengths, at least float32
  size: Any  # like g: the larger ||w|| before and after the last step, and more
  # for the rounding of updates whose dtype is coarser than the parameters'
  inner: Any  # the inner optimizer's, on {'v': ..., 'g': ...}


def weight_normalized(
    inner: optax.GradientTransformation, *,
    where: str | Sequence[str] = '*kernel',
    blocks: Any = 'unit', axis_name: Any = None,
) -> optax.GradientTransformationExtraArgs:
  r"""Trains length and direction of each weight in place of the weight.

  Each output unit's weight is :math:`w = g\, v / \lVert v \rVert` (Eq. 2 of
  [1]). The gradient that arrives is that of :math:`w`; with it (Eq. 3)

  .. math:: \nabla_g = \langle \nabla_w, v \rangle / \lVert v \rVert, \qquad
      \nabla_v = \frac{g}{\lVert v \rVert} \nabla_w
      - \frac{g \nabla_g}{\lVert v \rVert^2} v

  `inner` takes a step on (g, v), and what comes out is
  :math:`g v / \lVert v \rVert - w`. That is exact for every inner optimizer:
  the trajectory is that of a model whose layers hold g and v. At the start
  :math:`v = w` and :math:`g = \lVert w \rVert`.

  This must be the last transformation of a chain. Learning rate, schedules,
  clipping and weight decay belong inside `inner`; behind this, a factor on the
  update would leave parameters that are not g v/||v||. `inner` sees the tree
  `{'v': like params, 'g': like params}`: leaves that `where` does not match
  stand under 'v' as they are, and under 'g' as an array of size 0. So a decay
  mask for g and v is a tree (or a function of a tree) of that form.

  Parameters edited from outside (an average swapped in, a checkpoint mended)
  are noticed unit by unit: where |p - w| > 16 u ||w||, u the unit roundoff of
  the parameter's dtype and ||w|| the larger of those before and after the last
  step, v and g restart from p. Where updates have a coarser dtype than
  parameters, 16 of their roundoffs of the last update are added to the bound. A
  zero unit takes inner's step as a plain weight, then g = ||v||.

  Norms are plain sums of squares in float32, so a unit's norm has to lie
  between 1e-19 and 1e19: larger ones overflow, smaller ones count as zero.

  Departs from [1]: a zero unit is defined; the initialization from data needs
  the model and is in `gradnorm_optax.linen` and `gradnorm_optax.nnx`.

  Args:
    inner: Any optax optimizer. Extra arguments of `update` reach it.
    where: Glob, or several, on paths `a/b/kernel` of leaves to normalize.
    blocks: "unit" (one norm for each output), "leaf" (one for each array), or
      a `gn.Blocks` with either, which names layer axes (`stacked`), fan-in
      axes (`fan_in`, `units`) and shards.
    axis_name: Mesh axis, or a tuple of them, over which leaves are sharded
      inside `shard_map` or `pmap`. Plain `jit` needs nothing.

  Returns:
    A transformation that needs `params`. Its state holds g and v in float32
    (float64 for float64 parameters); updates keep their dtype.

  Raises:
    ValueError: A glob matches nothing, `params` is missing or another tree,
      `blocks` is neither by unit nor by leaf or does not fit the tree.
    TypeError: `inner` is no transformation, or a leaf is not of real floating
      point.

  Examples:
    >>> import gradnorm_optax as gn, jax.numpy as jnp, optax
    >>> tx = gn.weight_normalized(optax.sgd(0.1))
    >>> params = {'kernel': jnp.array([[3.], [4.]])}
    >>> grads = {'kernel': jnp.array([[1.], [2.]])}
    >>> state = tx.init(params)
    >>> updates, state = tx.update(grads, state, params)
    >>> print(state.g['kernel'])  # 5 - 0.1 * <grad, v>/||v||
    [[4.78]]

  References:
    [1] Salimans and Kingma, `Weight Normalization: A Simple
    Reparameterization to Accelerate Training of Deep Neural Networks
    <https://arxiv.org/abs/1602.07868>`_, 2016
  """
  check_transformation(_NAME, inner)
  globs = math.check_where(where, _NAME)
  found = math.check_blocks(blocks, _NAME)
  within = optax.with_extra_args_support(inner)

  def init(params):
    leaves, treedef = _tree.flatten(params)
    specs = math.select(globs, found, params, _NAME).specs
    v, g = list(leaves), list(leaves)
    position, lengths = list(leaves), list(leaves)
    matched = {n: spec for n, spec in enumerate(specs)
               if spec is not None and not _tree.is_hole(leaves[n])}
    for n, leaf in enumerate(leaves):
      if not _tree.is_hole(leaf):
        v[n] = g[n] = jnp.zeros(1, jnp.float32)
        lengths[n] = jnp.zeros(0, jnp.float32)
    for n, spec in matched.items():
      v[n] = position[n] = wide(leaves[n], spec)
    # Parameters are whole where `init` is called outside of `shard_map`.
    squares = unit_sums(
        [jnp.square(v[n]) for n in matched], list(matched.values()),
        [leaves[n] for n in matched],
        axis_name if _shards.bound(axis_name) else None)
    for n, total in zip(matched, squares, strict=True):
      g[n] = lengths[n] = root(total)
    # `inner` may keep what it is given, and state and parameters may be donated
    # together: so no two of these share an array.
    v, g, size, position, lengths = (
        jax.tree.unflatten(treedef, [
            x if _tree.is_hole(x) else jnp.array(x) for x in part])
        for part in (v, g, g, position, lengths))
    return WeightNormalizedState(
        v, g, size, _fill(within.init({'v': position, 'g': lengths})))

  def update(updates, state, params=None, **extra_args):
    _tree.require_params(params, _NAME)
    _tree.require_same(_NAME, updates, params, 'parameters')
    specs = math.select(globs, found, params, _NAME).specs
    _require_state(state, params, specs)
    step = Step(specs, updates, state, params, axis_name)
    position = step.position()
    inner_state = _empty(state.inner, jax.eval_shape(within.init, position))
    moves, inner_state = within.update(
        step.gradients(), inner_state, position, **extra_args)
    result, v, g, size = step.move(moves)
    return result, WeightNormalizedState(v, g, size, _fill(inner_state))

  return optax.GradientTransformationExtraArgs(init, update)


def _fill(state: Any) -> Any:
  """Puts a zero in place of each empty array of inner's state."""
  return jax.tree.map(
      lambda x: jnp.zeros(1, x.dtype) if jnp.size(x) == 0 else x, state)


def _empty(state: Any, shapes: Any) -> Any:
  """Undoes `_fill`."""
  return jax.tree.map(
      lambda x, shape: jnp.zeros(shape.shape, shape.dtype)
      if 0 in shape.shape else x, state, shapes)


def _require_state(
    state: WeightNormalizedState, params: Any, specs: Sequence[LeafSpec | None]
) -> None:
  paths = _tree.paths(params)
  held = _tree.flatten(state.v)[0]
  same = _tree.paths(state.v) == paths
  for path, leaf, spec in zip(paths, held, specs, strict=True) if same else ():
    if spec is not None and not _tree.is_hole(leaf) and (
        leaf.shape != spec.shape):
      raise ValueError(
          f'{_NAME}: leaf {path or _tree.ROOT!r} has shape {spec.shape} in the'
          f' parameters and {leaf.shape} in the state. Call `init` again after'
          ' changing the model.')
  if not same:
    changed = sorted(set(paths) ^ set(_tree.paths(state.v)))
    raise ValueError(
        f'{_NAME}: the tree changed since `init`:'
        f' {", ".join(map(repr, changed[:3]))}. Call `init` again after'
        ' changing the model.')
