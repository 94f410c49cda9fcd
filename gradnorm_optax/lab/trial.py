"""One training run as one compiled program.

Learning rate and seed are arguments of the program, so that an architecture
and a method are compiled once however many rates and seeds are tried.
"""

import threading
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from gradnorm_optax.lab import methods, schema
from gradnorm_optax.lab.data import Split
from gradnorm_optax.lab.problem import Problem
from gradnorm_optax.lab.schedules import schedule


class State(NamedTuple):
  """Everything that a run carries from step to step.

  Attributes:
    step: Number of steps taken; shape (), int32.
    params: The parameters as the optimizer sees them.
    extra: The model's other variables (batch statistics).
    opt_state: The optimizer's state.
    order: The current epoch's order of the examples; shape (n,), int32.
  """

  step: jax.Array
  params: Any
  extra: Any
  opt_state: Any
  order: jax.Array


class History(NamedTuple):
  """Figures at every evaluation; shape (evaluations,), NaN where not run."""

  train_loss: jax.Array
  loss: jax.Array
  score: jax.Array


def start(problem: Problem, built: methods.Built, params: Any,
          extra: Any) -> State:
  """The state before the first step."""
  params = built.wrap(params)
  order = jnp.arange(len(problem.dataset.train.y), dtype=jnp.int32)
  return State(jnp.zeros([], jnp.int32), params, extra,
               built.tx.init(params), order)


class Figures(NamedTuple):
  """What a step shows: the batch's loss and its gradient's norm."""

  loss: jax.Array
  gradient: jax.Array


def step(problem: Problem, built: methods.Built, train: schema.Train,
         examples: Split, seed: jax.Array | int,
         state: State) -> tuple[State, Figures]:
  """Takes one training step; returns the new state and its figures."""
  return open_step(problem, built, train, examples, seed, state)[:2]


def open_step(problem: Problem, built: methods.Built, train: schema.Train,
              examples: Split, seed: jax.Array | int,
              state: State) -> tuple[State, Figures, Any]:
  """Takes one training step; returns the raw gradient too.

  The order of the examples depends on the seed and the epoch alone, so that
  all methods see the same batches.
  """
  order, batch = _batch(train, examples, seed, state)
  loss, extra, gradient = _gradient(
      problem, built.unwrap(state.params), state.extra, batch,
      train.accumulate)
  updates, opt_state = built.tx.update(gradient, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  return (State(state.step + 1, params, extra, opt_state, order),
          Figures(loss, optax.tree.norm(gradient)), gradient)


def _batch(train: schema.Train, examples: Split, seed: jax.Array | int,
           state: State) -> tuple[jax.Array, Split]:
  """The epoch's order and the batch of the next step."""
  count = len(state.order)
  size = min(train.batch_size, count // train.accumulate * train.accumulate)
  epoch, index = jnp.divmod(state.step, count // size)
  key = jax.random.fold_in(
      jax.random.fold_in(jax.random.key(seed), 1), epoch)
  order = lax.cond(
      index == 0, lambda: jax.random.permutation(key, count),
      lambda: state.order)
  rows = lax.dynamic_slice(order, (index * size,), (size,))
  return order, jax.tree.map(lambda a: a[rows], examples)


def _gradient(problem: Problem, params: Any, extra: Any, batch: Split,
              parts: int) -> tuple[jax.Array, Any, Any]:
  """Loss, new variables and gradient of a batch, in equal parts."""
  take = jax.value_and_grad(problem.loss, has_aux=True)
  if parts == 1:
    (loss, extra), gradient = take(params, extra, *batch)
    return loss, extra, gradient

  pieces = jax.tree.map(
      lambda a: a.reshape(parts, -1, *a.shape[1:]), batch)
  # A part weighs as many labels as it holds: padding may be shared unevenly.
  held = jax.vmap(lambda piece: problem.dataset.objective.count(
      piece.y, piece.lengths))(pieces)

  def part(carry: Any, given: Any) -> tuple[Any, None]:
    loss, extra, total = carry
    piece, share = given
    (more, extra), gradient = take(params, extra, *piece)
    return (loss + share * more, extra, jax.tree.map(
        lambda t, g: t + (share * g).astype(t.dtype), total, gradient)), None

  start = jnp.float32(0), extra, optax.tree.zeros_like(params)
  (loss, extra, total), _ = lax.scan(part, start, (pieces, held / held.sum()))
  return loss, extra, total


class Program:
  """The compiled runs of one method on one problem."""

  def __init__(self, problem: Problem, method: schema.Method,
               train: schema.Train, batch: int = 1):
    """Prepares the program; `batch` runs share a call if it exceeds 1."""
    self.problem, self.method, self.train = problem, method, train
    self.batch = batch
    self.evaluations = train.steps // train.eval_every
    self.compile_seconds = 0.0
    self._lock = threading.Lock()
    self._compiled: Any = None
    self._test: Any = None

  def _trial(self, data: Any, params: Any, extra: Any, rate: jax.Array,
             seed: jax.Array, chunks: jax.Array,
             measured: jax.Array) -> tuple[State, History]:
    """The traced run: `chunks` times `eval_every` steps and an evaluation."""
    built = methods.build(
        self.method, schedule(self.train, rate), self.problem.context)
    train, validation = data

    def one(state: State, _: None) -> tuple[State, jax.Array]:
      state, figures = step(
          self.problem, built, self.train, train, seed, state)
      return state, figures.loss

    def evaluate(state: State) -> dict[str, jax.Array]:
      return self.problem.evaluate(
          built.unwrap(state.params), state.extra, validation)

    def chunk(carry: Any) -> Any:
      index, _, state, history = carry
      state, losses = lax.scan(one, state, length=self.train.eval_every)
      nothing = {'loss': jnp.float32(0), 'score': jnp.float32(0)}
      score = lax.cond(measured, evaluate, lambda _: nothing, state)
      new = History(losses.mean(), score['loss'], score['score'])
      history = jax.tree.map(lambda h, v: h.at[index].set(v), history, new)
      alive = jnp.isfinite(losses).all() & jnp.isfinite(score['loss'])
      return index + 1, alive, state, history

    empty = jnp.full((self.evaluations,), jnp.nan)
    carry = (jnp.int32(0), jnp.array(True),
             start(self.problem, built, params, extra),
             History(empty, empty, empty))
    # A diverged run stops here and costs nothing more.
    _, _, state, history = lax.while_loop(
        lambda carry: (carry[0] < chunks) & carry[1], chunk, carry)
    return state._replace(params=built.unwrap(state.params)), history

  def compile(self, data: Any, params: Any, extra: Any) -> None:
    """Compiles the program unless that is done."""
    with self._lock:
      if self._compiled is not None:
        return
      began = time.perf_counter()
      scalar = jnp.float32(0), jnp.int32(0)
      trial: Any = self._trial
      if self.batch > 1:
        scalar = jax.tree.map(lambda a: jnp.zeros(self.batch, a.dtype), scalar)
        trial = jax.vmap(trial, (None, 0, 0, 0, 0, None, None))
      self._compiled = jax.jit(trial).lower(
          data, params, extra, *scalar, jnp.int32(0),
          jnp.array(True)).compile()
      self.compile_seconds = time.perf_counter() - began

  def run(self, data: Any, params: Any, extra: Any, rate: Any, seed: Any,
          chunks: int | None = None,
          measured: bool = True) -> tuple[State, History, float]:
    """Trains; returns final state, history (NumPy) and wall seconds."""
    self.compile(data, params, extra)
    began = time.perf_counter()
    state, history = jax.block_until_ready(self._compiled(
        data, params, extra, jnp.asarray(rate, jnp.float32),
        jnp.asarray(seed, jnp.int32),
        jnp.int32(self.evaluations if chunks is None else chunks),
        jnp.array(measured)))
    seconds = time.perf_counter() - began
    return state, jax.tree.map(np.asarray, history), seconds
