"""One update of g and v where the weights themselves stand for them.

For a unit, s = g/||v|| is all that w = s v does not tell: v is w/s, and g is
||w|| with the sign of s. So parameters at least as fine as the state need
one number for each unit. Coarser ones stand beside their float32 weights, on
which the same arithmetic runs. Where lengths are fixed, ||v|| is 1 and s is the
length itself, which no step changes.

Each function is traced and lowered once for all leaves of one shape.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
from jax import lax, numpy as jnp

from gradnorm_optax import _shards
from gradnorm_optax._floats import root
from gradnorm_optax._layout import LeafSpec
from gradnorm_optax._weight_norm_math import accumulator

# Coarse parameters further than this many unit roundoffs from the weights that
# stand beside them were edited from outside; adding an update costs two.
_ROUNDOFFS = 16

Sums = dict[str, jax.Array]  # by unit, size 1 along fan-in


class Weights(NamedTuple):
  """The float32 weights of a leaf whose parameters are coarser."""

  w: Any
  size: Any  # by unit: the larger ||w|| before and after the last step


class Point(NamedTuple):
  """Where a matched leaf stands; all but `w` by unit."""

  w: jax.Array
  length: jax.Array  # ||w||
  scale: jax.Array  # g/||v||; 1 for a zero unit, which is a plain weight
  slope: jax.Array  # the gradient of g
  tilt: jax.Array  # grad_v = scale x grad_w - tilt x w


def is_coarse(dtype: Any) -> bool:
  """Tells whether parameters of a dtype are coarser than the state."""
  own = jax.dtypes.canonicalize_dtype(dtype)
  return jnp.finfo(own).eps > jnp.finfo(accumulator(own)).eps


def wide(leaf: jax.Array) -> jax.Array:
  """Returns a leaf in the dtype of the state."""
  return leaf.astype(accumulator(leaf.dtype))


def wider(first: Any, second: Any) -> Any:
  """Returns the dtype that holds both, whatever promotion is allowed."""
  with jax.numpy_dtype_promotion('standard'):
    return jnp.promote_types(first, second)


def over_devices(
    parts: list[Sums], specs: list[LeafSpec], leaves: list[Any],
    axis_name: _shards.AxisName,
) -> list[Sums]:
  """Continues sums on other devices, all of them in one collective.

  Args:
    parts: For each leaf, sums by unit over its local entries.
    specs: Of the leaves.
    leaves: The local arrays of the parameters.
    axis_name: Mesh axes over which leaves are cut, or None.
  """
  if axis_name is None:
    return parts
  flat, treedef = jax.tree.flatten(parts)
  over = [_shards.crossing(spec, leaf, spec.reduced, axis_name)
          for spec, leaf, part in zip(specs, leaves, parts, strict=True)
          for _ in part]
  for dtype in {part.dtype for part in flat}:
    own = [n for n, part in enumerate(flat) if part.dtype == dtype]
    totals = _shards.psum(
        [flat[n] for n in own], [over[n] for n in own], axis_name)
    for n, total in zip(own, totals, strict=True):
      flat[n] = total
  return jax.tree.unflatten(treedef, flat)


@functools.partial(jax.jit, static_argnums=1)
def squares(leaf: jax.Array, axes: tuple[int, ...]) -> Sums:
  """Returns <w, w>."""
  return {'ww': _sum(lax.square(wide(leaf)), axes)}


@functools.partial(jax.jit, static_argnums=3)
def read(
    p: jax.Array, grad: jax.Array, held: Weights | None, axes: tuple[int, ...]
) -> Sums:
  """Returns the sums that a step starts from."""
  p = wide(p)
  grad = grad.astype(p.dtype)
  found = {'ww': _sum(p * p, axes), 'gw': _sum(p * grad, axes)}
  if held is not None:
    found |= {'far': _sum(lax.square(p - held.w), axes),
              'held ww': _sum(held.w * held.w, axes),
              'held gw': _sum(held.w * grad, axes)}
  return found


@jax.jit
def locate(
    p: jax.Array, scale: jax.Array, held: Weights | None, found: Sums
) -> Point:
  """Returns where a leaf stands."""
  w, ww, gw = wide(p), found['ww'], found['gw']
  if held is not None:
    bound = held.size * (_ROUNDOFFS / 2 * float(jnp.finfo(p.dtype).eps))
    same = root(found['far']) <= bound
    w = jnp.where(same, held.w, w)
    ww = jnp.where(same, found['held ww'], ww)
    gw = jnp.where(same, found['held gw'], gw)
  length, over = _length(ww)
  scale = jnp.where((ww == 0) | (scale == 0), 1, scale)
  # Without w there is no gw either: slope and tilt of a zero unit are 0.
  return Point(w, length, scale, jnp.sign(scale) * (gw * over),
               scale * (gw * over) * over)


@jax.jit
def position(point: Point) -> tuple[jax.Array, jax.Array]:
  """Returns v and g."""
  return point.w / point.scale, jnp.sign(point.scale) * point.length


@jax.jit
def gradient(grad: jax.Array, point: Point) -> jax.Array:
  """Returns the gradient of v (Eq. 3)."""
  return point.scale * grad.astype(point.w.dtype) - point.tilt * point.w


@jax.jit
def direction(w: jax.Array, length: jax.Array) -> jax.Array:
  """Returns v of norm 1, or of a zero unit zeros."""
  return w / jnp.where(length == 0, 1, length)


@functools.partial(jax.jit, static_argnums=2)
def turn(
    move: jax.Array, point: Point, axes: tuple[int, ...]
) -> tuple[jax.Array, Sums]:
  """Returns the new v, and <v, v>."""
  v = point.w / point.scale + move.astype(point.w.dtype)
  return v, {'vv': _sum(lax.square(v), axes)}


@functools.partial(jax.jit, static_argnums=(5, 6))
def compose(
    p: jax.Array, v: jax.Array, found: Sums, move: jax.Array, point: Point,
    axes: tuple[int, ...], dtype: Any,
) -> tuple[jax.Array, Weights | None, jax.Array]:
  """Returns the update of the parameters, float32 weights and the new scale."""
  norm, before = _length(found['vv'])[0], jnp.sign(point.scale)
  g = jnp.where(point.length == 0, norm,
                point.length + before * move.astype(norm.dtype))
  # Parameters end within u ||w|| of what the update aims at, ||w|| that of
  # before. So a length that shrinks to less than sqrt(u) of itself stops there
  # for that step: half of the direction's digits stay. For g = 0 it ends where
  # it is too small to matter, and still points along v.
  u = float(jnp.finfo(norm.dtype).eps) / 2
  length = jnp.maximum(jnp.abs(g), jnp.maximum(
      point.length * math.sqrt(u), norm * u**2))
  usable = (norm > 0) & (norm < jnp.inf) & (length < jnp.inf)
  signed = before * jnp.where(g < 0, -length, length)
  scale = jnp.where(usable, signed, 1) / jnp.where(usable, norm, 1)
  return *_arrive(p, v * scale, point.length, length, axes, dtype), scale


@functools.partial(jax.jit, static_argnums=(5, 6))
def keep(
    p: jax.Array, v: jax.Array, found: Sums, length: jax.Array, point: Point,
    axes: tuple[int, ...], dtype: Any,
) -> tuple[jax.Array, Weights | None]:
  """Returns the same where the length stays what it was at the start."""
  norm = _length(found['vv'])[0]
  usable = (norm > 0) & (norm < jnp.inf)
  w = v * (jnp.where(usable, length, 1) / jnp.where(usable, norm, 1))
  return _arrive(p, w, point.length, length, axes, dtype)


def _arrive(
    p: jax.Array, w: jax.Array, before: jax.Array, after: jax.Array,
    axes: tuple[int, ...], dtype: Any,
) -> tuple[jax.Array, Weights | None]:
  """Returns the update that leads to w, and float32 weights."""
  held = None
  if is_coarse(p.dtype):
    # Below the normal numbers roundings are absolute.
    least = float(jnp.finfo(p.dtype).smallest_normal) * math.sqrt(
        math.prod(p.shape[axis] for axis in axes))
    held = Weights(w, jnp.maximum(jnp.maximum(before, after), least))
  return (w - wide(p)).astype(dtype), held


def _length(squares: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the root, and its inverse (of 0: a large number).

  The one is a product with the other: XLA repeats products where they are used,
  while roots and quotients would be a kernel each.
  """
  least = jnp.finfo(squares.dtype).smallest_normal
  over = 1 / lax.sqrt(jnp.maximum(squares, least))
  return squares * over, over


def _sum(entries: jax.Array, axes: tuple[int, ...]) -> jax.Array:
  return jnp.sum(entries, axes, keepdims=True)
