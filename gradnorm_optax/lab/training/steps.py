"""The training step and what it carries."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data.dataset import Split
from gradnorm_optax.lab.methods import chain
from gradnorm_optax.lab.support import batch_cut
from gradnorm_optax.lab.training import step_gradient
from gradnorm_optax.lab.training.problem import Problem
from gradnorm_optax.lab.training.watcher import Watcher


class State(NamedTuple):
  """Everything that a run carries from step to step.

  Attributes:
    step: Number of steps taken; shape (), int32.
    params: The parameters as the optimizer sees them.
    extra: The model's other variables (batch statistics).
    opt_state: The optimizer's state.
    order: The current epoch's order of the examples; shape (n,), int32.
    watched: What a watcher has seen; () where none watches.
  """

  step: jax.Array
  params: Any
  extra: Any
  opt_state: Any
  order: jax.Array
  watched: Any = ()


class Batch(NamedTuple):
  """The examples of one step, or of several, as a `Split` of them.

  In the place of all examples: the host has chosen.
  """

  x: Any
  y: Any
  lengths: Any = None


def start(problem: Problem, built: chain.Built, params: Any,
          extra: Any) -> State:
  """The state before the first step."""
  params = built.wrap(params)
  order = jnp.arange(len(problem.dataset.train.y), dtype=jnp.int32)
  return State(jnp.zeros([], jnp.int32), params, extra,
               built.tx.init(params), order)


class Figures(NamedTuple):
  """What a step shows.

  Attributes:
    loss: The loss of its batch.
    gradient: The norm of the gradient.
    rows: The batch's rows of the training part; (batch,), int32.
    choice: Which of them the gradient was taken of; None for all.
    skipped: How many gradients up to this one were not finite and left out in a
      row; None where none are left out.
  """

  loss: jax.Array
  gradient: jax.Array
  rows: jax.Array
  choice: Any = None
  skipped: Any = None


def step(problem: Problem, built: chain.Built, train: schema.Train,
         examples: Split | Batch, seed: jax.Array | int, state: State,
         trials: str | None = None,
         watcher: Watcher | None = None) -> tuple[State, Figures]:
  """Takes one training step; returns the new state and its figures."""
  return open_step(
      problem, built, train, examples, seed, state, trials, watcher)[:2]


def open_step(problem: Problem, built: chain.Built, train: schema.Train,
              examples: Split | Batch, seed: jax.Array | int, state: State,
              trials: str | None = None, watcher: Watcher | None = None
              ) -> tuple[State, Figures, Any]:
  """Takes one training step; returns the raw gradient too.

  The order of the examples depends on the seed and the epoch alone, so that
  all methods see the same batches.

  Trials that share a call are mapped over by `jax.vmap`, all at one
  `state.step`, which must not be mapped: a condition that is mapped makes
  `lax.cond` take both branches, and each step would put all examples in a new
  order.

  Args:
    problem: What is trained.
    built: How.
    train: The sizes of batches.
    examples: The training part, or the `Batch` of this step.
    seed: Of the order and of choices at random.
    state: The state before the step.
    trials: The name of the mapped axis; None for one trial.
    watcher: Takes in the gradient and the update, if there is one.

  Returns:
    The new state, figures, and the gradient.
  """
  if isinstance(examples, Batch):
    order, rows = state.order, jnp.arange(len(examples.y), dtype=jnp.int32)
    batch = batch_cut.rows(Split(*examples))
  else:
    order, rows = _rows(train, seed, state)
    batch = batch_cut.rows(jax.tree.map(lambda a: a[rows], examples))
  key = jax.random.fold_in(
      jax.random.fold_in(jax.random.key(seed), 2), state.step)
  loss, extra, gradient, choice = step_gradient.take(
      problem, built, built.unwrap(state.params), state.extra, batch,
      train.accumulate, key, trials, built.ends(state.opt_state))
  updates, opt_state = built.update(
      gradient, state.opt_state, state.params, choice)
  params = optax.apply_updates(state.params, updates)
  watched = state.watched if watcher is None else watcher.step(
      state.watched, gradient, built.unwrap(updates),
      built.unwrap(state.params))
  return (State(state.step + 1, params, extra, opt_state, order, watched),
          Figures(loss, optax.tree.norm(gradient), rows, choice), gradient)


def at_once(train: schema.Train, examples: int) -> int:
  """How many examples a gradient is taken of: a batch, or a part of one."""
  return train.batch(examples) // train.accumulate


def _rows(train: schema.Train, seed: jax.Array | int,
          state: State) -> tuple[jax.Array, jax.Array]:
  """The epoch's order and the rows of the next step's batch."""
  count = len(state.order)
  size = train.batch(count)
  epoch, index = jnp.divmod(state.step, train.per_epoch(count))

  # Keys are folded there: in every step that costs as much as a small layer.
  order = lax.cond(index == 0, lambda: shuffled(seed, epoch, count),
                   lambda: state.order)
  return order, lax.dynamic_slice(order, (index * size,), (size,))


def shuffled(seed: jax.Array | int, epoch: jax.Array | int,
             count: int) -> jax.Array:
  """The order of an epoch's examples."""
  key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 1), epoch)
  return jax.random.permutation(key, count)
