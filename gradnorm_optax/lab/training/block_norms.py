"""The norms of a model's blocks, and how the sizes of their entries lie."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import gradnorm_optax as gn
from gradnorm_optax.lab.results.look import QUANTILES
from gradnorm_optax.lab.training.problem import Problem

MOST = 2048  # entries of a block that are sorted


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
    zeros; shape (blocks, 8). Of a block with more than `MOST` entries, so many
    drawn at random, always the same, stand for all. NaN of a block without any.
  """
  held: dict[str, list[jax.Array]] = {}
  places = gn.explain(params, blocks(problem)).rows
  for tree in trees:
    for leaf, like, place in zip(
        jax.tree.leaves(tree, is_leaf=lambda node: node is None),
        jax.tree.leaves(params), places, strict=True):
      stack = [] if place.stacked == '-' else [
          int(axis) for axis in place.stacked.split(',')]
      count = math.prod(like.shape[axis] for axis in stack)
      found = held.setdefault(place.block, [jnp.zeros((count, 0))])
      if leaf is not None:
        found.append(jnp.moveaxis(
            leaf, stack, range(len(stack))).reshape(count, -1))
  held.pop('-', None)  # passes through: in no block
  drawn = [_drawn(parts) for parts in held.values()]
  # One sort for all blocks; what fills up the shorter ones ends at the end.
  longest = max(entries.shape[1] for entries in drawn)
  ordered = jnp.sort(jnp.concatenate([jnp.pad(
      entries, ((0, 0), (0, longest - entries.shape[1])),
      constant_values=jnp.nan) for entries in drawn]))
  counts = np.concatenate([
      np.full(len(entries), entries.shape[1]) for entries in drawn])
  return jax.vmap(_quantiles)(ordered, jnp.array(counts, jnp.int32))


def _drawn(parts: Sequence[jax.Array]) -> jax.Array:
  """Magnitudes of at most about `MOST` entries of each block; (blocks, n)."""
  whole = sum(part.shape[1] for part in parts)
  found = []
  for part in parts:
    size = part.shape[1]
    if whole > MOST:
      some: Any = np.random.default_rng(size).integers(
          size, size=-(-size * MOST // whole)) if size else []
      part = part[:, np.array(some, np.int32)]
    found.append(jnp.abs(part.astype(jnp.float32)))
  return jnp.concatenate(found, axis=1)


def _quantiles(ordered: jax.Array, count: jax.Array) -> jax.Array:
  """Quantiles of what is not zero of the first `count`, and zeros' share."""
  zeros = jnp.sum(ordered == 0)
  last = count - 1 - zeros  # -1: all are zero
  at = jnp.round(jnp.array(QUANTILES) * last).astype(jnp.int32) + zeros
  found = jnp.where(last < 0, 0.0, ordered[jnp.clip(at, 0, count - 1)])
  return jnp.where(count > 0, jnp.append(found, zeros / count), jnp.nan)
