"""One number for each block: a list in the order of `Layout.groups`.

An entry is a scalar, or an array of shape `LeafSpec.block_shape` where a label
stands for several blocks.
"""

import functools

import jax
from jax import lax, numpy as jnp

from gradnorm_optax._layout import Layout, LeafSpec

Stats = list[jax.Array]


def gather(layout: Layout, by_leaf: list[jax.Array]) -> Stats:
  """Adds the numbers of the leaves of each block.

  Args:
    layout: The blocks.
    by_leaf: For each active leaf an array of shape `spec.block_shape`.
  """
  where = {index: n for n, index in enumerate(layout.active)}
  return [functools.reduce(lax.add, [by_leaf[where[i]] for i in members])
          for members in layout.groups.values()]


def either(flags: list[jax.Array]) -> jax.Array:
  """Tells whether any flag is set: a balanced tree, since XLA compiles a chain
  of hundreds for minutes."""
  flags = [f if f.ndim == 0 else jnp.any(f) for f in flags]
  while len(flags) > 1:
    flags = [*map(lax.bitwise_or, flags[::2], flags[1::2]),
             *flags[len(flags) // 2 * 2:]]
  return flags[0]


def spread(layout: Layout, stats: Stats) -> list[jax.Array]:
  """Returns for each active leaf its block's numbers, ready to broadcast."""
  numbers = dict(zip(layout.groups, stats, strict=True))
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
