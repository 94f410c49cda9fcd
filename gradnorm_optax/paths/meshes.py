"""Path norms where parameters lie on several devices.

Paths run through the whole network, so the whole of every parameter is needed.
Under `jit` an array is whole whatever its layout. Where a mesh is Explicit, the
program is interpreted with the mesh's axes made Auto, because one example has
nothing to cut where a batch is cut. Inside `shard_map` and `pmap` an array is
one device's part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import (
    AbstractMesh,
    NamedSharding,
    PartitionSpec,
    Sharding,
    use_abstract_mesh,
)

from gradnorm_optax import _tree
from gradnorm_optax._variance import tracked, varying


def require_whole(tree: Any, what: str) -> None:
  """Raises where a leaf differs between devices, inside `shard_map`."""
  for path, leaf in _tree.by_path(tree).items():
    axes = () if _tree.is_hole(leaf) else varying(leaf)
    if axes:
      raise ValueError(
          f'{what} {path!r} varies over the manual mesh axes '
          f'{tuple(sorted(axes))}, so that each device holds another part '
          'of it, but paths run through the whole network. Take gradients '
          'inside of shard_map and call update (or path_norm, path_scale) '
          'outside of it, under jit, on the whole arrays; under data '
          'parallelism pass those that do not vary: update(updates, state, '
          'params, full_params=...).'
      )


def untracked_axes() -> tuple[Any, ...]:
  """Returns the manual mesh axes along which JAX does not track variance."""
  manual = getattr(jax.sharding.get_abstract_mesh(), 'manual_axes', ())
  return tuple(axis for axis in manual if not tracked(axis))


def explicit_mesh(tree: Any) -> AbstractMesh | None:
  """Returns the Explicit mesh that the arrays of a tree lie on, if any."""
  for leaf in jax.tree.leaves(tree):
    mesh = jax.typeof(leaf).sharding.mesh
    if mesh.explicit_axes:
      return mesh
  return None


def trace(
    apply_fn: Callable[..., Any],
    params: Any,
    x: Any,
    apply_args: tuple[Any, ...] = (),
) -> tuple[Any, list[Any]]:
  """Traces a network; returns its program and the constants it captured.

  A network that shards its activations along an Explicit mesh cannot be traced
  for a batch of one there: then it is, on a mesh with the same axes of size
  one.
  """
  given = (params, x, *apply_args)
  mesh = explicit_mesh((params, apply_args))
  if mesh is None:
    closed = jax.make_jaxpr(apply_fn)(*given)
    return closed.jaxpr, closed.consts
  try:
    return _open(jax.make_jaxpr(apply_fn)(*given))
  except (ValueError, TypeError) as error:
    refused = error
  sizes = (1,) * len(mesh.axis_names)
  single = AbstractMesh(sizes, mesh.axis_names, axis_types=mesh.axis_types)

  def on_single(leaf: Any) -> jax.ShapeDtypeStruct:
    aval = leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(leaf)
    spec = getattr(aval.sharding, 'spec', None) or PartitionSpec()
    return jax.ShapeDtypeStruct(
        aval.shape, aval.dtype, sharding=NamedSharding(single, spec)
    )

  shapes = jax.tree.map(on_single, given)
  try:
    # A mesh may be entered only from none, or from one of its own size.
    with use_abstract_mesh(AbstractMesh((), ())), use_abstract_mesh(single):
      return _open(jax.make_jaxpr(apply_fn)(*shapes))
  except ValueError as error:
    if 'context mesh' not in str(error):
      raise
    raise ValueError(
        'apply_fn cannot be traced for one example: it shards what it computes '
        f'along a mesh ({refused}), and holds an array of that mesh, or the '
        'mesh itself. Let it take arrays as arguments (apply_args) and name '
        'shardings by jax.sharding.PartitionSpec.'
    ) from error


def _open(closed: Any) -> tuple[Any, list[Any]]:
  """Takes a program apart; captured arrays at hand leave their mesh."""
  consts = list(closed.consts)
  for i, const in enumerate(consts):
    at_hand = isinstance(const, jax.Array) and not _is_tracer(const)
    if at_hand and const.is_fully_addressable and not _is_key(const):
      consts[i] = np.asarray(const)
  return closed.jaxpr, consts


def _is_tracer(array: Any) -> bool:
  return isinstance(array, jax.core.Tracer)


def _is_key(array: Any) -> bool:
  return jax.dtypes.issubdtype(array.dtype, jax.dtypes.extended)


def without_sharding(params: dict[str, Any]) -> dict[str, Any]:
  """Drops the shardings among a primitive's parameters."""
  return {
      name: None if isinstance(value, Sharding) else value
      for name, value in params.items()
  }


def computed_whole(
    function: Callable[..., Any], like: Any, *args: Any
) -> Any:
  """Calls a function, with the axes of an Explicit mesh made Auto.

  Args:
    function: Called with `args`.
    like: A tree of the results' structure; the results are sharded as it is.
    *args: Trees of arrays.
  """
  mesh = explicit_mesh(args)
  if mesh is None:
    return function(*args)

  def out(leaf: Any) -> NamedSharding:
    sharding = jax.typeof(leaf).sharding
    spec = sharding.spec if sharding.mesh.axis_names else PartitionSpec()
    return NamedSharding(mesh, spec)

  leaves, treedef = jax.tree.flatten(args)
  moving = [isinstance(leaf, jax.Array) for leaf in leaves]

  def on_arrays(arrays: list[jax.Array]) -> Any:
    # Other leaves stay at hand, so that rules can read them.
    rest = iter(arrays)
    mixed = [next(rest) if m else leaf for m, leaf in zip(moving, leaves)]
    return function(*jax.tree.unflatten(treedef, mixed))

  return jax.sharding.auto_axes(
      on_arrays,
      axes=mesh.explicit_axes,
      out_sharding=jax.tree.map(out, like),
  )([leaf for m, leaf in zip(moving, leaves) if m])
