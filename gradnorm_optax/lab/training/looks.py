"""What a method does to the gradient of every block, step by step."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data.dataset import Split
from gradnorm_optax.lab.methods import chain, tap
from gradnorm_optax.lab.methods.registry import WRAPPERS, Rate
from gradnorm_optax.lab.methods.schedules import schedule
from gradnorm_optax.lab.results import alerts, block_flags
from gradnorm_optax.lab.results.look import Look
from gradnorm_optax.lab.training import (
  block_norms,
  noise,
  step_gradient,
  steps,
)
from gradnorm_optax.lab.training.problem import Problem
from gradnorm_optax.lab.training.watcher import Watcher

SMALL = 200_000  # parameters


class Reading(NamedTuple):
  """What one step shows, as the fields of `Look`; `size` of the parameters."""

  loss: Any
  gradient: Any
  after: Any
  update: Any
  size: Any
  parts: dict[str, Any]
  before: Any
  reached: Any
  noise: Any


class Observer:
  """Takes the steps of a method, and reads what the gradient goes through.

  Attributes:
    built: The method, its chain with a tap before the moments.
    scaled: Whether it gives blocks scales of their own.
  """

  def __init__(self, problem: Problem, train: schema.Train,
               method: schema.Method, rate: Rate, *,
               max_skips: int | None = None,
               settle: Callable[[Any, Any], Any] = lambda new, old: new,
               watch: schema.Watch | None = None, noisy: bool = False):
    """Builds the chain.

    Args:
      problem: What is trained.
      train: How.
      method: The method.
      rate: A number, a traced scalar or a schedule.
      max_skips: As in `chain.build`.
      settle: `settle(new state, old state)` is the state to go on from.
      watch: How blocks are watched between the looks; None: not at all.
      noisy: Whether a look also takes the parts of the noise scale, by another
        gradient, which costs more to compile than to compute.
    """
    self.problem, self.train, self._settle = problem, train, settle
    self._noisy = noisy
    self.watcher = None if watch is None else Watcher(
        problem, watch, update=False)
    # Under `wrap` it is by direction and length that gradients are clipped.
    self.clip = method.clip if method.wrap is None else None
    self.scaled = block_flags.scales(method.normalize, method.optimizer)
    self.built = chain.build(
        method, rate, problem.context, max_skips, tapped=True)
    self._trees = WRAPPERS[method.wrap].trees if method.wrap else {}

  def resumed(self, state: steps.State) -> steps.State:
    """The same state, of a chain that is not tapped, for this one."""
    return state._replace(opt_state=tap.filled(
        self.built.tx.init(state.params), state.opt_state))

  def step(self, examples: Split, seed: jax.Array | int, state: steps.State
           ) -> tuple[steps.State, Callable[[], Reading], steps.Figures]:
    """Takes a step; what is returned with it reads the step."""
    new, figures, gradient = steps.open_step(
        self.problem, self.built, self.train, examples, seed, state,
        watcher=self.watcher)
    new = self._settle(new, state)

    def read() -> Reading:
      raw = self._raw(examples, state, figures.rows, gradient)
      before = self.built.unwrap(state.params)
      moved = optax.tree.sub(self.built.unwrap(new.params), before)
      kept = tap.read(new.opt_state)
      trees = {name: kept[key] for name, key in self._trees.items()} or {
          '': kept}
      held = {name: _held(tree, before) for name, tree in trees.items()}
      norms = {name: self._norms(jax.tree.map(
          lambda p, leaf: jnp.zeros_like(p) if leaf is None else leaf,
          before, tree)) for name, tree in held.items()}
      return Reading(
          figures.loss, self._norms(raw),
          _together(list(norms.values())), self._norms(moved),
          self._norms(before), {n: v for n, v in norms.items() if n},
          block_norms.sizes(self.problem, before, [raw]),
          block_norms.sizes(self.problem, before, list(held.values())),
          self._noise(examples, state, figures.rows))

    return new, read, figures

  def _raw(self, examples: Split, state: steps.State, rows: jax.Array,
           gradient: Any) -> Any:
    """The gradient that the optimizer alone would be given in this step."""
    sampling = self.built.sampling
    if self.built.pascanu is None and (
        sampling is None or sampling.rule == 'random'):
      return gradient
    if sampling is not None:
      rows = rows[:sampling.taken(len(rows))]
    batch = jax.tree.map(lambda a: a[rows], examples)
    plain = self.built._replace(sampling=None, pascanu=None)
    return step_gradient.take(
        self.problem, plain, self.built.unwrap(state.params), state.extra,
        batch, 1, jax.random.key(0))[2]

  def _noise(self, examples: Split, state: steps.State,
             rows: jax.Array) -> jax.Array:
    """What the noise scale of the step's batch is made of; NaN if not asked."""
    if not self._noisy:
      return jnp.full(2, jnp.nan, jnp.float32)
    return noise.measure(
        self.problem, self.built.unwrap(state.params), state.extra,
        jax.tree.map(lambda a: a[rows], examples))

  def _norms(self, tree: Any) -> jax.Array:
    return block_norms.row(self.problem, tree)

  def over(self, examples: Split, seed: jax.Array | int, state: steps.State,
           marks: jax.Array) -> tuple[steps.State, Reading, jax.Array]:
    """Takes steps and reads some of them.

    Args:
      examples: The training part.
      seed: Of their order.
      state: Where to begin.
      marks: The numbers of the steps to read, from 1, in ascending order.

    Returns:
      The state after the last of them, the readings, stacked, and how many
      gradients were clipped on the way.
    """
    blank = jax.tree.map(
        lambda a: jnp.zeros((len(marks), *a.shape), a.dtype), jax.eval_shape(
            lambda s: self.step(examples, seed, s)[1](), state))

    def one(carry: tuple[Any, ...]) -> tuple[Any, ...]:
      at, state, kept, clipped = carry
      new, read, figures = self.step(examples, seed, state)
      if self.clip is not None:
        clipped += (figures.gradient > self.clip).astype(jnp.int32)
      # Sorting and norms are paid for in the marked steps alone.
      due = new.step == marks[at]
      kept = lax.cond(
          due, lambda: jax.tree.map(
              lambda to, value: to.at[at].set(value), kept, read()),
          lambda: kept)
      return at + due, new, kept, clipped

    _, state, kept, clipped = lax.while_loop(
        lambda carry: carry[0] < len(marks), one,
        (jnp.int32(0), state, blank, jnp.int32(0)))
    return state, kept, clipped


def look(observer: Observer, model: str, key: str, state: steps.State,
         seed: int, marks: Sequence[int]) -> Look:
  """Trains, and looks at some of the steps.

  Args:
    observer: The method on the model.
    model, key: Their names.
    state: Where to begin.
    seed: Of the order of the examples.
    marks: The numbers of the steps to look at, from 1, in ascending order.
  """
  examples = jax.device_put(observer.problem.dataset.train)
  given = (examples, jnp.int32(seed), state, jnp.array(marks, jnp.int32))
  count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
  # Of a small model the compiler takes longer than the one run.
  options: Any = {'xla_backend_optimization_level': 0} if count < SMALL else {}
  compiled = jax.jit(observer.over).lower(*given).compile(
      compiler_options=options)
  end, found, clipped = compiled(*given)
  shown = made(observer, model, key, list(marks), found)
  if observer.clip is not None:
    shown = dataclasses.replace(
        shown, clipped=float(clipped) / int(end.step - state.step))
  if observer.watcher is None:
    return shown
  left = alerts.find(observer.watcher.record(end.watched), observer.scaled)
  return dataclasses.replace(shown, flags=alerts.joined(shown.flags, left))


def fresh(problem: Problem, train: schema.Train, model: str, key: str,
          method: schema.Method, *, rate: float, seed: int,
          marks: Sequence[int], start: Any = None,
          watch: schema.Watch | None = None) -> Look:
  """Looks at a method from its first step on.

  Args:
    problem: The model with its data.
    train: How it is trained.
    model, key: The names of model and method.
    method: The method.
    rate: Its learning rate.
    seed: Of the order of the examples, and of the start.
    marks: The steps to look at.
    start: Parameters and other variables; drawn from the seed if None.
    watch: How blocks are watched between the steps; None: not at all.
  """
  with chain.refusing(method, problem.context, problem.init,
                      f'[methods.{key}] on [models.{model}]'):
    params, extra = start or jax.jit(problem.init)(seed)
    observer = Observer(
        problem, train, method, schedule(train, rate), watch=watch)
    state = steps.start(problem, observer.built, params, extra)
    if observer.watcher is not None:
      state = state._replace(watched=observer.watcher.start(params))
    return look(observer, model, key, state, seed, marks)


def made(observer: Observer, model: str, key: str, marks: list[int],
         readings: Reading) -> Look:
  """The look of stacked readings."""
  found: Any = jax.tree.map(lambda a: np.asarray(a, np.float64), readings)
  named = block_norms.names(
      observer.problem, jax.eval_shape(observer.problem.init, 0)[0])
  with np.errstate(all='ignore'):
    ratio = np.where(found.size > 0, found.update / np.where(
        found.size > 0, found.size, 1), np.nan)
  return Look(
      model, key, marks, named, found.loss, found.gradient, found.after,
      found.update, ratio, found.parts, found.before, found.reached,
      block_flags.flags(named, marks, found.loss, found.gradient, found.after,
                        ratio, found.size, observer.scaled), found.noise)


def _held(tree: Any, params: Any) -> Any:
  """A wrapper's tree with None where a parameter has no part in it.

  There it keeps an array of one entry.
  """
  return jax.tree.map(
      lambda p, leaf: leaf if jnp.ndim(leaf) == jnp.ndim(p) and (
          jnp.size(leaf) > 1 or jnp.size(p) == 1 or jnp.ndim(p) > 1) else None,
      params, tree)


def _together(parts: Sequence[jax.Array]) -> jax.Array:
  """The norm of blocks that come in parts."""
  if len(parts) == 1:
    return parts[0]
  top = jnp.stack(parts).max(0)
  over = jnp.where((top > 0) & jnp.isfinite(top), top, 1)
  return over * jnp.sqrt(sum(jnp.square(part / over) for part in parts))
