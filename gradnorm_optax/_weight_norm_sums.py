"""The sums by unit that a step of g and v takes."""

import functools
from typing import Any

import jax
from jax import lax, numpy as jnp

from gradnorm_optax import _shards
from gradnorm_optax._layout import LeafSpec
from gradnorm_optax._weight_norm_step import wide

Sums = dict[str, jax.Array]  # by unit, size 1 along fan-in

# Entries of a leaf from which on leaves take turns.
_LARGE = 2**16


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
    p: jax.Array, grad: jax.Array, w: jax.Array | None, axes: tuple[int, ...]
) -> Sums:
  """Returns the sums that a step starts from; w are float32 weights, if any."""
  p = wide(p)
  found = {'ww': _sum(p * p, axes), 'gw': _sum(p * grad, axes)}
  if w is not None:
    found |= {'far': _sum(lax.square(p - w), axes),
              'held ww': _sum(w * w, axes),
              'held gw': _sum(w * grad, axes)}
  return found


def is_large(leaf: jax.Array) -> bool:
  """Tells whether a leaf takes turns with others."""
  return leaf.size >= _LARGE


def after(squares: jax.Array, numbers: jax.Array) -> jax.Array:
  """Returns numbers, on a CPU only when a sum of squares is there.

  XLA orders what it compiles for a CPU breadth first, and an
  `optimization_barrier` does not count there: the new v of all leaves would be
  there before the first is used. That is as much memory as the parameters take,
  which every call maps afresh: half of the time of an optimizer's step.
  """

  def waiting(squares, numbers):
    first = lax.reshape(squares, (squares.size,))[0]
    return jnp.where(first < 0, 0, numbers)  # it never is

  return lax.platform_dependent(
      squares, numbers, cpu=waiting, default=lambda _, numbers: numbers)


def _sum(entries: jax.Array, axes: tuple[int, ...]) -> jax.Array:
  return jnp.sum(entries, axes, keepdims=True)
