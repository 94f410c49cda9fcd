"""The six long-dependency tasks, generated: nothing is downloaded.

Positions are fractions of the length T, half-open: [.1, .5) holds the steps k
with .1 T <= k < .5 T, the first step being 0. Symbols come as integers, which
models read as one-hot vectors.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import lax, numpy as jnp

from gradnorm_optax.lab.support.errors import LabError, nearest

EVALUATION_SIZE = 10_000
_CHUNK = 500
Spans = tuple[tuple[int, int], ...]  # in tenths of T


class Batch(NamedTuple):
  """Sequences and targets; the first axis runs over examples.

  Attributes:
    x: Numbers (B, steps, channels), or symbols (B, steps), int32.
    y: Numbers (B,), or classes (B, readout), int32.
  """

  x: jax.Array
  y: jax.Array


@dataclasses.dataclass(frozen=True)
class Task:
  """One task at one length.

  Attributes:
    name: A key of `TASKS`.
    length: T.
    steps: Length of the sequences, T or more.
    inputs: Channels, or number of symbols.
    outputs: Width of the readout.
    readout: At how many of the last steps it is read.
    regression: Whether targets are numbers.
  """

  name: str
  length: int
  steps: int
  inputs: int
  outputs: int
  readout: int
  regression: bool

  @functools.partial(jax.jit, static_argnums=(0, 2))
  def sample(self, key: jax.Array, size: int) -> Batch:
    """Draws fresh sequences."""
    return TASKS[self.name].draw(self, key, size)

  def evaluation(self, seed: int = 0) -> Batch:
    """Draws the fixed set of 10 000 sequences of a seed.

    Its key is `fold_in(key(seed), 0xE7A1)`, one of a long enough
    `split(key(seed), n)` too: take training keys from another root.
    """
    key = jax.random.fold_in(jax.random.key(seed, impl='threefry2x32'), 0xE7A1)
    return self.sample(key, EVALUATION_SIZE)

  def losses(self, out: jax.Array, y: jax.Array) -> jax.Array:
    """Computes the loss of each example from outputs (B, readout, outputs).

    Squared error, or cross-entropy averaged over the steps that are read.
    """
    if self.regression:
      return lax.square(out[:, 0, 0] - y)
    logs = jax.nn.log_softmax(out)
    picked = jnp.take_along_axis(logs, y[..., None], axis=-1)
    return -picked[..., 0].mean(axis=1)

  def right(self, out: jax.Array, y: jax.Array) -> jax.Array:
    """Tells which examples count as right."""
    if self.regression:
      return lax.square(out[:, 0, 0] - y) <= 0.04
    return (jnp.argmax(out, -1) == y).all(axis=1)

  def evaluate(self, apply: Callable[[jax.Array], jax.Array],
               batch: Batch) -> dict[str, jax.Array]:
    """Computes mean loss and share right, in chunks; solved is above .99."""
    count = max(len(batch.x) // _CHUNK, 1)
    while len(batch.x) % count:  # parts of one size
      count -= 1
    parts = jax.tree.map(
        lambda a: a.reshape(count, -1, *a.shape[1:]), batch)

    def part(chunk: Batch) -> Any:
      out = apply(chunk.x)
      right = self.right(out, chunk.y).astype(jnp.float32)
      return self.losses(out, chunk.y).mean(), right.mean()

    loss, right = lax.map(part, parts)
    return {'loss': loss.mean(), 'accuracy': right.mean()}


class _Kind(NamedTuple):
  """What the tasks of one name have in common."""

  draw: Callable[[Task, jax.Array, int], Batch]
  inputs: int
  outputs: int
  spans: Spans = ()
  extra: int = 0
  readout: int = 1
  regression: bool = False


def make(name: str, length: int) -> Task:
  """Builds a task by name.

  Args:
    name: A key of `TASKS`.
    length: T; long enough that each marked span holds a step.

  Raises:
    LabError: The name is unknown, or T no integer or too small.

  >>> make('temporal_order', 100).inputs
  6
  """
  if name not in TASKS:
    raise LabError(f'unknown task {name!r}{nearest(name, TASKS)}')
  try:
    length = operator.index(length)
  except TypeError:
    raise LabError(
        f'task {name!r}: T = {length!r} must be an integer') from None
  kind = TASKS[name]
  for span in kind.spans:
    first, end = bounds(span, length)
    if first >= end:
      raise LabError(f'task {name!r} with T = {length}: no step lies in '
                     f'[.{span[0]} T, .{span[1]} T). Take T = 10 or more.')
  if length < 1:
    raise LabError(f'task {name!r}: T = {length} must be at least 1')
  return Task(name, length, length + kind.extra, kind.inputs, kind.outputs,
              kind.readout, kind.regression)


def bounds(span: tuple[int, int], length: int) -> tuple[int, int]:
  """Returns the first step of a span in tenths of T, and the one after it."""
  first, end = (-(-tenths * length // 10) for tenths in span)
  return first, end


def _positions(task: Task, key: jax.Array, size: int) -> jax.Array:
  """Draws one step in each span: (size, spans)."""
  spans = TASKS[task.name].spans
  drawn = [jax.random.randint(k, (size,), *bounds(span, task.length))
           for k, span in zip(jax.random.split(key, len(spans)), spans,
                              strict=True)]
  return jnp.stack(drawn, axis=1)


def _numbers(combine: Callable[[jax.Array, jax.Array], jax.Array]) -> Any:
  """Two marked numbers of a row of uniform ones are combined."""
  def draw(task: Task, key: jax.Array, size: int) -> Batch:
    where, what = jax.random.split(key)
    at = _positions(task, where, size)
    values = jax.random.uniform(what, (size, task.length), jnp.float32)
    marks = jax.nn.one_hot(at, task.length, dtype=jnp.float32).sum(1)
    first, second = jnp.take_along_axis(values, at, axis=1).T
    return Batch(jnp.stack([marks, values], -1), combine(first, second))
  return draw


def _order(task: Task, key: jax.Array, size: int) -> Batch:
  """Keys 0 and 1 among distractors 2..5; the class is their binary number."""
  where, which, rest = jax.random.split(key, 3)
  at = _positions(task, where, size)
  keys = jax.random.randint(which, at.shape, 0, 2)
  x = jax.random.randint(rest, (size, task.length), 2, 6)
  x = jax.vmap(lambda row, i, k: row.at[i].set(k))(x, at, keys)
  powers = jnp.array([2**i for i in reversed(range(at.shape[1]))], jnp.int32)
  return Batch(x, jnp.matmul(keys, powers)[:, None])


def _permutation(task: Task, key: jax.Array, size: int) -> Batch:
  """The first symbol, 0 or 1, is asked for after random others."""
  first, rest = jax.random.split(key)
  y = jax.random.randint(first, (size, 1), 0, 2)
  x = jax.random.randint(rest, (size, task.length - 1), 2, 100)
  return Batch(jnp.concatenate([y, x], axis=1), y)


def _memorization(task: Task, key: jax.Array, size: int) -> Batch:
  """Ten symbols 0..4, T blanks (5), a trigger (6) at T + 10, blanks."""
  y = jax.random.randint(key, (size, 10), 0, 5)
  tail = jnp.full((size, task.length + 10), 5, jnp.int32)
  return Batch(jnp.concatenate(
      [y, tail.at[:, task.length].set(6)], axis=1), y)


_EARLY: Spans = ((0, 1), (1, 5))
TASKS: dict[str, _Kind] = {
    'adding': _Kind(_numbers(lambda a, b: (a + b) / 2), 2, 1, _EARLY,
                    regression=True),
    'multiplication': _Kind(_numbers(lambda a, b: a * b), 2, 1, _EARLY,
                            regression=True),
    'temporal_order': _Kind(_order, 6, 4, ((1, 2), (5, 6))),
    'temporal_order_3': _Kind(_order, 6, 8, ((1, 2), (3, 4), (6, 7))),
    'random_permutation': _Kind(_permutation, 100, 100),
    'memorization': _Kind(_memorization, 7, 5, extra=20, readout=10),
}
