"""Orders around weight normalization, seen in its state."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from gradnorm_optax import _tree
from gradnorm_optax._findings import Finding, some
from gradnorm_optax._probes import PATIENCE, USUAL, Chain, Leaves, Start
from gradnorm_optax.weight_norm import (
  FixedLengthsState,
  WeightNormalizedState,
)

State = WeightNormalizedState | FixedLengthsState


def states(opt_state: Any) -> list[State]:
  """Returns the states of weight normalizations inside a chain's."""
  kind = (WeightNormalizedState, FixedLengthsState)
  return [node for node in jax.tree.leaves(
      opt_state, is_leaf=lambda node: isinstance(node, kind))
          if isinstance(node, kind)]


def not_outermost(tx: Any, params: Any, extra: Any) -> Iterator[Finding]:
  """The updates are not those that lead to the weights of the state.

  Beside bfloat16 parameters the state holds the weights themselves.
  """
  chain = Chain(tx, params, extra, 'bfloat16')
  state = chain.fresh
  before = _tree.by_path(chain.params)
  for _ in range(PATIENCE):
    updates, state = chain.step(chain.grads(1, USUAL), state)
    found = []
    for path, held in _weights(state).items():
      want = held - np.asarray(before[path], np.float64)
      off = np.abs(updates[path] - want).max()
      if off > 0.05 * np.abs(want).max() + 1e-6 * np.abs(held).max():
        found.append(path)
    if found:
      yield Finding(
          'something behind weight_normalized changes its updates: the'
          ' parameters are then not the g v/||v|| that it took a step to',
          some(found),
          'make it the last: put learning rate, schedule, clipping and decay'
          ' into its inner optimizer, gn.weight_normalized(optax.chain(...)).')
    if found or any(np.any(updates[path]) for path in _weights(state)):
      return


def decay_of_v(start: Start) -> Iterator[Finding]:
  """Without a gradient v shrinks."""
  chain, state = start.chain, start.chain.fresh
  updates: Leaves = {}
  before = _tree.by_path(chain.params)
  nothing = chain.grads(1, 0.0)
  for _ in range(start.steps):
    updates, state = chain.step(nothing, state)
  found = []
  starts = states(start.chain.fresh)
  for first, held in zip(starts, states(state), strict=True):
    for path, scale in held[0].items():
      w = np.asarray(before[path], np.float64)
      v = w / np.asarray(first[0][path], np.float64)
      new = (w + updates[path]) / np.asarray(scale, np.float64)
      shrinks = np.vdot(v - new, v) / np.vdot(v, v)
      if shrinks > max(1e-8, 5 * 2.0 ** -24 / v.size ** 0.5):
        found.append(path)
  if found:
    yield Finding(
        'weight decay acts on v: its length does not matter for the output, and'
        ' a shorter v has a higher effective learning rate', some(found),
        "decay g alone, inside: optax.adamw(..., mask=lambda t: {'v':"
        " jax.tree.map(lambda _: False, t['v']), 'g': jax.tree.map(lambda _:"
        " True, t['g'])}).")


def _weights(state: Any) -> dict[str, np.ndarray]:
  return {path: np.asarray(jax.tree.leaves(held.w)[0], np.float64)
          for one in states(state) for path, held in one.weights.items()}
