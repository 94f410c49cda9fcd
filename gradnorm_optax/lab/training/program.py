"""One training run as one compiled program.

Learning rate and seed are arguments of the program, so that an architecture
and a method are compiled once however many rates and seeds are tried. So is the
number of steps where a call holds one trial: two lengths tell what a step
costs.
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
from gradnorm_optax.lab.training.marginal import marginal
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


TRIALS = 'trials'  # the axis of trials that share a call
PROBE = 0.02  # seconds of steps that tell about how long a run takes
# They take their steps together: `step` is one number.
TOGETHER = State(None, 0, 0, 0, 0)  # type: ignore[arg-type]


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

  def trials(self, data: Any, params: Any, extra: Any, rate: jax.Array,
             seed: jax.Array, chunks: jax.Array, every: jax.Array,
             measured: jax.Array) -> tuple[State, History]:
    """The traced runs: `chunks` times `every` steps and an evaluation.

    Loops stand outside and trials inside, so that what depends on the step
    alone stays a condition; see `steps.open_step`.

    Args:
      data: Training and validation part.
      params, extra: The model's; like `rate` and `seed`, with a first axis of
        trials where several share the call.
      rate, seed: The trial's.
      chunks: How many evaluations.
      every: Steps before each. Where trials share the call `eval_every` is
        built in: an accelerator runs loops of a known length without asking.
      measured: Whether to evaluate, and to stop where all trials have diverged.

    Returns:
      The last state and the history; (evaluations, trials, ...) where several
      share the call.
    """
    train, validation = data
    shared = self.batch > 1
    lead = (self.batch,) if shared else ()
    timed = through_time.has_time(self.problem)
    length = through_time.shape(self.problem, validation.x)[0] if timed else 0

    def build(rate: jax.Array) -> chain.Built:
      return chain.build(
          self.method, schedule(self.train, rate), self.problem.context)

    def begin(rate: jax.Array, params: Any, extra: Any) -> State:
      return start(self.problem, build(rate), params, extra)

    def one(rate: jax.Array, seed: jax.Array, state: State) -> Any:
      state, figures = step(self.problem, build(rate), self.train, train, seed,
                            state, TRIALS if shared else None)
      acted = None if figures.choice is None else example_choice.acted(
          figures.choice).astype(jnp.float32)
      return state, (figures.loss, acted)

    def evaluate(rate: jax.Array, state: State) -> Any:
      params = build(rate).evaluated(state.params, state.opt_state)
      score = self.problem.evaluate(params, state.extra, validation)
      return score['loss'], score['score'], through_time.profile(
          self.problem, params, validation) if timed else None

    judged = build(jnp.float32(0)).evaluated
    if shared:
      begin = jax.vmap(begin, out_axes=TOGETHER, axis_size=self.batch)
      one = jax.vmap(one, (0, 0, TOGETHER), (TOGETHER, 0), axis_name=TRIALS)
      evaluate = jax.vmap(evaluate, (0, TOGETHER))
      judged = jax.vmap(judged)
    zero = jnp.zeros(lead)
    blank = zero, zero, jnp.zeros((*lead, length)) if timed else None
    chooses = build(jnp.float32(0)).chooses

    def stretch(state: State) -> Any:
      def body(_: Any, carry: Any) -> Any:
        state, loss, acted = carry
        state, (more, act) = one(rate, seed, state)
        return state, loss + more, acted + act if chooses else acted

      count = self.train.eval_every if shared else every
      state, loss, acted = lax.fori_loop(
          0, count, body, (state, zero, zero if chooses else None))
      # A sum holds what is not finite as well as any of its parts.
      return state, loss / count, acted / count if chooses else None

    def chunk(carry: Any) -> Any:
      index, alive, state, history = carry
      state, train_loss, share = stretch(state)
      loss, score, profile = lax.cond(
          measured, evaluate, lambda *_: blank, rate, state)
      new = History(train_loss, loss, score, share, profile)
      history = jax.tree.map(lambda h, v: h.at[index].set(v), history, new)
      alive &= jnp.isfinite(train_loss) & jnp.isfinite(loss)
      return index + 1, alive, state, history

    empty = jnp.full((self.evaluations, *lead), jnp.nan)
    carry = (jnp.int32(0), jnp.ones(lead, bool), begin(rate, params, extra),
             History(empty, empty, empty, empty if chooses else None,
                     jnp.full((*empty.shape, length), jnp.nan)
                     if timed else None))
    # Where all have diverged nothing more is spent.
    _, _, state, history = lax.while_loop(
        lambda carry: (carry[0] < chunks) & (carry[1].any() | ~measured),
        chunk, carry)
    return state._replace(
        params=judged(state.params, state.opt_state)), history

  def compile(self, data: Any, params: Any, extra: Any) -> None:
    """Compiles the program unless that is done."""
    with self._lock:
      if self._compiled is not None:
        return
      began = time.perf_counter()
      lead = (self.batch,) if self.batch > 1 else ()
      self._compiled = jax.jit(self.trials).lower(
          data, params, extra, jnp.zeros(lead, jnp.float32),
          jnp.zeros(lead, jnp.int32), jnp.int32(0), jnp.int32(0),
          jnp.array(True)).compile()
      self.compile_seconds = time.perf_counter() - began

  def run(self, data: Any, params: Any, extra: Any, rate: Any, seed: Any,
          evaluations: int | None = None) -> tuple[State, History, float]:
    """Trains; returns final state, history (NumPy) and wall seconds.

    Where trials share the call, each array has a first axis of trials. With
    `evaluations` the run ends after so many, and is the beginning of a whole
    one.
    """
    count = evaluations or self.evaluations
    state, history, seconds = self._call(
        data, params, extra, rate, seed, count, self.train.eval_every, True)
    history = jax.tree.map(lambda a: np.asarray(a)[:count], history)
    if self.batch > 1:
      history = jax.tree.map(lambda a: np.moveaxis(a, 1, 0), history)
    return state, history, seconds

  def time(self, data: Any, params: Any, extra: Any, rate: Any, seed: Any,
           steps: int) -> float:
    """Wall seconds of a call of so many steps of one trial, no evaluation.

    A call costs time of its own; two lengths tell the time of a step.
    """
    assert self.batch == 1, 'the length of a shared call is built in'
    return self._call(data, params, extra, rate, seed, 1, steps, False)[2]

  def call_seconds(self, data: Any, params: Any, extra: Any, rate: Any,
                   seed: Any) -> float:
    """About how long `run` takes, from a few steps."""
    given = data, params, extra, rate, seed
    if self.batch > 1:
      return self.evaluations * self._call(
          *given, 1, self.train.eval_every, True)[2]
    step = marginal(lambda count: self.time(*given, count), PROBE,
                    self.train.steps)
    bare, judged = (min(self._call(*given, 1, 1, measured)[2]
                        for _ in range(2)) for measured in (False, True))
    return self.train.steps * step + self.evaluations * max(
        0.0, judged - bare)

  def _call(self, data: Any, params: Any, extra: Any, rate: Any, seed: Any,
            chunks: int, every: int,
            measured: bool) -> tuple[State, History, float]:
    """Calls the compiled program."""
    self.compile(data, params, extra)
    given = jax.block_until_ready((
        data, params, extra, jnp.asarray(rate, jnp.float32),
        jnp.asarray(seed, jnp.int32), jnp.int32(chunks), jnp.int32(every),
        jnp.array(measured)))
    began = time.perf_counter()
    state, history = jax.block_until_ready(self._compiled(*given))
    return state, history, time.perf_counter() - began
