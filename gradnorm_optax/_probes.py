"""Gradients made to show what a chain does with them, and the chain on them.

A chain is probed from outside: with random parameters of the model's shapes,
in float32, and random gradients, of whose norm each array has an equal share.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax, numpy as jnp

from gradnorm_optax import _tree

# Norms of whole gradients. Thresholds of clipping lie between the first and the
# third, epsilons far below; of the last the squares overflow, and of no other.
LOW, SMALL, USUAL, HIGH, HUGE = 1e-3, 1e-1, 1e2, 1e15, 1e25
PATIENCE = 64  # updates in which a chain must have moved something

Leaves = dict[str, np.ndarray]


class Chain:
  """A transformation on synthetic parameters, one compiled step."""

  def __init__(self, tx: Any, params: Any, extra: dict[str, Any],
               dtype: str = 'float32'):
    self.params = _synthetic(params, dtype)
    self.paths = {path: None for path, leaf in _tree.by_path(
        self.params).items() if not _tree.is_hole(leaf) and _trained(leaf)}
    self.fresh = tx.init(self.params)
    self._directions: dict[tuple[int, str], np.ndarray] = {}
    self._step = jax.jit(
        lambda g, state, params: tx.update(g, state, params, **extra))

  def step(self, grads: Any, state: Any) -> tuple[Leaves, Any]:
    """Returns the updates by path, and the next state."""
    updates, state = self._step(grads, state, self.params)
    found = _tree.by_path(updates)
    return {path: np.asarray(found[path], np.float64)
            for path in self.paths}, state

  def grads(self, seed: int, norm: float,
            factor: Callable[[str], float] = lambda path: 1.0) -> Any:
    """Returns a random gradient.

    Args:
      seed: Says which.
      norm: Of the whole.
      factor: Of each array, by path.
    """
    share = norm / max(len(self.paths), 1) ** 0.5
    leaves, treedef = _tree.flatten(self.params)
    new = []
    for path, leaf in zip(_tree.paths(self.params), leaves, strict=True):
      if path in self.paths:
        x = self._direction(seed, path, np.shape(leaf))
        leaf = jnp.asarray(x * np.float32(share * factor(path)), leaf.dtype)
      elif not _tree.is_hole(leaf):
        leaf = jnp.zeros_like(leaf)
      new.append(leaf)
    return treedef.unflatten(new)

  def _direction(
      self, seed: int, path: str, shape: tuple[int, ...]
  ) -> np.ndarray:
    if (seed, path) not in self._directions:
      rng = np.random.default_rng([seed, *path.encode()])
      x = rng.standard_normal(shape, np.float32)
      self._directions[seed, path] = x / max(
          np.linalg.norm(x), np.float32(1e-6))
    return self._directions[seed, path]


class Start:
  """Where a chain stands when it first moves.

  Attributes:
    steps: Updates to the first that moves a parameter; 0 if none does.
    period: Updates from one such to the next; 0 as above.
    state: The chain's, behind such an update.
  """

  def __init__(self, chain: Chain):
    self.chain, self.state = chain, chain.fresh
    self.moved: set[str] = set()
    self.steps = self._to_next_move()
    # A schedule that starts at 0 holds back once, accumulation ever again.
    self.period = self._to_next_move() if self.steps > 1 else self.steps

  def _to_next_move(self) -> int:
    for n in range(1, PATIENCE + 1):
      updates, self.state = self.chain.step(
          self.chain.grads(1, USUAL), self.state)
      moved = {path for path, u in updates.items() if np.any(u)}
      self.moved |= moved
      if moved:
        return n
    return 0

  @property
  def frozen(self) -> set[str]:
    """Paths of arrays that stood still while others moved."""
    every = set(_tree.paths(self.chain.params))
    trained = self.moved if self.steps else set(self.chain.paths)
    return every - trained

  def update(self, grads: Any, first: Any = None) -> Leaves:
    """Returns the next update that is not held back.

    Args:
      grads: The gradient, of every micro-batch.
      first: The gradient of the first micro-batch, if it is another one.
    """
    state, updates = self.state, dict[str, np.ndarray]()
    for n in range(self.period):
      updates, state = self.chain.step(
          first if n == 0 and first is not None else grads, state)
    return updates


def apart(left: np.ndarray, right: np.ndarray) -> float:
  """Returns the largest difference, in shares of the largest entry."""
  if not (np.isfinite(left).all() and np.isfinite(right).all()):
    return np.inf
  scale = max(np.abs(left).max(initial=0), np.abs(right).max(initial=0))
  return float(np.abs(left - right).max(initial=0) / scale) if scale else 0.0


def _trained(leaf: Any) -> bool:
  return jnp.issubdtype(leaf.dtype, jnp.inexact) and bool(np.size(leaf))


def _synthetic(params: Any, dtype: str) -> Any:
  leaves, treedef = _tree.flatten(params)
  rng = np.random.default_rng(0)

  def made(leaf: Any) -> Any:
    if _tree.is_hole(leaf):
      return leaf
    shape, own = _tree.shape_dtype(leaf, '')
    if not jnp.issubdtype(own, jnp.inexact):
      return jnp.zeros(shape, own)
    fan_in = np.prod(shape[:-1], initial=1.0)
    x = jnp.asarray(rng.standard_normal(shape, np.float32) / fan_in**0.5, dtype)
    return lax.complex(x, x) if jnp.issubdtype(own, jnp.complexfloating) else x

  return treedef.unflatten(map(made, leaves))
