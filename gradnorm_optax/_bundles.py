"""Small blocks that differ in nothing but their names, read as one array.

A tree of hundreds of small arrays would otherwise cost XLA several kernels
each; here the arrays of one shape are stacked, and only what is known of a
block (norms and means) is taken apart again. The arrays themselves stay where
they are.
"""

import dataclasses
from collections.abc import Hashable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax, numpy as jnp
from jax.sharding import AxisType

from gradnorm_optax._layout import Layout, LeafSpec

# Entries of a block up to which a copy costs less than a kernel of its own.
SMALL = 2**14
# Blocks to a bundle: one kernel deals out so many rows.
TOGETHER = 32


class Bundles(NamedTuple):
  """Blocks, some of which stand for several."""

  layout: Layout
  leaves: list[jax.Array]  # the active ones; with a new axis 0 where bundled
  members: list[list[int]]  # by leaf: places among the leaves given
  blocks: list[list[int]]  # by block: places among the blocks given

  def by_leaf(self, numbers: list[Any]) -> list[Any]:
    """Returns what is known of each leaf given, ready to broadcast."""
    return _apart(numbers, self.members)

  def by_block(self, numbers: list[Any]) -> list[Any]:
    """Returns what is known of each block given."""
    return _apart(numbers, self.blocks)


def bundle(layout: Layout, leaves: list[Any], axis_name: Any) -> Bundles:
  """Stacks the leaves of small blocks that are alike.

  Inside `shard_map` one collective serves all leaves, however many; there each
  stays alone, as do those of which it is unknown how they lie.

  Args:
    layout: The blocks.
    leaves: The active leaves, in the order of `layout.active`.
    axis_name: Mesh axes over which leaves are sharded.
  """
  place = {index: n for n, index in enumerate(layout.active)}
  alike: dict[Hashable, list[int]] = {}
  for number, indices in enumerate(layout.groups.values()):
    found = [(layout.spec(i), leaves[place[i]]) for i in indices]
    alone = axis_name is not None or not all(_known(x) for _, x in found) or (
        sum(x.size for _, x in found) > SMALL)
    key = number if alone else tuple(
        (spec.likeness, jax.typeof(x)) for spec, x in found)
    alike.setdefault(key, []).append(number)
  chunks = [chunk for numbers in alike.values() for chunk in _even(numbers)]
  if len(chunks) == len(layout.groups):
    return Bundles(layout, leaves, [[n] for n in range(len(leaves))],
                   [[n] for n in range(len(chunks))])
  groups = list(layout.groups.items())
  specs: list[LeafSpec | None] = []
  stacked: list[jax.Array] = []
  members: list[list[int]] = []
  labels: dict[Hashable, tuple[int, ...]] = {}
  for numbers in chunks:
    label, first = groups[numbers[0]]
    labels[label] = tuple(range(len(specs), len(specs) + len(first)))
    for nth, index in enumerate(first):
      at = [place[groups[number][1][nth]] for number in numbers]
      members.append(at)
      specs.append(_stacked(layout.spec(index), len(at)))
      stacked.append(leaves[at[0]] if len(at) == 1 else lax.concatenate(
          [lax.expand_dims(leaves[n], (0,)) for n in at], 0))
  return Bundles(Layout(tuple(specs), labels, ()), stacked, members,
                 chunks)


def _even(numbers: list[int]) -> list[list[int]]:
  """Cuts a list into pieces of one size, if it divides, for like kernels."""
  size = -(-len(numbers) // -(-len(numbers) // TOGETHER))
  return [numbers[n:n + size] for n in range(0, len(numbers), size)]


def _known(leaf: jax.Array) -> bool:
  """Tells whether leaves of this one's type lie alike.

  Under plain `jit` with several devices each may be cut along other axes, and
  to stack them is to move them.
  """
  mesh = jax.typeof(leaf).sharding.mesh
  return jax.device_count() == 1 or (
      not mesh.empty and AxisType.Auto not in mesh.axis_types)


def _stacked(spec: LeafSpec, size: int) -> LeafSpec:
  """Returns the spec of so many leaves, stacked along a new axis 0."""
  if size == 1:
    return spec
  after = lambda axes: tuple(a + 1 for a in axes)  # noqa: E731
  return dataclasses.replace(
      spec, shape=(size, *spec.shape), stack=(0, *after(spec.stack)),
      kept=(0, *after(spec.kept)), cut=None,
      fan_in=None if spec.fan_in is None else after(spec.fan_in))


def _apart(numbers: list[Any], members: list[list[int]]) -> list[Any]:
  """Deals out the rows of numbers, trees with a leading axis where stacked."""
  result: list[Any] = [None] * sum(map(len, members))
  for each, at in zip(numbers, members, strict=True):
    arrays, treedef = jax.tree.flatten(each)
    rows = [[x] for x in arrays]
    if len(at) > 1:
      kinds: dict[Any, list[int]] = {}
      for n, x in enumerate(arrays):
        kinds.setdefault((x.shape, x.dtype), []).append(n)
      for same in kinds.values():
        for n, found in zip(
            same, _dealt([arrays[n] for n in same]), strict=True):
          rows[n] = found
    for nth, n in enumerate(at):
      result[n] = jax.tree.unflatten(treedef, [row[nth] for row in rows])
  return result


@jax.custom_jvp
def _dealt(arrays: list[jax.Array]) -> list[list[jax.Array]]:
  """Returns the rows of arrays of one shape, by one kernel for all of them.

  A slice would be compiled into whatever uses it, so that no two of the
  optimizer's kernels were alike; XLA compiles those that are alike once.
  """
  size, *rest = arrays[0].shape
  one = bool(rest) and len(arrays) > 1  # fewer results to compile
  joined = [lax.concatenate(
      [lax.expand_dims(x, (1,)) for x in arrays], 1)] if one else arrays
  shape = joined[0].shape
  place = lax.broadcasted_iota(np.int32, (size,) + (1,) * (len(shape) - 1), 0)
  zero = jnp.zeros((), arrays[0].dtype)
  rows = lax.reduce(
      [jnp.where(place == n, x, zero) for x in joined for n in range(size)],
      [zero] * (size * len(joined)),
      lambda a, b: list(map(lax.add, a, b)), (0,))
  if one:
    return [[lax.index_in_dim(row, n, keepdims=False) for row in rows]
            for n in range(len(arrays))]
  return [rows[n:n + size] for n in range(0, len(rows), size)]


@_dealt.defjvp
def _dealt_jvp(primals, tangents):
  return _dealt(*primals), [
      [x[n] for n in range(len(x))] for x in tangents[0]]
