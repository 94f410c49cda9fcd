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
from jax import lax

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.methods import chain, example_choice
from gradnorm_optax.lab.methods.schedules import schedule
from gradnorm_optax.lab.training import through_time
from gradnorm_optax.lab.training.problem import Problem
from gradnorm_optax.lab.training.steps import State, start, step


class History(NamedTuple):
  """Figures at every evaluation; shape (evaluations,), NaN where not run.

  `acted` is the share of steps in which sampling changed which examples count,
  None without sampling. `profile` is the gradient's log10 norm at every step of
  the sequences, (evaluations, T); None where there are none.
  """

  train_loss: jax.Array
  loss: jax.Array
  score: jax.Array
  acted: jax.Array | None = None
  profile: jax.Array | None = None


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
    built = chain.build(
        self.method, schedule(self.train, rate), self.problem.context)
    train, validation = data

    def one(state: State, _: None) -> tuple[State, Any]:
      state, figures = step(
          self.problem, built, self.train, train, seed, state)
      acted = None if figures.choice is None else example_choice.acted(
          figures.choice)
      return state, (figures.loss, acted)

    def evaluate(state: State) -> Any:
      params = built.unwrap(state.params)
      score = self.problem.evaluate(params, state.extra, validation)
      return score['loss'], score['score'], through_time.profile(
          self.problem, params, validation) if timed else None

    timed = through_time.has_time(self.problem)
    length = through_time.shape(self.problem, validation.x)[0] if timed else 0
    blank = (jnp.float32(0), jnp.float32(0),
             jnp.zeros(length) if timed else None)

    def chunk(carry: Any) -> Any:
      index, _, state, history = carry
      state, (losses, acted) = lax.scan(
          one, state, length=self.train.eval_every)
      loss, score, profile = lax.cond(
          measured, evaluate, lambda _: blank, state)
      share = acted.astype(jnp.float32).mean() if built.chooses else None
      new = History(losses.mean(), loss, score, share, profile)
      history = jax.tree.map(lambda h, v: h.at[index].set(v), history, new)
      alive = jnp.isfinite(losses).all() & jnp.isfinite(loss)
      return index + 1, alive, state, history

    empty = jnp.full((self.evaluations,), jnp.nan)
    carry = (jnp.int32(0), jnp.array(True),
             start(self.problem, built, params, extra),
             History(empty, empty, empty, empty if built.chooses else None,
                     jnp.full((self.evaluations, length), jnp.nan)
                     if timed else None))
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
