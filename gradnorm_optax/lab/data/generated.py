"""The generated sets: long-dependency tasks and text."""

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import generated_text
from gradnorm_optax.lab.data.dataset import Dataset, Split, sizes
from gradnorm_optax.lab.objective import usual
from gradnorm_optax.lab.support.errors import LabError


def long_dependency(config: schema.Data) -> Dataset:
  """One of the generated tasks of `tasks`; three parts that share no draw."""
  import jax

  from gradnorm_optax.lab.data import long_dependency
  task = long_dependency.make(config.task, config.length)
  key = jax.random.key(config.seed, impl='threefry2x32')
  # The last is the key of `Task.evaluation`, which draws the same test part.
  parts = [Split(*map(np.asarray, task.sample(
      jax.random.fold_in(key, number), size))) for number, size in zip(
          (0xE7A3, 0xE7A2, 0xE7A1), config.sizes, strict=True)]
  symbols = task.inputs if parts[0].x.dtype.kind == 'i' else None
  return Dataset(
      parts[0], parts[1], parts[2], task.outputs, None,
      f'{task.name} at T = {task.length}, {sizes(parts)} generated sequences',
      usual.of_task(task, parts[1].y), symbols, task.readout)


def characters_set(config: schema.Data) -> Dataset:
  """Generated text cut into windows; the target is the next character."""
  text = generated_text.text(config.size * config.length + 1, config.seed)
  alphabet = sorted(set(text))
  codes = np.array([alphabet.index(c) for c in text], np.int32)
  x = codes[:-1].reshape(-1, config.length)
  y = codes[1:].reshape(-1, config.length)
  # One stretch of text for each part: no window is continued in another part.
  validation, test = config.shares()
  first = round(config.size * (1 - validation - test))
  second = round(config.size * (1 - test))
  parts = [Split(x[a:b], y[a:b]) for a, b in (
      (0, first), (first, second), (second, config.size))]
  if not all(len(part.y) for part in parts):
    raise LabError(f'[data] size = {config.size}: {sizes(parts)} windows; '
                   'take more')
  return Dataset(
      parts[0], parts[1], parts[2], outputs=len(alphabet), image=None,
      description=f'generated text, {len(alphabet)} symbols, {sizes(parts)} '
                  f'windows of {config.length}',
      objective=usual.classes(
          len(alphabet), parts[1].y, positions=True), symbols=len(alphabet))
