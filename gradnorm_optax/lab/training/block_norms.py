"""The norms of a model's blocks, and how the sizes of their entries lie."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

import gradnorm_optax as gn
from gradnorm_optax.lab.results.look import QUANTILES
from gradnorm_optax.lab.training.problem import Problem

MOST = 2**17  # entries of an array that are sorted


def blocks(problem: Problem) -> gn.Blocks:
  """The layers of a model."""
  return gn.Blocks(by='layer', stacked=dict(problem.context.stacked))


def norms(problem: Problem, tree: Any) -> dict[str, Any]:
  """The norm of every layer in a tree like the parameters.

  Returns:
    {layer: norm}, or an array of norms where layers are stacked.
  """
  recorder = gn.record_block_norms('block', blocks(problem))
  _, state = recorder.update(tree, recorder.init(tree))
  return gn.block_norms(state, 'block')


def names(problem: Problem, params: Any) -> list[str]:
  """The names of all blocks, each of a stack with its index."""
  found = jax.eval_shape(lambda p: norms(problem, p), params)
  return [f'{name}[{i}]' if norm.ndim else name
          for name, norm in found.items() for i in range(norm.size)]


def row(problem: Problem, tree: Any) -> jax.Array:
  """The norms in the order of `names`; shape (blocks,)."""
  return jnp.concatenate(
      [jnp.ravel(norm) for norm in norms(problem, tree).values()])


def sizes(problem: Problem, params: Any, trees: Sequence[Any]) -> jax.Array:
  """How the magnitudes of the entries of each block lie.

  Args:
    problem: Whose blocks.
    params: The parameters.
    trees: Like these, with leaves of the same layer axes, or None; a block
      holds the entries of all.

  Returns:
    Quantiles `QUANTILES` of the magnitudes that are not zero, then the share of
    zeros; shape (blocks, 8). Of an array with more than `MOST` entries in a
    block, evenly spaced ones are taken; of a block without entries NaN.
  """
  held: dict[str, list[jax.Array]] = {}
  places = gn.explain(params, blocks(problem)).rows
  leaves, treedef = jax.tree.flatten(params)
  for tree in trees:
    for leaf, like, place in zip(
        treedef.flatten_up_to(tree), leaves, places, strict=True):
      stack = [] if place.stacked == '-' else [
          int(axis) for axis in place.stacked.split(',')]
      count = 1
      for axis in stack:
        count *= like.shape[axis]
      found = held.setdefault(place.block, [jnp.zeros((count, 0))])
      if leaf is not None:
        lying = jnp.abs(jnp.moveaxis(
            leaf, stack, range(len(stack))).reshape(count, -1))
        found.append(lying[:, ::-(-lying.shape[1] // MOST)])
  held.pop('-', None)  # passes through: in no block
  return jnp.concatenate([
      jax.vmap(_quantiles)(jnp.concatenate(
          [part.astype(jnp.float32) for part in parts], 1))
      for parts in held.values()])


def _quantiles(entries: jax.Array) -> jax.Array:
  """Quantiles of what is not zero, and the share of zeros."""
  count = entries.size
  if not count:
    return jnp.full(len(QUANTILES) + 1, jnp.nan)
  ordered = jnp.sort(entries)
  zeros = jnp.sum(entries == 0)
  last = count - 1 - zeros  # -1: all are zero
  at = jnp.round(jnp.array(QUANTILES) * last).astype(jnp.int32) + zeros
  return jnp.append(
      jnp.where(last < 0, 0.0, ordered[jnp.clip(at, 0, count - 1)]),
      zeros / count)
