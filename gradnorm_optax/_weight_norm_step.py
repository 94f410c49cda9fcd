"""One update of g and v, for `weight_normalized`."""

from typing import Any, NamedTuple

import jax
from jax import numpy as jnp

from gradnorm_optax import _shards, _tree, _weight_norm_math as math
from gradnorm_optax._floats import root
from gradnorm_optax._layout import LeafSpec

# Parameters further than this many unit roundoffs from g v/||v|| were edited
# from outside; adding an update in their dtype costs two. Roundoffs of ||w||
# before or after that addition: where a unit shrinks a hundredfold in one step
# (g crosses zero) the rounding of the larger one remains. An update of a dtype
# coarser than the parameters' adds its own rounding, half an ulp of itself; the
# next update aims from where the parameters are, so that does not pile up.
_ROUNDOFFS = 16


def wide(leaf: Any, spec: LeafSpec) -> jax.Array:
  """Returns a leaf in the dtype of the state."""
  return jnp.asarray(leaf).astype(math.accumulator(spec.dtype))


def unit_sums(
    parts: list[jax.Array], specs: list[LeafSpec], leaves: list[Any],
    axis_name: _shards.AxisName,
) -> list[jax.Array]:
  """Returns the sums over each unit, all of them in one collective.

  Args:
    parts: Arrays shaped like the leaves, or several such lists in a row.
    specs: Of the leaves.
    leaves: The local arrays of the parameters.
    axis_name: Mesh axes over which leaves are cut, or None.
  """
  times = len(parts) // max(len(specs), 1)
  specs, leaves = specs * times, leaves * times
  sums = [jnp.sum(part, spec.reduced, keepdims=True)
          for part, spec in zip(parts, specs, strict=True)]
  if axis_name is None:
    return sums
  over = [_shards.crossing(spec, leaf, spec.reduced, axis_name)
          for spec, leaf in zip(specs, leaves, strict=True)]
  for dtype in {part.dtype for part in sums}:
    own = [n for n, part in enumerate(sums) if part.dtype == dtype]
    totals = _shards.psum(
        [sums[n] for n in own], [over[n] for n in own], axis_name)
    for n, total in zip(own, totals, strict=True):
      sums[n] = total
  return sums


def _roundoff(dtype: Any) -> float:
  """Returns the unit roundoff of a dtype as JAX computes with it."""
  return float(jnp.finfo(jax.dtypes.canonicalize_dtype(dtype)).eps) / 2


class _Point(NamedTuple):
  """Where one matched leaf stands."""

  v: jax.Array
  g: jax.Array
  norm: jax.Array  # ||v||
  size: jax.Array  # ||w||


class Step:
  """One update: leaves by path, and the arithmetic of the matched ones."""

  def __init__(self, specs, updates, state, params, axis_name):
    self.updates, self.update_def = _tree.flatten(updates)
    self.params, self.param_def = _tree.flatten(params)
    self.v, self.v_def = _tree.flatten(state.v)
    self.g, self.g_def = _tree.flatten(state.g)
    self.size = _tree.flatten(state.size)[0]
    self.paths = _tree.paths(updates)
    at = {path: i for i, path in enumerate(_tree.paths(params))}
    # Matched leaves: their index among the updates and among the parameters.
    self.slots = [
        (n, at[path]) for n, path in enumerate(self.paths)
        if not _tree.is_hole(self.updates[n]) and specs[at[path]] is not None]
    self.specs = [specs[i] for _, i in self.slots]
    for n, _ in self.slots:
      self.updates[n] = jnp.asarray(self.updates[n])
    self.all_specs, self.axis_name = specs, axis_name
    self._resynchronize()

  def _dots(self, *pairs: tuple[list[Any], list[Any]]) -> list[Any]:
    """Returns for each pair of lists the inner products by unit."""
    flat = unit_sums(
        [a * b for first, second in pairs
         for a, b in zip(first, second, strict=True)],
        self.specs, [self.params[i] for _, i in self.slots], self.axis_name)
    count = len(self.slots)
    return [flat[n * count:][:count] for n in range(len(pairs))]

  def _resynchronize(self) -> None:
    """Sets v, g and ||v||; where p is not g v/||v||, from p."""
    v = [self.v[i] for _, i in self.slots]
    g = [self.g[i] for _, i in self.slots]
    p = [wide(self.params[i], spec)
         for (_, i), spec in zip(self.slots, self.specs, strict=True)]
    vv, pp = self._dots((v, v), (p, p))
    norms = [root(squares) for squares in vv]
    gaps = [a - b * math.scale(c, n)
            for a, b, c, n in zip(p, v, g, norms, strict=True)]
    far, = self._dots((gaps, gaps))
    self.points = []
    for k, spec in enumerate(self.specs):
      unit = _roundoff(spec.dtype)
      bound = self.size[self.slots[k][1]] * (_ROUNDOFFS * unit)
      edited, length = ~(root(far[k]) <= bound), root(pp[k])
      self.points.append(_Point(
          jnp.where(edited, p[k], v[k]), jnp.where(edited, length, g[k]),
          jnp.where(edited, length, norms[k]), length))

  def position(self) -> dict[str, Any]:
    """Returns (g, v) as inner's parameters."""
    # A matched leaf without an update (a hole) keeps the v and g of the state.
    v, g = list(self.v), list(self.g)
    for n, (leaf, spec) in enumerate(
        zip(self.params, self.all_specs, strict=True)):
      if spec is None and not _tree.is_hole(leaf):
        v[n], g[n] = leaf, jnp.zeros(0, jnp.float32)
    for (_, i), point in zip(self.slots, self.points, strict=True):
      v[i], g[i] = point.v, point.g
    return {'v': jax.tree.unflatten(self.param_def, v),
            'g': jax.tree.unflatten(self.param_def, g)}

  def gradients(self) -> dict[str, Any]:
    """Returns the gradients of (g, v) as inner's updates."""
    v = list(self.updates)
    g = [leaf if _tree.is_hole(leaf) else jnp.zeros(0, jnp.float32)
         for leaf in v]
    slopes = [wide(self.updates[n], spec)
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
        point.v + wide(by_v[n], spec) for (n, _), spec, point in zip(
            self.slots, self.specs, self.points, strict=True)]
    squares, = self._dots((new_v, new_v))
    result, v, g, size = by_v, list(self.v), list(self.g), list(self.size)
    for k, ((n, i), spec) in enumerate(
        zip(self.slots, self.specs, strict=True)):
      point, norm = self.points[k], root(squares[k])
      v[i] = new_v[k]
      g[i] = jnp.where(point.norm == 0, norm, point.g + wide(by_g[n], spec))
      size[i] = jnp.maximum(point.size, jnp.abs(g[i]))
      w = v[i] * math.scale(g[i], norm)
      result[n] = (w - wide(self.params[i], spec)).astype(
          self.updates[n].dtype)
    rounding = self._rounding(result)
    for (_, i), more in zip(self.slots, rounding, strict=True):
      size[i] = size[i] if more is None else size[i] + more
    return (jax.tree.unflatten(self.update_def, result),
            jax.tree.unflatten(self.v_def, v),
            jax.tree.unflatten(self.g_def, g),
            jax.tree.unflatten(self.g_def, size))

  def _rounding(self, updates: list[Any]) -> list[Any]:
    """Returns the ||w|| of which a rounding is that of the update, or None."""
    finer = [_roundoff(self.updates[n].dtype) / _roundoff(spec.dtype)
             for (n, _), spec in zip(self.slots, self.specs, strict=True)]
    if not any(ratio > 1 for ratio in finer):
      return [None] * len(finer)
    # Below the normal numbers the rounding is absolute.
    least = [float(jnp.finfo(updates[n].dtype).smallest_normal)
             for n, _ in self.slots]
    steps = [jnp.maximum(jnp.abs(wide(updates[n], spec)), floor)
             for (n, _), spec, floor in zip(
                 self.slots, self.specs, least, strict=True)]
    squares, = self._dots((steps, steps))
    return [root(square) * float(ratio) if ratio > 1 else None
            for square, ratio in zip(squares, finer, strict=True)]
