"""The norms of every block over a method's first batches."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data.dataset import Split
from gradnorm_optax.lab.methods import chain
from gradnorm_optax.lab.methods.schedules import schedule
from gradnorm_optax.lab.results import block_flags
from gradnorm_optax.lab.results.first_batch_norms import Look
from gradnorm_optax.lab.training import block_norms, problem, steps


def look(made: problem.Problem, train: schema.Train, model: str, key: str,
         method: schema.Method, *, rate: float, seed: int, batches: int,
         start: Any = None) -> Look:
  """Trains a few steps and keeps every block's norms.

  Args:
    made: The model with its data.
    train: How it is trained.
    model: Its name.
    key: The name of the method.
    method: The method.
    rate: Its learning rate.
    seed: Of the order of the examples, and of the start.
    batches: How many steps to take.
    start: Parameters and other variables; drawn from the seed if None.

  Returns:
    The norms of the first batches.
  """
  params, extra = start or jax.jit(made.init)(seed)
  built = chain.build(method, schedule(train, rate), made.context)
  front = chain.front(method, made.context)
  examples = jax.device_put(made.dataset.train)

  def one(examples: Split, state: steps.State, _: None) -> Any:
    before = built.unwrap(state.params)
    new, _figures, gradient = steps.open_step(
        made, built, train, examples, seed, state)
    after, _ = front.update(gradient, front.init(before), before)
    moved = optax.tree.sub(built.unwrap(new.params), before)
    return new, [block_norms.norms(made, tree)
                 for tree in (gradient, after, moved, before)]

  with chain.refusing(method, made.context, made.init,
                        f'[methods.{key}] on [models.{model}]'):
    state = steps.start(made, built, params, extra)
    # As an argument: a constant would be copied into the program.
    _, norms = jax.jit(lambda examples, state: lax.scan(
        functools.partial(one, examples), state, length=batches))(
            examples, state)
  gradient, after, moved, size = (_columns(norm) for norm in norms)
  names = [name for name, values in norms[0].items()
           for name in _names(name, values)]
  with np.errstate(all='ignore'):
    ratio = np.where(size > 0, moved / np.where(size > 0, size, 1), np.nan)
  return Look(model, key, names, gradient, after, ratio,
              block_flags.flags(names, gradient, after, ratio))


def _names(name: str, values: jax.Array) -> list[str]:
  """A block's name, or those of a stack of blocks."""
  if values.ndim == 1:
    return [name]
  return [f'{name}[{i}]' for i in range(values[0].size)]


def _columns(norms: dict[str, Any]) -> np.ndarray:
  """Norms of all blocks side by side; shape (batches, blocks)."""
  return np.concatenate([
      np.asarray(jnp.reshape(v, (len(v), -1)), np.float64)
      for v in norms.values()], axis=1)
