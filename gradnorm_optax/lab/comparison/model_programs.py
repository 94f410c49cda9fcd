"""One model on its data: a compiled program for each method, and outcomes."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data.dataset import Dataset
from gradnorm_optax.lab.support import packed
from gradnorm_optax.lab.training import (
  make_problem,
  output_check,
  through_time,
)
from gradnorm_optax.lab.training.answers import answers
from gradnorm_optax.lab.training.program import Program


class Outcome(NamedTuple):
  """What one trial gave.

  Attributes:
    history: {figure: values at the evaluations}; shorter if it diverged.
    diverged: Whether a loss was not finite.
    seconds: Wall-clock of its call, divided by the trials that shared it.
    test: Loss and score on the test part, where they were asked for.
    evidence: What that score is computed of, by example, packed; see
      `objective.evidence`.
    profile: {step: log10 norms of the gradient at every step of a sequence}, of
      fresh runs of recurrent models.
    reason: Why it is left out as diverged, if nothing is known of it but that
      it killed the workers of a cluster.
  """

  history: dict[str, list[float]]
  diverged: bool
  seconds: float
  test: dict[str, float] | None
  evidence: str | None = None
  profile: dict[str, list[float | None]] | None = None
  reason: str | None = None


class Bench:
  """A model on its data, with one program for every method."""

  def __init__(self, model: schema.Model, dataset: Dataset,
               train: schema.Train, batch: int):
    """Places the data; `batch` trials share a call where it exceeds 1."""
    self.problem = make_problem.join(model, dataset, train.dtype)
    self.train, self.batch = train, batch
    self._model = model
    self._programs: dict[str, Program] = {}
    devices = jax.devices()
    spread = batch > 1 and batch % len(devices) == 0
    mesh = Mesh(np.array(devices if spread else devices[:1]), ('trial',))
    self._shared = NamedSharding(mesh, PartitionSpec())
    self._split = NamedSharding(mesh, PartitionSpec('trial'))
    self._data = jax.device_put(
        (dataset.train, dataset.validation), self._shared)
    self._test_data = jax.device_put(dataset.test, self._shared)
    self._init: Callable[..., Any] = jax.jit(
        jax.vmap(self.problem.init) if batch > 1 else self.problem.init)
    self._test: Callable[..., Any] = jax.jit(
        jax.vmap(self._judged, (0, 0, None)) if batch > 1 else self._judged)

  @functools.cached_property
  def alone(self) -> 'Bench':
    """The same with one trial in a call, whose steps can be timed."""
    return self if self.batch == 1 else Bench(
        self._model, self.problem.dataset, self.train, 1)

  def program(self, method: schema.Method,
              train: schema.Train | None = None) -> Program:
    """The program of a method; equal tables share one.

    `train` may have another schedule than the model's other programs.
    """
    train = train or self.train
    key = method.alone.model_dump_json() + train.model_dump_json()
    if key not in self._programs:
      self._programs[key] = Program(self.problem, method, train, self.batch)
    return self._programs[key]

  def warm(self) -> None:
    """Compiles initialization and test, so that threads find them ready."""
    params, extra = self._start([0])[:2]
    if self.batch == 1:
      output_check.check(self.problem, self.train, params, extra)
    jax.block_until_ready(self._test(params, extra, self._test_data))

  def compile(self, method: schema.Method,
              train: schema.Train | None = None) -> None:
    """Compiles a method's program."""
    self.program(method, train).compile(self._data, *self._start([0])[:2])

  def _judged(self, params: Any, extra: Any, part: Any) -> dict[str, Any]:
    """Loss and score on a part, and what the score is computed of."""
    return self.problem.evaluate(params, extra, part) | {
        'evidence': answers(self.problem, params, extra, part)}

  def _start(self, seeds: Sequence[int]) -> tuple[Any, Any, Any]:
    """Parameters, variables and seeds of the trials of one call."""
    if self.batch == 1:
      seed = jax.device_put(jnp.int32(seeds[0]), self._shared)
      return (*self._init(seed), seed)
    padded = [*seeds, *[seeds[-1]] * (self.batch - len(seeds))]
    seed = jax.device_put(jnp.array(padded, jnp.int32), self._split)
    return (*self._init(seed), seed)

  def run(self, method: schema.Method, rates: Sequence[float],
          seeds: Sequence[int], test: bool,
          evaluations: int | None = None,
          train: schema.Train | None = None) -> list[Outcome]:
    """Runs the trials of one call; reads the test part if told to.

    With `evaluations` they end after so many; `train` as in `program`.
    """
    params, extra, seed = self._start(seeds)
    rate: Any = jnp.float32(rates[0])
    if self.batch > 1:
      padded = [*rates, *[rates[-1]] * (self.batch - len(rates))]
      rate = jax.device_put(jnp.array(padded, jnp.float32), self._split)
    state, history, seconds = self.program(method, train).run(
        self._data, params, extra, rate, seed, evaluations)
    scores = None
    if test:
      scores = jax.tree.map(np.asarray, self._test(
          state.params, state.extra, self._test_data))
    if self.batch == 1:
      history, scores = jax.tree.map(lambda a: a[None], (history, scores))
    return [_outcome(history, scores, i, seconds / len(rates),
                     self.train.eval_every)
            for i in range(len(rates))]

  def start(self, seed: int) -> tuple[Any, Any]:
    """The parameters and other variables of one seed, of one trial."""
    assert self.batch == 1, 'start `alone`'
    params, extra, _ = self._start([seed])
    return params, extra

  def call_seconds(self, method: schema.Method,
                   train: schema.Train | None = None) -> float:
    """About how long a call takes, from the first steps of a compiled one."""
    params, extra, seed = self._start([0])
    rate: Any = jnp.zeros(seed.shape, jnp.float32)
    if self.batch > 1:
      rate = jax.device_put(rate, self._split)
    return self.program(method, train).call_seconds(
        self._data, params, extra, rate, seed)

  @functools.cached_property
  def _first(self) -> tuple[Any, Any, Any]:
    return self._start([0])

  def time(self, method: schema.Method, rate: float, count: int) -> float:
    """Seconds of a call of so many steps of one trial, no evaluation."""
    params, extra, seed = self._first
    return self.program(method).time(
        self._data, params, extra, rate, seed, count)

  @property
  def per_epoch(self) -> int:
    """How many steps an epoch has."""
    return self.train.per_epoch(len(self.problem.dataset.train.y))


def _outcome(history: Any, scores: Any, index: int, seconds: float,
             every: int) -> Outcome:
  """Cuts one trial out of a call's arrays."""
  figures = {name: np.asarray(values[index], np.float64)
             for name, values in history._asdict().items()
             if values is not None}
  profiles = figures.pop('profile', None)
  finite = np.isfinite(figures['train_loss']) & np.isfinite(figures['loss'])
  diverged = not finite.all()
  count = len(finite) if not diverged else int(finite.argmin())
  short = {name: [float(f'{v:.7g}') for v in values[:count]]
           for name, values in figures.items()}
  test = evidence = None
  if scores is not None:
    found = {name: values[index] for name, values in scores.items()}
    evidence = None if diverged else packed.pack(found.pop('evidence'))
    test = {name: float(found[name]) for name in ('loss', 'score')}
  # Fresh runs are few, and only they are drawn.
  profile = None
  if test is not None and profiles is not None and count:
    profile = through_time.moments(profiles[:count], every)
  return Outcome(short, diverged, seconds, test, evidence, profile)
