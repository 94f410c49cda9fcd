"""One number for each block, kept in few arrays.

Blocks whose leaves have one number each (by far the most) share one vector, so
that a tree of thousands of arrays costs a handful of vector operations; stacked
and unit blocks keep an array of their own.
"""

import functools
from collections.abc import Hashable
from typing import NamedTuple

import jax
from jax import lax

from gradnorm_optax._layout import Layout, LeafSpec


class Stats(NamedTuple):
  """Numbers by block; a pytree, so `jax.tree.map` computes on all of them."""

  flat: tuple[jax.Array, ...]  # () or one vector: blocks of one number
  rest: tuple[jax.Array, ...]  # the others, in the order of the layout


def gather(layout: Layout, by_leaf: list[jax.Array]) -> Stats:
  """Adds the numbers of the leaves of each block.

  Args:
    layout: The blocks.
    by_leaf: For each active leaf an array of shape `spec.block_shape`.
  """
  where = {index: n for n, index in enumerate(layout.active)}
  flat, rest = [], []
  for members in layout.groups.values():
    total = functools.reduce(lax.add, (by_leaf[where[i]] for i in members))
    (rest if total.ndim else flat).append(total)
  vector = lax.concatenate([lax.expand_dims(v, (0,)) for v in flat], 0) if (
      flat) else None
  return Stats(() if vector is None else (vector,), tuple(rest))


def by_label(layout: Layout, stats: Stats) -> dict[Hashable, jax.Array]:
  """Returns the numbers of each block under its label."""
  found, scalars, rest = {}, 0, iter(stats.rest)
  for label, members in layout.groups.items():
    if layout.spec(members[0]).kept:
      found[label] = next(rest)
    else:
      found[label] = lax.index_in_dim(stats.flat[0], scalars, keepdims=False)
      scalars += 1
  return found


def spread(layout: Layout, stats: Stats) -> list[jax.Array]:
  """Returns for each active leaf its block's numbers, ready to broadcast."""
  numbers = by_label(layout, stats)
  return [expand(numbers[spec.label], spec)
          for spec in map(layout.spec, layout.active)]


def expand(numbers: jax.Array, spec: LeafSpec) -> jax.Array:
  """Gives an array of shape `spec.block_shape` the leaf's axes back."""
  if not spec.kept:
    return numbers
  order = sorted(range(len(spec.kept)), key=lambda n: spec.kept[n])
  if order != list(range(len(order))):
    numbers = lax.transpose(numbers, order)
  return lax.expand_dims(numbers, spec.reduced)
