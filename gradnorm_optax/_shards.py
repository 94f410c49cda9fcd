"""Sums that continue on other devices, inside `shard_map` and `pmap`."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
from jax import lax, numpy as jnp

from gradnorm_optax import _tree
from gradnorm_optax._layout import LeafSpec

AxisName = Any  # None, a mesh axis or a tuple of them


def names(axis_name: AxisName) -> tuple[Any, ...]:
  """Returns the mesh axes as a tuple."""
  if axis_name is None:
    return ()
  return tuple(axis_name) if isinstance(axis_name, (tuple, list)) else (
      axis_name,)


def bound(axis_name: AxisName) -> bool:
  """Tells whether the mesh axes are there, as inside `shard_map`."""
  try:
    size(names(axis_name))
  except NameError:
    return False
  return True


def _varying(array: Any) -> frozenset[Any]:
  return frozenset(jax.typeof(array).manual_axis_type.varying)


def sharded_over(
    spec: LeafSpec, leaf: Any, axis_name: AxisName
) -> tuple[Any, ...]:
  """Returns the mesh axes over which the leaf is cut.

  Where JAX tracks variance, a leaf that does not vary over a mesh axis is whole
  on every device and counts once; where it does not (`check_vma=False`,
  `pmap`), every leaf counts as sharded unless `Blocks(replicated=)` names it.
  """
  if axis_name is None or spec.replicated:
    return ()
  return tuple(
      axis for axis in names(axis_name)
      if axis not in _varying(lax.axis_index(axis)) or axis in _varying(leaf))


def crossing(
    spec: LeafSpec, leaf: Any, over: Sequence[int], axis_name: AxisName
) -> tuple[Any, ...]:
  """Returns the mesh axes over which a sum over array axes continues.

  Args:
    spec: The leaf.
    leaf: Its local array.
    over: The array axes that the sum runs over.
    axis_name: The mesh axes given to the transformation.

  Raises:
    ValueError: The sum leaves out axes, and the leaf may be cut along them.
  """
  found = sharded_over(spec, leaf, axis_name)
  if not found or len(over) == len(spec.shape):
    return found
  cut = _cut(spec)
  outside = set(cut or ()) - set(over)
  if cut is None or (outside and spec.cut is not None and set(cut) & set(over)):
    raise ValueError(
        f'leaf {spec.path or _tree.ROOT!r} is sharded over {found} and its'
        f' reduction over axes {tuple(over)} does not cover the whole array, so'
        ' it matters along which axis the leaf is cut. Name that one axis:'
        f' gn.Blocks(sharded={{{spec.path!r}: axis}}).')
  return found if set(cut) & set(over) else ()


def _cut(spec: LeafSpec) -> tuple[int, ...] | None:
  if spec.cut is not None:
    return spec.cut
  own = tuple(a for a in range(len(spec.shape)) if a not in spec.stack)
  default = spec.fan_in is None or spec.fan_in == own[:-1]
  if len(own) >= 2 and default and not spec.explicit:
    return own[:-1]
  return None


def size(axes: Sequence[Any]) -> int:
  """Returns the number of devices along mesh axes."""
  return math.prod(lax.axis_size(axis) for axis in axes)


def psum(
    parts: list[jax.Array], axes: list[tuple[Any, ...]], axis_name: AxisName
) -> list[jax.Array]:
  """Adds parts over their mesh axes, all of them in one collective.

  Args:
    parts: Local sums of one dtype, of any shapes.
    axes: For each part the mesh axes that it continues over; () for a part
      that is whole already.
    axis_name: The mesh axes given to the transformation. A part that continues
      over some of them only is divided by the size of the others, so that one
      collective over all serves every part.
  """
  moving = [i for i, own in enumerate(axes) if own]
  if not moving:
    return parts
  every = _union(axis_name, axes)
  flat = []
  for i in moving:
    others = size([axis for axis in every if axis not in axes[i]])
    part = parts[i].reshape(-1)
    flat.append(part if others == 1 else part / jnp.asarray(others, part.dtype))
  total = lax.psum(lax.concatenate(flat, 0), every)
  result, start = list(parts), 0
  for i in moving:
    stop = start + parts[i].size
    result[i] = lax.slice(total, (start,), (stop,)).reshape(parts[i].shape)
    start = stop
  return result


def _union(
    axis_name: AxisName, axes: Sequence[tuple[Any, ...]]
) -> tuple[Any, ...]:
  """Returns the mesh axes over which anything continues, in their order."""
  return tuple(
      axis for axis in names(axis_name) if any(axis in own for own in axes))


def pmax(
    parts: list[jax.Array], axes: list[tuple[Any, ...]]
) -> list[jax.Array]:
  """Takes maxima of parts over their mesh axes."""
  return [lax.pmax(part, own) if own else part
          for part, own in zip(parts, axes, strict=True)]


def agree(
    flags: list[jax.Array], specs: list[LeafSpec], leaves: list[Any],
    over: Sequence[Sequence[int]], axis_name: AxisName,
) -> jax.Array:
  """Returns whether a flag is set, alike on devices that share a collective.

  Devices that meet in a collective inside a branch must all take it. Flags that
  come from sums over all devices agree already; only where such leaves stand
  beside leaves whose sums stay local does the flag need a collective itself.
  """
  flag = functools.reduce(
      lax.bitwise_or, [f if f.ndim == 0 else jnp.any(f) for f in flags])
  if axis_name is None:
    return flag
  cut = [sharded_over(s, x, axis_name)
         for s, x in zip(specs, leaves, strict=True)]
  moving = [crossing(s, x, o, axis_name)
            for s, x, o in zip(specs, leaves, over, strict=True)]
  local = any(c and not m for c, m in zip(cut, moving, strict=True))
  if local and any(moving):
    every = _union(axis_name, cut)
    flag = lax.pmax(flag.astype(jnp.int32), every) > 0
  return flag
