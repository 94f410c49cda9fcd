"""Weight Normalization inside the optimizer: the model stays as it is."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import optax
from jax import numpy as jnp

from gradnorm_optax import (
  _shards,
  _tree,
  _weight_norm_math as math,
  _weight_norm_state as kept,
  _weight_norm_step as step,
  _weight_norm_sums as sums,
  _weight_norm_update as moving,
)
from gradnorm_optax._apply import as_wide_as, check_transformation
from gradnorm_optax._floats import root
from gradnorm_optax._layout import LeafSpec

__all__ = [
    'FixedLengthsState', 'WeightNormalizedState', 'weight_normalized']

_NAME = 'weight_normalized'


class WeightNormalizedState(NamedTuple):
  """State of `weight_normalized`, {path: ...} of the leaves it normalizes.

  With it w = scale x v, and g is ||w|| with the sign of scale. In `inner` a
  zero of shape (1,) stands in place of each array of size 0.
  """

  scale: Any  # g/||v||, size 1 along fan-in, at least float32
  weights: Any  # float32 w beside parameters of a coarser dtype
  inner: Any  # the inner optimizer's, on {'v': ..., 'g': ...}


class FixedLengthsState(NamedTuple):
  """The same with `lengths="fixed"`: w = length x v, and v has norm 1."""

  length: Any  # ||w|| at the start
  weights: Any
  inner: Any


def weight_normalized(
    inner: optax.GradientTransformation, *,
    where: str | Sequence[str] = '*kernel',
    blocks: Any = 'unit', lengths: Literal['trained', 'fixed'] = 'trained',
    axis_name: Any = None,
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

  The parameters stand for v and g: with one number s = g/||v|| for each unit in
  the state, v = w/s, and g is ||w|| with the sign of s. So parameters edited
  from outside (an average swapped in, a checkpoint mended) are the new w, and
  an edited unit keeps its s. Beside parameters of bfloat16 and float16 the
  state holds float32 weights; there a unit counts as edited where `|p - w| > 16
  u ||w||`, u the unit roundoff of the parameters' dtype and ||w|| the larger of
  those before and after the last step. A zero unit takes inner's step as a
  plain weight, then g = ||v||. Where g shrinks to less than 2^-12 (float64:
  2^-26) of itself in one step, it stops there for that step: w has to tell v.

  With `lengths="fixed"` directions alone are trained: g stays ||w|| of the
  start, and v, which starts as :math:`w / g`, is divided by its norm behind
  every step, so that a step of inner is an angle whatever the length. Then

  .. math:: w \leftarrow g\, (v + \Delta) / \lVert v + \Delta \rVert, \qquad
      \nabla_v = g\, (\nabla_w - \langle \nabla_w, v \rangle v)

  with :math:`\Delta` the step of inner, to which all arrays under 'g' are of
  size 0. Units that are zero stay zero. Parameters edited from outside turn the
  unit; the next step brings back its length.

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
    lengths: Whether lengths are "trained" or "fixed" to those of the start.
    axis_name: Mesh axis, or a tuple of them, over which leaves are sharded
      inside `shard_map` or `pmap`. Plain `jit` needs nothing.

  Returns:
    A transformation that needs `params`. Its state is at least float32. Updates
    have the wider of their own dtype and the parameters'.

  Raises:
    ValueError: A glob matches nothing, `params` is missing or another tree, the
      state is one of other options, `blocks` is neither by unit nor by leaf or
      does not fit the tree, `lengths` is neither word, an array of only zeros
      would stay so.
    TypeError: `inner` is no transformation, or a leaf is not of real floating
      point.

  Examples:
    >>> import gradnorm_optax as gn, jax.numpy as jnp, optax
    >>> tx = gn.weight_normalized(optax.sgd(0.1))
    >>> params = {'kernel': jnp.array([[3.], [4.]])}
    >>> grads = {'kernel': jnp.array([[1.], [2.]])}
    >>> state = tx.init(params)
    >>> updates, state = tx.update(grads, state, params)
    >>> w = optax.apply_updates(params, updates)['kernel']
    >>> print(f'{jnp.linalg.norm(w):.4f}')  # 5 - 0.1 * <grad, v>/||v||
    4.7800

  References:
    [1] Salimans and Kingma, `Weight Normalization: A Simple
    Reparameterization to Accelerate Training of Deep Neural Networks
    <https://arxiv.org/abs/1602.07868>`_, 2016
  """
  check_transformation(_NAME, inner)
  globs = math.check_where(where, _NAME)
  found = math.check_blocks(blocks, _NAME)
  within = optax.with_extra_args_support(inner)
  if lengths not in ('trained', 'fixed'):
    raise ValueError(
        f'{_NAME}(lengths={lengths!r}): must be "trained" or "fixed".')
  fixed = lengths == 'fixed'
  kind = FixedLengthsState if fixed else WeightNormalizedState

  def matched(params):
    return math.select(globs, found, params, _NAME)

  def init(params):
    leaves, treedef = _tree.flatten(params)
    if _tree.is_placeholder(params):
      # Only v is like the parameters, not what has one number by unit.
      one = jnp.zeros((), jnp.float32)
      return kind(one, one, within.init({'v': params, 'g': one}))
    layout, in_box = matched(params), kept.boxes(params)[0]
    specs = {i: layout.spec(i) for i in layout.active}
    v, g = list(leaves), kept.no_lengths(leaves)
    # Parameters are whole where `init` is called outside of `shard_map`.
    norms = _lengths(
        leaves, specs, axis_name if _shards.bound(axis_name) else None)
    scale, weights = {}, {}
    for i, spec in specs.items():
      v[i] = _widened(leaves[i])
      if step.is_coarse(spec.dtype):
        weights[spec.path] = step.Weights(
            kept.rebox(in_box[i], _copy(v[i])), _copy(norms[i]))
      if fixed:
        _require_direction(norms[i], spec.path)
        scale[spec.path] = _copy(norms[i])
        if not isinstance(v[i], jax.ShapeDtypeStruct):
          v[i] = step.direction(v[i], norms[i])
      else:
        g[i], scale[spec.path] = norms[i], jnp.ones_like(norms[i])
    # `inner` may keep what it is given, and state and parameters may be donated
    # together: so no two of these share an array.
    position = {'v': jax.tree.unflatten(treedef, map(_copy, v)),
                'g': kept.bare(params, g)}
    return kind(scale, weights, kept.fill(within.init(position)))

  def update(updates, state, params=None, **extra_args):
    _tree.require_params(params, _NAME)
    _tree.require_same(_NAME, updates, params, 'parameters')
    new, update_def = _tree.flatten(updates)
    leaves, treedef = _tree.flatten(params)
    # Updates may be boxed where parameters are not; `inner` sees one tree.
    alike = _tree.paths(updates) == _tree.paths(params)
    inside = params if alike else updates
    layout = matched(params)
    specs = [layout.spec(i) for i in layout.active]
    kept.require_state(state, kind, specs, _tree.by_path(params), _NAME)
    scale, weights = dict(state[0]), dict(state.weights)

    # Where a parameter has no update (a hole), nothing depends on its slope.
    at = {path: n for n, path in enumerate(_tree.paths(updates))
          if not _tree.is_hole(new[n])}
    places = [at.get(spec.path) for spec in specs]
    p = [jnp.asarray(leaves[i]) for i in layout.active]
    grads = [x if n is None else jnp.asarray(new[n])
             for n, x in zip(places, p, strict=True)]
    begun = moving.start(
        specs, p, grads,
        [_opened(weights.get(spec.path)) for spec in specs],
        [scale[spec.path] for spec in specs], axis_name)

    v, g = list(leaves), kept.no_lengths(leaves)
    by_v, by_g = new, kept.no_lengths(new)
    for k, i in enumerate(layout.active):
      v[i] = begun.v[k]
      if not fixed:
        g[i] = begun.units[k].g
      if (n := places[k]) is not None:
        by_v[n] = begun.by_v[k]
        if not fixed:
          by_g[n] = begun.units[k].slope
    position = {'v': jax.tree.unflatten(treedef, v),
                'g': kept.bare(params, g)}
    moves, inner_state = within.update(
        {'v': jax.tree.unflatten(_tree.flatten(inside)[1], by_v),
         'g': kept.bare(inside, by_g)},
        kept.empty(state.inner, jax.eval_shape(within.init, position), _NAME),
        position, **extra_args)

    by_v, by_g = (_tree.flatten(moves[name])[0] for name in 'vg')
    ended = moving.finish(
        begun,
        [jnp.zeros_like(w) if n is None else by_v[n]
         for n, w in zip(places, begun.w, strict=True)],
        None if fixed else [
            jnp.zeros_like(own.g) if n is None else by_g[n]
            for n, own in zip(places, begun.units, strict=True)],
        [step.wider(x.dtype, grad.dtype)
         for x, grad in zip(p, grads, strict=True)])
    for spec, n, end in zip(specs, places, ended, strict=True):
      if n is None:
        continue
      by_v[n] = end.update
      if not fixed:
        scale[spec.path] = end.scale
      if end.weights is not None:
        box = weights[spec.path].w
        weights[spec.path] = end.weights._replace(
            w=kept.rebox(box, end.weights.w))
    result = as_wide_as(jax.tree.unflatten(update_def, by_v), params)
    return result, kind(scale, weights, kept.refill(inner_state, state.inner))

  return optax.GradientTransformationExtraArgs(init, update)


def _lengths(
    leaves: list[Any], specs: dict[int, LeafSpec], axis_name: Any
) -> dict[int, Any]:
  """Returns ||w|| by unit: abstract for an abstract leaf."""
  known = [i for i in specs if not isinstance(leaves[i], jax.ShapeDtypeStruct)]
  p, own = [jnp.asarray(leaves[i]) for i in known], [specs[i] for i in known]
  found = sums.over_devices(
      [sums.squares(x, spec.reduced) for x, spec in zip(p, own, strict=True)],
      own, p, axis_name)
  return {i: jax.ShapeDtypeStruct(
      kept.unit_shape(spec), math.accumulator(spec.dtype))
          for i, spec in specs.items()} | {
              i: root(part['ww']) for i, part in zip(known, found, strict=True)}


def _require_direction(length: Any, path: str) -> None:
  """Raises `ValueError` where a whole array would never move."""
  known = not isinstance(length, (jax.core.Tracer, jax.ShapeDtypeStruct))
  if known and length.size and not jnp.any(length):
    raise ValueError(
        f'{_NAME}(lengths="fixed"): leaf {path!r} is all zeros, and a length of'
        ' zero would stay. Leave it out of `where`, or start it elsewhere.')


def _widened(leaf: Any) -> Any:
  if isinstance(leaf, jax.ShapeDtypeStruct):
    return leaf.update(dtype=math.accumulator(leaf.dtype))
  return step.wide(jnp.asarray(leaf))


def _copy(leaf: Any) -> Any:
  same = _tree.is_hole(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)
  return leaf if same else jnp.array(leaf)


def _opened(held: Any) -> Any:
  """Returns float32 weights, if any, out of their box."""
  return held and held._replace(w=jax.tree.leaves(held.w)[0])
