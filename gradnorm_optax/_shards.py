"""Sums that continue on other devices, inside `shard_map` and `pmap`."""

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
from jax import lax, numpy as jnp

from gradnorm_optax._layout import LeafSpec
from gradnorm_optax._places import ANY
from gradnorm_optax._variance import tracked, varying

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


class Crossing(tuple):
  """The mesh axes over which a sum continues.

  `apart` are mesh axes over which the sum is another number on each device,
  because the leaf is cut there along axes that the sum leaves standing.
  """

  apart: frozenset[Any]

  def __new__(cls, over: Iterable[Any] = (), apart: Iterable[Any] = ()):
    self = super().__new__(cls, over)
    self.apart = frozenset(apart)
    return self


def sharded_over(
    spec: LeafSpec, leaf: Any, axis_name: AxisName
) -> tuple[Any, ...]:
  """Returns the mesh axes over which the leaf is cut.

  Where JAX tracks variance, a leaf that does not vary over a mesh axis is whole
  on every device and counts once; where it does not (`check_vma=False`,
  `pmap`), a leaf counts as cut over the axes that its PartitionSpec names, and
  without one over all, unless `Blocks(replicated=)` names it.

  Raises:
    ValueError: The leaf varies over a mesh axis that its PartitionSpec leaves
      out.
  """
  if axis_name is None or spec.replicated:
    return ()
  named = None
  if spec.cut is not None and not any(ANY in entry for entry in spec.cut):
    named = {axis for entry in spec.cut for axis in entry}
  found = []
  for axis in names(axis_name):
    known = tracked(axis)
    if known and axis in varying(leaf):
      if named is not None and axis not in named:
        raise ValueError(
            f'leaf {spec.path!r} varies over mesh axis {axis!r}, which its'
            ' PartitionSpec in gn.Blocks(sharded=...) leaves out. Add it there,'
            ' average the gradient over that axis first, or leave it out of'
            ' axis_name.')
      found.append(axis)
    elif not known and (named is None or axis in named):
      found.append(axis)
  return tuple(found)


def crossing(
    spec: LeafSpec, leaf: Any, over: Sequence[int], axis_name: AxisName
) -> Crossing:
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
    return Crossing(found)
  cut = spec.cut or _default_cut(spec)
  inside = {axis for a in over for axis in (cut[a] if cut else ())}
  outside = {axis for a, entry in enumerate(cut or ()) if a not in over
             for axis in entry}
  if cut is None or (spec.cut is not None and ANY in inside & outside):
    raise ValueError(
        f'leaf {spec.path!r} is sharded over {found} and its reduction over'
        f' axes {tuple(over)} does not cover the whole array, so it matters'
        ' along which axes the leaf is cut. Say so:'
        f' gn.Blocks(sharded={{{spec.path!r}: PartitionSpec(...)}}).')
  if ANY in inside | outside:
    return Crossing(found) if ANY in inside else Crossing((), found)
  return Crossing([axis for axis in found if axis in inside],
                  [axis for axis in found if axis not in inside])


def _default_cut(spec: LeafSpec) -> tuple[tuple[Any, ...], ...] | None:
  """Returns the cut of a leaf of which nothing is said: along its fan-in."""
  own = tuple(a for a in range(len(spec.shape)) if a not in spec.stack)
  default = spec.fan_in is None or spec.fan_in == own[:-1]
  if len(own) >= 2 and default and not spec.explicit:
    return tuple((ANY,) if a in own[:-1] else ()
                 for a in range(len(spec.shape)))
  return None


def size(axes: Sequence[Any]) -> int:
  """Returns the number of devices along mesh axes."""
  return math.prod(lax.axis_size(axis) for axis in axes)


def psum(
    parts: list[jax.Array], axes: Sequence[tuple[Any, ...]],
    axis_name: AxisName,
) -> list[jax.Array]:
  """Adds parts over their mesh axes, all of them in one collective.

  Args:
    parts: Local sums of one dtype, of any shapes.
    axes: For each part the mesh axes that it continues over, from `crossing`;
      () for a part that is whole already.
    axis_name: The mesh axes given to the transformation. A part that continues
      over some of them only is divided by the size of the others, so that one
      collective over all serves every part. Parts that differ over the others
      (one array cut along its fan-in and along its outputs) cannot join it:
      there is one collective for each set of axes over which parts differ.
  """
  groups: dict[frozenset[Any], list[int]] = {}
  for i, own in enumerate(axes):
    if own:
      groups.setdefault(getattr(own, 'apart', frozenset()), []).append(i)
  result = list(parts)
  for apart, moving in groups.items():
    every = tuple(axis for axis in _union(axis_name, [axes[i] for i in moving])
                  if axis not in apart)
    for i, part in zip(moving, _psum(
        [parts[i] for i in moving], [axes[i] for i in moving], every),
                       strict=True):
      result[i] = part
  return result


def _psum(
    parts: list[jax.Array], axes: list[tuple[Any, ...]], every: tuple[Any, ...]
) -> list[jax.Array]:
  flat = []
  for part, own in zip(parts, axes, strict=True):
    others = size([axis for axis in every if axis not in own])
    part = part.reshape(-1)
    flat.append(part if others == 1 else part / jnp.asarray(others, part.dtype))
  total = lax.psum(lax.concatenate(flat, 0), every)
  result, start = [], 0
  for part in parts:
    stop = start + part.size
    result.append(lax.slice(total, (start,), (stop,)).reshape(part.shape))
    start = stop
  return result


def _union(
    axis_name: AxisName, axes: Iterable[tuple[Any, ...]]
) -> tuple[Any, ...]:
  """Returns the mesh axes over which anything continues, in their order."""
  return tuple(
      axis for axis in names(axis_name) if any(axis in own for own in axes))


def pmax(
    parts: list[jax.Array], axes: Sequence[tuple[Any, ...]]
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
  local = any(set(c) - set(m) for c, m in zip(cut, moving, strict=True))
  if local and any(moving):
    # Over a mesh axis where it does not vary it agrees already.
    every = tuple(axis for axis in _union(axis_name, cut)
                  if axis in varying(flag) or not tracked(axis))
    flag = lax.pmax(flag.astype(jnp.int32), every) > 0 if every else flag
  return flag
