"""The compiled pieces of one run."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import sources
from gradnorm_optax.lab.methods import chain, example_choice
from gradnorm_optax.lab.methods.schedules import schedule
from gradnorm_optax.lab.results.look import Look, instants
from gradnorm_optax.lab.support import json_safe
from gradnorm_optax.lab.support.errors import LabError, nearest
from gradnorm_optax.lab.support.json_safe import finite
from gradnorm_optax.lab.training import (
  layout,
  looks,
  make_problem,
  output_check,
  steps,
  stream,
  through_time,
)
from gradnorm_optax.lab.training.watcher import Watcher, restored


class Trainer:
  """The compiled pieces of one run."""

  def __init__(self, config: schema.Config):
    """Builds model and optimizer as `[run]` names them."""
    run, self.train = config.run, config.train
    model = named(config.models, run.model, 'run.model')
    name = named(config.methods, run.method, 'run.method')
    self.method = method = config.methods[name]
    self.names = model, name
    self.dataset = sources.load(config.data, config.train)
    self.problem = make_problem.join(
        config.models[model], self.dataset, config.train.dtype)
    self.rate = schedule(config.train, run.learning_rate)
    self.skips = run.non_finite == 'skip'
    self.max_skips = run.max_skips if self.skips else None
    self.refusing = lambda: chain.refusing(
        method, self.problem.context, self.problem.init,
        f'[methods.{name}] on [models.{model}]')
    with self.refusing():
      self.built = chain.build(
          method, self.rate, self.problem.context, self.max_skips)
    self.seed = run.seed
    self.watcher = Watcher(
        self.problem, run.watch) if run.watch.every else None
    self.timed = through_time.has_time(self.problem)
    self.layout = layout.make(
        run.mesh, run.sharding, self.problem.context.stacked,
        steps.at_once(self.train, len(self.dataset.train.y)))
    with self.refusing():
      self.shardings = self._shardings()
    # A text in a mapped file is read stretch by stretch.
    self.stream = stream.Stream(
        self.dataset.train, self.train, self.seed, self.layout) if (
            self.dataset.train.mapped) else None
    self.parts = (
        None if self.stream else self.layout.put(self.dataset.train, rows=True),
        *self.layout.put(self.dataset[1:3]))
    self.evaluate = self.layout.jit(self.problem.evaluate)
    self._stretch: Any = self.layout.jit(
        self.stretch, (self.shardings and self.shardings._replace(
            watched=self.layout.cut()), self.layout.cut()))
    every = self.train.eval_every
    # What follows the start and some evaluations, close together at first.
    self._marks = {0, *(every * count for count in instants(
        self.train.steps // every, run.look))} if run.look else set()
    self._observer = self.observer()
    self._reading = self.layout.jit(
        lambda state, examples: self._observer.step(
            _of_step(examples, state, self.train), self.seed,
            self._observer.resumed(state))[1]())
    self._profile = self.layout.jit(
        lambda params, part: through_time.profile(self.problem, params, part))

  def compile(self, state: steps.State) -> None:
    """Compiles a chunk, so that the first one is timed like the others."""
    with self.refusing():
      self._stretch = self._stretch.lower(
          state, self.examples(state)).compile()

  def chunk(self, state: steps.State) -> tuple[steps.State, steps.Figures]:
    """Takes `eval_every` steps, compiled; their figures are stacked."""
    return self._stretch(state, self.examples(state))

  def examples(self, state: steps.State) -> Any:
    """What the next stretch of steps is taken on: all examples, or its own."""
    return self.stream.stretch(int(state.step)) if self.stream else (
        self.parts[0])

  def one(self, state: steps.State,
          examples: Any) -> tuple[steps.State, steps.Figures]:
    """Takes one step on the training part, or on its batch of a stretch."""
    new, figures = steps.step(
        self.problem, self.built, self.train,
        _of_step(examples, state, self.train), jnp.int32(self.seed), state,
        watcher=self.watcher if state.watched else None)
    if self.skips:
      figures = figures._replace(skipped=optax.tree.get(
          new.opt_state, 'notfinite_count'))
    return self._settled(new, state), figures

  def _settled(self, new: steps.State, state: steps.State) -> steps.State:
    """Leaves out the batch statistics of a gradient that was left out."""
    if not self.skips:
      return new
    taken = _skipped(new) == _skipped(state)
    return new._replace(extra=jax.tree.map(
        lambda a, b: jnp.where(taken, a, b), new.extra, state.extra))

  def observer(self) -> looks.Observer:
    """What looks at the steps that this run takes."""
    return looks.Observer(
        self.problem, self.train, self.method, self.rate,
        max_skips=self.max_skips, settle=self._settled, noisy=True)

  def look(self, state: steps.State) -> Look | None:
    """Looks at the next step, without taking it, where one is due."""
    observer = self._observer
    if int(state.step) not in self._marks:
      return None
    found = self._reading(state, self.examples(state))
    return looks.made(observer, *self.names, [int(state.step) + 1],
                      jax.tree.map(lambda a: np.asarray(a)[None], found))

  def stretch(self, state: steps.State,
              examples: Any) -> tuple[steps.State, steps.Figures]:
    """Takes `eval_every` steps."""
    return lax.scan(lambda state, _: self.one(state, examples), state,
                    length=self.train.eval_every)

  def start(self) -> steps.State:
    """The state before the first step."""
    with self.refusing():
      state = self.layout.jit(self._begin, self.shardings)(self.seed)
    output_check.check(
        self.problem, self.train, self.built.unwrap(state.params), state.extra,
        self.layout.jit)
    self.watching(state, None)  # a glob without a block is found before a run
    return state

  def watching(self, state: steps.State,
               last: dict[str, Any] | None) -> steps.State:
    """The state with its watcher's, from `last`, the row of its step, if any.

    Checkpoints do without: what a watcher has seen is small, and each row of
    its file holds all of it.
    """
    if self.watcher is None:
      return state
    step, watcher = int(state.step), self.watcher

    def begin(params: Any) -> Any:
      watched = watcher.start(params, step)
      return watched if last is None else restored(watched, last, step)

    return state._replace(watched=self.layout.jit(begin)(
        self.built.unwrap(state.params)))

  def watched(self, state: steps.State) -> dict[str, Any] | None:
    """What the watcher has seen, as it is recorded; None without one."""
    return self.watcher.record(state.watched) if self.watcher else None

  def shapes(self) -> Any:
    """The state before the first step as shapes, where it would lie."""
    with self.refusing():
      state = jax.eval_shape(self._begin, self.seed)
    return state if self.shardings is None else jax.tree.map(
        lambda leaf, lies: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=lies), state, self.shardings)

  def _begin(self, seed: int) -> steps.State:
    return steps.start(self.problem, self.built, *self.problem.init(seed))

  def _shardings(self) -> Any:
    """Where the arrays of the state lie; None on one device."""
    if self.layout.mesh is None:
      return None
    with self.refusing():
      return self.layout.shardings(
          jax.eval_shape(self._begin, self.seed),
          jax.eval_shape(self.problem.init, self.seed)[0])

  def row(self, state: steps.State, figures: steps.Figures,
          seconds: float) -> dict[str, Any]:
    """The figures of a chunk."""
    score = self.evaluate(self.judged(state), state.extra, self.parts[1])
    step = int(state.step)
    rate = self.rate(step - 1) if callable(self.rate) else self.rate
    row = {'step': step, 'loss': finite(_mean(figures.loss)),
           'validation_loss': finite(score['loss']),
           'validation_score': finite(score['score']),
           'gradient_norm': finite(_mean(figures.gradient)),
           'learning_rate': float(rate),
           'seconds_per_step': round(seconds / self.train.eval_every, 6)}
    if self.skips:
      row['skipped'] = int(_skipped(state))
    if self.method.clip is not None and self.method.wrap is None:
      # Under `wrap` it is by direction and length that gradients are clipped.
      row['clipped'] = float(np.mean(_finite(
          figures.gradient) > self.method.clip))
    if figures.choice is not None:
      row['acted'] = float(example_choice.acted(figures.choice).mean())
    return row

  def judged(self, state: steps.State) -> Any:
    """The parameters that are evaluated and kept."""
    return self.built.evaluated(state.params, state.opt_state)

  def profile(self, state: steps.State) -> list[float | None] | None:
    """The gradient's log10 norm at every step of a sequence, if it is one."""
    if not self.timed:
      return None
    return json_safe.numbers(self._profile(
        self.built.unwrap(state.params), self.parts[1]))


def _of_step(examples: Any, state: steps.State, train: schema.Train) -> Any:
  """The batch of the next step, of those of a stretch; or all examples."""
  if not isinstance(examples, steps.Batch):
    return examples
  return jax.tree.map(lambda a: a[state.step % train.eval_every], examples)


def _mean(values: Any) -> float:
  """The mean over the steps that were not left out; NaN if all were."""
  known = np.asarray(values)[np.isfinite(values)]
  return float(known.mean()) if len(known) else math.nan


def _finite(values: Any) -> np.ndarray:
  """The values, 0 where a step was left out."""
  return np.where(np.isfinite(values), np.asarray(values), 0.0)


def _skipped(state: steps.State) -> Any:
  """How many gradients were not finite and left out."""
  return optax.tree.get(state.opt_state, 'total_notfinite')


def named(tables: dict[str, Any], name: str | None, key: str) -> str:
  """The named table, or the first."""
  if name is None:
    return next(iter(tables))
  if name not in tables:
    raise LabError(f'{key}: unknown name {name!r}{nearest(name, tables)}')
  return name
