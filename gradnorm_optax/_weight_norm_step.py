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

from gradnorm_optax._floats import root
from gradnorm_optax._weight_norm_math import accumulator

# Coarse parameters further than this many unit roundoffs from the weights that
# stand beside them were edited from outside; adding an update costs two.
_ROUNDOFFS = 16

class Weights(NamedTuple):
  """The float32 weights of a leaf whose parameters are coarser."""

  w: Any
  size: Any  # by unit: the larger ||w|| before and after the last step


class Units(NamedTuple):
  """Where the units of a leaf stand; size 1 along fan-in."""

  g: jax.Array  # ||w|| with the sign of scale
  scale: jax.Array  # g/||v||; 1 for a zero unit, which is a plain weight
  inverse: jax.Array  # of scale: v = inverse x w
  slope: jax.Array  # the gradient of g
  tilt: jax.Array  # grad_v = scale x grad_w - tilt x w
  same: jax.Array | None  # whether the float32 weights stand for p


class Arrival(NamedTuple):
  """Where they go."""

  factor: jax.Array  # w = factor x v
  size: jax.Array | None  # of `Weights`


def is_coarse(dtype: Any) -> bool:
  """Tells whether parameters of a dtype are coarser than the state."""
  own = jax.dtypes.canonicalize_dtype(dtype)
  return jnp.finfo(own).eps > jnp.finfo(accumulator(own)).eps


def wide(leaf: jax.Array) -> jax.Array:
  """Returns a leaf in the dtype of the state."""
  return leaf.astype(accumulator(leaf.dtype))


def like(numbers: jax.Array, leaf: jax.Array) -> jax.Array:
  """Returns numbers in the dtype of the state of a leaf."""
  return numbers.astype(accumulator(leaf.dtype))


def wider(first: Any, second: Any) -> Any:
  """Returns the dtype that holds both, whatever promotion is allowed."""
  with jax.numpy_dtype_promotion('standard'):
    return jnp.promote_types(first, second)


@functools.partial(jax.jit, static_argnums=3)
def locate(
    found: dict[str, jax.Array], scale: jax.Array, size: jax.Array | None,
    dtype: Any,
) -> Units:
  """Returns where the units of a leaf of this dtype stand."""
  ww, gw, same = found['ww'], found['gw'], None
  if size is not None:
    bound = size * (_ROUNDOFFS / 2 * float(jnp.finfo(dtype).eps))
    same = root(found['far']) <= bound
    ww = jnp.where(same, found['held ww'], ww)
    gw = jnp.where(same, found['held gw'], gw)
  length, over = _length(ww)
  scale = jnp.where((ww == 0) | (scale == 0), 1, scale)
  sign = jnp.sign(scale)
  # Without w there is no gw either: slope and tilt of a zero unit are 0.
  return Units(sign * length, scale, 1 / scale, sign * (gw * over),
               scale * (gw * over) * over, same)


@jax.jit
def enter(
    p: jax.Array, grad: jax.Array, held: Weights | None, units: Units
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns w, v and the gradient of v (Eq. 3)."""
  w = wide(p)
  if held is not None and units.same is not None:
    w = jnp.where(units.same, held.w, w)
  return w, w * units.inverse, units.scale * grad - units.tilt * w


@jax.jit
def direction(w: jax.Array, length: jax.Array) -> jax.Array:
  """Returns v of norm 1, or of a zero unit zeros."""
  return w / jnp.where(length == 0, 1, length)


@jax.jit
def turn(w: jax.Array, inverse: jax.Array, move: jax.Array) -> jax.Array:
  """Returns the new v."""
  return w * inverse + move


@functools.partial(jax.jit, static_argnums=(3, 4))
def compose(
    vv: jax.Array, units: Units, move: jax.Array, fan_in: int, dtype: Any
) -> Arrival:
  """Returns what makes weights of v, which is the new scale too."""
  norm, before = _length(vv)[0], abs(units.g)
  g = jnp.where(before == 0, norm,
                before + jnp.sign(units.scale) * move)
  # Parameters end within u ||w|| of what the update aims at, ||w|| that of
  # before. So a length that shrinks to less than sqrt(u) of itself stops there
  # for that step: half of the direction's digits stay. For g = 0 it ends where
  # it is too small to matter, and still points along v.
  u = float(jnp.finfo(norm.dtype).eps) / 2
  length = jnp.maximum(jnp.abs(g), jnp.maximum(
      before * math.sqrt(u), norm * u**2))
  usable = (norm > 0) & (norm < jnp.inf) & (length < jnp.inf)
  signed = jnp.sign(units.scale) * jnp.where(g < 0, -length, length)
  return Arrival(
      jnp.where(usable, signed, 1) / jnp.where(usable, norm, 1),
      _size(before, length, fan_in, dtype))


@functools.partial(jax.jit, static_argnums=(3, 4))
def keep(
    vv: jax.Array, units: Units, length: jax.Array, fan_in: int, dtype: Any
) -> Arrival:
  """Returns the same where the length stays what it was at the start."""
  norm = _length(vv)[0]
  usable = (norm > 0) & (norm < jnp.inf)
  return Arrival(jnp.where(usable, length, 1) / jnp.where(usable, norm, 1),
                 _size(abs(units.g), length, fan_in, dtype))


@functools.partial(jax.jit, static_argnums=3)
def arrive(
    p: jax.Array, v: jax.Array, arrival: Arrival, dtype: Any
) -> tuple[jax.Array, Weights | None]:
  """Returns the update that leads to the new w, and float32 weights."""
  w = v * arrival.factor
  held = None if arrival.size is None else Weights(w, arrival.size)
  return (w - wide(p)).astype(dtype), held


def _size(
    before: jax.Array, after: jax.Array, fan_in: int, dtype: Any
) -> jax.Array | None:
  """Returns the larger length, where weights stand beside parameters."""
  if not is_coarse(dtype):
    return None
  # Below the normal numbers roundings are absolute.
  least = float(jnp.finfo(dtype).smallest_normal) * math.sqrt(fan_in)
  return jnp.maximum(jnp.maximum(before, after), least)


def _length(squares: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the root, and its inverse (of 0: a large number).

  The one is a product with the other: XLA repeats products where they are used,
  while roots and quotients would be a kernel each.
  """
  least = jnp.finfo(squares.dtype).smallest_normal
  over = 1 / lax.sqrt(jnp.maximum(squares, least))
  return squares * over, over
