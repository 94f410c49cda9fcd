"""Batches that the host takes from a mapped file, a stretch of steps at once.

They are those that the device would take: the order of the examples depends on
the seed and the epoch alone.
"""

from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data.dataset import Split
from gradnorm_optax.lab.support.batch_cut import ROWS
from gradnorm_optax.lab.training import steps
from gradnorm_optax.lab.training.layout import Layout


class Stream:
  """The batches of a training part."""

  def __init__(self, examples: Split, train: schema.Train, seed: int,
               layout: Layout):
    """Reads nothing yet.

    Args:
      examples: The training part, a mapped file.
      train: The sizes of batches; `eval_every` steps are a stretch.
      seed: Of their order.
      layout: On which devices they are put, each process its own share.
    """
    self._examples, self._train, self._layout = examples, train, layout
    count = len(examples.y)
    self._size = train.batch(count)
    self._per_epoch = train.per_epoch(count)
    self._shuffled = jax.jit(
        lambda epoch: steps.shuffled(seed, epoch, count))
    self._epoch, self._order = -1, np.zeros(0, np.int32)
    self._first = -1
    self._held: Any = None

  def stretch(self, step: int) -> Any:
    """The batches of the stretch in which a step lies: (steps, size, ...)."""
    first = step - step % self._train.eval_every
    if first != self._first:
      rows = np.stack([self._rows(first + i)
                       for i in range(self._train.eval_every)])
      self._held = steps.Batch(*(
          None if array is None else self._layout.put_batches(array, rows)
          for array in self._examples))
      self._first = first
    return self._held

  def shapes(self) -> steps.Batch:
    """Those of the batches of a stretch, where they would lie."""
    return steps.Batch(*(None if array is None else jax.ShapeDtypeStruct(
        (self._train.eval_every, self._size, *array.shape[1:]), array.dtype,
        sharding=self._layout.cut(None, ROWS)) for array in self._examples))

  def order(self, step: int) -> jax.Array:
    """The order of the examples in the epoch of a step."""
    self._rows(step)
    return jnp.asarray(self._order)

  def _rows(self, step: int) -> np.ndarray:
    epoch, index = divmod(step, self._per_epoch)
    if epoch != self._epoch:
      self._order = np.asarray(self._shuffled(epoch))
      self._epoch = epoch
    return self._order[index * self._size:][:self._size]
