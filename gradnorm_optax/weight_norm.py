"""Weight Normalization inside the optimizer: the model stays as it is."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp

from gradnorm_optax import _shards, _tree, _weight_norm_math as math
from gradnorm_optax._floats import root
from gradnorm_optax._layout import LeafSpec

__all__ = ['WeightNormalizedState', 'weight_normalized']

_NAME = 'weight_normalized'
# Parameters further than this many unit roundoffs from g v/||v|| were edited
# from outside; adding an update in their dtype costs two. Roundoffs of ||w||
# before or after that addition: where a unit shrinks a hundredfold in one step
# (g crosses zero) the rounding of the larger one remains.
_ROUNDOFFS = 16


class WeightNormalizedState(NamedTuple):
  """State of `weight_normalized`; size-0 arrays where `where` matches not."""

  v: Any  # like params: directions, at least float32
  g: Any  # like params, but size 1 along fan-in: lengths, at least float32
  size: Any  # like g: the larger ||w|| before and after the last step
  inner: Any  # the inner optimizer's, on {'v': ..., 'g': ...}


def weight_normalized(
    inner: optax.GradientTransformation, *, where: str = '*kernel',
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
  stand under 'v' as they are, and under 'g' as arrays of size 0. So a decay
  mask for g and v is a tree (or a function of a tree) of that form.

  Parameters edited from outside (an average swapped in, a checkpoint mended)
  are noticed unit by unit: where |p - w| > 16 u ||w||, u the unit roundoff of
  the parameter's dtype and ||w|| the larger of those before and after the last
  step, v and g restart from p. A zero unit takes inner's step
  as a plain weight, then g = ||v||.

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
    ValueError: `where` matches nothing, `params` is missing or another tree,
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
  if not (hasattr(inner, 'init') and hasattr(inner, 'update')):
    raise TypeError(
        f'{_NAME}(inner=...) takes an optax optimizer, not'
        f' {type(inner).__name__}: gn.weight_normalized(optax.adam(1e-3)).')
  globs = math.check_where(where, _NAME)
  found = math.check_blocks(blocks, _NAME)
  within = optax.with_extra_args_support(inner)

  def init(params):
    layout = math.select(globs, found, params, _NAME)
    leaves, treedef = _tree.flatten(params)
    v = _each(leaves, layout.specs, _copy, _nothing)
    g = _each(leaves, layout.specs,
              lambda leaf, spec: math.norm(_copy(leaf, spec), spec.reduced),
              _nothing)
    size = [x if _tree.is_hole(x) else jnp.array(x) for x in g]
    # `inner` may keep what it is given; so it gets copies of its own.
    start = _each(leaves, layout.specs, _copy, lambda leaf: jnp.array(leaf))
    tree = {'v': start, 'g': [x if _tree.is_hole(x) else jnp.array(x)
                              for x in g]}
    tree = {key: jax.tree.unflatten(treedef, x) for key, x in tree.items()}
    return WeightNormalizedState(
        *(jax.tree.unflatten(treedef, x) for x in (v, g, size)),
        within.init(tree))

  def update(updates, state, params=None, **extra_args):
    _tree.require_params(params, _NAME)
    _tree.require_same(_NAME, updates, params, 'parameters')
    layout = math.select(globs, found, params, _NAME)
    _require_state(state, params, layout.specs)
    step = _Step(layout.specs, updates, state, params, axis_name)
    moves, inner_state = within.update(
        step.gradients(), state.inner, step.position(), **extra_args)
    result, v, g, size = step.move(moves)
    return result, WeightNormalizedState(v, g, size, inner_state)

  return optax.GradientTransformationExtraArgs(init, update)


def _copy(leaf: Any, spec: LeafSpec) -> jax.Array:
  return jnp.array(leaf, math.accumulator(spec.dtype))


def _nothing(leaf: Any) -> jax.Array:
  del leaf
  return jnp.zeros((0,), jnp.float32)


def _each(leaves: list[Any], specs: Any, matched: Any, other: Any) -> list[Any]:
  """Maps leaves, by one function where they are normalized, else another."""
  return [
      leaf if _tree.is_hole(leaf) else other(leaf) if spec is None
      else matched(leaf, spec) for leaf, spec in zip(leaves, specs, strict=True)
  ]


def _require_state(
    state: WeightNormalizedState, params: Any, specs: Sequence[LeafSpec | None]
) -> None:
  paths = _tree.paths(params)
  held = _tree.flatten(state.v)[0]
  same = _tree.paths(state.v) == paths
  for path, leaf, spec in zip(paths, held, specs, strict=True) if same else ():
    wanted = (0,) if spec is None else spec.shape
    if not _tree.is_hole(leaf) and leaf.shape != wanted:
      raise ValueError(
          f'{_NAME}: leaf {path or _tree.ROOT!r} has shape {wanted} in the'
          f' parameters and {leaf.shape} in the state. Call `init` again after'
          ' changing the model.')
  if not same:
    changed = sorted(set(paths) ^ set(_tree.paths(state.v)))
    raise ValueError(
        f'{_NAME}: the tree changed since `init`:'
        f' {", ".join(map(repr, changed[:3]))}. Call `init` again after'
        ' changing the model.')


class _Point(NamedTuple):
  """Where one matched leaf stands."""

  v: jax.Array
  g: jax.Array
  norm: jax.Array  # ||v||
  size: jax.Array  # ||w||


class _Step:
  """One update: leaves by path, and the arithmetic of the matched ones."""

  def __init__(self, specs, updates, state, params, axis_name):
    self.updates, self.update_def = _tree.flatten(updates)
    self.params, self.param_def = _tree.flatten(params)
    self.v, self.v_def = _tree.flatten(state.v)
    self.g, self.g_def = _tree.flatten(state.g)
    self.size = _tree.flatten(state.size)[0]
    at = {path: i for i, path in enumerate(_tree.paths(params))}
    # Matched leaves: their index among the updates and among the parameters.
    self.slots = [
        (n, at[path]) for n, path in enumerate(_tree.paths(updates))
        if not _tree.is_hole(self.updates[n]) and specs[at[path]] is not None]
    self.specs = [specs[i] for _, i in self.slots]
    self.all_specs, self.axis_name = specs, axis_name
    self._resynchronize()

  def _sums(self, parts: list[jax.Array]) -> list[jax.Array]:
    """Sums over units; all leaves in one collective where they are cut."""
    slots = list(zip(self.specs, self.slots, strict=True))
    slots *= len(parts) // max(len(slots), 1)
    sums = [jnp.sum(part, spec.reduced, keepdims=True)
            for part, (spec, _) in zip(parts, slots, strict=True)]
    if self.axis_name is None:
      return sums
    over = [
        _shards.crossing(spec, self.params[i], spec.reduced, self.axis_name)
        for spec, (_, i) in slots]
    for dtype in {part.dtype for part in sums}:
      own = [n for n, part in enumerate(sums) if part.dtype == dtype]
      totals = _shards.psum(
          [sums[n] for n in own], [over[n] for n in own], self.axis_name)
      for n, total in zip(own, totals, strict=True):
        sums[n] = total
    return sums

  def _dots(self, *pairs: tuple[list[Any], list[Any]]) -> list[Any]:
    """Returns for each pair of lists the inner products by unit."""
    flat = self._sums([
        a * b for first, second in pairs
        for a, b in zip(first, second, strict=True)])
    count = len(self.slots)
    return [flat[n * count:][:count] for n in range(len(pairs))]

  def _resynchronize(self) -> None:
    """Sets v, g and ||v||; where p is not g v/||v||, from p."""
    v = [self.v[i] for _, i in self.slots]
    g = [self.g[i] for _, i in self.slots]
    p = [_copy(self.params[i], spec)
         for (_, i), spec in zip(self.slots, self.specs, strict=True)]
    vv, pp = self._dots((v, v), (p, p))
    norms = [root(squares) for squares in vv]
    gaps = [a - b * math.scale(c, n)
            for a, b, c, n in zip(p, v, g, norms, strict=True)]
    far, = self._dots((gaps, gaps))
    self.points = []
    for k, spec in enumerate(self.specs):
      unit = float(jnp.finfo(spec.dtype).eps) / 2
      bound = self.size[self.slots[k][1]] * (_ROUNDOFFS * unit)
      edited, length = ~(root(far[k]) <= bound), root(pp[k])
      self.points.append(_Point(
          jnp.where(edited, p[k], v[k]), jnp.where(edited, length, g[k]),
          jnp.where(edited, length, norms[k]), length))

  def position(self) -> dict[str, Any]:
    """Returns (g, v) as inner's parameters."""
    # A matched leaf without an update (a hole) keeps the v and g of the state.
    v, g = [leaf if spec is None else held for leaf, held, spec in zip(
        self.params, self.v, self.all_specs, strict=True)], list(self.g)
    for (_, i), point in zip(self.slots, self.points, strict=True):
      v[i], g[i] = point.v, point.g
    return {'v': jax.tree.unflatten(self.param_def, v),
            'g': jax.tree.unflatten(self.param_def, g)}

  def gradients(self) -> dict[str, Any]:
    """Returns the gradients of (g, v) as inner's updates."""
    v = list(self.updates)
    g = [leaf if _tree.is_hole(leaf) else _nothing(leaf) for leaf in v]
    slopes = [_copy(self.updates[n], spec)
              for (n, _), spec in zip(self.slots, self.specs, strict=True)]
    dots, = self._dots((slopes, [point.v for point in self.points]))
    for (n, _), slope, dot, point in zip(
        self.slots, slopes, dots, self.points, strict=True):
      inverse = math.inverse(point.norm)
      g[n] = dot * inverse
      v[n] = math.scale(point.g, point.norm) * (
          slope - point.v * (g[n] * inverse))
    return {'v': jax.tree.unflatten(self.update_def, v),
            'g': jax.tree.unflatten(self.update_def, g)}

  def move(self, moves: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
    """Returns the updates of w, and the new v, g and size."""
    by_v, by_g = _tree.flatten(moves['v'])[0], _tree.flatten(moves['g'])[0]
    new_v = [
        point.v + _copy(by_v[n], spec) for (n, _), spec, point in zip(
            self.slots, self.specs, self.points, strict=True)]
    squares, = self._dots((new_v, new_v))
    result, v, g, size = by_v, list(self.v), list(self.g), list(self.size)
    for k, ((n, i), spec) in enumerate(
        zip(self.slots, self.specs, strict=True)):
      point, norm = self.points[k], root(squares[k])
      v[i] = new_v[k]
      g[i] = jnp.where(point.norm == 0, norm, point.g + _copy(by_g[n], spec))
      size[i] = jnp.maximum(point.size, jnp.abs(g[i]))
      w = v[i] * math.scale(g[i], norm)
      result[n] = (w - _copy(self.params[i], spec)).astype(
          self.updates[n].dtype)
    return (jax.tree.unflatten(self.update_def, result),
            jax.tree.unflatten(self.v_def, v),
            jax.tree.unflatten(self.g_def, g),
            jax.tree.unflatten(self.g_def, size))
