"""Runs the trials of a comparison, each once.

First every method's learning rate is chosen on the tuning seeds, by validation
score; then fresh seeds, the same for all methods, are run at the chosen
rate, and only these read the test part.
"""

import concurrent.futures
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.comparison import (
  bench as bench_lib,
  placement,
)
from gradnorm_optax.lab.data import sources
from gradnorm_optax.lab.methods import chain
from gradnorm_optax.lab.results import store as store_lib
from gradnorm_optax.lab.results.looks import Look
from gradnorm_optax.lab.results.records import Profiles, Run
from gradnorm_optax.lab.support import provenance, user_code
from gradnorm_optax.lab.training import first_batches

# Fresh seeds never coincide with tuning seeds, whatever the configuration.
FRESH = 1000


class Call(NamedTuple):
  """The trials of one call of a compiled program."""

  phase: str
  model: str
  method: str
  rates: tuple[float, ...]
  seeds: tuple[int, ...]


class Runner:
  """Runs the missing trials of a comparison and keeps every result."""

  def __init__(self, config: schema.Config):
    """Loads the data and builds the models; writes nothing."""
    self.config = config
    self.dataset = sources.load(config.data, config.train)
    self.digest = provenance.data_digest(self.dataset[:3])
    per_method = (len(config.compare.learning_rates)
                  * config.compare.tune_seeds)
    self.workers, self.batch = placement.placement(config.compare, per_method)
    self.benches = {
        name: bench_lib.Bench(model, self.dataset, config.train, self.batch)
        for name, model in config.models.items()}
    # The user's code behind every row, whatever is edited or imported later.
    self.own = {pair: user_code.digests(config.user_functions(*pair))
                for pair in self._pairs()}

  def use(self, store: store_lib.Store,
          tick: Callable[[str, int], None]) -> None:
    """Takes a folder; `tick(what, finished trials)` reports progress."""
    self.store, self.tick = store, tick

  def rates(self, method: str) -> tuple[float, ...]:
    """The grid that a method searches."""
    own = self.config.methods[method].learning_rates
    return own or self.config.compare.learning_rates

  def key(self, phase: str, model: str, method: str, rate: float,
          seed: int) -> str:
    """The fingerprint of a trial."""
    table = self.config.methods[method].alone.model_dump()
    shape = self.config.models[model].model_dump()
    return store_lib.fingerprint(
        phase=phase, data=self.digest, own=self.own[model, method],
        model=shape, method=table, train=self.config.train.model_dump(),
        rate=rate, seed=seed, versions=provenance.versions(),
        code=provenance.source_digest())

  def records(self, phase: str, model: str, method: str,
              rate: float) -> list[dict[str, Any] | None]:
    """The records of all seeds of a phase; None where one is missing."""
    return [self.store.records.get(self.key(phase, model, method, rate, seed))
            for seed in self.seeds(phase)]

  def seeds(self, phase: str) -> range:
    """The seeds of a phase."""
    compare = self.config.compare
    if phase == 'tune':
      return range(compare.tune_seeds)
    return range(FRESH, FRESH + compare.seeds)

  def chosen(self, model: str, method: str) -> float:
    """The rate with the best mean validation score on tuning seeds."""
    def merit(rate: float) -> tuple[float, float]:
      runs = [Run.of(record, worst=self.dataset.objective.worst)
              for record in self.records('tune', model, method, rate)
              if record is not None]
      return (sum(run.score for run in runs),
              -sum(run.final_loss for run in runs))
    return max(self.rates(method), key=merit)

  def acted(self, model: str, method: str) -> float | None:
    """The share of the fresh runs' steps in which sampling acted."""
    shares = [share for record in self.records(
        'final', model, method, self.chosen(model, method)) if record
              for share in record['history'].get('acted', ())]
    return float(np.mean(shares)) if shares else None

  def calls(self, phase: str) -> Iterator[Call]:
    """The calls that a phase still needs, the slowest models first."""
    asked: set[str] = set()
    for model in reversed(list(self.config.models)):
      for method in self.config.methods_on(model):
        rates = (self.rates(method) if phase == 'tune'
                 else (self.chosen(model, method),))
        todo = []
        for rate, seed in itertools.product(rates, self.seeds(phase)):
          key = self.key(phase, model, method, rate, seed)
          if key not in self.store.records and key not in asked:
            asked.add(key)  # of equal methods one is run
            todo.append((rate, seed))
        for at in range(0, len(todo), self.batch):
          some_rates, some_seeds = zip(*todo[at:at + self.batch], strict=True)
          yield Call(phase, model, method, some_rates, some_seeds)

  def run(self) -> None:
    """Runs both phases, then looks at the first batches of every method."""
    for phase in ('tune', 'final'):
      self.finish(phase)
    if self.config.compare.look:
      self.tick('looking at the norms of the blocks', 0)
      self._each(self._look, [
          pair for pair in self._pairs()
          if self._look_key(*pair) not in self.store.records])

  def finish(self, phase: str) -> None:
    """Runs what a phase still needs."""
    calls = list(self.calls(phase))
    self.tick(phase, self._wanted(phase) - sum(
        len(call.seeds) for call in calls))
    self._compile(calls)
    self._each(self._call, calls)

  def _wanted(self, phase: str) -> int:
    """How many trials a phase has, finished or not."""
    rates = sum(len(self.rates(name)) if phase == 'tune' else 1
                for model in self.config.models
                for name in self.config.methods_on(model))
    return rates * len(self.seeds(phase))

  def _compile(self, calls: list[Call]) -> None:
    """Compiles what the calls need, all cores at once."""
    models = dict.fromkeys(call.model for call in calls)
    pairs = dict.fromkeys((call.model, call.method) for call in calls)
    self.tick(f'compiling {len(pairs)} programs', 0)
    self._each(lambda name: self.benches[name].warm(), models)
    self._each(self._compile_one, pairs)

  def _compile_one(self, pair: tuple[str, str]) -> None:
    """Compiles one program; a method that refuses the model says so."""
    model, name = pair
    method, bench = self.config.methods[name], self.benches[model]
    with chain.refusing(
        method, bench.problem.context, bench.problem.init,
        f'[methods.{name}] on [models.{model}]'):
      bench.compile(method)

  def _each(self, work: Callable[[Any], None], items: Any) -> None:
    """Does the work on every item in the worker threads."""
    pool = concurrent.futures.ThreadPoolExecutor(self.workers)
    try:
      for done in concurrent.futures.as_completed(
          [pool.submit(work, item) for item in items]):
        done.result()
    finally:
      pool.shutdown(cancel_futures=True)

  def _call(self, call: Call) -> None:
    """Runs one call and keeps its trials."""
    outcomes = self.benches[call.model].run(
        self.config.methods[call.method], call.rates, call.seeds,
        test=call.phase == 'final')
    for rate, seed, outcome in zip(
        call.rates, call.seeds, outcomes, strict=True):
      self.store.add({
          'fingerprint': self.key(
              call.phase, call.model, call.method, rate, seed),
          'phase': call.phase, 'model': call.model, 'method': call.method,
          'rate': rate, 'seed': seed, **outcome._asdict()})
      self.tick(f'{call.model} {call.method}', 1)

  def _pairs(self) -> list[tuple[str, str]]:
    """All models with their methods."""
    return [(model, method) for model in self.config.models
            for method in self.config.methods_on(model)]

  def _look_key(self, model: str, method: str) -> str:
    return self.key(f'look {self.config.compare.look}', model, method,
                    self.chosen(model, method), FRESH)

  def _look(self, pair: tuple[str, str]) -> None:
    """Keeps the norms of one method's first batches."""
    model, method = pair
    found = first_batches.look(
        self.benches[model].problem, self.config.train, model, method,
        self.config.methods[method], rate=self.chosen(model, method),
        seed=FRESH, batches=self.config.compare.look)
    self.store.add({'fingerprint': self._look_key(model, method),
                    'phase': 'look', **found.record()})

  def looks(self) -> tuple[Look, ...]:
    """The norms of every method's first batches, at its chosen rate."""
    found = (self.store.records.get(self._look_key(*pair))
             for pair in self._pairs())
    return tuple(Look.of(record) for record in found if record)

  def profiles(self) -> Profiles:
    """The gradient through time of the first fresh run of every method."""
    found: Profiles = {}
    for model, method in self._pairs():
      record = self.records(
          'final', model, method, self.chosen(model, method))[0]
      if record and record.get('profile'):
        found.setdefault(model, {})[method] = {
            int(step): norms for step, norms in record['profile'].items()}
    return found
